//! The event log: numbered from 1 without holes, ids rising with the numbers.

use domain::event::{Event, EventKind, NewEvent};
use domain::{Attempt, EventId, Status, TaskId};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::fault::Fault;
use super::value::{At, Bits, Count};
use crate::record::{Appended, EventAppend, EventCursor, EventQuery};
use crate::rule;

/// The end of a task's log, read and written in one transaction.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) task: TaskId,
    pub(super) status: Status,
    pub(super) attempt: Attempt,
    pub(super) seq: u64,
    id: Option<EventId>,
    attempt_events: u64,
    attempt_cut: bool,
}

/// Whose event it is.
pub(super) enum By {
    ControlPlane,
    Box,
}

impl Head {
    pub(super) fn load(db: &Connection, task: TaskId) -> Result<Head, Fault> {
        db.prepare_cached(
            "SELECT status, attempt, last_seq, last_event_id, attempt_events, attempt_cut FROM task WHERE id = ?1",
        )?
        .query_row([Bits::from(task)], |r| {
            Ok((r.get::<_, String>(0)?, r.get(1)?, r.get::<_, Count>(2)?, r.get::<_, Option<Bits>>(3)?, r.get(4)?, r.get(5)?))
        })
        .optional()?
        .map(|(status, attempt, seq, id, Count(attempt_events), attempt_cut)| {
            Ok(Head {
                task,
                status: super::task::status(&status)?,
                attempt: Attempt(attempt),
                seq: seq.0,
                id: id.map(Bits::event),
                attempt_events,
                attempt_cut,
            })
        })
        .unwrap_or(Err(Fault::NoSuchTask(task)))
    }

    /// Appends one event; `false` when its client key is known.
    pub(super) fn append(
        &mut self,
        db: &Connection,
        event: &NewEvent,
        by: By,
        now: Timestamp,
    ) -> Result<bool, Fault> {
        let seq = self.seq + 1;
        let id = rule::event_id(self.task, seq, self.id, now);
        let (attempt, key) = match by {
            By::Box => (Some(self.attempt.0), event.client_key.as_deref()),
            By::ControlPlane => (None, None),
        };
        let inserted = db
            .prepare_cached(
                "INSERT INTO event (task_id, seq, id, kind, at, metadata, attempt, client_key)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT (task_id, attempt, client_key) WHERE client_key IS NOT NULL DO NOTHING",
            )?
            .execute(params![
                Bits::from(self.task),
                Count(seq),
                Bits::from(id),
                event.kind.as_str(),
                At(now),
                serde_json::to_string(&event.metadata)?,
                attempt,
                key
            ])?;
        if inserted == 0 {
            return Ok(false);
        }
        self.seq = seq;
        self.id = Some(id);
        Ok(true)
    }

    /// Writes the new end of the log to the task.
    pub(super) fn save(&self, db: &Connection) -> Result<(), Fault> {
        db.prepare_cached(
            "UPDATE task SET last_seq = ?2, last_event_id = ?3, attempt_events = ?4, attempt_cut = ?5 WHERE id = ?1",
        )?
        .execute(params![
            Bits::from(self.task),
            Count(self.seq),
            self.id.map(Bits::from),
            Count(self.attempt_events),
            self.attempt_cut
        ])?;
        Ok(())
    }
}

/// See [`crate::Store::events_append`].
pub(super) fn append(tx: &Connection, append: &EventAppend) -> Result<Appended, Fault> {
    let mut head = Head::load(tx, append.task)?;
    if head.status.is_terminal() || head.attempt != append.attempt {
        return Ok(Appended::Superseded);
    }
    let (mut stored, mut duplicates, mut dropped) = (0, 0, 0);
    for event in &append.events {
        if head.attempt_events < append.attempt_limit {
            match head.append(tx, event, By::Box, append.now)? {
                true => {
                    stored += 1;
                    head.attempt_events += 1;
                }
                false => duplicates += 1,
            }
        } else if known(tx, &head, event)? {
            duplicates += 1;
        } else {
            dropped += 1;
        }
    }
    if dropped > 0 && !head.attempt_cut {
        head.attempt_cut = true;
        head.append(tx, &rule::events_dropped(append.attempt_limit), By::ControlPlane, append.now)?;
    } else if stored == 0 {
        return Ok(if dropped > 0 {
            Appended::LimitReached
        } else {
            Appended::Stored { stored, duplicates }
        });
    }
    head.save(tx)?;
    Ok(if dropped > 0 { Appended::LimitReached } else { Appended::Stored { stored, duplicates } })
}

fn known(db: &Connection, head: &Head, event: &NewEvent) -> Result<bool, Fault> {
    let Some(key) = &event.client_key else { return Ok(false) };
    Ok(db
        .prepare_cached("SELECT 1 FROM event WHERE task_id = ?1 AND attempt = ?2 AND client_key = ?3")?
        .exists(params![Bits::from(head.task), head.attempt.0, key])?)
}

/// See [`crate::Store::events_read`].
pub(super) fn read(db: &Connection, query: &EventQuery) -> Result<Vec<Event>, Fault> {
    let task = Bits::from(query.task);
    let (sql, after) = match query.from {
        EventCursor::Start => (FORWARD, 0),
        EventCursor::AfterSeq(seq) => (FORWARD, seq),
        EventCursor::AfterId(id) => (FORWARD, seq_at(db, query.task, id)?),
        EventCursor::Newest => (BACKWARD, 0),
    };
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params![task, Count(after), query.limit], |r| Ok(from_row(r, 0)))?;
    rows.map(|row| row?).collect()
}

const FORWARD: &str = "SELECT task_id, seq, id, kind, at, metadata FROM event
   WHERE task_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
const BACKWARD: &str = "SELECT task_id, seq, id, kind, at, metadata FROM event
   WHERE task_id = ?1 AND seq > ?2 ORDER BY seq DESC LIMIT ?3";

/// The number of the last event whose id is not greater than `id`; 0 when there is none. Ids rise with numbers and
/// numbers have no holes, so this is a binary search over the primary key.
fn seq_at(db: &Connection, task: TaskId, id: EventId) -> Result<u64, Fault> {
    let bits = Bits::from(task);
    let last: Option<Count> = db
        .prepare_cached("SELECT last_seq FROM task WHERE id = ?1")?
        .query_row([bits], |r| r.get(0))
        .optional()?;
    let mut probe = db.prepare_cached("SELECT id FROM event WHERE task_id = ?1 AND seq = ?2")?;
    let (mut low, mut high) = (0, last.map_or(0, |c| c.0));
    while low < high {
        let middle = high - (high - low) / 2;
        let found: Bits = probe.query_row(params![bits, Count(middle)], |r| r.get(0))?;
        if found <= Bits::from(id) { low = middle } else { high = middle - 1 }
    }
    Ok(low)
}

/// One event of a row whose columns `task_id, seq, id, kind, at, metadata` begin at `first`.
pub(super) fn from_row(r: &Row<'_>, first: usize) -> Result<Event, Fault> {
    let kind: String = r.get(first + 3)?;
    let metadata = r.get_ref(first + 5)?.as_str().map_err(rusqlite::Error::from)?;
    Ok(Event {
        task: r.get::<_, Bits>(first)?.task(),
        seq: r.get::<_, Count>(first + 1)?.0,
        id: r.get::<_, Bits>(first + 2)?.event(),
        kind: EventKind::from_wire(&kind)
            .ok_or_else(|| Fault::Damaged(format!("unknown event kind {kind:?}")))?,
        at: r.get::<_, At>(first + 4)?.0,
        metadata: serde_json::from_str(metadata)?,
    })
}
