//! Talks to the gateway: the box API with retries, and the address for whoever else must reach it.
//!
//! A gateway that is away (nobody listens, 5xx, 425) is asked again with growing, jittered pauses until the caller's
//! deadline. 409 `SESSION_SUPERSEDED` and 401 are final and typed. No token is in an error or a log line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use domain::report::Report;
use domain::steer::Boundary;
use domain::{AskId, AttachmentId, NudgeId};
use protocol::box_api::{
    AskAnswer, AttachRequest, AttachResponse, BoxError, BoxErrorCode, BoxEvent, Directives, EventBatch,
    EventsAccepted, Heartbeat, Started, TakeNudges, TakenNudge, TakenNudges,
};
use reqwest::{Method, RequestBuilder, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

/// One call, but for the long poll.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// A gateway that comes back is found again within this time.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Where the gateway listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A socket of this machine.
    Unix(PathBuf),
    /// `http://host:port` or `https://host`, without a slash at the end.
    Http(String),
}

/// A text that is no gateway address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the gateway address must be unix:/path or http(s)://host:port, got {0:?}")]
pub struct BadAddress(String);

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        match text.split_once(':') {
            Some(("unix", path)) if path.starts_with('/') => Ok(Address::Unix(path.into())),
            Some(("http" | "https", rest)) if rest.len() > 2 && rest.starts_with("//") => {
                Ok(Address::Http(text.trim_end_matches('/').to_owned()))
            }
            _ => Err(BadAddress(text.to_owned())),
        }
    }
}

impl Address {
    /// What URLs begin with; over a socket the host is only a name.
    pub fn base_url(&self) -> &str {
        match self {
            Address::Unix(_) => "http://gateway",
            Address::Http(base) => base,
        }
    }

    /// An HTTP client that reaches the gateway and nothing else.
    pub fn http_client(&self) -> Result<reqwest::Client, reqwest::Error> {
        let builder = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("bgagent-worker/", env!("CARGO_PKG_VERSION")));
        match self {
            // Reading the machine's certificates takes longer than all the rest of the start.
            Address::Unix(path) => builder.unix_socket(path.as_path()).tls_certs_only([]).build(),
            Address::Http(base) if base.starts_with("http:") => builder.tls_certs_only([]).build(),
            Address::Http(_) => builder.build(),
        }
    }
}

/// What a call did not bring.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The box is no longer wanted.
    #[error("{doing}: this attempt is over or was superseded")]
    Superseded {
        /// The call.
        doing: &'static str,
    },
    /// The token was refused.
    #[error("{doing}: the gateway refused the token: {said}")]
    Unauthorized {
        /// The call.
        doing: &'static str,
        /// Its words.
        said: String,
    },
    /// Refused for good.
    #[error("{doing}: refused ({status}{}): {said}", .code.map(|c| format!(" {c:?}")).unwrap_or_default())]
    Refused {
        /// The call.
        doing: &'static str,
        /// HTTP status.
        status: u16,
        /// Its code, where it gave one.
        code: Option<BoxErrorCode>,
        /// Its words.
        said: String,
    },
    /// It may work later.
    #[error("{doing}: the gateway is away: {why}")]
    Away {
        /// The call.
        doing: &'static str,
        /// What was seen.
        why: String,
    },
}

/// How long a call is repeated while the gateway is away.
#[derive(Debug, Clone, Copy)]
pub enum Patience {
    /// One try; the caller has its own loop.
    Once,
    /// Until this instant.
    Until(Instant),
}

impl Patience {
    /// For this long from now.
    pub fn within(time: Duration) -> Patience {
        Patience::Until(Instant::now() + time)
    }
}

/// The gateway, as one attached session sees it. Clones share connections.
#[derive(Debug, Clone)]
pub struct Gateway {
    address: Address,
    http: reqwest::Client,
    token: SecretString,
}

