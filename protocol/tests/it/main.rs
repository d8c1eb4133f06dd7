//! The typed client against a small server that misbehaves on purpose, and what boxes and servers say to each other.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod contract;
mod fake;
