//! Rows for people. Within (channel, task) the next row waits until the one before it is done.

use std::time::Duration;

use domain::TaskId;
use domain::transition::after;
use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::event;
use super::fault::Fault;
use super::value::{At, Bits, Count};
use crate::record::{NewOutboxRow, OutboxRow};

/// Stores rows whose events begin at number `first`.
pub(super) fn add(
    tx: &Connection,
    task: TaskId,
    first: u64,
    rows: &[NewOutboxRow],
    now: Timestamp,
) -> Result<(), Fault> {
    let mut insert =
        tx.prepare_cached("INSERT INTO outbox (channel, task_id, seq, due_at) VALUES (?1, ?2, ?3, ?4)")?;
    for row in rows {
        insert.execute(params![row.channel, Bits::from(task), Count(first + row.event as u64), At(now)])?;
    }
    Ok(())
}

/// See [`crate::Store::outbox_claim`].
pub(super) fn claim(
    tx: &Connection,
    channel: &str,
    now: Timestamp,
    lease: Duration,
    limit: u32,
) -> Result<Vec<OutboxRow>, Fault> {
    let due = tx
        .prepare_cached(
            "SELECT o.id FROM outbox o WHERE o.channel = ?1 AND o.due_at <= ?2 AND NOT EXISTS (
               SELECT 1 FROM outbox p WHERE p.channel = o.channel AND p.task_id = o.task_id AND p.id < o.id)
             ORDER BY o.due_at, o.id LIMIT ?3",
        )?
        .query_map(params![channel, At(now), limit], |r| r.get::<_, i64>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    let mut claim =
        tx.prepare_cached("UPDATE outbox SET due_at = ?2, tries = tries + 1 WHERE id = ?1 RETURNING tries")?;
    let mut read = tx.prepare_cached(
        "SELECT e.task_id, e.seq, e.id, e.kind, e.at, e.metadata
         FROM outbox o JOIN event e ON e.task_id = o.task_id AND e.seq = o.seq WHERE o.id = ?1",
    )?;
    due.into_iter()
        .map(|id| {
            let tries = claim.query_row(params![id, At(after(now, lease))], |r| r.get(0))?;
            let event = read.query_row([id], |r| Ok(event::from_row(r, 0)))??;
            Ok(OutboxRow { id, channel: channel.to_owned(), event, tries })
        })
        .collect()
}

/// See [`crate::Store::outbox_done`].
pub(super) fn done(tx: &Connection, id: i64) -> Result<(), Fault> {
    tx.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// See [`crate::Store::outbox_retry`].
pub(super) fn retry(tx: &Connection, id: i64, at: Timestamp, error: &str) -> Result<(), Fault> {
    tx.prepare_cached("UPDATE outbox SET due_at = ?2, last_error = ?3 WHERE id = ?1")?.execute(params![
        id,
        At(at),
        error
    ])?;
    Ok(())
}
