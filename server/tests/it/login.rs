//! Who comes in, who does not, from where, and how often.

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};
use server::api::Settings;
use server::peer::{Peer, Proxies};
use server::rate::{Rate, Rates};
use store::Store;

use crate::support::*;

fn world(rate: Rate, trusted: &[&str]) -> World {
    let rates = Rates { login: rate, ..Rates::off() };
    let proxies = Proxies::new(trusted.iter().map(|network| network.parse().unwrap()).collect());
    World::with(Store::in_memory(), Settings { rates, proxies, ..settings() })
}

fn from(address: &str, key: &str, path: &str) -> Request<Body> {
    let mut request = request(Method::GET, path, None);
    request.headers_mut().insert("x-api-key", key.parse().unwrap());
    request.extensions_mut().insert(Peer(address.parse().unwrap()));
    request
}

#[tokio::test]
async fn bad_credentials_of_one_address_are_slowed_and_good_ones_are_not() {
    let world = world(Rate { per_minute: 60, burst: 3 }, &["10.0.0.0/8"]);
    let path = "/v1/tasks";
    for _ in 0..3 {
        world.send(from("192.0.2.1", "wrong", path)).await.error(401, "UNAUTHORIZED");
    }
    let slow = world.send(from("192.0.2.1", "wrong again", path)).await;
    slow.error(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(slow.headers["retry-after"], "1");
    // The same address with a good one, another address, and nothing shown at all.
    world.send(from("192.0.2.1", "test/member/ann", path)).await.data(200);
    world.send(from("192.0.2.1", KEY, path)).await.data(200);
    world.send(from("192.0.2.2", "wrong", path)).await.error(401, "UNAUTHORIZED");
    let mut nothing = from("192.0.2.1", "x", path);
    nothing.headers_mut().remove("x-api-key");
    world.send(nothing).await.error(401, "UNAUTHORIZED");
    // Behind a proxy of ours it is the one in front of it that counts; nobody else can choose an address.
    let forwarded = async |peer: &str, header: &str| {
        let mut request = from(peer, "wrong", path);
        request.headers_mut().insert("x-forwarded-for", header.parse().unwrap());
        world.send(request).await.status.as_u16()
    };
    assert_eq!(forwarded("10.0.0.1", "192.0.2.1").await, 429);
    assert_eq!(forwarded("10.0.0.1", "192.0.2.3").await, 401);
    assert_eq!(forwarded("192.0.2.1", "192.0.2.3").await, 429);
    // Deliveries that nobody signed.
    let delivery = || {
        let mut request = Request::post("/v1/webhooks/tasks?webhook_id=01ARZ3NDEKTSV4RRFFQ69G5FAV")
            .header("x-webhook-signature", "sha256=00")
            .body(Body::from("{}"))
            .unwrap();
        request.extensions_mut().insert(Peer("192.0.2.9".parse().unwrap()));
        request
    };
    for status in [401, 401, 401, 429] {
        assert_eq!(world.send(delivery()).await.status.as_u16(), status);
    }
    world.clock.advance(std::time::Duration::from_secs(1));
    world.send(from("192.0.2.1", "wrong", path)).await.error(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn the_audit_log_tells_who_came_in_and_who_did_not_without_a_credential() {
    let world = world(Rate { per_minute: 60, burst: 3 }, &[]);
    let made = json!({ "name": "ci", "scopes": ["tasks:read"] });
    let made = world.call(Method::POST, "/v1/api-keys", Some(made)).await.data(201);
    let (key, id) = (made["key"].as_str().unwrap(), made["key_id"].as_str().unwrap());
    for _ in 0..2 {
        world.send(from("192.0.2.1", "test/member/ann", "/v1/tasks")).await.data(200);
        world.send(from("192.0.2.1", key, "/v1/tasks")).await.data(200);
        world.send(from("192.0.2.7", "bgak_wrong", "/v1/tasks")).await.error(401, "UNAUTHORIZED");
    }
    world.call(Method::DELETE, &format!("/v1/api-keys/{id}"), None).await.data(200);
    world.send(from("192.0.2.1", key, "/v1/tasks")).await.error(401, "UNAUTHORIZED");
    let lines = async |action: &str| {
        let lines = world.get(&format!("/v1/audit?action={action}")).await.data(200);
        let line = |line: &Value| {
            let text = |field: &str| line[field].as_str().unwrap_or("-").to_owned();
            format!(
                "{} by {} {}: {} {}",
                text("actor"),
                text("authenticated_by"),
                text("credential"),
                text("outcome"),
                text("object")
            )
        };
        lines.as_array().unwrap().iter().map(line).collect::<Vec<_>>()
    };
    let accepted = lines("login.accept").await;
    assert_eq!(
        accepted,
        [
            format!("local-owner by api_key {id}: done from 192.0.2.1"),
            "ann by oidc https://id.example.com: done from 192.0.2.1".into(),
        ]
    );
    let refused = lines("login.refuse").await;
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused[0].starts_with("(unknown) by none -: refused from 192.0.2.1: API key "), "{refused:?}");
    assert!(refused[0].contains("was revoked"), "{refused:?}");
    assert!(refused[1].starts_with("(unknown) by none -: refused from 192.0.2.7: "), "{refused:?}");
    let all = world.get("/v1/audit").await.text();
    assert!(!all.contains(key) && !all.contains("bgak_wrong"), "{all}");
    world.clock.advance(std::time::Duration::from_secs(86_400));
    world.send(from("192.0.2.1", "test/member/ann", "/v1/tasks")).await.data(200);
    assert_eq!(lines("login.accept").await.len(), 3, "the next day");
}
