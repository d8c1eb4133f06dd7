//! Providers that ask for patience, fail, or are not there.

use std::time::Duration;

use gateway::model::{FAILURE_HEADER, Kind, Refusal};
use serde_json::json;

use super::fake::*;
use super::{PING, STREAM};

#[tokio::test]
async fn a_busy_provider_is_waited_for_and_the_wait_is_told() {
    for (status, after) in [(429, Some("0")), (529, None), (503, Some("0"))] {
        let upstream = Fake::start(
            move |n, _| if n < 2 { error(status, "t", "busy", after) } else { sse(vec![STREAM]) },
        )
        .await;
        let meter = FakeMeter::new();
        let response = router(Kind::Anthropic, &upstream.url(""))
            .proxy(call(json!({ "stream": true })), meter.clone())
            .await;
        assert_eq!(text(response).await.trim_start_matches(PING), STREAM);
        let waits: Vec<_> = meter.waits().iter().map(|w| (w.status, w.model.clone())).collect();
        assert_eq!(waits, vec![(Some(status), "p/m-1".to_owned()); 2]);
        meter.only_record();
    }
}

#[tokio::test]
async fn a_wait_beyond_the_bound_is_not_begun() {
    let upstream = Fake::start(|_, _| error(429, "rate_limit_error", "slow down", Some("3600"))).await;
    let meter = FakeMeter::new();
    let response =
        within(router(Kind::Anthropic, &upstream.url("")).proxy(call(json!({})), meter.clone())).await;
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()[FAILURE_HEADER], "MODEL_UNREACHABLE");
    assert!(text(response).await.contains("slow down"));
    assert_eq!((upstream.requests().len(), meter.waits().len(), meter.record_ids().len()), (1, 0, 0));
}

#[tokio::test]
async fn dates_are_waits_too_and_an_empty_account_is_not_waited_for() {
    let upstream = Fake::start(|n, _| match n {
        0 => {
            let mut response = error(429, "t", "busy", Some("Sat, 21 Nov 2026 10:00:01 GMT"));
            response.headers_mut().insert("date", "Sat, 21 Nov 2026 10:00:00 GMT".parse().unwrap());
            response
        }
        _ => error(429, "insufficient_quota", "no money", None),
    })
    .await;
    let meter = FakeMeter::new();
    let response =
        within(router(Kind::Openai, &upstream.url("")).proxy(call(json!({})), meter.clone())).await;
    assert_eq!(response.headers()[FAILURE_HEADER], "MODEL_NOT_ENABLED");
    let wait = meter.waits()[0].retry_in;
    assert!(wait >= Duration::from_secs(1) && wait < Duration::from_secs(2), "{wait:?}");
}

#[tokio::test]
async fn a_failing_provider_gets_three_more_tries() {
    let upstream =
        Fake::start(|n, _| if n < 3 { error(500, "t", "oops", None) } else { sse(vec![STREAM]) }).await;
    let response = router(Kind::Anthropic, &upstream.url(""))
        .proxy(call(json!({ "stream": true })), FakeMeter::new())
        .await;
    assert_eq!(text(response).await.trim_start_matches(PING), STREAM);

    let upstream = Fake::start(|_, _| error(500, "t", "oops", None)).await;
    let response = router(Kind::Anthropic, &upstream.url(""))
        .proxy(call(json!({ "stream": true })), FakeMeter::new())
        .await;
    assert_eq!((response.status().as_u16(), upstream.requests().len()), (502, 4));
    assert!(text(response).await.contains("answered 500: oops"));
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_waited_for_and_named() {
    let mut provider = provider(Kind::Openai, "http://127.0.0.1:1/v1");
    provider.timeouts.unreachable_max_s = 1;
    provider.timeouts.backoff_ms = 100;
    let meter = FakeMeter::new();
    let response = within(router_of(provider).proxy(call(json!({ "stream": true })), meter.clone())).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()[FAILURE_HEADER]),
        (502, &"MODEL_UNREACHABLE".parse().unwrap())
    );
    let body = text(response).await;
    assert!(body.contains("127.0.0.1:1") && !body.contains(KEY), "{body}");
    assert!(
        meter.waits().len() >= 2 && meter.waits().iter().all(|w| w.status.is_none()),
        "{:?}",
        meter.waits()
    );
}

#[tokio::test]
async fn a_call_that_may_no_longer_be_made_is_not_tried_again() {
    let upstream = Fake::start(|_, _| error(429, "t", "busy", Some("0"))).await;
    let meter = FakeMeter::new();
    meter.refuse_after(1, Refusal::Superseded);
    let response = within(router(Kind::Anthropic, &upstream.url("")).proxy(call(json!({})), meter)).await;
    assert_eq!((response.status().as_u16(), upstream.requests().len()), (409, 1));
}

#[tokio::test]
async fn a_streaming_client_is_pinged_through_a_long_wait() {
    let upstream = Fake::start(|n, _| match n {
        0 => error(529, "overloaded_error", "busy", Some("4")),
        1 => sse(vec![STREAM]),
        2 => error(529, "overloaded_error", "busy", Some("4")),
        _ => error(401, "t", "no", None),
    })
    .await;
    let router = router(Kind::Anthropic, &upstream.url(""));
    let response = router.proxy(call(json!({ "stream": true })), FakeMeter::new()).await;
    assert_eq!(response.status(), 200);
    assert_eq!(text(response).await, format!("{PING}{STREAM}"));
    // The status has been sent, so a later refusal is an event.
    let response = router.proxy(call(json!({ "stream": true })), FakeMeter::new()).await;
    let got = text(response).await;
    let error = got.strip_prefix(PING).unwrap();
    assert!(
        error.starts_with("event: error\ndata: ") && error.contains("\"code\":\"MODEL_AUTH_FAILED\""),
        "{error}"
    );
}

#[tokio::test]
async fn a_client_that_leaves_during_a_wait_ends_the_call() {
    let upstream = Fake::start(|_, _| error(529, "overloaded_error", "busy", Some("600"))).await;
    let router = router(Kind::Anthropic, &upstream.url(""));
    let response = within(router.proxy(call(json!({ "stream": true })), FakeMeter::new())).await;
    drop(response);
    assert_eq!(within(router.drain(Duration::from_secs(10))).await, gateway::model::Drained::All);
    assert_eq!(upstream.requests().len(), 1);
}
