//! Sends spans to a collector: OTLP over HTTP, protobuf. The only place that knows OpenTelemetry.
//!
//! The messages are `opentelemetry-proto`'s; how they travel is ours, and small: one POST at a time, each with a time
//! limit. There is no batch processor in between with a queue, a thread and an environment of its own, so what a dead
//! collector costs is what stands here: the queue of `telemetry::Traces`, which is bounded, and [`FLUSH`] at the end.
//!
//! What cannot be sent is dropped and counted (`bgagent_spans_dropped_total`).

mod message;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use reqwest::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use telemetry::traces::dropped;
use telemetry::{Queue, Span};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use url::Url;

/// Spans of one request, at most.
const BATCH_MAX: usize = 512;
/// Bytes of one request, about; a larger span goes alone.
const BATCH_MAX_BYTES: usize = 2 * 1024 * 1024;
/// A span waits this long for others before it is sent.
const LINGER: Duration = Duration::from_secs(1);
/// Tries of one request.
const TRIES: u32 = 4;
/// The first pause between two tries; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause a collector may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// After it was told to stop, what is left is sent for this long.
pub const FLUSH: Duration = Duration::from_secs(2);
/// The longest answer that is read.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// Where spans go.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address that takes traces, whole: `http://127.0.0.1:4318/v1/traces`.
    pub url: Url,
    /// Headers of each request; keys of the collector, mostly.
    pub headers: Vec<(String, SecretString)>,
    /// How long one request may take.
    pub timeout: Duration,
    /// What this service is called.
    pub service_name: String,
    /// This process, told apart from others of the service.
    pub instance: String,
    /// The program's version.
    pub version: &'static str,
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum SettingsError {
    #[error("headers.{0}: this is no name of an HTTP header")]
    HeaderName(String),
    #[error("headers.{0}: its value cannot be sent in an HTTP header (a line break?)")]
    HeaderValue(String),
    #[error("the HTTP client could not be made: {0}")]
    Client(reqwest::Error),
}

/// Sends what a queue holds.
#[derive(Debug)]
pub struct Exporter {
    settings: Settings,
    http: reqwest::Client,
    headers: HeaderMap,
    /// Whether the last request failed: the log tells a change, not every failure.
    failing: bool,
}

/// How one request went.
enum Sent {
    /// The collector has them, but for so many that it refused.
    Taken { refused: u64 },
    /// It will never take them.
    Refused(String),
    /// It may take them later, not before this long.
    Later { after: Option<Duration>, why: String },
}

impl Exporter {
    /// Checks the settings; does not connect yet.
    pub fn new(settings: Settings) -> Result<Exporter, SettingsError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let header = name.parse::<HeaderName>().map_err(|_| SettingsError::HeaderName(name.clone()))?;
            let mut value = HeaderValue::from_str(value.expose_secret())
                .map_err(|_| SettingsError::HeaderValue(name.clone()))?;
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        // A redirect would carry the headers to another place.
        let mut http = reqwest::Client::builder()
            .timeout(settings.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(format!("bgagent/{}", settings.version));
        if loopback(&settings.url) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(SettingsError::Client)?;
        Ok(Exporter { settings, http, headers, failing: false })
    }

    /// Sends until it is told to stop, and then what is left, for [`FLUSH`] at most.
    pub async fn run(mut self, queue: Queue, stop: CancellationToken) {
        let sending = AtomicU64::new(0);
        let late = async {
            stop.cancelled().await;
            tokio::time::sleep(FLUSH).await;
        };
        tokio::select! {
            () = self.send_all(&queue, &stop, &sending) => (),
            () = late => dropped("shutdown", sending.load(Ordering::Relaxed) + queue.len() as u64),
        }
    }

