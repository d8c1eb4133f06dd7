//! `/v1/tasks/{id}/asks`: questions about a task.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use domain::steer::Ask;
use domain::{AskId, limit};
use protocol::rest::*;
use protocol::steer::{AskDetail, AskList, AskRequest};
use screening::Source;
use serde::Deserialize;
use store::Asked;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::body::Body;
use super::nudge::seconds;
use super::screen::screened;
use super::{ApiError, App, Caller, TaskPath, task, validate, wire};

/// How often an open question is looked at again although nothing was said of its task: its agent may be gone.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

fn detail(ask: &Ask) -> AskDetail {
    let answer = ask.answer.as_ref();
    AskDetail {
        task_id: ask.task.to_string(),
        ask_id: ask.id.to_string(),
        status: if answer.is_some() { "answered" } else { "open" }.into(),
        question: ask.question.clone(),
        asked_by: ask.by.to_string(),
        asked_at: wire::time(ask.opened_at),
        answer: answer.map(|a| a.text.clone()),
        answered_from: answer.map(|a| a.source.as_str().to_owned()),
        answered_at: answer.map(|a| wire::time(a.at)),
    }
}

/// Asks a question about a task. Its agent answers at the next boundary between two turns, without being led away from
/// its work; when no agent is at work, the answer comes at once from the task's record, and says so.
#[utoipa::path(post, path = "/v1/tasks/{task_id}/asks", request_body = AskRequest,
    params(("task_id" = String, Path)),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 202, body = Data<AskDetail>),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 408, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "Too many in a minute; `Retry-After` tells when one more fits"),
        (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn open(
    State(app): State<App>,
    caller: Caller,
    TaskPath(id): TaskPath,
    body: Result<Body<AskRequest>, ApiError>,
) -> Result<(StatusCode, Json<Data<AskDetail>>), ApiError> {
    let Body(request) = body?;
    let question = validate::words("question", &request.question, limit::ASK_MAX_CHARS)?;
    let task = task::owned(&app, &caller, &id).await?;
    let warning = screened(&app, Source::Ask, "question", question).await?;
    if let Some(reason) = warning {
        app.orchestrator().tell_screened(task.id, Source::Ask, &reason).await;
    }
    match app.orchestrator().ask(&task, &caller.user, question).await? {
        Asked::Opened(ask) => Ok((StatusCode::ACCEPTED, Json(Data { data: detail(&ask) }))),
        Asked::AlreadyOpen(open) => Err(ApiError::new(
            ErrorCode::AskAlreadyOpen,
            format!("your question {open} about this task is still open; wait for its answer"),
        )),
        Asked::TooMany(wait) => {
            let most = limit::ASKS_PER_MINUTE;
            let message = format!("a task takes {most} questions a minute; try again in {} s", seconds(wait));
            Err(ApiError::new(ErrorCode::RateLimitExceeded, message).retry_after(seconds(wait)))
        }
    }
}

/// The questions about a task, with their answers.
#[utoipa::path(get, path = "/v1/tasks/{task_id}/asks", params(("task_id" = String, Path)),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = Data<AskList>), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    TaskPath(id): TaskPath,
) -> Result<Json<Data<AskList>>, ApiError> {
    let task = task::owned(&app, &caller, &id).await?;
    let asks = app.orchestrator().asks_settled(task.id).await?;
    let newest = &asks[asks.len().saturating_sub(limit::ASKS_LISTED)..];
    Ok(Json(Data { data: AskList { asks: newest.iter().map(detail).collect() } }))
}

/// How long to wait.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WaitQuery {
    /// Seconds to wait for the answer when there is none yet; at most 30.
    wait: Option<String>,
}

/// One question, with its answer as soon as there is one.
#[utoipa::path(get, path = "/v1/tasks/{task_id}/asks/{ask_id}",
    params(("task_id" = String, Path), ("ask_id" = String, Path), WaitQuery),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = Data<AskDetail>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn one(
    State(app): State<App>,
    caller: Caller,
    path: Result<Path<(String, String)>, axum::extract::rejection::PathRejection>,
    query: Result<Query<WaitQuery>, QueryRejection>,
) -> Result<Json<Data<AskDetail>>, ApiError> {
    let Path((id, ask)) = path.map_err(|_| ApiError::no_task("of that id"))?;
    let query = query?.0;
    let wait = query.wait.as_deref().filter(|w| !w.is_empty()).map_or(Ok(0), str::parse).map_err(|_| {
        ApiError::invalid(format!("wait must be seconds, 0 to {}", limit::LONG_POLL_MAX.as_secs()))
    })?;
    let task = task::owned(&app, &caller, &id).await?;
    let no_ask = || {
        let ask = domain::event::preview(&ask, 40);
        ApiError::new(ErrorCode::RequestNotFound, format!("there is no question {ask} about this task"))
    };
    let ask: AskId = ask.parse().map_err(|_| no_ask())?;
    let deadline = Instant::now() + Duration::from_secs(wait).min(limit::LONG_POLL_MAX);
    let mut news = app.orchestrator().store().watch(task.id);
    loop {
        let asks = app.orchestrator().asks_settled(task.id).await?;
        let found = asks.into_iter().find(|a| a.id == ask).ok_or_else(no_ask)?;
        let left = deadline.saturating_duration_since(Instant::now());
        if found.answer.is_some() || left.is_zero() {
            return Ok(Json(Data { data: detail(&found) }));
        }
        news.changed(left.min(LOOK_AGAIN)).await;
    }
}
