//! Traces written, read, played and compared.

#![expect(clippy::unwrap_used, reason = "tests and their helpers fail by panicking")]

mod compare;
mod read;
mod sample;
