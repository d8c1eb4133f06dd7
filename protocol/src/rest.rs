//! `/v1`: *ABCA*'s wire contract, field for field, plus what is ours (marked *ours*).
//!
//! Missing values are `null`, never omitted, so that a typed client needs no second shape.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Success envelope.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Data<T> {
    /// The payload.
    pub data: T,
}

/// Success envelope of a list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The rows.
    pub data: Vec<T>,
    /// How to go on.
    pub pagination: Pagination,
}

/// `GET /v1/tasks`: tasks, or with `view=budget` what is left of the caller's budget.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(untagged)]
pub enum TasksView {
    /// A page of tasks.
    Tasks(Page<TaskSummary>),
    /// The budget.
    Budget(Data<crate::usage::PersonalBudget>),
}

/// How to get the next page.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Pagination {
    /// Opaque, signed; give it back as `next_token`. Null on the last page.
    pub next_token: Option<String>,
    /// Whether there is a next page.
    pub has_more: bool,
}

/// Error envelope.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// Stable code, e.g. `VALIDATION_ERROR`.
    pub code: String,
    /// A sentence that names the field or object and what to do.
    pub message: String,
    /// The request's id, as in the server's log.
    pub request_id: String,
}

/// Stable error codes of `/v1`; *ABCA*'s names where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ErrorCode {
    ValidationError,
    Unauthorized,
    Forbidden,
    TaskNotFound,
    TraceNotAvailable,
    WebhookNotFound,
    ApiKeyNotFound,
    RequestNotFound,
    NotFound,
    MethodNotAllowed,
    DuplicateTask,
    TaskAlreadyTerminal,
    WebhookAlreadyRevoked,
    ApiKeyAlreadyRevoked,
    UploadsNotPending,
    RequestAlreadyDecided,
    TaskNotAwaitingApproval,
    AskAlreadyOpen,
    TaskNotPaused,
    TaskNotTerminal,
    RequestTimeout,
    PayloadTooLarge,
    HeadersTooLarge,
    RepoNotOnboarded,
    AttachmentBlocked,
    AttachmentTooLarge,
    AttachmentInlineTooLarge,
    AttachmentInvalidType,
    AttachmentInvalidContent,
    AttachmentInvalidFilename,
    AttachmentSizeMismatch,
    AttachmentUploadMissing,
    AttachmentsTotalTooLarge,
    RateLimitExceeded,
    BudgetExceeded,
    InternalError,
    ServiceUnavailable,
    AttachmentScreeningUnavailable,
    ScreeningDeadlineExceeded,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: &'static [ErrorCode] = &[
        ErrorCode::ValidationError,
        ErrorCode::Unauthorized,
        ErrorCode::Forbidden,
        ErrorCode::TaskNotFound,
        ErrorCode::TraceNotAvailable,
        ErrorCode::WebhookNotFound,
        ErrorCode::ApiKeyNotFound,
        ErrorCode::RequestNotFound,
        ErrorCode::NotFound,
        ErrorCode::MethodNotAllowed,
        ErrorCode::DuplicateTask,
        ErrorCode::TaskAlreadyTerminal,
        ErrorCode::WebhookAlreadyRevoked,
        ErrorCode::ApiKeyAlreadyRevoked,
        ErrorCode::UploadsNotPending,
        ErrorCode::RequestAlreadyDecided,
        ErrorCode::TaskNotAwaitingApproval,
        ErrorCode::AskAlreadyOpen,
        ErrorCode::TaskNotPaused,
        ErrorCode::TaskNotTerminal,
        ErrorCode::RequestTimeout,
        ErrorCode::PayloadTooLarge,
        ErrorCode::HeadersTooLarge,
        ErrorCode::RepoNotOnboarded,
        ErrorCode::AttachmentBlocked,
        ErrorCode::AttachmentTooLarge,
        ErrorCode::AttachmentInlineTooLarge,
        ErrorCode::AttachmentInvalidType,
        ErrorCode::AttachmentInvalidContent,
        ErrorCode::AttachmentInvalidFilename,
        ErrorCode::AttachmentSizeMismatch,
        ErrorCode::AttachmentUploadMissing,
        ErrorCode::AttachmentsTotalTooLarge,
        ErrorCode::RateLimitExceeded,
        ErrorCode::BudgetExceeded,
        ErrorCode::InternalError,
        ErrorCode::ServiceUnavailable,
        ErrorCode::AttachmentScreeningUnavailable,
        ErrorCode::ScreeningDeadlineExceeded,
    ];

    /// The wire name.
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status it goes with.
    pub fn http_status(self) -> u16 {
        self.row().1
    }

    fn row(self) -> (&'static str, u16) {
        match self {
            ErrorCode::ValidationError => ("VALIDATION_ERROR", 400),
            ErrorCode::Unauthorized => ("UNAUTHORIZED", 401),
            ErrorCode::Forbidden => ("FORBIDDEN", 403),
            ErrorCode::TaskNotFound => ("TASK_NOT_FOUND", 404),
            ErrorCode::TraceNotAvailable => ("TRACE_NOT_AVAILABLE", 404),
            ErrorCode::WebhookNotFound => ("WEBHOOK_NOT_FOUND", 404),
            ErrorCode::ApiKeyNotFound => ("API_KEY_NOT_FOUND", 404),
            ErrorCode::RequestNotFound => ("REQUEST_NOT_FOUND", 404),
            ErrorCode::NotFound => ("NOT_FOUND", 404),
            ErrorCode::MethodNotAllowed => ("METHOD_NOT_ALLOWED", 405),
            ErrorCode::DuplicateTask => ("DUPLICATE_TASK", 409),
            ErrorCode::TaskAlreadyTerminal => ("TASK_ALREADY_TERMINAL", 409),
            ErrorCode::WebhookAlreadyRevoked => ("WEBHOOK_ALREADY_REVOKED", 409),
            ErrorCode::ApiKeyAlreadyRevoked => ("API_KEY_ALREADY_REVOKED", 409),
            ErrorCode::UploadsNotPending => ("UPLOADS_NOT_PENDING", 409),
            ErrorCode::RequestAlreadyDecided => ("REQUEST_ALREADY_DECIDED", 409),
            ErrorCode::TaskNotAwaitingApproval => ("TASK_NOT_AWAITING_APPROVAL", 409),
            ErrorCode::AskAlreadyOpen => ("ASK_ALREADY_OPEN", 409),
            ErrorCode::TaskNotPaused => ("TASK_NOT_PAUSED", 409),
            ErrorCode::TaskNotTerminal => ("TASK_NOT_TERMINAL", 409),
            ErrorCode::RequestTimeout => ("REQUEST_TIMEOUT", 408),
            ErrorCode::PayloadTooLarge => ("PAYLOAD_TOO_LARGE", 413),
            ErrorCode::HeadersTooLarge => ("HEADERS_TOO_LARGE", 431),
            ErrorCode::RepoNotOnboarded => ("REPO_NOT_ONBOARDED", 422),
            ErrorCode::AttachmentBlocked => ("ATTACHMENT_BLOCKED", 400),
            ErrorCode::AttachmentTooLarge => ("ATTACHMENT_TOO_LARGE", 400),
            ErrorCode::AttachmentInlineTooLarge => ("ATTACHMENT_INLINE_TOO_LARGE", 400),
            ErrorCode::AttachmentInvalidType => ("ATTACHMENT_INVALID_TYPE", 400),
            ErrorCode::AttachmentInvalidContent => ("ATTACHMENT_INVALID_CONTENT", 400),
            ErrorCode::AttachmentInvalidFilename => ("ATTACHMENT_INVALID_FILENAME", 400),
            ErrorCode::AttachmentSizeMismatch => ("ATTACHMENT_SIZE_MISMATCH", 400),
            ErrorCode::AttachmentUploadMissing => ("ATTACHMENT_UPLOAD_MISSING", 400),
            ErrorCode::AttachmentsTotalTooLarge => ("ATTACHMENTS_TOTAL_TOO_LARGE", 400),
            ErrorCode::RateLimitExceeded => ("RATE_LIMIT_EXCEEDED", 429),
            ErrorCode::BudgetExceeded => ("BUDGET_EXCEEDED", 402),
            ErrorCode::InternalError => ("INTERNAL_ERROR", 500),
            ErrorCode::ServiceUnavailable => ("SERVICE_UNAVAILABLE", 503),
            ErrorCode::AttachmentScreeningUnavailable => ("ATTACHMENT_SCREENING_UNAVAILABLE", 503),
            ErrorCode::ScreeningDeadlineExceeded => ("SCREENING_DEADLINE_EXCEEDED", 503),
        }
    }
}

