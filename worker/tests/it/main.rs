//! Tests of the worker through its public doors.

#![expect(clippy::unwrap_used, reason = "helpers of tests are test code, too")]

mod attachment;
mod gateway;
mod harness;
mod launch;
mod pipeline;
mod race;
mod tools;
