//! How many requests one caller may make.

use std::time::Duration;

use axum::http::Method;
use serde_json::json;
use server::api::Settings;
use server::rate::{Rate, Rates};
use store::Store;

use crate::support::*;

const ANN: &str = "test/member/ann";

fn limited(rates: Rates) -> World {
    World::with(Store::in_memory(), Settings { rates, ..settings() })
}

/// D-022: one limit for everybody.
#[tokio::test]
async fn too_many_requests_are_told_when_to_come_again() {
    let world = limited(Rates { read: Rate { per_minute: 30, burst: 3 }, ..Rates::off() });
    for _ in 0..3 {
        world.get_as(ANN, "/v1/tasks").await.data(200);
    }
    let slow = world.get_as(ANN, "/v1/tasks").await;
    let message = slow.error(429, "RATE_LIMIT_EXCEEDED");
    assert!(message.contains("try again in 2 s"), "{message}");
    assert_eq!(slow.headers["retry-after"], "2");
    world.clock.advance(Duration::from_millis(1_500));
    assert_eq!(world.get_as(ANN, "/v1/tasks").await.headers["retry-after"], "1", "never 0, never too early");
    world.clock.advance(Duration::from_millis(500));
    world.get_as(ANN, "/v1/tasks").await.data(200);
    world.get_as(ANN, "/v1/tasks").await.error(429, "RATE_LIMIT_EXCEEDED");
}

/// D-022: one limit for everybody.
#[tokio::test]
async fn each_caller_and_each_kind_of_route_has_its_own_bucket() {
    let one = Rate { per_minute: 1, burst: 1 };
    let world = limited(Rates { read: one, write: one, manage: one, ..Rates::off() });
    let body = || Some(json!({ "name": "x", "scopes": ["tasks:read"] }));
    let key = world.call_as(ANN, Method::POST, "/v1/api-keys", body()).await.data(201);
    world.call_as(ANN, Method::POST, "/v1/api-keys", body()).await.error(429, "RATE_LIMIT_EXCEEDED");
    world.get_as(ANN, "/v1/tasks").await.data(200);
    // A key is its user: making many does not give more.
    let key = key["key"].as_str().unwrap();
    world.get_as(key, "/v1/tasks").await.error(429, "RATE_LIMIT_EXCEEDED");
    world.get_as("test/member/bob", "/v1/tasks").await.data(200);
    let task = Some(json!({ "repo": "octo/cat", "task_description": "fix it" }));
    world.call_as(ANN, Method::POST, "/v1/tasks", task.clone()).await.data(201);
    world.call_as(ANN, Method::POST, "/v1/tasks", task).await.error(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(world.get_as(ANN, "/v1/health").await.status, 200, "what is open is not limited");
}

#[tokio::test]
async fn the_owners_key_is_not_limited_and_a_limit_of_nothing_is_none() {
    let one = Rate { per_minute: 1, burst: 1 };
    let world = limited(Rates { read: one, ..Rates::off() });
    for _ in 0..50 {
        world.get("/v1/tasks").await.data(200);
    }
    let off = limited(Rates::off());
    for _ in 0..50 {
        off.get_as(ANN, "/v1/tasks").await.data(200);
    }
}

#[tokio::test]
async fn what_is_refused_for_its_scope_counts_too() {
    let one = Rate { per_minute: 1, burst: 1 };
    let world = limited(Rates { write: one, ..Rates::off() });
    let viewer = "test/viewer/vic";
    world.call_as(viewer, Method::POST, "/v1/tasks", None).await.error(403, "FORBIDDEN");
    world.call_as(viewer, Method::POST, "/v1/tasks", None).await.error(429, "RATE_LIMIT_EXCEEDED");
}
