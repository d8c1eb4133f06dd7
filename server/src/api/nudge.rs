//! `POST /v1/tasks/{id}/nudge`: words to an agent that works.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::limit;
use protocol::rest::*;
use protocol::steer::{NudgeAccepted, NudgeRequest};
use screening::Source;
use store::Nudged;

use super::body::Body;
use super::screen::screened;
use super::{ApiError, App, Caller, TaskPath, task, validate, wire};

/// Says something to the agent of a task, which heeds it from its next step on. Accepted in every state but the final
/// ones: an agent that has not begun reads it when it does.
#[utoipa::path(post, path = "/v1/tasks/{task_id}/nudge", request_body = NudgeRequest,
    params(("task_id" = String, Path)),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 202, body = Data<NudgeAccepted>),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 408, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "Too many in a minute; `Retry-After` tells when one more fits"),
        (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn nudge(
    State(app): State<App>,
    caller: Caller,
    TaskPath(id): TaskPath,
    body: Result<Body<NudgeRequest>, ApiError>,
) -> Result<(StatusCode, Json<Data<NudgeAccepted>>), ApiError> {
    let Body(request) = body?;
    let message = validate::words("message", &request.message, limit::NUDGE_MAX_CHARS)?;
    let task = task::owned(&app, &caller, &id).await?;
    if task.status().is_terminal() {
        return Err(ended(task.status()));
    }
    let warning = screened(&app, Source::Nudge, "message", message).await?;
    match app.orchestrator().nudge(task.id, &caller.user, message).await? {
        Nudged::Stored(nudge) => {
            if let Some(reason) = warning {
                app.orchestrator().tell_screened(task.id, Source::Nudge, &reason).await;
            }
            let data = NudgeAccepted {
                task_id: task.id.to_string(),
                nudge_id: nudge.id.to_string(),
                submitted_at: wire::time(nudge.submitted_at),
            };
            Ok((StatusCode::ACCEPTED, Json(Data { data })))
        }
        Nudged::Ended(status) => Err(ended(status)),
        Nudged::TooMany(wait) => {
            let most = limit::NUDGES_PER_MINUTE;
            let message = format!("a task takes {most} nudges a minute; try again in {} s", seconds(wait));
            Err(ApiError::new(ErrorCode::RateLimitExceeded, message).retry_after(seconds(wait)))
        }
    }
}

fn ended(status: domain::Status) -> ApiError {
    ApiError::new(
        ErrorCode::TaskAlreadyTerminal,
        format!("the task has already ended ({status}): nobody would read it"),
    )
}

/// Whole seconds, rounded up: who waits them out is let in.
pub(super) fn seconds(wait: std::time::Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}
