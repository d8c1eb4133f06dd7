//! The wire shapes of the contract shared with ABCA, one file for each endpoint: every field and no other, null where
//! nothing is known, the headers of every answer, and the code of every refusal. What is ours beside the contract is
//! named as such.

mod api_key;
mod attachments;
mod cancel;
mod create;
mod detail;
mod events;
mod keys;
mod list;
mod nudge;
mod raw;
mod replay;
mod trace;
mod webhook;
mod webhook_task;
mod webhooks;

use std::collections::BTreeSet;

use axum::http::Method;
use serde_json::Value;

use crate::support::*;

/// Fields of `TaskDetail`.
pub const DETAIL: &[&str] = &[
    "task_id",
    "status",
    "repo",
    "issue_number",
    "resolved_workflow",
    "resolved_assets",
    "pr_number",
    "task_description",
    "branch_name",
    "session_id",
    "pr_url",
    "error_message",
    "error_classification",
    "channel_source",
    "created_at",
    "updated_at",
    "started_at",
    "completed_at",
    "agent_heartbeat_at",
    "duration_s",
    "cost_usd",
    "build_passed",
    "lint_passed",
    "otel_trace_id",
    "max_turns",
    "max_budget_usd",
    "turns_attempted",
    "turns_completed",
    "prompt_version",
    "trace",
    "trace_s3_uri",
    "artifact_uri",
    "attachments",
    "approval_gate_count",
    "approval_gate_cap",
    "awaiting_approval_request_id",
    "queued_at",
    "queue_position",
    "estimated_wait_s",
];
/// What our `TaskDetail` has beside them.
pub const DETAIL_OURS: &[&str] = &[
    "answer_text",
    "attempt",
    "base_branch",
    "code_changed",
    "head_sha",
    "input_tokens",
    "isolation",
    "leaving",
    "lost",
    "model",
    "not_before",
    "output_tokens",
    "queue_detail",
    "queue_reason",
    "retry_of",
    "unpriced_calls",
    "user_id",
    "warning",
];

/// The object has all of `contract`, and of ours only what is named in `ours`.
#[track_caller]
pub fn has_exactly(object: &Value, contract: &[&str], ours: &[&str]) {
    let found: BTreeSet<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    let contract: BTreeSet<&str> = contract.iter().copied().collect();
    let missing: Vec<_> = contract.difference(&found).collect();
    assert!(missing.is_empty(), "missing, not even null: {missing:?}");
    let more: Vec<_> = found.difference(&contract).filter(|f| !ours.contains(f)).collect();
    assert!(more.is_empty(), "neither of the contract nor named as ours: {more:?}");
}

/// The three headers of every answer.
#[track_caller]
pub fn has_headers(answer: &Answer) {
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    let id = answer.headers["x-request-id"].to_str().unwrap();
    assert!(id.len() == 26 && id.parse::<domain::RequestId>().is_ok(), "{id}");
    for name in ["content-type", "access-control-allow-origin", "x-request-id"] {
        assert_eq!(answer.headers.get_all(name).iter().count(), 1, "{name}");
    }
}

/// `2023-11-14T22:13:20.010Z`: milliseconds, UTC.
#[track_caller]
pub fn is_time(value: &Value) {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is no time"));
    assert!(text.len() == 24 && text.ends_with('Z'), "{text}");
    text.parse::<jiff::Timestamp>().unwrap();
}

/// What is not a task of the caller's is the same 404 on this route, whether there is such a task or not.
pub async fn is_hidden_from_strangers(world: &World, method: Method, route: &str, body: Option<Value>) {
    let theirs = world.submitted_by("somebody-else", repo(), "theirs").await.to_string();
    let nobodys = "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned();
    let mut told = BTreeSet::new();
    for id in [theirs, nobodys] {
        let path = route.replace("{id}", &id);
        let answer = world.call_as(ANN, method.clone(), &path, body.clone()).await;
        has_headers(&answer);
        told.insert(answer.error(404, "TASK_NOT_FOUND").replace(&id, "ID"));
    }
    assert_eq!(told.len(), 1, "no oracle: {told:?}");
}

/// Without a credential nothing but how to get one.
pub async fn wants_a_key(world: &World, method: Method, path: &str) {
    let mut request = request(method, path, None);
    request.headers_mut().remove("x-api-key");
    let answer = world.send(request).await;
    has_headers(&answer);
    answer.error(401, "UNAUTHORIZED");
}
