//! `/v1/tasks/{id}/stream`: server-sent events over the same record. A client that comes back with `Last-Event-ID` sees
//! every event once, in order; the stream ends after the event that ends the task. All who watch one task share one
//! reader of the store ([`crate::feed`]).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event as Frame, KeepAlive, KeepAliveStream, Sse};
use domain::{Task, limit};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use protocol::rest::ErrorBody;
use serde::Deserialize;
use tokio::time::Instant;
use tracing::{info, warn};
use utoipa::{IntoParams, ToSchema};

use super::ag_ui::{self, Run};
use super::ticket::Ticket;
use super::{ApiError, App, Caller, TaskPath, body, event, task};
use crate::feed::{Next, Told};

/// Between two comments that keep proxies from closing the connection, and between two looks at the watcher's credential.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Where to begin, and in which words.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StreamQuery {
    /// Only events after this event id; the header `Last-Event-ID` says the same.
    after: Option<String>,
    /// `ag-ui`: the events of the AG-UI protocol instead of ours.
    format: Option<String>,
}

/// The fields of one server-sent event.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes what is written")]
struct StreamFrame {
    /// The event's id, to come back with as `Last-Event-ID`.
    id: String,
    /// Its type.
    event: String,
    /// The event as `/events` serves it: JSON.
    data: String,
}

/// What an AG-UI client sends to begin a run; only the names it gives are taken.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunInput {
    /// Its name for the conversation; the task's id when absent.
    thread_id: Option<String>,
    /// Its name for the run; the task's id when absent.
    run_id: Option<String>,
}

/// The frames of a stream.
type Frames = BoxStream<'static, Result<Frame, Infallible>>;

/// Events as they happen.
#[utoipa::path(get, path = "/v1/tasks/{task_id}/stream",
    params(("task_id" = String, Path), StreamQuery, ("Last-Event-ID" = Option<String>, Header)),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, content_type = "text/event-stream", body = StreamFrame), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 500, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub async fn stream(
    State(app): State<App>,
    caller: Caller,
    TaskPath(id): TaskPath,
    query: Result<Query<StreamQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Sse<KeepAliveStream<Frames>>, ApiError> {
    let task = task::owned(&app, &caller, &id).await?;
    let query = query?.0;
    let last = start(&app, &task, &query, &headers).await?;
    let ticket = Ticket::of(&caller, &headers);
    let frames = match query.format.as_deref() {
        None | Some("") => said(app, task, last, ticket)
            .map(|said| {
                Ok(match said {
                    Said::Told(told) => frame(&told),
                    Said::Over(why) => over(&why),
                })
            })
            .boxed(),
        Some("ag-ui") => as_run(app, task, last, RunInput::default(), ticket).boxed(),
        Some(other) => {
            let other = domain::event::preview(other, 40);
            return Err(ApiError::invalid(format!("format: {other:?} is not known; there is ag-ui")));
        }
    };
    Ok(answer(frames))
}

/// The same as `?format=ag-ui`, for AG-UI clients, which begin a run with a POST. It begins nothing: the task runs, and
/// this watches it.
#[utoipa::path(post, path = "/v1/tasks/{task_id}/stream", request_body = RunInput,
    params(("task_id" = String, Path), StreamQuery, ("Last-Event-ID" = Option<String>, Header)),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, content_type = "text/event-stream", body = StreamFrame), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 408, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn run(
    State(app): State<App>,
    caller: Caller,
    TaskPath(id): TaskPath,
    query: Result<Query<StreamQuery>, QueryRejection>,
    request: Request,
) -> Result<Sse<KeepAliveStream<Frames>>, ApiError> {
    let task = task::owned(&app, &caller, &id).await?;
    let query = query?.0;
    if query.format.as_deref().is_some_and(|f| !matches!(f, "" | "ag-ui")) {
        return Err(ApiError::invalid(
            "format: a POST is answered with ag-ui; ask for other formats with GET",
        ));
    }
    let last = start(&app, &task, &query, request.headers()).await?;
    let ticket = Ticket::of(&caller, request.headers());
    let bytes = body::read(request, &app).await?;
    let input: RunInput = serde_json::from_slice(&bytes)
        .map_err(|e| ApiError::invalid(format!("body: it is no run input of AG-UI: {e}")))?;
    let long =
        |name: &Option<String>| name.as_ref().is_some_and(|n| n.chars().count() > limit::NAME_MAX_CHARS);
    if long(&input.thread_id) || long(&input.run_id) {
        let max = limit::NAME_MAX_CHARS;
        return Err(ApiError::invalid(format!("threadId and runId may have {max} characters")));
    }
    Ok(answer(as_run(app, task, last, input, ticket).boxed()))
}

