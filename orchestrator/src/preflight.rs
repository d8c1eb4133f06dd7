//! Cheap checks before compute is spent, in parallel, a few seconds each: a doomed task fails here.

use std::future::Future;
use std::time::Duration;

use domain::{Command, Failure, FailureCode, RepoRef, Task};
use store::{Epoch, StoreError};

use crate::engine::Onward;
use crate::{Orchestrator, Policy, fault};

impl Orchestrator {
    pub(crate) async fn preflight(&self, task: &Task, epoch: Epoch) -> Result<Onward, StoreError> {
        let next = match self.checks(task).await {
            // Last, since it may take long; the checks are made again after it.
            Ok(passed @ Command::PreflightPassed { .. }) => {
                self.fetch_attachments(task).await.map(|fetched| fetched.unwrap_or(passed))
            }
            other => other,
        };
        let onward = match next {
            Ok(command) => self.follow(task, command, epoch).await?,
            Err(failure) => self.fail_early(task, failure, epoch).await?,
        };
        fault::point("preflight.passed");
        Ok(onward)
    }

    /// All checks, and what comes next by them: the task goes on, or waits for a budget; the first failure in this order counts: backend, budgets, model, repository, provider.
    async fn checks(&self, task: &Task) -> Result<Command, Failure> {
        let parts = self.parts();
        let tier = parts.policy.tier_of(&task.spec);
        let unavailable = |why| Failure::new(FailureCode::IsolationUnavailable, why).resource(tier.as_str());
        if tier != parts.policy.tier && !parts.policy.tiers.contains(&tier) {
            let allowed: Vec<&str> = parts.policy.tiers.iter().map(|t| t.as_str()).collect();
            let allowed = allowed.join(", ");
            return Err(unavailable(format!("`compute.tiers` lets tasks ask for {allowed} only")));
        }
        parts.compute.supports(tier).map_err(unavailable)?;
        if let Some(instead) = self.without_budget(task).await? {
            return Ok(instead);
        }
        let choice = parts.models.choose(task.spec.model.as_deref(), parts.policy.budgets.least(task))?;
        let forge = parts.forges.of(&task.spec.repo);
        let repository = async {
            forge
                .inspect(&task.spec.repo, task.spec.base_branch.as_deref(), true)
                .await
                .map_err(|e| e.failure)
        };
        let (limit, late) = patience(&task.spec.repo, &parts.policy);
        let provider = parts.models.probe(&choice);
        let (repository, provider) = tokio::join!(
            in_time(limit, "the repository check", late, repository),
            in_time(
                parts.policy.preflight_check,
                "the model provider check",
                FailureCode::ModelUnreachable,
                provider
            ),
        );
        let repository = repository?;
        provider?;
        let mut warnings = repository.warnings;
        warnings.extend(choice.warnings);
        let base_branch = task.spec.base_branch.clone().unwrap_or(repository.default_branch);
        Ok(Command::PreflightPassed { base_branch, model: choice.name, warnings })
    }
}

/// How long the check of a repository may take, and what a longer one means.
fn patience(repo: &RepoRef, policy: &Policy) -> (Duration, FailureCode) {
    match repo {
        RepoRef::GitHub { .. } => (policy.preflight_check, FailureCode::GithubUnreachable),
        RepoRef::Local(_) => (policy.local_check, FailureCode::RepoTimeout),
    }
}

async fn in_time<T>(
    limit: Duration,
    what: &str,
    late: FailureCode,
    check: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, check).await {
        Ok(result) => result,
        Err(_) => Err(Failure::new(late, format!("{what} did not answer within {} s", limit.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_check_that_does_not_answer_fails_by_what_was_asked() {
        for (repo, told) in [
            ("octo/cat", "GITHUB_UNREACHABLE: the repository check did not answer within 5 s"),
            ("/srv/cat", "REPO_TIMEOUT: the repository check did not answer within 30 s"),
        ] {
            let (limit, late) = patience(&repo.parse().expect("a repository"), &Policy::default());
            let silent = std::future::pending::<Result<(), Failure>>();
            let failure = in_time(limit, "the repository check", late, silent).await.expect_err("it is late");
            assert_eq!(failure.to_string(), told);
        }
        let in_time = in_time(Duration::from_secs(1), "it", FailureCode::RepoTimeout, async { Ok(7) }).await;
        assert_eq!(in_time.expect("it answers"), 7);
    }
}
