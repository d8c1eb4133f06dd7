//! What was spent, summed by UTC day.

use domain::money::MicroUsd;
use domain::{Day, Task};

use super::table::Tables;
use crate::record::{Spending, UsageBy, UsageRecord, UsageRow};

/// Day, user, repository, workflow and model of a call.
pub(super) type Key = (Day, String, String, String, String);

pub(super) fn take(sum: &mut UsageRow, row: &UsageRow) {
    sum.cost = sum.cost + row.cost;
    sum.tokens = sum.tokens + row.tokens;
    sum.calls += row.calls;
    sum.unpriced_calls += row.unpriced_calls;
}

impl Tables {
    /// Adds one call to its day.
    pub(super) fn spend(&mut self, task: &Task, usage: &UsageRecord) {
        let spec = &task.spec;
        let key = (
            Day::of(usage.now),
            task.user.to_string(),
            spec.repo.to_string(),
            spec.workflow.as_str().to_owned(),
            usage.model.clone(),
        );
        let call = UsageRow {
            key: String::new(),
            cost: usage.cost.unwrap_or_default(),
            tokens: usage.tokens,
            calls: 1,
            unpriced_calls: u64::from(usage.cost.is_none()),
        };
        take(self.usage_days.entry(key).or_default(), &call);
    }

    fn usage_of<'a>(&'a self, of: &'a Spending) -> impl Iterator<Item = (&'a Key, &'a UsageRow)> {
        self.usage_days.iter().filter(move |((day, user, repo, ..), _)| {
            (of.from..=of.to).contains(day)
                && of.user.as_ref().is_none_or(|wanted| wanted.as_str() == user)
                && of.repo.as_ref().is_none_or(|wanted| wanted.to_string() == *repo)
        })
    }

    /// See [`crate::Store::spent`].
    pub(super) fn spent(&self, asked: &[Spending]) -> Vec<MicroUsd> {
        asked.iter().map(|of| self.usage_of(of).map(|(_, row)| row.cost).sum()).collect()
    }

    /// See [`crate::Store::usage_report`].
    pub(super) fn usage_report(&self, of: &Spending, by: UsageBy) -> Vec<UsageRow> {
        let mut rows = std::collections::BTreeMap::<String, UsageRow>::new();
        for ((day, user, repo, workflow, model), row) in self.usage_of(of) {
            let key = match by {
                UsageBy::User => user.clone(),
                UsageBy::Repo => repo.clone(),
                UsageBy::Workflow => workflow.clone(),
                UsageBy::Model => model.clone(),
                UsageBy::Day => day.to_string(),
            };
            let sum = rows.entry(key.clone()).or_insert_with(|| UsageRow { key, ..UsageRow::default() });
            take(sum, row);
        }
        rows.into_values().collect()
    }
}
