//! Transcripts, played.

use std::collections::BTreeSet;

use domain::FailureCode;
use gateway::model::{Basis, Kind, ModelRouter, ProviderConfig, Purpose};
use serde_json::{Value, json};

use super::fake::*;

fn play(transcript: &Value) -> (tempfile::TempDir, ModelRouter) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("m-1.json"), transcript.to_string()).unwrap();
    let mut provider = ProviderConfig::new(Kind::Script);
    provider.path = Some(dir.path().to_owned());
    provider.timeouts.backoff_ms = 10;
    (dir, router_of(provider))
}

fn said(text: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": text }] })
}

async fn turn(router: &ModelRouter, number: Option<u32>, task_number: u128) -> Value {
    let mut call = call(json!({}));
    (call.turn, call.task) = (number, task(task_number));
    serde_json::from_str(&text(router.proxy(call, FakeMeter::new()).await).await).unwrap()
}

#[tokio::test]
async fn the_turn_follows_from_the_request() {
    let (_dir, router) =
        play(&json!({ "version": 1, "turns": [said("one"), said("two")], "compaction": "in short" }));
    assert_eq!(turn(&router, Some(2), 1).await["content"][0]["text"], "two");
    assert_eq!(turn(&router, Some(2), 1).await["content"][0]["text"], "two", "asked again, said again");
    assert_eq!(turn(&router, None, 1).await["content"][0]["text"], "one");
    assert_eq!(turn(&router, Some(3), 1).await["content"][0]["text"], "The transcript has ended.");
    let mut counted = call(
        json!({ "messages": [{ "role": "user", "content": "a" }, { "role": "assistant", "content": "b" }, { "role": "user", "content": "c" }] }),
    );
    counted.turn = None;
    let response = router.proxy(counted.clone(), FakeMeter::new()).await;
    assert!(text(response).await.contains("\"two\""));
    counted.purpose = Purpose::Compaction;
    assert!(text(router.proxy(counted, FakeMeter::new()).await).await.contains("\"in short\""));
    let (_dir, endless) =
        play(&json!({ "version": 1, "turns": [said("one"), said("two")], "after_last": "repeat" }));
    assert_eq!(turn(&endless, Some(1_001), 1).await["content"][0]["text"], "one");
}

#[tokio::test]
async fn tool_calls_have_new_ids_and_usage_is_given_or_computed() {
    let call_turn = json!({ "content": [{ "type": "tool_use", "name": "bash", "input": { "command": "ls" } }, { "type": "tool_use", "name": "bash" }] });
    let (_dir, router) = play(
        &json!({ "version": 1, "model": "shown", "turns": [call_turn, { "content": [{ "type": "text", "text": "x" }], "usage": { "input_tokens": 1000, "output_tokens": 10 } }] }),
    );
    let mut ids = BTreeSet::new();
    for _ in 0..5 {
        let message = turn(&router, Some(1), 1).await;
        assert_eq!((&message["stop_reason"], &message["model"]), (&json!("tool_use"), &json!("shown")));
        assert!(message["usage"]["input_tokens"].as_u64().unwrap() > 10);
        for block in message["content"].as_array().unwrap() {
            ids.insert(block["id"].to_string());
        }
    }
    assert_eq!(ids.len(), 10);
    let meter = FakeMeter::new();
    let mut second = call(json!({ "stream": true }));
    second.turn = Some(2);
    text(router.proxy(second, meter.clone()).await).await;
    let usage = meter.only_record();
    assert_eq!(
        (usage.tokens.input, usage.tokens.output, usage.basis, usage.cost.unwrap().0),
        (1000, 10, Basis::Reported, 3150)
    );
}

#[tokio::test]
async fn errors_cuts_and_malformed_calls_are_played() {
    let limited = json!({ "content": [{ "type": "text", "text": "at last" }], "error": { "status": 429, "retry_after": 0, "times": 2 } });
    let cut = json!({ "content": [{ "type": "text", "text": "abcdef" }], "chunk": 2, "cut_after": 4 });
    let malformed = json!({ "content": [{ "type": "tool_use", "name": "bash" }], "malformed_tool_json": "{\"command\": oops" });
    let refused = json!({ "error": { "status": 401, "message": "no" } });
    let (_dir, router) = play(&json!({ "version": 1, "turns": [limited, cut, malformed, refused] }));
    for other_task in [1, 2] {
        let meter = FakeMeter::new();
        let mut first = call(json!({}));
        (first.turn, first.task) = (Some(1), task(other_task));
        assert!(text(router.proxy(first, meter.clone()).await).await.contains("at last"));
        assert_eq!(meter.waits().len(), 2, "each task meets the error");
    }
    let streamed = async |number| {
        let mut call = call(json!({ "stream": true }));
        call.turn = Some(number);
        text(router.proxy(call, FakeMeter::new()).await).await
    };
    let cut = streamed(2).await;
    assert!(
        cut.contains("\"text\":\"ab\"") && cut.contains("\"text\":\"cd\"") && !cut.contains("ef\""),
        "{cut}"
    );
    assert!(cut.contains("event: error") && !cut.contains("message_stop"), "{cut}");
    assert!(streamed(3).await.contains(r#""partial_json":"{\"command\": oops""#));
    assert_eq!(turn(&router, Some(3), 1).await["content"][0]["input"], "{\"command\": oops");
    assert_eq!(turn(&router, Some(4), 1).await["error"]["code"], "MODEL_AUTH_FAILED");
}

#[tokio::test]
async fn a_folder_is_read_anew_and_stays_a_folder() {
    let (dir, router) = play(&json!({ "version": 1, "turns": [said("before")] }));
    assert_eq!(turn(&router, Some(1), 1).await["content"][0]["text"], "before");
    std::fs::write(
        dir.path().join("m-1.json"),
        json!({ "version": 1, "turns": [said("afterwards")] }).to_string(),
    )
    .unwrap();
    assert_eq!(turn(&router, Some(1), 1).await["content"][0]["text"], "afterwards");
    for name in ["absent", "../m-1", ".m"] {
        assert_eq!(
            router.resolve(&format!("p/{name}")).unwrap_err().code,
            FailureCode::ModelUnknown,
            "{name}"
        );
    }
    std::fs::write(dir.path().join("bad.json"), "{\"version\": 1, \"turns\": [{}]}").unwrap();
    let failure = router.check("p/bad", None, std::time::Duration::from_secs(5)).await.unwrap_err();
    assert!(failure.detail.contains("bad.json: turn 1, content"), "{failure}");
}
