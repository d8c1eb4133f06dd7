//! A provider that answers as a test says, and a meter that remembers.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::{Body, BodyDataStream};
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use domain::money::Price;
use domain::{Attempt, TaskId};
use futures_util::StreamExt as _;
use gateway::model::{
    Asking, Kind, Meter, ModelCall, ModelConfig, ModelRouter, Permit, ProviderConfig, Purpose, Refusal,
    Usage, Waiting,
};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::Notify;

pub const KEY: &str = "sk-secret-key-123";

#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Value,
}

type Answer = dyn Fn(usize, &Seen) -> Response + Send + Sync;

pub struct Fake {
    address: std::net::SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Fake {
    /// Answers the request number `n` (from 0).
    pub async fn start(answer: impl Fn(usize, &Seen) -> Response + Send + Sync + 'static) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let answer: Arc<Answer> = Arc::new(answer);
        let app = axum::Router::new().fallback(serve).with_state((
            seen.clone(),
            answer,
            Arc::new(AtomicUsize::new(0)),
        ));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        #[expect(clippy::disallowed_methods, reason = "the test's own server; aborted when it is dropped")]
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, seen, server }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn requests(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

type Shared = (Arc<Mutex<Vec<Seen>>>, Arc<Answer>, Arc<AtomicUsize>);

async fn serve(State((seen, answer, count)): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let this = Seen { path: parts.uri.path().to_owned(), headers: parts.headers, body };
    seen.lock().unwrap().push(this.clone());
    answer(count.fetch_add(1, Ordering::SeqCst), &this)
}

/// A stream in these chunks.
pub fn sse(chunks: Vec<&'static str>) -> Response {
    let body = Body::from_stream(futures_util::stream::iter(chunks.into_iter().map(Ok::<_, Infallible>)));
    Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
}

/// A stream whose connection breaks after this.
pub fn broken(text: &'static str) -> Response {
    let chunks = vec![Ok(text), Err(io::Error::other("broken by the test"))];
    let body = futures_util::stream::iter(chunks).then(|chunk| async {
        // So that what came before the break is sent.
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        chunk
    });
    Response::builder().header("content-type", "text/event-stream").body(Body::from_stream(body)).unwrap()
}

/// A stream that goes on when it is told to.
pub fn gated(first: &'static str, gate: Arc<Notify>, rest: &'static str) -> Response {
    let body = async_stream::stream! {
        yield Ok::<_, Infallible>(first);
        gate.notified().await;
        yield Ok(rest);
    };
    Response::builder().header("content-type", "text/event-stream").body(Body::from_stream(body)).unwrap()
}

/// A JSON answer that is held back until the gate opens.
pub fn gated_json(body: Value, gate: Arc<Notify>) -> Response {
    let body = async_stream::stream! {
        gate.notified().await;
        yield Ok::<_, Infallible>(body.to_string());
    };
    Response::builder().header("content-type", "application/json").body(Body::from_stream(body)).unwrap()
}

pub fn error(status: u16, kind: &str, message: &str, retry_after: Option<&str>) -> Response {
    let body = json!({ "type": "error", "error": { "type": kind, "message": message } }).to_string();
    let mut response = Response::builder().status(status).header("content-type", "application/json");
    if let Some(after) = retry_after {
        response = response.header("retry-after", after);
    }
    response.body(Body::from(body)).unwrap()
}

pub fn provider(kind: Kind, url: &str) -> ProviderConfig {
    let mut provider = ProviderConfig::new(kind);
    provider.base_url = Some(url.to_owned());
    provider.api_key = Some(KEY.into());
    provider.timeouts.backoff_ms = 10;
    provider.timeouts.unreachable_max_s = 0;
    provider
}

/// One provider, `p`, whose model `m-1` has a price.
pub fn router(kind: Kind, url: &str) -> ModelRouter {
    router_of(provider(kind, url))
}

pub fn router_of(provider: ProviderConfig) -> ModelRouter {
    let price = Price {
        model: "m-*".into(),
        as_of: "2026-11-01".into(),
        input: 3.0,
        output: 15.0,
        cache_read: Some(0.3),
        cache_write: None,
    };
    ModelRouter::new(ModelConfig {
        default: None,
        providers: [("p".into(), provider)].into(),
        prices: vec![price],
    })
    .unwrap()
}

pub fn task(n: u128) -> TaskId {
    TaskId::from_bits(n)
}

/// A call of turn 3 with these fields set in its body.
pub fn call(fields: Value) -> ModelCall {
    call_with(fields, HeaderMap::new())
}

pub fn call_with(fields: Value, mut headers: HeaderMap) -> ModelCall {
    let mut body =
        json!({ "model": "x", "max_tokens": 64, "messages": [{ "role": "user", "content": "Hello" }] });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    headers.insert("x-bgagent-turn", "3".parse().unwrap());
    let bytes = body.to_string();
    ModelCall::from_http(task(1), Attempt(1), "p/m-1", &headers, bytes.as_bytes()).unwrap_or_else(|_| {
        ModelCall {
            task: task(1),
            attempt: Attempt(1),
            model: "p/m-1".into(),
            turn: Some(3),
            purpose: Purpose::Main,
            body,
            headers,
        }
    })
}

pub async fn text(response: Response) -> String {
    String::from_utf8(axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
}

pub async fn next(stream: &mut BodyDataStream) -> Option<Bytes> {
    within(stream.next()).await.map(Result::unwrap)
}

pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("within 20 s")
}

#[derive(Debug, Default)]
pub struct FakeMeter {
    refusals: Mutex<Vec<Option<Refusal>>>,
    records: Mutex<Vec<(String, Usage)>>,
    tried: Mutex<Vec<String>>,
    failing: AtomicUsize,
    waits: Mutex<Vec<Waiting>>,
}

impl FakeMeter {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }
    pub fn refuse(&self, refusal: Refusal) {
        self.refuse_after(0, refusal);
    }
    /// Lets the first calls of `before` pass.
    pub fn refuse_after(&self, passes: usize, refusal: Refusal) {
        let mut all = vec![Some(refusal)];
        all.extend(std::iter::repeat_n(None, passes));
        *self.refusals.lock().unwrap() = all;
    }
    pub fn fail_records(&self, times: usize) {
        self.failing.store(times, Ordering::SeqCst);
    }
    pub fn only_record(&self) -> Usage {
        let records = self.records.lock().unwrap();
        assert_eq!(records.len(), 1, "{records:?}");
        records[0].1.clone()
    }
    pub fn record_ids(&self) -> Vec<String> {
        self.tried.lock().unwrap().clone()
    }
    pub fn waits(&self) -> Vec<Waiting> {
        self.waits.lock().unwrap().clone()
    }
}

#[async_trait]
impl Meter for FakeMeter {
    async fn before(&self, _asking: Asking) -> Result<Permit, Refusal> {
        match self.refusals.lock().unwrap().pop().flatten() {
            Some(refusal) => Err(refusal),
            None => Ok(Box::new(())),
        }
    }
    async fn record(
        &self,
        call_id: &str,
        usage: Usage,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.tried.lock().unwrap().push(call_id.to_owned());
        if self.failing.load(Ordering::SeqCst) > 0 {
            self.failing.fetch_sub(1, Ordering::SeqCst);
            return Err("the store is locked".into());
        }
        self.records.lock().unwrap().push((call_id.to_owned(), usage));
        Ok(())
    }
    async fn waiting(&self, waiting: Waiting) {
        self.waits.lock().unwrap().push(waiting);
    }
}
