//! The model proxy: the box speaks Anthropic Messages, the provider may be Anthropic's wire, OpenAI's Chat Completions,
//! or a transcript file. The proxy adds the key, counts tokens and money, keeps the budget, and waits for a provider
//! that asks for patience.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | what an operator says |
//! | [`meter`] | the seam to budgets and the store |
//! | `call` | one call, from the budget check to the recorded usage |
//! | `provider` | one provider: which wire, which models |
//! | `upstream` | one HTTP request and what its answer means |
//! | `heard` | which answer it was, for telemetry |
//! | `frame`, [`sse`] | whole events, and what they say about tokens |
//! | `openai` | translation from and to Chat Completions |
//! | [`script`] | transcripts |
//! | [`answer`] | errors as clients see them |
//!
//! Authentication of the box, and which task and attempt it is, are the caller's to say. Keys are added here, at the
//! last moment, and appear in no error, log or `Debug`.

pub mod answer;
mod assemble;
mod call;
pub mod config;
mod frame;
mod heard;
pub mod meter;
mod openai;
mod provider;
mod resolve;
pub mod script;
pub mod sse;
mod upstream;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use domain::money::Price;
use domain::{Attempt, Failure, FailureCode, MicroUsd, TaskId, limit};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

pub use answer::{Answer, Code, FAILURE_HEADER};
pub use config::{AuthStyle, Kind, MaxTokensField, ModelConfig, ProviderConfig, Timeouts};
pub use meter::{Answered, Asking, Basis, Finished, Meter, Permit, Recording, Refusal, Usage, Waiting};
pub use resolve::Resolved;

use provider::Provider;

/// The header by which a client says which turn a call is, from 1.
pub const TURN_HEADER: &str = "x-bgagent-turn";
/// The header by which a client says what a call is for.
pub const PURPOSE_HEADER: &str = "x-bgagent-purpose";

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A turn of the agent.
    Main,
    /// To shorten the conversation.
    Compaction,
    /// To answer a person's question beside the work.
    Ask,
}

impl Purpose {
    /// The value of [`PURPOSE_HEADER`].
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Main => "main",
            Purpose::Compaction => "compaction",
            Purpose::Ask => "ask",
        }
    }
}

/// One call of a box whose identity is already known.
#[derive(Debug, Clone)]
pub struct ModelCall {
    /// The task it is made for.
    pub task: TaskId,
    /// Its attempt.
    pub attempt: Attempt,
    /// The task's model. What the request itself names is replaced by it.
    pub model: String,
    /// The turn, where the client says it.
    pub turn: Option<u32>,
    /// What it is for.
    pub purpose: Purpose,
    /// The Messages request.
    pub body: Value,
    /// The client's headers; only `anthropic-version` and `anthropic-beta` go on to a provider.
    pub headers: HeaderMap,
}

impl ModelCall {
    /// Reads a call from an HTTP request.
    pub fn from_http(
        task: TaskId,
        attempt: Attempt,
        model: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Self, Answer> {
        if body.len() > limit::MODEL_BODY_MAX_BYTES {
            let message = format!("the request is larger than {} bytes", limit::MODEL_BODY_MAX_BYTES);
            let answer = Answer::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message);
            return Err(answer.code(FailureCode::ModelRequestRejected));
        }
        let body: Value = serde_json::from_slice(body)
            .map_err(|e| Answer::invalid(format!("the request is not JSON: {e}")))?;
        let text = |name: &str| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
        let turn = text(TURN_HEADER).map(str::parse::<u32>).transpose().ok().filter(|t| *t != Some(0));
        let turn = turn.ok_or_else(|| Answer::invalid(format!("{TURN_HEADER} must be a number from 1")))?;
        let purpose = match text(PURPOSE_HEADER) {
            None | Some("main") => Purpose::Main,
            Some("compaction") => Purpose::Compaction,
            Some("ask") => Purpose::Ask,
            Some(other) => {
                let message = format!("{PURPOSE_HEADER} must be main, compaction or ask, got {other:?}");
                return Err(Answer::invalid(message));
            }
        };
        let mut kept = HeaderMap::new();
        for name in ["anthropic-version", "anthropic-beta"] {
            for value in headers.get_all(name) {
                kept.append(name, value.clone());
            }
        }
        let call = Self { task, attempt, model: model.to_owned(), turn, purpose, body, headers: kept };
        call.validate().map(|()| call)
    }

    /// Whether the client wants a stream.
    pub fn streaming(&self) -> bool {
        self.body["stream"] == true
    }

