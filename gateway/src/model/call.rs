//! One call, from the budget check to the recorded usage. It runs apart from the client's connection: when the client
//! goes away in mid-stream the rest of the answer is still read, for a while, because it is still paid for.
//!
//! Usage is recorded before the client sees the end of the answer. A control plane that dies in between loses the
//! record of the calls in flight, not more.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use domain::{TokenCount, limit};
use futures_util::StreamExt as _;
use http::{HeaderValue, StatusCode, header};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::answer::Answer;
use super::assemble::assemble;
use super::frame::{End, Frames, Opened, estimate};
use super::heard::{self, Heard};
use super::meter::{Answered, Asking, Basis, Finished, Meter, Permit, Recording, Usage, Waiting};
use super::upstream::{Request, Trouble};
use super::{ModelCall, Resolved, sse};

/// A streaming client that has no status by now gets one, and pings.
const STATUS_AFTER: Duration = Duration::from_secs(3);
/// How often a silent stream is pinged.
const PING_EVERY: Duration = Duration::from_secs(10);
/// How long the answer to a client that has gone away is still read.
const DRAIN_MAX: Duration = Duration::from_secs(120);
/// A client that takes nothing for this long has gone away.
const CLIENT_STALL_MAX: Duration = Duration::from_secs(300);
/// Retries of a provider that fails.
const FAILED_RETRIES: u32 = 3;
/// The longest pause of our own between two tries.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Bytes of a streamed answer that are kept for a recorder; no model says as much in one answer.
const TAPE_MAX_BYTES: usize = 24 * 1024 * 1024;
/// Tries to record usage.
const RECORD_TRIES: u32 = 4;

pub(super) enum Head {
    Refused(Answer),
    Message(Bytes),
    Stream,
}

/// The part of a call that outlives its client.
pub(super) struct Driver {
    pub id: String,
    pub call: ModelCall,
    pub resolved: Resolved,
    pub meter: Arc<dyn Meter>,
    pub bytes: usize,
}

/// What the client is to get: the head when it is known, then frames.
pub(super) struct Outlet {
    pub head: oneshot::Sender<Head>,
    pub frames: mpsc::Sender<Bytes>,
}

impl Driver {
    pub async fn run(self, outlet: Outlet) {
        let Outlet { head, frames } = outlet;
        let begun = Instant::now();
        if self.meter.recording() == Recording::On {
            self.meter.asked(&self.id, &self.call, &self.resolved.name()).await;
        }
        // Nobody is told anything when the client has gone: sending into a closed channel is no error here.
        // Held until what the call used is recorded.
        let mut permit: Option<Permit> = None;
        match self.open(&frames, &mut permit).await {
            Err(answer) => {
                tracing::info!(
                    call.id = self.id,
                    model = self.resolved.name(),
                    status = answer.status.as_u16(),
                    code = answer.code.map(super::Code::as_str),
                    reason = answer.message,
                    "model call refused"
                );
                self.tell(begun, None, Some(&answer)).await;
                self.finished(begun, Over { error: Some(kind(&answer)), ..Over::default() });
                head.send(Head::Refused(answer)).ok();
            }
            Ok(Opened::Message { body, counted }) => {
                let used = counted.unwrap_or((estimate(self.bytes, body.len()), Basis::Estimated));
                self.record(used.0, used.1).await;
                self.tell(begun, Some(&body), None).await;
                let response = heard::of_message(&body);
                self.finished(begun, Over { used: Some(used), response, ..Over::default() });
                head.send(Head::Message(body)).ok();
            }
            Ok(Opened::Torn { bytes, answer }) => {
                let used = (estimate(self.bytes, bytes), Basis::Estimated);
                self.record(used.0, used.1).await;
                self.tell(begun, None, Some(&answer)).await;
                let error = Some(kind(&answer));
                self.finished(begun, Over { used: Some(used), error, ..Over::default() });
                head.send(Head::Refused(answer)).ok();
            }
            Ok(Opened::Stream(stream)) => {
                head.send(Head::Stream).ok();
                self.relay(stream, frames, begun).await;
            }
        }
    }

