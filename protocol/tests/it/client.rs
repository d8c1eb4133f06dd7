//! Requests as they are on the wire, errors as callers see them, and streams that are cut.

use std::sync::Arc;
use std::time::Duration;

use domain::TaskId;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use protocol::client::stream::{Item, Watch};
use protocol::client::{Bearer, Client, ClientError, EventQuery, Order, Replayed, TaskFilter};
use protocol::rest::CreateTaskRequest;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::fake::{Fake, event, frame, json, sse};

fn task() -> TaskId {
    "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()
}

fn detail() -> Value {
    json!({
        "task_id": task().to_string(), "status": "SUBMITTED", "repo": "o/r", "issue_number": null,
        "resolved_workflow": null, "pr_number": null, "task_description": "do", "branch_name": "bgagent/x",
        "base_branch": null, "session_id": null, "isolation": null, "attempt": 0, "pr_url": null,
        "error_message": null, "error_classification": null, "warning": null, "channel_source": "cli",
        "created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z", "started_at": null,
        "completed_at": null, "duration_s": null, "cost_usd": null, "unpriced_calls": 0, "input_tokens": 0,
        "output_tokens": 0, "model": null, "build_passed": null, "lint_passed": null, "max_turns": 100,
        "max_budget_usd": null, "turns_attempted": null, "turns_completed": null, "head_sha": null,
        "code_changed": null, "answer_text": null, "trace": false, "queued_at": null, "queue_position": null,
        "estimated_wait_s": null,
    })
}

fn refusal(code: &str, message: &str) -> Value {
    json!({ "error": { "code": code, "message": message, "request_id": "r-1" } })
}

#[tokio::test]
async fn a_submission_carries_key_and_idempotency_key_and_tells_a_replay() {
    let fake = Fake::start(|number, _| {
        let mut answer = json(201, json!({ "data": detail() }));
        if number == 1 {
            answer.headers_mut().insert("Idempotent-Replay", "true".parse().unwrap());
        }
        answer
    })
    .await;
    let request = CreateTaskRequest {
        repo: Some("o/r".into()),
        task_description: Some("do".into()),
        ..CreateTaskRequest::default()
    };

    let (made, replayed) = fake.client().create_task(&request, Some("k-1")).await.unwrap();
    assert_eq!((made.status.as_str(), replayed), ("SUBMITTED", Replayed::No));
    let (_, replayed) = fake.client().create_task(&request, Some("k-1")).await.unwrap();
    assert_eq!(replayed, Replayed::Yes);

    let asked = &fake.asked()[0];
    assert_eq!((asked.method.as_str(), asked.path_and_query.as_str()), ("POST", "/v1/tasks"));
    assert_eq!(asked.headers["X-API-Key"], "key-1");
    assert_eq!(asked.headers["Idempotency-Key"], "k-1");
    assert_eq!(asked.body, json!({ "repo": "o/r", "task_description": "do" }), "absent fields are not sent");
}

#[tokio::test]
async fn queries_are_as_the_contract_names_them() {
    let fake = Fake::start(|_, _| {
        json(200, json!({ "data": [], "pagination": { "next_token": null, "has_more": false } }))
    })
    .await;
    let client = fake.client();
    let filter =
        TaskFilter { status: Some("QUEUED,RUNNING".into()), limit: Some(5), ..TaskFilter::default() };
    client.list(&filter).await.unwrap();
    let query = EventQuery {
        after: Some("01".into()),
        limit: Some(20),
        order: Order::NewestFirst,
        wait: Some(Duration::from_secs(3)),
        next_token: Some("a+b".into()),
    };
    client.events(task(), &query).await.unwrap();
    client.events(task(), &EventQuery::default()).await.unwrap();
    let paths: Vec<_> = fake.asked().into_iter().map(|a| a.path_and_query).collect();
    assert_eq!(
        paths,
        [
            "/v1/tasks?status=QUEUED%2CRUNNING&limit=5".to_owned(),
            format!("/v1/tasks/{}/events?after=01&limit=20&wait=3&next_token=a%2Bb&desc=1", task()),
            format!("/v1/tasks/{}/events", task()),
        ]
    );
}

