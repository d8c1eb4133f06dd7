//! `/v1/tasks`: submit, list, look, cancel.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use domain::transition::Refused;
use domain::{
    AttachmentId, Attachments, RepoRef, Role, Screened, Status, Task, TaskId, TaskSpec, UserId, limit,
};
use jiff::Timestamp;
use orchestrator::Done;
use orchestrator::admission::{QueueInfo, Submission};
use protocol::rest::*;
use screening::Source;
use serde::Deserialize;
use serde_json::{Map, Value};
use store::{Created, TaskFilter};
use utoipa::IntoParams;

use super::access::Object;
use super::body::Body;
use super::screen::screened;
use super::validate::Inline;
use super::{ApiError, App, Caller, TaskPath, trace, upload, usage, validate, wire};

/// Accepts a task. With `Idempotency-Key`, repeating the request answers with the task it made.
#[utoipa::path(post, path = "/v1/tasks", request_body = CreateTaskRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 128 of [A-Za-z0-9_-]",
        min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$")),
    security(("api_key" = []), ("bearer" = [])),
    responses(
        (status = 201, body = Data<CreatedTask>), (status = 202, body = Data<CreatedTask>, description = "Made; its attachments are still to be uploaded"),
        (status = 200, body = Data<CreatedTask>, description = "Replay"),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 408, body = ErrorBody), (status = 413, body = ErrorBody), (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn create(
    State(app): State<App>,
    Caller { user, .. }: Caller,
    headers: HeaderMap,
    body: Result<Body<CreateTaskRequest>, ApiError>,
) -> Result<Response, ApiError> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let key = match (keys.next(), keys.next()) {
        (None, _) => None,
        (Some(value), None) => Some(validate::idempotency_key(value.to_str().unwrap_or_default())?),
        (Some(_), Some(_)) => return Err(ApiError::invalid("Idempotency-Key may be given once")),
    };
    let (spec, inline) = validate::task_spec(body?.0)?;
    let submission = Submission { user, channel: "api".into(), spec, idempotency_key: key };
    submit(&app, submission, inline, Map::new()).await
}

/// Submits, whatever way it came, and answers.
pub(super) async fn submit(
    app: &App,
    submission: Submission,
    inline: Vec<Inline>,
    channel_metadata: Map<String, Value>,
) -> Result<Response, ApiError> {
    let id = app.orchestrator().new_task_id();
    let mut warnings = Vec::new();
    let mut attachments = Attachments::new();
    // A repeated request was screened when it came first.
    if !app.orchestrator().knows_key(&submission).await? {
        let warned =
            screened(app, Source::Submission, "task_description", &submission.spec.description).await?;
        warnings.extend(warned.map(|reason| (Source::Submission, reason)));
        match take_in(app, id, &submission.spec, inline).await {
            Ok((taken, warned)) => {
                attachments = taken;
                warnings.extend(warned.into_iter().map(|reason| (Source::Attachment, reason)));
            }
            Err(refused) => {
                app.orchestrator().drop_attachments(id).await;
                return Err(refused);
            }
        }
    }
    let brought = !attachments.is_empty();
    let created = app.orchestrator().submit_as(id, submission, attachments, channel_metadata).await;
    if brought && !matches!(created, Ok(Created::New(_))) {
        app.orchestrator().drop_attachments(id).await;
    }
    match created? {
        Created::New(task) => {
            for (source, reason) in warnings {
                app.orchestrator().tell_screened(task.id, source, &reason).await;
            }
            let (object, data) =
                (Object(task.id.to_string()), Data { data: made(app, &task, detail_of(app, &task, None)) });
            let status = match task.status() {
                Status::PendingUploads => StatusCode::ACCEPTED,
                _ => StatusCode::CREATED,
            };
            Ok((status, Extension(object), Json(data)).into_response())
        }
        Created::Replay(task) => {
            let detail = full(app, &task).await?;
            let (object, data) = (Object(task.id.to_string()), Data { data: made(app, &task, detail) });
            Ok(([("idempotent-replay", "true")], Extension(object), Json(data)).into_response())
        }
        Created::KeyConflict(other) => Err(ApiError::new(
            ErrorCode::DuplicateTask,
            format!(
                "this Idempotency-Key was used with another request (task {other}); use a new key for a new task"
            ),
        )),
    }
}

/// A task that was made, with what is still to be done for it.
fn made(app: &App, task: &Task, task_detail: TaskDetail) -> CreatedTask {
    let until = match &task.state {
        domain::State::PendingUploads { until, .. } => Some(wire::time(*until)),
        _ => None,
    };
    CreatedTask {
        task: task_detail,
        upload_instructions: upload::instructions(app, task),
        task_expires_at: until,
    }
}

