//! The model proxy against providers that behave and misbehave.

pub mod fake;
mod openai;
mod peer;
mod resolve;
mod script;
mod waits;

use std::time::Duration;

use axum::response::IntoResponse as _;
use domain::{FailureCode, MicroUsd};
use gateway::model::{Basis, FAILURE_HEADER, Kind, ModelCall, Purpose, Refusal};
use serde_json::json;

use fake::*;

/// What a client hears meanwhile that waits for long; on a busy machine so do others.
const PING: &str = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
const STREAM: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"usage\":{\"input_tokens\":100,\"cache_read_input_tokens\":50,\"output_tokens\":1}}}\n\n",
    "event: ping\ndata: {\"type\": \"ping\"}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi ñ\"}}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":20}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

/// D-081: the cost was an estimate of the agent's.
#[tokio::test]
async fn an_anthropic_stream_passes_unchanged_and_is_metered_before_its_end() {
    let upstream = Fake::start(|_, _| sse(vec![&STREAM[..7], &STREAM[7..321], &STREAM[321..]])).await;
    let router = router(Kind::Anthropic, &upstream.url("/v1"));
    let meter = FakeMeter::new();
    let mut headers = http::HeaderMap::new();
    headers.append("anthropic-beta", "a-1".parse().unwrap());
    headers.append("anthropic-beta", "b-2".parse().unwrap());
    headers.append("authorization", "Bearer session-token".parse().unwrap());
    let call = call_with(json!({ "stream": true, "model": "another" }), headers);
    let response = router.proxy(call, meter.clone()).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(text(response).await.trim_start_matches(PING), STREAM);

    let usage = meter.only_record();
    assert_eq!((usage.tokens.input, usage.tokens.cache_read, usage.tokens.output), (100, 50, 20));
    assert_eq!((usage.basis, usage.model.as_str(), usage.turn), (Basis::Reported, "p/m-1", Some(3)));
    // 100 at 3 dollars, 50 at 0.3, 20 at 15, for a million each.
    assert_eq!((usage.cost, usage.price_as_of.as_deref()), (Some(MicroUsd(615)), Some("2026-11-01")));

    let seen = upstream.requests();
    assert_eq!(seen.len(), 1);
    let betas: Vec<_> =
        seen[0].headers.get_all("anthropic-beta").iter().map(|v| v.to_str().unwrap()).collect();
    assert_eq!((seen[0].path.as_str(), betas), ("/v1/messages", vec!["a-1", "b-2"]));
    assert_eq!(
        (&seen[0].headers["x-api-key"], &seen[0].headers["anthropic-version"]),
        (&KEY.parse().unwrap(), &"2023-06-01".parse().unwrap())
    );
    assert_eq!(seen[0].headers.get("authorization"), None, "the box's token stays here");
    assert_eq!(
        (&seen[0].body["model"], &seen[0].body["messages"]),
        (&json!("m-1"), &json!([{ "role": "user", "content": "Hello" }]))
    );
}

/// D-032: the cost was told at the end only.
#[tokio::test]
async fn the_record_is_written_before_the_client_sees_the_end() {
    let upstream = Fake::start(|_, _| sse(vec![STREAM])).await;
    let meter = FakeMeter::new();
    let response = router(Kind::Anthropic, &upstream.url(""))
        .proxy(call(json!({ "stream": true })), meter.clone())
        .await;
    let mut stream = response.into_body().into_data_stream();
    let mut seen = String::new();
    while !seen.contains("message_stop") {
        seen.push_str(std::str::from_utf8(&next(&mut stream).await.unwrap()).unwrap());
    }
    meter.only_record();
}

#[tokio::test]
async fn a_whole_message_passes_unchanged() {
    let body = r#"{"id":"m","type":"message","content":[],"usage":{"input_tokens":7,"output_tokens":3}}"#;
    let upstream =
        Fake::start(move |_, _| ([("content-type", "application/json")], body).into_response()).await;
    let meter = FakeMeter::new();
    let response = router(Kind::Anthropic, &upstream.url("")).proxy(call(json!({})), meter.clone()).await;
    assert_eq!((response.status().as_u16(), text(response).await.as_str()), (200, body));
    assert_eq!((meter.only_record().tokens.input, meter.only_record().tokens.output), (7, 3));
}

