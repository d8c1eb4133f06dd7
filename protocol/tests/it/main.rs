//! The typed client against a small server that misbehaves on purpose.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod fake;
