//! `/v1/admin`.

use std::time::Duration;

use axum::http::Method;
use domain::TaskId;
use serde_json::{Value, json};

use crate::support::*;

const PURGE: &str = "/v1/admin/purge";
const DAY: Duration = Duration::from_secs(86_400);

async fn purge(world: &World, body: Value) -> Answer {
    world.call(Method::POST, PURGE, Some(body)).await
}

/// A task that has ended, with an artifact.
async fn ended(world: &World, user: &str) -> TaskId {
    let id = world.submitted_by(user, repo(), "x").await;
    world.cancel(id).await;
    let key = format!("artifacts/{id}-1/log.txt").parse().unwrap();
    world.orchestrator.parts().objects.put(&key, objects::body("log")).await.unwrap();
    id
}

async fn artifacts(world: &World) -> usize {
    world.orchestrator.parts().objects.list("artifacts/").await.unwrap().len()
}

#[tokio::test]
async fn what_ended_before_a_time_is_counted_and_removed() {
    let world = World::new();
    let old = ended(&world, "ann").await;
    world.clock.advance(DAY);
    let newer = ended(&world, "bob").await;
    let live = world.submitted("y").await;
    world.clock.advance(DAY);
    let before = "2023-11-15T12:00:00Z";
    let answer = purge(&world, json!({ "ended_before": before, "dry_run": true })).await.data(200);
    assert_eq!(answer, json!({ "tasks": 1, "objects": 1, "user_erased": false, "dry_run": true }));
    world.get(&format!("/v1/tasks/{old}")).await.data(200);
    let answer = purge(&world, json!({ "ended_before": before })).await.data(200);
    assert_eq!(answer, json!({ "tasks": 1, "objects": 1, "user_erased": false, "dry_run": false }));
    world.get(&format!("/v1/tasks/{old}")).await.error(404, "TASK_NOT_FOUND");
    world.get(&format!("/v1/tasks/{newer}")).await.data(200);
    assert_eq!(artifacts(&world).await, 1);
    // A time to come is no way to remove what lives.
    let all = purge(&world, json!({ "ended_before": "2100-01-01T00:00:00Z" })).await.data(200);
    assert_eq!(all["tasks"], 1);
    world.get(&format!("/v1/tasks/{live}")).await.data(200);
}

#[tokio::test]
async fn a_user_is_erased_once_their_tasks_have_ended() {
    let world = World::new();
    ended(&world, "ann").await;
    let live = world.submitted_by("ann", repo(), "x").await;
    ended(&world, "bob").await;
    world.clock.advance(DAY);
    let erase = json!({ "user": "ann", "erase_user": true });
    let message = purge(&world, erase.clone()).await.error(409, "TASK_NOT_TERMINAL");
    assert!(message.contains("ann has tasks that have not ended"), "{message}");
    world.cancel(live).await;
    world.clock.advance(DAY);
    assert_eq!(purge(&world, erase).await.data(200)["user_erased"], true);
    assert_eq!(artifacts(&world).await, 1, "bob keeps his");
}

/// D-041: what was stranded never expired.
#[tokio::test]
async fn what_is_over_goes_by_itself() {
    let world = World::new();
    let old = ended(&world, "ann").await;
    world.clock.advance(DAY * 89);
    world.orchestrator.sweep_expired().await;
    world.get(&format!("/v1/tasks/{old}")).await.data(200);
    world.clock.advance(DAY * 2);
    world.orchestrator.sweep_expired().await;
    world.get(&format!("/v1/tasks/{old}")).await.error(404, "TASK_NOT_FOUND");
    assert_eq!(artifacts(&world).await, 0);
}

#[tokio::test]
async fn what_cannot_be_purged_is_told_by_its_field() {
    let world = World::new();
    for (body, words) in [
        (json!({}), "ended_before or user is required"),
        (json!({ "user": " " }), "ended_before or user is required"),
        (json!({ "ended_before": "yesterday" }), "ended_before must be a time"),
        (
            json!({ "ended_before": "2023-11-15T12:00:00Z", "erase_user": true }),
            "leave it out with erase_user",
        ),
        (json!({ "user": 7 }), "user"),
        (json!({ "user": "x".repeat(257) }), "user may have 256 characters"),
        (json!([null, "ann"]), "it must be a JSON object, and is an array"),
        (json!({ "user": "ann", "colour": 1 }), "colour"),
    ] {
        let message = purge(&world, body.clone()).await.error(400, "VALIDATION_ERROR");
        assert!(message.contains(words), "{body}: {message}");
    }
}

#[tokio::test]
async fn operators_see_what_is_owed_and_which_boxes_live() {
    let world = World::new();
    let source = source().await;
    let task = world.running(&source, "fix it").await;
    let live = world.get("/v1/admin/sessions").await.data(200);
    assert_eq!(
        (live[0]["task_id"].clone(), live[0]["wanted"].clone()),
        (json!(task.to_string()), json!(true))
    );
    assert_eq!((live[0]["status"].clone(), live[0]["attempt"].clone()), (json!("RUNNING"), json!(1)));
    assert_eq!(world.get("/v1/admin/obligations").await.data(200), json!([]));
    world.cancel(task).await;
    let owed = world.get("/v1/admin/obligations").await.data(200);
    assert_eq!(
        (owed[0]["duty"].clone(), owed[0]["task_id"].clone(), owed[0]["alarm"].clone()),
        (json!("stop_session"), json!(task.to_string()), json!(false))
    );
    assert_eq!(world.get("/v1/admin/sessions").await.data(200)[0]["wanted"], false);
    // What is owed keeps a task from being purged.
    world.clock.advance(DAY);
    let purged = purge(&world, json!({ "ended_before": "2100-01-01T00:00:00Z" })).await.data(200);
    assert_eq!(purged["tasks"], 0);
}

#[tokio::test]
async fn members_may_not() {
    let world = World::new();
    for path in ["/v1/admin/obligations", "/v1/admin/sessions"] {
        world.get_as(ANN, path).await.error(403, "FORBIDDEN");
    }
    let body = json!({ "user": "ann" });
    world.call_as(ANN, Method::POST, PURGE, Some(body)).await.error(403, "FORBIDDEN");
}
