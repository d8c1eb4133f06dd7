//! The box API, as a box and as somebody who pretends to be one.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use domain::Attempt;
use domain::event::{EventKind, NewEvent};
use domain::limit;
use serde_json::{Value, json};
use store::{Appended, EventAppend, EventCursor, EventQuery};
use tokio::time::Instant;

use crate::world::*;

/// Every route that takes a session token, with a body it would accept.
fn routes(task: domain::TaskId) -> Vec<(&'static str, String, Option<Value>)> {
    vec![
        ("POST", "/box/v1/started".into(), None),
        ("POST", "/box/v1/events".into(), Some(json!({ "events": [event("k", json!({}))] }))),
        ("GET", "/box/v1/directives?wait=0".into(), None),
        ("POST", "/box/v1/left".into(), None),
        ("POST", "/box/v1/nudges/take".into(), Some(json!({ "ids": [] }))),
        (
            "POST",
            "/box/v1/asks/01ARZ3NDEKTSV4RRFFQ69G5FAV/answer".into(),
            Some(json!({ "answer": "x", "source": "agent" })),
        ),
        ("POST", "/box/v1/heartbeat".into(), Some(json!({ "stage": "agent" }))),
        ("PUT", "/box/v1/artifacts/a.txt".into(), Some(json!("x"))),
        ("GET", "/box/v1/attachments/01ARZ3NDEKTSV4RRFFQ69G5FAV".into(), None),
        ("GET", "/box/v1/attachments/01ARZ3NDEKTSV4RRFFQ69G5FAV/text".into(), None),
        ("POST", "/box/v1/result".into(), Some(report())),
        ("POST", "/model/v1/messages".into(), Some(json!({ "messages": [], "max_tokens": 1 }))),
        ("GET", "/box/v1/tunnel".into(), None),
        ("GET", format!("/git/{task}.git/info/refs?service=git-upload-pack"), None),
        ("POST", format!("/git/{task}.git/git-upload-pack"), None),
        ("POST", format!("/git/{task}.git/git-receive-pack"), None),
    ]
}

fn event(key: &str, metadata: Value) -> Value {
    json!({ "key": key, "event_type": "agent_turn", "metadata": metadata })
}

fn report() -> Value {
    json!({
        "agent": "success", "build": "passed", "lint": "inert", "turns_attempted": 1, "turns_completed": 1,
        "head_sha": null, "commits": 0, "pr_title": "", "pr_body": "", "answer": "nothing to do", "failure": null,
    })
}

async fn kinds(world: &World, task: domain::TaskId) -> Vec<String> {
    let query = EventQuery { task, from: EventCursor::Start, limit: 1_000 };
    let events = world.orchestrator.store().events_read(query).await.unwrap();
    events.iter().map(|e| e.kind.as_str()).collect()
}

async fn post_events(world: &World, token: &str, events: Vec<Value>) -> Answer {
    world.call("POST", "/box/v1/events", Some(token), Some(json!({ "events": events }))).await
}

/// D-038: two sessions worked on one task.
#[tokio::test]
async fn the_first_instance_attaches_and_no_other() {
    let world = World::new().await;
    let task = world.submitted().await;
    world.drive(task).await;
    let token = world.bootstrap(task, 1);
    let first = world.attach(task, 1, "i1", &token).await.json(200);
    assert_eq!(first["spec"]["git_path"], format!("/git/{task}.git"));
    assert_eq!((&first["spec"]["base_branch"], &first["spec"]["model"]), (&json!("main"), &json!("demo/m")));
    assert_eq!(
        world.attach(task, 1, "i1", &token).await.json(200),
        first,
        "its answer was lost: the same again"
    );
    world.attach(task, 1, "i2", &token).await.refused(409, "SESSION_SUPERSEDED");
    assert_eq!(kinds(&world, task).await.iter().filter(|k| *k == "session_attached").count(), 1);
}

