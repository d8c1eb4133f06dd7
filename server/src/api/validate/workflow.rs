//! Which workflow a request asks for, and whether it brings what that needs. What this version does not run is refused
//! last, so that a client learns first what is wrong with its request.

use domain::task::Workflow;
use domain::workflow::{self, Input, Issuer, Need, WorkflowRow};
use protocol::rest::CreateTaskRequest;

use crate::api::ApiError;

/// The task types of *ABCA* before it had workflows, and the workflow that each became.
const TASK_TYPES: [(&str, &str); 3] = [
    ("new_task", "coding/new-task-v1"),
    ("pr_iteration", "coding/pr-iteration-v1"),
    ("pr_review", "coding/pr-review-v1"),
];

/// The row of the workflow that is asked for, in either of the two ways.
pub(super) fn asked(
    workflow_ref: Option<&str>,
    task_type: Option<&str>,
) -> Result<&'static WorkflowRow, ApiError> {
    let Some(task_type) = task_type else { return resolve(workflow_ref) };
    let shown = domain::event::preview(task_type, 40);
    let Some((_, meant)) = TASK_TYPES.iter().find(|(name, _)| *name == task_type) else {
        let all: Vec<_> = TASK_TYPES.iter().map(|(name, _)| *name).collect();
        return Err(ApiError::invalid(format!(
            "task_type: there is no {shown:?}; there are {}, and workflow_ref says the same",
            all.join(", ")
        )));
    };
    let row = resolve(workflow_ref.or(Some(meant)))?;
    match row.id == *meant {
        true => Ok(row),
        false => Err(ApiError::invalid(format!(
            "task_type {shown:?} is {meant}, but workflow_ref names {}; leave task_type out",
            row.id
        ))),
    }
}

/// The row of the workflow that is asked for.
fn resolve(given: Option<&str>) -> Result<&'static WorkflowRow, ApiError> {
    let given = given.unwrap_or(Workflow::NewTask.as_str());
    let shown = domain::event::preview(given, 80);
    let Some((id, version)) = workflow::parse_ref(given) else {
        return Err(ApiError::invalid(format!(
            "workflow_ref: {shown:?} is no workflow; write it as coding/new-task-v1 or coding/new-task-v1@1.0.0"
        )));
    };
    let Some(row) = workflow::find(id) else {
        let all: Vec<_> = workflow::WORKFLOWS.iter().map(|row| row.id).collect();
        return Err(ApiError::invalid(format!(
            "workflow_ref: there is no workflow {shown:?}; there are {}",
            all.join(", ")
        )));
    };
    match version {
        None | Some(Workflow::VERSION) => Ok(row),
        Some(_) => Err(ApiError::invalid(format!(
            "workflow_ref: {shown:?} cannot be had; {id} has version {}",
            Workflow::VERSION
        ))),
    }
}

/// Whether the request brings what the workflow works from.
pub(super) fn inputs(row: &WorkflowRow, request: &CreateTaskRequest) -> Result<(), ApiError> {
    let described = request.task_description.as_deref().is_some_and(|d| !d.trim().is_empty());
    if row.repo == Need::Required && request.repo.as_deref().is_none_or(|r| r.trim().is_empty()) {
        return Err(ApiError::invalid("repo is required: OWNER/NAME, or the path of a local repository"));
    }
    match row.input {
        Input::DescriptionOrIssue if !described && request.issue_number.is_none() => {
            Err(ApiError::invalid("task_description is required: say what is to be done"))
        }
        Input::Description if !described => {
            Err(ApiError::invalid(format!("task_description is required by {}", row.id)))
        }
        Input::PullRequest if request.pr_number.is_none() => {
            Err(ApiError::invalid(format!("pr_number is required by workflow_ref {}", row.id)))
        }
        Input::DescriptionOrIssue | Input::Description | Input::PullRequest => Ok(()),
    }?;
    match request.pr_number {
        Some(n) if n < 1 => Err(ApiError::invalid(format!("pr_number must be at least 1, got {n}"))),
        Some(_) if row.input != Input::PullRequest => Err(ApiError::invalid(format!(
            "pr_number is only for workflows that work on a pull request; {} does not",
            row.id
        ))),
        Some(_) | None => Ok(()),
    }
}

/// The workflow, if this version runs it.
pub(super) fn runs(row: &WorkflowRow) -> Result<Workflow, ApiError> {
    if row.issuer == Issuer::Platform {
        return Err(ApiError::invalid(format!(
            "workflow_ref: {} is only issued by the platform itself",
            row.id
        )));
    }
    match row.id == Workflow::NewTask.as_str() {
        true => Ok(Workflow::NewTask),
        false => Err(ApiError::invalid(format!(
            "workflow_ref: {} is not available in this version; use {}",
            row.id,
            Workflow::NewTask.as_str()
        ))),
    }
}
