//! `POST /v1/tasks/{id}/pause`, `/resume` and `/retry`.

use std::time::Duration;

use axum::http::Method;
use domain::{Attempt, TaskId};
use orchestrator::report::Heard;
use serde_json::{Value, json};

use crate::support::*;

async fn post(world: &World, id: impl std::fmt::Display, what: &str) -> Answer {
    world.call(Method::POST, &format!("/v1/tasks/{id}/{what}"), None).await
}

async fn event(world: &World, id: TaskId, kind: &str) -> Value {
    let events = world.get(&format!("/v1/tasks/{id}/events?limit=100")).await.data(200);
    let found = events.as_array().unwrap().iter().rfind(|e| e["event_type"] == kind).cloned();
    found.unwrap_or_else(|| panic!("no {kind} in {events}"))["metadata"].clone()
}

#[tokio::test]
async fn a_paused_task_saves_its_work_gives_everything_back_and_goes_on_from_it() {
    let world = World::new();
    let source = source().await;
    let id = world.running(&source, "x").await;
    world.says(id, "I look at the parser").await;
    let asked = post(&world, id, "pause").await.data(202);
    assert_eq!((&asked["status"], &asked["leaving"]), (&json!("RUNNING"), &json!("pause")));
    assert_eq!(post(&world, id, "pause").await.data(202), asked, "repeating it is harmless");
    let message = post(&world, id, "resume").await.error(409, "TASK_NOT_PAUSED");
    assert!(message.contains("still saves its work"), "{message}");
    let head = world.pushed(&source, id).await;
    world.orchestrator.box_left(id, Attempt(1)).await.unwrap();
    world.drive(id).await;
    let task = world.get(&format!("/v1/tasks/{id}")).await.data(200);
    assert_eq!((&task["status"], &task["queue_reason"]), (&json!("QUEUED"), &json!("paused")));
    assert_eq!((&task["head_sha"], &task["leaving"]), (&json!(head), &Value::Null));
    assert_eq!(event(&world, id, "task_parked").await["kept_on"], "server");
    let store = world.orchestrator.store();
    assert!(store.slot_list().await.unwrap().is_empty(), "the slot is free");
    assert_eq!(store.obligation_list().await.unwrap().len(), 1, "the box is to be stopped");
    assert!(!world.orchestrator.box_is_current(id, Attempt(1), "i1").await.unwrap());

    // A night later.
    world.clock.advance(Duration::from_secs(100_000));
    world.drive(id).await;
    assert_eq!(world.task(id).await.status().as_str(), "QUEUED", "only a person ends it");
    let resumed = post(&world, id, "resume").await.data(202);
    assert_eq!(
        (&resumed["status"], &resumed["queue_reason"]),
        (&json!("QUEUED"), &json!("concurrency_limit"))
    );
    world.drive(id).await;
    let task = world.task(id).await;
    assert_eq!((task.status().as_str(), task.attempt), ("HYDRATING", Attempt(2)), "{:?}", task.state);
    assert_eq!(event(&world, id, "task_resumed").await["parked_for_s"], 100_000);
    let Heard::Yes(work) = world.orchestrator.box_attached(id, Attempt(2), "i2").await.unwrap() else {
        panic!("it is the current attempt");
    };
    let earlier = work.earlier.unwrap();
    assert!(earlier.contains("stopped before its end") && earlier.contains("It took 1 turns."), "{earlier}");
    world.orchestrator.box_started(id, Attempt(2), None).await.unwrap();
    world.drive(id).await;
    assert_eq!(
        world.task(id).await.status().as_str(),
        "RUNNING",
        "the time it waited is not of its lifetime"
    );
}

#[tokio::test]
async fn a_box_that_does_not_answer_is_not_waited_for_for_ever() {
    let world = World::new();
    let source = source().await;
    let id = world.running(&source, "x").await;
    post(&world, id, "pause").await.data(202);
    world.drive(id).await;
    assert_eq!(world.task(id).await.status().as_str(), "RUNNING");
    world.clock.advance(domain::limit::PARK_GRACE);
    world.drive(id).await;
    assert_eq!(world.task(id).await.status().as_str(), "QUEUED");
    assert!(
        event(&world, id, "task_parked").await.get("head_sha").is_none(),
        "nothing is claimed to be saved"
    );
}