/// `POST /v1/tasks`. Unknown fields are refused by name.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTaskRequest {
    /// `OWNER/NAME`, or (*ours*, local mode) an absolute path of a git repository on the server's machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required, nullable = false, min_length = 2)]
    pub repo: Option<String>,
    /// Workflow, `coding/new-task-v1` when absent; `@1.0.0` may follow. This version runs no other one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^coding/new-task-v1(@1\\.0\\.0)?$")]
    pub workflow_ref: Option<String>,
    /// What `workflow_ref` was before *ABCA* had workflows: `new_task`, `pr_iteration` or `pr_review`. One of the two is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^new_task$")]
    pub task_type: Option<String>,
    /// Issue to resolve, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 9007199254740991_u64)]
    pub issue_number: Option<u64>,
    /// Pull request to work on, from 1; only for workflows of pull requests, which this version does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = absent)]
    pub pr_number: Option<i64>,
    /// What to do; at most 10,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required, nullable = false, min_length = 1, max_length = 10_000)]
    pub task_description: Option<String>,
    /// Turn limit, 1..500; 100 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 500)]
    pub max_turns: Option<i64>,
    /// Budget in US dollars, 0.01..100; unlimited when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.01, maximum = 100)]
    pub max_budget_usd: Option<f64>,
    /// Keep the full trajectory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<bool>,
    /// Seconds to wait for an approval, 30..3600; refused in this version, which asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = absent)]
    pub approval_timeout_s: Option<i64>,
    /// Scopes approved beforehand, at most 20 of at most 128 characters; any is refused in this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 0)]
    pub initial_approvals: Option<Vec<String>>,
    /// Images and documents for the agent, at most 10 of at most 50 MB together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 10)]
    pub attachments: Option<Vec<AttachmentRequest>>,
    /// *Ours.* Model: `provider/model` or `model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub model: Option<String>,
    /// *Ours.* Branch to start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub base_branch: Option<String>,
    /// *Ours.* Build and test command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2_000)]
    pub build_command: Option<String>,
    /// *Ours.* Lint command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2_000)]
    pub lint_command: Option<String>,
    /// *Ours.* What the box is kept in: `process`, `sandbox` or `container`; the server's own tier when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 20)]
    pub isolation: Option<String>,
}

