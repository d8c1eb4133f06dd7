//! What goes into the store and comes out of it, in words of the domain.

mod access;
mod purge;
mod spending;
mod steer;

use std::fmt;

use domain::event::{Event, NewEvent};
use domain::money::{MicroUsd, TokenCount};
use domain::session::SessionHandle;
use domain::state::Status;
use domain::task::Spent;
use domain::transition::Applied;
use domain::{Attempt, NodeId, ObligationId, RepoRef, Task, TaskId, UserId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use access::*;
pub use purge::{ERASED, Expired, Forgotten};
pub use spending::{Spending, UsageBy, UsageRow};
pub use steer::*;

/// The fencing epoch of a lease: rises with each claim of a task, so that a dead node's late write is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// What concurrency is counted in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// One user's tasks.
    User(UserId),
    /// One repository's tasks.
    Repo(RepoRef),
    /// All tasks.
    System,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::User(user) => write!(f, "user:{user}"),
            Scope::Repo(repo) => write!(f, "repo:{repo}"),
            Scope::System => f.write_str("system"),
        }
    }
}

/// A scope with the number of tasks that may hold a slot in it at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeLimit {
    /// The scope.
    pub scope: Scope,
    /// At most this many.
    pub limit: u32,
}

/// A claim on an idempotency key: per user, with the hash of the request it came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyClaim {
    /// The key.
    pub key: String,
    /// SHA-256 of the canonical request body, hex.
    pub body_hash: String,
}

/// A task to accept.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// The task as it begins.
    pub task: Task,
    /// Its first events.
    pub events: Vec<NewEvent>,
    /// Rows for people, caused by those events.
    pub outbox: Vec<NewOutboxRow>,
    /// The key it was submitted with.
    pub idempotency: Option<IdempotencyClaim>,
}

/// How accepting went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// Accepted.
    New(Box<Task>),
    /// The same key and body made this task before.
    Replay(Box<Task>),
    /// The same key came with another body.
    KeyConflict(TaskId),
}

/// A transition to store.
#[derive(Debug, Clone)]
pub struct TaskChange {
    /// What the domain decided. Its task's version is one above the one it was computed from.
    pub applied: Applied,
    /// The lease it is made under; `None` for changes by people and boxes, which the version alone guards.
    pub epoch: Option<Epoch>,
    /// Scopes and limits, used when `applied.slots` is `Take`.
    pub scopes: Vec<ScopeLimit>,
    /// Rows for people, caused by the events.
    pub outbox: Vec<NewOutboxRow>,
    /// The pull request that was opened, if this change opens one.
    pub pull_request: Option<PullRequestRecord>,
    /// The time of the change.
    pub now: Timestamp,
}

/// How a change went. Losing is an ordinary outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Stored.
    Applied(Box<Task>),
    /// The task changed meanwhile; here it is.
    Lost(Box<Task>),
    /// The lease is no longer ours.
    Fenced,
    /// No slot is free in this scope, or an older task waits for one.
    NoSlot(Scope),
}

/// A claimed task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The task.
    pub task: Task,
    /// Name this epoch in every write.
    pub epoch: Epoch,
}

/// Giving a lease back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRelease {
    /// The task.
    pub task: TaskId,
    /// The lease.
    pub epoch: Epoch,
    /// The version the holder last saw.
    pub seen_version: u64,
    /// Look again then; `None` leaves the time that the last change set.
    pub wake_at: Option<Timestamp>,
}

/// Which tasks to list.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Only this user's.
    pub user: Option<UserId>,
    /// Only those of somebody among these; empty means anybody's.
    pub among: Vec<UserId>,
    /// Only in these states; empty means all.
    pub status: Vec<Status>,
    /// Only on this repository.
    pub repo: Option<RepoRef>,
    /// Only tasks older than this one, for paging (ids sort by creation).
    pub before: Option<TaskId>,
    /// At most this many.
    pub limit: u32,
}

/// Events of a box to append.
#[derive(Debug, Clone)]
pub struct EventAppend {
    /// The task.
    pub task: TaskId,
    /// The attempt that speaks.
    pub attempt: Attempt,
    /// The events, each with a client key.
    pub events: Vec<NewEvent>,
    /// At most this many events of the attempt in all.
    pub attempt_limit: u64,
    /// The time.
    pub now: Timestamp,
}

/// How appending went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// `stored` are new, `duplicates` were known.
    Stored {
        /// New ones.
        stored: u32,
        /// Known ones.
        duplicates: u32,
    },
    /// The attempt is not the current one, or the task has ended.
    Superseded,
    /// The attempt has appended its last event. (Told once as an `events_dropped` event.)
    LimitReached,
}

