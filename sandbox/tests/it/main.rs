//! The box, from outside and from inside, as root and as an ordinary user.

#![expect(clippy::unwrap_used, reason = "helpers of tests are test code, too")]

mod confine;
mod covers;
mod fixture;
mod layers;
mod limits;
mod probe;
mod tools;
mod walls;
