//! `/v1/tasks/{id}/replay`: what is known of a task in one answer, within *ABCA*'s bounds.

use axum::Json;
use axum::extract::State;
use domain::{TaskId, limit};
use protocol::rest::*;
use protocol::trace::{EventsTruncation, ReplayBundle, Verification};
use store::{EventCursor, EventQuery};

use super::{ApiError, App, Caller, TaskPath, task, trace, wire};

/// Events read at once.
const PAGE: u32 = 500;

/// What is known of a task: workflow, outcome and events, at most 5,000 of them or 5 MiB.
#[utoipa::path(get, path = "/v1/tasks/{task_id}/replay", params(("task_id" = String, Path)),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = Data<ReplayBundle>), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn bundle(
    State(app): State<App>,
    caller: Caller,
    TaskPath(id): TaskPath,
) -> Result<Json<Data<ReplayBundle>>, ApiError> {
    let task = task::owned(&app, &caller, &id).await?;
    let (events, reason) = events(&app, task.id).await?;
    let detail = task::detail_of(&app, &task, None);
    let ran = detail.build_passed.is_some() || detail.lint_passed.is_some();
    let data = ReplayBundle {
        task_id: detail.task_id,
        workflow_ref: Some(task.spec.workflow.as_str().to_owned()),
        resolved_workflow: detail.resolved_workflow,
        prompt_version: detail.prompt_version,
        events_truncation: reason.map(|reason| EventsTruncation {
            reason: reason.to_owned(),
            returned_events: events.len() as u64,
        }),
        events,
        verification: ran
            .then_some(Verification { build_passed: detail.build_passed, lint_passed: detail.lint_passed }),
        trace_uri: trace::uri(&app, &task).await?,
        otel_trace_id: detail.otel_trace_id,
        session_id: detail.session_id,
        cost_usd: detail.cost_usd,
        collected_at: wire::time(app.orchestrator().now()),
    };
    Ok(Json(Data { data }))
}

/// The events from the first on, and which bound was met.
async fn events(app: &App, task: TaskId) -> Result<(Vec<EventRecord>, Option<&'static str>), ApiError> {
    let mut all = Vec::new();
    let (mut bytes, mut from) = (0, EventCursor::Start);
    loop {
        let page = app.orchestrator().store().events_read(EventQuery { task, from, limit: PAGE }).await?;
        let Some(last) = page.last().map(|e| e.seq) else { return Ok((all, None)) };
        for event in &page {
            let record = wire::event(event);
            bytes += serde_json::to_vec(&record).map_or(0, |json| json.len());
            if bytes > limit::REPLAY_MAX_BYTES {
                return Ok((all, Some("max_bytes")));
            }
            if all.len() >= limit::REPLAY_MAX_EVENTS as usize {
                return Ok((all, Some("max_events")));
            }
            all.push(record);
        }
        from = EventCursor::AfterSeq(last);
    }
}
