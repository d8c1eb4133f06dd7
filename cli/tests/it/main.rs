//! The binary as a person meets it, and the whole product through it.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod access;
mod admin;
mod api_tester;
mod attachment;
mod background;
mod bad_input;
mod container;
mod crash;
mod escape;
mod identity;
mod in_box;
mod masking;
mod objects;
mod ordinary;
mod person;
mod projects;
mod providers;
mod registry;
mod sandboxed;
mod schema;
mod scratch;
mod secrets;
mod session;
mod steer;
mod telemetry;
mod trace;
mod upgrade;
mod upstream;
mod usage;
mod whole;
mod worker_kill;

/// The program under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_bgagent");
