//! Everything that crosses a process boundary: the people's REST API, the box API, and the typed REST client.
//!
//! Shapes only, and the bounds that can be told from a shape alone. What a request means is `orchestrator`'s.

pub mod access;
pub mod admin;
pub mod box_api;
pub mod client;
pub mod rest;
pub mod steer;
pub mod trace;
pub mod usage;
