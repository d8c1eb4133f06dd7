//! `POST` and `GET /v1/api-keys`, `DELETE /v1/api-keys/{id}`.

use axum::http::Method;
use serde_json::json;

use super::*;
use crate::support::*;

const CREATED: &[&str] = &["key_id", "name", "api_key", "scopes", "created_at", "expires_at"];
const KEY_DETAIL: &[&str] =
    &["key_id", "name", "status", "scopes", "created_at", "updated_at", "expires_at", "revoked_at"];
const OURS: &[&str] = &["user_id", "role", "last_used_at"];

#[tokio::test]
async fn keys_are_made_listed_and_revoked_as_the_contract_says() {
    let world = World::new();
    let make = async |body: Value| world.call_as(ANN, Method::POST, "/v1/api-keys", Some(body)).await;
    let answer = make(json!({ "name": "CI" })).await;
    has_headers(&answer);
    let made = answer.data(201);
    has_exactly(&made, CREATED, OURS);
    is_time(&made["created_at"]);
    assert_eq!((&made["scopes"], &made["expires_at"]), (&json!(["webhooks:manage"]), &Value::Null));
    let id = made["key_id"].as_str().unwrap();
    assert!(id.parse::<domain::ApiKeyId>().is_ok(), "a ULID: {id}");
    let secret = made["key"].as_str().unwrap().strip_prefix(&format!("bgak_{id}_")).unwrap();
    assert!(secret.len() == 64 && secret.bytes().all(|b| b"0123456789abcdef".contains(&b)));
    for scope in ["webhooks:manage", "webhooks:invoke", "tasks:read", "tasks:cancel"] {
        make(json!({ "name": "x", "scopes": [scope] })).await.data(201);
    }
    for bad in [
        json!({}),
        json!({ "name": "-" }),
        json!({ "name": "a".repeat(65) }),
        json!({ "name": "x", "scopes": ["tasks:everything"] }),
        json!({ "name": "x", "expires_at": "2001-01-01T00:00:00Z" }),
        json!({ "name": "x", "expires_at": "tomorrow" }),
    ] {
        let refused = make(bad).await;
        has_headers(&refused);
        refused.error(400, "VALIDATION_ERROR");
    }

    let list = world.get_as(ANN, "/v1/api-keys?limit=2").await;
    has_headers(&list);
    has_exactly(&list.json(), &["data", "pagination"], &[]);
    has_exactly(&list.json()["pagination"], &["next_token", "has_more"], &[]);
    assert_eq!(list.json()["pagination"]["has_more"], true);
    has_exactly(&list.data(200)[0], KEY_DETAIL, OURS);

    let path = format!("/v1/api-keys/{id}");
    let revoked = world.call_as(ANN, Method::DELETE, &path, None).await;
    has_headers(&revoked);
    let revoked = revoked.data(200);
    has_exactly(&revoked, KEY_DETAIL, OURS);
    assert_eq!(revoked["status"], "revoked");
    is_time(&revoked["revoked_at"]);
    let again = world.call_as(ANN, Method::DELETE, &path, None).await;
    has_headers(&again);
    again.error(409, "API_KEY_ALREADY_REVOKED");
    for (who, path) in [("test/member/eve", path.as_str()), (ANN, "/v1/api-keys/01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    {
        world.call_as(who, Method::DELETE, path, None).await.error(404, "API_KEY_NOT_FOUND");
    }
    wants_a_key(&world, Method::GET, "/v1/api-keys").await;
    let shown = world.get_as(ANN, "/v1/api-keys?include_revoked=true&limit=100").await;
    assert!(shown.column("key_id").contains(&json!(id)));
    assert!(!world.get_as(ANN, "/v1/api-keys?limit=100").await.column("key_id").contains(&json!(id)));
}
