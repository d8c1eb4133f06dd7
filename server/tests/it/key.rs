//! `/v1/api-keys`, and what keys open.

use std::time::Duration;

use axum::http::Method;
use domain::access::Scope;
use serde_json::{Value, json};
use server::api::access::{Needs, needs};

use crate::access::{filled, operations};
use crate::support::*;

const KEYS: &str = "/v1/api-keys";

async fn made(world: &World, who: &str, body: Value) -> Value {
    world.call_as(who, Method::POST, KEYS, Some(body)).await.data(201)
}

/// A key with these scopes of whoever asks.
async fn key(world: &World, who: &str, scopes: &[&str]) -> String {
    made(world, who, json!({ "name": "a key", "scopes": scopes })).await["key"].as_str().unwrap().into()
}

#[tokio::test]
async fn a_key_is_shown_once_and_kept_as_a_hash() {
    let world = World::new();
    let body = json!({ "name": "CI", "scopes": ["tasks:read", "webhooks:manage", "tasks:read"],
        "expires_at": "2027-01-31T13:00:00+01:00" });
    let answer = made(&world, ANN, body).await;
    let (id, whole) = (answer["key_id"].as_str().unwrap(), answer["key"].as_str().unwrap());
    let secret = whole.strip_prefix(&format!("bgak_{id}_")).unwrap();
    assert!(secret.len() == 64 && secret.bytes().all(|b| b"0123456789abcdef".contains(&b)), "{secret}");
    insta::assert_json_snapshot!("key_created", answer, { ".key_id" => "[key]", ".key" => "bgak_[key]_[secret]" });
    let list = world.get_as(ANN, KEYS).await;
    insta::assert_json_snapshot!("key_listed", list.json(), { ".data[].key_id" => "[key]" });
    assert!(!list.text().contains(secret));
    let kept = world.orchestrator.store().api_key_get(id.parse().unwrap()).await.unwrap().unwrap();
    assert!(!format!("{kept:?}").contains(secret));
    // The default is ABCA's.
    let plain = made(&world, ANN, json!({ "name": "x" })).await;
    assert_eq!(plain["scopes"], json!(["webhooks:manage"]));
    assert_eq!(plain["expires_at"], Value::Null);
}