#[tokio::test]
async fn only_the_bootstrap_token_of_this_attempt_attaches() {
    let world = World::new().await;
    let (task, other) = (world.submitted().await, world.submitted().await);
    world.drive(task).await;
    world.drive(other).await;
    let session = world.boxed().await.token;
    let good = world.bootstrap(task, 1);
    for token in
        ["", "x", &good[..good.len() - 1], &world.bootstrap(task, 2), &world.bootstrap(other, 1), &session]
    {
        world.attach(task, 1, "i1", token).await.refused(401, "UNAUTHORIZED");
    }
    // The token of an attempt that has not begun is good, but the attempt is not.
    world.attach(task, 2, "i1", &world.bootstrap(task, 2)).await.refused(409, "SESSION_SUPERSEDED");
    world.attach(task, 1, "i1", &good).await.json(200);
    // A bootstrap token is no session token.
    world.call("POST", "/box/v1/started", Some(&good), None).await.refused(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn nonsense_is_told_in_the_shape_of_this_api() {
    let world = World::new().await;
    let task = world.submitted().await;
    world.drive(task).await;
    let token = world.bootstrap(task, 1);
    for instance in ["", "a_b", "a b", "../x", &"a".repeat(65), "\u{00e9}"] {
        world.attach(task, 1, instance, &token).await.refused(400, "BAD_REQUEST");
    }
    let me = world.boxed_again(task, 1).await;
    for (method, path, body) in [
        ("POST", "/box/v1/attach", "{}"),
        ("POST", "/box/v1/events", "{"),
        ("POST", "/box/v1/events", r#"{"events":1}"#),
        ("POST", "/box/v1/heartbeat", "[]"),
        ("POST", "/box/v1/result", r#"{"agent":"splendid"}"#),
        ("GET", "/box/v1/directives?wait=soon", ""),
        ("PUT", "/box/v1/artifacts/%FF", ""),
    ] {
        let answer = world.send(request(method, path, Some(&me.token), Some(body))).await;
        answer.refused(400, "BAD_REQUEST");
    }
    let large = "x".repeat(limit::EVENT_BODY_MAX_BYTES + 1);
    for path in ["/box/v1/events", "/box/v1/result"] {
        let body = json!({ "events": [event("k", json!({ "t": large }))] }).to_string();
        world.send(request("POST", path, Some(&me.token), Some(body))).await.refused(413, "TOO_LARGE");
    }
}

#[tokio::test]
async fn a_box_that_is_faster_than_the_record_is_asked_to_wait() {
    let world = World::new().await;
    let task = world.submitted().await;
    // The box runs, but the session is recorded only when the mirror is there too.
    let ((), me) = tokio::join!(world.drive(task), async {
        world.backend.started(task, Attempt(1)).await;
        let me = world.boxed_again(task, 1).await;
        world.call("POST", "/box/v1/started", Some(&me.token), None).await.refused(425, "TOO_EARLY");
        me
    });
    world.call("POST", "/box/v1/started", Some(&me.token), None).await.nothing();
}

#[tokio::test]
async fn a_start_that_is_told_twice_is_one() {
    let world = World::new().await;
    let me = world.boxed().await;
    for _ in 0..2 {
        world.call("POST", "/box/v1/started", Some(&me.token), None).await.nothing();
    }
    assert_eq!(world.task(me.task).await.status().as_str(), "RUNNING");
    assert_eq!(kinds(&world, me.task).await.iter().filter(|k| *k == "task_running").count(), 1);
}

/// D-127: what an agent works by was not on the record.
#[tokio::test]
async fn a_start_may_say_by_which_words() {
    let world = World::new().await;
    let me = world.boxed().await;
    for bad in [json!({ "prompt_version": "latest" }), json!({ "prompt_version": 12 }), json!("0123456789ab")]
    {
        let told = world.call("POST", "/box/v1/started", Some(&me.token), Some(bad)).await;
        told.refused(400, "BAD_REQUEST");
    }
    assert_eq!(
        world.task(me.task).await.status().as_str(),
        "HYDRATING",
        "it has not begun by a word that is none"
    );
    let good = json!({ "prompt_version": "0123456789ab", "of a later worker": 1 });
    world.call("POST", "/box/v1/started", Some(&me.token), Some(good)).await.nothing();
    let version = world.task(me.task).await.results.prompt_version;
    assert_eq!(version.map(|version| version.to_string()).as_deref(), Some("0123456789ab"));
}

/// D-028: one large event silenced all others.
#[tokio::test]
async fn a_bad_event_is_refused_alone() {
    let world = World::new().await;
    let me = world.boxed().await;
    let before = kinds(&world, me.task).await.len();
    let fits = "x".repeat(limit::EVENT_METADATA_MAX_BYTES - r#"{"t":""}"#.len());
    let typed = |key: &str, kind: &str| json!({ "key": key, "event_type": kind, "metadata": {} });
    let events = vec![
        event("good-1", json!({ "turn": 1 })),
        typed("unknown", "agent_dance"),
        typed("ours", "task_completed"),
        typed("money", "agent_cost_update"),
        event("large", json!({ "t": format!("{fits}x") })),
        event("list", json!([1])),
        event("null", json!(null)),
        event("", json!({})),
        event(&"k".repeat(65), json!({})),
        typed("long", &"e".repeat(100_000)),
        event("fits", json!({ "t": fits })),
        event("good-2", json!({ "text": "a\u{0}b \u{202e} \u{1f600}" })),
        event("good-1", json!({ "turn": 1 })),
    ];
    let accepted = post_events(&world, &me.token, events.clone()).await.json(200);
    assert_eq!((&accepted["stored"], &accepted["duplicates"]), (&json!(3), &json!(1)), "{accepted}");
    let refused: Vec<_> = accepted["refused"].as_array().unwrap().iter().collect();
    let keys: Vec<_> = refused.iter().map(|r| r["key"].as_str().unwrap()).take(5).collect();
    assert_eq!(keys, ["unknown", "ours", "money", "large", "list"]);
    assert_eq!(refused.len(), 9);
    assert!(refused.iter().all(|r| r["reason"].as_str().unwrap().len() < 200), "{refused:?}");
    let again = post_events(&world, &me.token, events).await.json(200);
    assert_eq!((&again["stored"], &again["duplicates"]), (&json!(0), &json!(4)), "{again}");
    assert_eq!(kinds(&world, me.task).await.len(), before + 3);
}

#[tokio::test]
async fn a_batch_has_a_bound() {
    let world = World::new().await;
    let me = world.boxed().await;
    let many = |n: usize| (0..n).map(|k| event(&k.to_string(), json!({}))).collect();
    post_events(&world, &me.token, many(limit::EVENT_BATCH_MAX + 1)).await.refused(413, "TOO_LARGE");
    let accepted = post_events(&world, &me.token, many(limit::EVENT_BATCH_MAX)).await.json(200);
    assert_eq!(accepted["stored"], limit::EVENT_BATCH_MAX);
    assert_eq!(post_events(&world, &me.token, vec![]).await.json(200)["stored"], 0);
}

#[tokio::test]
async fn a_box_that_floods_is_cut_off_once_and_works_on() {
    let world = World::new().await;
    let me = world.boxed().await;
    world.call("POST", "/box/v1/started", Some(&me.token), None).await.nothing();
    let many = limit::EVENTS_PER_ATTEMPT_MAX;
    let flood = (0..many)
        .map(|n| NewEvent { client_key: Some(format!("box-f{n}")), ..NewEvent::bare(EventKind::AgentTurn) });
    let append = EventAppend {
        task: me.task,
        attempt: me.attempt,
        events: flood.collect(),
        attempt_limit: many * 2,
        now: world.orchestrator.now(),
    };
    let stored = world.orchestrator.store().events_append(append).await.unwrap();
    assert!(matches!(stored, Appended::Stored { .. }));
    for key in ["one", "two"] {
        post_events(&world, &me.token, vec![event(key, json!({}))]).await.refused(429, "EVENT_LIMIT");
    }
    let query = EventQuery { task: me.task, from: EventCursor::Newest, limit: 3 };
    let last = world.orchestrator.store().events_read(query).await.unwrap();
    let dropped = last.iter().filter(|e| e.kind.as_str() == "events_dropped").count();
    assert_eq!(dropped, 1, "{last:?}");
    world.call("POST", "/box/v1/result", Some(&me.token), Some(report())).await.nothing();
}

/// D-050: a cancel was noticed when the agent wanted to stop.
#[tokio::test]
async fn a_cancel_reaches_a_waiting_box_at_once() {
    let world = World::new().await;
    let me = world.boxed().await;
    tokio::time::pause();
    let ask = |wait: u32| format!("/box/v1/directives?wait={wait}");
    let begin = Instant::now();
    let quiet = world.call("GET", &ask(5), Some(&me.token), None).await.json(200);
    assert_eq!((quiet, begin.elapsed().as_secs()), (json!({ "cancel": false }), 5));
    // An event of its own is no directive.
    let begin = Instant::now();
    let long = ask(4_000);
    let (answer, _) = tokio::join!(
        world.call("GET", &long, Some(&me.token), None),
        post_events(&world, &me.token, vec![event("k", json!({}))])
    );
    assert_eq!((answer.json(200)["cancel"].clone(), begin.elapsed().as_secs()), (json!(false), 30));
    let begin = Instant::now();
    let (answer, ()) = tokio::join!(world.call("GET", &long, Some(&me.token), None), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        world.cancel(me.task).await;
    });
    assert_eq!((answer.json(200), begin.elapsed().as_secs()), (json!({ "cancel": true }), 3));
    world.call("GET", &long, Some(&me.token), None).await.refused(409, "SESSION_SUPERSEDED");
}

#[tokio::test]
async fn every_route_refuses_a_box_whose_time_is_over() {
    let world = World::new().await;
    let me = world.boxed().await;
    let before = kinds(&world, me.task).await;
    for (attempt, instance) in [(0, "i1"), (2, "i1"), (1, "i2")] {
        let stranger = world.signed(me.task, attempt, instance);
        for (method, path, body) in routes(me.task) {
            let answer = world.call(method, &path, Some(&stranger.token), body).await;
            assert_eq!(answer.status, 409, "{attempt} {instance} {method} {path}: {}", answer.text());
        }
    }
    assert_eq!(kinds(&world, me.task).await, before, "nothing of them was stored");
    world.call("POST", "/box/v1/started", Some(&me.token), None).await.nothing();
    world.cancel(me.task).await;
    for (method, path, body) in routes(me.task) {
        if path == "/box/v1/result" {
            continue;
        }
        let answer = world.call(method, &path, Some(&me.token), body).await;
        assert_eq!(answer.status, 409, "{method} {path}: {}", answer.text());
    }
    assert!(!world.folder.path().join("objects/artifacts").exists(), "nothing was written");
    world.attach(me.task, 1, "i1", &world.bootstrap(me.task, 1)).await.refused(409, "SESSION_SUPERSEDED");
}

#[tokio::test]
async fn every_route_wants_a_token_of_this_gateway() {
    let world = World::new().await;
    let me = world.boxed().await;
    let cut = &me.token[..me.token.len() - 1];
    let other = me.token.replacen("_1_", "_2_", 1);
    for (method, path, body) in routes(me.task) {
        for token in [None, Some(""), Some("x"), Some(cut), Some(other.as_str())] {
            let answer = world.call(method, &path, token, body.clone()).await;
            assert_eq!(answer.status, 401, "{method} {path} {token:?}: {}", answer.text());
        }
    }
    for path in ["/v1/tasks", "/v1/health", "/metrics", "/", "/box/v1/nope"] {
        assert_eq!(world.call("GET", path, Some(&me.token), None).await.status, 404, "{path}");
    }
}

/// D-040: the last write was tried once.
#[tokio::test]
async fn a_result_may_be_told_again_also_after_the_end() {
    let world = World::new().await;
    let me = world.boxed().await;
    world.call("POST", "/box/v1/started", Some(&me.token), None).await.nothing();
    for _ in 0..2 {
        world.call("POST", "/box/v1/result", Some(&me.token), Some(report())).await.nothing();
    }
    world.drive(me.task).await;
    let status = world.task(me.task).await.status();
    assert!(status.is_terminal(), "{status}");
    world.call("POST", "/box/v1/result", Some(&me.token), Some(report())).await.nothing();
    let told = kinds(&world, me.task).await;
    assert_eq!(told.iter().filter(|k| *k == "result_received").count(), 1, "{told:?}");
}

#[tokio::test]
async fn artifacts_are_plain_files_of_the_attempt() {
    let world = World::new().await;
    let me = world.boxed().await;
    let put = async |name: &str, bytes: Vec<u8>| {
        let path = format!("/box/v1/artifacts/{name}");
        world.send(request("PUT", &path, Some(&me.token), Some(Body::from(bytes)))).await
    };
    let dir = world.folder.path().join(format!("objects/artifacts/{}-{}", me.task, me.attempt));
    let long = "a".repeat(101);
    for bad in ["%2e%2e", "..%2f..%2fx", ".hidden", "a%2fb", "a%00b", "%C3%A9", "a%20b", long.as_str()] {
        put(bad, vec![1]).await.refused(400, "BAD_REQUEST");
    }
    assert!(!dir.exists(), "nothing was written");
    put("log.txt.part", b"mine".to_vec()).await.nothing();
    put("log.txt", b"one".to_vec()).await.nothing();
    put("log.txt", b"two".to_vec()).await.nothing();
    put("empty", vec![]).await.nothing();
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    assert_eq!(
        (read("log.txt").as_str(), read("log.txt.part").as_str(), read("empty").as_str()),
        ("two", "mine", "")
    );
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 3);
}

#[tokio::test]
async fn a_heartbeat_is_recorded() {
    let world = World::new().await;
    let me = world.boxed().await;
    world.clock.advance(Duration::from_secs(100));
    let beat = json!({ "stage": "s".repeat(10_000) });
    let answer = world.call("POST", "/box/v1/heartbeat", Some(&me.token), Some(beat)).await;
    assert_eq!(answer.json(200), json!({ "cancel": false }));
    let session = world.orchestrator.store().session_get(me.task, me.attempt).await.unwrap().unwrap();
    assert_eq!(session.heartbeat_at, Some(world.orchestrator.now()));
}

#[tokio::test]
async fn a_token_is_taken_as_anthropic_clients_send_it() {
    let world = World::new().await;
    let me = world.boxed().await;
    let body =
        json!({ "model": "demo/m", "max_tokens": 10, "messages": [{ "role": "user", "content": "hi" }] });
    let request = Request::post("/model/v1/messages")
        .header("x-api-key", &me.token)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap();
    assert_eq!(world.send(request).await.json(200)["content"][0]["text"], "done");
    let spent = world.task(me.task).await.spent;
    assert_eq!(spent.calls, 1, "the call is metered");
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_token_is_in_a_log_or_an_error() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // With one subscriber alone, tracing asks only the thread that comes first to a log line, which may be another
    // test's, whether anybody listens.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _guard = tracing::subscriber::set_default(subscriber);
    let world = World::new().await;
    let me = world.boxed().await;
    let bootstrap = world.bootstrap(me.task, 1);
    let mut said = String::new();
    world.attach(me.task, 1, "i2", &bootstrap).await.refused(409, "SESSION_SUPERSEDED");
    world.cancel(me.task).await;
    for token in [me.token.as_str(), bootstrap.as_str()] {
        for (method, path, body) in routes(me.task) {
            said += &world.call(method, &path, Some(token), body).await.text();
        }
        said += &world.attach(me.task, 1, "i1", token).await.text();
    }
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains(&me.task.to_string()), "something was logged at all");
    for token in [&me.token, &bootstrap] {
        let secret = token.rsplit_once('_').unwrap().1;
        assert!(!logged.contains(secret) && !said.contains(secret), "{logged}\n{said}");
    }
}
