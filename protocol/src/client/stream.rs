//! A task's events as they happen, each once and in order, across cuts of the connection and restarts of the server.
//!
//! Where no stream can be had, the same is read by polling (`stream/poll.rs`).
//!
//! A cut is healed by asking again with the last event's id. The stream ends when the server closes it after the event
//! that ended the task: what follows that event (the box was stopped, say) is still delivered.

mod poll;

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use domain::{EventKind, TaskId};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use reqwest::Method;
use sse_stream::{Sse, SseStream};
use tokio::time::{Instant, sleep, timeout};

use super::{Client, ClientError};
use crate::rest::EventRecord;

/// Silence after which a connection counts as cut; the server sends a comment at least every 15 s.
const SILENCE: Duration = Duration::from_secs(45);
/// A connection that held for this long was no failed try.
const LASTED: Duration = Duration::from_secs(5);
/// Pause before the first new try.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
/// Longest pause that is not the server's wish.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Longest pause that the server may wish for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Where a stream begins and when it gives up.
#[derive(Debug, Clone)]
pub struct Watch {
    /// Only events after this event id; all of them when absent.
    pub after: Option<String>,
    /// How long the server may be away at a stretch.
    pub give_up_after: Duration,
}

impl Default for Watch {
    fn default() -> Self {
        Self { after: None, give_up_after: Duration::from_secs(60) }
    }
}

/// What a stream says.
#[derive(Debug)]
pub enum Item {
    /// The next event.
    Event(Box<EventRecord>),
    /// The connection was cut, or could not be had; it is tried again after `pause`.
    Interrupted {
        /// What happened.
        because: String,
        /// The pause.
        pause: Duration,
    },
}

type Frames = Pin<Box<dyn Stream<Item = Result<Sse, sse_stream::Error>> + Send>>;

/// The state of one watched task; made by [`Client::stream`].
struct Watcher {
    client: Client,
    task: TaskId,
    cursor: Option<String>,
    last_seq: u64,
    ended: Ended,
    frames: Option<Frames>,
    /// Set where no stream can be had.
    polling: Option<poll::Polling>,
    ready: VecDeque<Item>,
    pause: Option<Duration>,
    failures: u32,
    connected_at: Option<Instant>,
    away_since: Option<Instant>,
    give_up_after: Duration,
    over: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    NotYet,
    /// The event that ends the task was delivered.
    Seen,
}

impl Client {
    /// The events of a task from `watch.after` on. The last item is an error, if any.
    pub fn stream(&self, task: TaskId, watch: Watch) -> BoxStream<'static, Result<Item, ClientError>> {
        let watcher = Watcher {
            client: self.clone(),
            task,
            cursor: watch.after,
            last_seq: 0,
            ended: Ended::NotYet,
            frames: None,
            polling: None,
            ready: VecDeque::new(),
            pause: None,
            failures: 0,
            connected_at: None,
            away_since: None,
            give_up_after: watch.give_up_after,
            over: false,
        };
        futures_util::stream::unfold(watcher, |mut watcher| async move {
            let item = watcher.next().await?;
            Some((item, watcher))
        })
        .boxed()
    }
}

