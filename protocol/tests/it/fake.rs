//! A server that answers what a test tells it to, and notes what it was asked.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, StatusCode};
use protocol::client::Client;
use protocol::rest::EventRecord;
use serde_json::{Value, json};

/// One answer.
pub type Answer = Response<Body>;

/// What was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path_and_query: String,
    pub headers: HeaderMap,
    pub body: Value,
}

type Respond = Arc<dyn Fn(usize, &Asked) -> Answer + Send + Sync>;

#[derive(Clone)]
pub struct Fake {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    respond: Respond,
}

impl Fake {
    /// `respond` gets the number of the request, from 0.
    pub async fn start(respond: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let fake = Self { url, asked: Arc::default(), respond: Arc::new(respond) };
        let app = Router::new().fallback(serve).with_state(fake.clone());
        #[expect(clippy::disallowed_methods, reason = "a test's server ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        fake
    }

    pub fn client(&self) -> Client {
        Client::new(self.url.parse().unwrap(), Some("key-1".to_owned().into())).unwrap()
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(State(fake): State<Fake>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let asked = Asked {
        method: parts.method.to_string(),
        path_and_query: parts.uri.to_string(),
        headers: parts.headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    let number = {
        let mut all = fake.asked.lock().unwrap();
        all.push(asked.clone());
        all.len() - 1
    };
    (fake.respond)(number, &asked)
}

pub fn json(status: u16, body: Value) -> Answer {
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}

/// An event stream of these pieces; `None` breaks the connection off.
pub fn sse(pieces: Vec<Option<String>>) -> Answer {
    let stream = async_stream::stream! {
        for piece in pieces {
            match piece {
                Some(text) => yield Ok(text),
                None => yield Err(std::io::Error::other("cut")),
            }
            // Lets the piece reach the client before the next one, or the cut.
            tokio::task::yield_now().await;
        }
    };
    Response::builder().header("content-type", "text/event-stream").body(Body::from_stream(stream)).unwrap()
}

pub fn frame(seq: u64, kind: &str) -> Option<String> {
    let event = event(seq, kind);
    let data = serde_json::to_string(&event).unwrap();
    Some(format!("id: {}\nevent: {kind}\ndata: {data}\n\n", event.event_id))
}

pub fn event(seq: u64, kind: &str) -> EventRecord {
    EventRecord {
        event_id: format!("01ARZ3NDEKTSV4RRFFQ69G5F{seq:02}"),
        seq,
        event_type: kind.into(),
        timestamp: "2026-01-02T03:04:05Z".into(),
        metadata: json!({}),
    }
}
