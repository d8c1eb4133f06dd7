//! Requests to GitHub's API: the one place that knows time limits, retries, redirects, rate limits and refusals.
//!
//! A rate limit is remembered: until it is over, every call fails at once with the time to wait, so a hundred tasks
//! do not keep knocking (which GitHub punishes with longer limits).

use std::sync::Mutex;
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use domain::{FailureCode, limit};
use reqwest::header::{ACCEPT, HeaderMap, LOCATION, USER_AGENT};
use reqwest::{Method, StatusCode, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use crate::{ForgeError, Retry, fail};

/// The API version our requests are written for.
const API_VERSION: &str = "2022-11-28";
/// Time for a request that changes something; GitHub itself gives up after 10 s.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);
/// Requests for one answer, the first included.
const ATTEMPTS: usize = 3;
/// Redirects followed for one answer.
const REDIRECTS_MAX: usize = 3;
/// Bytes of an answer read; a page of pull requests with full bodies is some megabytes.
const BODY_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Seconds to wait when a rate limit does not say how long.
const LIMIT_SECONDS_DEFAULT: u64 = 60;

/// GitHub's API as one account.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    api: Url,
    token: Option<SecretString>,
    limited_until: Mutex<Option<Instant>>,
}

/// An answer that is not a failure of transport, rate limit or token: the caller judges the status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Value,
}

impl Answer {
    /// GitHub's own words on a refusal, for a person.
    pub(super) fn message(&self) -> String {
        let text = |v: &Value| v.as_str().map(str::to_owned);
        let main = self.body.get("message").and_then(text).unwrap_or_default();
        let errors = self.body.get("errors").and_then(Value::as_array).into_iter().flatten();
        let field =
            |e: &Value| Some(format!("{} is {}", e.get("field")?.as_str()?, e.get("code")?.as_str()?));
        let details =
            errors.filter_map(|e| text(e).or_else(|| e.get("message").and_then(text)).or_else(|| field(e)));
        let all: Vec<String> = std::iter::once(main).chain(details).filter(|t| !t.is_empty()).collect();
        let said = if all.is_empty() { "no message".to_owned() } else { all.join("; ") };
        format!("{} {}", self.status.as_u16(), domain::event::preview(&said, 300))
    }
}

impl Client {
    pub(super) fn new(api: Url, token: Option<SecretString>) -> Result<Client, reqwest::Error> {
        let http = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(limit::PREFLIGHT_CHECK)
            .build()?;
        Ok(Client { http, api, token, limited_until: Mutex::new(None) })
    }