impl Watcher {
    /// Cancel-safe between items only; `unfold` keeps it so.
    async fn next(&mut self) -> Option<Result<Item, ClientError>> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(Ok(item));
            }
            if self.over {
                return None;
            }
            if let Some(pause) = self.pause.take() {
                sleep(pause).await;
            }
            if let Some(polling) = self.polling.take() {
                match self.poll(polling).await {
                    Ok(true) => continue,
                    Ok(false) => return None,
                    Err(error) => return Some(self.interrupted(error)),
                }
            }
            match self.frames.take() {
                None => match self.connect().await {
                    Ok(frames) => self.frames = Some(frames),
                    Err(error) if poll::no_stream(&error) => return Some(Ok(self.poll_from_now_on(&error))),
                    Err(error) => return Some(self.interrupted(error)),
                },
                Some(mut frames) => match frames.next().await {
                    Some(Ok(frame)) => {
                        self.frames = Some(frames);
                        if let Err(error) = self.take(frame) {
                            self.over = true;
                            return Some(Err(error));
                        }
                    }
                    None if self.ended == Ended::Seen => return None,
                    None => return Some(self.cut("the server closed it")),
                    Some(Err(_)) => return Some(self.cut("it broke off")),
                },
            }
        }
    }

    async fn connect(&mut self) -> Result<Frames, ClientError> {
        let path = format!("v1/tasks/{}/stream", self.task);
        let mut call = self.client.request(Method::GET, &path)?.header("Accept", "text/event-stream");
        if let Some(cursor) = &self.cursor {
            call = call.header("Last-Event-ID", cursor);
        }
        let sent = timeout(super::ANSWER, self.client.send(call)).await;
        let answer = sent.unwrap_or_else(|_| {
            Err(ClientError::Api {
                status: 504,
                code: "HTTP_ERROR".into(),
                message: "the server did not answer in time".into(),
                request_id: String::new(),
                retry_after: None,
            })
        })?;
        let kind = answer.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("text/event-stream") {
            let why = format!("it is {kind:?}, not an event stream");
            return Err(ClientError::BadAnswer { what: "the event stream", why });
        }
        self.connected_at = Some(Instant::now());
        Ok(Box::pin(SseStream::from_bytes_stream(audible(answer.bytes_stream().boxed()))))
    }

    /// Notes an event. What was delivered before (a server may repeat after a cut) is dropped.
    fn take(&mut self, frame: Sse) -> Result<(), ClientError> {
        let Some(data) = frame.data.filter(|data| !data.is_empty()) else { return Ok(()) };
        let event: EventRecord = serde_json::from_str(&data)
            .map_err(|e| ClientError::BadAnswer { what: "an event of the stream", why: e.to_string() })?;
        self.failures = 0;
        self.away_since = None;
        self.note(event);
        Ok(())
    }

    /// Hands an event on, unless it was before.
    fn note(&mut self, event: EventRecord) {
        if event.seq <= self.last_seq {
            return;
        }
        self.last_seq = event.seq;
        self.cursor = Some(event.event_id.clone());
        if EventKind::from_wire(&event.event_type).is_some_and(EventKind::is_terminal) {
            self.ended = Ended::Seen;
        }
        self.ready.push_back(Item::Event(Box::new(event)));
    }

    /// A connection that lasted was a good one: the time away begins anew.
    fn cut(&mut self, because: &str) -> Result<Item, ClientError> {
        if self.connected_at.take().is_some_and(|at| at.elapsed() >= LASTED) {
            self.away_since = None;
            self.failures = 0;
        }
        self.interrupted(ClientError::Cut { url: self.client.base.to_string(), why: because.to_owned() })
    }

    fn interrupted(&mut self, error: ClientError) -> Result<Item, ClientError> {
        let since = *self.away_since.get_or_insert_with(Instant::now);
        if !error.is_transient() || since.elapsed() >= self.give_up_after {
            self.over = true;
            return Err(error);
        }
        let wish = error.retry_after();
        Ok(self.plan_pause(error.to_string(), wish))
    }

    fn plan_pause(&mut self, because: String, wish: Option<Duration>) -> Item {
        let backoff = BACKOFF_FIRST.saturating_mul(1 << self.failures.min(8)).min(BACKOFF_MAX);
        self.failures += 1;
        // Half fixed, half random: clients that were cut together do not come back together.
        let random = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
        let jittered = backoff / 2 + (backoff / 2).mul_f64(random);
        let pause = wish.map_or(jittered, |wish| wish.min(RETRY_AFTER_MAX).max(jittered));
        self.pause = Some(pause);
        Item::Interrupted { because, pause }
    }
}

/// Ends with an error when nothing at all is heard for [`SILENCE`]; comments of the server count as heard.
fn audible(
    bytes: BoxStream<'static, Result<Bytes, reqwest::Error>>,
) -> BoxStream<'static, std::io::Result<Bytes>> {
    futures_util::stream::unfold(bytes, |mut bytes| async move {
        let heard = match timeout(SILENCE, bytes.next()).await {
            Ok(None) => return None,
            Ok(Some(Ok(chunk))) => Ok(chunk),
            Ok(Some(Err(error))) => Err(std::io::Error::other(error)),
            Err(silent) => Err(std::io::Error::other(silent)),
        };
        Some((heard, bytes))
    })
    .boxed()
}
