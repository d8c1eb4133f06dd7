//! What people say, as the box hears it.

use std::time::Duration;

use domain::{Attempt, UserId};
use serde_json::{Value, json};
use store::{Asked, EventCursor, EventQuery, Nudged};
use tokio::time::Instant;

use crate::world::*;

async fn nudged(world: &World, task: domain::TaskId, text: &str) -> String {
    let by = UserId::new("ann");
    match world.orchestrator.nudge(task, &by, text).await.unwrap() {
        Nudged::Stored(nudge) => nudge.id.to_string(),
        other => panic!("{other:?}"),
    }
}

async fn heard(world: &World, token: &str, query: &str) -> Value {
    world.call("GET", &format!("/box/v1/directives?{query}"), Some(token), None).await.json(200)
}

async fn take(world: &World, token: &str, ids: &[&str]) -> Answer {
    world.call("POST", "/box/v1/nudges/take", Some(token), Some(json!({ "ids": ids }))).await
}

async fn milestones(world: &World, task: domain::TaskId) -> Vec<String> {
    let query = EventQuery { task, from: EventCursor::Start, limit: 1_000 };
    let events = world.orchestrator.store().events_read(query).await.unwrap();
    events.iter().filter_map(|e| e.metadata["milestone"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn a_nudge_reaches_a_waiting_box_at_once_and_is_not_repeated_to_one_that_knows() {
    let world = World::new().await;
    let Boxed { task, token, .. } = world.boxed().await;
    assert_eq!(heard(&world, &token, "wait=0").await, json!({ "cancel": false }));
    // Time stands still but for what is waited for: a poll that is not told would show.
    tokio::time::pause();
    let begun = Instant::now();
    let poll = heard(&world, &token, "wait=30&seen=");
    let (poll, id) = tokio::join!(poll, nudged(&world, task, "use tabs"));
    assert!(begun.elapsed() < Duration::from_secs(1), "it was told, it did not wait the poll out");
    assert_eq!(poll["nudges"], json!([id]));
    assert!(!poll.to_string().contains("use tabs"), "the words are handed over when they are taken");
    let tag = poll["tag"].as_str().unwrap();
    assert_eq!(heard(&world, &token, &format!("wait=0&seen={tag}")).await, poll);
    let known = format!("wait=30&seen={tag}");
    let (other, second) = tokio::join!(heard(&world, &token, &known), nudged(&world, task, "and spaces"));
    assert_eq!(other["nudges"], json!([id, second]));
}

/// D-059: a nudge was said again after a restart.
#[tokio::test]
async fn a_nudge_is_acknowledged_before_its_words_are_handed_over_and_only_once() {
    let world = World::new().await;
    let Boxed { task, token, .. } = world.boxed().await;
    let id = nudged(&world, task, "use tabs").await;
    let taken = take(&world, &token, &[&id]).await.json(200);
    assert_eq!(taken["nudges"][0]["text"], "use tabs");
    assert_eq!(milestones(&world, task).await.iter().filter(|m| *m == "nudge_acknowledged").count(), 1);
    // Its answer was lost: the box asks again.
    assert_eq!(take(&world, &token, &[&id]).await.json(200), taken);
    assert_eq!(milestones(&world, task).await.iter().filter(|m| *m == "nudge_acknowledged").count(), 1);
    assert_eq!(heard(&world, &token, "wait=0").await, json!({ "cancel": false }), "nothing waits any more");
}

/// D-058: a cancelled task consumed its nudges.
#[tokio::test]
async fn seed_002_a_cancelled_task_keeps_its_nudges_unconsumed() {
    let world = World::new().await;
    let Boxed { task, token, .. } = world.boxed().await;
    let id = nudged(&world, task, "use tabs").await;
    world.cancel(task).await;
    assert_eq!(take(&world, &token, &[&id]).await.status, 409);
    let kept = world.orchestrator.store().nudge_list(task).await.unwrap();
    assert_eq!(kept[0].taken, None);
    assert!(!milestones(&world, task).await.contains(&"nudge_acknowledged".to_owned()));
}

#[tokio::test]
async fn a_box_answers_a_question_of_its_own_task() {
    let world = World::new().await;
    let Boxed { task, token, .. } = world.boxed().await;
    let found = world.orchestrator.store().task_get(task).await.unwrap().unwrap();
    let Asked::Opened(ask) = world.orchestrator.ask(&found, &UserId::new("ann"), "how far?").await.unwrap()
    else {
        panic!("it is the first");
    };
    let waiting = heard(&world, &token, "wait=0").await;
    assert_eq!(waiting["asks"], json!([{ "id": ask.id.to_string(), "question": "how far?" }]));
    let path = format!("/box/v1/asks/{}/answer", ask.id);
    let said = |answer: &str| json!({ "answer": answer, "source": "agent" });
    world.call("POST", &path, Some(&token), Some(said(" "))).await.refused(400, "BAD_REQUEST");
    let elsewhere = "/box/v1/asks/01ARZ3NDEKTSV4RRFFQ69G5FAV/answer";
    world.call("POST", elsewhere, Some(&token), Some(said("x"))).await.refused(400, "BAD_REQUEST");
    for answer in ["half way", "three quarters"] {
        world.call("POST", &path, Some(&token), Some(said(answer))).await.nothing();
    }
    let asks = world.orchestrator.asks_settled(task).await.unwrap();
    assert_eq!(asks[0].answer.as_ref().map(|a| a.text.as_str()), Some("half way"), "the first stays");
    assert_eq!(found.attempt, Attempt(1));
}
