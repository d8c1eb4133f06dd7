//! The seam beneath the store: what a database must be able to do, and how it may fail.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use domain::event::Event;
use domain::steer::{Ask, Nudge};
use domain::task::Spent;
use domain::{Attempt, MicroUsd, NodeId, ObligationId, Task, TaskId, UserId};
use jiff::Timestamp;

use crate::access::AccessDriver;
use crate::record::*;

/// What the store could not do. The variants are what a caller branches on.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached or is busy: the same call may succeed later.
    #[error("{doing}: the database is unavailable: {reason}")]
    Unavailable {
        /// The operation and its object.
        doing: String,
        /// Why.
        reason: String,
    },
    /// The disk is full or read-only: a person must act. Nothing was stored.
    #[error("{doing}: cannot write {path}: {reason}; free some space or make it writable, nothing was lost")]
    NotWritable {
        /// The operation and its object.
        doing: String,
        /// The database file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The database was made by a newer version of the product.
    #[error(
        "{path} has schema version {found}, this program knows up to {known}; run the newer bgagent, or restore a backup made before the upgrade"
    )]
    Newer {
        /// The database file.
        path: String,
        /// Its schema version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// What is stored is not what this program wrote.
    #[error("{doing}: the stored data is damaged: {reason}")]
    Damaged {
        /// The operation and its object.
        doing: String,
        /// What is wrong.
        reason: String,
    },
    /// There is no such task.
    #[error("there is no task {0}")]
    NoSuchTask(TaskId),
}

