//! Tasks: accepting, changing, listing.

use domain::event::NewEvent;
use domain::leave::Leaving;
use domain::lost::Losses;
use domain::money::{MicroUsd, TokenCount};
use domain::state::QueueReason;
use domain::task::{Results, Spent};
use domain::transition::{Slots, StopSession};
use domain::{Attachments, Attempt, State, Status, Task, TaskId, TaskSpec, UserId};
use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use serde::{Deserialize, Serialize};

use super::event::{By, Head};
use super::fault::Fault;
use super::value::{At, Bits, Count};
use super::{obligation, outbox, pull_request, slot};
use crate::record::{Changed, Created, Duty, NewTask, ScopeLimit, TaskChange, TaskFilter};
use crate::rule::{self, Woken};

/// What of a task is in no column.
#[derive(Serialize, Deserialize)]
struct Body {
    channel: String,
    spec: TaskSpec,
    branch: String,
    updated_at: Timestamp,
    queued_at: Option<Timestamp>,
    admission_attempts: u32,
    state: State,
    results: Results,
    #[serde(default)]
    leaving: Option<Leaving>,
    #[serde(default)]
    parked_s: u64,
    #[serde(default)]
    losses: Losses,
    #[serde(default)]
    retry_of: Option<TaskId>,
    #[serde(default, skip_serializing_if = "Attachments::is_empty")]
    attachments: Attachments,
}

const COLUMNS: &str =
    "id, user, version, attempt, created_at, started_at, completed_at, wake_at, cost_micro, tokens_input,
  tokens_output, tokens_cache_read, tokens_cache_write, calls, unpriced_calls, body";

/// What a change must know of the stored task beside the task itself.
struct Control {
    epoch: u64,
    leased: bool,
    woken: Woken,
    waits: Option<ScopeLimit>,
}

/// See [`crate::Store::task_create`].
pub(super) fn create(tx: &Connection, new: &NewTask) -> Result<Created, Fault> {
    let task = &new.task;
    if let Some(claim) = &new.idempotency {
        let made: Option<(Bits, String)> = tx
            .prepare_cached("SELECT task_id, body_hash FROM idempotency WHERE user = ?1 AND key = ?2")?
            .query_row(params![task.user.as_str(), claim.key], |r| Ok((r.get(0)?, r.get(1)?)))
            .optional()?;
        if let Some((id, hash)) = made {
            return Ok(if hash == claim.body_hash {
                Created::Replay(Box::new(load(tx, id.task())?))
            } else {
                Created::KeyConflict(id.task())
            });
        }
    }
    tx.prepare_cached(
        "INSERT INTO task (id, user, repo, created_at, version, attempt, status, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, '', '')",
    )?
    .execute(params![
        Bits::from(task.id),
        task.user.as_str(),
        task.spec.repo.to_string(),
        At(task.created_at),
        Count(task.version),
        task.attempt.0
    ])?;
    save(tx, task, task.wake_at)?;
    if let Some(claim) = &new.idempotency {
        tx.prepare_cached("INSERT INTO idempotency (user, key, body_hash, task_id) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![task.user.as_str(), claim.key, claim.body_hash, Bits::from(task.id)])?;
    }
    let first = append(tx, task.id, &new.events, task.created_at)?;
    outbox::add(tx, task.id, first, &new.outbox, task.created_at)?;
    Ok(Created::New(Box::new(load(tx, task.id)?)))
}

/// See [`crate::Store::idempotency_known`].
pub(super) fn key_known(db: &Connection, user: &UserId, key: &str) -> Result<bool, Fault> {
    let known = db
        .prepare_cached("SELECT 1 FROM idempotency WHERE user = ?1 AND key = ?2")?
        .query_row([user.as_str(), key], |_| Ok(()))
        .optional()?;
    Ok(known.is_some())
}

/// See [`crate::Store::task_get`].
pub(super) fn get(db: &Connection, id: TaskId) -> Result<Option<Task>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM task WHERE id = ?1");
    db.prepare_cached(&sql)?.query_row([Bits::from(id)], |r| Ok(from_row(r))).optional()?.transpose()
}

/// One task that must be there.
pub(super) fn load(db: &Connection, id: TaskId) -> Result<Task, Fault> {
    get(db, id)?.ok_or(Fault::NoSuchTask(id))
}

