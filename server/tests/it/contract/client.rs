//! What ABCA's own client needs of `/v1/webhooks`: it signs in the plain form only, and cannot ask for it.

use axum::body::Body;
use axum::http::{Method, Request};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use server::api::Settings;
use sha2::Sha256;
use store::{Signature, Store};

use super::*;
use crate::support::*;

const HOOKS: &str = "/v1/webhooks";
const CREATED: &[&str] = &["webhook_id", "name", "secret", "created_at"];
const CREATED_OURS: &[&str] = &["webhook_url", "signature", "previous_secret_until"];

/// A server that is set up for ABCA's clients.
fn plain() -> World {
    World::with(Store::in_memory(), Settings { webhook_signature: Signature::Plain, ..settings() })
}

/// `X-Webhook-Signature`: the secret is the key as it is written.
fn signature(secret: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

fn delivery(id: &str, signature: &str, body: &str) -> Request<Body> {
    Request::post(format!("{HOOKS}/tasks"))
        .header("content-type", "application/json")
        .header("x-webhook-id", id)
        .header("x-webhook-signature", signature)
        .body(Body::from(body.to_owned()))
        .unwrap()
}

#[tokio::test]
async fn a_name_alone_makes_a_webhook_that_abcas_client_can_sign_for_where_the_server_says_so() {
    let world = plain();
    let made = world.call(Method::POST, HOOKS, Some(json!({ "name": "My CI" }))).await;
    has_headers(&made);
    let made = made.data(201);
    has_exactly(&made, CREATED, CREATED_OURS);
    let (id, secret) = (made["webhook_id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    assert!(secret.len() == 64 && secret.bytes().all(|b| b.is_ascii_hexdigit()), "{secret}");

    let body = json!({ "repo": "octo/cat", "task_description": "a", "workflow_ref": "coding/new-task-v1" });
    let body = body.to_string();
    let answer = world.send(delivery(id, &signature(secret, &body), &body)).await;
    has_headers(&answer);
    let task = answer.data(201);
    has_exactly(&task, DETAIL, DETAIL_OURS);
    assert_eq!(task["channel_source"], "webhook");
    for wrong in [signature("x", &body), signature(secret, "{}"), "sha256=00".into(), String::new()] {
        let answer = world.send(delivery(id, &wrong, &body)).await;
        has_headers(&answer);
        answer.error(401, "UNAUTHORIZED");
    }
    let asked = json!({ "name": "ours", "signature": "strict" });
    let strict = world.call(Method::POST, HOOKS, Some(asked)).await.data(201);
    assert!(strict["secret"].as_str().unwrap().starts_with("whsec_"), "whoever asks has their way");
}
