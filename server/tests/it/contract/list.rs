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