/// See [`crate::Store::task_list`].
pub(super) fn list(db: &Connection, filter: &TaskFilter) -> Result<Vec<Task>, Fault> {
    let mut sql = format!("SELECT {COLUMNS} FROM task WHERE 1");
    let mut values: Vec<Value> = Vec::new();
    if let Some(user) = &filter.user {
        sql.push_str(" AND user = ?");
        values.push(Value::Text(user.as_str().into()));
    }
    if let [user] = filter.among.as_slice() {
        sql.push_str(" AND user = ?");
        values.push(Value::Text(user.as_str().into()));
    } else if !filter.among.is_empty() {
        // As with the states below.
        sql.push_str(" AND +user IN (?");
        sql.push_str(&", ?".repeat(filter.among.len() - 1));
        sql.push(')');
        values.extend(filter.among.iter().map(|user| Value::Text(user.as_str().into())));
    }
    if let Some(repo) = &filter.repo {
        sql.push_str(" AND repo = ?");
        values.push(Value::Text(repo.to_string()));
    }
    if !filter.status.is_empty() {
        // `+` keeps the newest-first index in use: a page then costs what it looks at, not a sort of everything.
        sql.push_str(" AND +status IN (?");
        sql.push_str(&", ?".repeat(filter.status.len() - 1));
        sql.push(')');
        values.extend(filter.status.iter().map(|s| Value::Text(s.as_str().into())));
    }
    if let Some(before) = filter.before {
        sql.push_str(" AND id < ?");
        values.push(Value::Blob(before.bits().to_be_bytes().to_vec()));
    }
    sql.push_str(" ORDER BY id DESC LIMIT ?");
    values.push(Value::Integer(i64::from(filter.limit)));
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |r| Ok(from_row(r)))?;
    rows.map(|row| row?).collect()
}

/// See [`crate::Store::task_change`].
pub(super) fn change(tx: &Connection, change: &TaskChange) -> Result<Changed, Fault> {
    let (task, now) = (&change.applied.task, change.now);
    let stored = load(tx, task.id)?;
    let control = control(tx, task.id)?;
    if let Some(epoch) = change.epoch
        && (epoch.0 != control.epoch || !control.leased)
    {
        return Ok(Changed::Fenced);
    }
    if stored.version + 1 != task.version {
        return Ok(Changed::Lost(Box::new(stored)));
    }
    if change.applied.slots == Slots::Take
        && let Some(lacking) = slot::lacking(tx, &stored, &change.scopes, now)?
    {
        refuse(tx, &stored, control.waits, &lacking, now)?;
        return Ok(Changed::NoSlot(lacking.scope));
    }

    save(tx, task, rule::wake_after_change(task, stored.wake_at, control.woken))?;
    if task.attempt != stored.attempt {
        tx.prepare_cached("UPDATE task SET attempt_events = 0, attempt_cut = 0 WHERE id = ?1")?
            .execute([Bits::from(task.id)])?;
    }
    let first = append(tx, task.id, &change.applied.events, now)?;
    outbox::add(tx, task.id, first, &change.outbox, now)?;
    slots(tx, change, &stored, control.waits)?;
    if let Some(StopSession { task: of, attempt, session }) = &change.applied.stop {
        let duty = Duty::StopSession { attempt: *attempt, session: session.clone() };
        obligation::add(tx, rule::obligation_id(*of, task.version, now), *of, &duty, now)?;
    }
    if rule::seals_trace(stored.status(), task) {
        obligation::add(tx, rule::seal_id(task.id, task.version, now), task.id, &Duty::SealTrace, now)?;
    }
    if let Some(record) = &change.pull_request {
        pull_request::put(tx, record)?;
    }
    Ok(Changed::Applied(Box::new(load(tx, task.id)?)))
}

/// Takes or gives back slots, and wakes whoever may have one now.
fn slots(
    tx: &Connection,
    change: &TaskChange,
    stored: &Task,
    waits: Option<ScopeLimit>,
) -> Result<(), Fault> {
    let (task, now) = (&change.applied.task, change.now);
    match change.applied.slots {
        Slots::Keep => (),
        Slots::Take => {
            slot::take(tx, task.id, &change.scopes)?;
            wait_for(tx, task.id, None)?;
            for wanted in &change.scopes {
                slot::wake_head_if_room(tx, wanted, now)?;
            }
        }
        Slots::Free => {
            slot::give_back(tx, task.id)?;
            wait_for(tx, task.id, None)?;
            for scope in rule::scopes(stored) {
                slot::wake_head(tx, &scope, now)?;
            }
        }
    }
    // A slot may have become free between the refusal and now, when this task was not in the queue to be woken.
    if waits_for_slot(task) && !waits_for_slot(stored) && change.applied.slots == Slots::Keep {
        let lost = match &waits {
            Some(waits) => slot::free(tx, task, waits, now)?,
            None => true,
        };
        if lost {
            wake(tx, task.id, now)?;
        }
    }
    Ok(())
}

