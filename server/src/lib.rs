//! The people's side of the control plane: configuration, HTTP API, wiring, start and stop.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | `bgagent.toml`, the environment over it, the defaults beneath it |
//! | [`paths`] | where things are kept |
//! | [`identity`] | who calls: the owner's key, API keys, and the seam for other ways |
//! | [`feed`] | one reader of the store for all who watch a task |
//! | [`listen`] | the people's port, with bounds on the head of a request |
//! | [`log`] | log lines without secrets |
//! | [`mod@objects`] | the place of objects, as it is configured |
//! | [`mod@metrics`] | every metric, with what it means |
//! | [`api`] | `/v1`: thin handlers over the orchestrator and the store |
//! | [`audit`] | who did what, on its way to the store |
//! | [`rate`] | how many requests one caller may make |
//! | [`webhook`] | secrets and signatures of webhook deliveries |
//! | [`cursor`] | signed page tokens |
//! | [`mod@egress`] | from the configuration to the proxy of boxes |
//! | [`outfit`] | what boxes get of this site: registries, certificates |
//! | [`mod@warm`] | filling a repository's dependency cache |
//! | [`registry`] | the registries of the tools of this machine |
//! | [`serve`](mod@serve) | puts it all together, runs it, stops it |

pub mod api;
pub mod audit;
pub mod backup;
pub mod boxes;
pub mod config;
pub mod cursor;
pub mod egress;
pub mod feed;
pub mod identity;
pub mod link;
pub mod listen;
pub mod log;
pub mod login;
pub mod metrics;
pub mod objects;
pub mod outfit;
pub mod paths;
pub mod peer;
pub mod rate;
pub mod registry;
pub mod serve;
pub mod warm;
pub mod webhook;

pub use config::Config;
pub use serve::{Listening, ServeError, ServeOptions, Starter, serve};