/// Looks at what came within the request, and keeps it. Also answers what screens warned of.
async fn take_in(
    app: &App,
    task: TaskId,
    spec: &TaskSpec,
    inline: Vec<Inline>,
) -> Result<(Attachments, Vec<String>), ApiError> {
    let (mut attachments, mut warnings) = (Attachments::new(), Vec::new());
    for Inline { place, bytes } in inline {
        let Some(asked) = spec.attachments.get(place) else { continue };
        let id = AttachmentId::of(task, place);
        let taken = app.orchestrator().take_in(task, id, asked, None, bytes).await;
        let taken = taken.map_err(|why| upload::inline_refused(place, &asked.filename, &why))?;
        warnings.extend(taken.warning);
        attachments.insert(id, Screened::Passed(taken.content));
    }
    Ok((attachments, warnings))
}

/// What to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// `budget`: not tasks, but what is left of the caller's budget of this month; whatever else is asked means nothing then.
    #[param(pattern = "^(budget)?$")]
    view: Option<String>,
    /// States, separated by commas.
    status: Option<String>,
    /// One repository.
    repo: Option<String>,
    /// *Ours.* Whose: `mine`, as when absent, `team` (also of those who share theirs with the caller), or, for owners, `all`.
    whose: Option<String>,
    /// Rows, 20 when absent, at most 100.
    limit: Option<String>,
    /// From the page before.
    next_token: Option<String>,
}

/// A number of rows: ABCA's rule, nonsense is the default and too much is the most.
pub(super) fn rows(given: Option<&str>, default: u32, max: u32) -> u32 {
    given
        .and_then(|l| l.parse::<i64>().ok())
        .filter(|n| *n >= 1)
        .map_or(default, |n| u32::try_from(n).unwrap_or(max).min(max))
}

/// The caller's tasks, newest first; or, with `view=budget`, their budget.
#[utoipa::path(get, path = "/v1/tasks", params(ListQuery),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = TasksView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<TasksView>, ApiError> {
    let query = query?.0;
    match query.view.as_deref().filter(|view| !view.is_empty()) {
        None => (),
        Some("budget") => {
            let data = usage::personal(&app, &caller.user).await?;
            return Ok(Json(TasksView::Budget(Data { data })));
        }
        Some(other) => {
            let other = domain::event::preview(other, 40);
            return Err(ApiError::invalid(format!("view must be budget, got {other:?}")));
        }
    }
    let names = query.status.as_deref().unwrap_or_default();
    let status: Vec<Status> =
        names.split(',').map(str::trim).filter(|s| !s.is_empty()).map(state).collect::<Result<_, _>>()?;
    let repo = query.repo.as_deref().filter(|r| !r.is_empty());
    let repo: Option<RepoRef> = repo
        .map(str::parse)
        .transpose()
        .map_err(|e: domain::repo::BadRepo| ApiError::invalid(e.to_string()))?;
    let limit = rows(query.limit.as_deref(), limit::TASKS_PAGE_DEFAULT, limit::TASKS_PAGE_MAX);
    let whose = query.whose.as_deref().filter(|w| !w.is_empty()).unwrap_or("mine");
    let among = among(&app, &caller, whose)?;
    let list = format!("tasks:{}:{names}:{}:{whose}", caller.user, query.repo.as_deref().unwrap_or_default());
    let before: Option<TaskId> = match query.next_token.as_deref().filter(|t| !t.is_empty()) {
        Some(token) => {
            let place = app.cursors().open(&list, token).and_then(|p| p.parse().ok());
            Some(place.ok_or_else(|| {
                ApiError::invalid("next_token is not a token of this list; begin again without it")
            })?)
        }
        None => None,
    };
    let filter = TaskFilter { user: None, among, status, repo, before, limit: limit + 1 };
    let mut tasks = app.orchestrator().store().task_list(filter).await?;
    let has_more = tasks.len() > limit as usize;
    tasks.truncate(limit as usize);
    let last = tasks.last().filter(|_| has_more);
    let next_token = last.map(|t| app.cursors().sign(&list, &t.id.to_string()));
    let beats = beats(&app, &tasks).await?;
    let data = tasks.iter().zip(beats).map(|(task, beat)| wire::summary(task, beat)).collect();
    let pagination = Pagination { next_token, has_more };
    Ok(Json(TasksView::Tasks(Page { data, pagination })))
}

/// The users whose tasks are asked for; empty means everybody's.
fn among(app: &App, caller: &Caller, whose: &str) -> Result<Vec<UserId>, ApiError> {
    match (whose, caller.role) {
        ("mine", _) => Ok(vec![caller.user.clone()]),
        ("team", _) => {
            let mut among = app.teams().members(&caller.teams);
            among.insert(caller.user.clone());
            Ok(among.into_iter().collect())
        }
        ("all", Role::Owner) => Ok(Vec::new()),
        ("all", Role::Member | Role::Viewer) => {
            Err(ApiError::new(ErrorCode::Forbidden, "whose=all: only owners see everybody's tasks"))
        }
        (other, _) => {
            let other = domain::event::preview(other, 40);
            Err(ApiError::invalid(format!("whose must be mine, team or all, got {other:?}")))
        }
    }
}