impl Gateway {
    /// With a bootstrap token: only [`Gateway::attach`] works.
    pub fn new(address: Address, token: SecretString) -> Result<Gateway, reqwest::Error> {
        let http = address.http_client()?;
        Ok(Gateway { address, http, token })
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The client and the token, for the model.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// The token of this session.
    pub fn token(&self) -> &SecretString {
        &self.token
    }

    /// Exchanges the bootstrap token for a session. Repeated with the same instance it is the same session.
    pub async fn attach(
        &self,
        request: &AttachRequest,
        patience: Patience,
    ) -> Result<(Gateway, AttachResponse), CallError> {
        let answer: AttachResponse =
            self.ask("attaching", patience, |g| g.post("attach").json(request)).await?;
        let session = Gateway { token: answer.session_token.clone().into(), ..self.clone() };
        Ok((session, answer))
    }

    /// Says that the agent begins.
    pub async fn started(&self, started: &Started, patience: Patience) -> Result<(), CallError> {
        self.tell("saying that the agent begins", patience, |g| g.post("started").json(started)).await
    }

    /// Hands over events.
    pub async fn events(&self, events: &[BoxEvent]) -> Result<EventsAccepted, CallError> {
        let batch = EventBatch { events: events.to_vec() };
        self.ask("sending events", Patience::Once, |g| g.post("events").json(&batch)).await
    }

    /// Asks what to heed, and waits up to `wait` for something else than what `seen` names.
    pub async fn directives(&self, wait: Duration, seen: &str) -> Result<Directives, CallError> {
        let path = format!("directives?wait={}&seen={seen}", wait.as_secs());
        let timeout = wait + CALL_TIMEOUT;
        self.ask("asking for directives", Patience::Once, |g| g.request(Method::GET, &path).timeout(timeout))
            .await
    }

    /// Takes nudges over: acknowledged in the log when this returns. A repeat gets the same ones.
    pub async fn take_nudges(
        &self,
        ids: Vec<NudgeId>,
        at: Option<Boundary>,
    ) -> Result<Vec<TakenNudge>, CallError> {
        let request = TakeNudges { ids, at };
        let taken: TakenNudges =
            self.ask("taking nudges", Patience::Once, |g| g.post("nudges/take").json(&request)).await?;
        Ok(taken.nudges)
    }

    /// Says that the work is saved and the box ends.
    pub async fn left(&self, patience: Patience) -> Result<(), CallError> {
        self.tell("leaving", patience, |g| g.post("left")).await
    }

    /// Answers a question.
    pub async fn answer(&self, ask: AskId, answer: &AskAnswer, patience: Patience) -> Result<(), CallError> {
        let path = format!("asks/{ask}/answer");
        self.tell("answering a question", patience, |g| g.post(&path).json(answer)).await
    }

    /// A sign of life.
    pub async fn heartbeat(&self, stage: &str) -> Result<Directives, CallError> {
        let beat = Heartbeat { stage: stage.to_owned() };
        self.ask("sending a heartbeat", Patience::Once, |g| g.post("heartbeat").json(&beat)).await
    }

    /// The bytes of an attachment.
    pub async fn attachment(&self, id: AttachmentId, patience: Patience) -> Result<Vec<u8>, CallError> {
        let path = format!("attachments/{id}");
        self.call("fetching an attachment", patience, |g| g.get(&path)).await
    }

    /// The text of an attachment that is no text itself.
    pub async fn attachment_text(&self, id: AttachmentId, patience: Patience) -> Result<Vec<u8>, CallError> {
        let path = format!("attachments/{id}/text");
        self.call("fetching the text of an attachment", patience, |g| g.get(&path)).await
    }

    /// Reports the end.
    pub async fn result(&self, report: &Report, patience: Patience) -> Result<(), CallError> {
        self.tell("reporting the result", patience, |g| g.post("result").json(report)).await
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path).timeout(CALL_TIMEOUT)
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path).timeout(CALL_TIMEOUT)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/box/v1/{path}", self.address.base_url());
        self.http.request(method, url).bearer_auth(self.token.expose_secret())
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        doing: &'static str,
        patience: Patience,
        build: impl Fn(&Gateway) -> RequestBuilder,
    ) -> Result<T, CallError> {
        let body = self.call(doing, patience, build).await?;
        serde_json::from_slice(&body).map_err(|e| CallError::Refused {
            doing,
            status: 200,
            code: None,
            said: format!("the answer is not what this worker understands ({e}); do versions differ?"),
        })
    }

    async fn tell(
        &self,
        doing: &'static str,
        patience: Patience,
        build: impl Fn(&Gateway) -> RequestBuilder,
    ) -> Result<(), CallError> {
        self.call(doing, patience, build).await.map(drop)
    }

    async fn call(
        &self,
        doing: &'static str,
        patience: Patience,
        build: impl Fn(&Gateway) -> RequestBuilder,
    ) -> Result<Vec<u8>, CallError> {
        let mut pause = Pause::default();
        loop {
            let error = match once(doing, build(self)).await {
                Ok(body) => return Ok(body),
                Err(error @ CallError::Away { .. }) => error,
                Err(last) => return Err(last),
            };
            match patience {
                Patience::Once => return Err(error),
                Patience::Until(deadline) if Instant::now() >= deadline => return Err(error),
                Patience::Until(deadline) => {
                    if pause.is_first() {
                        tracing::warn!(error = %error, "the gateway is away, asking again");
                    }
                    tokio::time::sleep_until((Instant::now() + pause.next()).min(deadline)).await;
                }
            }
        }
    }
}

async fn once(doing: &'static str, request: RequestBuilder) -> Result<Vec<u8>, CallError> {
    // The URL holds no secret, but says nothing either: over a socket it is made up.
    let away = |e: reqwest::Error| CallError::Away { doing, why: chain(&e.without_url()) };
    let answer = request.send().await.map_err(away)?;
    let status = answer.status();
    let body = answer.bytes().await.map_err(away)?;
    if status.is_success() {
        return Ok(body.to_vec());
    }
    Err(refusal(doing, status, &body))
}