    /// Asks until there is an answer, the waits are used up, the call may no longer be made, or nobody waits for it.
    async fn open(
        &self,
        client: &mpsc::Sender<Bytes>,
        permit: &mut Option<Permit>,
    ) -> Result<Opened, Answer> {
        let provider = &self.resolved.provider;
        let timeouts = provider.config.timeouts;
        let request = Request { call: &self.call, model: &self.resolved.model, bytes: self.bytes };
        let (mut limited, mut unreachable, mut failed, mut tries) = (Duration::ZERO, Duration::ZERO, 0, 0);
        loop {
            // Given back first: a call does not wait for what it holds itself.
            drop(permit.take());
            *permit = Some(self.meter.before(self.asking()).await.map_err(|r| Answer::refused(&r))?);
            let trouble = match provider.open(&request).await {
                Ok(opened) => return Ok(opened),
                Err(trouble) => trouble,
            };
            let backoff = backoff(timeouts.backoff_ms, tries);
            tries += 1;
            let (status, pause) = match trouble {
                Trouble::Refused(answer) => return Err(answer),
                Trouble::Limited { status, after, words } => {
                    if status == StatusCode::TOO_MANY_REQUESTS
                        && let Some(wait) = after.filter(|wait| *wait >= limit::USAGE_LIMIT_WAIT)
                        && self.meter.limited(self.call.task, self.call.attempt, wait).await
                    {
                        let message = format!("{words}; the task waits for {} s", wait.as_secs());
                        return Err(Answer::new(status, "rate_limit_error", message));
                    }
                    let pause = after
                        .map_or(backoff, |after| after + jitter(Duration::from_millis(timeouts.backoff_ms)));
                    limited += pause;
                    if limited > timeouts.limited_max() {
                        let kind =
                            if status.as_u16() == 429 { "rate_limit_error" } else { "overloaded_error" };
                        let message =
                            format!("{words}; it was waited for up to {} s", timeouts.limited_max_s);
                        return Err(
                            Answer::new(status, kind, message).code(domain::FailureCode::ModelUnreachable)
                        );
                    }
                    (Some(status.as_u16()), pause)
                }
                Trouble::Unreachable { words } => {
                    unreachable += backoff;
                    if unreachable > timeouts.unreachable_max() {
                        return Err(Answer::bad_gateway(words));
                    }
                    (None, backoff)
                }
                Trouble::Failed { words } => {
                    failed += 1;
                    if failed > FAILED_RETRIES {
                        return Err(Answer::bad_gateway(words));
                    }
                    tracing::warn!(
                        call.id = self.id,
                        tries = failed,
                        reason = words,
                        "model provider failed, trying again"
                    );
                    self.pause(backoff, client).await?;
                    continue;
                }
            };
            let (task, attempt, model) = (self.call.task, self.call.attempt, self.resolved.name());
            self.meter.waiting(Waiting { task, attempt, model, status, retry_in: pause }).await;
            self.pause(pause, client).await?;
        }
    }

    fn asking(&self) -> Asking {
        let output = self.call.body.get("max_tokens").and_then(serde_json::Value::as_u64).unwrap_or(0);
        let most = TokenCount { output, ..estimate(self.bytes, 0) };
        let most = self.resolved.price.as_ref().map(|price| price.cost(most)).unwrap_or_default();
        Asking { task: self.call.task, attempt: self.call.attempt, most }
    }