/// An attachment that is asked for: `data` within the request, `url` to be fetched, or neither and `expected_size_bytes` to be
/// uploaded afterwards.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachmentRequest {
    /// `image`, `file` or `url`.
    #[serde(rename = "type")]
    #[schema(pattern = "^(image|file|url)$")]
    pub kind: String,
    /// `image/png`, `image/jpeg`, `text/plain`, `text/csv`, `text/markdown`, `application/json`, `application/pdf` or
    /// `text/x-log`; found out when absent, but needed for an upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100)]
    pub content_type: Option<String>,
    /// A name without a path, at most 255 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 255)]
    pub filename: Option<String>,
    /// The bytes in base64, at most 500 KB of them (3 MB in all of a request).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Where to fetch it: `https://`, at most 10 MB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2_048)]
    pub url: Option<String>,
    /// Bytes of the file that will be uploaded, at most 10 MB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10_485_760)]
    pub expected_size_bytes: Option<i64>,
}

/// How one attachment is uploaded: a POST of a form with these fields in any order, and `file` after them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "ABCA's names")]
pub struct UploadInstruction {
    pub attachment_id: String,
    pub filename: String,
    pub upload_url: String,
    pub upload_fields: std::collections::BTreeMap<String, String>,
    pub upload_expires_at: String,
}

/// The answer of `POST /v1/tasks`: the task, and how its attachments are uploaded while it waits for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CreatedTask {
    /// The task.
    #[serde(flatten)]
    pub task: TaskDetail,
    /// One for each attachment to upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_instructions: Option<Vec<UploadInstruction>>,
    /// Until then the uploads must be confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_expires_at: Option<String>,
}

/// A field of the contract that this version refuses unless it is null.
fn absent() -> utoipa::openapi::schema::Object {
    utoipa::openapi::schema::ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::Type::Null)
        .description(Some("Of the contract; this version refuses it"))
        .build()
}

/// The workflow a task runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResolvedWorkflow {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
}

/// Why a task failed, for people; computed when read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorClassification {
    /// *Ours.* The typed code.
    pub code: String,
    /// `auth`, `network`, `concurrency`, `compute`, `agent`, `guardrail`, `config`, `timeout`, `blocked`, `unknown`.
    pub category: String,
    /// A few words.
    pub title: String,
    /// A sentence.
    pub description: String,
    /// What to do.
    pub remedy: String,
    /// Whether the same request may succeed.
    pub retryable: bool,
    /// `transient`, `service` or `user`: who must act.
    #[serde(rename = "errorClass")]
    pub error_class: String,
}

