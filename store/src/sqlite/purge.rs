//! Forgetting: tasks whose time is over, what belongs to a user, and what is kept for a shorter time.

use domain::{Status, TaskId, UserId};
use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::fault::Fault;
use super::task;
use super::value::{At, Bits};
use crate::record::{ERASED, Expired, Forgotten};

/// Tables whose rows belong to one task, those that refer to others first. A test holds this to the schema.
pub(super) const OF_A_TASK: &[&str] = &[
    "outbox",
    "obligation",
    "nudge",
    "ask",
    "trace",
    "pull_request",
    "usage",
    "session",
    "slot",
    "idempotency",
    "event",
];

/// See [`crate::Store::tasks_expired`].
pub(super) fn expired(
    db: &Connection,
    before: Timestamp,
    user: Option<&UserId>,
    limit: u32,
) -> Result<Vec<TaskId>, Fault> {
    let mut statement = db.prepare_cached(
        "SELECT id FROM task t WHERE completed_at < ?1 AND (?2 IS NULL OR user = ?2)
           AND status IN ('COMPLETED', 'FAILED', 'CANCELLED', 'TIMED_OUT')
           AND NOT EXISTS (SELECT 1 FROM obligation o WHERE o.task_id = t.id)
         ORDER BY completed_at, id LIMIT ?3",
    )?;
    let rows =
        statement.query_map(params![At(before), user.map(UserId::as_str), limit], |r| r.get::<_, Bits>(0))?;
    Ok(rows.map(|row| row.map(Bits::task)).collect::<Result<_, _>>()?)
}

/// See [`crate::Store::task_purge`].
pub(super) fn task(tx: &Connection, id: TaskId) -> Result<bool, Fault> {
    let Some(found) = task::get(tx, id)? else { return Ok(false) };
    let ended =
        matches!(found.status(), Status::Completed | Status::Failed | Status::Cancelled | Status::TimedOut);
    if !ended {
        return Ok(false);
    }
    let owed: i64 = tx
        .prepare_cached("SELECT count(*) FROM obligation WHERE task_id = ?1")?
        .query_row([Bits::from(id)], |r| r.get(0))?;
    if owed > 0 {
        return Ok(false);
    }
    for table in OF_A_TASK {
        tx.prepare_cached(&format!("DELETE FROM {table} WHERE task_id = ?1"))?.execute([Bits::from(id)])?;
    }
    tx.prepare_cached("DELETE FROM task WHERE id = ?1")?.execute([Bits::from(id)])?;
    Ok(true)
}

/// See [`crate::Store::forget_expired`].
pub(super) fn forget(tx: &Connection, expired: &Expired) -> Result<Forgotten, Fault> {
    let delete = |sql: &str, before: Timestamp| -> Result<u64, Fault> {
        Ok(tx.prepare_cached(sql)?.execute([At(before)])? as u64)
    };
    let nudges = delete(
        "DELETE FROM nudge WHERE submitted_at < ?1 AND task_id IN
           (SELECT id FROM task WHERE status IN ('COMPLETED', 'FAILED', 'CANCELLED', 'TIMED_OUT'))",
        expired.nudges_before,
    )?;
    let keys = delete("DELETE FROM api_key WHERE revoked_at < ?1", expired.revoked_before)?;
    delete(
        "DELETE FROM webhook_delivery WHERE webhook_id IN (SELECT id FROM webhook WHERE revoked_at < ?1)",
        expired.revoked_before,
    )?;
    let webhooks = delete("DELETE FROM webhook WHERE revoked_at < ?1", expired.revoked_before)?;
    let audit = delete("DELETE FROM audit WHERE at < ?1", expired.audit_before)?;
    Ok(Forgotten { nudges, keys, webhooks, audit })
}

/// See [`crate::Store::user_erase`].
pub(super) fn erase(tx: &Connection, user: &UserId) -> Result<bool, Fault> {
    let user = user.as_str();
    let left: i64 =
        tx.prepare_cached("SELECT count(*) FROM task WHERE user = ?1")?.query_row([user], |r| r.get(0))?;
    if left > 0 {
        return Ok(false);
    }
    tx.prepare_cached(
        "INSERT INTO usage_day
         SELECT day, ?2, repo, workflow, model, cost_micro, tokens_input, tokens_output, tokens_cache_read,
           tokens_cache_write, calls, unpriced_calls FROM usage_day WHERE user = ?1
         ON CONFLICT DO UPDATE SET cost_micro = cost_micro + excluded.cost_micro,
           tokens_input = tokens_input + excluded.tokens_input,
           tokens_output = tokens_output + excluded.tokens_output,
           tokens_cache_read = tokens_cache_read + excluded.tokens_cache_read,
           tokens_cache_write = tokens_cache_write + excluded.tokens_cache_write,
           calls = calls + excluded.calls, unpriced_calls = unpriced_calls + excluded.unpriced_calls",
    )?
    .execute([user, ERASED])?;
    for sql in [
        "DELETE FROM usage_day WHERE user = ?1",
        "DELETE FROM webhook_delivery WHERE webhook_id IN (SELECT id FROM webhook WHERE user = ?1)",
        "DELETE FROM webhook WHERE user = ?1",
        "DELETE FROM api_key WHERE user = ?1",
    ] {
        tx.prepare_cached(sql)?.execute([user])?;
    }
    tx.prepare_cached("UPDATE audit SET actor = ?2 WHERE actor = ?1")?.execute([user, ERASED])?;
    Ok(true)
}
