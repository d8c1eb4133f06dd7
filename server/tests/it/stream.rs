//! `GET /v1/tasks/{id}/stream`.

use axum::body::Body;
use axum::http::{Method, Request};
use axum::response::Response;
use futures_util::StreamExt as _;
use serde_json::Value;
use store::Store;
use tower::ServiceExt as _;

use crate::support::*;

fn ask(id: domain::TaskId, query: &str, last: Option<&str>) -> Request<Body> {
    let mut request = request(Method::GET, &format!("/v1/tasks/{id}/stream{query}"), None);
    if let Some(last) = last {
        request.headers_mut().insert("last-event-id", last.parse().unwrap());
    }
    request
}

/// Frames as they come: `(id, event, data)`.
struct Frames {
    body: axum::body::BodyDataStream,
    text: String,
}

impl Frames {
    async fn open(world: &World, request: Request<Body>) -> Frames {
        let response: Response = world.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Frames { body: response.into_body().into_data_stream(), text: String::new() }
    }

    /// The next frame; `None` at the end of the stream.
    async fn next(&mut self) -> Option<(String, String, Value)> {
        loop {
            if let Some((frame, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    frame.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().to_owned())
                };
                let found = (field("id:"), field("event:"), field("data:"));
                self.text = rest.to_owned();
                if let (Some(id), Some(event), Some(data)) = found {
                    return Some((id, event, serde_json::from_str(&data).unwrap()));
                }
                continue;
            }
            let chunk = self.body.next().await?.unwrap();
            self.text += std::str::from_utf8(&chunk).unwrap();
        }
    }
}

/// D-109: the last events were never shown.
#[tokio::test]
async fn a_stream_tells_the_record_and_ends_with_the_task() {
    let world = World::new();
    let id = world.submitted("x").await;
    world.says(id, "one\r\ntwo\u{2028}\n\n: not a comment").await;
    world.cancel(id).await;
    let record = world.get(&format!("/v1/tasks/{id}/events")).await.data(200);
    let mut frames = Frames::open(&world, ask(id, "", None)).await;
    for event in record.as_array().unwrap() {
        let (frame_id, kind, data) = within(frames.next()).await.unwrap();
        assert_eq!(
            (&Value::from(frame_id), &Value::from(kind), &data),
            (&event["event_id"], &event["event_type"], event)
        );
    }
    assert!(within(frames.next()).await.is_none(), "nothing follows the end");
}

/// D-026: a stream of its own began a second run.
#[tokio::test]
async fn defect_30_a_watcher_that_comes_back_sees_every_event_once() {
    let dir = tempfile::tempdir().unwrap();
    for store in [Store::in_memory(), Store::open_sqlite(&dir.path().join("t.db")).await.unwrap()] {
        let world = World::on(store);
        let id = world.submitted("x").await;
        let write = async {
            for n in 0..200 {
                world.says(id, &format!("e{n}")).await;
                tokio::task::yield_now().await;
            }
            world.cancel(id).await;
        };
        // The connection breaks after 1, 2, 3, ... events.
        let watch = async {
            let (mut seen, mut last): (Vec<u64>, Option<String>) = (Vec::new(), None);
            for patience in 1.. {
                let mut frames = Frames::open(&world, ask(id, "", last.as_deref())).await;
                for _ in 0..patience {
                    let Some((frame_id, kind, data)) = frames.next().await else {
                        panic!("the stream ended before the task, after {seen:?}");
                    };
                    seen.push(data["seq"].as_u64().unwrap());
                    last = Some(frame_id);
                    if kind == "task_cancelled" {
                        assert!(frames.next().await.is_none());
                        return seen;
                    }
                }
            }
            seen
        };
        let (seen, ()) = within(async { tokio::join!(watch, write) }).await;
        assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>());
        assert!(seen.len() > 200);
    }
}