fn refusal(doing: &'static str, status: StatusCode, body: &[u8]) -> CallError {
    let error: Option<BoxError> = serde_json::from_slice(body).ok();
    let code = error.as_ref().map(|e| e.code);
    let said = error.map_or_else(|| String::from_utf8_lossy(body).chars().take(300).collect(), |e| e.message);
    match (status, code) {
        (_, Some(BoxErrorCode::SessionSuperseded)) => CallError::Superseded { doing },
        (_, Some(BoxErrorCode::Unauthorized)) | (StatusCode::UNAUTHORIZED, None) => {
            CallError::Unauthorized { doing, said }
        }
        (_, Some(BoxErrorCode::TooEarly | BoxErrorCode::Unavailable)) => {
            CallError::Away { doing, why: format!("{status}: {said}") }
        }
        (
            _,
            Some(
                BoxErrorCode::BadRequest
                | BoxErrorCode::TooLarge
                | BoxErrorCode::EventLimit
                | BoxErrorCode::VersionUnsupported,
            ),
        ) => CallError::Refused { doing, status: status.as_u16(), code, said },
        (status, None) if status.is_server_error() || [408, 425, 429].contains(&status.as_u16()) => {
            CallError::Away { doing, why: format!("{status}: {said}") }
        }
        (_, None) => CallError::Refused { doing, status: status.as_u16(), code, said },
    }
}

/// Growing pauses between tries, so that many boxes do not come back in step.
#[derive(Debug, Clone, Copy)]
pub struct Pause {
    next: Duration,
}

impl Default for Pause {
    fn default() -> Self {
        Pause { next: PAUSE_MIN }
    }
}

impl Pause {
    /// Half to all of the present pause; the next is twice as long, up to a bound.
    #[expect(clippy::should_implement_trait, reason = "there is always a next pause")]
    pub fn next(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(PAUSE_MAX);
        now.mul_f64(0.5 + f64::from(random_u32() >> 8) / f64::from(1_u32 << 24) / 2.0)
    }

    fn is_first(&self) -> bool {
        self.next == PAUSE_MIN
    }
}

/// Good enough to spread tries; not for secrets.
fn random_u32() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_sockets_or_urls() {
        assert_eq!("unix:/run/g.sock".parse(), Ok(Address::Unix("/run/g.sock".into())));
        assert_eq!("http://h:1/".parse(), Ok(Address::Http("http://h:1".into())));
        for bad in ["", "unix:", "unix:relative", "http:", "http://", "ftp://x", "/run/g.sock"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn answers_are_told_apart() {
        let of = |status: u16, body: &str| {
            refusal("doing", StatusCode::from_u16(status).unwrap(), body.as_bytes())
        };
        let said = |code: &str| format!("{{\"code\":\"{code}\",\"message\":\"m\"}}");
        assert!(matches!(of(409, &said("SESSION_SUPERSEDED")), CallError::Superseded { .. }));
        assert!(matches!(of(401, &said("UNAUTHORIZED")), CallError::Unauthorized { .. }));
        assert!(matches!(of(401, "plain"), CallError::Unauthorized { .. }));
        assert!(matches!(of(425, &said("TOO_EARLY")), CallError::Away { .. }));
        assert!(matches!(of(502, "<html>"), CallError::Away { .. }));
        assert!(matches!(of(503, &said("UNAVAILABLE")), CallError::Away { .. }));
        assert!(matches!(
            of(429, &said("EVENT_LIMIT")),
            CallError::Refused { code: Some(BoxErrorCode::EventLimit), .. }
        ));
        assert!(matches!(of(404, "what"), CallError::Refused { code: None, .. }));
        // A code of a later version is told by its status.
        assert!(matches!(of(426, &said("VERSION_UNSUPPORTED")), CallError::Refused { status: 426, .. }));
        assert!(matches!(of(422, &said("OF_TOMORROW")), CallError::Refused { code: None, .. }));
        assert!(matches!(of(503, &said("OF_TOMORROW")), CallError::Away { .. }));
    }

    #[test]
    fn pauses_grow_to_a_bound_and_never_vanish() {
        let mut pause = Pause::default();
        let pauses: Vec<Duration> = (0..20).map(|_| pause.next()).collect();
        assert!(pauses.iter().all(|p| *p >= PAUSE_MIN / 2 && *p <= PAUSE_MAX), "{pauses:?}");
        assert!(pauses[19] >= PAUSE_MAX / 2);
    }

    #[tokio::test]
    async fn nobody_listening_is_away_and_the_token_is_in_no_error() {
        let gateway =
            Gateway::new(Address::Unix("/nonexistent/g.sock".into()), "s3cret".to_owned().into()).unwrap();
        let error = gateway.heartbeat("agent").await.unwrap_err();
        assert!(matches!(error, CallError::Away { .. }));
        assert!(!format!("{error} {error:?} {gateway:?}").contains("s3cret"));
    }
}
