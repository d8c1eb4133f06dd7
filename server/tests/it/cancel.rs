//! `DELETE /v1/tasks/{id}`.

use axum::http::Method;
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn cancelling_twice_gives_the_same_answer_and_one_event() {
    let world = World::new();
    let id = world.submitted("fix it").await;
    let path = format!("/v1/tasks/{id}");
    let first = world.call(Method::DELETE, &path, None).await.data(200);
    assert_eq!(
        first,
        json!({ "task_id": id.to_string(), "status": "CANCELLED", "cancelled_at": "2023-11-14T22:13:20.010Z" })
    );
    world.clock.advance(std::time::Duration::from_secs(9));
    assert_eq!(world.call(Method::DELETE, &path, None).await.data(200), first);
    let kinds = world.get(&format!("{path}/events")).await.column("event_type");
    assert_eq!(kinds.iter().filter(|k| *k == "task_cancelled").count(), 1, "defect 14: {kinds:?}");
    assert_eq!(kinds.last().unwrap(), "task_cancelled");
    let task = world.get(&path).await.data(200);
    assert_eq!((&task["status"], &task["completed_at"]), (&json!("CANCELLED"), &first["cancelled_at"]));
}

#[tokio::test]
async fn a_task_that_ended_otherwise_is_a_conflict() {
    let world = World::new();
    let failed = world.submitted("x").await;
    world.drive(failed).await;
    let message = world
        .call(Method::DELETE, &format!("/v1/tasks/{failed}"), None)
        .await
        .error(409, "TASK_ALREADY_TERMINAL");
    assert!(message.contains("FAILED"), "{message}");
    let source = source().await;
    let completed = world.running(&source, "y").await;
    world.completed(&source, completed).await;
    let answer = world.call(Method::DELETE, &format!("/v1/tasks/{completed}"), None).await;
    assert!(answer.error(409, "TASK_ALREADY_TERMINAL").contains("COMPLETED"));
}

#[tokio::test]
async fn defect_2_a_running_box_is_to_be_stopped() {
    let world = World::new();
    let source = source().await;
    let id = world.running(&source, "x").await;
    world.call(Method::DELETE, &format!("/v1/tasks/{id}"), None).await.data(200);
    let duties = world.orchestrator.store().obligation_list().await.unwrap();
    assert_eq!(
        duties.iter().filter(|d| d.task == id).count(),
        1,
        "one stop is owed, and stored with the change"
    );
    assert!(!world.orchestrator.box_is_current(id, domain::Attempt(1), "i1").await.unwrap());
}
