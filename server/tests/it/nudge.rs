//! `POST /v1/tasks/{id}/nudge`, ABCA's contract.

use std::time::Duration;

use axum::http::Method;
use serde_json::json;

use crate::support::*;

async fn nudge(world: &World, id: impl std::fmt::Display, body: serde_json::Value) -> Answer {
    world.call(Method::POST, &format!("/v1/tasks/{id}/nudge"), Some(body)).await
}

#[tokio::test]
async fn a_nudge_is_accepted_and_waits_for_the_agent() {
    let world = World::new();
    let source = source().await;
    let id = world.running(&source, "x").await;
    let data = nudge(&world, id, json!({ "message": "  use tabs\n" })).await.data(202);
    assert_eq!(data.as_object().unwrap().len(), 3, "{data}");
    assert_eq!(
        (&data["task_id"], &data["submitted_at"]),
        (&json!(id.to_string()), &json!("2023-11-14T22:13:20.010Z"))
    );
    let waiting = world.orchestrator.waiting(id).await.unwrap().nudges;
    assert_eq!((waiting.len(), waiting[0].text.as_str()), (1, "use tabs"), "trimmed");
    assert_eq!(data["nudge_id"], waiting[0].id.to_string());
}

#[tokio::test]
async fn a_task_that_has_not_begun_takes_it_too() {
    let world = World::new();
    let id = world.submitted("x").await;
    nudge(&world, id, json!({ "message": "a" })).await.data(202);
    assert_eq!(world.orchestrator.waiting(id).await.unwrap().nudges.len(), 1);
}

#[tokio::test]
async fn bounds_are_told_by_field() {
    let world = World::new();
    let id = world.submitted("x").await;
    let long = "ñ".repeat(2_000);
    nudge(&world, id, json!({ "message": format!("  {long}  ") })).await.data(202);
    let message =
        nudge(&world, id, json!({ "message": format!("{long}x") })).await.error(400, "VALIDATION_ERROR");
    assert!(message.contains("message has 2001 characters, at most 2000"), "{message}");
    for body in [json!({}), json!({ "message": " \n\t" }), json!({ "message": "" })] {
        let message = nudge(&world, id, body).await.error(400, "VALIDATION_ERROR");
        assert!(message.contains("message is required"), "{message}");
    }
    for body in [
        json!({ "message": 1 }),
        json!({ "message": "a", "massage": "b" }),
        json!([]),
        json!({ "message": "a\u{0}b" }),
    ] {
        nudge(&world, id, body).await.error(400, "VALIDATION_ERROR");
    }
    assert_eq!(world.orchestrator.waiting(id).await.unwrap().nudges.len(), 1, "nothing half done");
}

#[tokio::test]
async fn what_is_not_yours_is_not_there() {
    let world = World::new();
    let theirs = world.submitted_by("somebody", repo(), "x").await;
    let path = format!("/v1/tasks/{theirs}/nudge");
    let answer = world.call_as(ANN, Method::POST, &path, Some(json!({ "message": "a" }))).await;
    assert_eq!(answer.error(404, "TASK_NOT_FOUND"), format!("there is no task {theirs}"));
    nudge(&world, "01ARZ3NDEKTSV4RRFFQ69G5FAV", json!({ "message": "a" })).await.error(404, "TASK_NOT_FOUND");
    nudge(&world, "nonsense", json!({ "message": "a" })).await.error(404, "TASK_NOT_FOUND");
    assert!(world.orchestrator.waiting(theirs).await.unwrap().nudges.is_empty());
}

#[tokio::test]
async fn a_task_that_ended_is_a_conflict() {
    let world = World::new();
    let id = world.submitted("x").await;
    world.cancel(id).await;
    let message = nudge(&world, id, json!({ "message": "a" })).await.error(409, "TASK_ALREADY_TERMINAL");
    assert!(message.contains("CANCELLED"), "{message}");
}

/// D-060: a minute's rate could be used twice.
#[tokio::test]
async fn ten_a_minute_and_then_a_time_to_come_back() {
    let world = World::new();
    let id = world.submitted("x").await;
    let other = world.submitted("y").await;
    for n in 0..10 {
        nudge(&world, id, json!({ "message": format!("{n}") })).await.data(202);
        world.clock.advance(Duration::from_secs(2));
    }
    let refused = nudge(&world, id, json!({ "message": "one more" })).await;
    refused.error(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(refused.headers["retry-after"], "40");
    nudge(&world, other, json!({ "message": "a" })).await.data(202);
    nudge(&world, id, json!({ "message": "" })).await.error(400, "VALIDATION_ERROR");
    world.clock.advance(Duration::from_secs(40));
    nudge(&world, id, json!({ "message": "one more" })).await.data(202);
    nudge(&world, id, json!({ "message": "and one" })).await.error(429, "RATE_LIMIT_EXCEEDED");
}

#[tokio::test]
async fn a_secret_in_it_is_masked_before_it_is_stored() {
    let world = World::new();
    let id = world.submitted("x").await;
    let token = format!("ghp_{}", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0fG3hJ6");
    nudge(&world, id, json!({ "message": format!("use {token}") })).await.data(202);
    let waiting = world.orchestrator.waiting(id).await.unwrap().nudges;
    assert_eq!(waiting[0].text, "use [redacted]");
}
