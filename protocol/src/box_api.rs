//! The box API, `/box/v1`: what a worker may say and ask. JSON over HTTP on the gateway's own listener.
//!
//! | call | body -> answer |
//! |---|---|
//! | `POST /box/v1/attach` | [`AttachRequest`] -> [`AttachResponse`]; authorised by the bootstrap token as Bearer |
//! | `POST /box/v1/started` | none -> 204: the agent begins to work |
//! | `POST /box/v1/events` | [`EventBatch`] -> [`EventsAccepted`] |
//! | `GET /box/v1/directives?wait=S&seen=TAG` | -> [`Directives`]; long poll, answers early when they are others than TAG's |
//! | `POST /box/v1/left` | none -> 204: the work is saved, the box ends; repeating it is harmless |
//! | `POST /box/v1/nudges/take` | [`TakeNudges`] -> [`TakenNudges`]; repeating it is harmless |
//! | `POST /box/v1/asks/{id}/answer` | [`AskAnswer`] -> 204; the first one stays |
//! | `POST /box/v1/heartbeat` | [`Heartbeat`] -> [`Directives`] |
//! | `GET /box/v1/attachments/{id}` | -> bytes of an attachment; `/text` below it: the text of a document |
//! | `PUT /box/v1/artifacts/{name}` | bytes -> 204 |
//! | `POST /box/v1/result` | [`domain::report::Report`] -> 204; repeating it is harmless |
//! | `POST /model/v1/messages` | Anthropic Messages, also with streaming |
//! | `/git/{task}.git/...` | git smart HTTP: fetch, and push of the task's branch and of [`SAVED_REF`] |
//!
//! Every call but `attach` carries the session token as Bearer. Errors are [`BoxError`]; 409 with
//! [`BoxErrorCode::SessionSuperseded`] means that this box is no longer wanted: it stops itself at once. 425 means "not
//! yet, ask again".

use domain::steer::{AnswerSource, Boundary};
use domain::{AskId, AttachmentId, Attempt, NudgeId, PromptVersion, TaskId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of this API that a worker of this build speaks. It rises when a worker of the version before could not work
/// with a server of this build any more. What is only added (a call, an optional field) raises nothing: servers default what
/// an older worker does not send, workers what an older server does not answer. What a version promises is recorded call by
/// call in `protocol/contract/box-<version>.json`, which tests hold servers and workers to.
pub const VERSION: u32 = 1;

/// The oldest version that a server of this build serves.
pub const VERSION_OLDEST: u32 = 1;

fn first_version() -> u32 {
    1
}

/// Where a worker saves work that its agent has not ended yet, in the task's repository at the gateway: pushed beside the
/// task's branch, read by the next attempt, on no forge.
pub const SAVED_REF: &str = "refs/bgagent/saved";

/// The agent begins to work. A worker that knows nothing of it sends no body.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Started {
    /// Which words it works by.
    #[serde(default)]
    pub prompt_version: Option<PromptVersion>,
}

/// First call of a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttachRequest {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
    /// 128 random bits in hex, made once by this worker process: a repeated attach (its answer was lost) is the same
    /// one; an attach with another instance is a second worker and is refused.
    pub instance: String,
    /// The worker's version.
    pub version: String,
    /// The version of this API that it speaks; workers that do not say speak the first.
    #[serde(default = "first_version")]
    pub api: u32,
}

/// What a worker gets for its bootstrap token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttachResponse {
    /// Bearer token of all further calls; bound to (task, attempt, instance), useless after the attempt.
    pub session_token: String,
    /// Seconds between two heartbeats.
    pub heartbeat_interval_s: u64,
    /// The work.
    pub spec: WorkSpec,
}

/// What to do, complete: the worker asks nobody else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkSpec {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
    /// Repository name for people and prompts.
    pub repo: String,
    /// Path of the git endpoint below the gateway's root: `/git/<task>.git`.
    pub git_path: String,
    /// Branch to start from.
    pub base_branch: String,
    /// Branch to work on and push.
    pub branch: String,
    /// Issue number, if any.
    pub issue_number: Option<u64>,
    /// What the person asked.
    pub description: String,
    /// What earlier attempts did, for an agent that goes on with their work.
    #[serde(default)]
    pub earlier: Option<String>,
    /// Things about the repository the agent should know (submodules not fetched, say).
    pub notes: Vec<String>,
    /// Turn limit.
    pub max_turns: u32,
    /// Model name to put into requests.
    pub model: String,
    /// Context window of the model in tokens.
    pub context_window: u64,
    /// Output tokens to ask for in one turn.
    pub max_output_tokens: u64,
    /// Build and test command; `None`: find one in the repository.
    pub build_command: Option<String>,
    /// Lint command; `None`: find one in the repository.
    pub lint_command: Option<String>,
    /// Seconds one build or lint run may take.
    pub verify_timeout_s: u64,
    /// Bytes of one tool's output that the model is shown.
    #[serde(default = "tool_output_bytes")]
    pub tool_output_bytes: usize,
    /// Whether longer previews are wanted.
    pub trace: bool,
    /// Whether the model plays a transcript that has words of people too: then they are asked for at every boundary.
    #[serde(default)]
    pub nudges_scripted: bool,
    /// Harness to run: `native`.
    pub harness: String,
    /// Author and committer of the work, `Name <mail>`.
    pub git_identity: String,
    /// Seconds between two pushes to [`SAVED_REF`]; 0 is none.
    #[serde(default)]
    pub save_interval_s: u64,
    /// What the person attached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<WorkAttachment>,
}