    /// The URL of an API path given as its segments; each is encoded, so a name with a slash stays one segment.
    pub(super) fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.api.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// The GraphQL endpoint: beside the REST root, or, on an Enterprise Server, beside its `v3`.
    pub(super) fn graphql_url(&self) -> Url {
        let mut url = self.api.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty();
            if self.api.path().trim_end_matches('/').ends_with("/v3") {
                path.pop();
            }
            path.push("graphql");
        }
        url
    }

    /// Reads.
    pub(super) async fn get(&self, url: Url, doing: &str) -> Result<Answer, ForgeError> {
        self.send(Method::GET, url, None, doing).await
    }

    /// Writes. May be sent more than once: only for what GitHub refuses to do twice.
    pub(super) async fn post(&self, url: Url, body: &Value, doing: &str) -> Result<Answer, ForgeError> {
        self.send(Method::POST, url, Some(body), doing).await
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        body: Option<&Value>,
        doing: &str,
    ) -> Result<Answer, ForgeError> {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(2))
            .with_max_times(ATTEMPTS - 1)
            .with_jitter();
        (|| self.send_once(method.clone(), url.clone(), body, doing))
            .retry(backoff)
            .when(|e| e.retry == Retry::Backoff)
            .notify(|e, after| tracing::debug!(error = %e, retry.after_ms = after.as_millis(), "github asked again"))
            .await
    }

    async fn send_once(
        &self,
        method: Method,
        mut url: Url,
        body: Option<&Value>,
        doing: &str,
    ) -> Result<Answer, ForgeError> {
        if let Some(seconds) = self.limited_for() {
            return Err(limited(doing, seconds, "earlier answers said so"));
        }
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.request(method.clone(), url.clone(), body).send().await;
            let answer = answer.map_err(|e| unreachable(doing, e))?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            if status.is_redirection()
                && let Some(next) = self.redirected(&url, &headers)
            {
                tracing::debug!(http.status = status.as_u16(), "github redirected");
                url = next;
                continue;
            }
            let body = read(answer, doing).await?;
            return self.judge(Answer { status, body }, &headers, doing);
        }
        let why = format!("{doing}: GitHub redirected more than {REDIRECTS_MAX} times; check github.api_url");
        Err(fail::never(FailureCode::GithubApiError, why))
    }

    fn request(&self, method: Method, url: Url, body: Option<&Value>) -> reqwest::RequestBuilder {
        let timeout = if method == Method::GET { limit::PREFLIGHT_CHECK } else { WRITE_TIMEOUT };
        let mut request = self
            .http
            .request(method, url)
            .timeout(timeout)
            .header(USER_AGENT, concat!("bgagent/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/vnd.github+json")
            .header("X-GitHub-Api-Version", API_VERSION);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        match body {
            Some(body) => request.json(body),
            None => request,
        }
    }

    /// Where a renamed repository moved to, when that is still the API we gave the token to.
    fn redirected(&self, from: &Url, headers: &HeaderMap) -> Option<Url> {
        let to = from.join(headers.get(LOCATION)?.to_str().ok()?).ok()?;
        (to.origin() == self.api.origin()).then_some(to)
    }

    fn judge(&self, answer: Answer, headers: &HeaderMap, doing: &str) -> Result<Answer, ForgeError> {
        let status = answer.status;
        if let Some(seconds) = rate_limit(status, headers, &answer) {
            let until = Instant::now() + Duration::from_secs(seconds);
            *self.limited_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(until);
            return Err(limited(doing, seconds, &answer.message()));
        }
        if status.is_server_error() {
            let why = format!("{doing}: GitHub answered {}", answer.message());
            return Err(fail::later(FailureCode::GithubApiError, Retry::Backoff, why));
        }
        if status == StatusCode::UNAUTHORIZED {
            let why = format!(
                "{doing}: GitHub does not accept the token ({}); it may have expired or been revoked",
                answer.message()
            );
            return Err(fail::never(FailureCode::GithubTokenScopes, why));
        }
        Ok(answer)
    }

    fn limited_for(&self) -> Option<u64> {
        let mut until = self.limited_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match until.map(|t| t.saturating_duration_since(Instant::now())) {
            Some(left) if !left.is_zero() => Some(left.as_secs() + 1),
            Some(_) => {
                *until = None;
                None
            }
            None => None,
        }
    }
}

/// An answer of a kind that this call has no use for.
pub(super) fn unexpected(answer: &Answer, doing: &str) -> ForgeError {
    fail::never(FailureCode::GithubApiError, format!("{doing}: GitHub answered {}", answer.message()))
}

/// An answer whose body is not what GitHub's documentation says.
pub(super) fn misread(error: serde_json::Error, doing: &str) -> ForgeError {
    let why =
        format!("{doing}: GitHub's answer could not be read ({error}); check that github.api_url is an API");
    fail::never(FailureCode::GithubApiError, why).because(error)
}

fn limited(doing: &str, seconds: u64, why: &str) -> ForgeError {
    let why = format!("{doing}: GitHub's rate limit is used up for {seconds} s ({why})");
    fail::later(FailureCode::GithubApiError, Retry::After(seconds), why)
}

