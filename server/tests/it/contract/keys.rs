//! `/v1/api-keys`.

use axum::http::Method;
use serde_json::json;

use super::*;
use crate::support::*;

const KEYS: &str = "/v1/api-keys";
const CREATED: &[&str] = &["key_id", "name", "key", "scopes", "expires_at", "created_at"];
const KEY_DETAIL: &[&str] =
    &["key_id", "name", "scopes", "status", "created_at", "updated_at", "expires_at", "revoked_at"];

#[tokio::test]
async fn a_new_key_is_in_the_field_that_abcas_clients_read_and_in_no_other() {
    let world = World::new();
    let answer = world.call(Method::POST, KEYS, Some(json!({ "name": "CI" }))).await;
    has_headers(&answer);
    let made = answer.data(201);
    has_exactly(&made, CREATED, &["user_id", "role"]);
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with(&format!("bgak_{}_", made["key_id"].as_str().unwrap())), "{key}");
    assert_eq!(made["scopes"], json!(["webhooks:manage"]), "when none are asked for");
    assert_eq!(answer.text().matches(key).count(), 1, "a secret is told once");
    is_time(&made["created_at"]);
}

#[tokio::test]
async fn keys_are_listed_and_revoked_in_abcas_shape() {
    let world = World::new();
    let body = json!({ "name": "CI", "scopes": ["tasks:read"], "expires_at": "2199-01-01T00:00:00Z" });
    let made = world.call(Method::POST, KEYS, Some(body)).await.data(201);
    is_time(&made["expires_at"]);
    let page = world.get(KEYS).await;
    has_headers(&page);
    has_exactly(&page.json(), &["data", "pagination"], &[]);
    has_exactly(&page.data(200)[0], KEY_DETAIL, &["user_id", "role", "last_used_at"]);
    let path = format!("{KEYS}/{}", made["key_id"].as_str().unwrap());
    let revoked = world.call(Method::DELETE, &path, None).await;
    has_headers(&revoked);
    let revoked = revoked.data(200);
    has_exactly(&revoked, KEY_DETAIL, &["user_id", "role", "last_used_at"]);
    assert_eq!(revoked["status"], "revoked");
    is_time(&revoked["revoked_at"]);
    world.call(Method::DELETE, &path, None).await.error(409, "API_KEY_ALREADY_REVOKED");
    let nobodys = format!("{KEYS}/01ARZ3NDEKTSV4RRFFQ69G5FAV");
    world.call(Method::DELETE, &nobodys, None).await.error(404, "API_KEY_NOT_FOUND");
}
