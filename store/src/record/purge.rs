//! Forgetting.

use jiff::Timestamp;

/// Who stands where an erased user stood: in sums and in the audit log.
pub const ERASED: &str = "(erased)";

/// What is over, by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// Nudges of tasks that have ended, submitted before this.
    pub nudges_before: Timestamp,
    /// Keys and webhooks that were revoked before this.
    pub revoked_before: Timestamp,
    /// Lines of the audit log before this.
    pub audit_before: Timestamp,
}

/// How much was forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is a number of rows of that kind")]
pub struct Forgotten {
    pub nudges: u64,
    pub keys: u64,
    pub webhooks: u64,
    pub audit: u64,
}
