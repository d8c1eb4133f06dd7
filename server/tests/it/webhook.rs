//! `/v1/webhooks`, and the deliveries of webhooks.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};
use secrecy::SecretString;
use serde_json::{Value, json};
use server::api::Settings;
use server::rate::{Rate, Rates};
use server::webhook::{Secret, WebhookKey};
use store::{Signature, Store, TaskFilter};

use crate::support::*;

const HOOKS: &str = "/v1/webhooks";
const ANN: &str = "test/member/ann";

/// A webhook as its sender knows it.
struct Hook {
    id: String,
    secret: Secret,
}

async fn hook(world: &World, signature: &str) -> Hook {
    let body = json!({ "name": "CI", "signature": signature });
    let made = world.call_as(ANN, Method::POST, HOOKS, Some(body)).await.data(201);
    Hook {
        id: made["webhook_id"].as_str().unwrap().into(),
        secret: Secret::read(made["secret"].as_str().unwrap()).unwrap(),
    }
}

impl Hook {
    /// A delivery that is signed with `secret` at `at`.
    fn signed_by(&self, secret: &Secret, delivery: &str, at: i64, body: &Value) -> Request<Body> {
        let bytes = body.to_string();
        let path = format!("{HOOKS}/tasks?webhook_id={}", self.id);
        let mut request = Request::post(path).header("content-type", "application/json");
        for (name, value) in secret.sign(delivery, at, bytes.as_bytes()) {
            request = request.header(name, value);
        }
        request.body(Body::from(bytes)).unwrap()
    }

    async fn deliver(&self, world: &World, delivery: &str, body: &Value) -> Answer {
        let now = world.orchestrator.now().as_second();
        world.send(self.signed_by(&self.secret, delivery, now, body)).await
    }

    async fn revoke(&self, world: &World) -> Answer {
        world.call_as(ANN, Method::DELETE, &format!("{HOOKS}/{}", self.id), None).await
    }

    async fn rotate(&mut self, world: &World, body: Option<Value>) -> Value {
        let path = format!("{HOOKS}/{}/rotate", self.id);
        let answer = world.call_as(ANN, Method::POST, &path, body).await.data(200);
        self.secret = Secret::read(answer["secret"].as_str().unwrap()).unwrap();
        answer
    }
}

fn task() -> Value {
    json!({ "repo": "octo/cat", "task_description": "fix it" })
}

/// How many tasks there are, whoever's.
async fn tasks(world: &World) -> usize {
    let filter = TaskFilter { limit: 1_000, ..TaskFilter::default() };
    world.orchestrator.store().task_list(filter).await.unwrap().len()
}

/// D-088: a new webhook did not say its address.
#[tokio::test]
async fn defect_24_a_webhook_answers_with_its_address_and_its_secret_once() {
    let world = World::new();
    let made = world.call_as(ANN, Method::POST, HOOKS, Some(json!({ "name": "CI" }))).await.data(201);
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_") && secret.len() == 50, "{secret}");
    insta::assert_json_snapshot!("webhook_created", made, {
        ".webhook_id" => "[webhook]", ".secret" => "[secret]",
        ".webhook_url" => "https://agents.example.com/v1/webhooks/tasks?webhook_id=[webhook]"
    });
    let url = made["webhook_url"].as_str().unwrap();
    assert!(
        url.ends_with(&format!("/v1/webhooks/tasks?webhook_id={}", made["webhook_id"].as_str().unwrap()))
    );
    let list = world.get_as(ANN, HOOKS).await;
    insta::assert_json_snapshot!("webhook_listed", list.json(), {
        ".data[].webhook_id" => "[webhook]", ".data[].webhook_url" => "[url]"
    });
    assert!(!list.text().contains(secret));
    let id = made["webhook_id"].as_str().unwrap().parse().unwrap();
    let kept = world.orchestrator.store().webhook_get(id).await.unwrap().unwrap();
    assert!(!format!("{kept:?}").contains(&secret[10..]), "the database has no secret");
    let body = json!({ "name": "old CI", "signature": "plain" });
    let plain = world.call_as(ANN, Method::POST, HOOKS, Some(body)).await.data(201);
    let secret = plain["secret"].as_str().unwrap();
    assert!(secret.len() == 64 && secret.bytes().all(|b| b.is_ascii_hexdigit()), "ABCA's: {secret}");
}

