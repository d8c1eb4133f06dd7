//! One model call: sent, streamed, and tried again until it is answered or it is clear that it will not be.
//!
//! A control plane that is away (refused connection, 5xx without a reason) is waited for, up to the patience of the
//! harness. A stream that is cut is asked for again a few times only, because each try costs money. A refusal with a
//! reason is final. A try leaves nothing behind: tools run only after a reply is whole.

use std::time::Duration;

use domain::event::EventKind;
use domain::{Failure, FailureCode};
use futures_util::StreamExt as _;
use reqwest::StatusCode;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sse_stream::SseStream;
use tokio::time::{Instant, timeout};

use super::reply::{Assembly, Reply, Step};
use super::transcript::ToolChoice;
use super::{Run, prompt};
use crate::harness::{Stop, while_wanted};

/// The logical turn of a call; a retry has the same.
pub const TURN_HEADER: &str = "x-bgagent-turn";
/// What a call is for, when it is not an ordinary turn.
pub const PURPOSE_HEADER: &str = "x-bgagent-purpose";
/// The proxy's reason for a refusal.
const FAILURE_HEADER: &str = "x-bgagent-failure";
/// Tries of a call whose stream is cut or whose provider stumbles.
const FLAKY_TRIES: u32 = 5;
const BACKOFF_STEPS: u32 = 40;
/// Bytes of one streamed reply; what is longer is a runaway.
const REPLY_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of an error's body that are read.
const ERROR_MAX_BYTES: usize = 16 * 1024;
const WAITING_NOTE_INTERVAL: Duration = Duration::from_secs(60);

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The agent's next step.
    Turn,
    /// A summary of the transcript.
    Compaction,
    /// An answer to a person's question.
    Ask,
}

/// Why a call has no reply.
#[derive(Debug)]
pub enum CallError {
    /// The task is to be left.
    Stopped(Stop),
    /// The budget is spent.
    Budget,
    /// The request is larger than the model's window.
    TooLong(String),
    /// It failed for good.
    Failed(Failure),
}

/// Why one try has no reply.
enum Trouble {
    /// Nobody is there: wait.
    Away(String),
    /// It broke on the way: try again, but not for ever. The code is for when that did not help.
    Flaky(FailureCode, String),
    /// No use in trying again.
    Final(CallError),
}

impl Run<'_> {
    /// Makes the call, however many tries it takes.
    pub(super) async fn call(&mut self, purpose: Purpose) -> Result<Reply, CallError> {
        let (model, max) = (&self.work.model, self.work.max_output_tokens);
        let body = bytes::Bytes::from(match purpose {
            Purpose::Turn | Purpose::Ask => self.transcript.request(model, max, ToolChoice::Auto, None),
            Purpose::Compaction => {
                self.transcript.request(model, max, ToolChoice::None, Some(prompt::SUMMARISE))
            }
        });
        let reply = while_wanted(&*self.ctx.signals, self.tries(body, purpose)).await;
        let reply = reply.map_err(CallError::Stopped)??;
        self.tokens = self.tokens + reply.usage;
        Ok(reply)
    }

    pub(super) async fn tries(&self, body: bytes::Bytes, purpose: Purpose) -> Result<Reply, CallError> {
        let mut flaky = 0;
        let mut wait = self.native.backoff;
        let mut away_since: Option<Instant> = None;
        let mut noted: Option<Instant> = None;
        loop {
            let why = match self.attempt(body.clone(), purpose).await {
                Ok(reply) => return Ok(reply),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Flaky(code, why)) => {
                    flaky += 1;
                    away_since = None;
                    if flaky >= FLAKY_TRIES {
                        let detail = format!("the model gave no whole reply in {flaky} tries: {why}");
                        return Err(CallError::Failed(Failure::new(code, detail)));
                    }
                    why
                }
                Err(Trouble::Away(why)) => {
                    let since = *away_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.native.patience {
                        let minutes = self.native.patience.as_secs() / 60;
                        let detail = format!("no answer from the model proxy for {minutes} min: {why}");
                        return Err(CallError::Failed(Failure::new(FailureCode::ModelUnreachable, detail)));
                    }
                    why
                }
            };
            if noted.is_none_or(|at| at.elapsed() >= WAITING_NOTE_INTERVAL) {
                noted = Some(Instant::now());
                let details = domain::event::preview(&why, self.work.preview_max);
                let metadata =
                    json!({ "milestone": "model_retry", "details": details, "turn": self.attempted });
                self.ctx.events.emit(EventKind::AgentMilestone, metadata);
            }
            tracing::info!(turn = self.attempted, reason = %why, "model call is tried again");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(self.native.backoff * BACKOFF_STEPS);
        }
    }

    async fn attempt(&self, body: bytes::Bytes, purpose: Purpose) -> Result<Reply, Trouble> {
        let endpoint = &self.ctx.model;
        let mut request = endpoint
            .client
            .post(format!("{}/v1/messages", endpoint.base.trim_end_matches('/')))
            .bearer_auth(endpoint.bearer.expose_secret())
            .header("anthropic-version", "2023-06-01")
            .header("content-type", "application/json")
            .header(TURN_HEADER, self.attempted)
            .body(body);
        match purpose {
            Purpose::Turn => (),
            Purpose::Compaction => request = request.header(PURPOSE_HEADER, "compaction"),
            Purpose::Ask => request = request.header(PURPOSE_HEADER, "ask"),
        }
        // The proxy may hold a call back for a while (it waits out a provider's limits), but not for ever.
        let response = timeout(self.native.patience, request.send())
            .await
            .map_err(|_| Trouble::Away("the model proxy accepted the call and never answered".into()))?
            .map_err(|error| Trouble::Away(chain(&error)))?;
        let status = response.status();
        if !status.is_success() {
            return Err(refused(status, response).await);
        }
        self.stream(response).await
    }

    async fn stream(&self, response: reqwest::Response) -> Result<Reply, Trouble> {
        let mut assembly = Assembly::default();
        let mut bytes = 0;
        let mut events = SseStream::from_bytes_stream(response.bytes_stream());
        loop {
            let next = timeout(self.native.idle, events.next()).await;
            let next = next.map_err(|_| cut("the stream fell silent"))?;
            let event = match next {
                None => return Err(cut("the stream ended early")),
                Some(Err(error)) => return Err(cut(chain(&error))),
                Some(Ok(event)) => event,
            };
            let Some(data) = event.data.filter(|data| !data.is_empty()) else { continue };
            bytes += data.len();
            if bytes > REPLY_MAX_BYTES {
                let detail = format!("one reply of the model is longer than {REPLY_MAX_BYTES} bytes");
                return Err(failed(FailureCode::AgentCommunicationFailed, detail));
            }
            let data: Value = serde_json::from_str(&data)
                .map_err(|error| cut(format!("an event of the stream is not JSON: {error}")))?;
            match assembly.take(&data) {
                Step::More => (),
                Step::Done => return Ok(assembly.finish()),
                Step::Failed { kind, message, code } => {
                    return Err(named(code.as_deref(), &message).unwrap_or_else(|| streamed(&kind, &message)));
                }
            }
        }
    }
}