    /// A call that nobody waits for any more is not begun again.
    async fn pause(&self, pause: Duration, client: &mpsc::Sender<Bytes>) -> Result<(), Answer> {
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = client.closed() => Err(Answer::new(StatusCode::REQUEST_TIMEOUT, "api_error", "the client went away")),
        }
    }

    async fn relay(&self, mut stream: Frames, client: mpsc::Sender<Bytes>, begun: Instant) {
        let (mut counted, mut generated) = (None, 0usize);
        let mut client = Some(client);
        let mut drain_until = None;
        let mut tape = Tape::new(self.meter.recording());
        let mut heard = Heard::default();
        let mut first_chunk = None;
        let broken = loop {
            let next = match drain_until {
                None => stream.next().await,
                Some(until) => match tokio::time::timeout_at(until, stream.next()).await {
                    Ok(next) => next,
                    Err(_) => break None,
                },
            };
            let frame = match next {
                Some(Ok(frame)) => frame,
                Some(Err(e)) => break Some(e.to_string()),
                None => {
                    break Some(format!(
                        "{} closed the stream before the answer was whole",
                        self.resolved.provider.who()
                    ));
                }
            };
            first_chunk = first_chunk.or_else(|| Some(begun.elapsed()));
            heard.hear(&frame);
            counted = frame.counted.or(counted);
            generated += frame.generated;
            tape.keep(&frame.bytes);
            if frame.end == End::Stop {
                let used = counted.unwrap_or((estimate(self.bytes, generated), Basis::Estimated));
                self.record(used.0, used.1).await;
                self.tell_streamed(begun, tape, None).await;
                let response = heard.message();
                self.finished(begun, Over { used: Some(used), response, first_chunk, error: None });
                send(&mut client, frame.bytes).await;
                return;
            }
            let end = frame.end;
            if end == End::Failed {
                let used = self.record_partial(counted, generated).await;
                let why = "the provider ended the stream with an error".to_owned();
                self.tell_streamed(begun, std::mem::take(&mut tape), Some(why)).await;
                let (response, error) = (heard.message(), Some("provider_error".to_owned()));
                self.finished(begun, Over { used, response, first_chunk, error });
            }
            if !send(&mut client, frame.bytes).await && drain_until.is_none() {
                drain_until = Some(Instant::now() + DRAIN_MAX);
            }
            if end == End::Failed {
                return;
            }
        };
        let used = self.record_partial(counted, generated).await;
        let error = if broken.is_some() { "stream_broken" } else { "client_gone" };
        let why =
            broken.clone().unwrap_or_else(|| "the client went away, and the answer took too long".into());
        self.tell_streamed(begun, tape, Some(why)).await;
        let (response, error) = (heard.message(), Some(error.to_owned()));
        self.finished(begun, Over { used, response, first_chunk, error });
        if let Some(reason) = broken {
            tracing::warn!(call.id = self.id, reason, "model stream broke");
            send(&mut client, Answer::bad_gateway(reason).event()).await;
        }
    }

    /// Of a stream that broke, the input is known from its start and the output only from what came.
    /// Of one that broke before it said anything, nothing is known to have been used.
    async fn record_partial(
        &self,
        counted: Option<(TokenCount, Basis)>,
        generated: usize,
    ) -> Option<(TokenCount, Basis)> {
        if counted.is_none() && generated == 0 {
            return None;
        }
        let guess = estimate(self.bytes, generated);
        let tokens = match counted {
            Some((tokens, _)) => TokenCount { output: tokens.output.max(guess.output), ..tokens },
            None => guess,
        };
        self.record(tokens, Basis::Estimated).await;
        Some((tokens, Basis::Estimated))
    }

    fn finished(&self, begun: Instant, over: Over) {
        let Over { used, response, error, first_chunk } = over;
        let took = begun.elapsed();
        let finished = Finished { resolved: &self.resolved, used, response, error, first_chunk, took };
        self.meter.finished(&self.id, &self.call, finished);
    }

    /// Tells a recorder of an answer that was not streamed.
    async fn tell(&self, begun: Instant, body: Option<&Bytes>, refused: Option<&Answer>) {
        if self.meter.recording() == Recording::On {
            let message = body.and_then(|body| serde_json::from_slice(body).ok());
            let error = refused.map(|answer| (Some(answer.status.as_u16()), answer.message.clone()));
            let answered = Answered { message, error, took: begun.elapsed() };
            self.meter.answered(&self.id, &self.call, answered).await;
        }
    }

    /// Tells a recorder of a stream; `why` it is not whole.
    async fn tell_streamed(&self, begun: Instant, tape: Tape, why: Option<String>) {
        if self.meter.recording() == Recording::On {
            let why = why.or_else(|| tape.cut.then(|| "the answer is too long to be kept".to_owned()));
            let message = assemble(&tape.raw);
            let answered = Answered { message, error: why.map(|why| (None, why)), took: begun.elapsed() };
            self.meter.answered(&self.id, &self.call, answered).await;
        }
    }

    async fn record(&self, tokens: TokenCount, basis: Basis) {
        let price = self.resolved.price.as_ref();
        let usage = Usage {
            task: self.call.task,
            attempt: self.call.attempt,
            turn: self.call.turn,
            purpose: self.call.purpose,
            model: self.resolved.name(),
            tokens,
            basis,
            cost: price.map(|p| p.cost(tokens)),
            price_as_of: price.map(|p| p.as_of.clone()),
        };
        for n in 0..RECORD_TRIES {
            match self.meter.record(&self.id, usage.clone()).await {
                Ok(()) => return,
                Err(e) => tracing::error!(call.id = self.id, task.id = %usage.task, input = tokens.input,
                    output = tokens.output, error = &*e as &dyn std::error::Error, "model usage was not recorded"),
            }
            tokio::time::sleep(backoff(100, n)).await;
        }
    }
}

