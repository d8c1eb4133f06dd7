//! The binary as a person meets it.

mod usage;
