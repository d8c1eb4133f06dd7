//! What is known of each attempt's box.

use domain::{Attempt, TaskId};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::event::Head;
use super::fault::Fault;
use super::task::must_exist;
use super::value::{At, Bits};
use crate::record::{Attach, PollCounters, PollResult, SessionRecord};
use crate::rule;

/// See [`crate::Store::session_open`].
pub(super) fn open(tx: &Connection, task: TaskId, attempt: Attempt, now: Timestamp) -> Result<(), Fault> {
    must_exist(tx, task)?;
    tx.prepare_cached(
        "INSERT INTO session (task_id, attempt, opened_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    )?
    .execute(params![Bits::from(task), attempt.0, At(now)])?;
    Ok(())
}

/// See [`crate::Store::session_attach`]. Attaching is a sign of life.
pub(super) fn attach(
    tx: &Connection,
    task: TaskId,
    attempt: Attempt,
    instance: &str,
    now: Timestamp,
) -> Result<Attach, Fault> {
    let head = Head::load(tx, task)?;
    if head.status.is_terminal() || head.attempt != attempt {
        return Ok(Attach::Superseded);
    }
    match get(tx, task, attempt)? {
        None => return Ok(Attach::Superseded),
        Some(SessionRecord { instance: Some(first), .. }) if first != instance => return Ok(Attach::Taken),
        Some(_) => (),
    }
    tx.prepare_cached(
        "UPDATE session SET instance = ?3, attached_at = ifnull(attached_at, ?4), heartbeat_at = ?4
         WHERE task_id = ?1 AND attempt = ?2",
    )?
    .execute(params![Bits::from(task), attempt.0, instance, At(now)])?;
    Ok(Attach::Attached)
}

/// See [`crate::Store::session_heartbeat`].
pub(super) fn heartbeat(
    tx: &Connection,
    task: TaskId,
    attempt: Attempt,
    stage: &str,
    now: Timestamp,
) -> Result<(), Fault> {
    tx.prepare_cached(
        "UPDATE session SET heartbeat_at = ?3, stage = ?4 WHERE task_id = ?1 AND attempt = ?2",
    )?
    .execute(params![Bits::from(task), attempt.0, At(now), stage])?;
    Ok(())
}

/// See [`crate::Store::session_get`].
pub(super) fn get(db: &Connection, task: TaskId, attempt: Attempt) -> Result<Option<SessionRecord>, Fault> {
    Ok(db
        .prepare_cached(
            "SELECT opened_at, instance, attached_at, heartbeat_at, stage, poll_errors, poll_ended
             FROM session WHERE task_id = ?1 AND attempt = ?2",
        )?
        .query_row(params![Bits::from(task), attempt.0], |r| {
            Ok(SessionRecord {
                task,
                attempt,
                opened_at: r.get::<_, At>(0)?.0,
                instance: r.get(1)?,
                attached_at: r.get::<_, Option<At>>(2)?.map(|at| at.0),
                heartbeat_at: r.get::<_, Option<At>>(3)?.map(|at| at.0),
                stage: r.get(4)?,
                polls: PollCounters { errors: r.get(5)?, ended: r.get(6)? },
            })
        })
        .optional()?)
}

/// See [`crate::Store::session_beats`].
pub(super) fn beats(
    db: &Connection,
    sessions: &[(TaskId, Attempt)],
) -> Result<Vec<Option<Timestamp>>, Fault> {
    let mut one =
        db.prepare_cached("SELECT heartbeat_at FROM session WHERE task_id = ?1 AND attempt = ?2")?;
    sessions
        .iter()
        .map(|(task, attempt)| {
            let beat = one
                .query_row(params![Bits::from(*task), attempt.0], |r| r.get::<_, Option<At>>(0))
                .optional()?;
            Ok(beat.flatten().map(|at| at.0))
        })
        .collect()
}

/// See [`crate::Store::session_polled`].
pub(super) fn polled(
    tx: &Connection,
    task: TaskId,
    attempt: Attempt,
    poll: PollResult,
) -> Result<PollCounters, Fault> {
    let before = get(tx, task, attempt)?.map(|s| s.polls).unwrap_or_default();
    let polls = rule::polled(before, poll);
    if polls != before {
        tx.prepare_cached(
            "UPDATE session SET poll_errors = ?3, poll_ended = ?4 WHERE task_id = ?1 AND attempt = ?2",
        )?
        .execute(params![Bits::from(task), attempt.0, polls.errors, polls.ended])?;
    }
    Ok(polls)
}
