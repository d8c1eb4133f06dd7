//! Who looks at a task now, and when somebody must look next.

use std::time::Duration;

use domain::transition::after;
use domain::{NodeId, TaskId};
use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::fault::Fault;
use super::task;
use super::value::{At, Bits, Count};
use crate::record::{Claimed, Epoch, LeaseRelease};

/// See [`crate::Store::task_claim_due`].
pub(super) fn claim_due(
    tx: &Connection,
    by: &NodeId,
    now: Timestamp,
    lease: Duration,
    limit: u32,
) -> Result<Vec<Claimed>, Fault> {
    let mut due = tx
        .prepare_cached(
            "SELECT wake_at, id FROM task INDEXED BY task_due
             WHERE wake_at <= ?1 AND lease_until IS NULL ORDER BY wake_at, id LIMIT ?2",
        )?
        .query_map(params![At(now), limit], |r| Ok((r.get::<_, At>(0)?, r.get::<_, Bits>(1)?)))?
        .collect::<Result<Vec<_>, _>>()?;
    // Those whose holder is gone are few.
    due.extend(
        tx.prepare_cached(
            "SELECT wake_at, id FROM task INDEXED BY task_leased
             WHERE lease_until <= ?1 AND wake_at <= ?1 ORDER BY wake_at, id LIMIT ?2",
        )?
        .query_map(params![At(now), limit], |r| Ok((r.get::<_, At>(0)?, r.get::<_, Bits>(1)?)))?
        .collect::<Result<Vec<_>, _>>()?,
    );
    due.sort();
    due.truncate(limit as usize);
    due.into_iter().map(|(_, id)| take(tx, id.task(), by, now, lease)).collect()
}

/// See [`crate::Store::task_claim`].
pub(super) fn claim(
    tx: &Connection,
    id: TaskId,
    by: &NodeId,
    now: Timestamp,
    lease: Duration,
) -> Result<Option<Claimed>, Fault> {
    let free = tx
        .prepare_cached("SELECT 1 FROM task WHERE id = ?1 AND (lease_until IS NULL OR lease_until <= ?2)")?
        .exists(params![Bits::from(id), At(now)])?;
    if free { take(tx, id, by, now, lease).map(Some) } else { Ok(None) }
}

/// See [`crate::Store::lease_renew`].
pub(super) fn renew(tx: &Connection, id: TaskId, epoch: Epoch, until: Timestamp) -> Result<bool, Fault> {
    let renewed = tx
        .prepare_cached(
            "UPDATE task SET lease_until = ?3 WHERE id = ?1 AND lease_epoch = ?2 AND lease_until IS NOT NULL",
        )?
        .execute(params![Bits::from(id), Count(epoch.0), At(until)])?;
    Ok(renewed > 0)
}

/// See [`crate::Store::lease_release`].
pub(super) fn release(tx: &Connection, release: &LeaseRelease) -> Result<(), Fault> {
    let sql = format!(
        "UPDATE task SET lease_owner = NULL, lease_until = NULL,
           wake_at = CASE WHEN ?4 IS NOT NULL AND version = ?3 AND woken = 0 AND status NOT IN ({}) THEN ?4 ELSE wake_at END
         WHERE id = ?1 AND lease_epoch = ?2 AND lease_until IS NOT NULL",
        task::ended()
    );
    tx.prepare_cached(&sql)?.execute(params![
        Bits::from(release.task),
        Count(release.epoch.0),
        Count(release.seen_version),
        release.wake_at.map(At)
    ])?;
    Ok(())
}

/// See [`crate::Store::next_due`].
pub(super) fn next_due(db: &Connection) -> Result<Option<Timestamp>, Fault> {
    let at: Option<At> = db
        .prepare_cached(
            "SELECT min(at) FROM (
               SELECT min(wake_at) AS at FROM task INDEXED BY task_due WHERE wake_at IS NOT NULL AND lease_until IS NULL
               UNION ALL SELECT min(max(wake_at, lease_until)) FROM task INDEXED BY task_leased
                 WHERE lease_until IS NOT NULL AND wake_at IS NOT NULL
               UNION ALL SELECT min(due_at) FROM obligation)",
        )?
        .query_row([], |r| r.get(0))?;
    Ok(at.map(|at| at.0))
}

fn take(tx: &Connection, id: TaskId, by: &NodeId, now: Timestamp, lease: Duration) -> Result<Claimed, Fault> {
    let epoch: Count = tx
        .prepare_cached(
            "UPDATE task SET lease_owner = ?2, lease_epoch = lease_epoch + 1, lease_until = ?3, woken = 0
             WHERE id = ?1 RETURNING lease_epoch",
        )?
        .query_row(params![Bits::from(id), by.as_str(), At(after(now, lease))], |r| r.get(0))?;
    Ok(Claimed { task: task::load(tx, id)?, epoch: Epoch(epoch.0) })
}
