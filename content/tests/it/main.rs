//! Files of every kind, sound and hostile, all built here; what is said of each; and what the child does with them.

#![expect(clippy::unwrap_used, reason = "builders of test files: a failure is the test's")]

mod image;
mod isolated;
mod made;
mod mutation;
mod pdf;
mod text;
