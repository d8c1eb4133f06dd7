//! `/v1/admin`: what is owed, which boxes live, and forgetting. For owners.

use axum::Json;
use axum::extract::State;
use domain::UserId;
use jiff::Timestamp;
use orchestrator::retention::{Mode, Purge, PurgeError};
use orchestrator::sweep::wanted;
use protocol::admin::{ObligationRecord, PurgeRequest, Purged, SessionRecord};
use protocol::rest::*;
use store::{Alarm, Duty};
use tracing::error;

use super::body::Body;
use super::{ApiError, App, Caller, wire};

/// Characters of a user's name at most.
const USER_MAX_CHARS: usize = 256;

/// What must happen and has not yet: boxes to stop, traces to put together.
#[utoipa::path(get, path = "/v1/admin/obligations",
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = Data<Vec<ObligationRecord>>), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn obligations(
    State(app): State<App>,
    _caller: Caller,
) -> Result<Json<Data<Vec<ObligationRecord>>>, ApiError> {
    let open = app.orchestrator().store().obligation_list().await?;
    let data = open
        .into_iter()
        .map(|row| {
            let (duty, attempt, session) = match row.duty {
                Duty::StopSession { attempt, session } => ("stop_session", Some(attempt.0), session),
                Duty::SealTrace => ("seal_trace", None, None),
            };
            ObligationRecord {
                obligation_id: row.id.to_string(),
                task_id: row.task.to_string(),
                duty: duty.into(),
                attempt,
                session_id: session.map(|session| session.session_id()),
                created_at: wire::time(row.created_at),
                tries: row.tries,
                due_at: wire::time(row.due_at),
                last_error: row.last_error,
                alarm: row.alarm == Alarm::On,
            }
        })
        .collect();
    Ok(Json(Data { data }))
}

/// The boxes that live, as the backends see them.
#[utoipa::path(get, path = "/v1/admin/sessions",
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = Data<Vec<SessionRecord>>), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn sessions(
    State(app): State<App>,
    _caller: Caller,
) -> Result<Json<Data<Vec<SessionRecord>>>, ApiError> {
    let live = app.orchestrator().parts().compute.list_sessions().await.map_err(|failure| {
        error!(error = %failure, "the boxes could not be listed");
        let message = format!("the boxes cannot be listed now: {failure}; try again");
        ApiError::new(ErrorCode::ServiceUnavailable, message)
    })?;
    let store = app.orchestrator().store();
    let mut data = Vec::with_capacity(live.len());
    for session in live {
        let task = store.task_get(session.task()).await?;
        let record = store.session_get(session.task(), session.attempt()).await?;
        data.push(SessionRecord {
            session_id: session.session_id(),
            task_id: session.task().to_string(),
            attempt: session.attempt().0,
            status: task.as_ref().map(|task| task.status().to_string()),
            user_id: task.as_ref().map(|task| task.user.to_string()),
            wanted: wanted(&session, task.as_ref()),
            heartbeat_at: record.as_ref().and_then(|r| r.heartbeat_at).map(wire::time),
            stage: record.and_then(|r| r.stage),
        });
    }
    Ok(Json(Data { data }))
}

/// Removes tasks that have ended, with events, traces and all else of them; or all that is known of a user.
#[utoipa::path(post, path = "/v1/admin/purge", request_body = PurgeRequest,
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = Data<Purged>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 409, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn purge(
    State(app): State<App>,
    _caller: Caller,
    Body(request): Body<PurgeRequest>,
) -> Result<Json<Data<Purged>>, ApiError> {
    let (purge, erase) = plan(&app, &request)?;
    let mode = purge.mode;
    let user = purge.user.clone();
    let purged = app.orchestrator().purge(purge).await?;
    let user_erased = match (erase, mode, user) {
        (true, Mode::Remove, Some(user)) => {
            if !app.orchestrator().store().user_erase(&user).await? {
                return Err(ApiError::new(
                    ErrorCode::TaskNotTerminal,
                    format!(
                        "{user} has tasks that have not ended, or whose boxes are still being stopped; what had ended was removed. Cancel them and repeat"
                    ),
                ));
            }
            true
        }
        _ => false,
    };
    let data =
        Purged { tasks: purged.tasks, objects: purged.objects, user_erased, dry_run: mode == Mode::Count };
    Ok(Json(Data { data }))
}

/// What is asked, and whether the user goes too.
fn plan(app: &App, request: &PurgeRequest) -> Result<(Purge, bool), ApiError> {
    let now = app.orchestrator().now();
    let user = request.user.as_deref().map(str::trim).filter(|user| !user.is_empty()).map(UserId::new);
    if user.as_ref().is_some_and(|user| user.as_str().chars().count() > USER_MAX_CHARS) {
        return Err(ApiError::invalid(format!("user may have {USER_MAX_CHARS} characters")));
    }
    let erase = request.erase_user.unwrap_or(false);
    let before = match (&request.ended_before, &user) {
        (Some(_), _) if erase => {
            return Err(ApiError::invalid(
                "ended_before: a user is erased whole; leave it out with erase_user",
            ));
        }
        (Some(text), _) => text.parse::<Timestamp>().map_err(|_| {
            let given = domain::event::preview(text, 40);
            ApiError::invalid(format!(
                "ended_before must be a time such as 2026-11-28T00:00:00Z, got {given:?}"
            ))
        })?,
        (None, Some(_)) => now,
        (None, None) => {
            return Err(ApiError::invalid(
                "ended_before or user is required: without both nothing is purged",
            ));
        }
    };
    if erase && user.is_none() {
        return Err(ApiError::invalid("erase_user needs user"));
    }
    let mode = if request.dry_run.unwrap_or(false) { Mode::Count } else { Mode::Remove };
    // A task that ends at this very moment may be looked at by its owner.
    Ok((Purge { ended_before: before.min(now), user, mode }, erase))
}

impl From<PurgeError> for ApiError {
    fn from(failure: PurgeError) -> ApiError {
        error!(error = %failure, "a purge ended early");
        match failure {
            PurgeError::Store(failure) => failure.into(),
            PurgeError::Object(_) | PurgeError::Push { .. } => ApiError::new(
                ErrorCode::ServiceUnavailable,
                "something could not be removed; the server's log says what. What was removed stays removed: repeat it when that is mended",
            ),
        }
    }
}
