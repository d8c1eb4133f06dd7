//! The facts. The only crate that knows a table exists.
//!
//! [`Store`] is what everybody uses: it reads like the domain and wakes watchers. Beneath it is one seam, [`Driver`],
//! with one [`conformance`] suite that every driver passes. The default driver is SQLite ([`sqlite`]).
//!
//! A change is stored whole or not at all: the task's new state, its events, its slots, its obligations, its outbox rows
//! and the time the orchestrator must next look are one transaction. When a call returns `Ok`, it is on the disk.

pub mod access;
pub mod conformance;
pub mod driver;
pub mod hub;
pub mod memory;
pub mod record;
mod rule;
pub mod sqlite;

pub use access::AccessDriver;
pub use driver::{Driver, StoreError};
pub use record::*;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::event::Event;
use domain::steer::{Ask, Nudge};
use domain::task::Spent;
use domain::{Attempt, MicroUsd, NodeId, ObligationId, Task, TaskId, UserId};
use jiff::Timestamp;

use crate::hub::Hub;

/// The store: a driver and the hub that tells watchers that there is something new.
#[derive(Debug, Clone)]
pub struct Store {
    driver: Arc<dyn Driver>,
    hub: Hub,
    event_reads: Arc<AtomicU64>,
}

impl Store {
    /// A store on any driver.
    pub fn new(driver: Arc<dyn Driver>) -> Store {
        Store { driver, hub: Hub::default(), event_reads: Arc::default() }
    }

    /// The SQLite database at `path`, created and migrated as needed.
    pub async fn open_sqlite(path: &Path) -> Result<Store, StoreError> {
        Ok(Store::new(Arc::new(sqlite::SqliteDriver::open(path).await?)))
    }

    /// A store that lives in memory, for tests and simulation.
    pub fn in_memory() -> Store {
        Store::new(Arc::new(memory::MemoryDriver::default()))
    }

    /// Accepts a task, or answers with the one the same idempotency key made before.
    pub async fn task_create(&self, new: NewTask) -> Result<Created, StoreError> {
        let created = self.driver.task_create(new).await?;
        if let Created::New(task) = &created {
            self.hub.publish(task.id);
        }
        Ok(created)
    }

    /// Whether a user has used an idempotency key, with whatever request.
    pub async fn idempotency_known(&self, user: &UserId, key: &str) -> Result<bool, StoreError> {
        self.driver.idempotency_known(user, key).await
    }

    /// One task.
    pub async fn task_get(&self, id: TaskId) -> Result<Option<Task>, StoreError> {
        self.driver.task_get(id).await
    }

    /// Tasks newest first; full pages under any filter.
    pub async fn task_list(&self, filter: TaskFilter) -> Result<Vec<Task>, StoreError> {
        self.driver.task_list(filter).await
    }

    /// Stores a transition, if the task is still at the version it was computed from, the lease (when named) is still
    /// ours, and slots are free (when it takes them).
    pub async fn task_change(&self, change: TaskChange) -> Result<Changed, StoreError> {
        let id = change.applied.task.id;
        let changed = self.driver.task_change(change).await?;
        if let Changed::Applied(_) = changed {
            self.hub.publish(id);
        }
        Ok(changed)
    }

    /// Claims up to `limit` tasks whose time has come and which nobody holds; two callers never get the same one.
    pub async fn task_claim_due(
        &self,
        by: &NodeId,
        now: Timestamp,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        self.driver.task_claim_due(by, now, lease, limit).await
    }

    /// Claims one task, due or not, if nobody holds it.
    pub async fn task_claim(
        &self,
        task: TaskId,
        by: &NodeId,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<Claimed>, StoreError> {
        self.driver.task_claim(task, by, now, lease).await
    }

    /// Extends a lease; `false` when it is no longer ours.
    pub async fn lease_renew(
        &self,
        task: TaskId,
        epoch: Epoch,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        self.driver.lease_renew(task, epoch, until).await
    }

    /// Gives a lease back. `wake_at`, when given, replaces the time of the next look unless the task was changed (or
    /// woken) since `seen_version`.
    pub async fn lease_release(&self, release: LeaseRelease) -> Result<(), StoreError> {
        self.driver.lease_release(release).await
    }

    /// The earliest time at which a task nobody holds, or an obligation, is due.
    pub async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.driver.next_due().await
    }

    /// Makes a task due now (something happened that its next look should see).
    pub async fn task_wake(&self, task: TaskId, now: Timestamp) -> Result<(), StoreError> {
        self.driver.task_wake(task, now).await
    }

    /// Where a queued task stands, 1 is next; `None` when it is not queued.
    pub async fn queue_position(&self, task: TaskId) -> Result<Option<u64>, StoreError> {
        self.driver.queue_position(task).await
    }