    async fn send_all(&mut self, queue: &Queue, stop: &CancellationToken, sending: &AtomicU64) {
        loop {
            tokio::select! {
                () = queue.more() => (),
                () = stop.cancelled() => (),
            }
            // Others come soon: one request for all of them.
            if queue.len() < BATCH_MAX {
                let _ = tokio::time::timeout(LINGER, stop.cancelled()).await;
            }
            let batch = queue.take(BATCH_MAX, BATCH_MAX_BYTES);
            if batch.is_empty() && stop.is_cancelled() {
                return;
            }
            sending.store(batch.len() as u64, Ordering::Relaxed);
            self.deliver(batch, stop).await;
            sending.store(0, Ordering::Relaxed);
        }
    }

    /// Sends a batch, with pauses between tries; once only when it is to stop.
    async fn deliver(&mut self, batch: Vec<Span>, stop: &CancellationToken) {
        if batch.is_empty() {
            return;
        }
        let spans = batch.len() as u64;
        let body = message::request(&self.settings, batch).encode_to_vec();
        let mut pause = PAUSE;
        for tried in 1..=TRIES {
            match self.send(body.clone()).await {
                Sent::Taken { refused } => {
                    metrics::counter!("bgagent_spans_sent_total").increment(spans.saturating_sub(refused));
                    if refused > 0 {
                        dropped("refused", refused);
                    }
                    if std::mem::take(&mut self.failing) {
                        info!("the collector takes spans again");
                    }
                    return;
                }
                Sent::Refused(why) => {
                    dropped("refused", spans);
                    self.tell(&why);
                    return;
                }
                Sent::Later { after, why } => {
                    self.tell(&why);
                    if tried == TRIES || stop.is_cancelled() {
                        dropped("unreachable", spans);
                        return;
                    }
                    let wait = after.unwrap_or(pause).min(PAUSE_MAX);
                    pause = (pause * 2).min(PAUSE_MAX);
                    // One last try when it is to stop: the collector may be back.
                    let _ = tokio::time::timeout(wait, stop.cancelled()).await;
                }
            }
        }
    }

    /// The first failure of a row is a warning; the rest would be the same line again and again.
    fn tell(&mut self, why: &str) {
        let collector = self.settings.url.host_str().unwrap_or("?");
        if std::mem::replace(&mut self.failing, true) {
            debug!(collector, reason = why, "spans could not be sent");
        } else {
            warn!(
                collector,
                reason = why,
                "spans could not be sent; tasks go on, and what is dropped is counted"
            );
        }
    }

    async fn send(&self, body: Vec<u8>) -> Sent {
        let request = self.http.post(self.settings.url.clone()).headers(self.headers.clone()).body(body);
        let mut answer = match request.send().await {
            Ok(answer) => answer,
            // Its address may hold a key; what went wrong does not.
            Err(failure) => return Sent::Later { after: None, why: cause(&failure.without_url()) },
        };
        let status = answer.status();
        if !status.is_success() {
            let why = format!("it answered {status}");
            let again = [
                StatusCode::TOO_MANY_REQUESTS,
                StatusCode::BAD_GATEWAY,
                StatusCode::SERVICE_UNAVAILABLE,
                StatusCode::GATEWAY_TIMEOUT,
            ];
            return match again.contains(&status) {
                true => Sent::Later { after: retry_after(answer.headers()), why },
                false => Sent::Refused(why),
            };
        }
        let mut said = Vec::new();
        while let Ok(Some(chunk)) = answer.chunk().await {
            said.extend_from_slice(&chunk);
            if said.len() > ANSWER_MAX_BYTES {
                return Sent::Taken { refused: 0 };
            }
        }
        let partial =
            ExportTraceServiceResponse::decode(said.as_slice()).ok().and_then(|said| said.partial_success);
        let refused = partial.map_or(0, |partial| u64::try_from(partial.rejected_spans).unwrap_or(0));
        Sent::Taken { refused }
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The innermost words of a failure: those that say what happened.
fn cause(failure: &dyn std::error::Error) -> String {
    let mut innermost = failure;
    while let Some(deeper) = innermost.source() {
        innermost = deeper;
    }
    innermost.to_string()
}

fn loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests;
