//! The default driver: one SQLite file in write-ahead mode, synced at every commit.
//!
//! One thread writes and shares a commit among all who wait; a few threads read. Operations are plain
//! functions on a connection, one file per resource; no transaction spans an await. Other processes may use the same
//! file: each write begins by taking SQLite's write lock, so every guarantee holds across processes too.
//!
//! Work happens on threads of its own, which a paused tokio clock does not see: under `start_paused` use the memory driver.

mod access;
mod event;
mod fault;
mod lease;
mod obligation;
mod outbox;
mod pull_request;
mod purge;
mod reader;
mod schema;
mod session;
mod slot;
pub mod snapshot;
mod spending;
mod steer;
mod task;
mod trace;
mod usage;
mod value;
mod writer;

pub use writer::Counters;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use domain::event::Event;
use domain::steer::{Ask, Nudge};
use domain::task::Spent;
use domain::{Attempt, MicroUsd, NodeId, ObligationId, Status, Task, TaskId, UserId};
use jiff::Timestamp;
use rusqlite::Connection;

use self::fault::Fault;
use self::reader::Readers;
use self::writer::Writer;
use crate::access::AccessDriver;
use crate::driver::{Driver, StoreError};
use crate::record::*;

/// Connections that read.
const READERS: usize = 2;

/// The store in one file.
#[derive(Debug)]
pub struct SqliteDriver {
    path: PathBuf,
    writer: Writer,
    readers: Readers,
}

impl SqliteDriver {
    /// Opens the file, creating and migrating it as needed.
    pub async fn open(path: &Path) -> Result<SqliteDriver, StoreError> {
        let owned = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || {
            let writer = schema::open_writer(&owned)?;
            let readers = (0..READERS).map(|_| schema::open_reader(&owned)).collect::<Result<Vec<_>, _>>()?;
            Ok::<_, Fault>((Writer::start(writer)?, Readers::start(readers)?))
        })
        .await
        .unwrap_or_else(|e| Err(Fault::Unavailable(format!("opening was interrupted: {e}"))));
        let (writer, readers) = opened.map_err(|f| f.during("opening the database".into(), path))?;
        Ok(SqliteDriver { path: path.to_owned(), writer, readers })
    }

    /// How many commits carried how many operations, since this was opened.
    pub fn counters(&self) -> Counters {
        self.writer.counters()
    }

    async fn write<T, F>(&self, doing: String, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        self.writer.run(work).await.map_err(|fault| fault.during(doing, &self.path))
    }

    async fn read<T, F>(&self, doing: String, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        self.readers.run(work).await.map_err(|fault| fault.during(doing, &self.path))
    }
}

#[async_trait]
impl Driver for SqliteDriver {
    async fn task_create(&self, new: NewTask) -> Result<Created, StoreError> {
        self.write(format!("storing new task {}", new.task.id), move |tx| task::create(tx, &new)).await
    }

    async fn idempotency_known(&self, user: &UserId, key: &str) -> Result<bool, StoreError> {
        let (user, key) = (user.clone(), key.to_owned());
        self.read("looking for an idempotency key".into(), move |db| task::key_known(db, &user, &key)).await
    }

    async fn task_get(&self, id: TaskId) -> Result<Option<Task>, StoreError> {
        self.read(format!("reading task {id}"), move |db| task::get(db, id)).await
    }

    async fn task_list(&self, filter: TaskFilter) -> Result<Vec<Task>, StoreError> {
        self.read("listing tasks".into(), move |db| task::list(db, &filter)).await
    }

    async fn task_change(&self, change: TaskChange) -> Result<Changed, StoreError> {
        self.write(format!("changing task {}", change.applied.task.id), move |tx| task::change(tx, &change))
            .await
    }

    async fn task_claim_due(
        &self,
        by: &NodeId,
        now: Timestamp,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        // Most looks find nothing: they must not cost the writer a turn.
        let due = self.read("looking for due tasks".into(), lease::next_due).await?;
        if due.is_none_or(|at| at > now) {
            return Ok(Vec::new());
        }
        let by = by.clone();
        self.write("claiming due tasks".into(), move |tx| lease::claim_due(tx, &by, now, lease, limit)).await
    }

