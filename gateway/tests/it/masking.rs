//! What a box says and what a model is asked, with secrets in it.

use axum::body::Body;
use axum::response::IntoResponse as _;
use domain::State;
use gateway::model::Kind;
use orchestrator::Masks;
use secrecy::SecretString;
use serde_json::{Value, json};
use store::{EventCursor, EventQuery};

use crate::model::fake::{self, Fake};
use crate::world::*;

/// A configured secret, and how tools print it.
const VALUE: &str = "s3cret/of the platform+1";
const FORMS: [&str; 6] = [
    VALUE,
    "czNjcmV0L29mIHRoZSBwbGF0Zm9ybSsx",
    "s3cret%2Fof%20the%20platform%2B1",
    "s3cret%2fof+the+platform%2b1",
    "7333637265742f6f662074686520706c6174666f726d2b31",
    "s3cret/of \nthe platform+1",
];

fn token() -> String {
    format!("ghp_{}", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0fG3hJ6")
}

async fn world() -> World {
    World::with(|policy| policy.masks = Masks::new(&[SecretString::from(VALUE.to_owned())])).await
}

/// Everything that must not be found, and does not depend on how JSON writes it.
#[track_caller]
fn clean(text: &str) {
    for form in FORMS.iter().filter(|form| !form.contains("\n")) {
        assert!(!text.contains(form), "{form} in {text}");
    }
    assert!(!text.contains("of the\\nplatform") && !text.contains(&token()), "{text}");
    assert!(text.contains("[redacted]"), "{text}");
}

async fn events(world: &World, task: domain::TaskId) -> String {
    let query = EventQuery { task, from: EventCursor::Start, limit: 1_000 };
    let events = world.orchestrator.store().events_read(query).await.unwrap();
    let all: Vec<Value> = events.into_iter().map(|e| e.metadata).collect();
    Value::from(all).to_string()
}

/// D-030: previews were not masked.
#[tokio::test]
async fn events_and_artifacts_are_stored_without_secrets() {
    let world = world().await;
    let me = world.boxed().await;
    let said: Vec<String> = FORMS.iter().map(|form| format!("out: {form};")).collect();
    let cut = format!("export KEY={}...", &VALUE[..11]);
    let metadata = json!({
        "content_preview": said.join("\n"), "nested": { VALUE: [token(), cut] }, "turn": 1,
    });
    let event = json!({ "key": "k1", "event_type": "agent_tool_result", "metadata": metadata });
    let answer = world
        .call("POST", "/box/v1/events", Some(&me.token), Some(json!({ "events": [event] })))
        .await
        .json(200);
    assert_eq!(answer["stored"], 1, "{answer}");
    let stored = events(&world, me.task).await;
    clean(&stored);
    assert!(!stored.contains(&VALUE[..11]) && stored.contains("\"turn\":1"), "{stored}");

    for (name, body) in [
        ("trace.ndjson", format!("{}\n{}\n", json!({ "a": said[0] }), json!({ "b": [said[5], token()] }))),
        ("log.txt", format!("{} {}", said.join(" "), token())),
    ] {
        let path = format!("/box/v1/artifacts/{name}");
        world.send(request("PUT", &path, Some(&me.token), Some(Body::from(body)))).await.nothing();
        let dir = world.folder.path().join(format!("objects/artifacts/{}-{}", me.task, me.attempt));
        clean(&std::fs::read_to_string(dir.join(name)).unwrap());
    }
    let picture = [&[0x89, b'P', 0xff][..], VALUE.as_bytes()].concat();
    let put = request("PUT", "/box/v1/artifacts/p.png", Some(&me.token), Some(Body::from(picture.clone())));
    world.send(put).await.nothing();
    let dir = world.folder.path().join(format!("objects/artifacts/{}-{}", me.task, me.attempt));
    assert_eq!(std::fs::read(dir.join("p.png")).unwrap(), picture, "what is no text stays whole");
}

#[tokio::test]
async fn a_result_is_kept_without_secrets() {
    let world = world().await;
    let me = world.boxed().await;
    world.call("POST", "/box/v1/started", Some(&me.token), None).await.nothing();
    let failure = json!({ "code": "INTERNAL_ERROR", "detail": format!("pushing with {VALUE}") });
    let report = json!({
        "agent": "error", "build": "inert", "lint": "inert", "turns_attempted": 1, "turns_completed": 1,
        "pr_title": FORMS[1], "pr_body": format!("used {} and {}", FORMS[2], token()), "answer": FORMS[5],
        "failure": failure,
    });
    world.call("POST", "/box/v1/result", Some(&me.token), Some(report)).await.nothing();
    let task = world.task(me.task).await;
    assert!(matches!(task.state, State::Finalizing { .. }), "{task:?}");
    clean(&serde_json::to_string(&task.state).unwrap());
    world.drive(me.task).await;
    let ended = world.task(me.task).await;
    let all = format!("{} {}", serde_json::to_string(&ended.state).unwrap(), events(&world, me.task).await);
    clean(&all);
}

/// D-066: output of built-in tools was not masked.
#[tokio::test]
async fn a_model_is_never_shown_a_configured_secret_and_its_own_words_come_back_as_they_were() {
    let answer = json!({
        "id": "m", "type": "message", "role": "assistant", "model": "x", "stop_reason": "end_turn",
        "content": [{ "type": "text", "text": "ok" }], "usage": { "input_tokens": 1, "output_tokens": 1 },
    });
    let upstream = Fake::start(move |_, _| axum::Json(answer.clone()).into_response()).await;
    let masks = |policy: &mut orchestrator::Policy| {
        policy.masks = Masks::new(&[SecretString::from(VALUE.to_owned())]);
    };
    let provider = fake::provider(Kind::Anthropic, &upstream.url(""));
    let world = World::with_provider(masks, provider).await;
    let me = world.boxed().await;
    world.call("POST", "/box/v1/started", Some(&me.token), None).await.nothing();
    let signature = format!("EqQB{}", token());
    let results: Vec<Value> =
        FORMS.iter().map(|form| json!({ "type": "text", "text": format!("printed: {form}\n") })).collect();
    let body = json!({
        "max_tokens": 10,
        "messages": [
            { "role": "user", "content": "go" },
            { "role": "assistant", "content": [
                { "type": "thinking", "thinking": "hm", "signature": signature },
                { "type": "tool_use", "id": "t", "name": "Bash", "input": { "command": "env" } },
            ] },
            { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t", "content": results }] },
        ],
    });
    world.call("POST", "/model/v1/messages", Some(&me.token), Some(body)).await.json(200);
    let seen = upstream.requests();
    let asked = seen.iter().find(|s| s.path.ends_with("/messages") && s.body["max_tokens"] == 10).unwrap();
    let messages = &asked.body["messages"];
    assert_eq!(messages[1]["content"][0]["signature"], signature);
    for part in messages[2]["content"][0]["content"].as_array().unwrap() {
        assert_eq!(part["text"], "printed: [redacted]\n");
    }
}
