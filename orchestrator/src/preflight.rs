//! Cheap checks before compute is spent, in parallel, a few seconds each: a doomed task fails here.

use std::future::Future;

use domain::{Command, Failure, FailureCode, Task};
use store::{Epoch, StoreError};

use crate::engine::Onward;
use crate::{Orchestrator, fault};

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
        let (repository, provider) = tokio::join!(
            self.in_time("the repository check", FailureCode::GithubUnreachable, repository),
            self.in_time(
                "the model provider check",
                FailureCode::ModelUnreachable,
                parts.models.probe(&choice)
            ),
        );
        let repository = repository?;
        provider?;
        let mut warnings = repository.warnings;
        warnings.extend(choice.warnings);
        let base_branch = task.spec.base_branch.clone().unwrap_or(repository.default_branch);
        Ok(Command::PreflightPassed { base_branch, model: choice.name, warnings })
    }

    async fn in_time<T>(
        &self,
        what: &str,
        late: FailureCode,
        check: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let limit = self.parts().policy.preflight_check;
        match tokio::time::timeout(limit, check).await {
            Ok(result) => result,
            Err(_) => Err(Failure::new(late, format!("{what} did not answer within {} s", limit.as_secs()))),
        }
    }
}