/// Of servers before this field.
fn tool_output_bytes() -> usize {
    domain::limit::TOOL_OUTPUT_MAX_BYTES
}

/// An attachment of the work; its bytes are at `attachments/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkAttachment {
    /// Its id.
    pub id: AttachmentId,
    /// Its name: no path.
    pub filename: String,
    /// What it is.
    pub content_type: String,
    /// Its bytes.
    pub size_bytes: u64,
    /// SHA-256 of them, in lower hex.
    pub sha256: String,
    /// Bytes of the text of a document that is no text itself, at `attachments/{id}/text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_bytes: Option<u64>,
}

/// Events in the order they happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EventBatch {
    /// At most [`domain::limit::EVENT_BATCH_MAX`].
    pub events: Vec<BoxEvent>,
}

/// One event of a box.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoxEvent {
    /// Unique within (task, attempt); a resend is dropped.
    pub key: String,
    /// Wire name of an event kind that a box may append.
    pub event_type: String,
    /// A JSON object.
    pub metadata: Value,
}

/// Answer to a batch. Events that were refused are named; the others are stored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EventsAccepted {
    /// Stored now.
    pub stored: u32,
    /// Known already.
    pub duplicates: u32,
    /// Refused for good: key and reason (too large, unknown kind, not a box's to say). Do not resend them.
    pub refused: Vec<RefusedEvent>,
}

/// An event that will never be stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RefusedEvent {
    /// Its key.
    pub key: String,
    /// Why.
    pub reason: String,
}

/// What a worker must heed, in this order: cancel first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directives {
    /// Stop now; nothing else is to be consumed.
    pub cancel: bool,
    /// Save the work, say `left`, and end: `cancel`, `pause` or `usage_limit`, for the log. Nothing else is to be consumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leave: Option<String>,
    /// Nudges that wait, the oldest first; their words are handed over by `nudges/take`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nudges: Vec<NudgeId>,
    /// Open questions, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asks: Vec<OpenAsk>,
    /// Names these directives: a poll that gives it back as `seen` is answered when there are others. Empty when there is
    /// nothing to heed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tag: String,
}

/// A question that waits for its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenAsk {
    /// Its id.
    pub id: AskId,
    /// The words.
    pub question: String,
}

/// Which nudges the box takes over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TakeNudges {
    /// Their ids; at most [`domain::limit::NUDGES_AT_ONCE`].
    pub ids: Vec<NudgeId>,
    /// Where the agent stands; for tasks whose [`WorkSpec::nudges_scripted`] is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Boundary>,
}

/// The nudges that are the box's now. The event that acknowledges them is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenNudges {
    /// The oldest first.
    pub nudges: Vec<TakenNudge>,
}

/// A nudge with its words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenNudge {
    /// Its id.
    pub id: NudgeId,
    /// When it was said.
    pub submitted_at: Timestamp,
    /// The words.
    pub text: String,
}

/// The answer to a question.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AskAnswer {
    /// The words; cut at [`domain::limit::ASK_ANSWER_MAX_CHARS`] characters.
    pub answer: String,
    /// Whose they are.
    pub source: AnswerSource,
}

/// A sign of life.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Name of the running stage.
    pub stage: String,
}

/// Error answer of the box API.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BoxError {
    /// Stable code.
    pub code: BoxErrorCode,
    /// A sentence.
    pub message: String,
}

/// Stable codes of the box API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BoxErrorCode {
    /// 401: no token, or not one of ours.
    Unauthorized,
    /// 409: the attempt is over or was superseded; stop.
    SessionSuperseded,
    /// 425: the control plane has not recorded the step before this one yet; ask again soon.
    TooEarly,
    /// 400: the body is not what it should be.
    BadRequest,
    /// 413: too large.
    TooLarge,
    /// 426: the server does not serve this worker's version of the API; the task has failed with the reason.
    VersionUnsupported,
    /// 429: this attempt has appended its last event.
    EventLimit,
    /// 500 or 503: the control plane could not; ask again with backoff.
    Unavailable,
}