/// What a refusal by status means.
async fn refused(status: StatusCode, response: reqwest::Response) -> Trouble {
    let code =
        response.headers().get(FAILURE_HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let message = error_message(response).await;
    if let Some(trouble) = named(code.as_deref(), &message) {
        return trouble;
    }
    let detail = format!("the model proxy answered {}: {message}", status.as_u16());
    match status.as_u16() {
        402 => Trouble::Final(CallError::Budget),
        401 | 403 => failed(FailureCode::ModelAuthFailed, detail),
        404 => failed(FailureCode::ModelUnknown, detail),
        409 => Trouble::Final(CallError::Stopped(Stop::Superseded)),
        408 | 425 | 429 => Trouble::Away(detail),
        413 => Trouble::Final(CallError::TooLong(detail)),
        400 if too_long(&message) => Trouble::Final(CallError::TooLong(detail)),
        500 => Trouble::Flaky(FailureCode::ModelUnreachable, detail),
        501..=599 => Trouble::Away(detail),
        _ => failed(FailureCode::ModelRequestRejected, detail),
    }
}

/// What a reason of the proxy means; `None` when it gave none that we know.
fn named(code: Option<&str>, message: &str) -> Option<Trouble> {
    let code = code?;
    match code {
        "SESSION_SUPERSEDED" => return Some(Trouble::Final(CallError::Stopped(Stop::Superseded))),
        "TASK_ENDED" => return Some(Trouble::Final(CallError::Stopped(Stop::Cancelled))),
        _ => (),
    }
    let code = FailureCode::from_wire(code)?;
    Some(if code == FailureCode::MaxBudget {
        Trouble::Final(CallError::Budget)
    } else if code == FailureCode::ModelRequestRejected && too_long(message) {
        Trouble::Final(CallError::TooLong(message.to_owned()))
    } else if code == FailureCode::ModelUnreachable || code == FailureCode::AgentStreamEnded {
        Trouble::Flaky(code, message.to_owned())
    } else {
        failed(code, message)
    })
}

/// What an error within a stream means, by Anthropic's types.
fn streamed(kind: &str, message: &str) -> Trouble {
    let detail = format!("{kind}: {message}");
    match kind {
        "invalid_request_error" if too_long(message) => Trouble::Final(CallError::TooLong(detail)),
        "invalid_request_error" => failed(FailureCode::ModelRequestRejected, detail),
        "authentication_error" | "permission_error" => failed(FailureCode::ModelAuthFailed, detail),
        "not_found_error" => failed(FailureCode::ModelUnknown, detail),
        _ => Trouble::Flaky(FailureCode::ModelUnreachable, detail),
    }
}

/// A reply that broke off.
fn cut(why: impl Into<String>) -> Trouble {
    Trouble::Flaky(FailureCode::AgentStreamEnded, why.into())
}

fn failed(code: FailureCode, detail: impl Into<String>) -> Trouble {
    Trouble::Final(CallError::Failed(Failure::new(code, detail)))
}

/// Providers have no code for it, only words.
fn too_long(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["prompt is too long", "context length", "context window", "context_length", "maximum context"]
        .iter()
        .any(|words| message.contains(words))
}

async fn error_message(mut response: reqwest::Response) -> String {
    let mut body = Vec::new();
    while let Ok(Ok(Some(chunk))) = timeout(Duration::from_secs(10), response.chunk()).await {
        body.extend_from_slice(&chunk[..chunk.len().min(ERROR_MAX_BYTES - body.len())]);
        if body.len() >= ERROR_MAX_BYTES {
            break;
        }
    }
    let text = String::from_utf8_lossy(&body);
    let parsed: Option<Value> = serde_json::from_str(&text).ok();
    let message = parsed.as_ref().and_then(|value| value["error"]["message"].as_str());
    domain::event::preview(message.unwrap_or(&text).trim(), 500)
}

/// An error with its causes, which reqwest leaves out. A URL is not a secret here, headers are never in it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        out.push_str(": ");
        out.push_str(&cause.to_string());
        source = cause.source();
    }
    out
}