/// An asset of a registry that a task was resolved with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "ABCA's names")]
pub struct ResolvedAsset {
    pub kind: String,
    pub id: String,
    pub version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnings: Option<Vec<String>>,
}

/// An attachment of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "ABCA's names")]
pub struct AttachmentSummary {
    pub attachment_id: String,
    /// `image`, `file` or `url`.
    #[serde(rename = "type")]
    pub kind: String,
    pub filename: String,
    pub content_type: String,
    /// 0 while it is not there yet.
    pub size_bytes: u64,
    /// `pending`, `passed` or `blocked`.
    pub screening_status: String,
}

/// `GET /v1/tasks/{id}` and the answer of `POST /v1/tasks`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "ABCA's names; those that do not explain themselves are documented")]
pub struct TaskDetail {
    pub task_id: String,
    /// *Ours.* Whose task it is; null from servers that do not tell.
    #[serde(default)]
    pub user_id: Option<String>,
    /// One of the eleven states.
    pub status: String,
    pub repo: Option<String>,
    pub issue_number: Option<u64>,
    pub resolved_workflow: Option<ResolvedWorkflow>,
    /// Null until this version knows registries.
    #[serde(default)]
    pub resolved_assets: Option<Vec<ResolvedAsset>>,
    pub pr_number: Option<u64>,
    pub task_description: Option<String>,
    pub branch_name: String,
    /// *Ours.* Branch the pull request targets; known after preflight.
    pub base_branch: Option<String>,
    pub session_id: Option<String>,
    /// *Ours.* `process`, later others: what the box is kept in.
    pub isolation: Option<String>,
    /// *Ours.* Number of the current attempt.
    pub attempt: u32,
    pub pr_url: Option<String>,
    pub error_message: Option<String>,
    pub error_classification: Option<ErrorClassification>,
    /// *Ours.* What a completed task's owner should know.
    pub warning: Option<String>,
    /// `api`.
    pub channel_source: String,
    pub created_at: String,
    pub updated_at: String,
    pub started_at: Option<String>,
    pub completed_at: Option<String>,
    /// When the worker of its last attempt last showed that it lives; null before the first one attached.
    #[serde(default)]
    pub agent_heartbeat_at: Option<String>,
    /// Seconds from start to end.
    pub duration_s: Option<f64>,
    /// US dollars metered at the proxy, live; null while nothing is priced.
    pub cost_usd: Option<f64>,
    /// *Ours.* Model calls without a price in the table; their cost is not in `cost_usd`.
    pub unpriced_calls: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// *Ours.* The model that is used; before preflight, the one asked for.
    pub model: Option<String>,
    pub build_passed: Option<bool>,
    pub lint_passed: Option<bool>,
    /// Null until this version exports traces.
    #[serde(default)]
    pub otel_trace_id: Option<String>,
    pub max_turns: Option<u32>,
    pub max_budget_usd: Option<f64>,
    pub turns_attempted: Option<u32>,
    pub turns_completed: Option<u32>,
    /// Version of what the platform says to the model and of the tools it gives it: 12 digits of hex made of these
    /// themselves, so it changes with them and with nothing else. Of the last attempt; null until its agent works.
    #[serde(default)]
    pub prompt_version: Option<String>,
    pub head_sha: Option<String>,
    pub code_changed: Option<bool>,
    pub answer_text: Option<String>,
    pub trace: bool,
    /// Where the trajectory is kept, for records; null while there is none. `GET /v1/tasks/{id}/trace` gives an address
    /// that can be fetched.
    #[serde(default)]
    pub trace_s3_uri: Option<String>,
    /// Where an artifact was delivered; null while there is none.
    #[serde(default)]
    pub artifact_uri: Option<String>,
    /// Null: this version takes none.
    #[serde(default)]
    pub attachments: Option<Vec<AttachmentSummary>>,
    /// Approvals asked for so far; null: this version asks for none.
    #[serde(default)]
    pub approval_gate_count: Option<u32>,
    /// Approvals it may ask for; null: this version asks for none.
    #[serde(default)]
    pub approval_gate_cap: Option<u32>,
    /// The approval it waits for; only while AWAITING_APPROVAL.
    #[serde(default)]
    pub awaiting_approval_request_id: Option<String>,
    pub queued_at: Option<String>,
    /// 1 is next; only while QUEUED.
    pub queue_position: Option<u64>,
    pub estimated_wait_s: Option<u64>,
    /// *Ours.* Why it is QUEUED: `concurrency_limit`, `paused`, `usage_limit`, `budget` or `box_lost`.
    pub queue_reason: Option<String>,
    /// *Ours.* It stays QUEUED until then.
    pub not_before: Option<String>,
    /// *Ours.* More about why it is QUEUED: which budget is used up, and when it renews.
    #[serde(default)]
    pub queue_detail: Option<String>,
    /// *Ours.* What its agent is asked to leave for, while it saves its work: `cancel`, `pause` or `usage_limit`.
    pub leaving: Option<String>,
    /// *Ours.* The task that this one tries again.
    pub retry_of: Option<String>,
    /// *Ours.* What is known of boxes that were lost and replaced; null while there is none.
    #[serde(default)]
    pub lost: Option<LostBoxes>,
}

