//! The people's side of the control plane: configuration, HTTP API, wiring, start and stop.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | `bgagent.toml`, the environment over it, the defaults beneath it |
//! | [`paths`] | where things are kept |
//! | [`identity`] | who calls: the owner key of local mode |
//! | [`log`] | log lines without secrets |
//! | [`api`] | `/v1`: thin handlers over the orchestrator and the store |
//! | [`cursor`] | signed page tokens |
//! | [`mod@egress`] | from the configuration to the proxy of boxes |
//! | [`outfit`] | what boxes get of this site: registries, certificates |
//! | [`mod@warm`] | filling a repository's dependency cache |
//! | [`registry`] | the registries of the tools of this machine |
//! | [`serve`](mod@serve) | puts it all together, runs it, stops it |

pub mod api;
pub mod boxes;
pub mod config;
pub mod cursor;
pub mod egress;
pub mod identity;
pub mod link;
pub mod log;
pub mod outfit;
pub mod paths;
pub mod registry;
pub mod serve;
pub mod warm;

pub use config::Config;
pub use serve::{Listening, ServeError, ServeOptions, Starter, serve};
