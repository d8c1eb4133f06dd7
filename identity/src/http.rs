//! How a provider is spoken to: briefly, without following it anywhere, and never more of an answer than makes sense.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use url::Url;

use crate::discovery;

/// To connect.
const CONNECT: Duration = Duration::from_secs(3);
/// A whole answer.
const ANSWER: Duration = Duration::from_secs(10);
/// No answer of a provider is longer.
const ANSWER_MAX_BYTES: usize = 256 * 1024;

/// Why a provider could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// No connection, or no answer in time.
    #[error("{url} does not answer: {why}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// The deepest cause.
        why: String,
    },
    /// Another answer than 200.
    #[error("{url} answered with status {status}")]
    Status {
        /// What was asked.
        url: String,
        /// The status.
        status: u16,
    },
    /// It would have us ask somebody else.
    #[error(
        "{url} answered with a redirect (status {status}), which is not followed; configure the address that answers itself"
    )]
    Redirect {
        /// What was asked.
        url: String,
        /// The status.
        status: u16,
    },
    /// An answer of another form.
    #[error("{url} answered with {why}")]
    Answer {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

/// A client for the provider of this issuer.
pub(crate) fn client(issuer: &Url) -> Result<Client, FetchError> {
    let mut builder = Client::builder()
        .redirect(Policy::none())
        .connect_timeout(CONNECT)
        .timeout(ANSWER)
        .user_agent(concat!("bgagent/", env!("CARGO_PKG_VERSION")));
    if discovery::loopback(issuer) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|e| FetchError::Unreachable { url: shown(issuer), why: e.to_string() })
}

/// The body of a good answer.
pub(crate) async fn get(http: &Client, url: &Url) -> Result<Vec<u8>, FetchError> {
    let answer = http.get(url.clone()).header("Accept", "application/json").send().await;
    let answer = answer.map_err(|e| unreachable(url, &e))?;
    match answer.status() {
        StatusCode::OK => body(url, answer).await,
        status if status.is_redirection() => {
            Err(FetchError::Redirect { url: shown(url), status: status.as_u16() })
        }
        status => Err(FetchError::Status { url: shown(url), status: status.as_u16() }),
    }
}

/// The body of any answer, if it is no longer than it may be.
pub(crate) async fn body(url: &Url, mut answer: Response) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|e| unreachable(url, &e))? {
        if bytes.len() + chunk.len() > ANSWER_MAX_BYTES {
            let why = format!("more than {ANSWER_MAX_BYTES} bytes");
            return Err(FetchError::Answer { url: shown(url), why });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The deepest cause is the one that says something; the address is told beside it.
pub(crate) fn unreachable(url: &Url, error: &reqwest::Error) -> FetchError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let why = match (error.is_timeout(), cause.to_string()) {
        (true, _) => "no answer in time".to_owned(),
        (false, why) => why,
    };
    FetchError::Unreachable { url: shown(url), why }
}

/// An address without what could be a secret in it.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_password(None);
    url.to_string()
}
