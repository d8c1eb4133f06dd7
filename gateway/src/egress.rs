//! The way to the network: what boxes may reach.

pub mod site;

use serde::Deserialize;

/// `[egress]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Whether what is not allowed is refused.
    pub mode: Mode,
    /// Hosts, and groups by tool.
    pub allow: Vec<String>,
}

/// What becomes of a request that no rule allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is refused.
    Enforce,
    /// It is let through, if its address is public, and told.
    Observe,
}
