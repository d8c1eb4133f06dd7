//! Tests of masking through its public door.

#![expect(clippy::unwrap_used, reason = "tests")]

mod corpus;
mod property;
mod sample;
mod shapes;
mod speed;