    fn validate(&self) -> Result<(), Answer> {
        let messages = self.body.get("messages").and_then(Value::as_array);
        if messages.is_none_or(Vec::is_empty) {
            return Err(Answer::invalid("messages: at least one message is required"));
        }
        match self.body.get("max_tokens").map(Value::as_u64) {
            Some(Some(1..)) => {}
            Some(_) => return Err(Answer::invalid("max_tokens: must be a whole number from 1")),
            None => return Err(Answer::invalid("max_tokens: field required")),
        }
        match self.body.get("stream") {
            None | Some(Value::Bool(_)) => Ok(()),
            Some(_) => Err(Answer::invalid("stream: must be true or false")),
        }
    }
}

/// All providers, and the calls in flight.
pub struct ModelRouter {
    default: Option<String>,
    providers: BTreeMap<String, Arc<Provider>>,
    prices: Vec<Price>,
    calls: TaskTracker,
}

impl fmt::Debug for ModelRouter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let providers: Vec<_> = self.providers.keys().collect();
        f.debug_struct("ModelRouter").field("default", &self.default).field("providers", &providers).finish()
    }
}

impl ModelRouter {
    /// Checks the configuration; transcripts named by file are read. Without providers it is valid, and every
    /// resolution says that none is configured.
    pub fn new(config: ModelConfig) -> Result<Self, Failure> {
        for price in &config.prices {
            let numbers = [Some(price.input), Some(price.output), price.cache_read, price.cache_write];
            if numbers.into_iter().flatten().any(|n| !n.is_finite() || n < 0.0) {
                let detail = format!("the price of {} holds a number that is no price", price.model);
                return Err(
                    Failure::new(FailureCode::ModelNotConfigured, detail).resource(price.model.clone())
                );
            }
        }
        let mut providers = BTreeMap::new();
        for (name, provider) in config.providers {
            if name.is_empty() || name.contains('/') {
                let detail = format!("model provider {name:?}: a name is not empty and holds no slash");
                return Err(Failure::new(FailureCode::ModelNotConfigured, detail).resource(name));
            }
            providers.insert(name.clone(), Arc::new(Provider::new(name, provider)?));
        }
        let default = config.default.filter(|d| !d.trim().is_empty());
        let router = Self { default, providers, prices: config.prices, calls: TaskTracker::new() };
        if let Some(default) = router.default.as_deref().filter(|_| !router.providers.is_empty()) {
            router.resolve(default)?;
        }
        Ok(router)
    }

    /// A preflight check: the model is known, has a price when there is a budget, its provider answers and takes the
    /// key. Ends by `deadline` at the latest.
    pub async fn check(
        &self,
        model: &str,
        budget: Option<MicroUsd>,
        deadline: Duration,
    ) -> Result<(), Failure> {
        let resolved = self.resolve(model)?;
        if budget.is_some() && resolved.price.is_none() {
            let name = resolved.name();
            let detail = format!("{name} has no row in the price table, and the task has a budget");
            return Err(Failure::new(FailureCode::ModelPriceMissing, detail).resource(name));
        }
        match tokio::time::timeout(deadline, resolved.provider.check()).await {
            Ok(checked) => checked,
            Err(_) => {
                let who = resolved.provider.who();
                let detail = format!("{who} sent no answer within {} s", deadline.as_secs_f32());
                Err(resolved.provider.unreachable(detail))
            }
        }
    }

    /// Makes one call and answers its client. Waits for the provider as long as its timeouts say; a streaming client is
    /// pinged meanwhile.
    pub async fn proxy(&self, call: ModelCall, meter: Arc<dyn Meter>) -> Response {
        let resolved = match call
            .validate()
            .and_then(|()| self.resolve(&call.model).map_err(|f| Answer::unresolved(&f)))
        {
            Ok(resolved) => resolved,
            Err(answer) => return answer.into_response(),
        };
        let (streaming, bytes) = (call.streaming(), call.body.to_string().len());
        let (head, head_of) = oneshot::channel();
        let (frames, frames_of) = mpsc::channel(64);
        let driver = call::Driver { id: id("call_", 0), call, resolved, meter, bytes };
        // Tracked: `drain` waits for it, so that a stopping server still records what was used.
        self.calls.spawn(driver.run(call::Outlet { head, frames }));
        call::respond(streaming, head_of, frames_of).await
    }

    /// Waits until the calls in flight have recorded their usage, at most this long.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        self.calls.close();
        match tokio::time::timeout(deadline, self.calls.wait()).await {
            Ok(()) => Drained::All,
            Err(_) => Drained::Left(self.calls.len()),
        }
    }
}

/// What [`ModelRouter::drain`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// No call is in flight.
    All,
    /// So many are, and lose their record when the process ends now.
    Left(usize),
}

/// A new id. Clients that keep conversations confuse ids that were used before, so half of it is random.
fn id(prefix: &str, n: usize) -> String {
    let random = getrandom::u64().unwrap_or_default();
    format!("{prefix}{n}{random:016x}")
}
