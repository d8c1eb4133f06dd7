//! What was spent, summed by UTC day.

use domain::money::{MicroUsd, TokenCount};
use domain::{Day, Task};
use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

use super::fault::Fault;
use super::value::Count;
use crate::record::{Spending, UsageBy, UsageRecord, UsageRow};

/// Adds one call to its day.
pub(super) fn add(tx: &Connection, task: &Task, usage: &UsageRecord) -> Result<(), Fault> {
    let tokens = usage.tokens;
    tx.prepare_cached(
        "INSERT INTO usage_day VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 1, ?11)
         ON CONFLICT DO UPDATE SET cost_micro = cost_micro + excluded.cost_micro,
           tokens_input = tokens_input + excluded.tokens_input,
           tokens_output = tokens_output + excluded.tokens_output,
           tokens_cache_read = tokens_cache_read + excluded.tokens_cache_read,
           tokens_cache_write = tokens_cache_write + excluded.tokens_cache_write,
           calls = calls + 1, unpriced_calls = unpriced_calls + excluded.unpriced_calls",
    )?
    .execute(params![
        Day::of(usage.now).0,
        task.user.as_str(),
        task.spec.repo.to_string(),
        task.spec.workflow.as_str(),
        usage.model,
        usage.cost.map_or(0, |c| c.0),
        Count(tokens.input),
        Count(tokens.output),
        Count(tokens.cache_read),
        Count(tokens.cache_write),
        usage.cost.is_none()
    ])?;
    Ok(())
}

/// See [`crate::Store::spent`].
pub(super) fn spent(db: &Connection, asked: &[Spending]) -> Result<Vec<MicroUsd>, Fault> {
    let one = |spending| {
        let (filter, values) = filter(spending);
        let sql = format!("SELECT coalesce(sum(cost_micro), 0) FROM usage_day WHERE {filter}");
        Ok(MicroUsd(db.prepare_cached(&sql)?.query_row(params_from_iter(values), |r| r.get(0))?))
    };
    asked.iter().map(one).collect()
}

/// See [`crate::Store::usage_report`].
pub(super) fn report(db: &Connection, of: &Spending, by: UsageBy) -> Result<Vec<UsageRow>, Fault> {
    let (filter, values) = filter(of);
    let key = match by {
        UsageBy::User => "user",
        UsageBy::Repo => "repo",
        UsageBy::Workflow => "workflow",
        UsageBy::Model => "model",
        UsageBy::Day => "day",
    };
    let sql = format!(
        "SELECT {key}, sum(cost_micro), sum(tokens_input), sum(tokens_output), sum(tokens_cache_read),
           sum(tokens_cache_write), sum(calls), sum(unpriced_calls)
         FROM usage_day WHERE {filter} GROUP BY 1 ORDER BY 1"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |r| {
        let key = match by {
            UsageBy::Day => Day(r.get(0)?).to_string(),
            _ => r.get(0)?,
        };
        let count = |index| r.get::<_, i64>(index).map(|n| u64::try_from(n).unwrap_or(0));
        let tokens =
            TokenCount { input: count(2)?, output: count(3)?, cache_read: count(4)?, cache_write: count(5)? };
        let cost = MicroUsd(r.get(1)?);
        Ok(UsageRow { key, cost, tokens, calls: count(6)?, unpriced_calls: count(7)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn filter(of: &Spending) -> (String, Vec<Value>) {
    let mut sql = "day BETWEEN ? AND ?".to_owned();
    let mut values = vec![Value::Integer(of.from.0.into()), Value::Integer(of.to.0.into())];
    if let Some(user) = &of.user {
        sql.push_str(" AND user = ?");
        values.push(Value::Text(user.as_str().into()));
    }
    if let Some(repo) = &of.repo {
        sql.push_str(" AND repo = ?");
        values.push(Value::Text(repo.to_string()));
    }
    (sql, values)
}
