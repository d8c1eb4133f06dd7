//! The typed client against a small server that misbehaves on purpose.

mod client;
mod fake;
