//! The JSON body of a request: there within a time, of a bounded size, of the right type, and UTF-8.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse as _;
use domain::limit;
use protocol::rest::ErrorCode;
use serde::de::DeserializeOwned;

use super::{ApiError, App};

/// Routes whose bodies may be larger than others'.
pub(super) const TASKS: &str = "/v1/tasks";
pub(super) const DELIVERIES: &str = "/v1/webhooks/tasks";
pub(super) const UPLOADS: &str = "/v1/uploads";

/// Bytes that the body of a request to this path may have.
fn most(path: &str) -> usize {
    match path {
        TASKS | DELIVERIES => limit::TASK_BODY_MAX_BYTES,
        UPLOADS => super::upload::UPLOAD_MAX_BYTES,
        _ => limit::API_BODY_MAX_BYTES,
    }
}

/// Holds the bodies of a route to their bound.
pub(super) fn limit(path: &str) -> DefaultBodyLimit {
    DefaultBodyLimit::max(most(path))
}

/// A body of JSON; anything else is a 4xx that says what is wrong with it.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Body<T>, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::invalid(
                "body: send JSON, with the header `Content-Type: application/json`",
            ));
        }
        let bytes = read(request, app).await?;
        std::str::from_utf8(&bytes).map_err(|e| {
            ApiError::invalid(format!("body: it is not UTF-8 from byte {} on", e.valid_up_to()))
        })?;
        no_array(&bytes)?;
        let Json(value) = Json::<T>::from_bytes(&bytes)?;
        Ok(Body(value))
    }
}

/// A request is an object: its fields have names. serde would take an array for one, field by field.
pub(super) fn no_array(bytes: &[u8]) -> Result<(), ApiError> {
    match bytes.trim_ascii_start().first() {
        Some(b'[') => Err(ApiError::invalid("body: it must be a JSON object, and is an array")),
        _ => Ok(()),
    }
}

/// The whole body, or what kept it from being read.
pub(super) async fn read(request: Request, app: &App) -> Result<Bytes, ApiError> {
    let (seconds, most) = (limit::API_BODY_READ.as_secs(), most(request.uri().path()));
    let read = tokio::time::timeout(limit::API_BODY_READ, Bytes::from_request(request, app)).await;
    let read = read.map_err(|_| {
        ApiError::new(
            ErrorCode::RequestTimeout,
            format!("the body was not there within {seconds} s; nothing was stored, send it again"),
        )
    })?;
    read.map_err(|rejection| match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::new(ErrorCode::PayloadTooLarge, format!("the body may have {most} bytes"))
        }
        _ => ApiError::invalid("body: it broke off before its end; nothing was stored, send it again"),
    })
}

/// `application/json` or `application/*+json`, with or without parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}