#[tokio::test]
async fn errors_keep_status_code_and_wish_to_wait() {
    let fake = Fake::start(|number, _| match number {
        0 => json(404, refusal("TASK_NOT_FOUND", "no such task")),
        1 => {
            let mut answer = json(429, refusal("RATE_LIMIT_EXCEEDED", "slow down"));
            answer.headers_mut().insert("Retry-After", "7".parse().unwrap());
            answer
        }
        2 => axum::http::Response::builder().status(502).body("<html>bad gateway</html>".into()).unwrap(),
        _ => axum::http::Response::new("not json".into()),
    })
    .await;
    let client = fake.client();

    let not_found = client.task(task()).await.unwrap_err();
    assert_eq!(not_found.to_string(), "no such task (TASK_NOT_FOUND)");
    assert!(!not_found.is_transient());

    let limited = client.cancel(task()).await.unwrap_err();
    assert_eq!(limited.retry_after(), Some(Duration::from_secs(7)));
    assert!(limited.is_transient());

    let foreign = client.pull_request(task()).await.unwrap_err();
    assert_eq!(foreign.to_string(), "HTTP 502: <html>bad gateway</html> (non-JSON response) (HTTP_ERROR)");

    let bad = client.task(task()).await.unwrap_err();
    assert!(matches!(bad, ClientError::BadAnswer { .. }) && !bad.is_transient(), "{bad}");
}

#[tokio::test]
async fn nobody_there_is_told_with_the_address_and_without_the_key() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/");
    let client = Client::new(url.parse().unwrap(), Some("key-1".to_owned().into())).unwrap();
    let error = client.task(task()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("the server at {url} does not answer"));
    assert!(error.is_transient() && !format!("{error:?} {client:?}").contains("key-1"));
    assert!(matches!(Client::new("ftp://x/".parse().unwrap(), None), Err(ClientError::BadUrl { .. })));
}

async fn watch(fake: &Fake, watch: Watch) -> (Vec<u64>, usize, Option<ClientError>) {
    let (mut events, mut cuts, mut error) = (vec![], 0, None);
    let mut stream = fake.client().stream(task(), watch);
    while let Some(item) = tokio::time::timeout(Duration::from_secs(20), stream.next()).await.unwrap() {
        match item {
            Ok(Item::Event(event)) => events.push(event.seq),
            Ok(Item::Interrupted { .. }) => cuts += 1,
            Err(e) => error = Some(e),
        }
    }
    (events, cuts, error)
}

#[tokio::test]
async fn a_cut_stream_goes_on_where_it_was_and_drops_what_is_repeated() {
    let fake = Fake::start(|number, _| match number {
        0 => {
            sse(vec![frame(1, "task_created"), Some(": hello\n\n".into()), frame(2, "session_started"), None])
        }
        1 => json(503, refusal("SERVICE_UNAVAILABLE", "starting")),
        2 => sse(vec![frame(2, "session_started"), frame(3, "a_kind_of_tomorrow")]),
        _ => sse(vec![frame(4, "task_completed"), frame(5, "session_stopped")]),
    })
    .await;
    let (events, cuts, error) = watch(&fake, Watch::default()).await;
    assert_eq!((events, cuts), (vec![1, 2, 3, 4, 5], 3));
    assert!(error.is_none());
    let ids: Vec<_> = fake
        .asked()
        .iter()
        .map(|a| a.headers.get("Last-Event-ID").map(|v| v.to_str().unwrap().to_owned()))
        .collect();
    let id = |seq| Some(event(seq, "").event_id);
    assert_eq!(ids, [None, id(2), id(2), id(3)]);
}

/// A login that is renewed each time it is asked for.
#[derive(Debug, Default)]
struct Renewed(std::sync::atomic::AtomicU32);

impl Bearer for Renewed {
    fn token(&self) -> BoxFuture<'_, Result<SecretString, ClientError>> {
        let number = self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move { Ok(SecretString::from(format!("token-{number}"))) }.boxed()
    }
}

#[tokio::test]
async fn a_stream_that_ends_with_its_token_goes_on_with_the_next_one() {
    let fake = Fake::start(|number, _| match number {
        0 => sse(vec![frame(1, "task_created"), Some(": the stream ends: the token has expired\n\n".into())]),
        _ => sse(vec![frame(2, "task_completed")]),
    })
    .await;
    let client =
        Client::new(fake.url.parse().unwrap(), None).unwrap().with_bearer(Arc::new(Renewed::default()));
    let items: Vec<_> = client.stream(task(), Watch::default()).collect().await;
    let seen: Vec<_> = items
        .iter()
        .filter_map(|item| match item {
            Ok(Item::Event(event)) => Some(event.seq),
            _ => None,
        })
        .collect();
    assert_eq!(seen, [1, 2], "{items:?}");
    let asked = fake.asked();
    let header = |n: usize, name: &str| asked[n].headers[name].to_str().unwrap().to_owned();
    assert_eq!(
        [header(0, "authorization"), header(1, "authorization")],
        ["Bearer token-0", "Bearer token-1"]
    );
    assert_eq!(header(1, "last-event-id"), event(1, "").event_id);
}

/// D-109: the last events were never shown.
#[tokio::test]
async fn a_cut_after_the_last_word_is_healed_too() {
    let fake = Fake::start(|number, _| match number {
        0 => sse(vec![frame(8, "task_failed"), None]),
        _ => sse(vec![frame(9, "session_stopped")]),
    })
    .await;
    let (events, cuts, error) = watch(&fake, Watch { after: Some("07".into()), ..Watch::default() }).await;
    assert_eq!((events, cuts), (vec![8, 9], 1));
    assert!(error.is_none());
    assert_eq!(fake.asked()[0].headers["Last-Event-ID"], "07");
}

