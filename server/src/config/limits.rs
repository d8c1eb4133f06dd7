//! `[limits]`, and what of it a repository can have for itself.

use domain::limit;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// `[limits]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "described in defaults.toml")]
pub struct Limits {
    pub per_user: u32,
    pub per_repo: u32,
    pub system: u32,
    pub supervise_interval_s: f64,
    pub heartbeat_interval_s: u64,
    pub heartbeat_stale_s: u64,
    pub attach_deadline_s: u64,
    pub hydration_deadline_s: u64,
    pub lifetime_s: u64,
    pub tool_output_bytes: usize,
    pub finalize_deadline_s: u64,
    pub verify_timeout_s: u64,
    pub attempts_max: u32,
    pub lost_backoff_s: u64,
    pub save_interval_s: u64,
    pub lease_s: u64,
}

/// What of `[limits]` a repository can have for itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepoLimits {
    /// Attempts at one task when its box is lost.
    pub attempts_max: u32,
    /// Seconds of a whole task.
    pub lifetime_s: u64,
    /// Bytes of one tool's output that the model is shown.
    pub tool_output_bytes: usize,
}

impl Limits {
    /// Of repositories that have none of their own.
    pub(super) fn of_repos(&self) -> RepoLimits {
        let Limits { attempts_max, lifetime_s, tool_output_bytes, .. } = *self;
        RepoLimits { attempts_max, lifetime_s, tool_output_bytes }
    }
}

impl RepoLimits {
    /// Bounds; `place` is where it stands, for the error.
    pub(super) fn check(&self, place: &str) -> Result<(), ConfigError> {
        let refuse = |name: &str, bounds: String, got: String| {
            Err(ConfigError(format!("{place}limits.{name} must be {bounds}, got {got}")))
        };
        let RepoLimits { attempts_max, lifetime_s, tool_output_bytes } = self;
        if !(1..=limit::ATTEMPTS_MAX).contains(attempts_max) {
            return refuse("attempts_max", format!("1 to {}", limit::ATTEMPTS_MAX), attempts_max.to_string());
        }
        if *lifetime_s == 0 {
            return refuse("lifetime_s", "at least 1".into(), lifetime_s.to_string());
        }
        let (least, most) = (limit::TOOL_OUTPUT_BYTES.start(), limit::TOOL_OUTPUT_BYTES.end());
        if !limit::TOOL_OUTPUT_BYTES.contains(tool_output_bytes) {
            let bounds = format!("{least} to {most}");
            return refuse("tool_output_bytes", bounds, tool_output_bytes.to_string());
        }
        Ok(())
    }
}
