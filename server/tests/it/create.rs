//! `POST /v1/tasks`.

use axum::body::Body;
use axum::http::{Method, Request};
use domain::limit;
use serde_json::{Value, json};
use store::{Store, TaskFilter};

use crate::support::*;

fn minimal() -> Value {
    json!({ "repo": "octo/cat", "task_description": "fix it" })
}

fn with(field: &str, value: Value) -> Value {
    let mut body = minimal();
    body[field] = value;
    body
}

fn keyed(body: &Value, key: &str) -> Request<Body> {
    let mut request = request(Method::POST, "/v1/tasks", Some(body.clone()));
    request.headers_mut().insert("idempotency-key", key.parse().unwrap());
    request
}

fn raw(body: impl Into<Body>, content_type: Option<&str>) -> Request<Body> {
    let request = Request::post("/v1/tasks").header("x-api-key", KEY);
    let request = match content_type {
        Some(kind) => request.header("content-type", kind),
        None => request,
    };
    request.body(body.into()).unwrap()
}

async fn tasks(world: &World) -> usize {
    let filter = TaskFilter { limit: 1_000, ..TaskFilter::default() };
    world.orchestrator.store().task_list(filter).await.unwrap().len()
}

#[tokio::test]
async fn every_field_is_kept_and_missing_values_are_null() {
    let world = World::new();
    let answer = world.post(minimal()).await;
    insta::assert_json_snapshot!("created_minimal", answer.data(201), {
        ".task_id" => "[task]", ".branch_name" => "bgagent/[task]/fix-it"
    });
    assert!(answer.headers.get("idempotent-replay").is_none());
    let all = json!({
        "repo": "octo/cat", "task_description": "fix \u{00e9} it", "workflow_ref": "coding/new-task-v1@1.0.0",
        "issue_number": 7, "max_turns": 500, "max_budget_usd": 0.01, "trace": true, "model": "p/m",
        "base_branch": "release/1.x", "build_command": "make test", "lint_command": "make lint"
    });
    let made = world.post(all.clone()).await.data(201);
    for field in ["task_description", "issue_number", "max_turns", "max_budget_usd", "trace", "model"] {
        assert_eq!(made[field], all[field], "{field}");
    }
    let id = made["task_id"].as_str().unwrap().parse().unwrap();
    let spec = world.task(id).await.spec;
    assert_eq!(spec.base_branch.as_deref(), Some("release/1.x"));
    assert_eq!(spec.build_command.as_deref(), Some("make test"));
    assert_eq!(spec.lint_command.as_deref(), Some("make lint"));
    assert_eq!(world.get(&format!("/v1/tasks/{id}")).await.data(200), made, "GET tells what POST told");
}

#[tokio::test]
async fn every_bound_holds_from_both_sides() {
    let world = World::new();
    let long = |n| Value::String("a".repeat(n));
    for (field, good, bad) in [
        (
            "max_turns",
            vec![json!(1), json!(500)],
            vec![json!(0), json!(501), json!(-1), json!(1.5), json!("5")],
        ),
        (
            "max_budget_usd",
            vec![json!(0.01), json!(100), json!(100.0)],
            vec![json!(0.009), json!(100.01), json!(0), json!(-1), json!("1"), json!(1e300)],
        ),
        (
            "task_description",
            vec![long(1), long(10_000)],
            vec![long(10_001), json!(""), json!(" \n\t"), json!(null)],
        ),
        (
            "issue_number",
            vec![json!(1), json!(limit::ISSUE_NUMBER_MAX), json!(null)],
            vec![json!(0), json!(-1), json!(1.5), json!(limit::ISSUE_NUMBER_MAX + 1), json!(u64::MAX)],
        ),
        (
            "repo",
            vec![json!("a/b"), json!("A-1/b.c_d"), json!("/srv/git/x")],
            vec![
                json!(""),
                json!("a"),
                json!("a/b/c"),
                json!("../b"),
                json!("a/.."),
                json!("a b/c"),
                json!("/"),
                json!("/a/../b"),
                json!("a\u{0}/b"),
                json!(null),
            ],
        ),
        ("trace", vec![json!(true), json!(false)], vec![json!("false"), json!(1)]),
        (
            "workflow_ref",
            vec![json!("coding/new-task-v1"), json!("coding/new-task-v1@1.0.0")],
            vec![
                json!("coding/new-task-v1@2.0.0"),
                json!("coding/pr-review-v1"),
                json!("x/y-v1"),
                json!(""),
                json!("coding/new-task-v1@"),
            ],
        ),
        (
            "model",
            vec![json!("m"), long(200)],
            vec![long(201), json!("a b"), json!("a\nb"), json!("\u{00e9}")],
        ),
        (
            "base_branch",
            vec![json!("main"), long(200), json!("a/b")],
            vec![
                long(201),
                json!("-x"),
                json!("a..b"),
                json!("a b"),
                json!("a.lock"),
                json!("a/"),
                json!("@{1}"),
                json!("refs^"),
                json!("a\u{7f}"),
            ],
        ),
        ("build_command", vec![json!("x"), long(2_000)], vec![long(2_001), json!("a\u{0}b"), json!(1)]),
        ("lint_command", vec![json!("x"), long(2_000)], vec![long(2_001), json!("a\u{0}b"), json!([])]),
    ] {
        for value in good {
            world.post(with(field, value)).await.data(201);
        }
        let before = tasks(&world).await;
        for value in bad {
            let answer = world.post(with(field, value.clone())).await;
            let message = answer.error(400, "VALIDATION_ERROR");
            assert!(message.contains(field), "{field} {value}: the message names the field: {message}");
        }
        assert_eq!(tasks(&world).await, before, "{field}: nothing is stored of what is refused");
    }
    // Characters are counted, not bytes.
    world.post(with("task_description", json!("\u{1f600}".repeat(10_000)))).await.data(201);
}