fn answer(frames: Frames) -> Sse<KeepAliveStream<Frames>> {
    Sse::new(frames).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

/// The number of the event that the client has seen last; 0 when it has seen none.
async fn start(app: &App, task: &Task, query: &StreamQuery, headers: &HeaderMap) -> Result<u64, ApiError> {
    let last = headers.get("last-event-id").map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
    let given = |after: &String| !after.is_empty();
    match last.filter(given).or(query.after.clone().filter(given)) {
        Some(after) => event::known_event(app, task.id, &after).await,
        None => Ok(0),
    }
}

/// What a stream says.
enum Said {
    /// An event.
    Told(Arc<Told>),
    /// Nothing more to this watcher, and why.
    Over(ApiError),
}

/// Each event once and in order, to the end of the task, or until the watcher's credential is not good any more.
fn said(app: App, task: Task, last: u64, ticket: Ticket) -> impl Stream<Item = Said> {
    async_stream::stream! {
        let mut watcher = app.feeds().watch(task.id, last);
        let mut look_at = Instant::now() + KEEP_ALIVE;
        loop {
            if look_at <= Instant::now() {
                if let Some(why) = ticket.lost(&app, &task).await {
                    info!(task.id = %task.id, "a stream ends because its watcher may not watch any more");
                    yield Said::Over(why);
                    return;
                }
                look_at = Instant::now() + KEEP_ALIVE;
            }
            match watcher.next(limit::EVENTS_PAGE_MAX as usize, Some(look_at)).await {
                Ok(Next::Events(told)) => {
                    for told in told {
                        yield Said::Told(told);
                    }
                }
                Ok(Next::Nothing) => (),
                Ok(Next::Ended) => return,
                Err(failure) => {
                    // The client comes back with its cursor.
                    warn!(task.id = %task.id, error = %failure, "a stream ends because the store does not answer");
                    return;
                }
            }
        }
    }
}

fn frame(told: &Told) -> Frame {
    Frame::default().id(told.event.id.to_string()).event(told.event.kind.as_str()).data(&told.json)
}

/// The last words of a stream whose watcher may not watch any more: a comment, which changes no client's events.
fn over(why: &ApiError) -> Frame {
    let why = domain::text::line(why.message());
    Frame::default()
        .comment(format!("the stream ends: {why}; come back with a good credential and Last-Event-ID"))
}

/// The last frame of an event carries its id: a client that comes back begins with a whole event.
fn as_run(
    app: App,
    task: Task,
    last: u64,
    input: RunInput,
    ticket: Ticket,
) -> impl Stream<Item = Result<Frame, Infallible>> {
    let id = task.id.to_string();
    let state = match last {
        0 => Run::blank(),
        _ => {
            let cost = (task.spent.calls > task.spent.unpriced_calls).then(|| task.spent.cost.usd());
            ag_ui::state(task.status().as_str(), cost, task.results.pr_url.as_deref())
        }
    };
    let mut run = Run::new(input.thread_id.unwrap_or_else(|| id.clone()), input.run_id.unwrap_or(id), state);
    said(app, task, last, ticket).flat_map(move |said| {
        let told = match said {
            Said::Told(told) => told,
            Said::Over(why) => return futures_util::stream::iter(vec![Ok(over(&why))]),
        };
        let frames = run.on(&told.event);
        let count = frames.len();
        let frames = frames.into_iter().enumerate().map(move |(n, data)| {
            let frame = Frame::default().data(data.to_string());
            Ok(if n + 1 == count { frame.id(told.event.id.to_string()) } else { frame })
        });
        futures_util::stream::iter(frames.collect::<Vec<_>>())
    })
}