#[tokio::test]
async fn a_signed_delivery_becomes_a_task_of_whoever_made_the_webhook() {
    let world = World::new();
    for signature in ["strict", "plain"] {
        let hook = hook(&world, signature).await;
        let made = hook.deliver(&world, "d-1", &task()).await.data(201);
        assert_eq!(made["channel_source"], "webhook", "{signature}");
        let id = made["task_id"].as_str().unwrap();
        assert_eq!(world.task(id.parse().unwrap()).await.user.as_str(), "ann");
        world.get_as(ANN, &format!("/v1/tasks/{id}")).await.data(200);
        let first = world.get_as(ANN, &format!("/v1/tasks/{id}/events")).await.data(200)[0].clone();
        let from = &first["metadata"]["channel_metadata"];
        assert_eq!(from["webhook_id"], hook.id.as_str());
        assert_eq!(from["source_ip"], Value::Null, "this delivery came over no connection");
        assert_eq!(from["delivery_id"], if signature == "strict" { json!("d-1") } else { Value::Null });
        assert!(from["api_request_id"].as_str().unwrap().len() == 26, "{from}");
    }
    assert_eq!(tasks(&world).await, 2);
}

#[tokio::test]
async fn abcas_client_signs_plainly_with_its_own_headers() {
    let world = World::new();
    let hook = hook(&world, "plain").await;
    let body = task().to_string();
    let signature = hook.secret.sign("", 0, body.as_bytes()).remove(0).1;
    let send = async |signature: String, key: Option<&str>| {
        let mut request = Request::post(format!("{HOOKS}/tasks"))
            .header("X-Webhook-Id", &hook.id)
            .header("X-Webhook-Signature", signature)
            .header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        world.send(request.body(Body::from(body.clone())).unwrap()).await
    };
    let made = send(signature.clone(), Some("k1")).await.data(201);
    let again = send(signature.clone(), Some("k1")).await;
    assert_eq!(again.headers["idempotent-replay"], "true");
    assert_eq!(again.data(200)["task_id"], made["task_id"]);
    send(signature.trim_start_matches("sha256=").into(), Some("k2")).await.data(201);
    send(signature, Some("not a key")).await.error(400, "VALIDATION_ERROR");
    assert_eq!(tasks(&world).await, 2);
}

/// D-087: a captured delivery could be sent for ever.
#[tokio::test]
async fn defect_9_a_strict_delivery_counts_once_and_a_retry_finds_its_task() {
    let world = World::new();
    let hook = hook(&world, "strict").await;
    let now = world.orchestrator.now().as_second();
    let captured = || hook.signed_by(&hook.secret, "d1", now, &task());
    let made = world.send(captured()).await.data(201);
    // The same bytes again, by whoever caught them.
    for _ in 0..2 {
        let message = world.send(captured()).await.error(401, "UNAUTHORIZED");
        assert!(message.contains("d1 came in before"), "{message}");
    }
    // The sender's own retry is signed anew.
    world.clock.advance(Duration::from_secs(30));
    let retry = hook.deliver(&world, "d1", &task()).await;
    assert_eq!(retry.headers["idempotent-replay"], "true");
    assert_eq!(retry.data(200)["task_id"], made["task_id"]);
    let other = json!({ "repo": "octo/cat", "task_description": "something else" });
    world.clock.advance(Duration::from_secs(1));
    hook.deliver(&world, "d1", &other).await.error(409, "DUPLICATE_TASK");
    hook.deliver(&world, "d2", &task()).await.data(201);
    assert_eq!(tasks(&world).await, 2);
}

/// D-087: a captured delivery could be sent for ever.
#[tokio::test]
async fn stale_and_future_deliveries_are_refused_from_both_sides_of_the_window() {
    let world = World::new();
    let hook = hook(&world, "strict").await;
    let now = world.orchestrator.now().as_second();
    for (n, (offset, word)) in [
        (-301, Some("301 s ago")),
        (301, Some("301 s from now")),
        (-86_400, Some("ago")),
        (-300, None),
        (300, None),
    ]
    .into_iter()
    .enumerate()
    {
        let sent = hook.signed_by(&hook.secret, &format!("d{n}"), now + offset, &task());
        let answer = world.send(sent).await;
        match word {
            Some(word) => {
                let message = answer.error(401, "UNAUTHORIZED");
                assert!(message.contains(word), "{offset}: {message}");
            }
            None => drop(answer.data(201)),
        }
    }
    assert_eq!(tasks(&world).await, 2, "what was refused made nothing");
}