#[tokio::test]
async fn what_the_store_takes_is_what_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::on(Store::open_sqlite(&dir.path().join("t.db")).await.unwrap());
    for (field, value) in [
        ("issue_number", json!(limit::ISSUE_NUMBER_MAX)),
        ("max_budget_usd", json!(99.999999)),
        ("max_turns", json!(500)),
        ("task_description", json!("\u{1f600} \u{202e} \\ \" ' ; --")),
    ] {
        let made = world.post(with(field, value.clone())).await.data(201);
        let path = format!("/v1/tasks/{}", made["task_id"].as_str().unwrap());
        assert_eq!(world.get(&path).await.data(200)[field], value);
    }
    assert_eq!(world.get("/v1/tasks").await.column("task_id").len(), 4);
}

#[tokio::test]
async fn unknown_fields_are_refused_by_name() {
    let world = World::new();
    for field in ["max_turn", "attachment", "pr", "__proto__"] {
        let message = world.post(with(field, json!(1))).await.error(400, "VALIDATION_ERROR");
        assert!(message.contains(field), "{message}");
    }
}

#[tokio::test]
async fn bodies_that_are_no_request_are_clear_errors() {
    let world = World::new();
    let json = Some("application/json");
    let good = minimal().to_string();
    let deep = format!(r#"{{"repo":{}1{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    let deep_unknown = format!(r#"{{"x":{}1{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    let invalid_utf8 =
        [br#"{"repo":"a/b","task_description":""#.as_slice(), &[0xff, 0xfe], br#""}"#].concat();
    let lone = r#"{"repo":"a/b","task_description":"\ud800"}"#;
    for (what, body, kind) in [
        ("empty", Vec::new(), json),
        ("half", good[..good.len() - 1].into(), json),
        ("trailing", format!("{good} x").into(), json),
        ("array", b"[]".to_vec(), json),
        ("null", b"null".to_vec(), json),
        ("string", b"\"x\"".to_vec(), json),
        ("deep", deep.into(), json),
        ("deep unknown", deep_unknown.into(), json),
        ("not UTF-8", invalid_utf8, json),
        ("lone surrogate", lone.into(), json),
        ("byte order mark", format!("\u{feff}{good}").into(), json),
        ("duplicate", r#"{"repo":"a/b","repo":"c/d","task_description":"x"}"#.into(), json),
        ("NUL", r#"{"repo":"a/b","task_description":"x\u0000y"}"#.into(), json),
        ("infinite", r#"{"repo":"a/b","task_description":"x","max_budget_usd":1e999}"#.into(), json),
        ("NaN", r#"{"repo":"a/b","task_description":"x","max_budget_usd":NaN}"#.into(), json),
        ("no type", good.clone().into(), None),
        ("form", good.clone().into(), Some("application/x-www-form-urlencoded")),
        ("text", good.clone().into(), Some("text/plain")),
    ] {
        let answer = world.send(raw(body, kind)).await;
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
        answer.error(400, "VALIDATION_ERROR");
    }
    assert_eq!(tasks(&world).await, 0);
    world.send(raw(good.clone(), Some("application/json; charset=utf-8"))).await.data(201);
    let fits = format!("{good}{}", " ".repeat(limit::TASK_BODY_MAX_BYTES - good.len()));
    world.send(raw(fits.clone(), json)).await.data(201);
    let message = world.send(raw(fits + " ", json)).await.error(413, "PAYLOAD_TOO_LARGE");
    assert!(message.contains("5242880"), "{message}");
}

/// D-006: a replay was a conflict.
#[tokio::test]
async fn defect_5_a_replay_gives_the_task_and_makes_nothing() {
    let world = World::new();
    let first = world.send(keyed(&minimal(), "k-1_A")).await.data(201);
    let again = world.send(keyed(&minimal(), "k-1_A")).await;
    assert_eq!(again.headers["idempotent-replay"], "true");
    assert_eq!(again.data(200), first);
    // The same request written otherwise is the same request.
    let same = json!({ "task_description": "fix it", "trace": false, "repo": "octo/cat", "model": null });
    assert_eq!(world.send(keyed(&same, "k-1_A")).await.data(200)["task_id"], first["task_id"]);
    let id = first["task_id"].as_str().unwrap();
    world.cancel(id.parse().unwrap()).await;
    let current = world.send(keyed(&minimal(), "k-1_A")).await.data(200);
    assert_eq!(current["status"], "CANCELLED", "a replay tells the task as it is now");
    let other = world.send(keyed(&with("trace", json!(true)), "k-1_A")).await;
    let message = other.error(409, "DUPLICATE_TASK");
    assert!(message.contains(id), "{message}");
    assert_eq!(tasks(&world).await, 1);
}

/// D-002: a key of another user collided.
#[tokio::test]
async fn defect_5_a_key_is_its_users_own() {
    use orchestrator::admission::Submission;
    let world = World::new();
    let submission = Submission {
        user: domain::UserId::new("somebody-else"),
        channel: "api".into(),
        spec: spec(repo(), "another task"),
        idempotency_key: Some("k".into()),
    };
    world.orchestrator.submit(submission).await.unwrap();
    world.send(keyed(&minimal(), "k")).await.data(201);
}

/// D-001: two requests at once with one key made two tasks.
#[tokio::test]
async fn defect_5_concurrent_requests_with_one_key_make_one_task() {
    let dir = tempfile::tempdir().unwrap();
    for store in [Store::in_memory(), Store::open_sqlite(&dir.path().join("t.db")).await.unwrap()] {
        let world = World::on(store);
        let body = minimal();
        let all = futures_util::future::join_all((0..20).map(|_| world.send(keyed(&body, "k")))).await;
        assert_eq!(all.iter().filter(|a| a.status == 201).count(), 1);
        assert_eq!(all.iter().filter(|a| a.status == 200).count(), 19);
        let ids: std::collections::BTreeSet<_> =
            all.iter().map(|a| a.json()["data"]["task_id"].to_string()).collect();
        assert_eq!((ids.len(), tasks(&world).await), (1, 1));
    }
}

/// D-004: a bad key was told after the work.
#[tokio::test]
async fn defect_5_a_bad_key_is_refused_before_anything_is_done() {
    let world = World::new();
    for key in ["", "a b", "a.b", &"k".repeat(129), "\u{00e9}"] {
        let mut request = request(Method::POST, "/v1/tasks", Some(minimal()));
        let value = axum::http::HeaderValue::from_bytes(key.as_bytes()).unwrap();
        request.headers_mut().insert("idempotency-key", value);
        let message = world.send(request).await.error(400, "VALIDATION_ERROR");
        assert!(message.contains("Idempotency-Key"), "{key:?}: {message}");
    }
    assert_eq!(tasks(&world).await, 0);
    world.send(keyed(&minimal(), &"k".repeat(128))).await.data(201);
}

#[tokio::test]
async fn two_keys_in_one_request_are_refused() {
    let world = World::new();
    let mut request = keyed(&minimal(), "a");
    request.headers_mut().append("idempotency-key", "b".parse().unwrap());
    world.send(request).await.error(400, "VALIDATION_ERROR");
}