fn unreachable(doing: &str, error: reqwest::Error) -> ForgeError {
    // The URL of an API call tells nothing a person needs, and may carry a query.
    let error = error.without_url();
    let why = if error.is_timeout() { "it did not answer in time".to_owned() } else { causes(&error) };
    fail::later(
        FailureCode::GithubUnreachable,
        Retry::Backoff,
        format!("{doing}: GitHub cannot be reached: {why}"),
    )
    .because(error)
}

fn causes(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |e| e.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

async fn read(mut answer: reqwest::Response, doing: &str) -> Result<Value, ForgeError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|e| unreachable(doing, e))? {
        if bytes.len() + chunk.len() > BODY_MAX_BYTES {
            let why = format!("{doing}: GitHub answered with more than {BODY_MAX_BYTES} bytes");
            return Err(fail::never(FailureCode::GithubApiError, why));
        }
        bytes.extend_from_slice(&chunk);
    }
    // A proxy's error page is no JSON; its status tells enough.
    Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// Seconds to wait, when this answer is a rate limit: primary, secondary, or 429.
fn rate_limit(status: StatusCode, headers: &HeaderMap, answer: &Answer) -> Option<u64> {
    if status != StatusCode::FORBIDDEN && status != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    if let Some(seconds) = number("retry-after") {
        return Some(seconds.max(1));
    }
    if number("x-ratelimit-remaining") == Some(0) {
        let date =
            headers.get("date").and_then(|d| d.to_str().ok()).and_then(|d| jiff::fmt::rfc2822::parse(d).ok());
        let now = date.and_then(|d| u64::try_from(d.timestamp().as_second()).ok());
        let left = number("x-ratelimit-reset").zip(now).map(|(reset, now)| reset.saturating_sub(now));
        return Some(left.unwrap_or(LIMIT_SECONDS_DEFAULT).max(1));
    }
    let secondary = answer.message().to_ascii_lowercase().contains("secondary rate limit");
    (secondary || status == StatusCode::TOO_MANY_REQUESTS).then_some(LIMIT_SECONDS_DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(api: &str) -> Client {
        Client::new(Url::parse(api).unwrap(), None).unwrap()
    }

    #[test]
    fn names_with_slashes_stay_one_segment() {
        let url = client("https://ghe.example/api/v3").url(&["repos", "o", "r", "branches", "feature/a b#c"]);
        assert_eq!(url.as_str(), "https://ghe.example/api/v3/repos/o/r/branches/feature%2Fa%20b%23c");
    }

    #[test]
    fn graphql_lies_beside_rest() {
        assert_eq!(client("https://api.github.com").graphql_url().as_str(), "https://api.github.com/graphql");
        assert_eq!(client("https://h/api/v3/").graphql_url().as_str(), "https://h/api/graphql");
    }

    #[test]
    fn rate_limits_are_told_from_refusals() {
        let seconds = |status: u16, headers: &[(&'static str, &str)], message: &str| {
            let headers = headers.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect();
            let status = StatusCode::from_u16(status).unwrap();
            rate_limit(status, &headers, &Answer { status, body: serde_json::json!({"message": message}) })
        };
        assert_eq!(seconds(403, &[], "Resource not accessible by integration"), None);
        assert_eq!(seconds(403, &[("x-ratelimit-remaining", "12")], "Forbidden"), None);
        assert_eq!(seconds(404, &[("retry-after", "3")], ""), None);
        assert_eq!(seconds(403, &[("retry-after", "7")], ""), Some(7));
        assert_eq!(seconds(429, &[], ""), Some(LIMIT_SECONDS_DEFAULT));
        assert_eq!(
            seconds(403, &[], "You have exceeded a secondary rate limit"),
            Some(LIMIT_SECONDS_DEFAULT)
        );
        let reset = [
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "784111800"),
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ];
        assert_eq!(seconds(403, &reset, "API rate limit exceeded"), Some(784_111_800 - 784_111_777));
    }
}
