//! What is left to spend: the bounds that hold for a task, with what is spent of each.

use domain::{Bound, Failure, FailureCode, MicroUsd, Payer, Period, RepoRef, Task, UserId, Verdict};
use jiff::Timestamp;
use store::{Spending, StoreError};

use crate::Orchestrator;

/// A bound and what is spent of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// The bound.
    pub bound: Bound,
    /// Spent in its period so far.
    pub spent: MicroUsd,
}

impl Orchestrator {
    /// The bounds that hold for a task, the narrowest first.
    pub async fn budgets_of(&self, task: &Task) -> Result<Vec<Spent>, StoreError> {
        let bounds = self.parts().policy.budgets.of(task);
        self.spent_of(bounds, task.spent.cost).await
    }

    /// The bounds beyond single tasks that hold for a user, and for a repository where one is named.
    pub async fn budgets_shared(
        &self,
        user: &UserId,
        repo: Option<&RepoRef>,
    ) -> Result<Vec<Spent>, StoreError> {
        let bounds = self.parts().policy.budgets.shared(user, repo);
        self.spent_of(bounds, MicroUsd::ZERO).await
    }

    /// Fails for a task that could not make a single model call.
    pub(crate) async fn budget_left(&self, task: &Task) -> Result<(), Failure> {
        let unavailable = |e: StoreError| {
            Failure::new(FailureCode::InternalError, format!("what was spent cannot be read: {e}"))
        };
        let all = self.budgets_of(task).await.map_err(unavailable)?;
        match all.iter().find(|row| row.bound.judge(row.spent, MicroUsd::ZERO) == Verdict::Stop) {
            Some(row) => Err(Failure::new(FailureCode::MaxBudget, row.used_up(self.now()))),
            None => Ok(()),
        }
    }

    async fn spent_of(&self, bounds: Vec<Bound>, of_task: MicroUsd) -> Result<Vec<Spent>, StoreError> {
        let now = self.now();
        let asked: Vec<Spending> = bounds.iter().filter_map(|bound| spending(bound, now)).collect();
        let mut sums = match asked.is_empty() {
            true => Vec::new(),
            false => self.store().spent(asked).await?,
        }
        .into_iter();
        let spent = |bound: Bound| {
            let spent = match bound.period {
                Period::Task => of_task,
                Period::Day | Period::Month => sums.next().unwrap_or_default(),
            };
            Spent { bound, spent }
        };
        Ok(bounds.into_iter().map(spent).collect())
    }
}

impl Spent {
    /// What a person is told when nothing is left.
    pub fn used_up(&self, now: Timestamp) -> String {
        let renewal =
            self.bound.period.renews_at(now).map(|at| format!("; it renews at {at}")).unwrap_or_default();
        format!("{} is used up: {} of {}{renewal}", self.bound.describe(), self.spent, self.bound.hard)
    }
}

/// What to sum up for a bound; `None` for a single task, which knows its own sum.
fn spending(bound: &Bound, now: Timestamp) -> Option<Spending> {
    let from = bound.period.from_day(now)?;
    let (user, repo) = match &bound.payer {
        Payer::Task | Payer::System => (None, None),
        Payer::User(user) => (Some(user.clone()), None),
        Payer::Repo(repo) => (None, Some(repo.clone())),
    };
    Some(Spending { from, to: domain::Day::of(now), user, repo })
}
