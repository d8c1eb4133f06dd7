//! The orchestrator against a store, a backend and a forge that fail: crashes at every await, and seeded simulation.

#![expect(clippy::unwrap_used, reason = "tests and their helpers fail by panicking")]

mod crash;
mod gate;
mod invariant;
mod lost;
mod simulation;
mod support;
mod world;
