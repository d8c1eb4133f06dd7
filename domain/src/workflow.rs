//! The workflows of the contract: what a request must bring for each, and which this version runs.

/// One workflow of *ABCA*'s table; all have the version [`crate::task::Workflow::VERSION`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkflowRow {
    /// Its id, `coding/new-task-v1` say.
    pub id: &'static str,
    /// Whether it works on a repository.
    pub repo: Need,
    /// What it works from.
    pub input: Input,
    /// Who may ask for it.
    pub issuer: Issuer,
}

/// Whether something must be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It must.
    Required,
    /// It may.
    Optional,
}

/// What a workflow works from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A description, or an issue.
    DescriptionOrIssue,
    /// A description.
    Description,
    /// A pull request that is open.
    PullRequest,
}

/// Who may ask for a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issuer {
    /// Anyone who may submit.
    Anyone,
    /// Only the platform itself.
    Platform,
}

/// Every workflow of the contract.
pub const WORKFLOWS: &[WorkflowRow] = &[
    row("coding/new-task-v1", Need::Required, Input::DescriptionOrIssue, Issuer::Anyone),
    row("coding/pr-iteration-v1", Need::Required, Input::PullRequest, Issuer::Anyone),
    row("coding/pr-review-v1", Need::Required, Input::PullRequest, Issuer::Anyone),
    row("coding/restack-v1", Need::Required, Input::PullRequest, Issuer::Platform),
    row("default/agent-v1", Need::Optional, Input::Description, Issuer::Anyone),
    row("knowledge/web-research-v1", Need::Optional, Input::Description, Issuer::Anyone),
];

const fn row(id: &'static str, repo: Need, input: Input, issuer: Issuer) -> WorkflowRow {
    WorkflowRow { id, repo, input, issuer }
}

/// The row of a workflow.
pub fn find(id: &str) -> Option<&'static WorkflowRow> {
    WORKFLOWS.iter().find(|row| row.id == id)
}

/// Splits `id` or `id@version`. `None` when it is not `area/name-vN` with an optional `@` and a version without spaces:
/// *ABCA*'s `^[a-z][a-z0-9-]*\/[a-z][a-z0-9-]*-v\d+(@[^\s]+)?$`.
pub fn parse_ref(text: &str) -> Option<(&str, Option<&str>)> {
    let (id, version) = match text.split_once('@') {
        Some((id, version)) => (id, Some(version)),
        None => (text, None),
    };
    let word = |w: &str| {
        w.starts_with(|c: char| c.is_ascii_lowercase())
            && w.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let (area, rest) = id.split_once('/')?;
    let (name, number) = rest.rsplit_once("-v")?;
    let numbered = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let versioned = version.is_none_or(|v| !v.is_empty() && !v.contains(char::is_whitespace));
    (word(area) && word(name) && numbered && versioned).then_some((id, version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Workflow;

    #[test]
    fn what_runs_is_in_the_table() {
        assert!(find(Workflow::NewTask.as_str()).is_some());
        assert!(WORKFLOWS.iter().all(|row| parse_ref(row.id) == Some((row.id, None))));
    }

    #[test]
    fn references_are_read_as_the_contract_writes_them() {
        assert_eq!(parse_ref("a/b-v1@1.0.0"), Some(("a/b-v1", Some("1.0.0"))));
        assert_eq!(parse_ref("a-1/b-c2-v10@x@y"), Some(("a-1/b-c2-v10", Some("x@y"))));
        for bad in [
            "",
            "a",
            "a/b",
            "a/b-v",
            "a/b-v1x",
            "A/b-v1",
            "1/b-v1",
            "a/-v1",
            "a/b-v1@",
            "a/b-v1@ 1",
            "a/b/c-v1",
            "a/b-v1 ",
        ] {
            assert_eq!(parse_ref(bad), None, "{bad:?}");
        }
    }
}
