//! Slots are rows, and the queue is the tasks that wait for one: nothing can drift apart.
//!
//! A queued task remembers the scope in which it was last refused (`waits_for`). In that scope, no younger task passes
//! it; in its other scopes it holds nobody up, so a user whose own limit is reached does not stop everybody. One that
//! was never refused waits in all its scopes.

use domain::{RepoRef, Task, TaskId, UserId};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::fault::Fault;
use super::task::wake;
use super::value::{At, Bits};
use crate::record::{Scope, ScopeLimit};

/// The tasks that wait in a scope, oldest first, in two parts: refused there, and never refused at all.
/// `?1` scope, `?2` user or null, `?3` repository or null, `?4` now.
const WAITING: [&str; 2] = [
    "FROM task INDEXED BY task_queue WHERE status = 'QUEUED' AND queue_reason = 'concurrency_limit'
       AND waits_for = ?1 AND (not_before IS NULL OR not_before <= ?4)
       AND ?2 IS ?2 AND ?3 IS ?3",
    "FROM task INDEXED BY task_queue WHERE status = 'QUEUED' AND queue_reason = 'concurrency_limit'
       AND waits_for IS NULL AND (not_before IS NULL OR not_before <= ?4)
       AND (?2 IS NULL OR user = ?2) AND (?3 IS NULL OR repo = ?3) AND ?1 IS ?1",
];

/// The first scope in which `task` cannot have a slot now.
pub(super) fn lacking(
    tx: &Connection,
    task: &Task,
    scopes: &[ScopeLimit],
    now: Timestamp,
) -> Result<Option<ScopeLimit>, Fault> {
    for wanted in scopes {
        if !holds(tx, &wanted.scope, task.id)? && !free(tx, task, wanted, now)? {
            return Ok(Some(wanted.clone()));
        }
    }
    Ok(None)
}

/// Whether a slot is free for `task`: room, and no older task that waits for it.
pub(super) fn free(tx: &Connection, task: &Task, wanted: &ScopeLimit, now: Timestamp) -> Result<bool, Fault> {
    Ok(held(tx, &wanted.scope)? < wanted.limit && !older_waits(tx, task, &wanted.scope, now)?)
}

/// Takes a slot in each scope.
pub(super) fn take(tx: &Connection, task: TaskId, scopes: &[ScopeLimit]) -> Result<(), Fault> {
    let mut insert =
        tx.prepare_cached("INSERT INTO slot (scope, task_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?;
    for wanted in scopes {
        insert.execute(params![wanted.scope.to_string(), Bits::from(task)])?;
    }
    Ok(())
}

/// Gives back whatever `task` holds.
pub(super) fn give_back(tx: &Connection, task: TaskId) -> Result<(), Fault> {
    tx.prepare_cached("DELETE FROM slot WHERE task_id = ?1")?.execute([Bits::from(task)])?;
    Ok(())
}

/// Wakes the task that has waited longest in a scope.
pub(super) fn wake_head(tx: &Connection, scope: &Scope, now: Timestamp) -> Result<(), Fault> {
    let mut head: Option<(At, Bits)> = None;
    for part in WAITING {
        let sql = format!("SELECT created_at, id {part} ORDER BY created_at, id LIMIT 1");
        let first = tx
            .prepare_cached(&sql)?
            .query_row(params![scope.to_string(), user(scope), repo(scope), At(now)], |r| {
                Ok((r.get(0)?, r.get(1)?))
            })
            .optional()?;
        head = match (head, first) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    match head {
        Some((_, id)) => wake(tx, id.task(), now),
        None => Ok(()),
    }
}

/// The same, if the scope has room.
pub(super) fn wake_head_if_room(tx: &Connection, wanted: &ScopeLimit, now: Timestamp) -> Result<(), Fault> {
    if held(tx, &wanted.scope)? < wanted.limit { wake_head(tx, &wanted.scope, now) } else { Ok(()) }
}

/// See [`crate::Store::slot_list`].
pub(super) fn list(db: &Connection) -> Result<Vec<(Scope, TaskId)>, Fault> {
    let mut statement = db.prepare_cached("SELECT scope, task_id FROM slot")?;
    let rows = statement.query_map([], |r| Ok((r.get::<_, String>(0)?, r.get::<_, Bits>(1)?)))?;
    let mut list = rows
        .map(|row| {
            let (scope, task) = row?;
            Ok((scope_of(&scope)?, task.task()))
        })
        .collect::<Result<Vec<_>, Fault>>()?;
    list.sort();
    Ok(list)
}

/// The scope of its text.
pub(super) fn scope_of(text: &str) -> Result<Scope, Fault> {
    let bad = || Fault::Damaged(format!("unknown scope {text:?}"));
    match text.split_once(':') {
        Some(("user", user)) => Ok(Scope::User(UserId::new(user))),
        Some(("repo", repo)) => repo.parse::<RepoRef>().map(Scope::Repo).map_err(|_| bad()),
        None if text == "system" => Ok(Scope::System),
        Some(_) | None => Err(bad()),
    }
}

fn holds(tx: &Connection, scope: &Scope, task: TaskId) -> Result<bool, Fault> {
    Ok(tx
        .prepare_cached("SELECT 1 FROM slot WHERE scope = ?1 AND task_id = ?2")?
        .exists(params![scope.to_string(), Bits::from(task)])?)
}

fn held(tx: &Connection, scope: &Scope) -> Result<u32, Fault> {
    Ok(tx
        .prepare_cached("SELECT count(*) FROM slot WHERE scope = ?1")?
        .query_row([scope.to_string()], |r| r.get(0))?)
}

fn older_waits(tx: &Connection, task: &Task, scope: &Scope, now: Timestamp) -> Result<bool, Fault> {
    for part in WAITING {
        let sql = format!("SELECT 1 {part} AND (created_at, id) < (?5, ?6) LIMIT 1");
        let mut statement = tx.prepare_cached(&sql)?;
        let (created, id) = (At(task.created_at), Bits::from(task.id));
        if statement.exists(params![scope.to_string(), user(scope), repo(scope), At(now), created, id])? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn user(scope: &Scope) -> Option<&str> {
    match scope {
        Scope::User(user) => Some(user.as_str()),
        Scope::Repo(_) | Scope::System => None,
    }
}

fn repo(scope: &Scope) -> Option<String> {
    match scope {
        Scope::Repo(repo) => Some(repo.to_string()),
        Scope::User(_) | Scope::System => None,
    }
}
