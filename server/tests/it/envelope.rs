//! What holds for every route: who may call, which methods, which headers.

use axum::body::Body;
use axum::http::{Method, Request};

use crate::support::*;

const KEYED: [(&str, &str); 7] = [
    ("GET", "/v1/tasks"),
    ("POST", "/v1/tasks"),
    ("GET", "/v1/tasks/01ARZ3NDEKTSV4RRFFQ69G5FAV"),
    ("DELETE", "/v1/tasks/01ARZ3NDEKTSV4RRFFQ69G5FAV"),
    ("GET", "/v1/tasks/01ARZ3NDEKTSV4RRFFQ69G5FAV/events"),
    ("GET", "/v1/tasks/01ARZ3NDEKTSV4RRFFQ69G5FAV/stream"),
    ("GET", "/v1/tasks/01ARZ3NDEKTSV4RRFFQ69G5FAV/pull-request"),
];

fn with_header(method: &str, path: &str, header: Option<(&str, &str)>) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    let request = match header {
        Some((name, value)) => request.header(name, value),
        None => request,
    };
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn a_key_is_taken_in_three_forms() {
    let world = World::new();
    let bearer = format!("Bearer {KEY}");
    let lower = format!("bearer {KEY}");
    for header in [
        ("x-api-key", KEY),
        ("authorization", KEY),
        ("authorization", bearer.as_str()),
        ("authorization", lower.as_str()),
    ] {
        world.send(with_header("GET", "/v1/tasks", Some(header))).await.data(200);
    }
}

#[tokio::test]
async fn without_a_good_key_nothing_is_told_but_how_to_get_one() {
    let world = World::new();
    let prefix = &KEY[..KEY.len() - 1];
    for (method, path) in KEYED {
        for header in [
            None,
            Some(("x-api-key", "wrong")),
            Some(("x-api-key", "")),
            Some(("x-api-key", prefix)),
            Some(("authorization", "Bearer")),
            Some(("authorization", "Bearer ")),
            Some(("authorization", "Basic bGFiZWw6a2V5")),
            Some(("cookie", KEY)),
        ] {
            let answer = world.send(with_header(method, path, header)).await;
            let message = answer.error(401, "UNAUTHORIZED");
            assert!(message.contains("bgagent config owner-key"), "{message}");
            assert!(!message.contains(KEY) && !message.contains("wrong"));
            assert!(answer.headers.contains_key("www-authenticate"), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn other_methods_and_routes_are_told_in_the_same_shape() {
    let world = World::new();
    for (method, path) in [
        ("PUT", "/v1/tasks"),
        ("DELETE", "/v1/tasks"),
        ("PATCH", "/v1/tasks/01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        ("POST", "/v1/tasks/01ARZ3NDEKTSV4RRFFQ69G5FAV/events"),
        ("POST", "/v1/health"),
        ("OPTIONS", "/v1/tasks"),
        ("TRACE", "/v1/tasks"),
        ("QUERY", "/v1/tasks"),
    ] {
        let answer = world.call(method.parse().unwrap(), path, None).await;
        answer.error(405, "METHOD_NOT_ALLOWED");
        assert!(answer.headers.contains_key("allow"), "{method} {path}");
    }
    for path in [
        "/",
        "/v1",
        "/v2/tasks",
        "/v1/tasks/",
        "/v1/tasks/x/y",
        "/box/v1/attach",
        "/model/v1/messages",
        "/git/x.git/info/refs",
        "/v1/%FF",
        "//",
    ] {
        world.get(path).await.error(404, "NOT_FOUND");
    }
}

/// D-012: one hand-made answer had no request id.
#[tokio::test]
async fn every_answer_has_its_own_id_and_is_not_cached() {
    let world = World::new();
    let mut ids = std::collections::BTreeSet::new();
    for path in ["/v1/tasks", "/v1/tasks", "/v1/health", "/metrics", "/nope", "/v1/tasks/x"] {
        let answer = world.get(path).await;
        ids.insert(answer.headers["x-request-id"].to_str().unwrap().to_owned());
        assert_eq!(answer.headers["cache-control"], "no-store", "{path}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
    }
    assert_eq!(ids.len(), 6);
    let mut mine = request(Method::GET, "/v1/nope", None);
    mine.headers_mut().insert("x-request-id", "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap());
    let answer = world.send(mine).await;
    answer.error(404, "NOT_FOUND");
    assert_ne!(
        answer.headers["x-request-id"], "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "callers do not name our log lines"
    );
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let world = World::new();
    let answer = world.call(Method::HEAD, "/v1/tasks", None).await;
    assert_eq!((answer.status.as_u16(), answer.bytes.len()), (200, 0));
}
