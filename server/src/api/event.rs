//! `/v1/tasks/{id}/events`: the record, by page, by cursor, or as a long poll.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use domain::{EventId, Task, TaskId, limit};
use protocol::rest::*;
use serde::Deserialize;
use store::{EventCursor, EventQuery};
use tokio::time::Instant;
use utoipa::IntoParams;

use super::ticket::Ticket;
use super::{ApiError, App, Caller, TaskPath, stream, task, wire};
use crate::feed::Next;

/// Which events.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Rows, 50 when absent, at most 100.
    limit: Option<String>,
    /// Only events after this event id, in either case.
    after: Option<String>,
    /// From the page before.
    next_token: Option<String>,
    /// `1` or `true`: newest first, one page.
    desc: Option<String>,
    /// Seconds to wait for an event when there is none yet; at most 30.
    wait: Option<String>,
}

/// Events of a task, in order.
#[utoipa::path(get, path = "/v1/tasks/{task_id}/events", params(("task_id" = String, Path), EventsQuery),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = Page<EventRecord>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    TaskPath(id): TaskPath,
    query: Result<Query<EventsQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Json<Page<EventRecord>>, ApiError> {
    let query = query?.0;
    let task = task::owned(&app, &caller, &id).await?;
    let rows = task::rows(query.limit.as_deref(), limit::EVENTS_PAGE_DEFAULT, limit::EVENTS_PAGE_MAX);
    let newest_first = matches!(query.desc.as_deref(), Some("1" | "true"));
    let after = query.after.as_deref().filter(|a| !a.is_empty());
    if newest_first && after.is_some() {
        return Err(ApiError::invalid(
            "desc and after exclude each other: a newest-first page has no cursor",
        ));
    }
    let from = match (newest_first, after, query.next_token.as_deref().filter(|t| !t.is_empty())) {
        (true, ..) => EventCursor::Newest,
        (false, Some(after), _) => EventCursor::AfterSeq(known_event(&app, task.id, after).await?),
        (false, None, Some(token)) => {
            let seq = app.cursors().open(&list_name(task.id), token).and_then(|p| p.parse().ok());
            EventCursor::AfterSeq(seq.ok_or_else(|| {
                ApiError::invalid("next_token is not a token of this task's events; begin again without it")
            })?)
        }
        (false, None, None) => EventCursor::Start,
    };
    let wait = Duration::from_secs(
        query.wait.as_deref().filter(|w| !w.is_empty()).map_or(Ok(0), str::parse).map_err(|_| {
            ApiError::invalid(format!("wait must be seconds, 0 to {}", limit::LONG_POLL_MAX.as_secs()))
        })?,
    );
    let wait = if newest_first || task.status().is_terminal() {
        Duration::ZERO
    } else {
        wait.min(limit::LONG_POLL_MAX)
    };
    let ticket = Ticket::of(&caller, &headers);
    let query = EventQuery { task: task.id, from, limit: rows + 1 };
    let mut events = read(&app, &task, query, wait, &ticket).await?;
    let has_more = events.len() > rows as usize && !newest_first;
    events.truncate(rows as usize);
    let last = events.last().filter(|_| has_more);
    let next_token = last.map(|e| app.cursors().sign(&list_name(task.id), &e.seq.to_string()));
    Ok(Json(Page { data: events, pagination: Pagination { next_token, has_more } }))
}

fn list_name(task: TaskId) -> String {
    format!("events:{task}")
}

/// The id of an event of this task; another one is told so, because silence would look like "nothing new".
pub(super) async fn known_event(app: &App, task: TaskId, text: &str) -> Result<u64, ApiError> {
    let id: EventId =
        text.parse().map_err(|e: domain::id::BadId| ApiError::invalid(format!("after: {e}")))?;
    let before = EventId::from_bits(id.bits().saturating_sub(1));
    let query = EventQuery { task, from: EventCursor::AfterId(before), limit: 1 };
    let found = app.orchestrator().store().events_read(query).await?;
    let found = found.first().filter(|e| e.id == id).map(|e| e.seq);
    found.ok_or_else(|| {
        ApiError::invalid(format!("after: {id} is not an event of task {task}; begin without it"))
    })
}

/// Reads, and when there is nothing yet, waits for something together with all others who do, as long as the credential is
/// good.
async fn read(
    app: &App,
    task: &Task,
    query: EventQuery,
    wait: Duration,
    ticket: &Ticket,
) -> Result<Vec<EventRecord>, ApiError> {
    let last = match query.from {
        EventCursor::Start => Some(0),
        EventCursor::AfterSeq(seq) => Some(seq),
        EventCursor::AfterId(_) | EventCursor::Newest => None,
    };
    match last.filter(|_| !wait.is_zero()) {
        None => {
            let events = app.orchestrator().store().events_read(query).await?;
            Ok(events.iter().map(wire::event).collect())
        }
        Some(last) => {
            let mut watcher = app.feeds().watch(query.task, last);
            let end = Instant::now() + wait;
            loop {
                let until = end.min(Instant::now() + stream::KEEP_ALIVE);
                match watcher.next(query.limit as usize, Some(until)).await? {
                    Next::Events(told) => return Ok(told.iter().map(|t| wire::event(&t.event)).collect()),
                    Next::Ended => return Ok(Vec::new()),
                    Next::Nothing => match ticket.lost(app, task).await {
                        Some(why) => return Err(why),
                        None if end <= Instant::now() => return Ok(Vec::new()),
                        None => (),
                    },
                }
            }
        }
    }
}
