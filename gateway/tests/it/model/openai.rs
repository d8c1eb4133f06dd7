//! Chat Completions servers, whole and in part.

use axum::response::IntoResponse as _;
use gateway::model::{Basis, Kind};
use serde_json::{Value, json};

use super::fake::*;

const CHUNKS: &str = concat!(
    "data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"Hi\"},\"finish_reason\":null}]}\r\n\r\n",
    ": keepalive\r\n\r\n",
    "data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\r\n\r\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":5}}\r\n\r\n",
    "data: [DONE]\r\n\r\n",
);

fn names(stream: &str) -> Vec<String> {
    stream.lines().filter_map(|l| l.strip_prefix("event: ")).map(str::to_owned).collect()
}

const WHOLE: [&str; 6] = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
];

#[tokio::test]
async fn a_stream_is_translated_and_metered() {
    let upstream = Fake::start(|_, _| sse(CHUNKS.split_inclusive("c").collect())).await;
    let meter = FakeMeter::new();
    let response = router(Kind::Openai, &upstream.url("/v1/"))
        .proxy(call(json!({ "stream": true, "system": "Be brief." })), meter.clone())
        .await;
    assert_eq!(names(&text(response).await), WHOLE);
    let usage = meter.only_record();
    assert_eq!((usage.tokens.input, usage.tokens.output, usage.basis), (12, 5, Basis::Reported));
    let seen = &upstream.requests()[0];
    assert_eq!(
        (seen.path.as_str(), seen.headers["authorization"].to_str().unwrap()),
        ("/v1/chat/completions", &*format!("Bearer {KEY}"))
    );
    assert_eq!(
        seen.body,
        json!({
            "model": "m-1", "max_tokens": 64, "stream": true, "stream_options": { "include_usage": true },
            "messages": [{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "Hello" }],
        })
    );
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_made_to() {
    let answer =
        json!({ "id": "c", "choices": [{ "finish_reason": "stop", "message": { "content": "Hi" } }] })
            .to_string();
    let upstream =
        Fake::start(move |_, _| ([("content-type", "application/json")], answer.clone()).into_response())
            .await;
    let router = router(Kind::Openai, &upstream.url(""));
    for stream in [true, false] {
        let meter = FakeMeter::new();
        let got = text(router.proxy(call(json!({ "stream": stream })), meter.clone()).await).await;
        if stream {
            assert_eq!(names(&got), WHOLE);
        } else {
            let message: Value = serde_json::from_str(&got).unwrap();
            assert_eq!((&message["content"][0]["text"], &message["type"]), (&json!("Hi"), &json!("message")));
        }
        assert_eq!(meter.only_record().basis, Basis::Estimated, "it gave no usage");
    }
}

#[tokio::test]
async fn a_stream_that_ends_early_is_an_error_event_and_still_metered() {
    let upstream = Fake::start(|_, _| sse(vec![&CHUNKS[..CHUNKS.find(": keepalive").unwrap()]])).await;
    let meter = FakeMeter::new();
    let got = text(
        router(Kind::Openai, &upstream.url("")).proxy(call(json!({ "stream": true })), meter.clone()).await,
    )
    .await;
    assert_eq!(names(&got), ["message_start", "content_block_start", "content_block_delta", "error"]);
    assert_eq!(meter.only_record().basis, Basis::Estimated);
}

#[tokio::test]
async fn what_cannot_be_translated_is_refused_and_a_full_window_is_said_as_anthropic_says_it() {
    let upstream = Fake::start(|_, _| {
        let error = json!({ "error": { "message": "too many tokens", "type": "invalid_request_error", "code": "context_length_exceeded" } });
        (http::StatusCode::BAD_REQUEST, error.to_string()).into_response()
    })
    .await;
    let router = router(Kind::Openai, &upstream.url(""));
    let response =
        router.proxy(call(json!({ "tools": [{ "type": "web_search_20250305" }] })), FakeMeter::new()).await;
    assert_eq!((response.status().as_u16(), upstream.requests().len()), (400, 0));
    let response = router.proxy(call(json!({})), FakeMeter::new()).await;
    assert_eq!(response.status(), 400);
    assert!(text(response).await.contains("prompt is too long: too many tokens"));
}

#[tokio::test]
async fn an_error_in_mid_stream_does_not_show_the_key_and_a_page_is_not_an_answer() {
    let upstream = Fake::start(|n, _| match n {
        0 => sse(vec!["data: {\"error\":{\"message\":\"bad key sk-secret-key-123\"}}\n\n"]),
        _ => ([("content-type", "text/html")], "<html>").into_response(),
    })
    .await;
    let router = router(Kind::Openai, &upstream.url(""));
    let meter = FakeMeter::new();
    let got = text(router.proxy(call(json!({ "stream": true })), meter.clone()).await).await;
    assert!(got.starts_with("event: error") && got.contains("bad key ***"), "{got}");
    let response = router.proxy(call(json!({ "stream": true })), meter.clone()).await;
    assert_eq!(response.status(), 502);
    assert!(text(response).await.contains("check its base_url"));
    assert_eq!(meter.record_ids().len(), 0, "nothing was generated");
}
