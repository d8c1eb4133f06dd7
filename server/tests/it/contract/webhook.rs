//! `POST` and `GET /v1/webhooks`, `DELETE /v1/webhooks/{id}`.

use axum::http::Method;
use serde_json::json;

use super::*;
use crate::support::*;

const CREATED: &[&str] = &["webhook_id", "name", "secret", "created_at"];
const CREATED_OURS: &[&str] = &["webhook_url", "signature", "previous_secret_until"];
const HOOK_DETAIL: &[&str] = &["webhook_id", "name", "status", "created_at", "updated_at", "revoked_at"];
const DETAIL_OURS: &[&str] =
    &["signature", "webhook_url", "user_id", "last_used_at", "previous_secret_until"];

#[tokio::test]
async fn webhooks_are_made_listed_and_revoked_as_the_contract_says() {
    let world = World::new();
    let make = async |body: Value| world.call_as(ANN, Method::POST, "/v1/webhooks", Some(body)).await;
    let answer = make(json!({ "name": "CI", "signature": "plain" })).await;
    has_headers(&answer);
    let made = answer.data(201);
    has_exactly(&made, CREATED, CREATED_OURS);
    is_time(&made["created_at"]);
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.len() == 64 && secret.bytes().all(|b| b.is_ascii_hexdigit()), "32 bytes as hex");
    for good in ["7", "a b-c_d", &"a".repeat(64)] {
        make(json!({ "name": good })).await.data(201);
    }
    for bad in ["", "-a", "a-", "a.b", "ñ", &"a".repeat(65)] {
        let refused = make(json!({ "name": bad })).await;
        has_headers(&refused);
        refused.error(400, "VALIDATION_ERROR");
    }

    let list = world.get_as(ANN, "/v1/webhooks?limit=3").await;
    has_headers(&list);
    has_exactly(&list.json(), &["data", "pagination"], &[]);
    has_exactly(&list.json()["pagination"], &["next_token", "has_more"], &[]);
    assert_eq!(list.json()["pagination"]["has_more"], true);
    has_exactly(&list.data(200)[0], HOOK_DETAIL, DETAIL_OURS);

    let id = made["webhook_id"].as_str().unwrap();
    let path = format!("/v1/webhooks/{id}");
    let revoked = world.call_as(ANN, Method::DELETE, &path, None).await;
    has_headers(&revoked);
    let revoked = revoked.data(200);
    has_exactly(&revoked, HOOK_DETAIL, DETAIL_OURS);
    assert_eq!(revoked["status"], "revoked");
    is_time(&revoked["revoked_at"]);
    let again = world.call_as(ANN, Method::DELETE, &path, None).await;
    has_headers(&again);
    again.error(409, "WEBHOOK_ALREADY_REVOKED");
    for (who, path) in [("test/member/eve", path.as_str()), (ANN, "/v1/webhooks/01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    {
        world.call_as(who, Method::DELETE, path, None).await.error(404, "WEBHOOK_NOT_FOUND");
    }
    wants_a_key(&world, Method::GET, "/v1/webhooks").await;
    let shown = world.get_as(ANN, "/v1/webhooks?include_revoked=true").await;
    assert!(shown.column("webhook_id").contains(&json!(id)));
    assert!(!world.get_as(ANN, "/v1/webhooks").await.column("webhook_id").contains(&json!(id)));
}