    /// Mean seconds from start to end of the last tasks that ended; `None` before there is one.
    pub async fn mean_duration_s(&self) -> Result<Option<f64>, StoreError> {
        self.driver.mean_duration_s().await
    }

    /// Appends events of a box, dropping those whose client key is known. Refused whole when `attempt` is not the
    /// current one or the task has ended.
    pub async fn events_append(&self, append: EventAppend) -> Result<Appended, StoreError> {
        let id = append.task;
        let appended = self.driver.events_append(append).await?;
        match appended {
            // The last events of a flood are followed by one that says so.
            Appended::Stored { stored: 1.., .. } | Appended::LimitReached => self.hub.publish(id),
            Appended::Stored { stored: 0, .. } | Appended::Superseded => (),
        }
        Ok(appended)
    }

    /// Events of a task, in order.
    pub async fn events_read(&self, query: EventQuery) -> Result<Vec<Event>, StoreError> {
        self.event_reads.fetch_add(1, Ordering::Relaxed);
        self.driver.events_read(query).await
    }

    /// How often events were read since the store was opened.
    pub fn event_reads(&self) -> u64 {
        self.event_reads.load(Ordering::Relaxed)
    }

    /// A receiver that is marked changed whenever a task got events. Subscribe first, read then, or miss nothing twice.
    pub fn watch(&self, task: TaskId) -> hub::Watch {
        self.hub.watch(task)
    }

    /// Records one model call, once per call id: adds to what the task spent and appends its event.
    pub async fn usage_record(&self, usage: UsageRecord) -> Result<Spent, StoreError> {
        let id = usage.task;
        let spent = self.driver.usage_record(usage).await?;
        self.hub.publish(id);
        Ok(spent)
    }

    /// Dollars spent, one sum for each that is asked for, read at one moment.
    pub async fn spent(&self, asked: Vec<Spending>) -> Result<Vec<MicroUsd>, StoreError> {
        self.driver.spent(asked).await
    }

    /// What was spent, by user, repository, workflow, model or day; sorted by key.
    pub async fn usage_report(&self, of: Spending, by: UsageBy) -> Result<Vec<UsageRow>, StoreError> {
        self.driver.usage_report(of, by).await
    }

    /// Opens the session record of an attempt, before its box is started. Repeating it is harmless.
    pub async fn session_open(
        &self,
        task: TaskId,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.driver.session_open(task, attempt, now).await
    }

    /// Marks the session as attached by `instance`: the first instance wins, the same one may repeat.
    pub async fn session_attach(
        &self,
        task: TaskId,
        attempt: Attempt,
        instance: &str,
        now: Timestamp,
    ) -> Result<Attach, StoreError> {
        let attach = self.driver.session_attach(task, attempt, instance, now).await?;
        self.hub.publish(task);
        Ok(attach)
    }

    /// Records a sign of life.
    pub async fn session_heartbeat(
        &self,
        task: TaskId,
        attempt: Attempt,
        stage: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.driver.session_heartbeat(task, attempt, stage, now).await
    }

    /// The session record of an attempt.
    pub async fn session_get(
        &self,
        task: TaskId,
        attempt: Attempt,
    ) -> Result<Option<SessionRecord>, StoreError> {
        self.driver.session_get(task, attempt).await
    }

    /// When each of these sessions last showed that it lives, in their order.
    pub async fn session_beats(
        &self,
        sessions: Vec<(TaskId, Attempt)>,
    ) -> Result<Vec<Option<Timestamp>>, StoreError> {
        self.driver.session_beats(sessions).await
    }

    /// Adds to the counters of consecutive poll results; returns them. An error does not break a row of "ended".
    pub async fn session_polled(
        &self,
        task: TaskId,
        attempt: Attempt,
        poll: PollResult,
    ) -> Result<PollCounters, StoreError> {
        self.driver.session_polled(task, attempt, poll).await
    }

