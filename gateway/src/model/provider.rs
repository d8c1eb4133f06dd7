//! One configured provider: its wire, its models, and how a request is put to it.

use bytes::Bytes;
use domain::{Failure, FailureCode};
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use reqwest::Response;
use serde_json::Value;
use url::Url;

use super::answer::Answer;
use super::config::{AuthStyle, Kind, ProviderConfig};
use super::frame::{End, Frames, Opened, Tally, counted, frames_of};
use super::openai;
use super::script::{self, Script};
use super::sse::Splitter;
use super::upstream::{Request, Trouble, Upstream};

/// The version of Anthropic's API that is asked for when the client names none.
const ANTHROPIC_VERSION: &str = "2023-06-01";

pub(super) struct Provider {
    pub name: String,
    pub config: ProviderConfig,
    wire: Wire,
}

enum Wire {
    Anthropic(Upstream),
    Openai(Upstream),
    Script(Script),
}

impl Provider {
    /// Checks one provider's configuration.
    pub fn new(name: String, mut config: ProviderConfig) -> Result<Self, Failure> {
        let wire = match config.kind {
            Kind::Anthropic => {
                upstream(&name, &config, "https://api.anthropic.com", AuthStyle::ApiKey).map(Wire::Anthropic)
            }
            Kind::Openai => {
                upstream(&name, &config, "https://api.openai.com/v1", AuthStyle::Bearer).map(Wire::Openai)
            }
            Kind::Script => match config.path.clone() {
                Some(path) => Ok(Wire::Script(Script::new(path)?)),
                None => Err("path is missing: name a transcript file, or a folder of them".to_owned()),
            },
        };
        let wire = wire.map_err(|problem| {
            let detail = format!("model provider {name}: {problem}");
            Failure::new(FailureCode::ModelNotConfigured, detail).resource(name.clone())
        })?;
        if let (Kind::Script, Some(path), true) = (config.kind, &config.path, config.models.is_empty())
            && config.default_model.is_none()
            && !path.is_dir()
        {
            config.default_model = script::models(path).pop();
        }
        Ok(Self { name, config, wire })
    }

    /// Whether a task may use this model here.
    pub fn allows(&self, model: &str) -> bool {
        self.config.models.is_empty() || self.config.models.iter().any(|m| m == model)
    }

    /// The model when only the provider is named.
    pub fn default_model(&self) -> Option<&str> {
        let only = (self.config.models.len() == 1).then(|| self.config.models[0].as_str());
        self.config.default_model.as_deref().or(only)
    }

    /// What can be said of a model without asking anybody.
    pub fn knows(&self, model: &str) -> Result<(), Failure> {
        match &self.wire {
            Wire::Script(script) => script.transcript(model).map(|_| ()),
            Wire::Anthropic(_) | Wire::Openai(_) => Ok(()),
        }
    }

    /// The transcript that this model plays, if it does.
    pub fn transcript(&self, model: &str) -> Option<std::sync::Arc<script::transcript::Transcript>> {
        match &self.wire {
            Wire::Script(script) => script.transcript(model).ok(),
            Wire::Anthropic(_) | Wire::Openai(_) => None,
        }
    }

    /// Whether the provider can be reached and takes the key, as far as a cheap request can tell.
    pub async fn check(&self) -> Result<(), Failure> {
        let (upstream, path) = match &self.wire {
            Wire::Anthropic(upstream) => (upstream, "/v1/models"),
            Wire::Openai(upstream) => (upstream, "/models"),
            Wire::Script(_) => return Ok(()),
        };
        match upstream.probe(path).await {
            Ok(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                let detail = format!("{} does not accept the configured key", upstream.who());
                Err(Failure::new(FailureCode::ModelAuthFailed, detail).resource(self.name.clone()))
            }
            // Many servers have no such list, and a busy one is waited for when it matters.
            Ok(_) => Ok(()),
            Err(words) => Err(self.unreachable(words)),
        }
    }

    /// The failure of a provider that does not answer.
    pub fn unreachable(&self, words: impl Into<String>) -> Failure {
        Failure::new(FailureCode::ModelUnreachable, words).resource(self.who().to_owned())
    }

    pub fn who(&self) -> &str {
        match &self.wire {
            Wire::Anthropic(upstream) | Wire::Openai(upstream) => upstream.who(),
            Wire::Script(_) => &self.name,
        }
    }

    /// Puts one request. Does not wait or try again.
    pub async fn open(&self, request: &Request<'_>) -> Result<Opened, Trouble> {
        match &self.wire {
            Wire::Anthropic(upstream) => open_anthropic(upstream, request).await,
            Wire::Openai(upstream) => self.open_openai(upstream, request).await,
            Wire::Script(script) => script.open(request).await,
        }
    }

    async fn open_openai(&self, upstream: &Upstream, request: &Request<'_>) -> Result<Opened, Trouble> {
        let body = openai::request(&request.call.body, request.model, &self.config)
            .map_err(|problem| Trouble::Refused(Answer::invalid(problem)))?;
        let response =
            upstream.post("/chat/completions", accept(request), body.to_string().into_bytes()).await?;
        let translator = openai::Translator::new(request.model, request.bytes);
        if request.streaming() && is_stream(&response) {
            return Ok(Opened::Stream(openai_frames(upstream, response, translator)));
        }
        let raw = match upstream.whole(response).await {
            Ok(raw) => raw,
            Err((bytes, words)) => return Ok(Opened::Torn { bytes, answer: Answer::bad_gateway(words) }),
        };
        let answer: Value = match serde_json::from_slice(&raw) {
            Ok(answer) => answer,
            Err(e) => return Err(not_json(upstream, &e)),
        };
        match openai::response(&answer, request.model, request.bytes) {
            Ok((message, count, basis)) => Ok(whole(&message, Some((count, basis)), None, request)),
            Err(words) => {
                Err(Trouble::Failed { words: format!("{}: {}", upstream.who(), upstream.scrub(&words)) })
            }
        }
    }
}

