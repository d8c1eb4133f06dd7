//! What a client is told when a call fails: Anthropic's error JSON, plus our failure code where clients look for it.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use domain::{Failure, FailureCode};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::meter::Refusal;
use super::sse;

/// The header that carries our failure code, e.g. `MODEL_AUTH_FAILED`.
pub const FAILURE_HEADER: &str = "x-bgagent-failure";

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// Anthropic's error type, e.g. `invalid_request_error`.
    pub kind: String,
    /// What happened and what to do. Never a key.
    pub message: String,
    /// Our code, where a client or a person acts on it.
    pub code: Option<Code>,
}

/// The codes of [`FAILURE_HEADER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// One that a task can fail with.
    Failure(FailureCode),
    /// Another attempt has taken over: stop, do not retry.
    Superseded,
    /// The task has ended: stop, do not retry.
    TaskEnded,
}

impl Code {
    /// The value of the header.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::Failure(code) => code.as_str(),
            Code::Superseded => "SESSION_SUPERSEDED",
            Code::TaskEnded => "TASK_ENDED",
        }
    }
}

impl Answer {
    pub(super) fn new(status: StatusCode, kind: &str, message: impl Into<String>) -> Self {
        Self { status, kind: kind.to_owned(), message: message.into(), code: None }
    }

    pub(super) fn code(mut self, code: FailureCode) -> Self {
        self.code = Some(Code::Failure(code));
        self
    }

    /// A request that is wrong in itself.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
            .code(FailureCode::ModelRequestRejected)
    }

    /// A provider that does not answer as it should, after what retries there were.
    pub(super) fn bad_gateway(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "api_error", message).code(FailureCode::ModelUnreachable)
    }

    /// A model string that leads nowhere.
    pub(super) fn unresolved(failure: &Failure) -> Self {
        let status = match failure.code {
            FailureCode::ModelUnknown => StatusCode::NOT_FOUND,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        let kind = if status == StatusCode::NOT_FOUND { "not_found_error" } else { "api_error" };
        Self::new(status, kind, failure.detail.clone()).code(failure.code)
    }

    /// A prompt that a screen blocked.
    pub(crate) fn guardrail(reason: &str) -> Self {
        let message = format!("Guardrail blocked: {reason}");
        Self::new(StatusCode::FORBIDDEN, "guardrail_blocked", message).code(FailureCode::GuardrailBlocked)
    }

    /// A prompt that could not be screened: it may be, later.
    pub(crate) fn unscreened(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "api_error", reason)
    }

    /// A call that the rest of the gateway does not let start.
    pub(super) fn refused(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::BudgetExceeded { words, .. } => Self::new(
                StatusCode::PAYMENT_REQUIRED,
                "budget_exceeded",
                format!("{words}; no further model call is made"),
            )
            .code(FailureCode::MaxBudget),
            Refusal::Superseded => Self {
                code: Some(Code::Superseded),
                ..Self::new(
                    StatusCode::CONFLICT,
                    "session_superseded",
                    "another attempt at this task has taken over; stop",
                )
            },
            Refusal::Ended { reason } => Self {
                code: Some(Code::TaskEnded),
                ..Self::new(StatusCode::CONFLICT, "task_ended", reason.clone())
            },
            Refusal::Unavailable { reason } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "api_error", reason.clone())
            }
        }
    }

    fn body(&self) -> Value {
        let mut error = json!({ "type": self.kind, "message": self.message });
        if let Some(code) = self.code {
            error["code"] = code.as_str().into();
        }
        json!({ "type": "error", "error": error })
    }

    /// As the `error` event of a stream that has already begun.
    pub(super) fn event(&self) -> Bytes {
        sse::write("error", &self.body())
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body().to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(code) = self.code {
            headers.insert(FAILURE_HEADER, HeaderValue::from_static(code.as_str()));
        }
        if self.code.is_some() {
            // What could be waited out was waited out here; a client that tries again only doubles it.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        response
    }
}
