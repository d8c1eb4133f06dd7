//! The lines of a trace, in the order a file has them: a [`Header`], then requests, responses and events by time, then
//! [`Work`], [`Outcome`] and [`End`]. A file without an end was cut off.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the lines.
pub const SCHEMA: u32 = 1;

/// A line: its number and time, and what it says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// From 1, without holes.
    #[serde(default)]
    pub seq: u64,
    /// When the control plane recorded it.
    pub time: Timestamp,
    /// What it says.
    #[serde(flatten)]
    pub line: Line,
}

/// What a line says; its name is the line's `type`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// What was asked of the task.
    Header(Box<Header>),
    /// What a model was asked.
    ModelRequest(Box<ModelRequest>),
    /// What it answered.
    ModelResponse(Box<ModelResponse>),
    /// An event of the task's log.
    Event(Box<Event>),
    /// What was made.
    Work(Box<Work>),
    /// How it ended.
    Outcome(Box<Outcome>),
    /// The last line of a whole file.
    End(End),
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The version of the program that wrote the file.
    pub version: String,
    /// The task.
    pub task_id: String,
    /// Its owner.
    pub user_id: String,
    /// The repository: `owner/name`, or a path.
    pub repo: String,
    /// `coding/new-task-v1`.
    pub workflow: String,
    /// What was asked.
    pub description: String,
    /// The issue, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issue_number: Option<u64>,
    /// The branch of the work.
    pub branch: String,
    /// The branch it started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_branch: Option<String>,
    /// The commit it started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_sha: Option<String>,
    /// `provider/model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Version of what the platform says to the model and of its tools, in the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_version: Option<String>,
    /// Tokens the model sees at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window: Option<u64>,
    /// Output tokens of one turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    /// Turn limit.
    pub max_turns: u32,
    /// Build and test command, where one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_command: Option<String>,
    /// Lint command, where one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lint_command: Option<String>,
    /// What the last box was kept in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<String>,
    /// The number of the last attempt.
    pub attempt: u32,
    /// When the task was accepted.
    pub created_at: Timestamp,
}

/// A request to a model, as the gateway passed it on; secrets are masked, cache marks left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRequest {
    /// Names the call; its response has the same.
    pub call_id: String,
    /// The attempt that made it.
    pub attempt: u32,
    /// The turn, where the box said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<u32>,
    /// `main` or `compaction`.
    pub purpose: String,
    /// `provider/model`.
    pub model: String,
    /// The earlier request whose first messages this one begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<Continues>,
    /// The messages after those.
    pub messages: Vec<Value>,
    /// The system prompt, when it is not that of the request before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<Value>,
    /// SHA-256 of the system prompt in force.
    pub system_sha256: String,
    /// The tools, when they are not those of the request before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Value>,
    /// SHA-256 of the tools in force.
    pub tools_sha256: String,
    /// The other fields of the request.
    pub parameters: Value,
}

/// What a request repeats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continues {
    /// Of this call.
    pub call_id: String,
    /// So many messages.
    pub messages: usize,
    /// The chained SHA-256 of them.
    pub sha256: String,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelResponse {
    /// The call.
    pub call_id: String,
    /// The attempt that made it.
    pub attempt: u32,
    /// The turn, where the box said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<u32>,
    /// `main` or `compaction`.
    pub purpose: String,
    /// Milliseconds from the request to the end of the answer, waits included.
    pub duration_ms: u64,
    /// The message, whole or as far as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Value>,
    /// Why it is not whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<CallError>,
}

/// Why a call has no whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallError {
    /// The HTTP status that the box was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why.
    pub message: String,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its id.
    pub event_id: String,
    /// Its number in the task's log.
    pub event_seq: u64,
    /// Its name.
    pub event_type: String,
    /// Its data.
    pub metadata: Value,
}

/// What was made, as the control plane found it in what the box pushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The commit it started from.
    pub base_sha: String,
    /// The commit at its head.
    pub head_sha: String,
    /// The tree of that commit: the same files give the same.
    pub tree: String,
    /// What changed, at most as many files as are kept.
    pub files: Vec<FileChange>,
    /// Files that changed and are not named.
    pub files_left_out: u64,
}

/// A file that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Its path.
    pub path: String,
    /// git's letter: `A`dded, `M`odified, `D`eleted, `T` for a change of type.
    pub status: String,
    /// Its mode after.
    pub mode: String,
    /// git's name of its content after; zeros when it is gone.
    pub blob: String,
}

/// How the task ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// `COMPLETED`, `FAILED`, `CANCELLED` or `TIMED_OUT`.
    pub status: String,
    /// The code of its failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// The failure, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Build against its baseline: `passed`, `failed`, `failed_as_before`, `timed_out`, `infra`, `inert`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// Lint against its baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lint: Option<String>,
    /// Turns begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns_attempted: Option<u32>,
    /// Turns finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns_completed: Option<u32>,
    /// Whether code changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_changed: Option<bool>,
    /// Dollars of all priced calls.
    pub cost_usd: f64,
    /// Model calls that were metered.
    pub model_calls: u64,
}

/// The last line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Lines of the file, this one included.
    pub lines: u64,
    /// Whether lines were left out because the file would have become too large.
    pub truncated: bool,
}