/// What is known at the end of a call.
#[derive(Default)]
struct Over {
    used: Option<(TokenCount, Basis)>,
    response: Option<serde_json::Value>,
    error: Option<String>,
    first_chunk: Option<Duration>,
}

/// What kind of refusal an answer is.
fn kind(answer: &Answer) -> String {
    answer.code.map_or_else(|| answer.status.as_u16().to_string(), |code| code.as_str().to_owned())
}

/// What came of a stream so far, when it is recorded.
#[derive(Default)]
struct Tape {
    on: bool,
    raw: Vec<u8>,
    cut: bool,
}

impl Tape {
    fn new(recording: Recording) -> Tape {
        Tape { on: recording == Recording::On, ..Tape::default() }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.on && !self.cut {
            self.cut = self.raw.len() + bytes.len() > TAPE_MAX_BYTES;
            if !self.cut {
                self.raw.extend_from_slice(bytes);
            }
        }
    }
}

/// What the client sees: a plain answer when it comes soon or is not streamed, else a stream that is kept alive.
pub(super) async fn respond(
    streaming: bool,
    mut head: oneshot::Receiver<Head>,
    frames: mpsc::Receiver<Bytes>,
) -> Response {
    let first = if streaming {
        tokio::time::timeout(STATUS_AFTER, &mut head).await.ok()
    } else {
        Some((&mut head).await)
    };
    match first {
        Some(Ok(Head::Refused(answer))) => answer.into_response(),
        Some(Ok(Head::Message(body))) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Some(Ok(Head::Stream)) => stream_response(None, frames),
        Some(Err(_)) => lost().into_response(),
        None => stream_response(Some(head), frames),
    }
}

fn stream_response(head: Option<oneshot::Receiver<Head>>, mut frames: mpsc::Receiver<Bytes>) -> Response {
    let events = async_stream::stream! {
        if let Some(mut head) = head {
            loop {
                yield Ok::<_, std::convert::Infallible>(sse::ping());
                match tokio::time::timeout(PING_EVERY, &mut head).await {
                    Err(_) => continue,
                    Ok(Ok(Head::Stream)) => break,
                    Ok(Ok(Head::Refused(answer))) => {
                        yield Ok(answer.event());
                        return;
                    }
                    // A streamed call has no whole message; its driver never says so.
                    Ok(Ok(Head::Message(_)) | Err(_)) => {
                        yield Ok(lost().event());
                        return;
                    }
                }
            }
        }
        loop {
            match tokio::time::timeout(PING_EVERY, frames.recv()).await {
                Err(_) => yield Ok(sse::ping()),
                Ok(Some(bytes)) => yield Ok(bytes),
                Ok(None) => return,
            }
        }
    };
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn lost() -> Answer {
    Answer::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "api_error",
        "the call was lost inside the gateway; its log says why",
    )
}

/// Whether the client still listens. Frames without bytes are for the count only.
async fn send(client: &mut Option<mpsc::Sender<Bytes>>, bytes: Bytes) -> bool {
    let Some(sender) = client else { return false };
    if bytes.is_empty() && !sender.is_closed() {
        return true;
    }
    match sender.send_timeout(bytes, CLIENT_STALL_MAX).await {
        Ok(()) => true,
        Err(_) => {
            *client = None;
            false
        }
    }
}

fn backoff(first_ms: u64, tries: u32) -> Duration {
    let pause = Duration::from_millis(first_ms).saturating_mul(2u32.saturating_pow(tries)).min(BACKOFF_MAX);
    pause + jitter(pause / 4)
}

/// So that many waiting calls do not come back at once.
fn jitter(up_to: Duration) -> Duration {
    up_to.mul_f64(f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX))
}
