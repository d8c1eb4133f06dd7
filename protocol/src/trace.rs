//! `/v1`: traces and replays. *ABCA*'s shapes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::rest::{EventRecord, ResolvedWorkflow};

/// `GET /v1/tasks/{id}/trace`: where the trace can be fetched, for a while, without a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceAddress {
    /// The address: gzip, one JSON object a line.
    pub url: String,
    /// It is refused from then on.
    pub expires_at: String,
}

/// `GET /v1/tasks/{id}/replay`: what is known of a task, for a look back at it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReplayBundle {
    /// The task.
    pub task_id: String,
    /// The workflow as it was asked for.
    pub workflow_ref: Option<String>,
    /// The workflow that ran.
    pub resolved_workflow: Option<ResolvedWorkflow>,
    /// Version of the prompt and the tools; null until an agent has worked.
    pub prompt_version: Option<String>,
    /// The events, from the first on.
    pub events: Vec<EventRecord>,
    /// Set when not all events are here.
    pub events_truncation: Option<EventsTruncation>,
    /// Build and lint; null when neither ran.
    pub verification: Option<Verification>,
    /// Address of the trace, for records; `GET /v1/tasks/{id}/trace` gives one that can be fetched.
    pub trace_uri: Option<String>,
    /// OpenTelemetry trace, where there is one.
    pub otel_trace_id: Option<String>,
    /// The last attempt's box.
    pub session_id: Option<String>,
    /// US dollars metered at the proxy; null while nothing is priced.
    pub cost_usd: Option<f64>,
    /// When this was put together.
    pub collected_at: String,
}

/// Why not all events are in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventsTruncation {
    /// `max_events` or `max_bytes`.
    pub reason: String,
    /// Events that are in it.
    pub returned_events: u64,
}

/// Build and lint against their baselines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verification {
    /// Null when it never ran.
    pub build_passed: Option<bool>,
    /// Null when it never ran.
    pub lint_passed: Option<bool>,
}
