//! Errors at the edge: `{error: {code, message, request_id}}`. The chain of causes goes to the log, not to the caller.

use std::any::Any;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::RequestId;
use jiff::Timestamp;
use protocol::rest::{ErrorBody, ErrorCode, ErrorDetail};
use store::StoreError;
use tracing::error;

tokio::task_local! {
    /// The id of the request that is being answered.
    pub(super) static REQUEST_ID: RequestId;
}

/// A new request id.
pub(super) fn new_request_id(now: Timestamp) -> RequestId {
    let mut random = [0u8; 16];
    // Only names a log line; a collision would confuse nobody but a reader.
    let _ = getrandom::fill(&mut random);
    RequestId::from_parts(now, u128::from_le_bytes(random))
}

/// An error answer.
#[derive(Debug)]
pub struct ApiError {
    code: ErrorCode,
    message: String,
    retry_after_s: Option<u64>,
}

impl ApiError {
    /// For people.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// An error with a sentence that names the field or object and what to do.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> ApiError {
        ApiError { code, message: message.into(), retry_after_s: None }
    }

    /// Its code.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// The same, with the header `Retry-After`.
    pub fn retry_after(mut self, seconds: u64) -> ApiError {
        self.retry_after_s = Some(seconds);
        self
    }

    /// A field that is not what it should be.
    pub fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(ErrorCode::ValidationError, message)
    }

    /// No key, or not one of ours.
    pub fn unauthorized() -> ApiError {
        ApiError::new(
            ErrorCode::Unauthorized,
            "a valid key is needed, as `X-API-Key: KEY` or `Authorization: Bearer KEY`; `bgagent config owner-key` prints the owner's, and `bgagent key create` makes others",
        )
    }

    /// No such task, or not the caller's: the same answer, so that ids cannot be probed.
    pub fn no_task(id: &str) -> ApiError {
        ApiError::new(ErrorCode::TaskNotFound, format!("there is no task {}", domain::event::preview(id, 40)))
    }
}

impl From<StoreError> for ApiError {
    fn from(failure: StoreError) -> ApiError {
        error!(error = %failure, "the store failed a request");
        match failure {
            StoreError::Unavailable { .. } => ApiError::new(
                ErrorCode::ServiceUnavailable,
                "the database is busy; nothing was stored, try again",
            ),
            StoreError::NotWritable { .. } => ApiError::new(
                ErrorCode::ServiceUnavailable,
                "the server cannot write its database (full or read-only disk); nothing was stored. Free some space and try again",
            ),
            StoreError::NoSuchTask(id) => ApiError::no_task(&id.to_string()),
            StoreError::Newer { .. } | StoreError::Damaged { .. } => ApiError::new(
                ErrorCode::InternalError,
                "the server's database cannot be read; its log says why",
            ),
        }
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> ApiError {
        ApiError::invalid(format!("query: {}", rejection.body_text()))
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> ApiError {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(
                ErrorCode::PayloadTooLarge,
                format!("the body may have {} bytes", domain::limit::API_BODY_MAX_BYTES),
            ),
            _ => ApiError::invalid(format!("body: {}", rejection.body_text())),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let request_id = REQUEST_ID.try_with(ToString::to_string).unwrap_or_default();
        let body = ErrorBody {
            error: ErrorDetail { code: self.code.as_str().into(), message: self.message, request_id },
        };
        let mut response = (status, Json(body)).into_response();
        if self.code == ErrorCode::Unauthorized {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// What no route serves.
pub(super) async fn not_found() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "there is nothing here; the API is described at /v1/openapi.json")
}

/// A route, but not with this method.
pub(super) async fn method_not_allowed() -> ApiError {
    ApiError::new(ErrorCode::MethodNotAllowed, "this route does not take this method; see /v1/openapi.json")
}

/// A handler panicked: the request fails, the server goes on.
pub(super) fn panicked(_panic: Box<dyn Any + Send>) -> Response {
    error!("a handler panicked");
    ApiError::new(ErrorCode::InternalError, "the server failed at this request; its log says why")
        .into_response()
}
