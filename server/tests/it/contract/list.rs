//! `GET /v1/tasks`.

use serde_json::json;

use super::*;
use crate::support::*;

const SUMMARY: &[&str] = &[
    "task_id",
    "status",
    "repo",
    "issue_number",
    "resolved_workflow",
    "resolved_assets",
    "pr_number",
    "task_description",
    "branch_name",
    "pr_url",
    "created_at",
    "updated_at",
    "agent_heartbeat_at",
];

#[tokio::test]
async fn a_page_has_its_envelope_and_each_row_every_field() {
    let world = World::new();
    world.submitted("one").await;
    world.submitted("two").await;
    let answer = world.get("/v1/tasks?limit=1").await;
    has_headers(&answer);
    let body = answer.json();
    has_exactly(&body, &["data", "pagination"], &[]);
    has_exactly(&body["pagination"], &["next_token", "has_more"], &[]);
    assert_eq!(body["pagination"]["has_more"], true);
    assert!(body["pagination"]["next_token"].is_string());
    has_exactly(&body["data"][0], SUMMARY, &["user_id"]);
    is_time(&body["data"][0]["created_at"]);
    let empty = world.get("/v1/tasks?status=COMPLETED").await.json();
    assert_eq!(empty, json!({ "data": [], "pagination": { "next_token": null, "has_more": false } }));
}

#[tokio::test]
async fn each_row_tells_when_its_worker_was_last_heard_of() {
    let world = World::new();
    let source = source().await;
    let silent = world.submitted("waits").await;
    let first = world.running(&source, "runs").await;
    let second = world.running(&source, "runs too").await;
    let store = world.orchestrator.store();
    store.session_heartbeat(second, domain::Attempt(1), "agent", later(&world)).await.unwrap();
    let rows = world.get("/v1/tasks").await.data(200);
    let of = |id: domain::TaskId| {
        let row = rows.as_array().unwrap().iter().find(|row| row["task_id"] == id.to_string()).unwrap();
        row["agent_heartbeat_at"].clone()
    };
    assert_eq!(of(silent), serde_json::Value::Null);
    is_time(&of(first));
    assert_eq!(of(second), format!("{:.3}", later(&world)));
    for id in [silent, first, second] {
        let task = world.get(&format!("/v1/tasks/{id}")).await.data(200);
        assert_eq!(task["agent_heartbeat_at"], of(id), "the same as in the list");
    }
}

/// An hour from now.
fn later(world: &World) -> jiff::Timestamp {
    domain::transition::after(world.orchestrator.now(), std::time::Duration::from_secs(3_600))
}

#[tokio::test]
async fn every_state_can_be_asked_for() {
    let world = World::new();
    let all = domain::Status::ALL.map(|s| s.as_str()).join(",");
    assert_eq!(all.split(',').count(), 11);
    world.get(&format!("/v1/tasks?status={all}")).await.data(200);
}

/// D-014: the list was ordered by the name of the state.
#[tokio::test]
async fn bug_1_5_the_order_is_the_age_and_pages_are_full() {
    let world = World::new();
    let mut ids = Vec::new();
    for n in 0..6 {
        let id = world.submitted("x").await;
        if n % 2 == 0 {
            world.cancel(id).await;
        }
        ids.push(serde_json::Value::from(id.to_string()));
    }
    ids.reverse();
    assert_eq!(world.get("/v1/tasks").await.column("task_id"), ids, "not by the name of the state");
    let page = world.get("/v1/tasks?status=CANCELLED&limit=2").await;
    assert_eq!(page.column("task_id").len(), 2, "filters come before the limit");
}

#[tokio::test]
async fn refusals_have_their_codes() {
    let world = World::new();
    for bad in ["status=RUNING", "status=RUNNING,,x", "repo=nonsense", "next_token=eyJ9", "sort=age"] {
        let refused = world.get(&format!("/v1/tasks?{bad}")).await;
        has_headers(&refused);
        refused.error(400, "VALIDATION_ERROR");
    }
    for _ in 0..2 {
        world.submitted("x").await;
    }
    for (limit, rows) in [("0", 2), ("x", 2), ("1", 1), ("1000", 2)] {
        let page = world.get(&format!("/v1/tasks?limit={limit}")).await;
        assert_eq!(page.column("task_id").len(), rows, "a limit is never an error: {limit}");
    }
    wants_a_key(&world, axum::http::Method::GET, "/v1/tasks").await;
}