fn state(name: &str) -> Result<Status, ApiError> {
    Status::from_wire(name).ok_or_else(|| {
        let all: Vec<_> = Status::ALL.iter().map(|s| s.as_str()).collect();
        let name = domain::event::preview(name, 40);
        ApiError::invalid(format!("status: there is no state {name:?}; there are {}", all.join(", ")))
    })
}

/// The task of that id, if it is the caller's or within their reach for what the route does. Anything else, other
/// people's tasks included, is the same 404.
pub(super) async fn owned(app: &App, caller: &Caller, id: &str) -> Result<Task, ApiError> {
    let no_task = || ApiError::no_task(id);
    let id: TaskId = id.parse().map_err(|_| no_task())?;
    let task = app.orchestrator().store().task_get(id).await?.ok_or_else(no_task)?;
    match caller.reach(app.teams(), &task.user) {
        None => Err(no_task()),
        Some(most) if most >= caller.purpose => Ok(task),
        // No secret: they may look at it.
        Some(_) => Err(ApiError::new(
            ErrorCode::Forbidden,
            format!("task {id} is shared with you to look at; {} or an owner can do this", task.user),
        )),
    }
}

async fn full(app: &App, task: &Task) -> Result<TaskDetail, ApiError> {
    let queue = match task.status() {
        Status::Queued => app.orchestrator().queue_info(task.id).await?,
        _ => None,
    };
    let trace_s3_uri = trace::uri(app, task).await?;
    let attempts_max = *app.orchestrator().parts().policy.attempts_max.of(&task.spec.repo);
    let lost = wire::lost(task, attempts_max);
    let beat = beats(app, std::slice::from_ref(task)).await?.into_iter().next().flatten();
    let agent_heartbeat_at = beat.map(wire::time);
    Ok(TaskDetail { trace_s3_uri, lost, agent_heartbeat_at, ..detail_of(app, task, queue) })
}

/// When the worker of each task's last attempt was last heard of.
async fn beats(app: &App, tasks: &[Task]) -> Result<Vec<Option<Timestamp>>, ApiError> {
    let sessions = tasks.iter().map(|task| (task.id, task.attempt)).collect();
    Ok(app.orchestrator().store().session_beats(sessions).await?)
}

/// A task as the wire has it, with its trace when its spans are told.
pub(super) fn detail_of(app: &App, task: &Task, queue: Option<QueueInfo>) -> TaskDetail {
    let otel_trace_id = app.traces().trace_of(task.id).map(|trace| trace.to_string());
    TaskDetail { otel_trace_id, ..wire::detail(task, queue) }
}

/// One task.
#[utoipa::path(get, path = "/v1/tasks/{task_id}", params(("task_id" = String, Path)),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = Data<TaskDetail>), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn detail(
    State(app): State<App>,
    caller: Caller,
    TaskPath(id): TaskPath,
) -> Result<Json<Data<TaskDetail>>, ApiError> {
    let task = owned(&app, &caller, &id).await?;
    Ok(Json(Data { data: full(&app, &task).await? }))
}

/// Cancels a task. Cancelling it again gives the same answer; a task that ended otherwise is a conflict. An agent at work
/// saves its work first: the answer comes when it has, after some seconds at the latest.
#[utoipa::path(delete, path = "/v1/tasks/{task_id}", params(("task_id" = String, Path)),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = Data<CancelledTask>), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn cancel(
    State(app): State<App>,
    caller: Caller,
    TaskPath(id): TaskPath,
) -> Result<Json<Data<CancelledTask>>, ApiError> {
    let task = owned(&app, &caller, &id).await?;
    match app.orchestrator().cancel(task.id, caller.user.as_str()).await? {
        Done::Applied(task) | Done::Nothing(task) => {
            let data = CancelledTask {
                task_id: task.id.to_string(),
                status: Status::Cancelled.to_string(),
                cancelled_at: wire::ended_at(&task),
            };
            Ok(Json(Data { data }))
        }
        Done::Refused(Refused::Terminal(status), _) => Err(ApiError::new(
            ErrorCode::TaskAlreadyTerminal,
            format!("the task has already ended: {status}"),
        )),
        Done::NoSuchTask => Err(ApiError::no_task(&id)),
        Done::Refused(..) | Done::Stale | Done::Fenced | Done::NoSlot(_) => {
            Err(ApiError::new(ErrorCode::InternalError, "the task could not be cancelled; try again"))
        }
    }
}