    /// Claims obligations that are due; one caller at a time has each, until `lease` has passed.
    pub async fn obligation_claim_due(
        &self,
        now: Timestamp,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Obligation>, StoreError> {
        self.driver.obligation_claim_due(now, lease, limit).await
    }

    /// The obligation was met.
    pub async fn obligation_done(&self, id: ObligationId) -> Result<(), StoreError> {
        self.driver.obligation_done(id).await
    }

    /// It was not: try again at `at`. `alarm` is set for what no retry will mend (it is kept and shown).
    pub async fn obligation_retry(
        &self,
        id: ObligationId,
        at: Timestamp,
        error: &str,
        alarm: Alarm,
    ) -> Result<(), StoreError> {
        self.driver.obligation_retry(id, at, error, alarm).await
    }

    /// Obligations that are still open.
    pub async fn obligation_list(&self) -> Result<Vec<Obligation>, StoreError> {
        self.driver.obligation_list().await
    }

    /// Claims outbox rows of one channel, longest due first; a task's rows in their order, one at a time.
    pub async fn outbox_claim(
        &self,
        channel: &str,
        now: Timestamp,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        self.driver.outbox_claim(channel, now, lease, limit).await
    }

    /// The delivery was made.
    pub async fn outbox_done(&self, id: i64) -> Result<(), StoreError> {
        self.driver.outbox_done(id).await
    }

    /// The delivery failed: try again at `at`.
    pub async fn outbox_retry(&self, id: i64, at: Timestamp, error: &str) -> Result<(), StoreError> {
        self.driver.outbox_retry(id, at, error).await
    }

    /// Records that a task's trace is whole, once per task, with the events that tell of it. It may be told after the task
    /// has ended, and is the last that is told of it. Answers what is recorded: this, or what was before.
    pub async fn trace_record(
        &self,
        record: TraceRecord,
        events: Vec<domain::event::NewEvent>,
        now: Timestamp,
    ) -> Result<TraceRecord, StoreError> {
        let id = record.task;
        let recorded = self.driver.trace_record(record, events, now).await?;
        self.hub.publish(id);
        Ok(recorded)
    }

    /// The record of a task's trace.
    pub async fn trace_get(&self, task: TaskId) -> Result<Option<TraceRecord>, StoreError> {
        self.driver.trace_get(task).await
    }

    /// Our record of a task's pull request.
    pub async fn pull_request_get(&self, task: TaskId) -> Result<Option<PullRequestRecord>, StoreError> {
        self.driver.pull_request_get(task).await
    }

    /// Tasks of `user` (all when `None`) by state, for metrics and tests.
    pub async fn task_counts(&self, user: Option<&UserId>) -> Result<Vec<(domain::Status, u64)>, StoreError> {
        self.driver.task_counts(user).await
    }

    /// Slots that are held: scope and holder.
    pub async fn slot_list(&self) -> Result<Vec<(Scope, TaskId)>, StoreError> {
        self.driver.slot_list().await
    }

    /// Stores a nudge, unless the task has ended or was nudged too often. Watchers of the task are told.
    pub async fn nudge_add(&self, new: NewNudge) -> Result<Nudged, StoreError> {
        let id = new.task;
        let nudged = self.driver.nudge_add(new).await?;
        if let Nudged::Stored(_) = nudged {
            self.hub.publish(id);
        }
        Ok(nudged)
    }

    /// All nudges of a task, the oldest first.
    pub async fn nudge_list(&self, task: TaskId) -> Result<Vec<Nudge>, StoreError> {
        self.driver.nudge_list(task).await
    }

    /// Hands nudges to an attempt: the event that acknowledges them and the mark on them are one transaction, so that
    /// neither is without the other. A repeat gets the same nudges and causes no second event.
    pub async fn nudge_take(&self, take: NudgeTake) -> Result<NudgesTaken, StoreError> {
        let id = take.task;
        let taken = self.driver.nudge_take(take).await?;
        self.hub.publish(id);
        Ok(taken)
    }

    /// Stores a question with its event, unless the person has one open. Of a task that has ended, there is no event: its
    /// log is closed.
    pub async fn ask_open(&self, new: NewAsk) -> Result<Asked, StoreError> {
        let id = new.task;
        let asked = self.driver.ask_open(new).await?;
        self.hub.publish(id);
        Ok(asked)
    }

    /// Stores an answer with its event; the first one stays.
    pub async fn ask_answer(&self, answer: NewAnswer) -> Result<Answered, StoreError> {
        let id = answer.task;
        let answered = self.driver.ask_answer(answer).await?;
        self.hub.publish(id);
        Ok(answered)
    }

    /// All questions about a task, the oldest first.
    pub async fn ask_list(&self, task: TaskId) -> Result<Vec<Ask>, StoreError> {
        self.driver.ask_list(task).await
    }

    /// Tasks (of `user`, where one is named) that ended before `before` and owe nothing, the longest over first.
    pub async fn tasks_expired(
        &self,
        before: Timestamp,
        user: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<TaskId>, StoreError> {
        self.driver.tasks_expired(before, user, limit).await
    }

    /// Removes a task that has ended and owes nothing, with its events and everything else of it; `false` for any other.
    /// What was spent stays in the sums of its days.
    pub async fn task_purge(&self, task: TaskId) -> Result<bool, StoreError> {
        self.driver.task_purge(task).await
    }

    /// Removes what is kept for a shorter time than tasks are.
    pub async fn forget_expired(&self, expired: Expired) -> Result<Forgotten, StoreError> {
        self.driver.forget_expired(expired).await
    }

    /// Removes a user's keys and webhooks, and their name from sums and the audit log; `false`, and nothing is changed,
    /// while there is a task of theirs.
    pub async fn user_erase(&self, user: &UserId) -> Result<bool, StoreError> {
        self.driver.user_erase(user).await
    }

    /// A cheap write and read, for readiness.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.driver.check().await
    }
}