    async fn task_claim(
        &self,
        id: TaskId,
        by: &NodeId,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<Claimed>, StoreError> {
        let by = by.clone();
        self.write(format!("claiming task {id}"), move |tx| lease::claim(tx, id, &by, now, lease)).await
    }

    async fn lease_renew(&self, id: TaskId, epoch: Epoch, until: Timestamp) -> Result<bool, StoreError> {
        self.write(format!("renewing the lease of task {id}"), move |tx| lease::renew(tx, id, epoch, until))
            .await
    }

    async fn lease_release(&self, release: LeaseRelease) -> Result<(), StoreError> {
        self.write(format!("releasing task {}", release.task), move |tx| lease::release(tx, &release)).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read("looking for the next due time".into(), lease::next_due).await
    }

    async fn task_wake(&self, id: TaskId, now: Timestamp) -> Result<(), StoreError> {
        self.write(format!("waking task {id}"), move |tx| {
            task::must_exist(tx, id)?;
            task::wake(tx, id, now)
        })
        .await
    }

    async fn queue_position(&self, id: TaskId) -> Result<Option<u64>, StoreError> {
        self.read(format!("finding the place of task {id} in the queue"), move |db| {
            task::queue_position(db, id)
        })
        .await
    }

    async fn mean_duration_s(&self) -> Result<Option<f64>, StoreError> {
        self.read("averaging task durations".into(), task::mean_duration_s).await
    }

    async fn events_append(&self, append: EventAppend) -> Result<Appended, StoreError> {
        self.write(format!("appending events of task {}", append.task), move |tx| event::append(tx, &append))
            .await
    }

    async fn events_read(&self, query: EventQuery) -> Result<Vec<Event>, StoreError> {
        self.read(format!("reading events of task {}", query.task), move |db| event::read(db, &query)).await
    }

    async fn usage_record(&self, usage: UsageRecord) -> Result<Spent, StoreError> {
        self.write(format!("recording model use of task {}", usage.task), move |tx| usage::record(tx, &usage))
            .await
    }

    async fn spent(&self, asked: Vec<Spending>) -> Result<Vec<MicroUsd>, StoreError> {
        self.read("summing up what was spent".into(), move |db| spending::spent(db, &asked)).await
    }

    async fn usage_report(&self, of: Spending, by: UsageBy) -> Result<Vec<UsageRow>, StoreError> {
        self.read("reporting what was spent".into(), move |db| spending::report(db, &of, by)).await
    }

    async fn session_open(&self, id: TaskId, attempt: Attempt, now: Timestamp) -> Result<(), StoreError> {
        self.write(format!("opening session {id}-{attempt}"), move |tx| session::open(tx, id, attempt, now))
            .await
    }

    async fn session_attach(
        &self,
        id: TaskId,
        attempt: Attempt,
        instance: &str,
        now: Timestamp,
    ) -> Result<Attach, StoreError> {
        let instance = instance.to_owned();
        self.write(format!("attaching to session {id}-{attempt}"), move |tx| {
            session::attach(tx, id, attempt, &instance, now)
        })
        .await
    }

    async fn session_heartbeat(
        &self,
        id: TaskId,
        attempt: Attempt,
        stage: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let stage = stage.to_owned();
        self.write(format!("recording a heartbeat of session {id}-{attempt}"), move |tx| {
            session::heartbeat(tx, id, attempt, &stage, now)
        })
        .await
    }

    async fn session_get(&self, id: TaskId, attempt: Attempt) -> Result<Option<SessionRecord>, StoreError> {
        self.read(format!("reading session {id}-{attempt}"), move |db| session::get(db, id, attempt)).await
    }

    async fn session_beats(
        &self,
        sessions: Vec<(TaskId, Attempt)>,
    ) -> Result<Vec<Option<Timestamp>>, StoreError> {
        self.read("reading signs of life".into(), move |db| session::beats(db, &sessions)).await
    }

    async fn session_polled(
        &self,
        id: TaskId,
        attempt: Attempt,
        poll: PollResult,
    ) -> Result<PollCounters, StoreError> {
        self.write(format!("counting polls of session {id}-{attempt}"), move |tx| {
            session::polled(tx, id, attempt, poll)
        })
        .await
    }

    async fn obligation_claim_due(
        &self,
        now: Timestamp,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Obligation>, StoreError> {
        self.write("claiming due obligations".into(), move |tx| obligation::claim_due(tx, now, lease, limit))
            .await
    }

    async fn obligation_done(&self, id: ObligationId) -> Result<(), StoreError> {
        self.write(format!("closing obligation {id}"), move |tx| obligation::done(tx, id)).await
    }

    async fn obligation_retry(
        &self,
        id: ObligationId,
        at: Timestamp,
        error: &str,
        alarm: Alarm,
    ) -> Result<(), StoreError> {
        let error = error.to_owned();
        self.write(format!("postponing obligation {id}"), move |tx| {
            obligation::retry(tx, id, at, &error, alarm)
        })
        .await
    }

    async fn obligation_list(&self) -> Result<Vec<Obligation>, StoreError> {
        self.read("listing obligations".into(), obligation::list).await
    }

    async fn outbox_claim(
        &self,
        channel: &str,
        now: Timestamp,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let channel = channel.to_owned();
        self.write(format!("claiming deliveries of {channel}"), move |tx| {
            outbox::claim(tx, &channel, now, lease, limit)
        })
        .await
    }

    async fn outbox_done(&self, id: i64) -> Result<(), StoreError> {
        self.write(format!("closing delivery {id}"), move |tx| outbox::done(tx, id)).await
    }

    async fn outbox_retry(&self, id: i64, at: Timestamp, error: &str) -> Result<(), StoreError> {
        let error = error.to_owned();
        self.write(format!("postponing delivery {id}"), move |tx| outbox::retry(tx, id, at, &error)).await
    }

    async fn trace_record(
        &self,
        record: TraceRecord,
        events: Vec<domain::event::NewEvent>,
        now: Timestamp,
    ) -> Result<TraceRecord, StoreError> {
        self.write(format!("recording the trace of task {}", record.task), move |tx| {
            trace::record(tx, &record, &events, now)
        })
        .await
    }

    async fn trace_get(&self, id: TaskId) -> Result<Option<TraceRecord>, StoreError> {
        self.read(format!("reading the trace record of task {id}"), move |db| trace::get(db, id)).await
    }

    async fn pull_request_get(&self, id: TaskId) -> Result<Option<PullRequestRecord>, StoreError> {
        self.read(format!("reading the pull request of task {id}"), move |db| pull_request::get(db, id)).await
    }

    async fn task_counts(&self, user: Option<&UserId>) -> Result<Vec<(Status, u64)>, StoreError> {
        let user = user.cloned();
        self.read("counting tasks".into(), move |db| task::counts(db, user.as_ref())).await
    }

    async fn slot_list(&self) -> Result<Vec<(Scope, TaskId)>, StoreError> {
        self.read("listing slots".into(), slot::list).await
    }

    fn access(&self) -> &dyn AccessDriver {
        self
    }

    async fn nudge_add(&self, new: NewNudge) -> Result<Nudged, StoreError> {
        self.write(format!("storing a nudge to task {}", new.task), move |tx| steer::nudge_add(tx, &new))
            .await
    }

    async fn nudge_list(&self, id: TaskId) -> Result<Vec<Nudge>, StoreError> {
        self.read(format!("reading the nudges of task {id}"), move |db| steer::nudge_list(db, id)).await
    }

    async fn nudge_take(&self, take: NudgeTake) -> Result<NudgesTaken, StoreError> {
        self.write(format!("handing over nudges of task {}", take.task), move |tx| {
            steer::nudge_take(tx, &take)
        })
        .await
    }

    async fn ask_open(&self, new: NewAsk) -> Result<Asked, StoreError> {
        self.write(format!("storing a question about task {}", new.task), move |tx| steer::ask_open(tx, &new))
            .await
    }

    async fn ask_answer(&self, answer: NewAnswer) -> Result<Answered, StoreError> {
        self.write(format!("answering a question about task {}", answer.task), move |tx| {
            steer::ask_answer(tx, &answer)
        })
        .await
    }

    async fn ask_list(&self, id: TaskId) -> Result<Vec<Ask>, StoreError> {
        self.read(format!("reading the questions about task {id}"), move |db| steer::ask_list(db, id)).await
    }

    async fn tasks_expired(
        &self,
        before: Timestamp,
        user: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<TaskId>, StoreError> {
        let user = user.cloned();
        self.read("looking for tasks that are over".into(), move |db| {
            purge::expired(db, before, user.as_ref(), limit)
        })
        .await
    }

    async fn task_purge(&self, id: TaskId) -> Result<bool, StoreError> {
        self.write(format!("removing task {id}"), move |tx| purge::task(tx, id)).await
    }

    async fn forget_expired(&self, expired: Expired) -> Result<Forgotten, StoreError> {
        self.write("removing what is over".into(), move |tx| purge::forget(tx, &expired)).await
    }

    async fn user_erase(&self, user: &UserId) -> Result<bool, StoreError> {
        let user = user.clone();
        self.write(format!("erasing user {user}"), move |tx| purge::erase(tx, &user)).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.write("checking that the database can be written".into(), |tx| {
            tx.prepare_cached("UPDATE pulse SET beat = beat + 1")?.execute([])?;
            Ok(())
        })
        .await?;
        self.read("checking that the database can be read".into(), |db| {
            Ok(db
                .prepare_cached("SELECT beat FROM pulse")?
                .query_row([], |r| r.get::<_, i64>(0))
                .map(|_| ())?)
        })
        .await
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod upgrade;
