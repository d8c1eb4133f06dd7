//! What no client library sends: over a real connection, byte by byte.

use std::time::Duration;

use axum::http::{Method, Request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::support::*;

/// The API on a port, as `bgagent serve` serves it.
async fn served(
    world: &World,
) -> (std::net::SocketAddr, CancellationToken, impl Future<Output = ()> + use<>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let stopped = stop.clone().cancelled_owned();
    (address, stop, server::listen::serve(listener, world.router.clone(), stopped))
}

async fn say(address: std::net::SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that has heard enough may close before all of it is sent.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await.expect("an end");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn floods_of_headers_are_a_431_and_the_server_goes_on() {
    let world = World::new();
    let (address, stop, serve) = served(&world).await;
    let work = async {
        let fields = |count: usize| (0..count).map(|n| format!("x-h-{n}: 1\r\n")).collect::<String>();
        let long = |bytes: usize| format!("x-long: {}\r\n", "y".repeat(bytes));
        // In our form, as all refusals, with an id.
        for head in [fields(120), long(70_000)] {
            let bytes = format!("GET /v1/tasks HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{head}\r\n");
            let answer = say(address, bytes.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let body: Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["error"]["code"], "HEADERS_TOO_LARGE", "{body}");
            assert!(
                head.contains(&format!("x-request-id: {}", body["error"]["request_id"].as_str().unwrap()))
            );
        }
        // Beyond that the HTTP library ends it.
        for head in [fields(300), long(200_000)] {
            let answer =
                say(address, format!("GET /v1/tasks HTTP/1.1\r\nhost: x\r\n{head}\r\n").as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        }
        for bad in
            ["GET\r\n\r\n", "GET /v1/tasks HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n", "\u{0}\u{0}\r\n\r\n"]
        {
            let answer = say(address, bad.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{bad:?}: {answer}");
        }
        let close =
            format!("GET /v1/tasks HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\nconnection: close\r\n\r\n");
        assert!(say(address, close.as_bytes()).await.starts_with("HTTP/1.1 200 "));
        stop.cancel();
    };
    within(async { tokio::join!(work, serve) }).await;
}

#[tokio::test]
async fn a_body_that_is_cut_off_stores_nothing() {
    let world = World::new();
    let (address, stop, serve) = served(&world).await;
    let work = async {
        let half = format!(
            "POST /v1/tasks HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-type: application/json\r\n\
             content-length: 100\r\n\r\n{{\"repo\":\"a/b\","
        );
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(half.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert_eq!(world.get("/v1/tasks").await.column("task_id").len(), 0);
        stop.cancel();
    };
    within(async { tokio::join!(work, serve) }).await;
}

/// D-012: one hand-made answer had no request id.
#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_a_408() {
    let world = World::new();
    let task = world.submitted("x").await;
    for path in [
        "/v1/tasks".to_owned(),
        format!("/v1/tasks/{task}/nudge"),
        format!("/v1/tasks/{task}/asks"),
        format!("/v1/tasks/{task}/stream"),
        "/v1/api-keys".to_owned(),
    ] {
        let drip = async_stream::stream! {
            yield Ok::<_, std::io::Error>("{");
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                yield Ok(" ");
            }
        };
        let request = Request::post(&path)
            .header("x-api-key", KEY)
            .header("content-type", "application/json")
            .body(axum::body::Body::from_stream(drip))
            .unwrap();
        let begun = tokio::time::Instant::now();
        let answer = world.send(request).await;
        has_headers(&answer);
        let message = answer.error(408, "REQUEST_TIMEOUT");
        assert!(message.contains("nothing was stored"), "{path}: {message}");
        assert_eq!(begun.elapsed(), domain::limit::API_BODY_READ, "{path}: each byte does not buy more time");
    }
}

#[tokio::test]
async fn a_page_of_another_origin_may_ask_and_call() {
    let world = World::new();
    let preflight = Request::builder()
        .method(Method::OPTIONS)
        .uri("/v1/tasks")
        .header("origin", "https://example.com")
        .header("access-control-request-method", "POST")
        .body(axum::body::Body::empty())
        .unwrap();
    let answer = world.send(preflight).await;
    assert_eq!((answer.status.as_u16(), answer.bytes.len()), (204, 0));
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    assert!(answer.headers["access-control-allow-methods"].to_str().unwrap().contains("DELETE"));
    let allowed = answer.headers["access-control-allow-headers"].to_str().unwrap().to_lowercase();
    for name in ["x-api-key", "authorization", "content-type", "idempotency-key", "last-event-id"] {
        assert!(allowed.contains(name), "{name}: {allowed}");
    }
    let refused = world.send(Request::get("/v1/tasks").body(axum::body::Body::empty()).unwrap()).await;
    has_headers(&refused);
    refused.error(401, "UNAUTHORIZED");
    assert!(
        !world.get("/metrics").await.headers.contains_key("access-control-allow-origin"),
        "not of the contract"
    );
}
