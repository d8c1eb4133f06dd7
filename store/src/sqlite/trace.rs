//! The traces that are whole: one per task, the first one stays.

use domain::TaskId;
use domain::event::NewEvent;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::event::{By, Head};
use super::fault::Fault;
use super::value::{At, Bits, Count};
use crate::record::TraceRecord;

/// See [`crate::Store::trace_record`].
pub(super) fn record(
    tx: &Connection,
    record: &TraceRecord,
    events: &[NewEvent],
    now: Timestamp,
) -> Result<TraceRecord, Fault> {
    let mut head = Head::load(tx, record.task)?;
    let new = tx
        .prepare_cached(
            "INSERT INTO trace (task_id, object, uri, bytes, sealed_at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            Bits::from(record.task),
            record.key,
            record.uri,
            Count(record.bytes),
            At(record.sealed_at)
        ])?;
    if new == 0 {
        return get(tx, record.task).map(|there| there.unwrap_or_else(|| record.clone()));
    }
    for event in events {
        head.append(tx, event, By::ControlPlane, now)?;
    }
    head.save(tx)?;
    Ok(record.clone())
}

/// See [`crate::Store::trace_get`].
pub(super) fn get(db: &Connection, task: TaskId) -> Result<Option<TraceRecord>, Fault> {
    let found = db
        .prepare_cached("SELECT object, uri, bytes, sealed_at FROM trace WHERE task_id = ?1")?
        .query_row([Bits::from(task)], |r| {
            Ok(TraceRecord {
                task,
                key: r.get(0)?,
                uri: r.get(1)?,
                bytes: r.get::<_, Count>(2)?.0,
                sealed_at: r.get::<_, At>(3)?.0,
            })
        })
        .optional()?;
    Ok(found)
}
