//! `GET /v1/tasks/{id}/replay`.

use axum::http::Method;
use serde_json::json;

use super::*;
use crate::support::*;

const BUNDLE: &[&str] = &[
    "task_id",
    "workflow_ref",
    "resolved_workflow",
    "prompt_version",
    "events",
    "events_truncation",
    "verification",
    "trace_uri",
    "otel_trace_id",
    "session_id",
    "cost_usd",
    "collected_at",
];

#[tokio::test]
async fn a_bundle_has_every_field_and_its_events_theirs() {
    let world = World::new();
    let source = source().await;
    let id = world.running(&source, "fix it").await;
    let path = format!("/v1/tasks/{id}/replay");
    let running = world.get(&path).await;
    has_headers(&running);
    let bundle = running.data(200);
    has_exactly(&bundle, BUNDLE, &[]);
    assert_eq!(bundle["verification"], Value::Null, "nothing is verified yet");
    assert_eq!(bundle["events_truncation"], Value::Null);

    world.completed(&source, id).await;
    let bundle = world.get(&path).await.data(200);
    has_exactly(&bundle, BUNDLE, &[]);
    is_time(&bundle["collected_at"]);
    assert_eq!(bundle["prompt_version"], "0123456789ab");
    assert_eq!(bundle["task_id"], id.to_string());
    assert_eq!(bundle["resolved_workflow"], json!({ "id": "coding/new-task-v1", "version": "1.0.0" }));
    has_exactly(&bundle["verification"], &["build_passed", "lint_passed"], &[]);
    for event in bundle["events"].as_array().unwrap() {
        has_exactly(event, &["event_id", "event_type", "timestamp", "metadata"], &["seq"]);
    }
    is_hidden_from_strangers(&world, Method::GET, "/v1/tasks/{id}/replay", None).await;
    wants_a_key(&world, Method::GET, &path).await;
}
