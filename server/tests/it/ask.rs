//! `/v1/tasks/{id}/asks`.

use std::time::Duration;

use axum::http::Method;
use domain::Attempt;
use domain::steer::AnswerSource;
use serde_json::{Value, json};

use crate::support::*;

async fn ask(world: &World, id: impl std::fmt::Display, question: &str) -> Answer {
    let body = json!({ "question": question });
    world.call(Method::POST, &format!("/v1/tasks/{id}/asks"), Some(body)).await
}

async fn answered(world: &World, ask: &Value, wait: u64) -> Value {
    let path = format!(
        "/v1/tasks/{}/asks/{}?wait={wait}",
        ask["task_id"].as_str().unwrap(),
        ask["ask_id"].as_str().unwrap()
    );
    within(world.get(&path)).await.data(200)
}

#[tokio::test]
async fn an_agent_at_work_answers_and_a_waiter_is_told_at_once() {
    let world = World::new();
    let source = source().await;
    let id = world.running(&source, "x").await;
    let open = ask(&world, id, " how far? ").await.data(202);
    assert_eq!((&open["status"], &open["question"]), (&json!("open"), &json!("how far?")));
    assert_eq!((&open["answer"], &open["answered_from"]), (&Value::Null, &Value::Null));
    assert_eq!(answered(&world, &open, 0).await, open, "nothing yet");
    let said = async {
        let ask = open["ask_id"].as_str().unwrap().parse().unwrap();
        let orchestrator = &world.orchestrator;
        let done =
            orchestrator.box_answers(id, Attempt(1), ask, AnswerSource::Agent, " half way ").await.unwrap();
        assert!(done.is_some());
    };
    let (answer, ()) = tokio::join!(answered(&world, &open, 30), said);
    assert_eq!((&answer["status"], &answer["answer"]), (&json!("answered"), &json!("half way")));
    assert_eq!(answer["answered_from"], "agent");
    let kinds = world.get(&format!("/v1/tasks/{id}/events")).await.column("event_type");
    assert_eq!(kinds[kinds.len() - 2..], [json!("ask_opened"), json!("ask_answered")]);
    let list = world.get(&format!("/v1/tasks/{id}/asks")).await.data(200);
    assert_eq!(list["asks"], json!([answer]));
}

#[tokio::test]
async fn one_question_of_a_person_is_open_at_a_time() {
    let world = World::new();
    let source = source().await;
    let id = world.running(&source, "x").await;
    let open = ask(&world, id, "a?").await.data(202);
    let message = ask(&world, id, "b?").await.error(409, "ASK_ALREADY_OPEN");
    assert!(message.contains(open["ask_id"].as_str().unwrap()), "{message}");
}

#[tokio::test]
async fn without_an_agent_the_record_answers_and_says_so() {
    let world = World::new();
    let source = source().await;
    let ended = world.running(&source, "y").await;
    world.says(ended, "I mended the parser").await;
    world.completed(&source, ended).await;
    let answer = ask(&world, ended, "what came of it?").await.data(202);
    assert_eq!((&answer["status"], &answer["answered_from"]), (&json!("answered"), &json!("record")));
    let text = answer["answer"].as_str().unwrap();
    assert!(text.contains("No agent is at work") && text.contains("COMPLETED"), "{text}");
    let again = ask(&world, ended, "what came of it?").await.data(202);
    assert_eq!(again["answer"], answer["answer"], "the same record, the same words");
    let kinds = world.get(&format!("/v1/tasks/{ended}/events")).await.column("event_type");
    assert_eq!(kinds.last().unwrap(), "task_completed", "a log that is closed stays closed");
}

#[tokio::test]
async fn a_question_whose_agent_ends_first_is_answered_from_the_record() {
    let world = World::new();
    let source = source().await;
    let id = world.running(&source, "x").await;
    let open = ask(&world, id, "how far?").await.data(202);
    let cancel = async {
        world.cancel(id).await;
    };
    let (answer, ()) = tokio::join!(answered(&world, &open, 30), cancel);
    assert_eq!(answer["answered_from"], "record");
    assert!(answer["answer"].as_str().unwrap().contains("CANCELLED"), "{answer}");
    // One whose worker verifies has no agent either.
    let id = world.running(&source, "x").await;
    let store = world.orchestrator.store();
    store.session_heartbeat(id, Attempt(1), "verify", world.orchestrator.now()).await.unwrap();
    let answer = ask(&world, id, "how far?").await.data(202);
    assert!(answer["answer"].as_str().unwrap().contains("being verified"), "{answer}");
}

#[tokio::test]
async fn bounds_owners_and_rates_are_kept() {
    let world = World::new();
    let id = world.submitted("x").await;
    world.cancel(id).await;
    for (question, said) in [("", "question is required"), (&*"x".repeat(2_001), "at most 2000")] {
        let message = ask(&world, id, question).await.error(400, "VALIDATION_ERROR");
        assert!(message.contains(said), "{message}");
    }
    for n in 0..10 {
        ask(&world, id, &format!("{n}")).await.data(202);
    }
    let refused = ask(&world, id, "again").await;
    refused.error(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(refused.headers["retry-after"], "60");
    world.clock.advance(Duration::from_secs(60));
    ask(&world, id, "again").await.data(202);
    let theirs = world.submitted_by("somebody", repo(), "x").await;
    let path = format!("/v1/tasks/{theirs}/asks");
    let body = Some(json!({ "question": "a?" }));
    world.call_as(ANN, Method::POST, &path, body).await.error(404, "TASK_NOT_FOUND");
    world.get_as(ANN, &path).await.error(404, "TASK_NOT_FOUND");
    for unknown in ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "nonsense"] {
        world.get(&format!("/v1/tasks/{id}/asks/{unknown}")).await.error(404, "REQUEST_NOT_FOUND");
    }
    world
        .get(&format!("/v1/tasks/{id}/asks/01ARZ3NDEKTSV4RRFFQ69G5FAV?wait=soon"))
        .await
        .error(400, "VALIDATION_ERROR");
}