#[tokio::test]
async fn what_has_no_agent_is_paused_at_once_and_what_has_ended_is_not() {
    let world = World::new();
    let id = world.submitted("x").await;
    let paused = post(&world, id, "pause").await.data(202);
    assert_eq!((&paused["status"], &paused["queue_reason"]), (&json!("QUEUED"), &json!("paused")));
    assert_eq!(post(&world, id, "pause").await.data(202), paused);
    world.cancel(id).await;
    post(&world, id, "pause").await.error(409, "TASK_ALREADY_TERMINAL");
    post(&world, id, "resume").await.error(409, "TASK_ALREADY_TERMINAL");
    let running = world.submitted("y").await;
    post(&world, running, "resume").await.error(409, "TASK_NOT_PAUSED");
    let theirs = world.submitted_by("somebody", repo(), "x").await;
    for what in ["pause", "resume", "retry"] {
        let path = format!("/v1/tasks/{theirs}/{what}");
        world.call_as(ANN, Method::POST, &path, None).await.error(404, "TASK_NOT_FOUND");
        post(&world, "nonsense", what).await.error(404, "TASK_NOT_FOUND");
    }
}

#[tokio::test]
async fn a_usage_limit_parks_the_task_until_its_reset_and_it_goes_on_by_itself() {
    let world = World::new();
    let source = source().await;
    let id = world.running(&source, "x").await;
    let until = domain::transition::after(world.clock.now(), Duration::from_secs(7_200));
    assert!(!world.orchestrator.usage_limited(id, Attempt(2), until).await.unwrap(), "another attempt's");
    assert!(world.orchestrator.usage_limited(id, Attempt(1), until).await.unwrap());
    world.orchestrator.box_left(id, Attempt(1)).await.unwrap();
    world.drive(id).await;
    let task = world.get(&format!("/v1/tasks/{id}")).await.data(200);
    assert_eq!((&task["status"], &task["queue_reason"]), (&json!("QUEUED"), &json!("usage_limit")));
    assert_eq!(task["not_before"], server::api::wire::time(until));
    assert_eq!(event(&world, id, "task_parked").await["why"], "usage_limit");
    world.drive(id).await;
    assert_eq!(world.task(id).await.status().as_str(), "QUEUED", "its time has not come");
    world.clock.advance(Duration::from_secs(7_200));
    world.drive(id).await;
    let task = world.task(id).await;
    assert_eq!((task.status().as_str(), task.attempt), ("HYDRATING", Attempt(2)));
    assert_eq!(event(&world, id, "task_resumed").await["after"], "usage_limit");
}

#[tokio::test]
async fn a_retry_is_a_new_task_that_knows_what_the_old_one_learned() {
    let world = World::new();
    let source = source().await;
    let old = world.running(&source, "mend the parser").await;
    post(&world, old, "retry").await.error(409, "TASK_NOT_TERMINAL");
    world.says(old, "the lexer is at fault").await;
    let failure = domain::Failure::new(domain::FailureCode::InternalError, "3 tests failed");
    let fail = domain::Command::Fail { failure, results: None };
    let _ = world.orchestrator.command(old, fail).await.unwrap();
    let new = post(&world, old, "retry").await.data(201);
    assert_eq!((&new["status"], &new["retry_of"]), (&json!("SUBMITTED"), &json!(old.to_string())));
    assert_eq!(new["task_description"], "mend the parser");
    let id: TaskId = new["task_id"].as_str().unwrap().parse().unwrap();
    assert_ne!(world.task(id).await.branch, world.task(old).await.branch);
    assert_eq!(event(&world, id, "task_created").await["retry_of"], old.to_string());
    world.drive(id).await;
    let Heard::Yes(work) = world.orchestrator.box_attached(id, Attempt(1), "i1").await.unwrap() else {
        panic!("it has a box");
    };
    let earlier = work.earlier.unwrap();
    assert!(earlier.contains("ended FAILED") && earlier.contains("3 tests failed"), "{earlier}");
}
