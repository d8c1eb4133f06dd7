//! `POST /v1/webhooks/tasks`, as a CI job of ABCA's calls it.

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::json;
use server::webhook::Secret;

use super::*;
use crate::support::*;

#[tokio::test]
async fn a_signed_body_is_a_task_with_the_answers_of_a_submission() {
    let world = World::new();
    let body = Some(json!({ "name": "CI", "signature": "plain" }));
    let made = world.call_as(ANN, Method::POST, "/v1/webhooks", body).await.data(201);
    let id = made["webhook_id"].as_str().unwrap().to_owned();
    let secret = Secret::read(made["secret"].as_str().unwrap()).unwrap();
    let send = async |body: &str, key: Option<&str>, signature: Option<&str>| {
        let good = secret.sign("", 0, body.as_bytes()).remove(0).1;
        let mut request = Request::post("/v1/webhooks/tasks")
            .header("X-Webhook-Id", &id)
            .header("X-Webhook-Signature", signature.unwrap_or(&good))
            .header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        world.send(request.body(Body::from(body.to_owned())).unwrap()).await
    };
    let body = json!({ "repo": "octo/cat", "task_description": "fix it" }).to_string();
    let answer = send(&body, Some("k"), None).await;
    has_headers(&answer);
    assert!(!answer.headers.contains_key("idempotent-replay"));
    let task = answer.data(201);
    has_exactly(&task, DETAIL, DETAIL_OURS);
    assert_eq!(task["channel_source"], "webhook");
    let replay = send(&body, Some("k"), None).await;
    has_headers(&replay);
    assert_eq!(replay.headers["idempotent-replay"], "true");
    assert_eq!(replay.data(200)["task_id"], task["task_id"]);
    let other = json!({ "repo": "octo/cat", "task_description": "something else" }).to_string();
    send(&other, Some("k"), None).await.error(409, "DUPLICATE_TASK");

    for signature in ["", "sha256=", "sha256=00", "nonsense"] {
        let refused = send(&body, None, Some(signature)).await;
        has_headers(&refused);
        refused.error(401, "UNAUTHORIZED");
    }
    for bad in ["{}", "[]", "{", "{\"task_description\":1}"] {
        let refused = send(bad, None, None).await;
        has_headers(&refused);
        refused.error(400, "VALIDATION_ERROR");
    }
    let unsigned =
        Request::post("/v1/webhooks/tasks").header("X-Webhook-Id", &id).body(Body::from(body)).unwrap();
    let refused = world.send(unsigned).await;
    has_headers(&refused);
    refused.error(401, "UNAUTHORIZED");
}
