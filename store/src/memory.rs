//! The store in memory, for simulation and for the model that the other drivers are compared with.
//!
//! Written to be read: maps under one mutex, each operation from top to bottom as its sentence on [`crate::Store`] says.
//! It uses no clock, no thread and no randomness, so a run with the same inputs gives the same ids.

mod access;
mod purge;
mod queue;
mod spending;
mod steer;
mod table;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::event::Event;
use domain::steer::{Ask, Nudge};
use domain::task::Spent;
use domain::transition::{Slots, StopSession, after};
use domain::{Attempt, MicroUsd, NodeId, ObligationId, Status, Task, TaskId, UserId};
use jiff::Timestamp;

use self::table::{By, LeaseRow, OutboxEntry, Row, Tables};
use crate::access::AccessDriver;
use crate::driver::{Driver, StoreError};
use crate::record::*;
use crate::rule::{self, Woken};

/// The store in memory.
#[derive(Debug, Default)]
pub struct MemoryDriver {
    tables: Mutex<Tables>,
}

impl MemoryDriver {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Driver for MemoryDriver {
    async fn task_create(&self, new: NewTask) -> Result<Created, StoreError> {
        let mut t = self.lock();
        let id = new.task.id;
        if let Some(claim) = &new.idempotency
            && let Some((hash, made)) = t.idempotency.get(&(new.task.user.clone(), claim.key.clone()))
        {
            return Ok(if *hash == claim.body_hash {
                Created::Replay(Box::new(t.row(*made)?.task.clone()))
            } else {
                Created::KeyConflict(*made)
            });
        }
        if t.tasks.contains_key(&id) {
            return Err(StoreError::Damaged {
                doing: format!("storing new task {id}"),
                reason: "it is there already".into(),
            });
        }
        let now = new.task.created_at;
        if let Some(claim) = new.idempotency {
            t.idempotency.insert((new.task.user.clone(), claim.key), (claim.body_hash, id));
        }
        t.tasks.insert(id, Row::new(Task { spent: Spent::default(), ..new.task }));
        let first = t.append(id, &new.events, now)?;
        t.outbox_add(id, first, new.outbox, now);
        Ok(Created::New(Box::new(t.row(id)?.task.clone())))
    }

    async fn idempotency_known(&self, user: &UserId, key: &str) -> Result<bool, StoreError> {
        Ok(self.lock().idempotency.contains_key(&(user.clone(), key.to_owned())))
    }

    async fn task_get(&self, id: TaskId) -> Result<Option<Task>, StoreError> {
        Ok(self.lock().tasks.get(&id).map(|row| row.task.clone()))
    }

    async fn task_list(&self, filter: TaskFilter) -> Result<Vec<Task>, StoreError> {
        let wanted = |task: &Task| {
            filter.user.as_ref().is_none_or(|user| *user == task.user)
                && (filter.among.is_empty() || filter.among.contains(&task.user))
                && filter.repo.as_ref().is_none_or(|repo| *repo == task.spec.repo)
                && (filter.status.is_empty() || filter.status.contains(&task.status()))
                && filter.before.is_none_or(|before| task.id < before)
        };
        let t = self.lock();
        Ok(t.tasks
            .values()
            .rev()
            .map(|row| &row.task)
            .filter(|task| wanted(task))
            .take(filter.limit as usize)
            .cloned()
            .collect())
    }

