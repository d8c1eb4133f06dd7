//! From the wire's request to a task's specification: every bound, each error naming its field. Pure.

use domain::money::MicroUsd;
use domain::{RepoRef, TaskSpec, limit};
use protocol::rest::CreateTaskRequest;

use super::ApiError;

pub use attachment::Inline;

pub mod attachment;
mod later;
mod workflow;

/// The specification of a valid request. The checks come in the contract's order.
pub fn task_spec(request: CreateTaskRequest) -> Result<(TaskSpec, Vec<Inline>), ApiError> {
    let row = workflow::asked(request.workflow_ref.as_deref(), request.task_type.as_deref())?;
    workflow::inputs(row, &request)?;
    let repo = request.repo.as_deref().map(str::trim).filter(|r| !r.is_empty());
    let repo: Option<RepoRef> = repo
        .map(str::parse)
        .transpose()
        .map_err(|e: domain::repo::BadRepo| ApiError::invalid(e.to_string()))?;
    let described = request.task_description.as_deref().is_some_and(|d| !d.trim().is_empty());
    let description = request.task_description.clone().unwrap_or_default();
    let characters = description.chars().count();
    if characters > limit::DESCRIPTION_MAX_CHARS {
        let max = limit::DESCRIPTION_MAX_CHARS;
        return Err(ApiError::invalid(format!(
            "task_description has {characters} characters, at most {max} are allowed"
        )));
    }
    if description.contains('\0') {
        return Err(ApiError::invalid("task_description contains a NUL character"));
    }
    if request.issue_number.is_some_and(|n| !(1..=limit::ISSUE_NUMBER_MAX).contains(&n)) {
        let max = limit::ISSUE_NUMBER_MAX;
        return Err(ApiError::invalid(format!("issue_number must be 1 to {max}")));
    }
    let max_turns = request.max_turns.map(turns).transpose()?;
    let max_budget = request.max_budget_usd.map(budget).transpose()?;
    let (attachments, inline) = attachment::read(request.attachments.as_deref().unwrap_or_default())?;
    later::refuse(&request)?;
    let workflow = workflow::runs(row)?;
    let Some(repo) = repo else {
        return Err(ApiError::invalid("repo is required: OWNER/NAME, or the path of a local repository"));
    };
    if !described {
        return Err(ApiError::invalid(
            "task_description is required in this version, which does not read issues yet: say what is to be done",
        ));
    }
    let spec = TaskSpec {
        repo,
        workflow,
        issue_number: request.issue_number,
        description,
        max_turns,
        max_budget,
        trace: request.trace.unwrap_or(false),
        model: name("model", request.model)?,
        base_branch: branch(request.base_branch)?,
        build_command: command("build_command", request.build_command)?,
        lint_command: command("lint_command", request.lint_command)?,
        isolation: request.isolation.map(|tier| tier.parse()).transpose().map_err(ApiError::invalid)?,
        attachments,
    };
    Ok((spec, inline))
}

/// Words of a person, without the spaces around them: at least one character, at most `max`.
pub fn words<'a>(field: &str, text: &'a str, max: usize) -> Result<&'a str, ApiError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(ApiError::invalid(format!("{field} is required: 1 to {max} characters")));
    }
    let characters = text.chars().count();
    if characters > max {
        return Err(ApiError::invalid(format!(
            "{field} has {characters} characters, at most {max} are allowed"
        )));
    }
    if text.contains('\0') {
        return Err(ApiError::invalid(format!("{field} contains a NUL character")));
    }
    Ok(text)
}

fn turns(given: i64) -> Result<u32, ApiError> {
    let bounds = limit::TURNS_MIN..=limit::TURNS_MAX;
    u32::try_from(given).ok().filter(|n| bounds.contains(n)).ok_or_else(|| {
        ApiError::invalid(format!(
            "max_turns must be {} to {}, got {given}",
            limit::TURNS_MIN,
            limit::TURNS_MAX
        ))
    })
}

fn budget(given: f64) -> Result<MicroUsd, ApiError> {
    let bounds = limit::BUDGET_MIN_USD..=limit::BUDGET_MAX_USD;
    MicroUsd::from_usd(given).filter(|_| bounds.contains(&given)).ok_or_else(|| {
        let (min, max) = (limit::BUDGET_MIN_USD, limit::BUDGET_MAX_USD);
        ApiError::invalid(format!("max_budget_usd must be {min} to {max}, got {given}"))
    })
}

fn name(field: &str, given: Option<String>) -> Result<Option<String>, ApiError> {
    let Some(given) = given.filter(|g| !g.trim().is_empty()) else { return Ok(None) };
    let plain = given.chars().all(|c| c.is_ascii_graphic());
    if !plain || given.len() > limit::NAME_MAX_CHARS {
        let max = limit::NAME_MAX_CHARS;
        return Err(ApiError::invalid(format!(
            "{field} must be at most {max} printable characters without spaces"
        )));
    }
    Ok(Some(given))
}

