//! The box on Linux: namespaces, mounts, Landlock, seccomp, limits, and the two layers in it.
//!
//! ```text
//! M  monitor   this user, outside: builds the box, holds the limits, ends it; the box dies with it
//! ├─ W worker  pid 1 of its own namespaces, no network: sees the gateway's socket and the work tree; holds the token
//! └─ T tools   pid 1 of its own namespaces, loopback only: starts the agent's commands; holds nothing
//! ```
//!
//! W and T are siblings: neither sees the other's processes, memory, files or descriptors. All they share is the work
//! tree and one socket pair, over which W asks T to start a command ([`tools`], [`init`]).

pub mod plan;
pub mod probe;
pub mod run;
pub mod tools;

pub use plan::{Bind, Plan};
pub use run::{BoxError, Upper, run_box};