#[tokio::test]
async fn the_place_to_begin_is_checked() {
    let world = World::new();
    let id = world.submitted("x").await;
    world.says(id, "a").await;
    world.cancel(id).await;
    let ids = world.get(&format!("/v1/tasks/{id}/events")).await.column("event_id");
    let second = ids[1].as_str().unwrap();
    for request in [
        ask(id, "", Some(second)),
        ask(id, "", Some(&second.to_lowercase())),
        ask(id, &format!("?after={second}"), None),
        ask(id, &format!("?after={second}"), Some("")),
        ask(id, "?after=01ARZ3NDEKTSV4RRFFQ69G5FAV", Some(second)),
    ] {
        let (next, ..) = within(Frames::open(&world, request).await.next()).await.unwrap();
        assert_eq!(Value::from(next), ids[2]);
    }
    let at_end = ask(id, "", ids.last().unwrap().as_str());
    assert!(within(Frames::open(&world, at_end).await.next()).await.is_none());
    let other = world.submitted("y").await;
    let strange = world.get(&format!("/v1/tasks/{other}/events")).await.column("event_id")[0].clone();
    world.send(ask(id, "", strange.as_str())).await.error(400, "VALIDATION_ERROR");
    world.send(ask(id, "", Some("nonsense"))).await.error(400, "VALIDATION_ERROR");
    world.send(ask(id, "?from=1", None)).await.error(400, "VALIDATION_ERROR");
    let mut garbled = ask(id, "", None);
    let value = axum::http::HeaderValue::from_bytes(&[0xff, 0xfe]).unwrap();
    garbled.headers_mut().insert("last-event-id", value);
    world.send(garbled).await.error(400, "VALIDATION_ERROR");
}

/// A key of the owner, and its id.
async fn key(world: &World) -> (String, String) {
    let made = serde_json::json!({ "name": "watcher", "scopes": ["tasks:read"] });
    let made = world.call(Method::POST, "/v1/api-keys", Some(made)).await.data(201);
    (made["key"].as_str().unwrap().into(), made["key_id"].as_str().unwrap().into())
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_within_a_keep_alive_when_its_key_is_revoked() {
    let world = World::new();
    let id = world.submitted("x").await;
    for format in ["", "?format=ag-ui"] {
        let (key, key_id) = key(&world).await;
        let mut request = ask(id, format, None);
        request.headers_mut().insert("x-api-key", key.parse().unwrap());
        let began = tokio::time::Instant::now();
        let response = world.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let mut body = response.into_body().into_data_stream();
        let mut text = String::new();
        // It goes on while the key is good.
        while began.elapsed() < std::time::Duration::from_secs(40) {
            let chunk = body.next().await.expect("the key is good").unwrap();
            text += std::str::from_utf8(&chunk).unwrap();
        }
        assert!(!text.contains("the stream ends"), "{text}");
        let revoked = tokio::time::Instant::now();
        world.call(Method::DELETE, &format!("/v1/api-keys/{key_id}"), None).await.data(200);
        while let Some(chunk) = body.next().await {
            text += std::str::from_utf8(&chunk.unwrap()).unwrap();
        }
        assert!(revoked.elapsed() <= std::time::Duration::from_secs(16), "{:?}", revoked.elapsed());
        let last = text.trim_end().lines().last().unwrap();
        assert!(last.starts_with(": the stream ends: API key ") && last.contains("was revoked"), "{last}");
        assert!(!text.contains(&key));
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_ends_when_its_key_is_revoked() {
    let world = World::new();
    let id = world.submitted("x").await;
    let (key, key_id) = key(&world).await;
    let events = world.get(&format!("/v1/tasks/{id}/events")).await.data(200);
    let last = events.as_array().unwrap().last().unwrap()["event_id"].as_str().unwrap().to_owned();
    let path = format!("/v1/tasks/{id}/events?after={last}&wait=30");
    let began = tokio::time::Instant::now();
    let revoke = async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        world.call(Method::DELETE, &format!("/v1/api-keys/{key_id}"), None).await.data(200);
    };
    let (answer, ()) = tokio::join!(world.get_as(&key, &path), revoke);
    assert!(answer.error(401, "UNAUTHORIZED").contains("was revoked"));
    assert!(began.elapsed() <= std::time::Duration::from_secs(16), "{:?}", began.elapsed());
}
