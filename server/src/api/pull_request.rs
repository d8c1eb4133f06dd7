//! `/v1/tasks/{id}/pull-request`: our record of it, with its diff from the mirror.

use axum::Json;
use axum::extract::State;
use forge::mirror::BranchWork;
use protocol::rest::*;
use tracing::warn;

use super::{ApiError, App, Caller, TaskPath, task, wire};

/// The pull request of a task.
#[utoipa::path(get, path = "/v1/tasks/{task_id}/pull-request", params(("task_id" = String, Path)),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = Data<PullRequestDetail>), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn detail(
    State(app): State<App>,
    caller: Caller,
    TaskPath(id): TaskPath,
) -> Result<Json<Data<PullRequestDetail>>, ApiError> {
    let task = task::owned(&app, &caller, &id).await?;
    let Some(record) = app.orchestrator().store().pull_request_get(task.id).await? else {
        let message = format!("task {} has no pull request (it is {})", task.id, task.status());
        return Err(ApiError::new(ErrorCode::NotFound, message));
    };
    let work =
        BranchWork { head_sha: record.head_sha.clone(), base_sha: record.base_sha.clone(), commits: 0 };
    let mirrors = &app.orchestrator().parts().mirrors;
    let (diff, diff_truncated) = match mirrors.diff(task.id, &record.repo, &work).await {
        Ok(diff) => diff,
        Err(failure) => {
            // A mirror is a cache: it may be gone, the record is not.
            warn!(task.id = %task.id, error = %failure, "the diff could not be made");
            ("(the diff is not available on this server any more; look at the branch)\n".into(), true)
        }
    };
    let data = PullRequestDetail {
        task_id: task.id.to_string(),
        repo: record.repo.to_string(),
        url: record.url,
        number: record.number,
        state: "draft".into(),
        title: record.title,
        body: record.body,
        branch: record.branch,
        base_branch: record.base_branch,
        head_sha: record.head_sha,
        base_sha: record.base_sha,
        created_at: wire::time(record.created_at),
        diff_stat: record.diff_stat,
        diff,
        diff_truncated,
    };
    Ok(Json(Data { data }))
}
