//! `GET /v1/audit`: who did what.

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};
use server::api::Settings;
use server::rate::{Rate, Rates};
use server::webhook::Secret;
use store::Store;
use tokio_util::sync::CancellationToken;

use crate::support::*;

const ANN: &str = "test/member/ann";
const AUDIT: &str = "/v1/audit";

/// Actor, action and outcome of each line, newest first; logins are told apart (`login.rs`).
async fn told(world: &World, query: &str) -> Vec<String> {
    let lines = world.get(&format!("{AUDIT}?{query}")).await.data(200);
    let line = |line: &Value| {
        let text = |field: &str| line[field].as_str().unwrap_or("-").to_owned();
        format!("{} {} {}", text("actor"), text("action"), text("outcome"))
    };
    let deed = |line: &&Value| !line["action"].as_str().unwrap().starts_with("login.");
    lines.as_array().unwrap().iter().filter(deed).map(line).collect()
}

/// D-011: refused submissions left no trace.
#[tokio::test]
async fn everything_that_is_done_or_refused_has_a_line() {
    let world = World::new();
    let task = world
        .call_as(ANN, Method::POST, "/v1/tasks", Some(json!({ "repo": "octo/cat", "task_description": "x" })))
        .await
        .data(201);
    let id = task["task_id"].as_str().unwrap();
    let path = format!("/v1/tasks/{id}");
    world
        .call_as("test/member/eve", Method::DELETE, &path.to_lowercase(), None)
        .await
        .error(404, "TASK_NOT_FOUND");
    world.call_as("test/viewer/vic", Method::DELETE, &path, None).await.error(403, "FORBIDDEN");
    world.call_as(ANN, Method::DELETE, &path, None).await.data(200);
    world.call_as(ANN, Method::POST, "/v1/tasks", Some(json!({}))).await.error(400, "VALIDATION_ERROR");
    // Who is not known, and who only looks, leaves none but of the login.
    world.call_as("nobody", Method::DELETE, &path, None).await.error(401, "UNAUTHORIZED");
    world.get_as(ANN, &path).await.data(200);
    let all = [
        "ann task.create refused",
        "ann task.cancel done",
        "vic task.cancel refused",
        "eve task.cancel refused",
        "ann task.create done",
    ];
    assert_eq!(told(&world, "").await, all);
    assert_eq!(told(&world, "actor=ann&action=task.cancel").await, ["ann task.cancel done"]);
    assert_eq!(told(&world, &format!("object={}", id.to_lowercase())).await, all[1..]);
    let line = world.get(&format!("{AUDIT}?action=task.cancel&limit=1")).await.data(200)[0].clone();
    insta::assert_json_snapshot!("audit_line", line, {
        ".audit_id" => "[audit]", ".request_id" => "[request]", ".object" => "[task]"
    });
    assert_eq!(line["object"], id);
}

#[tokio::test]
async fn keys_and_deliveries_say_which_one_it_was() {
    let world = World::new();
    let made = world
        .call(
            Method::POST,
            "/v1/api-keys",
            Some(json!({ "name": "x", "scopes": ["tasks:create", "webhooks:manage"] })),
        )
        .await
        .data(201);
    let (id, key) = (made["key_id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let hook = world.call_as(key, Method::POST, "/v1/webhooks", Some(json!({ "name": "h" }))).await.data(201);
    let (hook_id, secret) = (hook["webhook_id"].as_str().unwrap(), hook["secret"].as_str().unwrap());
    let body = json!({ "repo": "octo/cat", "task_description": "x" }).to_string();
    let mut delivery = axum::http::Request::post(format!("/v1/webhooks/tasks?webhook_id={hook_id}"));
    for (name, value) in
        Secret::read(secret).unwrap().sign("d1", world.orchestrator.now().as_second(), body.as_bytes())
    {
        delivery = delivery.header(name, value);
    }
    let task = world.send(delivery.body(body.into()).unwrap()).await.data(201);
    let answer = world.get(AUDIT).await;
    let lines = answer.data(200);
    let field = |name: &str| lines.as_array().unwrap().iter().map(|l| l[name].clone()).collect::<Vec<_>>();
    assert_eq!(field("action"), ["webhook.deliver", "webhook.create", "login.accept", "api_key.create"]);
    assert_eq!(field("authenticated_by"), ["webhook", "api_key", "api_key", "owner_key"]);
    assert_eq!(field("credential"), [json!(hook_id), json!(id), json!(id), Value::Null]);
    assert_eq!(field("object"), [task["task_id"].clone(), json!(hook_id), Value::Null, json!(id)]);
    let text = answer.text();
    assert!(!text.contains(&key[32..]) && !text.contains(&secret[6..]), "no secret is in the log");
}

#[tokio::test]
async fn only_owners_read_it_in_full_pages_with_signed_tokens() {
    let world = World::new();
    for _ in 0..5 {
        world.call_as(ANN, Method::POST, "/v1/tasks", Some(json!({}))).await.error(400, "VALIDATION_ERROR");
        world.clock.advance(Duration::from_millis(2));
    }
    for who in [ANN, "test/viewer/ann"] {
        world.get_as(who, AUDIT).await.error(403, "FORBIDDEN");
    }
    let first = world.get(&format!("{AUDIT}?limit=3")).await;
    let token = first.next_token().unwrap();
    let second = world.get(&format!("{AUDIT}?limit=3&next_token={token}")).await;
    let mut ids = [first.column("audit_id"), second.column("audit_id")].concat();
    // Five deeds, and that she came in.
    assert_eq!((ids.len(), second.next_token()), (6, None));
    ids.dedup();
    assert_eq!(ids.len(), 6);
    for query in ["next_token=x".into(), format!("actor=ann&next_token={token}"), "who=me".to_owned()] {
        world.get(&format!("{AUDIT}?{query}")).await.error(400, "VALIDATION_ERROR");
    }
    world.get_as("test/owner/zoe", AUDIT).await.data(200);
}

#[tokio::test]
async fn a_flood_does_not_fill_it() {
    let one = Rate { per_minute: 1, burst: 1 };
    let rates = Rates { write: one, ..Rates::off() };
    let world = World::with(Store::in_memory(), Settings { rates, ..settings() });
    for _ in 0..20 {
        world.call_as(ANN, Method::POST, "/v1/tasks", Some(json!({}))).await;
    }
    assert_eq!(told(&world, "").await.len(), 1);
}

#[tokio::test]
async fn lines_that_wait_are_stored_when_the_server_stops() {
    let world = World::new();
    world.call_as(ANN, Method::POST, "/v1/tasks", Some(json!({}))).await.error(400, "VALIDATION_ERROR");
    let store = world.orchestrator.store();
    let all = || store::AuditFilter { limit: 10, ..Default::default() };
    assert!(store.audit_list(all()).await.unwrap().is_empty(), "a task's line waits for the writer");
    let stop = CancellationToken::new();
    stop.cancel();
    within(world.app.trail().keep(store, stop)).await;
    // The deed, and that she came in.
    assert_eq!(store.audit_list(all()).await.unwrap().len(), 2);
    // A line about a key is stored before its answer.
    world.call_as(ANN, Method::POST, "/v1/api-keys", Some(json!({ "name": "x" }))).await.data(201);
    assert_eq!(store.audit_list(all()).await.unwrap().len(), 3);
}
