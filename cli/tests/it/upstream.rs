//! A Chat Completions server that plays turns: the model behind programs that are not ours, and a provider that fails
//! in the ways providers do.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

/// The key it accepts.
pub const KEY: &str = "sk-upstream-0123456789";
/// The tokens it reports for each answer.
pub const TOKENS: (u64, u64) = (1_000, 10);

/// One turn of the model.
#[derive(Debug, Clone, Copy)]
pub enum Turn {
    /// A call of the tool `Bash`.
    Bash(&'static str),
    /// Words, and the end.
    Say(&'static str),
}

/// How it behaves besides.
#[derive(Debug, Clone, Copy)]
pub enum Mood {
    /// As it should.
    Well,
    /// Its first answer to a chat is 429, with a second to wait.
    BusyOnce,
    /// Every chat is answered by 500.
    Broken,
}

/// The running server; it ends with the test's runtime.
pub struct Upstream {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Value>>>,
}

#[derive(Clone)]
struct Player {
    turns: Arc<[Turn]>,
    mood: Mood,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Upstream {
    pub async fn start(turns: &[Turn], mood: Mood) -> Upstream {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<Value>>>::default();
        let player = Player { turns: turns.into(), mood, asked: asked.clone() };
        let app = axum::Router::new()
            .route("/v1/models", get(models))
            .route("/v1/chat/completions", post(chat))
            .with_state(player);
        #[expect(clippy::disallowed_methods, reason = "the test's own server; ends with its runtime")]
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Upstream { address, asked }
    }

    /// As `base_url` of an `openai` provider.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The bodies of the chats so far.
    pub fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }
}

fn refused(headers: &HeaderMap) -> Option<Response> {
    let sent = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let error = json!({ "error": { "message": "Incorrect API key provided", "type": "invalid_api_key" } });
    (sent != Some(&format!("Bearer {KEY}")))
        .then(|| (StatusCode::UNAUTHORIZED, axum::Json(error)).into_response())
}

async fn models(headers: HeaderMap) -> Response {
    refused(&headers).unwrap_or_else(|| axum::Json(json!({ "object": "list", "data": [] })).into_response())
}

async fn chat(State(player): State<Player>, headers: HeaderMap, body: axum::Json<Value>) -> Response {
    if let Some(refused) = refused(&headers) {
        return refused;
    }
    let number = {
        let mut asked = player.asked.lock().unwrap();
        asked.push(body.0.clone());
        asked.len()
    };
    match player.mood {
        Mood::BusyOnce if number == 1 => {
            let error = json!({ "error": { "message": "Rate limit reached", "type": "rate_limit_error" } });
            return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")], axum::Json(error))
                .into_response();
        }
        Mood::Broken => {
            let error = json!({ "error": { "message": "The engine is on fire", "type": "server_error" } });
            return (StatusCode::INTERNAL_SERVER_ERROR, axum::Json(error)).into_response();
        }
        Mood::Well | Mood::BusyOnce => (),
    }
    let results = body["messages"].as_array().unwrap().iter().filter(|m| m["role"] == "tool").count();
    let turn = player.turns[results.min(player.turns.len() - 1)];
    if body["stream"] == true { streamed(turn, results) } else { whole(turn, results) }
}

fn usage() -> Value {
    json!({ "prompt_tokens": TOKENS.0, "completion_tokens": TOKENS.1, "total_tokens": TOKENS.0 + TOKENS.1 })
}

fn whole(turn: Turn, number: usize) -> Response {
    let (message, finish) = match turn {
        Turn::Say(text) => (json!({ "role": "assistant", "content": text }), "stop"),
        Turn::Bash(command) => {
            let arguments = json!({ "command": command }).to_string();
            let call = json!({ "id": format!("call_{number}"), "type": "function", "function": { "name": "Bash", "arguments": arguments } });
            (json!({ "role": "assistant", "content": null, "tool_calls": [call] }), "tool_calls")
        }
    };
    let choice = json!({ "index": 0, "message": message, "finish_reason": finish });
    axum::Json(json!({ "id": "c", "object": "chat.completion", "created": 1, "model": "x", "choices": [choice], "usage": usage() }))
        .into_response()
}

fn streamed(turn: Turn, number: usize) -> Response {
    let (deltas, finish) = match turn {
        Turn::Say(text) => {
            let (head, tail) = text.split_at(text.len() / 2);
            (vec![json!({ "role": "assistant", "content": head }), json!({ "content": tail })], "stop")
        }
        Turn::Bash(command) => {
            let arguments = json!({ "command": command }).to_string();
            let (head, tail) = arguments.split_at(arguments.len() / 2);
            let first = json!({ "index": 0, "id": format!("call_{number}"), "type": "function", "function": { "name": "Bash", "arguments": head } });
            let next = json!({ "index": 0, "function": { "arguments": tail } });
            let deltas =
                [json!({ "role": "assistant", "tool_calls": [first] }), json!({ "tool_calls": [next] })];
            (deltas.to_vec(), "tool_calls")
        }
    };
    let chunk = |choices: Value, usage: Value| {
        let chunk = json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "x", "choices": choices, "usage": usage });
        format!("data: {chunk}\n\n")
    };
    let choice =
        |delta: Value, finish: Value| json!([{ "index": 0, "delta": delta, "finish_reason": finish }]);
    let mut body: String = deltas.into_iter().map(|d| chunk(choice(d, Value::Null), Value::Null)).collect();
    body.push_str(&chunk(choice(json!({}), json!(finish)), Value::Null));
    body.push_str(&chunk(json!([]), usage()));
    body.push_str("data: [DONE]\n\n");
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}