/// Remembers where a task was refused. The task it no longer stands before may go on.
fn refuse(
    tx: &Connection,
    task: &Task,
    before: Option<ScopeLimit>,
    lacking: &ScopeLimit,
    now: Timestamp,
) -> Result<(), Fault> {
    if before.as_ref() == Some(lacking) {
        return Ok(());
    }
    wait_for(tx, task.id, Some(lacking))?;
    if waits_for_slot(task) {
        for scope in rule::scopes(task) {
            let stood_here = before.as_ref().is_none_or(|before| before.scope == scope);
            if stood_here && scope != lacking.scope {
                slot::wake_head(tx, &scope, now)?;
            }
        }
    }
    Ok(())
}

fn wait_for(tx: &Connection, task: TaskId, scope: Option<&ScopeLimit>) -> Result<(), Fault> {
    tx.prepare_cached("UPDATE task SET waits_for = ?2, waits_limit = ?3 WHERE id = ?1")?.execute(params![
        Bits::from(task),
        scope.map(|s| s.scope.to_string()),
        scope.map(|s| s.limit)
    ])?;
    Ok(())
}

fn waits_for_slot(task: &Task) -> bool {
    matches!(task.state, State::Queued { why: QueueReason::ConcurrencyLimit, .. })
}

/// See [`crate::Store::task_wake`]. A task that has ended sleeps on.
pub(super) fn wake(tx: &Connection, task: TaskId, now: Timestamp) -> Result<(), Fault> {
    let sql = format!(
        "UPDATE task SET wake_at = min(ifnull(wake_at, ?2), ?2), woken = 1 WHERE id = ?1 AND status NOT IN ({})",
        ended()
    );
    tx.prepare_cached(&sql)?.execute(params![Bits::from(task), At(now)])?;
    Ok(())
}

/// The terminal states, for `IN (...)`.
pub(super) fn ended() -> String {
    rule::ENDED.map(|s| format!("'{s}'")).join(", ")
}

/// Whether the task is there.
pub(super) fn must_exist(db: &Connection, task: TaskId) -> Result<(), Fault> {
    let there = db.prepare_cached("SELECT 1 FROM task WHERE id = ?1")?.exists([Bits::from(task)])?;
    if there { Ok(()) } else { Err(Fault::NoSuchTask(task)) }
}

/// See [`crate::Store::queue_position`].
pub(super) fn queue_position(db: &Connection, task: TaskId) -> Result<Option<u64>, Fault> {
    let place: Option<Count> = db
        .prepare_cached(
            "SELECT 1 + (SELECT count(*) FROM task o WHERE o.status = 'QUEUED' AND o.user = t.user
               AND (o.created_at, o.id) < (t.created_at, t.id))
             FROM task t WHERE t.id = ?1 AND t.status = 'QUEUED'",
        )?
        .query_row([Bits::from(task)], |r| r.get(0))
        .optional()?;
    Ok(place.map(|c| c.0))
}

/// See [`crate::Store::mean_duration_s`].
pub(super) fn mean_duration_s(db: &Connection) -> Result<Option<f64>, Fault> {
    Ok(db
        .prepare_cached(
            "SELECT avg((completed_at - started_at) / 1e9) FROM (
               SELECT completed_at, started_at FROM task
               WHERE completed_at IS NOT NULL AND started_at IS NOT NULL ORDER BY completed_at DESC, id DESC LIMIT 50)",
        )?
        .query_row([], |r| r.get(0))?)
}

/// See [`crate::Store::task_counts`].
pub(super) fn counts(db: &Connection, user: Option<&UserId>) -> Result<Vec<(Status, u64)>, Fault> {
    let sql = match user {
        Some(_) => "SELECT status, count(*) FROM task WHERE user = ?1 GROUP BY status",
        None => "SELECT status, count(*) FROM task WHERE ?1 IS NULL GROUP BY status",
    };
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement
        .query_map([user.map(UserId::as_str)], |r| Ok((r.get::<_, String>(0)?, r.get::<_, Count>(1)?)))?;
    let mut counts = rows
        .map(|row| {
            let (name, count) = row?;
            Ok((status(&name)?, count.0))
        })
        .collect::<Result<Vec<_>, Fault>>()?;
    counts.sort();
    Ok(counts)
}

/// The state of its stored name.
pub(super) fn status(name: &str) -> Result<Status, Fault> {
    Status::from_wire(name).ok_or_else(|| Fault::Damaged(format!("unknown status {name:?}")))
}