    async fn task_change(&self, change: TaskChange) -> Result<Changed, StoreError> {
        let mut t = self.lock();
        let (task, now) = (change.applied.task, change.now);
        let id = task.id;
        let stored = t.row(id)?.clone();
        if change.epoch.is_some_and(|epoch| epoch != stored.epoch || stored.lease.is_none()) {
            return Ok(Changed::Fenced);
        }
        if stored.task.version + 1 != task.version {
            return Ok(Changed::Lost(Box::new(stored.task)));
        }
        if change.applied.slots == Slots::Take
            && let Some(lacking) = t.lacking(&stored.task, &change.scopes, now)
        {
            t.refuse(&stored, &lacking, now);
            return Ok(Changed::NoSlot(lacking.scope));
        }

        let row = t.row_mut(id)?;
        let wake_at = rule::wake_after_change(&task, stored.task.wake_at, stored.woken);
        let before = &stored.task;
        let before_status = before.status();
        // What a change may not touch stays as it is stored.
        row.task = Task {
            wake_at,
            spent: before.spent,
            user: before.user.clone(),
            created_at: before.created_at,
            ..task
        };
        if row.task.attempt != before.attempt {
            row.attempt_events = 0;
            row.attempt_cut = false;
        }
        let task = row.task.clone();
        let first = t.append(id, &change.applied.events, now)?;
        t.outbox_add(id, first, change.outbox, now);
        t.change_slots(change.applied.slots, &task, &stored, &change.scopes, now)?;
        if let Some(StopSession { task: of, attempt, session }) = change.applied.stop {
            let obligation = Obligation {
                id: rule::obligation_id(of, task.version, now),
                task: of,
                duty: Duty::StopSession { attempt, session },
                created_at: now,
                tries: 0,
                due_at: now,
                last_error: None,
                alarm: Alarm::Off,
            };
            t.obligations.insert(obligation.id, obligation);
        }
        if rule::seals_trace(before_status, &task) {
            let sealing = Obligation {
                id: rule::seal_id(id, task.version, now),
                task: id,
                duty: Duty::SealTrace,
                created_at: now,
                tries: 0,
                due_at: now,
                last_error: None,
                alarm: Alarm::Off,
            };
            t.obligations.insert(sealing.id, sealing);
        }
        if let Some(record) = change.pull_request {
            t.pull_requests.insert(record.task, record);
        }
        Ok(Changed::Applied(Box::new(t.row(id)?.task.clone())))
    }

    async fn task_claim_due(
        &self,
        by: &NodeId,
        now: Timestamp,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        let mut t = self.lock();
        let mut due: Vec<_> = t
            .tasks
            .values()
            .filter(|row| row.is_free(now))
            .filter_map(|row| row.task.wake_at.filter(|at| *at <= now).map(|at| (at, row.task.id)))
            .collect();
        due.sort();
        due.truncate(limit as usize);
        due.into_iter().map(|(_, id)| Ok(t.row_mut(id)?.claim(by, after(now, lease)))).collect()
    }

