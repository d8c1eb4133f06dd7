//! What model calls cost: one row per call, and sums on the task that nobody else writes.

use domain::task::Spent;
use rusqlite::{Connection, params};

use super::event::{By, Head};
use super::fault::Fault;
use super::value::{At, Bits, Count};
use super::{spending, task};
use crate::record::UsageRecord;

/// See [`crate::Store::usage_record`]. It counts whatever has become of the attempt: the money is gone.
pub(super) fn record(tx: &Connection, usage: &UsageRecord) -> Result<Spent, Fault> {
    let mut head = Head::load(tx, usage.task)?;
    let tokens = usage.tokens;
    let new = tx
        .prepare_cached(
            "INSERT INTO usage (call_id, task_id, attempt, model, at, cost_micro, tokens_input, tokens_output,
               tokens_cache_read, tokens_cache_write) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            usage.call_id,
            Bits::from(usage.task),
            usage.attempt.0,
            usage.model,
            At(usage.now),
            usage.cost.map(|c| c.0),
            Count(tokens.input),
            Count(tokens.output),
            Count(tokens.cache_read),
            Count(tokens.cache_write)
        ])?;
    if new > 0 {
        tx.prepare_cached(
            "UPDATE task SET cost_micro = cost_micro + ?2, tokens_input = tokens_input + ?3,
               tokens_output = tokens_output + ?4, tokens_cache_read = tokens_cache_read + ?5,
               tokens_cache_write = tokens_cache_write + ?6, calls = calls + 1, unpriced_calls = unpriced_calls + ?7
             WHERE id = ?1",
        )?
        .execute(params![
            Bits::from(usage.task),
            usage.cost.map_or(0, |c| c.0),
            Count(tokens.input),
            Count(tokens.output),
            Count(tokens.cache_read),
            Count(tokens.cache_write),
            usage.cost.is_none()
        ])?;
        let task = task::load(tx, usage.task)?;
        spending::add(tx, &task, usage)?;
        let spent = task.spent;
        head.append(tx, &usage.event_with(spent), By::ControlPlane, usage.now)?;
        head.save(tx)?;
    }
    Ok(task::load(tx, usage.task)?.spent)
}
