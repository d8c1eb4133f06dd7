//! What is recorded of the model calls of a task that wants a trace, and what becomes of it.

use domain::{TaskId, limit};
use gateway::Gateway;
use orchestrator::Masks;
use orchestrator::trace::parts_of;
use secrecy::SecretString;
use serde_json::{Value, json};
use store::{Duty, EventCursor, EventQuery};
use trace::Trajectory;

use crate::world::*;

const SECRET: &str = "s3cret-of-the-platform";

async fn world() -> World {
    World::with(|policy| policy.masks = Masks::new(&[SecretString::from(SECRET.to_owned())])).await
}

/// A running box of a task that wants a trace, or does not.
async fn boxed(world: &World, traced: bool) -> Boxed {
    let task = world.submitted_with(|spec| spec.trace = traced).await;
    world.drive(task).await;
    let me = world.boxed_again(task, 1).await;
    world.call("POST", "/box/v1/started", Some(&me.token), None).await.nothing();
    me
}

fn said(texts: &[&str]) -> Value {
    let message = |(n, text): (usize, &&str)| {
        let role = if n.is_multiple_of(2) { "user" } else { "assistant" };
        json!({ "role": role, "content": [{ "type": "text", "text": text }] })
    };
    let messages: Vec<Value> = texts.iter().enumerate().map(message).collect();
    let tools = json!([{ "name": "Bash", "description": "runs" }]);
    json!({ "model": "m", "max_tokens": 9, "stream": true, "system": "be good", "tools": tools, "messages": messages })
}

async fn calls(world: &World, me: &Boxed, turn: u32, texts: &[&str]) {
    let request = axum::http::Request::post("/model/v1/messages")
        .header("authorization", format!("Bearer {}", me.token))
        .header("x-bgagent-turn", turn.to_string())
        .body(said(texts).to_string().into())
        .unwrap();
    let answer = world.send(request).await;
    assert!(answer.status == 200 && answer.text().contains("message_stop"), "{}", answer.text());
}

async fn parts(world: &World, task: TaskId) -> usize {
    world.orchestrator.parts().objects.list(&parts_of(task)).await.unwrap().len()
}

/// Ends the task, meets the obligations, and reads the trace.
async fn sealed(world: &World, task: TaskId) -> Trajectory {
    world.cancel(task).await;
    for obligation in world.orchestrator.store().obligation_list().await.unwrap() {
        world.orchestrator.meet(obligation).await;
    }
    assert_eq!(world.orchestrator.store().obligation_list().await.unwrap(), []);
    let record = world.orchestrator.store().trace_get(task).await.unwrap().unwrap();
    let key = record.key.parse().unwrap();
    let object = world.orchestrator.parts().objects.get(&key).await.unwrap().unwrap();
    assert_eq!(object.meta.bytes, record.bytes);
    Trajectory::read(object.whole(usize::MAX).await.unwrap().as_slice()).unwrap()
}

async fn milestones(world: &World, task: TaskId) -> Vec<Value> {
    let query = EventQuery { task, from: EventCursor::Start, limit: 1_000 };
    let events = world.orchestrator.store().events_read(query).await.unwrap();
    events.into_iter().map(|e| e.metadata).filter(|m| m["milestone"].is_string()).collect()
}

/// D-079: traces were not masked.
#[tokio::test]
async fn calls_are_kept_once_and_masked_and_the_trace_is_made_of_them() {
    let world = world().await;
    let me = boxed(&world, true).await;
    let secret = format!("look: {SECRET}");
    calls(&world, &me, 1, &["fix it", "I do", &secret]).await;
    // The answer was sent to the end, so it is kept already.
    assert_eq!(parts(&world, me.task).await, 2);
    calls(&world, &me, 2, &["fix it", "I do", &secret, "done?", "yes"]).await;
    let trace = sealed(&world, me.task).await;
    assert_eq!(trace.calls.len(), 2);
    assert_eq!(trace.calls.iter().map(|c| c.messages.len()).collect::<Vec<_>>(), [3, 5]);
    assert_eq!(trace.calls[1].messages[2]["content"][0]["text"], "look: [redacted]");
    assert_eq!(trace.calls[1].turn, Some(2));
    assert_eq!(*trace.calls[1].system, json!("be good"));
    assert_eq!(trace.calls[0].parameters["max_tokens"], 9);
    let answer = trace.calls[0].response.as_ref().unwrap();
    assert_eq!(answer.message.as_ref().unwrap()["content"], json!([{ "type": "text", "text": "done" }]));
    assert_eq!(answer.error, None);
    // The events are in it, to the last.
    let kinds: Vec<&str> = trace.events.iter().map(|e| e.event_type.as_str()).collect();
    assert_eq!((kinds.first(), kinds.last()), (Some(&"task_created"), Some(&"task_cancelled")));
    assert_eq!(trace.header.task_id, me.task.to_string());
    assert_eq!(trace.outcome.as_ref().unwrap().status, "CANCELLED");
    assert!(!trace.truncated);
    // Nothing is left of the parts; the end is told.
    assert_eq!(parts(&world, me.task).await, 0);
    let told = milestones(&world, me.task).await;
    let uri = told.last().unwrap()["uri"].as_str().unwrap();
    assert_eq!(told.last().unwrap()["milestone"], "trajectory_uploaded");
    assert!(
        uri.starts_with("file:///") && uri.ends_with(&format!("traces/ann/{}.jsonl.gz", me.task)),
        "{uri}"
    );
}

