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

mod cgroup;
pub mod confine;
mod cover;
pub mod disk;
mod enforced;
mod etc;
pub mod init;
mod layer;
pub mod layout;
mod line;
mod lock;
mod monitor;
pub mod notice;
pub mod plan;
pub mod probe;
mod root;
pub mod run;
mod seccomp;
mod sys;
mod toolchain;
pub mod tools;
mod watch;
mod watchdog;

pub use enforced::{CgroupKind, Enforced};
pub use notice::{Limit, Notice};
pub use plan::{Bind, Plan};
pub use run::{BoxError, Ran, Upper, run_box, run_command};
