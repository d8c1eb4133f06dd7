//! What is left to spend: the bounds that hold for a task, with what is spent of each.

use domain::budget::WhenExhausted;
use domain::state::QueueReason;
use domain::{
    Bound, Command, Failure, FailureCode, MicroUsd, Payer, Period, RepoRef, State, Status, Task, UserId,
    Verdict,
};
use jiff::Timestamp;
use store::{Spending, StoreError, TaskFilter};
use tracing::warn;

use crate::Orchestrator;

/// Tasks that are looked at in one read.
const PAGE: u32 = 200;

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

    /// How a task that could not make a single model call waits for the next period of a budget that it shares with
    /// others. `None` when it could make one.
    ///
    /// # Errors
    ///
    /// The budget that is not waited for.
    pub(crate) async fn without_budget(&self, task: &Task) -> Result<Option<Command>, Failure> {
        let unavailable = |e: StoreError| {
            Failure::new(FailureCode::InternalError, format!("what was spent cannot be read: {e}"))
        };
        let used_up = self.used_up(task).await.map_err(unavailable)?;
        verdict(&used_up, self.parts().policy.budgets.when_exhausted, self.now())
    }

    /// The bounds of which nothing is left.
    async fn used_up(&self, task: &Task) -> Result<Vec<Spent>, StoreError> {
        let mut all = self.budgets_of(task).await?;
        all.retain(|row| row.bound.judge(row.spent, MicroUsd::ZERO) == Verdict::Stop);
        Ok(all)
    }

    /// Lets tasks go on that wait for a budget of which something is left: a server that starts may allow more than the one
    /// before. While it runs nothing changes but the time, which wakes them by itself. Public so that tests can single-step.
    pub async fn budgets_raised(&self) {
        if let Err(failure) = self.resume_within_budget().await {
            warn!(error = %failure, "tasks that wait for a budget were not looked at; they go on when its period ends");
        }
    }

    async fn resume_within_budget(&self) -> Result<(), StoreError> {
        let mut filter = TaskFilter { status: vec![Status::Queued], limit: PAGE, ..TaskFilter::default() };
        loop {
            let page = self.store().task_list(filter.clone()).await?;
            for task in &page {
                if matches!(task.state, State::Queued { why: QueueReason::Budget { .. }, .. })
                    && self.used_up(task).await?.is_empty()
                {
                    // Whatever became of it meanwhile stands.
                    let _ = self.command(task.id, Command::Resume { by: None }).await?;
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE as usize => filter.before = Some(last.id),
                Some(_) | None => return Ok(()),
            }
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

/// What a task that is about to start waits for, by the bounds of which nothing is left.
///
/// # Errors
///
/// One that is not waited for.
fn verdict(used_up: &[Spent], when: WhenExhausted, now: Timestamp) -> Result<Option<Command>, Failure> {
    let failure = |row: &Spent| Failure::new(FailureCode::MaxBudget, row.used_up(now));
    // Its own does not come back.
    if let Some(own) = used_up.iter().find(|row| row.bound.period == Period::Task) {
        return Err(failure(own));
    }
    let Some(last) = used_up.iter().max_by_key(|row| row.bound.period.renews_at(now)) else {
        return Ok(None);
    };
    match when {
        WhenExhausted::Refuse => Err(failure(last)),
        WhenExhausted::Wait => Ok(Some(Command::Park {
            why: QueueReason::Budget { detail: last.used_up(now) },
            not_before: last.bound.period.renews_at(now),
        })),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_budget_is_waited_for_and_ones_own_is_the_end() {
        let now: Timestamp = "2026-11-28T10:00:00Z".parse().unwrap();
        let row = |payer: Payer, period| Spent {
            bound: Bound { payer, period, soft: None, hard: MicroUsd(1_000_000) },
            spent: MicroUsd(1_000_000),
        };
        let own = row(Payer::Task, Period::Task);
        let day = row(Payer::User(UserId::new("ann")), Period::Day);
        let month = row(Payer::System, Period::Month);
        let told = |rows: &[Spent], when| match verdict(rows, when, now) {
            Ok(None) => "starts".to_owned(),
            Ok(Some(Command::Park { why, not_before })) => {
                format!("waits until {}: {}", not_before.unwrap(), why.detail().unwrap())
            }
            Ok(Some(other)) => other.name().to_owned(),
            Err(failure) => format!("fails: {failure}"),
        };
        let (wait, refuse) = (WhenExhausted::Wait, WhenExhausted::Refuse);
        assert_eq!(told(&[], wait), "starts");
        let waits = told(std::slice::from_ref(&day), wait);
        assert!(
            waits.starts_with("waits until 2026-11-29T00:00:00Z: the budget of user ann for this day"),
            "{waits}"
        );
        // The one that comes back last decides.
        let waits = told(&[day.clone(), month], wait);
        assert!(waits.starts_with("waits until 2026-12-01T00:00:00Z: the budget of this server"), "{waits}");
        assert!(told(&[own, day.clone()], wait).starts_with("fails: MAX_BUDGET: the task's budget"));
        assert!(told(&[day], refuse).starts_with("fails: MAX_BUDGET: the budget of user ann"));
    }
}