/// D-092: scopes were names only.
#[tokio::test]
async fn a_key_opens_the_routes_of_its_scopes_and_no_other() {
    let world = World::new();
    for scope in Scope::ALL.iter().filter(|s| s.grantable()) {
        let key = key(&world, KEY, &[scope.as_str()]).await;
        for (method, path) in operations() {
            let Some(Needs::Scope(needed)) = needs(&method, &path) else { continue };
            let answer = world.call_as(&key, method.parse().unwrap(), &filled(&path), None).await;
            let told = format!("{scope} on {method} {path}: {}", answer.text());
            match needed == *scope {
                true => assert!(![401, 403].contains(&answer.status.as_u16()), "{told}"),
                false => {
                    let message = answer.error(403, "FORBIDDEN");
                    assert!(message.contains(needed.as_str()), "{told}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_key_speaks_for_its_maker_in_all_three_forms() {
    let world = World::new();
    let key = key(&world, ANN, &["tasks:read", "tasks:create"]).await;
    let body = json!({ "repo": "octo/cat", "task_description": "fix it" });
    let task = world.call_as(&key, Method::POST, "/v1/tasks", Some(body)).await.data(201);
    assert_eq!(world.task(task["task_id"].as_str().unwrap().parse().unwrap()).await.user.as_str(), "ann");
    for (name, value) in [
        ("x-api-key", key.clone()),
        ("authorization", format!("Bearer {key}")),
        ("authorization", key.clone()),
    ] {
        let mut request = request(Method::GET, "/v1/tasks", None);
        request.headers_mut().remove("x-api-key");
        request.headers_mut().insert(name, value.parse().unwrap());
        assert_eq!(world.send(request).await.column("task_id"), [task["task_id"].clone()], "{name}");
    }
    // X-API-Key comes first.
    let mut both = request(Method::GET, "/v1/tasks", None);
    both.headers_mut().insert("x-api-key", "wrong".parse().unwrap());
    both.headers_mut().insert("authorization", key.parse().unwrap());
    world.send(both).await.error(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn what_is_wrong_with_a_key_is_told_only_to_who_has_it() {
    let world = World::new();
    let expires = "2023-11-14T23:13:20Z";
    let answer =
        made(&world, ANN, json!({ "name": "x", "scopes": ["tasks:read"], "expires_at": expires })).await;
    let (id, key) = (answer["key_id"].as_str().unwrap(), answer["key"].as_str().unwrap());
    world.get_as(key, "/v1/tasks").await.data(200);
    let generic = world.get_as("nonsense", "/v1/tasks").await.error(401, "UNAUTHORIZED");
    let flipped = format!("{}{}", &key[..key.len() - 1], if key.ends_with('0') { "1" } else { "0" });
    let other = format!("bgak_01ARZ3NDEKTSV4RRFFQ69G5FAV_{}", &key[32..]);
    let forged = [flipped, other, key[..key.len() - 1].to_owned(), format!("{key}0"), key.to_uppercase()];
    for bad in &forged {
        assert_eq!(world.get_as(bad, "/v1/tasks").await.error(401, "UNAUTHORIZED"), generic, "{bad}");
    }
    world.clock.advance(Duration::from_secs(3_599));
    world.get_as(key, "/v1/tasks").await.data(200);
    world.clock.advance(Duration::from_secs(1));
    let message = world.get_as(key, "/v1/tasks").await.error(401, "UNAUTHORIZED");
    assert_eq!(message, format!("API key {id} expired at {expires}; make another"));
    assert_eq!(world.get_as(ANN, KEYS).await.column("status"), ["expired"]);
    assert_eq!(world.get_as(&forged[0], "/v1/tasks").await.error(401, "UNAUTHORIZED"), generic);
}

/// D-091: caches delayed a revocation.
#[tokio::test]
async fn a_revoked_key_is_refused_at_once_and_for_good() {
    let world = World::new();
    let answer = made(&world, ANN, json!({ "name": "x", "scopes": ["tasks:read"] })).await;
    let (id, key) = (answer["key_id"].as_str().unwrap().to_owned(), answer["key"].as_str().unwrap());
    let path = format!("{KEYS}/{id}");
    for stranger in ["test/member/eve", "test/member/ann2"] {
        let message =
            world.call_as(stranger, Method::DELETE, &path, None).await.error(404, "API_KEY_NOT_FOUND");
        assert_eq!(message, format!("there is no API key {id}"));
    }
    world.get_as(key, "/v1/tasks").await.data(200);
    world.clock.advance(Duration::from_secs(1));
    let gone = world.call_as(ANN, Method::DELETE, &path.to_lowercase(), None).await.data(200);
    assert_eq!(
        (&gone["status"], &gone["revoked_at"]),
        (&json!("revoked"), &json!("2023-11-14T22:13:21.000Z"))
    );
    assert_eq!(gone["updated_at"], gone["revoked_at"]);
    let message = world.get_as(key, "/v1/tasks").await.error(401, "UNAUTHORIZED");
    assert!(message.contains("was revoked at 2023-11-14T22:13:21Z"), "{message}");
    world.call_as(ANN, Method::DELETE, &path, None).await.error(409, "API_KEY_ALREADY_REVOKED");
    assert!(world.get_as(ANN, KEYS).await.column("key_id").is_empty());
    assert_eq!(
        world.get_as(ANN, &format!("{KEYS}?include_revoked=true")).await.column("key_id"),
        [id.as_str()]
    );
    for bad in ["x", "%00", "%FF", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "81ARZ3NDEKTSV4RRFFQ69G5FAV"] {
        world
            .call_as(ANN, Method::DELETE, &format!("{KEYS}/{bad}"), None)
            .await
            .error(404, "API_KEY_NOT_FOUND");
    }
}

#[tokio::test]
async fn no_key_makes_lists_or_revokes_keys() {
    let world = World::new();
    let refused = world
        .call(Method::POST, KEYS, Some(json!({ "name": "x", "scopes": ["keys:manage"] })))
        .await
        .error(400, "VALIDATION_ERROR");
    assert!(refused.contains("no API key may have keys:manage"), "{refused}");
    let all: Vec<&str> = Scope::ALL.iter().filter(|s| s.grantable()).map(|s| s.as_str()).collect();
    let key = key(&world, KEY, &all).await;
    for (method, path) in [(Method::POST, KEYS), (Method::GET, KEYS), (Method::DELETE, "/v1/api-keys/x")] {
        world.call_as(&key, method, path, Some(json!({ "name": "x" }))).await.error(403, "FORBIDDEN");
    }
}

#[tokio::test]
async fn bad_requests_are_told_by_field_and_leave_nothing() {
    let world = World::new();
    for (body, word) in [
        (json!({}), "name"),
        (json!({ "name": "" }), "name"),
        (json!({ "name": " x" }), "name"),
        (json!({ "name": "x".repeat(65) }), "name"),
        (json!({ "name": 7 }), "string"),
        (json!({ "name": "x", "scopes": [] }), "scopes"),
        (json!({ "name": "x", "scopes": ["tasks:write"] }), "tasks:write"),
        (json!({ "name": "x", "scopes": "tasks:read" }), "sequence"),
        (json!({ "name": "x", "scopes": ["audit:read"] }), "member may not have audit:read"),
        (json!({ "name": "x", "expires_at": "tomorrow" }), "expires_at"),
        (json!({ "name": "x", "expires_at": "2027-01-31" }), "expires_at"),
        (json!({ "name": "x", "expires_at": "2023-11-14T22:13:20Z" }), "future"),
        (json!({ "name": "x", "expires_at": "1999-01-01T00:00:00Z" }), "future"),
        (json!({ "name": "x", "expires_at": "9999-01-01T00:00:00Z" }), "2262"),
        (json!({ "name": "x", "role": "root" }), "role"),
        (json!({ "name": "x", "user": "" }), "user"),
        (json!({ "name": "x", "user": "a b" }), "user"),
        (json!({ "name": "x", "secret": "mine" }), "secret"),
        (json!("x"), "body"),
    ] {
        let answer = world.call_as(ANN, Method::POST, KEYS, Some(body.clone())).await;
        let message = answer.error(400, "VALIDATION_ERROR");
        assert!(message.contains(word), "{body}: {message}");
    }
    for (who, body) in
        [(ANN, json!({ "name": "x", "user": "bob" })), (ANN, json!({ "name": "x", "role": "owner" }))]
    {
        world.call_as(who, Method::POST, KEYS, Some(body)).await.error(403, "FORBIDDEN");
    }
    assert!(world.get(&format!("{KEYS}?whose=all&include_revoked=1")).await.column("key_id").is_empty());
}

#[tokio::test]
async fn an_owner_gives_keys_to_others() {
    let world = World::new();
    let body =
        json!({ "name": "for bob", "user": "bob@example.com", "scopes": ["tasks:read", "tasks:create"] });
    let answer = made(&world, KEY, body).await;
    assert_eq!((&answer["user_id"], &answer["role"]), (&json!("bob@example.com"), &json!("member")));
    let task = json!({ "repo": "octo/cat", "task_description": "fix it" });
    let bob = answer["key"].as_str().unwrap();
    let task = world.call_as(bob, Method::POST, "/v1/tasks", Some(task)).await.data(201);
    world
        .get_as(ANN, &format!("/v1/tasks/{}", task["task_id"].as_str().unwrap()))
        .await
        .error(404, "TASK_NOT_FOUND");
    world.clock.advance(Duration::from_millis(5));
    // A role below one's own narrows the key, whatever its scopes say.
    let viewer = json!({ "name": "reads", "role": "viewer", "scopes": ["tasks:read"] });
    let viewer = made(&world, KEY, viewer).await;
    assert_eq!(viewer["user_id"], "local-owner");
    // Everybody's are seen, and revoked, by owners alone.
    let all = format!("{KEYS}?whose=all");
    assert_eq!(world.get(&all).await.column("user_id"), ["local-owner", "bob@example.com"]);
    assert_eq!(world.get(KEYS).await.column("user_id"), ["local-owner"]);
    world.get_as(ANN, &all).await.error(403, "FORBIDDEN");
    let path = format!("{KEYS}/{}", answer["key_id"].as_str().unwrap());
    world.call(Method::DELETE, &path, None).await.data(200);
    world.get_as(bob, "/v1/tasks").await.error(401, "UNAUTHORIZED");
}

/// D-016: lists of webhooks had short pages.
#[tokio::test]
async fn pages_are_full_and_their_tokens_signed() {
    let world = World::new();
    let mut ids = Vec::new();
    for n in 0..9 {
        let id = made(&world, ANN, json!({ "name": format!("k{n}") })).await["key_id"].clone();
        world.clock.advance(Duration::from_millis(5));
        if n % 3 == 0 {
            let path = format!("{KEYS}/{}", id.as_str().unwrap());
            world.call_as(ANN, Method::DELETE, &path, None).await.data(200);
        } else {
            ids.insert(0, id);
        }
    }
    let first = world.get_as(ANN, &format!("{KEYS}?limit=4")).await;
    let token = first.next_token().unwrap();
    let second = world.get_as(ANN, &format!("{KEYS}?limit=4&next_token={token}")).await;
    assert_eq!((first.column("key_id").len(), second.next_token()), (4, None));
    assert_eq!([first.column("key_id"), second.column("key_id")].concat(), ids);
    for (who, query) in [
        (ANN, "next_token=x".to_owned()),
        (ANN, format!("next_token={token}0")),
        (ANN, format!("include_revoked=1&next_token={token}")),
        ("test/member/bob", format!("next_token={token}")),
    ] {
        let message = world.get_as(who, &format!("{KEYS}?{query}")).await.error(400, "VALIDATION_ERROR");
        assert!(message.contains("next_token"), "{query}: {message}");
    }
    for (query, word) in [("whose=his", "whose"), ("page=2", "page")] {
        let message = world.get_as(ANN, &format!("{KEYS}?{query}")).await.error(400, "VALIDATION_ERROR");
        assert!(message.contains(word), "{message}");
    }
}

#[tokio::test]
async fn the_last_use_is_noted_coarsely() {
    let world = World::new();
    let answer = made(&world, ANN, json!({ "name": "x", "scopes": ["tasks:read"] })).await;
    let key = answer["key"].as_str().unwrap();
    let mut seen = Vec::new();
    for wait in [0, 1, 3_598, 1, 10_000] {
        world.clock.advance(Duration::from_secs(wait));
        world.get_as(key, "/v1/tasks").await.data(200);
        seen.push(world.get_as(ANN, KEYS).await.data(200)[0]["last_used_at"].as_str().unwrap().to_owned());
    }
    let hours = ["22:13:20", "22:13:20", "22:13:20", "23:13:20", "02:00:00"];
    for (seen, hour) in seen.iter().zip(hours) {
        assert!(seen.contains(hour), "{seen} {hour}");
    }
}
