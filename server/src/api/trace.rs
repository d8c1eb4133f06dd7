//! `/v1/tasks/{id}/trace` and `/v1/objects`: from a task to an address that needs no key, and what it leads to.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use domain::transition::after;
use domain::{Task, limit};
use objects::{Key, ObjectError};
use protocol::rest::*;
use protocol::trace::TraceAddress;
use serde::Deserialize;
use store::TraceRecord;
use tracing::error;
use utoipa::IntoParams;

use super::{ApiError, App, Caller, TaskPath, task, wire};
use crate::link::Refused;

/// Where the trace of a task can be fetched, for 15 minutes, without a key. 404 `TRACE_NOT_AVAILABLE` when the task did not
/// ask for one, has not ended, or ended too long ago.
#[utoipa::path(get, path = "/v1/tasks/{task_id}/trace", params(("task_id" = String, Path)),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = Data<TraceAddress>), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn address(
    State(app): State<App>,
    caller: Caller,
    TaskPath(id): TaskPath,
) -> Result<Json<Data<TraceAddress>>, ApiError> {
    let task = task::owned(&app, &caller, &id).await?;
    let record = app.orchestrator().store().trace_get(task.id).await?;
    let record = record.ok_or_else(|| not_available(why_none(&task)))?;
    let gone = || {
        let days = kept(&app).as_secs() / 86_400;
        not_available(format!("the trace of task {} is gone: traces are kept for {days} days", task.id))
    };
    let key: Key = record.key.parse().map_err(|_| gone())?;
    if expired(&app, &record) || app.orchestrator().parts().objects.stat(&key).await?.is_none() {
        return Err(gone());
    }
    let expires = after(app.orchestrator().now(), limit::TRACE_ADDRESS);
    let url = format!("{}{}", app.settings().public_url, app.links().sign(&key, expires));
    Ok(Json(Data { data: TraceAddress { url, expires_at: wire::time(expires) } }))
}

fn why_none(task: &Task) -> String {
    match (task.spec.trace, task.status().is_terminal()) {
        (false, _) => format!("task {} keeps no trace; submit with `trace: true` to have one", task.id),
        (true, false) => {
            format!("task {} is {}: its trace is made when it has ended", task.id, task.status())
        }
        (true, true) => format!("task {} has no trace: no model was asked, or it is not made yet", task.id),
    }
}

fn not_available(message: String) -> ApiError {
    ApiError::new(ErrorCode::TraceNotAvailable, message)
}

/// Whether a trace is older than traces are kept.
fn expired(app: &App, record: &TraceRecord) -> bool {
    after(record.sealed_at, kept(app)) < app.orchestrator().now()
}

/// How long traces are kept.
fn kept(app: &App) -> Duration {
    app.orchestrator().parts().policy.retention.traces
}

/// The address of a task's trace for records, while it is kept.
pub(super) async fn uri(app: &App, task: &Task) -> Result<Option<String>, ApiError> {
    if !task.spec.trace || !task.status().is_terminal() {
        return Ok(None);
    }
    let record = app.orchestrator().store().trace_get(task.id).await?;
    Ok(record.filter(|record| !expired(app, record)).map(|record| record.uri))
}

/// An object, by a signed address.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ObjectQuery {
    /// Which object.
    key: String,
    /// Until when the address is good, in seconds since 1970.
    expires: i64,
    /// The server's signature of both.
    signature: String,
}

/// The object that a signed address leads to. No key is needed; the address is what `/v1/tasks/{task_id}/trace` gave.
#[utoipa::path(get, path = "/v1/objects", params(ObjectQuery),
    responses((status = 200, description = "The object", body = Vec<u8>, content_type = "application/gzip"),
        (status = 400, body = ErrorBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn object(
    State(app): State<App>,
    query: Result<Query<ObjectQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let query = query?.0;
    let refused = |words: &str| ApiError::new(ErrorCode::Forbidden, words);
    let not_ours =
        || refused("this is no address that this server signed; ask for one with GET /v1/tasks/{id}/trace");
    let key: Key = query.key.parse().map_err(|_| not_ours())?;
    let now = app.orchestrator().now();
    app.links().check(&key, query.expires, &query.signature, now).map_err(|why| match why {
        Refused::NotOurs => not_ours(),
        Refused::Expired => {
            refused("the address has expired; ask for a new one with GET /v1/tasks/{id}/trace")
        }
    })?;
    let object = app.orchestrator().parts().objects.get(&key).await?;
    let object =
        object.ok_or_else(|| not_available("what the address led to is not kept any more".into()))?;
    let name = key.name().to_owned();
    let mut response = Response::new(Body::from_stream(object.body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/gzip"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(object.meta.bytes));
    // A key holds nothing that would have to be quoted.
    if let Ok(disposition) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

impl From<ObjectError> for ApiError {
    fn from(failure: ObjectError) -> ApiError {
        error!(error = %failure, "the objects failed a request");
        ApiError::new(
            ErrorCode::ServiceUnavailable,
            "the server's objects cannot be read just now; try again",
        )
    }
}
