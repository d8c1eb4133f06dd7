//! One request to one provider over HTTP, and what its answer means for a retry. Nothing here waits or tries again.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use domain::FailureCode;
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use reqwest::{Client, Response};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use url::Url;

use super::ModelCall;
use super::answer::Answer;
use super::config::{AuthStyle, Timeouts};
use super::frame::{End, Frame};

/// Bytes of an error's body that are read.
const ERROR_BODY_MAX_BYTES: usize = 64 * 1024;
/// Bytes of a whole answer that are read.
const ANSWER_MAX_BYTES: usize = 64 * 1024 * 1024;
/// Characters of a provider's own words that are passed on.
const WORDS_MAX_CHARS: usize = 2_000;

/// What a provider is asked.
pub(super) struct Request<'a> {
    pub call: &'a ModelCall,
    /// The provider's name for the model.
    pub model: &'a str,
    /// The size of the client's request.
    pub bytes: usize,
}

impl Request<'_> {
    pub fn streaming(&self) -> bool {
        self.call.streaming()
    }
}

/// Why a provider gave no answer, by what to do about it.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It asks to come back later.
    Limited { status: StatusCode, after: Option<Duration>, words: String },
    /// Nothing answers there; the request was not sent.
    Unreachable { words: String },
    /// It failed, or the connection broke before the head of an answer: a few quick retries.
    Failed { words: String },
    /// Final.
    Refused(Answer),
}

impl Trouble {
    /// What an error status means. `who` names the provider and host; `words` are its own.
    pub fn of_status(
        status: StatusCode,
        after: Option<Duration>,
        kind: &str,
        words: &str,
        who: &str,
    ) -> Self {
        let said = if words.is_empty() { String::new() } else { format!(": {words}") };
        let refused =
            |kind: &str, message: String, code| Self::Refused(Answer::new(status, kind, message).code(code));
        match status.as_u16() {
            // No wait helps against an empty account.
            429 if kind == "insufficient_quota" => refused(
                "billing_error",
                format!("{who} says that the account has no quota left{said}"),
                FailureCode::ModelNotEnabled,
            ),
            429 | 529 => {
                Self::Limited { status, after, words: format!("{who} answered {}{said}", status.as_u16()) }
            }
            503 if after.is_some() => {
                Self::Limited { status, after, words: format!("{who} answered 503{said}") }
            }
            // Not in the provider's words: some repeat a part of the key in them.
            401 | 403 => refused(
                "authentication_error",
                format!("{who} answered {}: it does not accept the configured key", status.as_u16()),
                FailureCode::ModelAuthFailed,
            ),
            404 => refused(
                "not_found_error",
                format!("{who} answered 404: it does not know the model, or its base_url is wrong{said}"),
                FailureCode::ModelUnknown,
            ),
            500.. => Self::Failed { words: format!("{who} answered {}{said}", status.as_u16()) },
            _ => {
                let kind = if kind.is_empty() { "invalid_request_error" } else { kind };
                refused(
                    kind,
                    if words.is_empty() { format!("{who} answered {status}") } else { words.to_owned() },
                    FailureCode::ModelRequestRejected,
                )
            }
        }
    }
}

/// The way to one provider.
pub(super) struct Upstream {
    client: Client,
    base: Url,
    key: Option<(AuthStyle, SecretString)>,
    timeouts: Timeouts,
    /// The provider's name and host, for messages.
    who: String,
}

impl Upstream {
    pub fn new(
        name: &str,
        base: Url,
        key: Option<(AuthStyle, SecretString)>,
        timeouts: Timeouts,
    ) -> Result<Self, String> {
        // Of what a URL can hold, only the host is shown: the rest may be secret.
        let host = base.host_str().ok_or("base_url names no host")?.to_owned();
        if !base.username().is_empty() || base.password().is_some() {
            return Err("base_url holds a user name or password: put the key in api_key".into());
        }
        let shown = base.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        // A redirect would carry the key to another place.
        let mut client = Client::builder()
            .connect_timeout(timeouts.connect())
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("bgagent/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&host) {
            client = client.no_proxy();
        }
        let client = client.build().map_err(|e| format!("making the HTTP client: {e}"))?;
        Ok(Self { client, base, key, timeouts, who: format!("model provider {name} ({shown})") })
    }

    /// The provider's name and host.
    pub fn who(&self) -> &str {
        &self.who
    }

    pub fn idle(&self) -> Duration {
        self.timeouts.idle()
    }

