//! The orchestrator against a store, a backend and a forge that fail: crashes at every await, and seeded simulation.

mod crash;
mod gate;
mod invariant;
mod simulation;
mod support;
mod world;
