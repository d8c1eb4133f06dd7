//! `DELETE /v1/tasks/{id}`.

use axum::http::Method;
use serde_json::json;

use crate::support::*;

/// D-056: a cancel overwrote an end.
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

/// D-053: a cancel left its compute running.
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

#[tokio::test]
async fn a_box_saves_its_work_and_the_event_says_where_it_is() {
    let world = World::with_policy(|p| p.cancel_grace = std::time::Duration::from_secs(60));
    let source = source().await;
    let id = world.running(&source, "x").await;
    let branch = world.task(id).await.branch;
    let path = format!("/v1/tasks/{id}");
    let save = async {
        while world.task(id).await.leaving.is_none() {
            tokio::task::yield_now().await;
        }
        let asked = world.get(&path).await.data(200);
        assert_eq!((&asked["status"], &asked["leaving"]), (&json!("RUNNING"), &json!("cancel")));
        let head = world.pushed(&source, id).await;
        world.orchestrator.box_left(id, domain::Attempt(1)).await.unwrap();
        world.drive(id).await;
        head
    };
    let (first, second, head) = within(async {
        tokio::join!(world.call(Method::DELETE, &path, None), world.call(Method::DELETE, &path, None), save)
    })
    .await;
    assert_eq!(first.data(200), second.data(200), "whoever asks again meanwhile gets the same answer");
    let events = world.get(&format!("{path}/events")).await.data(200);
    let last = events.as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["event_type"], "task_cancelled");
    assert_eq!((&last["metadata"]["branch"], &last["metadata"]["head_sha"]), (&json!(branch), &json!(head)));
    assert_eq!((&last["metadata"]["kept_on"], &last["metadata"]["commits"]), (&json!("forge"), &json!(1)));
    assert_eq!(world.get(&path).await.data(200)["head_sha"], head);
    let duties = world.orchestrator.store().obligation_list().await.unwrap();
    assert_eq!(duties.len(), 1, "and the box is to be stopped");
}

#[tokio::test]
async fn every_state_can_be_cancelled() {
    let world = World::new();
    let source = source().await;
    let cancelled = async |id: domain::TaskId| {
        let from = world.task(id).await.status();
        let answer = world.call(Method::DELETE, &format!("/v1/tasks/{id}"), None).await.data(200);
        assert_eq!(answer["status"], "CANCELLED", "{from}");
        assert_eq!(world.task(id).await.status(), domain::Status::Cancelled, "{from}");
        from.to_string()
    };
    let mut seen = vec![cancelled(world.submitted("x").await).await];
    let paused = world.submitted("x").await;
    world.call(Method::POST, &format!("/v1/tasks/{paused}/pause"), None).await.data(202);
    seen.push(cancelled(paused).await);
    world.forge.add_repo(repo(), source.path());
    let booting = world.submitted("x").await;
    world.drive(booting).await;
    seen.push(cancelled(booting).await);
    seen.push(cancelled(world.running(&source, "x").await).await);
    let waits = world.running(&source, "x").await;
    let attempt = world.task(waits).await.attempt;
    let until = jiff::Timestamp::from_second(1_800_000_000).unwrap();
    let gate = domain::Command::OpenGate { attempt, request_id: "q".into(), until };
    let _ = world.orchestrator.command(waits, gate).await.unwrap();
    seen.push(cancelled(waits).await);
    let reported = world.running(&source, "x").await;
    let lost = domain::report::Report::lost(domain::Failure::new(domain::FailureCode::InternalError, "x"));
    world.orchestrator.box_reported(reported, attempt, lost).await.unwrap();
    seen.push(cancelled(reported).await);
    assert_eq!(seen, ["SUBMITTED", "QUEUED", "HYDRATING", "RUNNING", "AWAITING_APPROVAL", "FINALIZING"]);
}
