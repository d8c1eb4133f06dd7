//! *Ours.* `/v1/admin`: what an operator sees and does.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A row of `GET /v1/admin/obligations`: what must happen and has not yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObligationRecord {
    /// Its id.
    pub obligation_id: String,
    /// For which task.
    pub task_id: String,
    /// What: `stop_session`, `seal_trace`.
    pub duty: String,
    /// The attempt, for a session.
    pub attempt: Option<u32>,
    /// The box, where it is known.
    pub session_id: Option<String>,
    /// When it came up.
    pub created_at: String,
    /// How often it was tried.
    pub tries: u32,
    /// When it is tried next.
    pub due_at: String,
    /// Why the last try failed.
    pub last_error: Option<String>,
    /// Whether a person must look: no retry will mend it.
    pub alarm: bool,
}

/// A row of `GET /v1/admin/sessions`: a box that lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionRecord {
    /// Its id.
    pub session_id: String,
    /// Its task.
    pub task_id: String,
    /// Which attempt's.
    pub attempt: u32,
    /// The task's state; null when there is no such task.
    pub status: Option<String>,
    /// The task's owner.
    pub user_id: Option<String>,
    /// Whether its task still wants it; others are stopped at the next sweep.
    pub wanted: bool,
    /// Last sign of life.
    pub heartbeat_at: Option<String>,
    /// Stage named in it.
    pub stage: Option<String>,
}

/// `POST /v1/admin/purge`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PurgeRequest {
    /// Tasks that ended before this time (RFC 3339); with `user` it may be absent for all of theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 40)]
    pub ended_before: Option<String>,
    /// Only this user's tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256)]
    pub user: Option<String>,
    /// Remove the user's keys and webhooks too, and their name from sums and the audit log; needs `user`, and no
    /// `ended_before`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erase_user: Option<bool>,
    /// Count only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

/// What was purged, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Purged {
    /// Tasks, with events and all else of them.
    pub tasks: u64,
    /// Traces and artifacts.
    pub objects: u64,
    /// Whether the user was erased.
    pub user_erased: bool,
    /// Whether it was only counted.
    pub dry_run: bool,
}