/// Which events to read.
#[derive(Debug, Clone)]
pub struct EventQuery {
    /// The task.
    pub task: TaskId,
    /// Where to begin.
    pub from: EventCursor,
    /// At most this many.
    pub limit: u32,
}

/// Where a read begins, and its direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventCursor {
    /// From the first.
    Start,
    /// After this number.
    AfterSeq(u64),
    /// After this id (which need not exist).
    AfterId(domain::EventId),
    /// The newest, newest first.
    Newest,
}

/// One metered model call.
#[derive(Debug, Clone)]
pub struct UsageRecord {
    /// Unique per call; a repeat is dropped.
    pub call_id: String,
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
    /// Model name as billed.
    pub model: String,
    /// What it used.
    pub tokens: TokenCount,
    /// What it cost; `None` when the price table has no row.
    pub cost: Option<MicroUsd>,
    /// The event to append with it. The store adds `cost_usd`: what the task has spent, this call included.
    pub event: NewEvent,
    /// The time.
    pub now: Timestamp,
}

impl UsageRecord {
    /// The event with the sum in it; without, while nothing that was called has a price.
    pub(crate) fn event_with(&self, spent: Spent) -> NewEvent {
        let mut event = self.event.clone();
        if spent.calls > spent.unpriced_calls
            && let Some(data) = event.metadata.as_object_mut()
        {
            data.insert("cost_usd".into(), spent.cost.usd().into());
        }
        event
    }
}

/// How attaching went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attach {
    /// This instance is the session's worker (now, or it was already).
    Attached,
    /// Another instance was first.
    Taken,
    /// There is no such session, the attempt is not the current one, or the task has ended.
    Superseded,
}

/// What is known of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// Which worker process attached.
    pub instance: Option<String>,
    /// When.
    pub attached_at: Option<Timestamp>,
    /// Last sign of life.
    pub heartbeat_at: Option<Timestamp>,
    /// Stage named in it.
    pub stage: Option<String>,
    /// Consecutive poll results.
    pub polls: PollCounters,
}

/// A poll's raw result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollResult {
    /// It runs.
    Running,
    /// It has ended.
    Ended,
    /// The backend could not say.
    Error,
}

/// How often in a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PollCounters {
    /// The backend could not say.
    pub errors: u32,
    /// It said that the session has ended, and there is no result.
    pub ended: u32,
}

/// Something that must still happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obligation {
    /// Its id.
    pub id: ObligationId,
    /// For which task.
    pub task: TaskId,
    /// What.
    pub duty: Duty,
    /// When it was created.
    pub created_at: Timestamp,
    /// How often it was tried.
    pub tries: u32,
    /// Tried next then.
    pub due_at: Timestamp,
    /// Why the last try failed.
    pub last_error: Option<String>,
    /// Whether a person must look.
    pub alarm: Alarm,
}

/// What must happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "duty", rename_all = "snake_case")]
pub enum Duty {
    /// Stop a box, and remove what it left behind.
    StopSession {
        /// Whose.
        attempt: Attempt,
        /// The box; unknown when the answer to `start` was lost.
        session: Option<SessionHandle>,
    },
    /// Put the trace of a task that has ended together.
    SealTrace,
}

/// A trace that is whole. The bytes are an object; this is the fact that they are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceRecord {
    /// Whose.
    pub task: TaskId,
    /// The object's key.
    pub key: String,
    /// Its address, for people and records.
    pub uri: String,
    /// Its size.
    pub bytes: u64,
    /// When it was put together.
    pub sealed_at: Timestamp,
}

/// Whether a person must look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// It will mend itself.
    Off,
    /// No retry will mend it.
    On,
}

/// A row for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOutboxRow {
    /// Channel that delivers it.
    pub channel: String,
    /// Index into the events of the same change.
    pub event: usize,
}

/// A claimed row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its number.
    pub id: i64,
    /// Channel that delivers it.
    pub channel: String,
    /// The event it tells of.
    pub event: Event,
    /// How often it was tried.
    pub tries: u32,
}

/// Our record of a pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequestRecord {
    /// The task it is of.
    pub task: TaskId,
    /// The repository.
    pub repo: RepoRef,
    /// Where a person looks at it.
    pub url: String,
    /// Number, where the forge has numbers.
    pub number: Option<u64>,
    /// Title.
    pub title: String,
    /// Body.
    pub body: String,
    /// Head branch.
    pub branch: String,
    /// Branch it targets.
    pub base_branch: String,
    /// Commit at the head.
    pub head_sha: String,
    /// Commit it started from.
    pub base_sha: String,
    /// `git diff --stat` of it.
    pub diff_stat: String,
    /// When it was opened.
    pub created_at: Timestamp,
}

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The node.
    pub owner: NodeId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Until then.
    pub until: Timestamp,
}
