//! `/v1/audit`: who did what. For owners.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use domain::{AuditId, UserId, limit};
use protocol::access::AuditLine;
use protocol::rest::*;
use serde::Deserialize;
use store::{AuditFilter, AuditRecord};
use utoipa::IntoParams;

use super::{ApiError, App, Caller, held, task, wire};

/// Which lines.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only what this user did.
    actor: Option<String>,
    /// Only this action: `task.cancel`.
    action: Option<String>,
    /// Only what was done to this: the id of a task, key or webhook.
    object: Option<String>,
    /// Rows, 20 when absent, at most 100.
    limit: Option<String>,
    /// From the page before.
    next_token: Option<String>,
}

/// Lines of the audit log, newest first.
#[utoipa::path(get, path = "/v1/audit", params(AuditQuery),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = Page<AuditLine>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn list(
    State(app): State<App>,
    _caller: Caller,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Json<Page<AuditLine>>, ApiError> {
    let query = query?.0;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (actor, action) = (given(query.actor), given(query.action));
    // Ids are kept in upper case.
    let object = given(query.object).map(|id| id.to_ascii_uppercase());
    let name = format!("audit:{actor:?}:{action:?}:{object:?}");
    let rows = task::rows(query.limit.as_deref(), limit::ACCESS_PAGE_DEFAULT, limit::ACCESS_PAGE_MAX);
    let before: Option<AuditId> =
        given(query.next_token).map(|token| held::opened(&app, &name, &token)).transpose()?;
    let filter = AuditFilter { actor: actor.map(UserId::new), action, object, before, limit: rows + 1 };
    let store = app.orchestrator().store();
    // What was answered before this was asked is seen.
    app.trail().flush(store).await?;
    let mut lines = store.audit_list(filter).await?;
    let pagination = held::page(&app, &name, rows, &mut lines, |line| line.id.to_string());
    Ok(Json(Page { data: lines.iter().map(line).collect(), pagination }))
}

fn line(record: &AuditRecord) -> AuditLine {
    let outcome = match record.status {
        ..400 => "done",
        400..500 => "refused",
        500.. => "failed",
    };
    AuditLine {
        audit_id: record.id.to_string(),
        timestamp: wire::time(record.at),
        actor: record.actor.to_string(),
        authenticated_by: record.authenticated_by.clone(),
        credential: record.credential.clone(),
        action: record.action.clone(),
        object: record.object.clone(),
        outcome: outcome.into(),
        status: record.status,
        request_id: record.request.to_string(),
    }
}
