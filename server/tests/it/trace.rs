//! `GET /v1/tasks/{id}/trace`, `GET /v1/objects` and `GET /v1/tasks/{id}/replay`.

use axum::body::Body;
use axum::http::Request;
use domain::event::{EventKind, NewEvent};
use domain::{TaskId, limit};
use serde_json::{Value, json};
use store::{EventAppend, TraceRecord};

use crate::support::*;

/// A task of the owner that ended, and whose trace is these bytes.
pub async fn traced(world: &World, bytes: &'static str) -> TaskId {
    let task = world.submitted_with("fix it", |spec| spec.trace = true).await;
    world.cancel(task).await;
    let key = format!("traces/local-owner/{task}.jsonl.gz");
    let objects = &world.orchestrator.parts().objects;
    objects.put(&key.parse().unwrap(), objects::body(bytes)).await.unwrap();
    let now = world.orchestrator.now();
    let uri = objects.uri(&key.parse().unwrap());
    let record = TraceRecord { task, key, uri, bytes: bytes.len() as u64, sealed_at: now };
    world.orchestrator.store().trace_record(record, vec![], now).await.unwrap();
    task
}

fn open(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

fn path_of(url: &str) -> String {
    url.strip_prefix("https://agents.example.com").unwrap().to_owned()
}

#[tokio::test]
async fn the_address_needs_no_key_and_is_good_for_fifteen_minutes() {
    let world = World::new();
    let task = traced(&world, "the trace").await;
    let answer = world.get(&format!("/v1/tasks/{task}/trace")).await.data(200);
    assert_eq!(answer["expires_at"], "2023-11-14T22:28:20.010Z", "{answer}");
    let path = path_of(answer["url"].as_str().unwrap());
    let file = world.send(open(&path)).await;
    assert_eq!((file.status.as_u16(), file.text().as_str()), (200, "the trace"));
    assert_eq!(file.headers["content-type"], "application/gzip");
    assert_eq!(file.headers["content-disposition"], format!("attachment; filename=\"{task}.jsonl.gz\""));
    assert_eq!(file.headers["content-length"], "9");
    assert!(!file.headers.contains_key("content-encoding"));
    // The task names the place for records.
    let detail = world.get(&format!("/v1/tasks/{task}")).await.data(200);
    assert!(detail["trace_s3_uri"].as_str().unwrap().ends_with(&format!("{task}.jsonl.gz")), "{detail}");

    world.clock.advance(limit::TRACE_ADDRESS);
    let message = world.send(open(&path)).await.error(403, "FORBIDDEN");
    assert!(message.contains("expired"), "{message}");
}

#[tokio::test]
async fn an_address_that_was_changed_leads_nowhere() {
    let world = World::new();
    let (one, two) = (traced(&world, "one").await, traced(&world, "two").await);
    let answer = world.get(&format!("/v1/tasks/{one}/trace")).await.data(200);
    let path = path_of(answer["url"].as_str().unwrap());
    let expires = path.split("expires=").nth(1).unwrap().split('&').next().unwrap();
    let later = (expires.parse::<i64>().unwrap() + 1_000).to_string();
    for changed in [
        path.replace(&one.to_string(), &two.to_string()),
        path.replace(expires, &later),
        path.replace("traces/", "artifacts/"),
        path.replace("key=traces", "key=../traces"),
        format!("{}0", &path[..path.len() - 1]),
    ] {
        if changed != path {
            world.send(open(&changed)).await.error(403, "FORBIDDEN");
        }
    }
    for incomplete in ["/v1/objects", "/v1/objects?key=a", "/v1/objects?key=a&expires=x&signature=y"] {
        world.send(open(incomplete)).await.error(400, "VALIDATION_ERROR");
    }
    // Ours, of what is gone.
    world
        .orchestrator
        .parts()
        .objects
        .delete(&format!("traces/local-owner/{one}.jsonl.gz").parse().unwrap())
        .await
        .unwrap();
    world.send(open(&path)).await.error(404, "TRACE_NOT_AVAILABLE");
    world.get(&format!("/v1/tasks/{one}/trace")).await.error(404, "TRACE_NOT_AVAILABLE");
}

#[tokio::test]
async fn where_there_is_no_trace_one_is_told_why() {
    let world = World::new();
    let plain = world.submitted("fix it").await;
    let told = async |task: TaskId| {
        world.get(&format!("/v1/tasks/{task}/trace")).await.error(404, "TRACE_NOT_AVAILABLE")
    };
    assert!(told(plain).await.contains("keeps no trace"));
    let running = world.submitted_with("fix it", |spec| spec.trace = true).await;
    assert!(told(running).await.contains("is made when it has ended"));
    world.cancel(running).await;
    assert!(told(running).await.contains("no model was asked"));
    let old = traced(&world, "old").await;
    world.clock.advance(limit::TRACE_RETENTION * 2);
    assert!(told(old).await.contains("kept for 7 days"));
    let detail = world.get(&format!("/v1/tasks/{old}")).await.data(200);
    assert_eq!(detail["trace_s3_uri"], Value::Null);
    // Another's task, an unknown one, and nonsense are the same 404.
    let others = world.submitted_by("somebody", repo(), "theirs").await;
    for what in ["trace", "replay"] {
        for id in [others.to_string(), TaskId::from_bits(1).to_string(), "nonsense".into()] {
            let message =
                world.get_as(ANN, &format!("/v1/tasks/{id}/{what}")).await.error(404, "TASK_NOT_FOUND");
            assert!(message.starts_with("there is no task"), "{message}");
        }
    }
}

#[tokio::test]
async fn a_replay_bundle_tells_what_the_task_was_and_became() {
    let world = World::new();
    let source = source().await;
    let id = world.running(&source, "fix it").await;
    world.completed(&source, id).await;
    let bundle = world.get(&format!("/v1/tasks/{id}/replay")).await.data(200);
    assert_eq!(bundle["workflow_ref"], "coding/new-task-v1");
    assert_eq!(bundle["resolved_workflow"], json!({ "id": "coding/new-task-v1", "version": "1.0.0" }));
    assert_eq!(bundle["verification"], json!({ "build_passed": true, "lint_passed": null }));
    assert_eq!((&bundle["events_truncation"], &bundle["trace_uri"]), (&Value::Null, &Value::Null));
    let events = bundle["events"].as_array().unwrap();
    assert_eq!((&events[0]["event_type"], &events[0]["seq"]), (&json!("task_created"), &json!(1)));
    assert_eq!(events.last().unwrap()["event_type"], "task_completed");
}

/// Appends so many events of a box, with a text of this length in each.
async fn flood(world: &World, task: TaskId, count: usize, length: usize) {
    let attempt = world.task(task).await.attempt;
    let mut left = count;
    while left > 0 {
        let n = left.min(500);
        left -= n;
        let events = (0..n)
            .map(|i| NewEvent {
                client_key: Some(format!("box-{length}-{left}-{i}")),
                ..NewEvent::new(EventKind::AgentTurn, json!({ "text": "x".repeat(length) }))
            })
            .collect();
        let append =
            EventAppend { task, attempt, events, attempt_limit: 1_000_000, now: world.orchestrator.now() };
        world.orchestrator.store().events_append(append).await.unwrap();
    }
}

#[tokio::test]
async fn a_bundle_is_bounded_by_number_and_by_size() {
    let world = World::new();
    let source = source().await;
    let many = world.running(&source, "many").await;
    let before =
        world.get(&format!("/v1/tasks/{many}/replay")).await.data(200)["events"].as_array().unwrap().len();
    flood(&world, many, limit::REPLAY_MAX_EVENTS as usize - before, 1).await;
    let all = world.get(&format!("/v1/tasks/{many}/replay")).await.data(200);
    assert_eq!(all["events_truncation"], Value::Null, "exactly the bound is whole");
    flood(&world, many, 1, 2).await;
    let cut = world.get(&format!("/v1/tasks/{many}/replay")).await.data(200);
    assert_eq!(cut["events_truncation"], json!({ "reason": "max_events", "returned_events": 5_000 }));
    assert_eq!(cut["events"].as_array().unwrap().len(), 5_000);

    let large = world.running(&source, "large").await;
    flood(&world, large, 200, 60_000).await;
    let cut = world.get(&format!("/v1/tasks/{large}/replay")).await.data(200);
    assert_eq!(cut["events_truncation"]["reason"], "max_bytes");
    let events = cut["events"].as_array().unwrap();
    assert_eq!(cut["events_truncation"]["returned_events"], events.len());
    let bytes = Value::from(events.clone()).to_string().len();
    let bounds = (limit::REPLAY_MAX_BYTES - 65_000)..=(limit::REPLAY_MAX_BYTES + events.len() + 2);
    assert!(bounds.contains(&bytes), "{bytes}");
}