/// git's own rules for a branch name, as far as they protect us: no option, no range, no reflog syntax.
fn branch(given: Option<String>) -> Result<Option<String>, ApiError> {
    let Some(given) = name("base_branch", given)? else { return Ok(None) };
    let bad = given.starts_with(['-', '/', '.'])
        || given.ends_with(['/', '.'])
        || given.ends_with(".lock")
        || ["..", "//", "@{", "\\", "~", "^", ":", "?", "*", "["].iter().any(|b| given.contains(b));
    match bad {
        true => Err(ApiError::invalid(format!("base_branch: {given:?} is no valid branch name"))),
        false => Ok(Some(given)),
    }
}

fn command(field: &str, given: Option<String>) -> Result<Option<String>, ApiError> {
    let Some(given) = given.filter(|g| !g.trim().is_empty()) else { return Ok(None) };
    if given.chars().count() > limit::COMMAND_MAX_CHARS || given.contains('\0') {
        let max = limit::COMMAND_MAX_CHARS;
        return Err(ApiError::invalid(format!("{field} must be at most {max} characters, without NUL")));
    }
    Ok(Some(given))
}

/// An idempotency key: 1 to 128 of `[A-Za-z0-9_-]`.
pub fn idempotency_key(given: &str) -> Result<String, ApiError> {
    let good = !given.is_empty()
        && given.len() <= limit::IDEMPOTENCY_KEY_MAX_CHARS
        && given.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    match good {
        true => Ok(given.to_owned()),
        false => Err(ApiError::invalid(format!(
            "Idempotency-Key must be 1 to {} letters, digits, dashes and underscores",
            limit::IDEMPOTENCY_KEY_MAX_CHARS
        ))),
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;

    fn request() -> CreateTaskRequest {
        CreateTaskRequest {
            repo: Some("o/r".into()),
            task_description: Some("do".into()),
            ..Default::default()
        }
    }

    #[track_caller]
    fn refused(request: CreateTaskRequest, field: &str) {
        let error = task_spec(request).unwrap_err();
        let text = format!("{error:?}");
        assert!(text.contains(field), "{text}");
        assert_eq!(error.into_response().status(), 400);
    }

    #[test]
    fn every_bound_holds_from_both_sides() {
        let with = |change: fn(&mut CreateTaskRequest)| {
            let mut r = request();
            change(&mut r);
            r
        };
        assert!(task_spec(request()).is_ok());
        for good in [
            with(|r| r.max_turns = Some(1)),
            with(|r| r.max_turns = Some(500)),
            with(|r| r.max_budget_usd = Some(0.01)),
            with(|r| r.max_budget_usd = Some(100.0)),
            with(|r| r.task_description = Some("ä".repeat(10_000))),
            with(|r| r.workflow_ref = Some("coding/new-task-v1@1.0.0".into())),
            with(|r| r.base_branch = Some("feature/x-1".into())),
        ] {
            assert!(task_spec(good).is_ok());
        }
        refused(with(|r| r.max_turns = Some(0)), "max_turns");
        refused(with(|r| r.max_turns = Some(501)), "max_turns");
        refused(with(|r| r.max_turns = Some(-1)), "max_turns");
        refused(with(|r| r.max_budget_usd = Some(0.009)), "max_budget_usd");
        refused(with(|r| r.max_budget_usd = Some(100.01)), "max_budget_usd");
        refused(with(|r| r.max_budget_usd = Some(f64::NAN)), "max_budget_usd");
        refused(with(|r| r.task_description = Some("a".repeat(10_001))), "task_description");
        refused(with(|r| r.task_description = Some("  \n".into())), "task_description");
        refused(with(|r| r.task_description = None), "task_description");
        refused(with(|r| r.repo = None), "repo");
        refused(with(|r| r.repo = Some("../x".into())), "repo");
        refused(with(|r| r.issue_number = Some(0)), "issue_number");
        refused(with(|r| r.workflow_ref = Some("coding/new-task-v1@2".into())), "workflow_ref");
        refused(with(|r| r.workflow_ref = Some("nope".into())), "workflow_ref");
        refused(with(|r| r.base_branch = Some("--upload-pack=x".into())), "base_branch");
        refused(with(|r| r.base_branch = Some("a..b".into())), "base_branch");
        refused(with(|r| r.model = Some("a b".into())), "model");
        refused(with(|r| r.build_command = Some("x".repeat(2_001))), "build_command");
    }

    #[test]
    fn keys_are_short_and_plain() {
        assert!(idempotency_key(&"k".repeat(128)).is_ok());
        for bad in ["", "a b", "ä", &"k".repeat(129)] {
            assert!(idempotency_key(bad).is_err(), "{bad:?}");
        }
    }
}
