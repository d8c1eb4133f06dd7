//! What tests of several crates share: doubles of the seams, repositories to work on, a seeded generator, and a whole
//! platform as processes of this machine.
//!
//! | module | holds |
//! |---|---|
//! | [`rng`] | a generator that gives the same numbers for the same seed |
//! | [`repo`] | git repositories in temporary folders |
//! | [`forge`](mod@forge) | a code host in memory that records what it was told, and fails as told |
//! | [`moto`] | an S3 service |
//! | [`oidc`] | identity providers, and somebody who signs in at them |
//! | [`otlp`] | a collector of spans |
//! | [`peers`] | programs nobody here wrote, where they are installed |
//! | [`poll`] | waiting for something with a deadline |
//! | [`platform`] | `bgagent serve` in its own folders: start, kill, start again, look for what is left |
//!
//! Compute has its double in `compute::fake`, the store in `store::memory`.

pub mod forge;
pub mod moto;
pub mod oidc;
pub mod otlp;
pub mod peers;
pub mod platform;
pub mod poll;
pub mod port;
pub mod repo;
pub mod rng;

pub use forge::FakeForge;
pub use platform::Platform;
pub use repo::TempRepo;
pub use rng::Rng;
