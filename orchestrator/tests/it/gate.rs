//! Places at which a run can be stopped: before and after every operation of the store and of the forge. A future is
//! polled from one to the next, so that a test decides what happens between any two, or drops it there as a crash does.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use domain::event::Event;
use domain::steer::{Ask, Nudge};
use domain::task::Spent;
use domain::{Attempt, MicroUsd, NodeId, ObligationId, RepoRef, Task, TaskId, UserId};
use forge::{Forge, ForgeError, PullRequest, PullRequestDraft, PushRequest, Remote, RepoInfo};
use jiff::Timestamp;
use store::*;
use testkit::Rng;

/// Counts the gates that were reached.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<AtomicU64>);

impl Gate {
    /// Reaches a gate: whoever steps gets the word here.
    async fn pass(&self) {
        let mut reached = false;
        poll_fn(|cx| {
            if reached {
                return Poll::Ready(());
            }
            reached = true;
            self.0.fetch_add(1, Ordering::SeqCst);
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Runs `job` to its next gate (`None`) or to its end. What lies between (git, a database) is waited for.
    pub async fn step<T>(&self, job: &mut Pin<Box<dyn Future<Output = T>>>) -> Option<T> {
        let before = self.count();
        poll_fn(|cx| match job.as_mut().poll(cx) {
            Poll::Ready(end) => Poll::Ready(Some(end)),
            Poll::Pending if self.count() != before => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

/// What goes wrong with the store.
#[derive(Debug, Clone)]
pub enum Faults {
    /// Nothing.
    None,
    /// In so many of 100 operations: half of them before, half after it was done.
    Percent(u32, Rng),
    /// The operation of this number (from 0) is not done.
    Before(u64),
    /// The operation of this number is done, but its answer is lost.
    After(u64),
}

#[derive(Debug)]
struct Plan {
    faults: Faults,
    operations: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lot {
    Fine,
    NotDone,
    AnswerLost,
}

/// A store with gates and faults.
#[derive(Debug, Clone)]
pub struct Gated {
    inner: Arc<dyn Driver>,
    gate: Gate,
    plan: Arc<Mutex<Plan>>,
}

impl Gated {
    pub fn new(inner: Arc<dyn Driver>, gate: Gate) -> Gated {
        let plan = Plan { faults: Faults::None, operations: 0 };
        Gated { inner, gate, plan: Arc::new(Mutex::new(plan)) }
    }

    /// From now on this goes wrong; operations are counted anew.
    pub fn set_faults(&self, faults: Faults) {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = Plan { faults, operations: 0 };
    }

    /// Operations since the faults were set.
    pub fn operations(&self) -> u64 {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).operations
    }

    fn draw(&self) -> Lot {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let number = plan.operations;
        plan.operations += 1;
        match &mut plan.faults {
            Faults::None => Lot::Fine,
            Faults::Percent(percent, rng) => match (rng.chance(*percent), rng.chance(50)) {
                (false, _) => Lot::Fine,
                (true, true) => Lot::NotDone,
                (true, false) => Lot::AnswerLost,
            },
            Faults::Before(n) if *n == number => Lot::NotDone,
            Faults::After(n) if *n == number => Lot::AnswerLost,
            Faults::Before(_) | Faults::After(_) => Lot::Fine,
        }
    }

    async fn through<T>(
        &self,
        doing: &str,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let failed = |reason: &str| StoreError::Unavailable { doing: doing.into(), reason: reason.into() };
        self.gate.pass().await;
        let lot = self.draw();
        if lot == Lot::NotDone {
            return Err(failed("the test says so"));
        }
        let answer = operation.await;
        self.gate.pass().await;
        if lot == Lot::AnswerLost { Err(failed("the answer was lost")) } else { answer }
    }
}

macro_rules! gated {
    ($($name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)+) => {
        #[async_trait]
        impl Driver for Gated {
            fn access(&self) -> &dyn store::AccessDriver {
                self.inner.access()
            }

            $(async fn $name(&self, $($arg: $type),*) -> Result<$answer, StoreError> {
                self.through(stringify!($name), self.inner.$name($($arg),*)).await
            })+
        }
    };
}

gated! {
    task_create(new: NewTask) -> Created;
    task_get(id: TaskId) -> Option<Task>;
    task_list(filter: TaskFilter) -> Vec<Task>;
    task_change(change: TaskChange) -> Changed;
    task_claim_due(by: &NodeId, now: Timestamp, lease: Duration, limit: u32) -> Vec<Claimed>;
    task_claim(task: TaskId, by: &NodeId, now: Timestamp, lease: Duration) -> Option<Claimed>;
    lease_renew(task: TaskId, epoch: Epoch, until: Timestamp) -> bool;
    lease_release(release: LeaseRelease) -> ();
    next_due() -> Option<Timestamp>;
    task_wake(task: TaskId, now: Timestamp) -> ();
    queue_position(task: TaskId) -> Option<u64>;
    mean_duration_s() -> Option<f64>;
    events_append(append: EventAppend) -> Appended;
    events_read(query: EventQuery) -> Vec<Event>;
    usage_record(usage: UsageRecord) -> Spent;
    session_open(task: TaskId, attempt: Attempt, now: Timestamp) -> ();
    session_attach(task: TaskId, attempt: Attempt, instance: &str, now: Timestamp) -> Attach;
    session_heartbeat(task: TaskId, attempt: Attempt, stage: &str, now: Timestamp) -> ();
    session_get(task: TaskId, attempt: Attempt) -> Option<SessionRecord>;
    session_beats(sessions: Vec<(TaskId, Attempt)>) -> Vec<Option<Timestamp>>;
    session_polled(task: TaskId, attempt: Attempt, poll: PollResult) -> PollCounters;
    obligation_claim_due(now: Timestamp, lease: Duration, limit: u32) -> Vec<Obligation>;
    obligation_done(id: ObligationId) -> ();
    obligation_retry(id: ObligationId, at: Timestamp, error: &str, alarm: Alarm) -> ();
    obligation_list() -> Vec<Obligation>;
    outbox_claim(channel: &str, now: Timestamp, lease: Duration, limit: u32) -> Vec<OutboxRow>;
    outbox_done(id: i64) -> ();
    outbox_retry(id: i64, at: Timestamp, error: &str) -> ();
    trace_record(record: TraceRecord, events: Vec<domain::event::NewEvent>, now: Timestamp) -> TraceRecord;
    trace_get(task: TaskId) -> Option<TraceRecord>;
    pull_request_get(task: TaskId) -> Option<PullRequestRecord>;
    task_counts(user: Option<&UserId>) -> Vec<(domain::Status, u64)>;
    slot_list() -> Vec<(Scope, TaskId)>;
    spent(asked: Vec<Spending>) -> Vec<MicroUsd>;
    usage_report(of: Spending, by: UsageBy) -> Vec<UsageRow>;
    nudge_add(new: NewNudge) -> Nudged;
    nudge_list(task: TaskId) -> Vec<Nudge>;
    nudge_take(take: NudgeTake) -> NudgesTaken;
    ask_open(new: NewAsk) -> Asked;
    ask_answer(answer: NewAnswer) -> Answered;
    ask_list(task: TaskId) -> Vec<Ask>;
    tasks_expired(before: Timestamp, user: Option<&UserId>, limit: u32) -> Vec<TaskId>;
    task_purge(task: TaskId) -> bool;
    forget_expired(expired: Expired) -> Forgotten;
    user_erase(user: &UserId) -> bool;
    idempotency_known(user: &UserId, key: &str) -> bool;
    check() -> ();
}

/// A forge with gates.
#[derive(Debug, Clone)]
pub struct GatedForge<F> {
    pub inner: F,
    pub gate: Gate,
}

impl<F: Forge> GatedForge<F> {
    async fn through<T>(&self, operation: impl Future<Output = T>) -> T {
        self.gate.pass().await;
        let answer = operation.await;
        self.gate.pass().await;
        answer
    }
}

#[async_trait]
impl<F: Forge> Forge for GatedForge<F> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn inspect(&self, repo: &RepoRef, base: Option<&str>, write: bool) -> Result<RepoInfo, ForgeError> {
        self.through(self.inner.inspect(repo, base, write)).await
    }

    async fn remote(&self, repo: &RepoRef) -> Result<Remote, ForgeError> {
        self.through(self.inner.remote(repo)).await
    }

    async fn push(&self, request: &PushRequest<'_>) -> Result<(), ForgeError> {
        self.through(self.inner.push(request)).await
    }

    async fn open_pull_request(
        &self,
        repo: &RepoRef,
        draft: &PullRequestDraft,
    ) -> Result<PullRequest, ForgeError> {
        self.through(self.inner.open_pull_request(repo, draft)).await
    }
}
