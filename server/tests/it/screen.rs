//! What is said to agents is screened before anything is stored.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::http::{Method, Request};
use domain::event::EventKind;
use screening::{Screen, ScreenError, Screens, Source, Verdict};
use serde_json::{Value, json};
use store::{EventCursor, EventQuery};

use crate::support::*;

/// Blocks `bad`, warns of `odd`, does not answer to `away`.
#[derive(Debug, Default)]
struct Words(Mutex<Vec<Source>>);

#[async_trait]
impl Screen for Words {
    async fn screen(&self, source: Source, text: &str) -> Result<Verdict, ScreenError> {
        self.0.lock().unwrap().push(source);
        match text {
            "bad" => Ok(Verdict::Blocked("it is bad".into())),
            "odd" => Ok(Verdict::Warned("it is odd".into())),
            "away" => Err(ScreenError { screen: "the screen".into(), reason: "it sleeps".into() }),
            _ => Ok(Verdict::Passed),
        }
    }
}

fn world() -> (World, Arc<Words>) {
    let words = Arc::new(Words::default());
    let screens = Screens::new(vec![words.clone()]);
    (World::with_policy(|policy| policy.screens = screens), words)
}

fn task(description: &str) -> Value {
    json!({ "repo": "octo/cat", "task_description": description })
}

async fn warnings(world: &World, id: &str) -> Vec<Value> {
    let query = EventQuery { task: id.parse().unwrap(), from: EventCursor::Start, limit: 100 };
    let all = world.orchestrator.store().events_read(query).await.unwrap();
    all.into_iter().filter(|e| e.kind == EventKind::ScreeningWarned).map(|e| e.metadata).collect()
}

#[tokio::test]
async fn a_submission_is_blocked_refused_or_told() {
    let (world, _) = world();
    let message = world.post(task("bad")).await.error(400, "VALIDATION_ERROR");
    assert_eq!(message, "task_description: blocked by content policy: it is bad; rephrase it");
    let refused = world.post(task("away")).await;
    let message = refused.error(503, "SERVICE_UNAVAILABLE");
    assert!(message.contains("nothing was stored") && message.contains("it sleeps"), "{message}");
    assert_eq!(refused.headers["retry-after"], "30");
    assert_eq!(world.get("/v1/tasks").await.data(200), json!([]), "nothing half done");
    let odd = world.post(task("odd")).await.data(201);
    let told = warnings(&world, odd["task_id"].as_str().unwrap()).await;
    assert_eq!(told, [json!({ "source": "submission", "reason": "it is odd" })]);
    let fine = world.post(task("fine")).await.data(201);
    assert!(warnings(&world, fine["task_id"].as_str().unwrap()).await.is_empty());
}

/// D-003: a replay was screened, and paid for, again.
#[tokio::test]
async fn bug_1_4_c_a_replay_does_not_pay_for_screening_again() {
    let (world, words) = world();
    let submit = || {
        let body = task("fine").to_string();
        let request = Request::post("/v1/tasks").header("x-api-key", KEY).header("idempotency-key", "k");
        request.header("content-type", "application/json").body(body.into()).unwrap()
    };
    world.send(submit()).await.data(201);
    world.send(submit()).await.data(200);
    assert_eq!(*words.0.lock().unwrap(), [Source::Submission]);
}

#[tokio::test]
async fn nudges_and_questions_are_screened_too() {
    let (world, words) = world();
    let id = world.submitted("x").await.to_string();
    for (path, field, source) in [("nudge", "message", "nudge"), ("asks", "question", "ask")] {
        let path = format!("/v1/tasks/{id}/{path}");
        let say = async |text: &str| world.call(Method::POST, &path, Some(json!({ field: text }))).await;
        let message = say("bad").await.error(400, "VALIDATION_ERROR");
        assert!(message.starts_with(&format!("{field}: blocked by content policy: it is bad")), "{message}");
        say("away").await.error(503, "SERVICE_UNAVAILABLE");
        say("odd").await.data(202);
        let told = warnings(&world, &id).await;
        assert_eq!(told.last(), Some(&json!({ "source": source, "reason": "it is odd" })));
    }
    let asks = world.get(&format!("/v1/tasks/{id}/asks")).await.data(200);
    assert_eq!(asks["asks"].as_array().unwrap().len(), 1, "what was refused is not kept");
    assert_eq!(words.0.lock().unwrap().len(), 6);
    // Nobody would read a nudge to a task that has ended: it costs no screening.
    world.cancel(id.parse().unwrap()).await;
    let path = format!("/v1/tasks/{id}/nudge");
    world
        .call(Method::POST, &path, Some(json!({ "message": "away" })))
        .await
        .error(409, "TASK_ALREADY_TERMINAL");
    assert_eq!(words.0.lock().unwrap().len(), 6);
}