#[tokio::test]
async fn nothing_is_kept_of_a_task_that_does_not_ask_for_it() {
    let world = world().await;
    let me = boxed(&world, false).await;
    calls(&world, &me, 1, &["fix it"]).await;
    world.cancel(me.task).await;
    let open = world.orchestrator.store().obligation_list().await.unwrap();
    assert!(open.iter().all(|o| o.duty != Duty::SealTrace), "{open:?}");
    assert_eq!(world.orchestrator.parts().objects.list("").await.unwrap(), []);
}

#[tokio::test]
async fn a_gateway_that_was_started_again_goes_on_with_a_whole_request() {
    let mut world = world().await;
    let me = boxed(&world, true).await;
    calls(&world, &me, 1, &["fix it"]).await;
    world.router = Gateway::new(world.orchestrator.clone(), world.models.clone()).routes();
    calls(&world, &me, 2, &["fix it", "I do", "good"]).await;
    let trace = sealed(&world, me.task).await;
    assert_eq!(trace.calls.iter().map(|c| c.messages.len()).collect::<Vec<_>>(), [1, 3]);
}

#[tokio::test]
async fn a_refused_call_is_kept_with_its_reason() {
    let world = world().await;
    let me = boxed(&world, true).await;
    world.cancel(me.task).await;
    // Superseded boxes do not get as far as the model.
    let body = said(&["fix it"]).to_string();
    let request = axum::http::Request::post("/model/v1/messages")
        .header("authorization", format!("Bearer {}", me.token))
        .body(body.into())
        .unwrap();
    assert_eq!(world.send(request).await.status, 409);
    assert_eq!(parts(&world, me.task).await, 0);

    let task =
        world.submitted_with(|spec| (spec.trace, spec.max_budget) = (true, Some(domain::MicroUsd(1)))).await;
    world.drive(task).await;
    assert!(
        world.task(task).await.status().is_terminal(),
        "a model without a price and a budget do not go together"
    );
    assert!(world.orchestrator.store().trace_get(task).await.unwrap().is_none());
    for obligation in world.orchestrator.store().obligation_list().await.unwrap() {
        world.orchestrator.meet(obligation).await;
    }
    assert!(world.orchestrator.store().trace_get(task).await.unwrap().is_none(), "no call, no trace");
    assert_eq!(world.orchestrator.store().obligation_list().await.unwrap(), []);
}

#[tokio::test]
async fn a_trace_has_a_bound_and_says_so() {
    let world = world().await;
    let me = boxed(&world, true).await;
    calls(&world, &me, 1, &["fix it"]).await;
    // As if as much had been recorded: it is no part that can be read, and is left out.
    let key = format!("{}9-filler", parts_of(me.task)).parse().unwrap();
    let filler = vec![0u8; usize::try_from(limit::TRACE_MAX_BYTES).unwrap()];
    world.orchestrator.parts().objects.put(&key, objects::body(filler)).await.unwrap();
    let mut again = world;
    again.router = Gateway::new(again.orchestrator.clone(), again.models.clone()).routes();
    calls(&again, &me, 2, &["fix it", "I do", "good"]).await;
    calls(&again, &me, 3, &["fix it", "I do", "good", "?", "!"]).await;
    assert_eq!(parts(&again, me.task).await, 3);
    let told = milestones(&again, me.task).await;
    assert_eq!(told.iter().filter(|m| m["milestone"] == "trace_truncated").count(), 1, "{told:?}");
    let trace = sealed(&again, me.task).await;
    assert_eq!(trace.calls.len(), 1);
    assert!(trace.truncated);
}

#[tokio::test]
async fn sealing_may_be_repeated_and_late_parts_are_swept() {
    let world = world().await;
    let me = boxed(&world, true).await;
    calls(&world, &me, 1, &["fix it"]).await;
    let first = sealed(&world, me.task).await;
    let late = orchestrator::trace::part_key(
        me.task,
        world.orchestrator.now(),
        "call_late",
        orchestrator::trace::Half::Response,
    );
    let objects = &world.orchestrator.parts().objects;
    objects.put(&late.unwrap(), objects::body("late")).await.unwrap();
    assert_eq!(world.orchestrator.sweep_traces().await, 1);
    world.orchestrator.seal_trace(me.task).await.unwrap();
    let told = milestones(&world, me.task).await;
    assert_eq!(told.iter().filter(|m| m["milestone"] == "trajectory_uploaded").count(), 1, "{told:?}");
    let key = format!("traces/ann/{}.jsonl.gz", me.task).parse().unwrap();
    let again = objects.get(&key).await.unwrap().unwrap().whole(usize::MAX).await.unwrap();
    assert_eq!(Trajectory::read(again.as_slice()).unwrap(), first);
    assert_eq!(world.orchestrator.sweep_traces().await, 0);
    // Far from the day it was stored, by the clock of the files.
    let stored = objects.stat(&key).await.unwrap().unwrap().modified.as_second();
    let age = u64::try_from(stored - world.orchestrator.now().as_second()).unwrap();
    world.clock.advance(std::time::Duration::from_secs(age) + limit::TRACE_RETENTION * 2);
    assert_eq!(world.orchestrator.sweep_traces().await, 1);
    assert!(objects.get(&key).await.unwrap().is_none());
}
