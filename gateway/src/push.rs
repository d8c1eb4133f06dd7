//! What a push may bring.

use serde::Deserialize;

/// `[push]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Paths that a box may not change.
    pub protected: Vec<String>,
    /// Whether it may all the same.
    pub allow_protected: bool,
}