#[tokio::test]
async fn a_stream_that_breaks_ends_in_an_error_event_and_is_metered_once() {
    let part = &STREAM[..STREAM.find("event: message_delta").unwrap() + 30];
    let upstream = Fake::start(move |_, _| broken(part)).await;
    let meter = FakeMeter::new();
    let response = router(Kind::Anthropic, &upstream.url(""))
        .proxy(call(json!({ "stream": true })), meter.clone())
        .await;
    let got = text(response).await;
    let whole = &STREAM[..STREAM.find("event: message_delta").unwrap()];
    let rest = got.strip_prefix(whole).expect("whole events only");
    assert!(
        rest.starts_with("event: error\ndata: {") && rest.contains("broke") && rest.ends_with("\n\n"),
        "{rest}"
    );
    let usage = meter.only_record();
    assert_eq!((usage.tokens.input, usage.basis), (100, Basis::Estimated));
}

/// D-081: the cost was an estimate of the agent's.
#[tokio::test]
async fn a_client_that_goes_away_is_still_paid_for() {
    let cut = STREAM.find("event: message_delta").unwrap();
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    let open = gate.clone();
    let upstream = Fake::start(move |_, _| gated(&STREAM[..cut], open.clone(), &STREAM[cut..])).await;
    let meter = FakeMeter::new();
    let router = router(Kind::Anthropic, &upstream.url(""));
    let response = router.proxy(call(json!({ "stream": true })), meter.clone()).await;
    let mut stream = response.into_body().into_data_stream();
    next(&mut stream).await.unwrap();
    drop(stream);
    gate.notify_one();
    router.drain(Duration::from_secs(10)).await;
    let usage = meter.only_record();
    assert_eq!((usage.tokens.output, usage.basis), (20, Basis::Reported));
}

#[tokio::test]
async fn a_record_that_fails_is_tried_again_under_the_same_id() {
    let upstream = Fake::start(|_, _| sse(vec![STREAM])).await;
    let meter = FakeMeter::new();
    meter.fail_records(2);
    let response = router(Kind::Anthropic, &upstream.url(""))
        .proxy(call(json!({ "stream": true })), meter.clone())
        .await;
    assert_eq!(text(response).await.trim_start_matches(PING), STREAM);
    assert_eq!(meter.record_ids().len(), 3);
    assert!(meter.record_ids().iter().all(|id| *id == meter.record_ids()[0]));
    meter.only_record();
}

#[tokio::test]
async fn refusals_cost_nothing_and_ask_nobody() {
    let upstream = Fake::start(|_, _| sse(vec![STREAM])).await;
    let router = router(Kind::Anthropic, &upstream.url(""));
    let budget = Refusal::BudgetExceeded {
        spent: MicroUsd(1_010_000),
        budget: MicroUsd(1_000_000),
        words: "the task's budget is used up".into(),
    };
    let cases = [
        (budget, 402, "budget_exceeded", Some("MAX_BUDGET")),
        (Refusal::Superseded, 409, "session_superseded", Some("SESSION_SUPERSEDED")),
        (Refusal::Ended { reason: "cancelled".into() }, 409, "task_ended", Some("TASK_ENDED")),
        (Refusal::Unavailable { reason: "busy".into() }, 503, "api_error", None),
    ];
    for (refusal, status, kind, code) in cases {
        let meter = FakeMeter::new();
        meter.refuse(refusal);
        let response = router.proxy(call(json!({ "stream": true })), meter.clone()).await;
        let header = response.headers().get(FAILURE_HEADER).map(|v| v.to_str().unwrap().to_owned());
        assert_eq!((response.status().as_u16(), header.as_deref()), (status, code));
        let body: serde_json::Value = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!(kind)));
        assert_eq!(meter.record_ids().len(), 0);
    }
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn provider_errors_are_mapped_and_never_show_the_key() {
    let cases = [
        (401, "authentication_error", Some("MODEL_AUTH_FAILED"), 401, "does not accept the configured key"),
        (403, "authentication_error", Some("MODEL_AUTH_FAILED"), 403, "does not accept the configured key"),
        (404, "not_found_error", Some("MODEL_UNKNOWN"), 404, "does not know the model"),
        (400, "some_type", Some("MODEL_REQUEST_REJECTED"), 400, "words about ***"),
        (302, "api_error", Some("MODEL_UNREACHABLE"), 502, "a redirect"),
    ];
    for (sent, kind, code, status, says) in cases {
        let upstream =
            Fake::start(move |_, _| error(sent, "some_type", &format!("words about {KEY}"), None)).await;
        let router = router(Kind::Anthropic, &upstream.url(""));
        for stream in [false, true] {
            let response = router.proxy(call(json!({ "stream": stream })), FakeMeter::new()).await;
            let header = response.headers().get(FAILURE_HEADER).map(|v| v.to_str().unwrap().to_owned());
            assert_eq!((response.status().as_u16(), header.as_deref()), (status, code));
            let body = text(response).await;
            assert!(body.contains(kind) && body.contains(says) && !body.contains(KEY), "{sent}: {body}");
        }
        assert!(!format!("{router:?} {:?}", router.resolve("p/m-1")).contains(KEY));
    }
}