#[tokio::test]
async fn what_is_not_signed_by_the_webhook_is_the_same_401() {
    let world = World::new();
    let (strict, plain) = (hook(&world, "strict").await, hook(&world, "plain").await);
    let now = world.orchestrator.now().as_second();
    let mut messages = std::collections::BTreeSet::new();
    let foreign = WebhookKey::new(SecretString::from("another server".to_owned()));
    for hook in [&strict, &plain] {
        let id = hook.id.parse().unwrap();
        let kind = hook.secret.signature();
        let forged = foreign.secret(id, 1, kind);
        let next = WebhookKey::new(SecretString::from("w".to_owned())).secret(id, 2, kind);
        for secret in [&forged, &next] {
            let answer = world.send(hook.signed_by(secret, "d1", now, &task())).await;
            messages.insert(answer.error(401, "UNAUTHORIZED"));
        }
        // An id that there is not, ours with another's secret, and the other kind of signature.
        for id in ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "x", ""] {
            let unknown = Hook { id: id.into(), secret: hook.secret.clone() };
            let answer = unknown.deliver(&world, "d1", &task()).await;
            let message = answer.error(401, "UNAUTHORIZED");
            if !id.is_empty() {
                messages.insert(message);
            }
        }
        let other = if kind == Signature::Strict { &plain } else { &strict };
        messages.insert(
            world.send(hook.signed_by(&other.secret, "d1", now, &task())).await.error(401, "UNAUTHORIZED"),
        );
    }
    assert_eq!(messages.len(), 1, "who cannot sign is told nothing of what there is: {messages:?}");
    // A blank secret signs nothing.
    let blank = Request::post(format!("{HOOKS}/tasks?webhook_id={}", plain.id))
        .header("x-webhook-signature", format!("sha256={}", hex_of_blank(&task().to_string())))
        .body(Body::from(task().to_string()))
        .unwrap();
    messages.insert(world.send(blank).await.error(401, "UNAUTHORIZED"));
    assert_eq!(messages.len(), 1);
    assert_eq!(tasks(&world).await, 0);
}