/// A database engine. Each method is documented on [`crate::Store`], which is what callers use.
#[async_trait]
pub trait Driver: Send + Sync + fmt::Debug {
    /// Accepts a task, or answers with the one the same idempotency key made before.
    async fn task_create(&self, new: NewTask) -> Result<Created, StoreError>;
    /// Whether a user has used an idempotency key.
    async fn idempotency_known(&self, user: &UserId, key: &str) -> Result<bool, StoreError>;
    /// One task.
    async fn task_get(&self, id: TaskId) -> Result<Option<Task>, StoreError>;
    /// Tasks newest first; full pages under any filter.
    async fn task_list(&self, filter: TaskFilter) -> Result<Vec<Task>, StoreError>;
    /// Stores a transition, if the task is still at the version it was computed from, the lease (when named) is still
    /// ours, and slots are free (when it takes them).
    async fn task_change(&self, change: TaskChange) -> Result<Changed, StoreError>;
    /// Claims up to `limit` tasks whose time has come and which nobody holds; two callers never get the same one.
    async fn task_claim_due(
        &self,
        by: &NodeId,
        now: Timestamp,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError>;
    /// Claims one task, due or not, if nobody holds it.
    async fn task_claim(
        &self,
        task: TaskId,
        by: &NodeId,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<Claimed>, StoreError>;
    /// Extends a lease; `false` when it is no longer ours.
    async fn lease_renew(&self, task: TaskId, epoch: Epoch, until: Timestamp) -> Result<bool, StoreError>;
    /// Gives a lease back. `wake_at`, when given, replaces the time of the next look unless the task was changed (or
    /// woken) since `seen_version`.
    async fn lease_release(&self, release: LeaseRelease) -> Result<(), StoreError>;
    /// The earliest time at which a task nobody holds, or an obligation, is due.
    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError>;
    /// Makes a task due now (something happened that its next look should see).
    async fn task_wake(&self, task: TaskId, now: Timestamp) -> Result<(), StoreError>;
    /// Where a queued task stands, 1 is next; `None` when it is not queued.
    async fn queue_position(&self, task: TaskId) -> Result<Option<u64>, StoreError>;
    /// Mean seconds from start to end of the last tasks that ended; `None` before there is one.
    async fn mean_duration_s(&self) -> Result<Option<f64>, StoreError>;
    /// Appends events of a box, dropping those whose client key is known. Refused whole when `attempt` is not the
    /// current one or the task has ended.
    async fn events_append(&self, append: EventAppend) -> Result<Appended, StoreError>;
    /// Events of a task, in order.
    async fn events_read(&self, query: EventQuery) -> Result<Vec<Event>, StoreError>;
    /// Records one model call, once per call id: adds to what the task spent and appends its event.
    async fn usage_record(&self, usage: UsageRecord) -> Result<Spent, StoreError>;
    /// Dollars spent, one sum for each that is asked for.
    async fn spent(&self, asked: Vec<Spending>) -> Result<Vec<MicroUsd>, StoreError>;
    /// What was spent, by what; sorted by key.
    async fn usage_report(&self, of: Spending, by: UsageBy) -> Result<Vec<UsageRow>, StoreError>;
    /// Opens the session record of an attempt, before its box is started. Repeating it is harmless.
    async fn session_open(&self, task: TaskId, attempt: Attempt, now: Timestamp) -> Result<(), StoreError>;
    /// Marks the session as attached by `instance`: the first instance wins, the same one may repeat.
    async fn session_attach(
        &self,
        task: TaskId,
        attempt: Attempt,
        instance: &str,
        now: Timestamp,
    ) -> Result<Attach, StoreError>;
    /// Records a sign of life.
    async fn session_heartbeat(
        &self,
        task: TaskId,
        attempt: Attempt,
        stage: &str,
        now: Timestamp,
    ) -> Result<(), StoreError>;
    /// The session record of an attempt.
    async fn session_get(&self, task: TaskId, attempt: Attempt) -> Result<Option<SessionRecord>, StoreError>;
    /// When each of these sessions last showed that it lives, in their order.
    async fn session_beats(
        &self,
        sessions: Vec<(TaskId, Attempt)>,
    ) -> Result<Vec<Option<Timestamp>>, StoreError>;
    /// Adds to the counters of consecutive poll results; returns them. An error does not break a row of "ended".
    async fn session_polled(
        &self,
        task: TaskId,
        attempt: Attempt,
        poll: PollResult,
    ) -> Result<PollCounters, StoreError>;
    /// Claims obligations that are due; one caller at a time has each, until `lease` has passed.
    async fn obligation_claim_due(
        &self,
        now: Timestamp,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Obligation>, StoreError>;
    /// The obligation was met.
    async fn obligation_done(&self, id: ObligationId) -> Result<(), StoreError>;
    /// It was not: try again at `at`. `alarm` is set for what no retry will mend (it is kept and shown).
    async fn obligation_retry(
        &self,
        id: ObligationId,
        at: Timestamp,
        error: &str,
        alarm: Alarm,
    ) -> Result<(), StoreError>;
    /// Obligations that are still open.
    async fn obligation_list(&self) -> Result<Vec<Obligation>, StoreError>;
    /// Claims outbox rows of one channel, longest due first; a task's rows in their order, one at a time.
    async fn outbox_claim(
        &self,
        channel: &str,
        now: Timestamp,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, StoreError>;
    /// The delivery was made.
    async fn outbox_done(&self, id: i64) -> Result<(), StoreError>;
    /// The delivery failed: try again at `at`.
    async fn outbox_retry(&self, id: i64, at: Timestamp, error: &str) -> Result<(), StoreError>;
    /// Records that a task's trace is whole, once per task, with the events that tell of it; answers what is recorded.
    async fn trace_record(
        &self,
        record: TraceRecord,
        events: Vec<domain::event::NewEvent>,
        now: Timestamp,
    ) -> Result<TraceRecord, StoreError>;
    /// The record of a task's trace.
    async fn trace_get(&self, task: TaskId) -> Result<Option<TraceRecord>, StoreError>;
    /// Our record of a task's pull request.
    async fn pull_request_get(&self, task: TaskId) -> Result<Option<PullRequestRecord>, StoreError>;
    /// Tasks of `user` (all when `None`) by state, for metrics and tests.
    async fn task_counts(&self, user: Option<&UserId>) -> Result<Vec<(domain::Status, u64)>, StoreError>;
    /// Slots that are held: scope and holder.
    async fn slot_list(&self) -> Result<Vec<(Scope, TaskId)>, StoreError>;
    /// The part that keeps keys, webhooks and the audit log.
    fn access(&self) -> &dyn AccessDriver;
    /// Stores a nudge, unless the task has ended or was nudged too often.
    async fn nudge_add(&self, new: NewNudge) -> Result<Nudged, StoreError>;
    /// All nudges of a task, the oldest first.
    async fn nudge_list(&self, task: TaskId) -> Result<Vec<Nudge>, StoreError>;
    /// Hands nudges to an attempt: the event that acknowledges them and the mark on them are one transaction.
    async fn nudge_take(&self, take: NudgeTake) -> Result<NudgesTaken, StoreError>;
    /// Stores a question with its event, unless the person has one open.
    async fn ask_open(&self, new: NewAsk) -> Result<Asked, StoreError>;
    /// Stores an answer with its event; the first one stays.
    async fn ask_answer(&self, answer: NewAnswer) -> Result<Answered, StoreError>;
    /// All questions about a task, the oldest first.
    async fn ask_list(&self, task: TaskId) -> Result<Vec<Ask>, StoreError>;
    /// Tasks that ended before `before` and owe nothing, the longest over first.
    async fn tasks_expired(
        &self,
        before: Timestamp,
        user: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<TaskId>, StoreError>;
    /// Removes a task that has ended and owes nothing, with everything of it.
    async fn task_purge(&self, task: TaskId) -> Result<bool, StoreError>;
    /// Removes what is kept for a shorter time than tasks are.
    async fn forget_expired(&self, expired: Expired) -> Result<Forgotten, StoreError>;
    /// Removes what is left of a user without tasks.
    async fn user_erase(&self, user: &UserId) -> Result<bool, StoreError>;
    /// A cheap write and read, for readiness.
    async fn check(&self) -> Result<(), StoreError>;
}
