//! `POST /v1/tasks/{id}/nudge`.

use std::time::Duration;

use axum::http::Method;
use serde_json::json;

use super::*;
use crate::support::*;
/// D-061: a stranger spent the rate of a task.
#[tokio::test]
async fn a_stranger_does_not_spend_the_rate_of_a_task() {
    let world = World::new();
    let id = world.submitted("x").await;
    let path = format!("/v1/tasks/{id}/nudge");
    let message = || Some(json!({ "message": "a" }));
    for _ in 0..2 * domain::limit::NUDGES_PER_MINUTE {
        world.call_as(ANN, Method::POST, &path, message()).await.error(404, "TASK_NOT_FOUND");
    }
    for _ in 0..domain::limit::NUDGES_PER_MINUTE {
        world.call(Method::POST, &path, message()).await.data(202);
    }
}

#[tokio::test]
async fn the_answer_has_three_fields_and_refusals_their_codes() {
    let world = World::new();
    let id = world.submitted("x").await;
    let path = format!("/v1/tasks/{id}/nudge");
    let say =
        async |message: Value| world.call(Method::POST, &path, Some(json!({ "message": message }))).await;
    let answer = say(json!("use tabs")).await;
    has_headers(&answer);
    let data = answer.data(202);
    has_exactly(&data, &["task_id", "nudge_id", "submitted_at"], &[]);
    assert_eq!(data["task_id"], id.to_string());
    assert!(data["nudge_id"].as_str().unwrap().parse::<domain::NudgeId>().is_ok(), "a ULID: {data}");
    is_time(&data["submitted_at"]);

    // From both sides of each bound.
    for good in [json!("a"), json!("ñ".repeat(domain::limit::NUDGE_MAX_CHARS))] {
        say(good).await.data(202);
    }
    for bad in [
        json!(""),
        json!(" \n"),
        json!("ñ".repeat(domain::limit::NUDGE_MAX_CHARS + 1)),
        json!(1),
        json!(null),
    ] {
        let refused = say(bad).await;
        has_headers(&refused);
        refused.error(400, "VALIDATION_ERROR");
    }
    is_hidden_from_strangers(&world, Method::POST, "/v1/tasks/{id}/nudge", Some(json!({ "message": "a" })))
        .await;
    wants_a_key(&world, Method::POST, &path).await;

    for _ in 3..domain::limit::NUDGES_PER_MINUTE {
        say(json!("more")).await.data(202);
    }
    let refused = say(json!("one too many")).await;
    has_headers(&refused);
    refused.error(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(refused.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap(), 60);

    world.clock.advance(Duration::from_secs(60));
    world.cancel(id).await;
    let refused = say(json!("too late")).await;
    has_headers(&refused);
    refused.error(409, "TASK_ALREADY_TERMINAL");
}