/// HMAC-SHA256 of a body under an empty key.
fn hex_of_blank(body: &str) -> String {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"").unwrap();
    mac.update(body.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

#[tokio::test]
async fn missing_doubled_and_changed_headers_are_told() {
    let world = World::new();
    let hook = hook(&world, "strict").await;
    let now = world.orchestrator.now().as_second();
    let sent = || hook.signed_by(&hook.secret, "d1", now, &task());
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let mut without = sent();
        without.headers_mut().remove(name);
        let message = world.send(without).await.error(401, "UNAUTHORIZED");
        assert!(message.contains(name), "{name}: {message}");
        let mut twice = sent();
        let value = twice.headers()[name].clone();
        twice.headers_mut().append(name, value);
        let message = world.send(twice).await.error(400, "VALIDATION_ERROR");
        assert!(message.contains(name) && message.contains("once"), "{message}");
    }
    for (name, value) in [
        ("webhook-id", "d2"),
        ("webhook-timestamp", "1699999999"),
        ("webhook-signature", "v1,AAAA"),
        ("webhook-signature", ""),
        ("webhook-timestamp", "soon"),
        ("webhook-id", "a.b"),
    ] {
        let mut changed = sent();
        changed.headers_mut().insert(name, value.parse().unwrap());
        world.send(changed).await.error(401, "UNAUTHORIZED");
    }
    let mut body = sent();
    *body.body_mut() = Body::from(task().to_string() + " ");
    world.send(body).await.error(401, "UNAUTHORIZED");
    let mut both = sent();
    both.headers_mut().insert("x-webhook-id", "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap());
    assert!(world.send(both).await.error(400, "VALIDATION_ERROR").contains("X-Webhook-Id"));
    let mut nowhere = sent();
    *nowhere.uri_mut() = format!("{HOOKS}/tasks").parse().unwrap();
    assert!(world.send(nowhere).await.error(401, "UNAUTHORIZED").contains("webhook_id"));
    // The owner's key opens nothing here: deliveries are signed.
    let keyed = request(Method::POST, &format!("{HOOKS}/tasks?webhook_id={}", hook.id), Some(task()));
    world.send(keyed).await.error(401, "UNAUTHORIZED");
    assert_eq!(tasks(&world).await, 0, "nothing half done");
    world.send(sent()).await.data(201);
}

#[tokio::test]
async fn bad_bodies_are_told_and_the_delivery_may_come_again() {
    let world = World::new();
    let hook = hook(&world, "strict").await;
    for (n, (body, word)) in [
        (json!({}), "repo"),
        (json!({ "repo": "octo/cat" }), "task_description"),
        (json!({ "repo": "../x", "task_description": "x" }), "repo"),
        (json!({ "repo": "octo/cat", "task_description": "x", "max_turns": 0 }), "max_turns"),
        (json!({ "repo": "octo/cat", "task_description": "x", "who": "me" }), "who"),
        (json!({ "repo": "octo/cat", "task_description": "x", "dry_run": "yes" }), "dry_run"),
        (json!([]), "body"),
        (json!("x"), "body"),
        (json!({ "action": "opened", "pull_request": {} }), "action"),
    ]
    .into_iter()
    .enumerate()
    {
        let message = hook.deliver(&world, &format!("d{n}"), &body).await.error(400, "VALIDATION_ERROR");
        assert!(message.contains(word), "{body}: {message}");
        // What was refused was not taken in.
        hook.deliver(&world, &format!("d{n}"), &body).await.error(400, "VALIDATION_ERROR");
    }
    let path = format!("{HOOKS}/tasks?webhook_id={}", hook.id);
    for bytes in [b"{".to_vec(), b"\xff\xfe".to_vec(), Vec::new(), b"{\"repo\":\"o/r\"".to_vec()] {
        let mut request = Request::post(&path);
        for (name, value) in hook.secret.sign("raw", world.orchestrator.now().as_second(), &bytes) {
            request = request.header(name, value);
        }
        world.send(request.body(Body::from(bytes)).unwrap()).await.error(400, "VALIDATION_ERROR");
    }
    let large = json!({ "repo": "octo/cat", "task_description": "x".repeat(5 * 1024 * 1024) });
    hook.deliver(&world, "large", &large).await.error(413, "PAYLOAD_TOO_LARGE");
    assert_eq!(tasks(&world).await, 0);
}

/// D-090: a test of a webhook made a task.
#[tokio::test]
async fn a_dry_run_checks_and_makes_nothing() {
    let world = World::new();
    for signature in ["strict", "plain"] {
        let hook = hook(&world, signature).await;
        let ping = hook.deliver(&world, "d1", &json!({ "dry_run": true })).await.data(200);
        assert_eq!(
            ping,
            json!({ "dry_run": true, "webhook_id": hook.id, "signature": signature, "task_checked": false })
        );
        let mut whole = task();
        whole["dry_run"] = json!(true);
        assert_eq!(hook.deliver(&world, "d1", &whole).await.data(200)["task_checked"], true);
        whole["max_turns"] = json!(0);
        hook.deliver(&world, "d1", &whole).await.error(400, "VALIDATION_ERROR");
        let mut real = task();
        real["dry_run"] = json!(false);
        hook.deliver(&world, "d1", &real).await.data(201);
    }
    assert_eq!(tasks(&world).await, 2);
}

/// D-091: caches delayed a revocation.
#[tokio::test]
async fn a_revoked_webhook_is_refused_at_once_and_for_good() {
    let world = World::new();
    let hook = hook(&world, "strict").await;
    let path = format!("{HOOKS}/{}", hook.id);
    world.call_as("test/member/eve", Method::DELETE, &path, None).await.error(404, "WEBHOOK_NOT_FOUND");
    let rotate = format!("{path}/rotate");
    world.call_as("test/member/eve", Method::POST, &rotate, None).await.error(404, "WEBHOOK_NOT_FOUND");
    hook.deliver(&world, "d1", &task()).await.data(201);
    let gone = hook.revoke(&world).await.data(200);
    assert_eq!((&gone["status"], &gone["revoked_at"]), (&json!("revoked"), &gone["updated_at"]));
    let message = hook.deliver(&world, "d2", &task()).await.error(401, "UNAUTHORIZED");
    assert!(message.contains("was revoked at"), "{message}");
    hook.revoke(&world).await.error(409, "WEBHOOK_ALREADY_REVOKED");
    world.call_as(ANN, Method::POST, &rotate, None).await.error(409, "WEBHOOK_ALREADY_REVOKED");
    assert!(world.get_as(ANN, HOOKS).await.column("webhook_id").is_empty());
    let all = world.get_as(ANN, &format!("{HOOKS}?include_revoked=true")).await;
    assert_eq!(all.column("status"), ["revoked"]);
    for bad in ["x", "%00", "%FF", "01ARZ3NDEKTSV4RRFFQ69G5FAV"] {
        world
            .call_as(ANN, Method::DELETE, &format!("{HOOKS}/{bad}"), None)
            .await
            .error(404, "WEBHOOK_NOT_FOUND");
        let path = format!("{HOOKS}/{bad}/rotate");
        world.call_as(ANN, Method::POST, &path, None).await.error(404, "WEBHOOK_NOT_FOUND");
    }
    assert_eq!(tasks(&world).await, 1);
}

/// D-089: a secret could not be rotated.
#[tokio::test]
async fn defect_24_a_secret_is_rotated_without_losing_a_delivery() {
    let world = World::new();
    for signature in ["strict", "plain"] {
        let mut hook = hook(&world, signature).await;
        let first = Hook { id: hook.id.clone(), secret: hook.secret.clone() };
        let answer = hook.rotate(&world, Some(json!({ "overlap_s": 3_600 }))).await;
        assert_eq!(answer["webhook_id"], hook.id.as_str());
        assert!(answer["previous_secret_until"].is_string());
        first.deliver(&world, "a1", &task()).await.data(201);
        hook.deliver(&world, "a2", &task()).await.data(201);
        world.clock.advance(Duration::from_secs(3_599));
        first.deliver(&world, "a3", &task()).await.data(201);
        world.clock.advance(Duration::from_secs(1));
        first.deliver(&world, "a4", &task()).await.error(401, "UNAUTHORIZED");
        let second = Hook { id: hook.id.clone(), secret: hook.secret.clone() };
        hook.rotate(&world, None).await;
        second.deliver(&world, "a5", &task()).await.data(201);
        first.deliver(&world, "a6", &task()).await.error(401, "UNAUTHORIZED");
        let third = Hook { id: hook.id.clone(), secret: hook.secret.clone() };
        hook.rotate(&world, Some(json!({ "overlap_s": 0 }))).await;
        third.deliver(&world, "a7", &task()).await.error(401, "UNAUTHORIZED");
        second.deliver(&world, "a8", &task()).await.error(401, "UNAUTHORIZED");
        hook.deliver(&world, "a9", &task()).await.data(201);
    }
    let hook = hook(&world, "strict").await;
    let path = format!("{HOOKS}/{}/rotate", hook.id);
    for (body, word) in [
        (json!({ "overlap_s": 604_801 }), "overlap_s"),
        (json!({ "overlap_s": -1 }), "overlap_s"),
        (json!({ "overlap": 1 }), "overlap"),
        (json!("x"), "body"),
    ] {
        let message =
            world.call_as(ANN, Method::POST, &path, Some(body)).await.error(400, "VALIDATION_ERROR");
        assert!(message.contains(word) || message.contains("u64"), "{message}");
    }
    hook.deliver(&world, "d1", &task()).await.data(201);
}

#[tokio::test]
async fn bad_requests_are_told_by_field() {
    let world = World::new();
    for (body, word) in [
        (json!({}), "name"),
        (json!({ "name": "-" }), "name"),
        (json!({ "name": "x", "signature": "none" }), "signature"),
        (json!({ "name": "x", "secret": "" }), "secret"),
        (json!({ "name": "x", "secret": "mine" }), "secret"),
    ] {
        let message =
            world.call_as(ANN, Method::POST, HOOKS, Some(body)).await.error(400, "VALIDATION_ERROR");
        assert!(message.contains(word), "{message}");
    }
    world
        .call_as("test/viewer/ann", Method::POST, HOOKS, Some(json!({ "name": "x" })))
        .await
        .error(403, "FORBIDDEN");
    assert!(world.get(&format!("{HOOKS}?whose=all&include_revoked=1")).await.column("webhook_id").is_empty());
}

#[tokio::test]
async fn deliveries_are_limited_per_webhook() {
    let rates = Rates { webhook: Rate { per_minute: 60, burst: 2 }, ..Rates::off() };
    let world = World::with(Store::in_memory(), Settings { rates, ..settings() });
    let (one, two) = (hook(&world, "strict").await, hook(&world, "strict").await);
    one.deliver(&world, "d1", &task()).await.data(201);
    one.deliver(&world, "d2", &task()).await.data(201);
    let slow = one.deliver(&world, "d3", &task()).await;
    slow.error(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(slow.headers["retry-after"], "1");
    two.deliver(&world, "d1", &task()).await.data(201);
    world.clock.advance(Duration::from_secs(1));
    one.deliver(&world, "d3", &task()).await.data(201);
    // Who cannot sign does not use up what the sender has.
    let forged = Hook { id: one.id.clone(), secret: two.secret.clone() };
    world.clock.advance(Duration::from_secs(1));
    for n in 0..5 {
        forged.deliver(&world, &format!("f{n}"), &task()).await.error(401, "UNAUTHORIZED");
    }
    one.deliver(&world, "d4", &task()).await.data(201);
}
