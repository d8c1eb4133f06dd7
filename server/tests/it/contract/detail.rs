//! `GET /v1/tasks/{id}`.

use serde_json::Value;

use super::*;
use crate::support::*;

#[tokio::test]
async fn every_field_is_there_in_every_state() {
    let world = World::new();
    let source = source().await;
    let new = world.submitted("new").await;
    let running = world.running(&source, "runs").await;
    let done = world.running(&source, "done").await;
    world.completed(&source, done).await;
    let cancelled = world.submitted("cancelled").await;
    world.cancel(cancelled).await;
    for (id, status) in
        [(new, "SUBMITTED"), (running, "RUNNING"), (done, "COMPLETED"), (cancelled, "CANCELLED")]
    {
        let answer = world.get(&format!("/v1/tasks/{id}")).await;
        has_headers(&answer);
        let task = answer.data(200);
        has_exactly(&task, DETAIL, DETAIL_OURS);
        assert_eq!(task["status"], status);
        for at in ["created_at", "updated_at"] {
            is_time(&task[at]);
        }
        for at in ["started_at", "completed_at", "queued_at"] {
            if !task[at].is_null() {
                is_time(&task[at]);
            }
        }
        assert_eq!(task["resolved_workflow"]["id"], "coding/new-task-v1");
        assert_eq!(task["resolved_workflow"]["version"], "1.0.0");
        assert!(task["trace"].is_boolean());
        assert_eq!(task["completed_at"].is_null(), matches!(status, "SUBMITTED" | "RUNNING"));
        for later in ["resolved_assets", "trace_s3_uri", "artifact_uri", "attachments", "approval_gate_count"]
        {
            assert_eq!(task[later], Value::Null, "{later} has no value before its capability exists");
        }
    }
}

#[tokio::test]
async fn a_failure_is_classified_when_it_is_read() {
    let world = World::new();
    let id = world.submitted("fix it").await;
    // The fake forge has no such repository.
    world.drive(id).await;
    let task = world.get(&format!("/v1/tasks/{id}")).await.data(200);
    let contract = ["category", "title", "description", "remedy", "retryable", "errorClass"];
    has_exactly(&task["error_classification"], &contract, &["code"]);
    assert_eq!(task["error_classification"]["category"], "auth");
    assert_eq!(task["error_classification"]["errorClass"], "service");
    assert!(task["error_message"].as_str().unwrap().starts_with("REPO_NOT_FOUND_OR_NO_ACCESS"));
}

/// D-019: numbers came back as text.
#[tokio::test]
async fn bug_1_5_numbers_are_numbers_and_never_text() {
    let world = World::new();
    let source = source().await;
    let done = world.running(&source, "done").await;
    world.completed(&source, done).await;
    let task = world.get(&format!("/v1/tasks/{done}")).await.data(200);
    for field in [
        "issue_number",
        "duration_s",
        "cost_usd",
        "max_turns",
        "max_budget_usd",
        "turns_attempted",
        "turns_completed",
        "queue_position",
        "estimated_wait_s",
        "approval_gate_count",
        "approval_gate_cap",
    ] {
        assert!(task[field].is_number() || task[field].is_null(), "{field}: {}", task[field]);
    }
    assert_eq!((&task["turns_attempted"], &task["turns_completed"]), (&3.into(), &3.into()));
}

/// D-018: 403 told that a task exists.
#[tokio::test]
async fn bug_1_5_a_strangers_task_is_a_404_and_no_oracle() {
    let world = World::new();
    let strange = world.submitted_by("somebody-else", repo(), "secret").await;
    let theirs = world.get_as(ANN, &format!("/v1/tasks/{strange}")).await;
    let nobodys = world.get_as(ANN, "/v1/tasks/01ARZ3NDEKTSV4RRFFQ69G5FAV").await;
    has_headers(&theirs);
    let same = |message: String, id: &str| message.replace(id, "ID");
    assert_eq!(
        same(theirs.error(404, "TASK_NOT_FOUND"), &strange.to_string()),
        same(nobodys.error(404, "TASK_NOT_FOUND"), "01ARZ3NDEKTSV4RRFFQ69G5FAV")
    );
}

#[tokio::test]
async fn it_wants_a_key_and_an_id() {
    let world = World::new();
    let id = world.submitted("x").await;
    wants_a_key(&world, axum::http::Method::GET, &format!("/v1/tasks/{id}")).await;
    let nonsense = world.get("/v1/tasks/nonsense").await;
    has_headers(&nonsense);
    nonsense.error(404, "TASK_NOT_FOUND");
    let lower = world.get(&format!("/v1/tasks/{}", id.to_string().to_lowercase())).await;
    assert_eq!(lower.data(200)["task_id"], id.to_string());
}
