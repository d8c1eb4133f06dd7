//! Our record of pull requests: one per task, the last one said.

use domain::TaskId;
use rusqlite::{Connection, OptionalExtension, params};

use super::fault::Fault;
use super::value::Bits;
use crate::record::PullRequestRecord;

/// Stores or replaces it.
pub(super) fn put(tx: &Connection, record: &PullRequestRecord) -> Result<(), Fault> {
    tx.prepare_cached(
        "INSERT INTO pull_request (task_id, body) VALUES (?1, ?2) ON CONFLICT (task_id) DO UPDATE SET body = excluded.body",
    )?
    .execute(params![Bits::from(record.task), serde_json::to_string(record)?])?;
    Ok(())
}

/// See [`crate::Store::pull_request_get`].
pub(super) fn get(db: &Connection, task: TaskId) -> Result<Option<PullRequestRecord>, Fault> {
    let body: Option<String> = db
        .prepare_cached("SELECT body FROM pull_request WHERE task_id = ?1")?
        .query_row([Bits::from(task)], |r| r.get(0))
        .optional()?;
    body.map(|body| Ok(serde_json::from_str(&body)?)).transpose()
}
