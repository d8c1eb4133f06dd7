//! `GET /v1/tasks/{id}/trace`.

use axum::http::Method;

use super::*;
use crate::support::*;
use crate::trace::traced;

#[tokio::test]
async fn the_answer_is_an_address_and_when_it_ends() {
    let world = World::new();
    let task = traced(&world, "the trace").await;
    let path = format!("/v1/tasks/{task}/trace");
    let answer = world.get(&path).await;
    has_headers(&answer);
    let data = answer.data(200);
    has_exactly(&data, &["url", "expires_at"], &[]);
    assert!(data["url"].as_str().unwrap().starts_with("https://"), "{data}");
    is_time(&data["expires_at"]);
    let ends: jiff::Timestamp = data["expires_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(ends.duration_since(world.orchestrator.now()).as_secs(), 900);

    let plain = world.submitted("fix it").await;
    let refused = world.get(&format!("/v1/tasks/{plain}/trace")).await;
    has_headers(&refused);
    refused.error(404, "TRACE_NOT_AVAILABLE");
    is_hidden_from_strangers(&world, Method::GET, "/v1/tasks/{id}/trace", None).await;
    wants_a_key(&world, Method::GET, &path).await;
}
