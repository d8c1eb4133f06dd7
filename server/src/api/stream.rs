//! `/v1/tasks/{id}/stream`: server-sent events over the same record. A client that comes back with `Last-Event-ID` sees
//! every event once, in order; the stream ends after the event that ends the task.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use domain::event::Event;
use domain::{TaskId, limit};
use futures_util::Stream;
use protocol::rest::ErrorBody;
use serde::Deserialize;
use store::{EventCursor, EventQuery};
use tracing::warn;
use utoipa::{IntoParams, ToSchema};

use super::{ApiError, App, Caller, TaskPath, event, task, wire};

/// A watcher looks at least this often, in case another process wrote.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Between two comments that keep proxies from closing the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Where to begin.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StreamQuery {
    /// Only events after this event id; the header `Last-Event-ID` says the same.
    after: Option<String>,
}

/// The fields of one server-sent event.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes what `frame` writes")]
struct StreamFrame {
    /// The event's id, to come back with as `Last-Event-ID`.
    id: String,
    /// Its type.
    event: String,
    /// The event as `/events` serves it: JSON.
    data: String,
}

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
) -> Result<Sse<impl Stream<Item = Result<Frame, Infallible>>>, ApiError> {
    let task = task::owned(&app, &caller, &id).await?;
    let last = headers.get("last-event-id").map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
    let given = |after: &String| !after.is_empty();
    let after = last.filter(given).or(query?.0.after.filter(given));
    let from = match after {
        Some(after) => EventCursor::AfterId(event::known_event(&app, task.id, &after).await?),
        None => EventCursor::Start,
    };
    Ok(Sse::new(frames(app, task.id, from)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn frames(app: App, task: TaskId, mut from: EventCursor) -> impl Stream<Item = Result<Frame, Infallible>> {
    async_stream::stream! {
        let store = app.orchestrator().store().clone();
        let mut news = store.watch(task);
        let mut over = false;
        loop {
            let query = EventQuery { task, from, limit: limit::EVENTS_PAGE_MAX };
            let events = match store.events_read(query).await {
                Ok(events) => events,
                Err(failure) => {
                    // The client comes back with its cursor.
                    warn!(task.id = %task, error = %failure, "a stream ends because the store does not answer");
                    return;
                }
            };
            let Some(last) = events.last().map(|e| e.seq) else {
                if over {
                    return;
                }
                // The last events are stored with the state that ends the task: once that is seen, one more read has
                // them all.
                over = ended(&app, task).await;
                if over {
                    continue;
                }
                news.changed(LOOK_EVERY).await;
                continue;
            };
            from = EventCursor::AfterSeq(last);
            for event in &events {
                yield Ok(frame(event));
            }
        }
    }
}

/// Whether nothing can follow what is stored now.
async fn ended(app: &App, task: TaskId) -> bool {
    match app.orchestrator().store().task_get(task).await {
        Ok(Some(task)) => task.status().is_terminal(),
        Ok(None) => true,
        Err(_) => false,
    }
}

fn frame(event: &Event) -> Frame {
    let record = wire::event(event);
    let data = serde_json::to_string(&record).unwrap_or_default();
    Frame::default().id(record.event_id).event(record.event_type).data(data)
}
