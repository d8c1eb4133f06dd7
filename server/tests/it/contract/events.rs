//! `GET /v1/tasks/{id}/events`.

use super::*;
use crate::support::*;

#[tokio::test]
async fn an_event_has_its_fields_and_metadata_is_an_object() {
    let world = World::new();
    let source = source().await;
    let id = world.running(&source, "x").await;
    world.completed(&source, id).await;
    let answer = world.get(&format!("/v1/tasks/{id}/events?limit=100")).await;
    has_headers(&answer);
    has_exactly(&answer.json(), &["data", "pagination"], &[]);
    let rows = answer.data(200);
    assert!(rows.as_array().unwrap().len() > 5);
    for event in rows.as_array().unwrap() {
        has_exactly(event, &["event_id", "event_type", "timestamp", "metadata"], &["seq"]);
        is_time(&event["timestamp"]);
        assert!(event["event_id"].as_str().unwrap().parse::<domain::EventId>().is_ok());
        let metadata = event["metadata"].as_object().expect("{} when there is nothing");
        assert!(metadata.values().all(|v| !v.is_null()), "left out, not null: {event}");
    }
}

/// D-024: a cursor in lower case found nothing.
#[tokio::test]
async fn bug_1_6_the_last_cursor_gives_an_empty_page_in_either_case() {
    let world = World::new();
    let id = world.submitted("x").await;
    let path = format!("/v1/tasks/{id}/events");
    let last = world.get(&path).await.column("event_id").pop().unwrap();
    for after in [last.as_str().unwrap().to_owned(), last.as_str().unwrap().to_lowercase()] {
        let page = world.get(&format!("{path}?after={after}")).await;
        assert_eq!(page.column("event_id"), Vec::<Value>::new());
        assert_eq!(page.next_token(), None);
    }
    world.says(id, "more").await;
    let lower = last.as_str().unwrap().to_lowercase();
    assert_eq!(
        world.get(&format!("{path}?after={lower}")).await.column("seq").len(),
        1,
        "a lower-case cursor skips nothing"
    );
    world.get(&format!("{path}?desc=1&after={lower}")).await.error(400, "VALIDATION_ERROR");
}

#[tokio::test]
async fn refusals_have_their_codes() {
    let world = World::new();
    let id = world.submitted("x").await;
    let path = format!("/v1/tasks/{id}/events");
    for bad in ["after=x", "next_token=x", "wait=x", "desc=1&after=01ARZ3NDEKTSV4RRFFQ69G5FAV"] {
        let refused = world.get(&format!("{path}?{bad}")).await;
        has_headers(&refused);
        refused.error(400, "VALIDATION_ERROR");
    }
    world.get(&format!("{path}?after=")).await.data(200);
    is_hidden_from_strangers(&world, axum::http::Method::GET, "/v1/tasks/{id}/events", None).await;
    wants_a_key(&world, axum::http::Method::GET, &path).await;
}