    async fn task_claim(
        &self,
        id: TaskId,
        by: &NodeId,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<Claimed>, StoreError> {
        let mut t = self.lock();
        Ok(t.tasks.get_mut(&id).filter(|row| row.is_free(now)).map(|row| row.claim(by, after(now, lease))))
    }

    async fn lease_renew(&self, id: TaskId, epoch: Epoch, until: Timestamp) -> Result<bool, StoreError> {
        let mut t = self.lock();
        Ok(match t.tasks.get_mut(&id) {
            Some(Row { lease: Some(lease), epoch: ours, .. }) if *ours == epoch => {
                lease.until = until;
                true
            }
            Some(_) | None => false,
        })
    }

    async fn lease_release(&self, release: LeaseRelease) -> Result<(), StoreError> {
        let mut t = self.lock();
        if let Some(row) = t.tasks.get_mut(&release.task)
            && row.lease.is_some()
            && row.epoch == release.epoch
        {
            row.lease = None;
            let undisturbed = row.task.version == release.seen_version && row.woken == Woken::No;
            if let Some(at) = release.wake_at
                && undisturbed
                && !row.task.status().is_terminal()
            {
                row.task.wake_at = Some(at);
            }
        }
        Ok(())
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let t = self.lock();
        let tasks = t.tasks.values().filter_map(|row| {
            let at = row.task.wake_at?;
            Some(row.lease.as_ref().map_or(at, |lease| lease.until.max(at)))
        });
        Ok(tasks.chain(t.obligations.values().map(|o| o.due_at)).min())
    }

    async fn task_wake(&self, id: TaskId, now: Timestamp) -> Result<(), StoreError> {
        self.lock().row_mut(id)?.wake(now);
        Ok(())
    }

    async fn queue_position(&self, id: TaskId) -> Result<Option<u64>, StoreError> {
        let t = self.lock();
        let queued = |row: &&Row| row.task.status() == Status::Queued;
        Ok(t.tasks.get(&id).filter(queued).map(|Row { task, .. }| {
            let before = t.tasks.values().filter(queued).filter(|row| {
                row.task.user == task.user && (row.task.created_at, row.task.id) < (task.created_at, task.id)
            });
            before.count() as u64 + 1
        }))
    }

    async fn mean_duration_s(&self) -> Result<Option<f64>, StoreError> {
        let t = self.lock();
        let mut ended: Vec<_> = t
            .tasks
            .values()
            .filter_map(|Row { task, .. }| {
                let (from, to) = (task.started_at?, task.completed_at?);
                Some((to, task.id, (to.as_nanosecond() - from.as_nanosecond()) as f64 / 1e9))
            })
            .collect();
        ended.sort_by_key(|(at, id, _)| std::cmp::Reverse((*at, *id)));
        ended.truncate(50);
        let count = ended.len();
        Ok((count > 0).then(|| ended.into_iter().map(|(_, _, s)| s).sum::<f64>() / count as f64))
    }

    async fn events_append(&self, append: EventAppend) -> Result<Appended, StoreError> {
        let mut t = self.lock();
        let row = t.row_mut(append.task)?;
        if row.task.status().is_terminal() || row.task.attempt != append.attempt {
            return Ok(Appended::Superseded);
        }
        let (mut stored, mut duplicates, mut dropped) = (0, 0, 0);
        for event in &append.events {
            let known = event
                .client_key
                .as_ref()
                .is_some_and(|key| row.client_keys.contains(&(append.attempt, key.clone())));
            if known {
                duplicates += 1;
            } else if row.attempt_events < append.attempt_limit {
                row.push(event, By::Box, append.now);
                row.attempt_events += 1;
                stored += 1;
            } else {
                dropped += 1;
            }
        }
        if dropped == 0 {
            return Ok(Appended::Stored { stored, duplicates });
        }
        if !row.attempt_cut {
            row.attempt_cut = true;
            row.push(&rule::events_dropped(append.attempt_limit), By::ControlPlane, append.now);
        }
        Ok(Appended::LimitReached)
    }

    async fn events_read(&self, query: EventQuery) -> Result<Vec<Event>, StoreError> {
        let t = self.lock();
        let Some(row) = t.tasks.get(&query.task) else { return Ok(Vec::new()) };
        let events = row.events.iter();
        let limit = query.limit as usize;
        Ok(match query.from {
            EventCursor::Start => events.take(limit).cloned().collect(),
            EventCursor::AfterSeq(seq) => events.filter(|e| e.seq > seq).take(limit).cloned().collect(),
            EventCursor::AfterId(id) => events.filter(|e| e.id > id).take(limit).cloned().collect(),
            EventCursor::Newest => events.rev().take(limit).cloned().collect(),
        })
    }

    async fn usage_record(&self, usage: UsageRecord) -> Result<Spent, StoreError> {
        let mut t = self.lock();
        t.row(usage.task)?;
        let new = t.calls.insert(usage.call_id.clone());
        let row = t.row_mut(usage.task)?;
        if new {
            let spent = &mut row.task.spent;
            spent.cost = spent.cost + usage.cost.unwrap_or_default();
            spent.tokens = spent.tokens + usage.tokens;
            spent.calls += 1;
            spent.unpriced_calls += u64::from(usage.cost.is_none());
            let event = usage.event_with(row.task.spent);
            row.push(&event, By::ControlPlane, usage.now);
            let task = row.task.clone();
            t.spend(&task, &usage);
        }
        Ok(t.row(usage.task)?.task.spent)
    }

    async fn spent(&self, asked: Vec<Spending>) -> Result<Vec<MicroUsd>, StoreError> {
        Ok(self.lock().spent(&asked))
    }

    async fn usage_report(&self, of: Spending, by: UsageBy) -> Result<Vec<UsageRow>, StoreError> {
        Ok(self.lock().usage_report(&of, by))
    }

    async fn session_open(&self, id: TaskId, attempt: Attempt, now: Timestamp) -> Result<(), StoreError> {
        let mut t = self.lock();
        t.row(id)?;
        t.sessions.entry((id, attempt)).or_insert_with(|| SessionRecord {
            task: id,
            attempt,
            opened_at: now,
            instance: None,
            attached_at: None,
            heartbeat_at: None,
            stage: None,
            polls: PollCounters::default(),
        });
        Ok(())
    }

    async fn session_attach(
        &self,
        id: TaskId,
        attempt: Attempt,
        instance: &str,
        now: Timestamp,
    ) -> Result<Attach, StoreError> {
        let mut t = self.lock();
        let task = &t.row(id)?.task;
        if task.status().is_terminal() || task.attempt != attempt {
            return Ok(Attach::Superseded);
        }
        let Some(session) = t.sessions.get_mut(&(id, attempt)) else { return Ok(Attach::Superseded) };
        if session.instance.as_ref().is_some_and(|first| first != instance) {
            return Ok(Attach::Taken);
        }
        session.instance = Some(instance.to_owned());
        session.attached_at = session.attached_at.or(Some(now));
        session.heartbeat_at = Some(now);
        Ok(Attach::Attached)
    }

    async fn session_heartbeat(
        &self,
        id: TaskId,
        attempt: Attempt,
        stage: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if let Some(session) = self.lock().sessions.get_mut(&(id, attempt)) {
            session.heartbeat_at = Some(now);
            session.stage = Some(stage.to_owned());
        }
        Ok(())
    }

    async fn session_get(&self, id: TaskId, attempt: Attempt) -> Result<Option<SessionRecord>, StoreError> {
        Ok(self.lock().sessions.get(&(id, attempt)).cloned())
    }

    async fn session_beats(
        &self,
        sessions: Vec<(TaskId, Attempt)>,
    ) -> Result<Vec<Option<Timestamp>>, StoreError> {
        let t = self.lock();
        Ok(sessions.iter().map(|session| t.sessions.get(session).and_then(|s| s.heartbeat_at)).collect())
    }

    async fn session_polled(
        &self,
        id: TaskId,
        attempt: Attempt,
        poll: PollResult,
    ) -> Result<PollCounters, StoreError> {
        let mut t = self.lock();
        Ok(match t.sessions.get_mut(&(id, attempt)) {
            Some(session) => {
                session.polls = rule::polled(session.polls, poll);
                session.polls
            }
            None => rule::polled(PollCounters::default(), poll),
        })
    }

    async fn obligation_claim_due(
        &self,
        now: Timestamp,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Obligation>, StoreError> {
        let mut t = self.lock();
        let mut due: Vec<_> = t.obligations.values_mut().filter(|o| o.due_at <= now).collect();
        due.sort_by_key(|o| (o.due_at, o.id));
        Ok(due
            .into_iter()
            .take(limit as usize)
            .map(|o| {
                o.due_at = after(now, lease);
                o.tries += 1;
                o.clone()
            })
            .collect())
    }

    async fn obligation_done(&self, id: ObligationId) -> Result<(), StoreError> {
        self.lock().obligations.remove(&id);
        Ok(())
    }

    async fn obligation_retry(
        &self,
        id: ObligationId,
        at: Timestamp,
        error: &str,
        alarm: Alarm,
    ) -> Result<(), StoreError> {
        if let Some(o) = self.lock().obligations.get_mut(&id) {
            o.due_at = at;
            o.last_error = Some(error.to_owned());
            o.alarm = alarm;
        }
        Ok(())
    }

    async fn obligation_list(&self) -> Result<Vec<Obligation>, StoreError> {
        Ok(self.lock().obligations.values().cloned().collect())
    }

    async fn outbox_claim(
        &self,
        channel: &str,
        now: Timestamp,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let mut t = self.lock();
        let mut first_of = std::collections::BTreeSet::new();
        let mut due: Vec<_> = t
            .outbox
            .iter_mut()
            .filter(|(_, row)| row.channel == channel)
            // The first row of each task is the only one that may be taken.
            .filter(|(_, row)| first_of.insert(row.task))
            .filter(|(_, row)| row.due_at <= now)
            .collect();
        due.sort_by_key(|(id, row)| (row.due_at, **id));
        let claimed: Vec<_> = due
            .into_iter()
            .take(limit as usize)
            .map(|(id, row)| {
                row.due_at = after(now, lease);
                row.tries += 1;
                (*id, row.clone())
            })
            .collect();
        claimed
            .into_iter()
            .map(|(id, OutboxEntry { channel, task, seq, tries, .. })| {
                let event = t.event(task, seq)?;
                Ok(OutboxRow { id, channel, event, tries })
            })
            .collect()
    }

    async fn outbox_done(&self, id: i64) -> Result<(), StoreError> {
        self.lock().outbox.remove(&id);
        Ok(())
    }

    async fn outbox_retry(&self, id: i64, at: Timestamp, _error: &str) -> Result<(), StoreError> {
        if let Some(row) = self.lock().outbox.get_mut(&id) {
            row.due_at = at;
        }
        Ok(())
    }

    async fn trace_record(
        &self,
        record: TraceRecord,
        events: Vec<domain::event::NewEvent>,
        now: Timestamp,
    ) -> Result<TraceRecord, StoreError> {
        let mut t = self.lock();
        t.row(record.task)?;
        if let Some(there) = t.traces.get(&record.task) {
            return Ok(there.clone());
        }
        t.traces.insert(record.task, record.clone());
        let row = t.row_mut(record.task)?;
        events.iter().for_each(|event| row.push(event, By::ControlPlane, now));
        Ok(record)
    }

    async fn trace_get(&self, id: TaskId) -> Result<Option<TraceRecord>, StoreError> {
        Ok(self.lock().traces.get(&id).cloned())
    }

    async fn pull_request_get(&self, id: TaskId) -> Result<Option<PullRequestRecord>, StoreError> {
        Ok(self.lock().pull_requests.get(&id).cloned())
    }

    async fn task_counts(&self, user: Option<&UserId>) -> Result<Vec<(Status, u64)>, StoreError> {
        let mut counts = std::collections::BTreeMap::new();
        for Row { task, .. } in self.lock().tasks.values() {
            if user.is_none_or(|user| *user == task.user) {
                *counts.entry(task.status()).or_insert(0) += 1;
            }
        }
        Ok(counts.into_iter().collect())
    }

    async fn slot_list(&self) -> Result<Vec<(Scope, TaskId)>, StoreError> {
        Ok(self.lock().slots.iter().cloned().collect())
    }

    fn access(&self) -> &dyn AccessDriver {
        self
    }

    async fn nudge_add(&self, new: NewNudge) -> Result<Nudged, StoreError> {
        self.lock().nudge_add(new)
    }

    async fn nudge_list(&self, id: TaskId) -> Result<Vec<Nudge>, StoreError> {
        Ok(self.lock().nudges.iter().filter(|n| n.task == id).cloned().collect())
    }

    async fn nudge_take(&self, take: NudgeTake) -> Result<NudgesTaken, StoreError> {
        self.lock().nudge_take(&take)
    }

    async fn ask_open(&self, new: NewAsk) -> Result<Asked, StoreError> {
        self.lock().ask_open(&new)
    }

    async fn ask_answer(&self, answer: NewAnswer) -> Result<Answered, StoreError> {
        self.lock().ask_answer(&answer)
    }

    async fn ask_list(&self, id: TaskId) -> Result<Vec<Ask>, StoreError> {
        Ok(self.lock().asks.iter().filter(|a| a.task == id).cloned().collect())
    }

    async fn tasks_expired(
        &self,
        before: Timestamp,
        user: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<TaskId>, StoreError> {
        Ok(self.lock().expired(before, user, limit))
    }

    async fn task_purge(&self, task: TaskId) -> Result<bool, StoreError> {
        Ok(self.lock().purge(task))
    }

    async fn forget_expired(&self, expired: Expired) -> Result<Forgotten, StoreError> {
        Ok(self.lock().forget(&expired))
    }

    async fn user_erase(&self, user: &UserId) -> Result<bool, StoreError> {
        Ok(self.lock().erase(user))
    }

    async fn check(&self) -> Result<(), StoreError> {
        drop(self.lock());
        Ok(())
    }
}

impl Row {
    fn claim(&mut self, by: &NodeId, until: Timestamp) -> Claimed {
        self.epoch = Epoch(self.epoch.0 + 1);
        self.lease = Some(LeaseRow { _owner: by.clone(), until });
        self.woken = Woken::No;
        Claimed { task: self.task.clone(), epoch: self.epoch }
    }
}