/// D-110: a rate limit ended the watch.
#[tokio::test]
async fn a_rate_limit_is_waited_out_and_a_refusal_is_not() {
    let fake = Fake::start(|number, _| match number {
        0 => {
            let mut answer = json(429, refusal("RATE_LIMIT_EXCEEDED", "slow down"));
            answer.headers_mut().insert("Retry-After", "1".parse().unwrap());
            answer
        }
        _ => json(404, refusal("TASK_NOT_FOUND", "no such task")),
    })
    .await;
    let begun = std::time::Instant::now();
    let (events, cuts, error) = watch(&fake, Watch::default()).await;
    assert_eq!((events, cuts), (vec![], 1));
    assert!(begun.elapsed() >= Duration::from_secs(1), "Retry-After was not kept");
    assert_eq!(error.unwrap().code(), Some("TASK_NOT_FOUND"));
    assert_eq!(fake.asked().len(), 2);
}

#[tokio::test]
async fn a_server_that_stays_away_is_given_up() {
    let fake = Fake::start(|_, _| json(503, refusal("SERVICE_UNAVAILABLE", "no"))).await;
    let give_up_after = Duration::from_millis(600);
    let (events, cuts, error) = watch(&fake, Watch { give_up_after, ..Watch::default() }).await;
    assert!(events.is_empty() && cuts >= 1);
    assert!(error.unwrap().is_transient());
}

#[tokio::test]
async fn where_no_stream_can_be_had_the_same_events_come_by_polling() {
    let gateway = || json(405, json!("no streams here"));
    let html =
        || axum::http::Response::builder().header("content-type", "text/html").body("<html>".into()).unwrap();
    for refuse in [&gateway as &(dyn Fn() -> crate::fake::Answer + Sync), &html] {
        let answers = std::sync::Mutex::new((refuse)());
        let fake = Fake::start(move |number, asked| {
            let page = |events: Vec<_>| {
                json(200, json!({ "data": events, "pagination": { "next_token": null, "has_more": false } }))
            };
            let path = asked.path_and_query.as_str();
            if path.ends_with("/stream") {
                return std::mem::take(&mut *answers.lock().unwrap());
            }
            let task = |status: &str| {
                let mut task = detail();
                task["status"] = status.into();
                json(200, json!({ "data": task }))
            };
            match (number, path.contains("/events")) {
                (1, true) => page(vec![event(1, "task_created"), event(2, "task_running")]),
                (2, true) => page(vec![]),
                (3, false) => task("RUNNING"),
                (4, true) => {
                    let mut answer = json(429, refusal("RATE_LIMIT_EXCEEDED", "slow down"));
                    answer.headers_mut().insert("Retry-After", "0".parse().unwrap());
                    answer
                }
                (5, true) => page(vec![]),
                // It has ended, and its last events were written since the look before.
                (6, false) => task("COMPLETED"),
                (7, true) => page(vec![event(3, "task_completed")]),
                (8, true) => page(vec![]),
                other => panic!("{other:?} {path}"),
            }
        })
        .await;
        let (events, cuts, error) = watch(&fake, Watch::default()).await;
        assert_eq!((events, cuts), (vec![1, 2, 3], 2), "{error:?}");
        assert!(error.is_none(), "{error:?}");
        let asked = fake.asked();
        assert!(asked[2].path_and_query.contains(&format!("after={}", event(2, "").event_id)));
        assert!(asked[1].path_and_query.contains("wait="));
    }
}

/// D-102: requests had no end.
#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up() {
    // The system takes the connection; nobody reads it.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let client = Client::new(url.parse().unwrap(), None).unwrap();
    let request = CreateTaskRequest::default();
    let begun = tokio::time::Instant::now();
    let all = async {
        [
            client.task(task()).await.unwrap_err(),
            client.list(&TaskFilter::default()).await.unwrap_err(),
            client.create_task(&request, None).await.unwrap_err(),
            client.nudge(task(), "x").await.unwrap_err(),
            client.events(task(), &EventQuery::default()).await.unwrap_err(),
            client.replay(task()).await.unwrap_err(),
            client.trace(task()).await.unwrap_err(),
            client.cancel(task()).await.unwrap_err(),
        ]
    };
    let errors = tokio::time::timeout(Duration::from_secs(3_600), all).await.expect("each has an end");
    assert!(errors.iter().all(ClientError::is_transient), "worth another try: {errors:?}");
    assert!(begun.elapsed() >= Duration::from_secs(8), "they were waited for, by the paused clock");
}