    /// Posts JSON; an answer is a success.
    pub async fn post(&self, path: &str, headers: HeaderMap, body: Vec<u8>) -> Result<Response, Trouble> {
        let request = self.client.post(self.url(path)).headers(headers).headers(self.auth());
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        let response = match tokio::time::timeout(self.timeouts.response(), request.send()).await {
            Ok(sent) => sent.map_err(|e| self.not_sent(&e))?,
            Err(_) => {
                let words = format!("{} sent no answer within {} s", self.who, self.timeouts.response_s);
                return Err(Trouble::Failed { words });
            }
        };
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refused(response).await)
    }

    /// The status of a cheap authenticated request.
    pub async fn probe(&self, path: &str) -> Result<StatusCode, String> {
        let sent = self
            .client
            .get(self.url(path))
            .headers(self.auth())
            .header("anthropic-version", "2023-06-01")
            .send();
        sent.await.map(|r| r.status()).map_err(|e| self.words_of(&e))
    }

    /// The chunks of an answer; silence beyond the bound is an error.
    pub fn chunks(&self, response: Response) -> impl Stream<Item = Result<Bytes, io::Error>> + Send + use<> {
        let (idle, who) = (self.idle(), self.who.clone());
        async_stream::stream! {
            let mut chunks = response.bytes_stream();
            loop {
                match tokio::time::timeout(idle, chunks.next()).await {
                    Ok(Some(Ok(chunk))) => yield Ok(chunk),
                    Ok(Some(Err(e))) => {
                        yield Err(io::Error::other(format!("the connection to {who} broke: {}", root(&e))));
                        return;
                    }
                    Ok(None) => return,
                    Err(_) => {
                        let words = format!("{who} sent nothing for {} s", idle.as_secs());
                        yield Err(io::Error::new(io::ErrorKind::TimedOut, words));
                        return;
                    }
                }
            }
        }
    }

    /// A whole answer; the error holds what had come.
    pub async fn whole(&self, response: Response) -> Result<Bytes, (usize, String)> {
        let mut body = BytesMut::new();
        let mut chunks = std::pin::pin!(self.chunks(response));
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|e| (body.len(), e.to_string()))?;
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_MAX_BYTES {
                return Err((
                    body.len(),
                    format!("the answer of {} is larger than {ANSWER_MAX_BYTES} bytes", self.who),
                ));
            }
        }
        Ok(body.freeze())
    }

    /// A provider's words without the key, and not at any length.
    pub fn scrub(&self, words: &str) -> String {
        let clean = match &self.key {
            Some((_, key)) if !key.expose_secret().is_empty() => words.replace(key.expose_secret(), "***"),
            Some(_) | None => words.to_owned(),
        };
        domain::event::preview(clean.trim(), WORDS_MAX_CHARS)
    }

    /// Takes the key out of the error events of a stream; all other events pass as they are.
    pub fn cleaner(&self) -> impl Fn(Frame) -> Frame + Send + use<> {
        let key = self.key.as_ref().map(|(_, key)| key.clone());
        move |frame| match &key {
            Some(key) if frame.end == End::Failed && !key.expose_secret().is_empty() => {
                let text = String::from_utf8_lossy(&frame.bytes).replace(key.expose_secret(), "***");
                Frame { bytes: Bytes::from(text), ..frame }
            }
            Some(_) | None => frame,
        }
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }

    fn auth(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some((style, key)) = &self.key {
            let (name, value): (HeaderName, String) = match style {
                AuthStyle::ApiKey => (HeaderName::from_static("x-api-key"), key.expose_secret().to_owned()),
                AuthStyle::Bearer => (header::AUTHORIZATION, format!("Bearer {}", key.expose_secret())),
            };
            if let Ok(mut value) = HeaderValue::from_str(&value) {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        }
        headers
    }

    fn not_sent(&self, error: &reqwest::Error) -> Trouble {
        let words = self.words_of(error);
        if error.is_connect() { Trouble::Unreachable { words } } else { Trouble::Failed { words } }
    }

    fn words_of(&self, error: &reqwest::Error) -> String {
        self.scrub(&format!("{} cannot be reached: {}", self.who, root(error)))
    }

    async fn refused(&self, response: Response) -> Trouble {
        let (status, after) = (response.status(), retry_after(response.headers()));
        let never = response.headers().get("x-should-retry").is_some_and(|v| v == "false");
        if status.is_redirection() {
            let message = format!("{} answered {status}, a redirect: correct its base_url", self.who);
            return Trouble::Refused(Answer::bad_gateway(message));
        }
        let mut body = BytesMut::new();
        let mut chunks = std::pin::pin!(self.chunks(response));
        while let Some(Ok(chunk)) = chunks.next().await {
            body.extend_from_slice(&chunk);
            if body.len() > ERROR_BODY_MAX_BYTES {
                break;
            }
        }
        let (kind, words) = words(&body);
        let words = self.scrub(&words);
        match Trouble::of_status(status, after, &kind, &words, &self.who) {
            Trouble::Limited { words, .. } | Trouble::Failed { words } if never => {
                Trouble::Refused(Answer::new(status, "api_error", words).code(FailureCode::ModelUnreachable))
            }
            trouble => trouble,
        }
    }
}