/// *Ours.* Boxes of a task that were lost (their process, their machine) and replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LostBoxes {
    /// How many: the task is at its attempt `boxes + 1`, pauses not counted.
    pub boxes: u32,
    /// Attempts there are in all: when the last one's box is lost, the task fails.
    pub attempts_max: u32,
    /// Turns that their agents had begun; they count against the task's.
    pub turns: u32,
    /// Why the last one was lost.
    pub error_code: String,
    /// The same in words.
    pub error_message: String,
}

impl TaskDetail {
    /// Whether the task has ended.
    pub fn is_terminal(&self) -> bool {
        matches!(self.status.as_str(), "COMPLETED" | "FAILED" | "CANCELLED" | "TIMED_OUT")
    }
}

/// A row of `GET /v1/tasks`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "as in TaskDetail")]
pub struct TaskSummary {
    pub task_id: String,
    /// *Ours.* Whose task it is; null from servers that do not tell.
    #[serde(default)]
    pub user_id: Option<String>,
    pub status: String,
    pub repo: Option<String>,
    pub issue_number: Option<u64>,
    pub resolved_workflow: Option<ResolvedWorkflow>,
    /// Null until this version knows registries.
    #[serde(default)]
    pub resolved_assets: Option<Vec<ResolvedAsset>>,
    pub pr_number: Option<u64>,
    pub task_description: Option<String>,
    pub branch_name: String,
    pub pr_url: Option<String>,
    pub created_at: String,
    pub updated_at: String,
    /// As in `TaskDetail`.
    #[serde(default)]
    pub agent_heartbeat_at: Option<String>,
}

/// An event, as served by `/events` and `/stream`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventRecord {
    /// ULID; give it back as `after`.
    pub event_id: String,
    /// *Ours.* Number within the task, from 1, without holes.
    pub seq: u64,
    /// Name.
    pub event_type: String,
    /// When the store appended it.
    pub timestamp: String,
    /// Data.
    pub metadata: Value,
}

/// `DELETE /v1/tasks/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CancelledTask {
    /// The task.
    pub task_id: String,
    /// `CANCELLED`.
    pub status: String,
    /// When.
    pub cancelled_at: String,
}

/// *Ours.* `GET /v1/tasks/{id}/pull-request`: our record of the pull request, with the diff where the forge is local.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PullRequestDetail {
    /// The task.
    pub task_id: String,
    /// The repository.
    pub repo: String,
    /// Where a person looks at it.
    pub url: String,
    /// Number, where the forge has numbers.
    pub number: Option<u64>,
    /// `draft`: ours are never marked ready by us.
    pub state: String,
    /// Title.
    pub title: String,
    /// Body, Markdown.
    pub body: String,
    /// Head branch.
    pub branch: String,
    /// Branch it targets.
    pub base_branch: String,
    /// Commit at the head.
    pub head_sha: String,
    /// Commit it started from.
    pub base_sha: String,
    /// When it was opened.
    pub created_at: String,
    /// One line for each changed file, as `git diff --stat` prints it.
    pub diff_stat: String,
    /// Unified diff, cut at 1 MiB (binary files are named only).
    pub diff: String,
    /// Whether `diff` was cut.
    pub diff_truncated: bool,
}

/// *Ours.* `GET /v1/health` and `/v1/ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`, or `degraded` with the reason in `checks`.
    pub status: String,
    /// The server's version.
    pub version: String,
    /// Name and `ok` or what is wrong.
    pub checks: std::collections::BTreeMap<String, String>,
}