fn upstream(
    name: &str,
    config: &ProviderConfig,
    default_base: &str,
    style: AuthStyle,
) -> Result<Upstream, String> {
    let base = config.base_url.as_deref().unwrap_or(default_base);
    let base: Url = base.parse().map_err(|e| format!("base_url is not a URL: {e}"))?;
    if !matches!(base.scheme(), "http" | "https") {
        return Err(format!("base_url must be http or https, not {}", base.scheme()));
    }
    let key = config.api_key.clone().map(|key| (config.auth_style.unwrap_or(style), key));
    Upstream::new(name, without_version(base, config.kind), key, config.timeouts)
}

/// People give Anthropic's base with the `/v1` too.
fn without_version(mut base: Url, kind: Kind) -> Url {
    let path = base.path().trim_end_matches('/').to_owned();
    match (kind, path.strip_suffix("/v1")) {
        (Kind::Anthropic, Some(rest)) => base.set_path(rest),
        (Kind::Anthropic | Kind::Openai | Kind::Script, _) => base.set_path(&path),
    }
    base
}

async fn open_anthropic(upstream: &Upstream, request: &Request<'_>) -> Result<Opened, Trouble> {
    let mut body = request.call.body.clone();
    body["model"] = request.model.into();
    let mut headers = accept(request);
    let version = request.call.headers.get("anthropic-version").cloned();
    let version = version.unwrap_or(HeaderValue::from_static(ANTHROPIC_VERSION));
    headers.insert("anthropic-version", version);
    let beta = HeaderName::from_static("anthropic-beta");
    for value in request.call.headers.get_all(&beta) {
        headers.append(beta.clone(), value.clone());
    }
    let response = upstream.post("/v1/messages", headers, body.to_string().into_bytes()).await?;
    if request.streaming() && is_stream(&response) {
        return Ok(Opened::Stream(anthropic_frames(upstream, response)));
    }
    let raw = match upstream.whole(response).await {
        Ok(raw) => raw,
        Err((bytes, words)) => return Ok(Opened::Torn { bytes, answer: Answer::bad_gateway(words) }),
    };
    match serde_json::from_slice::<Value>(&raw) {
        Ok(message) => Ok(whole(&message, counted(&message), Some(raw), request)),
        Err(e) => Err(not_json(upstream, &e)),
    }
}

/// A whole message, also for a client that wants a stream from a server that does not stream.
fn whole(
    message: &Value,
    counted: Option<(domain::TokenCount, super::Basis)>,
    raw: Option<Bytes>,
    request: &Request<'_>,
) -> Opened {
    if !request.streaming() {
        let body = raw.unwrap_or_else(|| Bytes::from(message.to_string()));
        return Opened::Message { body, counted };
    }
    let mut frames = frames_of(message, None);
    if let Some(last) = frames.last_mut() {
        last.counted = counted;
    }
    Opened::Stream(futures_util::stream::iter(frames.into_iter().map(Ok)).boxed())
}

/// Most often a page of some other server, so nothing was generated and nothing is recorded.
fn not_json(upstream: &Upstream, error: &serde_json::Error) -> Trouble {
    let message = format!("{} sent an answer that is not JSON ({error}): check its base_url", upstream.who());
    Trouble::Refused(Answer::bad_gateway(message))
}

fn accept(request: &Request<'_>) -> HeaderMap {
    let kind = if request.streaming() { "text/event-stream" } else { "application/json" };
    HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(kind))])
}

fn is_stream(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).map(|v| v.to_str().unwrap_or_default());
    kind.is_none_or(|kind| kind.starts_with("text/event-stream"))
}

/// The events as they came, with a look at their counts.
fn anthropic_frames(upstream: &Upstream, response: Response) -> Frames {
    let (chunks, clean) = (upstream.chunks(response), upstream.cleaner());
    async_stream::try_stream! {
        let (mut splitter, mut tally) = (Splitter::default(), Tally::default());
        let mut chunks = std::pin::pin!(chunks);
        while let Some(chunk) = chunks.next().await {
            splitter.push(&chunk?).map_err(std::io::Error::other)?;
            while let Some(event) = splitter.next_event() {
                let frame = tally.frame(event);
                let end = frame.end;
                yield clean(frame);
                if end != End::More {
                    return;
                }
            }
        }
    }
    .boxed()
}

fn openai_frames(upstream: &Upstream, response: Response, mut translator: openai::Translator) -> Frames {
    let (chunks, clean) = (upstream.chunks(response), upstream.cleaner());
    async_stream::try_stream! {
        let mut splitter = Splitter::default();
        let mut chunks = std::pin::pin!(chunks);
        while let Some(chunk) = chunks.next().await {
            splitter.push(&chunk?).map_err(std::io::Error::other)?;
            while let Some(event) = splitter.next_event() {
                if let Some(frame) = translator.event(&event) {
                    let end = frame.end;
                    yield clean(frame);
                    if end != End::More {
                        return;
                    }
                }
            }
        }
        if let Some(event) = splitter.finish()
            && let Some(frame) = translator.event(&event)
        {
            yield clean(frame);
        }
        if let Some(frame) = translator.finish() {
            yield clean(frame);
        }
    }
    .boxed()
}
