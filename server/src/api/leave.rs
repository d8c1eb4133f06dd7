//! `/v1/tasks/{id}/pause`, `/resume` and `/retry`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::transition::Refused;
use domain::{State as TaskState, Task};
use orchestrator::Done;
use orchestrator::leave::RetryError;
use protocol::rest::*;
use protocol::steer::TaskMoved;

use super::{ApiError, App, Caller, TaskPath, task};

type Moved = (StatusCode, Json<Data<TaskMoved>>);

fn moved(task: &Task) -> Moved {
    let why = match &task.state {
        TaskState::Queued { why, .. } => Some(why.as_str().to_owned()),
        _ => None,
    };
    let data = TaskMoved {
        task_id: task.id.to_string(),
        status: task.status().to_string(),
        leaving: task.leaving.as_ref().map(|l| l.order.as_str().to_owned()),
        queue_reason: why,
    };
    (StatusCode::ACCEPTED, Json(Data { data }))
}

fn answer(done: Done, id: &str, wrong: impl FnOnce(&Task) -> ApiError) -> Result<Moved, ApiError> {
    match done {
        Done::Applied(task) | Done::Nothing(task) => Ok(moved(&task)),
        Done::Refused(Refused::Terminal(status), _) => {
            let message = format!("the task has already ended: {status}");
            Err(ApiError::new(ErrorCode::TaskAlreadyTerminal, message))
        }
        Done::Refused(_, task) => Err(wrong(&task)),
        Done::NoSuchTask => Err(ApiError::no_task(id)),
        Done::Stale | Done::Fenced | Done::NoSlot(_) => {
            Err(ApiError::new(ErrorCode::InternalError, "the task could not be changed; try again"))
        }
    }
}

/// Lets a task wait until it is resumed: its agent saves the work and leaves, its box and its slot are given back.
/// Repeating it is harmless.
#[utoipa::path(post, path = "/v1/tasks/{task_id}/pause", params(("task_id" = String, Path)),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 202, body = Data<TaskMoved>),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn pause(
    State(app): State<App>,
    caller: Caller,
    TaskPath(id): TaskPath,
) -> Result<Moved, ApiError> {
    let task = task::owned(&app, &caller, &id).await?;
    let done = app.orchestrator().pause(task.id, caller.user.as_str()).await?;
    answer(done, &id, |task| {
        let message = format!("the task is {}: there is no agent that could wait", task.status());
        ApiError::new(ErrorCode::TaskAlreadyTerminal, message)
    })
}

/// Ends the waiting of a paused task, or of one that waits for a provider's usage limit: it goes into the queue, and its
/// next attempt goes on from the saved work. Repeating it is harmless.
#[utoipa::path(post, path = "/v1/tasks/{task_id}/resume", params(("task_id" = String, Path)),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 202, body = Data<TaskMoved>),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn resume(
    State(app): State<App>,
    caller: Caller,
    TaskPath(id): TaskPath,
) -> Result<Moved, ApiError> {
    let task = task::owned(&app, &caller, &id).await?;
    let done = app.orchestrator().resume(task.id, caller.user.as_str()).await?;
    answer(done, &id, |task| {
        let leaving = match &task.leaving {
            Some(_) => ": its agent still saves its work; try again in a moment",
            None => "",
        };
        let message = format!("the task is not paused, it is {}{leaving}", task.status());
        ApiError::new(ErrorCode::TaskNotPaused, message)
    })
}

/// Tries a task again that has ended: a new task with the same specification, whose agent is told what came of this one.
#[utoipa::path(post, path = "/v1/tasks/{task_id}/retry", params(("task_id" = String, Path)),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 201, body = Data<TaskDetail>), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn retry(
    State(app): State<App>,
    caller: Caller,
    TaskPath(id): TaskPath,
) -> Result<(StatusCode, Json<Data<TaskDetail>>), ApiError> {
    let old = task::owned(&app, &caller, &id).await?;
    let retried = app.orchestrator().retry(&old, &caller.user).await.map_err(|why| match why {
        RetryError::Store(failure) => failure.into(),
        RetryError::Object(failure) => failure.into(),
        RetryError::NotUploaded => ApiError::new(ErrorCode::AttachmentUploadMissing, why.to_string()),
    });
    match retried? {
        Some(task) => Ok((StatusCode::CREATED, Json(Data { data: task::detail_of(&app, &task, None) }))),
        None => Err(ApiError::new(
            ErrorCode::TaskNotTerminal,
            format!("the task is {}: wait for its end, or cancel it first", old.status()),
        )),
    }
}