/// The type and message of an error body: Anthropic's, OpenAI's, or some text.
fn words(body: &[u8]) -> (String, String) {
    let Ok(json) = serde_json::from_slice::<Value>(body) else {
        return (String::new(), String::from_utf8_lossy(body).into_owned());
    };
    let error = json.get("error").unwrap_or(&json);
    let text = |name: &str| error[name].as_str().map(str::to_owned);
    let code = text("code").unwrap_or_default();
    let message = text("message").or_else(|| error.as_str().map(str::to_owned)).or_else(|| text("detail"));
    let message = message.unwrap_or_else(|| error.to_string());
    if code == "context_length_exceeded" {
        // The words by which clients know that a conversation must be compacted.
        return ("invalid_request_error".into(), format!("prompt is too long: {message}"));
    }
    if code == "insufficient_quota" {
        return (code, message);
    }
    (text("type").filter(|t| t != "None").unwrap_or_default(), message)
}

/// How long a provider asks to wait. A date is read against the answer's own `Date`, so no clock must agree.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
    if let Some(ms) = text("retry-after-ms").and_then(|v| v.parse::<f64>().ok()) {
        return Duration::try_from_secs_f64(ms / 1e3).ok();
    }
    let date = |v: &str| jiff::fmt::rfc2822::parse(v).ok().map(|z| z.timestamp());
    let Some(value) = text("retry-after") else { return reset_in(headers, date(text("date")?)?) };
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let (until, now) = (date(value)?, date(text("date")?)?);
    Some(Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO))
}

/// How long until the limits that are used up are reset, as Anthropic says it: `anthropic-ratelimit-<name>-reset` holds a
/// time in RFC 3339 or seconds since 1970, `-remaining` what is left and `-status` `rejected` where it refuses.
fn reset_in(headers: &HeaderMap, now: jiff::Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
    let mut last = None;
    for name in headers.keys() {
        let Some(limit) = name.as_str().strip_suffix("-reset") else { continue };
        if !limit.starts_with("anthropic-ratelimit-") {
            continue;
        }
        let used_up = text(&format!("{limit}-remaining")) == Some("0")
            || text(&format!("{limit}-status")) == Some("rejected");
        let at = text(name.as_str()).filter(|_| used_up).and_then(|value| match value.parse::<i64>() {
            Ok(seconds) => jiff::Timestamp::from_second(seconds).ok(),
            Err(_) => value.parse::<jiff::Timestamp>().ok(),
        });
        last = last.max(at);
    }
    Duration::try_from(last?.duration_since(now)).ok()
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The innermost cause, which says what happened and holds no URL.
fn root(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    match (error.is_timeout(), std::error::Error::source(error)) {
        (true, _) => "timed out".to_owned(),
        (false, None) => "the request failed".to_owned(),
        (false, Some(_)) => cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn waits_are_read_from_whatever_says_them() {
        let wait = |pairs: &[(&'static str, &'static str)]| retry_after(&headers(pairs)).map(|d| d.as_secs());
        let date = ("date", "Thu, 01 Jan 2026 00:00:00 GMT");
        assert_eq!(wait(&[("retry-after", "7")]), Some(7));
        assert_eq!(wait(&[("retry-after", "Thu, 01 Jan 2026 00:01:00 GMT"), date]), Some(60));
        let reset = ("anthropic-ratelimit-requests-reset", "2026-01-01T01:00:00Z");
        let used_up = ("anthropic-ratelimit-requests-remaining", "0");
        assert_eq!(wait(&[reset, used_up, date]), Some(3_600));
        assert_eq!(wait(&[reset, date]), None, "a limit that is not used up is not waited for");
        assert_eq!(wait(&[reset, used_up]), None, "without the answer's date no clock is trusted");
        let unified = [
            ("anthropic-ratelimit-unified-reset", "1767232800"),
            ("anthropic-ratelimit-unified-status", "rejected"),
        ];
        assert_eq!(wait(&[unified[0], unified[1], reset, used_up, date]), Some(7_200), "the last of them");
        assert_eq!(wait(&[("retry-after", "9"), reset, used_up, date]), Some(9));
    }
}
