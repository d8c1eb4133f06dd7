//! What can go wrong between a client and a server, as far as a caller branches on it.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::rest::ErrorBody;

/// Characters of a body that is not ours, shown to a person.
const FOREIGN_MAX_CHARS: usize = 200;

/// A call that did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address or key cannot be used at all.
    #[error("the server's address {url} cannot be used: {why}")]
    BadUrl {
        /// The address.
        url: String,
        /// Why not.
        why: String,
    },
    /// No answer, or it broke off.
    #[error("the server at {url} does not answer")]
    Unreachable {
        /// Where.
        url: String,
        /// What the transport says.
        source: reqwest::Error,
    },
    /// An event stream that ended before its task did.
    #[error("the connection to {url} was lost: {why}")]
    Cut {
        /// Where.
        url: String,
        /// How.
        why: String,
    },
    /// The server said no.
    #[error("{message} ({code})")]
    Api {
        /// HTTP status.
        status: u16,
        /// Stable code; `HTTP_ERROR` when the body is not one of ours.
        code: String,
        /// A sentence.
        message: String,
        /// The request's id in the server's log; empty when unknown.
        request_id: String,
        /// What the server asks to wait.
        retry_after: Option<Duration>,
    },
    /// There is no token to show the server, and none can be had.
    #[error("{why}")]
    SignedOut {
        /// Why not.
        why: String,
        /// Whether it may be had a little later.
        transient: bool,
    },
    /// A success whose body is not what it should be.
    #[error("the server's answer for {what} cannot be read: {why}")]
    BadAnswer {
        /// What was asked for.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl ClientError {
    /// Whether the same call may succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            ClientError::Unreachable { .. } | ClientError::Cut { .. } => true,
            ClientError::Api { status, .. } => matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504),
            ClientError::SignedOut { transient, .. } => *transient,
            ClientError::BadUrl { .. } | ClientError::BadAnswer { .. } => false,
        }
    }

    /// What the server asks to wait before the next try.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            ClientError::Api { retry_after, .. } => *retry_after,
            ClientError::BadUrl { .. }
            | ClientError::Unreachable { .. }
            | ClientError::Cut { .. }
            | ClientError::SignedOut { .. }
            | ClientError::BadAnswer { .. } => None,
        }
    }

    /// The stable code, where the server gave one.
    pub fn code(&self) -> Option<&str> {
        match self {
            ClientError::Api { code, .. } => Some(code),
            ClientError::BadUrl { .. }
            | ClientError::Unreachable { .. }
            | ClientError::Cut { .. }
            | ClientError::SignedOut { .. }
            | ClientError::BadAnswer { .. } => None,
        }
    }
}

/// The error of an answer that is not a success. A body that is not ours keeps its status.
pub(super) fn refused(status: u16, retry_after: Option<Duration>, body: &str) -> ClientError {
    match serde_json::from_str::<ErrorBody>(body) {
        Ok(ErrorBody { error }) => ClientError::Api {
            status,
            code: error.code,
            message: error.message,
            request_id: error.request_id,
            retry_after,
        },
        Err(_) => ClientError::Api {
            status,
            code: "HTTP_ERROR".into(),
            message: format!(
                "HTTP {status}: {} (non-JSON response)",
                domain::event::preview(body.trim(), FOREIGN_MAX_CHARS)
            ),
            request_id: String::new(),
            retry_after,
        },
    }
}

/// `Retry-After` in seconds; the form with a date is not sent by ours.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
