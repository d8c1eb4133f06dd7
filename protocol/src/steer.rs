//! `/v1`: what people say to a task that runs. `nudge` is *ABCA*'s; the rest is ours.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST /v1/tasks/{id}/nudge`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NudgeRequest {
    /// What the agent is to heed; 1 to 2,000 characters without the spaces around it.
    #[serde(default)]
    #[schema(required, min_length = 1, max_length = 2_000)]
    pub message: String,
}

/// A nudge that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NudgeAccepted {
    /// The task.
    pub task_id: String,
    /// ULID of the nudge.
    pub nudge_id: String,
    /// When it was accepted.
    pub submitted_at: String,
}

/// *Ours.* `POST /v1/tasks/{id}/pause` and `/resume`: where the task stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskMoved {
    /// The task.
    pub task_id: String,
    /// One of the eleven states. A paused task whose agent still saves its work is RUNNING, and QUEUED as soon as it has.
    pub status: String,
    /// What its agent is asked to leave for, while it saves its work.
    pub leaving: Option<String>,
    /// Why it is QUEUED.
    pub queue_reason: Option<String>,
}

/// *Ours.* `POST /v1/tasks/{id}/asks`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AskRequest {
    /// The question; 1 to 2,000 characters without the spaces around it.
    #[serde(default)]
    #[schema(required, min_length = 1, max_length = 2_000)]
    pub question: String,
}

/// *Ours.* A question about a task, with its answer as soon as there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AskDetail {
    /// The task.
    pub task_id: String,
    /// ULID of the question.
    pub ask_id: String,
    /// `open` or `answered`.
    pub status: String,
    /// The question.
    pub question: String,
    /// Who asked.
    pub asked_by: String,
    /// When it was asked.
    pub asked_at: String,
    /// The answer.
    pub answer: Option<String>,
    /// `agent`, or `record`: no agent was at work, so this was read from the task's record.
    pub answered_from: Option<String>,
    /// When it was answered.
    pub answered_at: Option<String>,
}

/// *Ours.* The questions about a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AskList {
    /// The newest 100, the oldest first.
    pub asks: Vec<AskDetail>,
}
