//! Fields of the contract whose capability this version does not have: checked as the contract says, then refused with
//! a word that says so. They are not "unknown".

use domain::{approval, limit};
use protocol::rest::CreateTaskRequest;

use crate::api::ApiError;

/// Approvals.
pub(super) fn refuse(request: &CreateTaskRequest) -> Result<(), ApiError> {
    approval_timeout(request.approval_timeout_s)?;
    initial_approvals(request.initial_approvals.as_deref().unwrap_or_default())
}

fn approval_timeout(given: Option<i64>) -> Result<(), ApiError> {
    let Some(given) = given else { return Ok(()) };
    let (min, max) = (limit::APPROVAL_TIMEOUT_MIN.as_secs(), limit::APPROVAL_TIMEOUT_MAX.as_secs());
    match u64::try_from(given).is_ok_and(|s| (min..=max).contains(&s)) {
        true => Err(ApiError::invalid(
            "approval_timeout_s is not available in this version, which asks for no approvals; leave it out",
        )),
        false => Err(ApiError::invalid(format!("approval_timeout_s must be {min} to {max}, got {given}"))),
    }
}

fn initial_approvals(given: &[String]) -> Result<(), ApiError> {
    if given.len() > limit::INITIAL_APPROVALS_MAX {
        let max = limit::INITIAL_APPROVALS_MAX;
        return Err(ApiError::invalid(format!(
            "initial_approvals: {} are given, at most {max} are allowed",
            given.len()
        )));
    }
    for (at, scope) in given.iter().enumerate() {
        approval::check_scope(scope).map_err(|why| {
            let scope = domain::event::preview(scope, 80);
            ApiError::invalid(format!("initial_approvals[{at}]: {scope:?} {why}"))
        })?;
    }
    match given.is_empty() {
        true => Ok(()),
        false => Err(ApiError::invalid(
            "initial_approvals are not available in this version, which asks for no approvals; leave them out",
        )),
    }
}