#[tokio::test]
async fn bad_requests_are_refused_here() {
    let upstream = Fake::start(|_, _| sse(vec![STREAM])).await;
    let router = router(Kind::Anthropic, &upstream.url(""));
    let mut bad = [
        call(json!({})),
        call(json!({})),
        call(json!({ "stream": "yes" })),
        call(json!({ "max_tokens": 0 })),
    ];
    bad[0].body = json!([]);
    bad[1].body = json!({ "messages": [] });
    for call in bad {
        assert_eq!(router.proxy(call, FakeMeter::new()).await.status(), 400);
    }
    let mut unknown = call(json!({ "stream": true }));
    unknown.model = "q/x".into();
    let response = router.proxy(unknown, FakeMeter::new()).await;
    assert_eq!(response.status(), 200, "a single provider takes any name; it answers for it");
}

#[test]
fn headers_and_sizes_are_checked_when_a_call_is_read() {
    let body = json!({ "max_tokens": 1, "messages": [{ "role": "user", "content": "a" }] }).to_string();
    let read = |name: &'static str, value: &str, body: &[u8]| {
        let headers =
            http::HeaderMap::from_iter([(http::HeaderName::from_static(name), value.parse().unwrap())]);
        ModelCall::from_http(task(1), domain::Attempt(1), "m", &headers, body)
    };
    let call = read("x-bgagent-turn", "7", body.as_bytes()).unwrap();
    assert_eq!((call.turn, call.purpose), (Some(7), Purpose::Main));
    assert_eq!(
        read("x-bgagent-purpose", "compaction", body.as_bytes()).unwrap().purpose,
        Purpose::Compaction
    );
    for (name, value) in [("x-bgagent-turn", "0"), ("x-bgagent-turn", "x"), ("x-bgagent-purpose", "fun")] {
        assert_eq!(read(name, value, body.as_bytes()).unwrap_err().status, 400, "{name}: {value}");
    }
    assert_eq!(read("x-a", "b", b"{not json").unwrap_err().status, 400);
    let large = vec![b' '; domain::limit::MODEL_BODY_MAX_BYTES + 1];
    assert_eq!(read("x-a", "b", &large).unwrap_err().status, 413);
}

#[tokio::test]
async fn preflight_tells_a_wrong_key_a_missing_price_and_an_unreachable_host_apart() {
    let deadline = Duration::from_secs(5);
    for kind in [Kind::Anthropic, Kind::Openai] {
        for (status, want) in [
            (200, None),
            (404, None),
            (405, None),
            (429, None),
            (401, Some(FailureCode::ModelAuthFailed)),
            (403, Some(FailureCode::ModelAuthFailed)),
        ] {
            let upstream = Fake::start(move |_, _| error(status, "t", "w", None)).await;
            let failed =
                router(kind, &upstream.url("/v1")).check("p/m-1", Some(MicroUsd(1)), deadline).await.err();
            assert_eq!(failed.map(|f| f.code), want, "{status}");
            assert_eq!(upstream.requests()[0].path, "/v1/models");
        }
        let router = router(kind, "http://127.0.0.1:1/v1");
        let failure = router.check("p/m-1", None, deadline).await.unwrap_err();
        assert_eq!(failure.code, FailureCode::ModelUnreachable);
        assert!(failure.detail.contains("127.0.0.1:1") && !failure.detail.contains(KEY), "{failure}");
        let failure = router.check("p/other", Some(MicroUsd(1)), deadline).await.unwrap_err();
        assert_eq!(
            (failure.code, failure.resource.as_deref()),
            (FailureCode::ModelPriceMissing, Some("p/other"))
        );
    }
}
