//! Every backend against the conformance suite, and the local one against real process trees.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod container;
mod engine;
mod fake;
mod local;
mod survival;
mod toy;
