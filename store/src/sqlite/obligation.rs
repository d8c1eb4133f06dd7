//! What must still happen. A claim hides a row for a while; only `done` removes it.

use std::time::Duration;

use domain::transition::after;
use domain::{ObligationId, TaskId};
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use super::fault::Fault;
use super::value::{At, Bits};
use crate::record::{Alarm, Duty, Obligation};

const COLUMNS: &str = "id, task_id, duty, created_at, tries, due_at, last_error, alarm";

/// Stores one, due now.
pub(super) fn add(
    tx: &Connection,
    id: ObligationId,
    task: TaskId,
    duty: &Duty,
    now: Timestamp,
) -> Result<(), Fault> {
    tx.prepare_cached(
        "INSERT INTO obligation (id, task_id, duty, created_at, due_at) VALUES (?1, ?2, ?3, ?4, ?4)",
    )?
    .execute(params![Bits::from(id), Bits::from(task), serde_json::to_string(duty)?, At(now)])?;
    Ok(())
}

/// See [`crate::Store::obligation_claim_due`].
pub(super) fn claim_due(
    tx: &Connection,
    now: Timestamp,
    lease: Duration,
    limit: u32,
) -> Result<Vec<Obligation>, Fault> {
    let due = tx
        .prepare_cached("SELECT id FROM obligation WHERE due_at <= ?1 ORDER BY due_at, id LIMIT ?2")?
        .query_map(params![At(now), limit], |r| r.get::<_, Bits>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    let sql =
        format!("UPDATE obligation SET due_at = ?2, tries = tries + 1 WHERE id = ?1 RETURNING {COLUMNS}");
    let mut claim = tx.prepare_cached(&sql)?;
    due.into_iter()
        .map(|id| claim.query_row(params![id, At(after(now, lease))], |r| Ok(from_row(r)))?)
        .collect()
}

/// See [`crate::Store::obligation_done`].
pub(super) fn done(tx: &Connection, id: ObligationId) -> Result<(), Fault> {
    tx.prepare_cached("DELETE FROM obligation WHERE id = ?1")?.execute([Bits::from(id)])?;
    Ok(())
}

/// See [`crate::Store::obligation_retry`].
pub(super) fn retry(
    tx: &Connection,
    id: ObligationId,
    at: Timestamp,
    error: &str,
    alarm: Alarm,
) -> Result<(), Fault> {
    tx.prepare_cached("UPDATE obligation SET due_at = ?2, last_error = ?3, alarm = ?4 WHERE id = ?1")?
        .execute(params![Bits::from(id), At(at), error, alarm == Alarm::On])?;
    Ok(())
}

/// See [`crate::Store::obligation_list`].
pub(super) fn list(db: &Connection) -> Result<Vec<Obligation>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM obligation ORDER BY id");
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map([], |r| Ok(from_row(r)))?;
    rows.map(|row| row?).collect()
}

fn from_row(r: &Row<'_>) -> Result<Obligation, Fault> {
    Ok(Obligation {
        id: r.get::<_, Bits>(0)?.obligation(),
        task: r.get::<_, Bits>(1)?.task(),
        duty: serde_json::from_str(r.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?)?,
        created_at: r.get::<_, At>(3)?.0,
        tries: r.get(4)?,
        due_at: r.get::<_, At>(5)?.0,
        last_error: r.get(6)?,
        alarm: if r.get(7)? { Alarm::On } else { Alarm::Off },
    })
}