fn control(tx: &Connection, id: TaskId) -> Result<Control, Fault> {
    tx.prepare_cached(
        "SELECT lease_epoch, lease_until IS NOT NULL, woken, waits_for, waits_limit FROM task WHERE id = ?1",
    )?
    .query_row([Bits::from(id)], |r| {
        let waits = r.get::<_, Option<String>>(3)?.zip(r.get::<_, Option<u32>>(4)?);
        Ok((r.get::<_, Count>(0)?.0, r.get(1)?, r.get::<_, bool>(2)?, waits))
    })
    .optional()?
    .map(|(epoch, leased, woken, waits)| {
        let waits = match waits {
            Some((scope, limit)) => Some(ScopeLimit { scope: slot::scope_of(&scope)?, limit }),
            None => None,
        };
        Ok(Control { epoch, leased, woken: if woken { Woken::Yes } else { Woken::No }, waits })
    })
    .unwrap_or(Err(Fault::NoSuchTask(id)))
}

/// Writes every column a change may touch; what was spent, the lease and the log are not among them.
fn save(tx: &Connection, task: &Task, wake_at: Option<Timestamp>) -> Result<(), Fault> {
    let (queue_reason, not_before) = match &task.state {
        State::Queued { why, not_before, .. } => (Some(why.as_str()), *not_before),
        State::PendingUploads { .. }
        | State::Submitted { .. }
        | State::Hydrating { .. }
        | State::Running { .. }
        | State::AwaitingApproval { .. }
        | State::Finalizing { .. }
        | State::Completed { .. }
        | State::Failed { .. }
        | State::Cancelled { .. }
        | State::TimedOut { .. } => (None, None),
    };
    let body = Body {
        channel: task.channel.clone(),
        spec: task.spec.clone(),
        branch: task.branch.clone(),
        updated_at: task.updated_at,
        queued_at: task.queued_at,
        admission_attempts: task.admission_attempts,
        state: task.state.clone(),
        results: task.results.clone(),
        leaving: task.leaving.clone(),
        parked_s: task.parked_s,
        losses: task.losses.clone(),
        retry_of: task.retry_of,
        attachments: task.attachments.clone(),
    };
    tx.prepare_cached(
        "UPDATE task SET status = ?2, version = ?3, attempt = ?4, started_at = ?5, completed_at = ?6, wake_at = ?7,
           queue_reason = ?8, not_before = ?9, body = ?10 WHERE id = ?1",
    )?
    .execute(params![
        Bits::from(task.id),
        task.status().as_str(),
        Count(task.version),
        task.attempt.0,
        task.started_at.map(At),
        task.completed_at.map(At),
        wake_at.map(At),
        queue_reason,
        not_before.map(At),
        serde_json::to_string(&body)?
    ])?;
    Ok(())
}

/// Appends events of the control plane; returns the number of the first.
fn append(tx: &Connection, task: TaskId, events: &[NewEvent], now: Timestamp) -> Result<u64, Fault> {
    let mut head = Head::load(tx, task)?;
    let first = head.seq + 1;
    for event in events {
        head.append(tx, event, By::ControlPlane, now)?;
    }
    if !events.is_empty() {
        head.save(tx)?;
    }
    Ok(first)
}

fn from_row(r: &Row<'_>) -> Result<Task, Fault> {
    let body: Body = serde_json::from_str(r.get_ref(15)?.as_str().map_err(rusqlite::Error::from)?)?;
    let count = |column| r.get::<_, Count>(column).map(|c| c.0);
    let at = |column| r.get::<_, Option<At>>(column).map(|at| at.map(|at| at.0));
    Ok(Task {
        id: r.get::<_, Bits>(0)?.task(),
        user: UserId::new(r.get::<_, String>(1)?),
        channel: body.channel,
        spec: body.spec,
        branch: body.branch,
        created_at: r.get::<_, At>(4)?.0,
        updated_at: body.updated_at,
        started_at: at(5)?,
        completed_at: at(6)?,
        queued_at: body.queued_at,
        admission_attempts: body.admission_attempts,
        state: body.state,
        attempt: Attempt(r.get(3)?),
        version: count(2)?,
        wake_at: at(7)?,
        results: body.results,
        leaving: body.leaving,
        parked_s: body.parked_s,
        losses: body.losses,
        retry_of: body.retry_of,
        attachments: body.attachments,
        spent: Spent {
            cost: MicroUsd(r.get(8)?),
            tokens: TokenCount {
                input: count(9)?,
                output: count(10)?,
                cache_read: count(11)?,
                cache_write: count(12)?,
            },
            calls: count(13)?,
            unpriced_calls: count(14)?,
        },
    })
}
