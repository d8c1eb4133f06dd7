//! Cancel, pause, resume, retry: what people decide about a task, the same from every surface.
//!
//! An agent at work is asked to leave: its box stops what runs, saves the work, and says so. The order is on the record
//! first, so that a crash of anybody ends where it should; carrying it out is a step of the engine ([`crate::next`]).

use std::time::Duration;

use domain::event::{EventKind, NewEvent};
use domain::leave::{Kept, Order, Place};
use domain::state::QueueReason;
use domain::transition::{Refused, after};
use domain::{Attempt, Command, Status, Task, TaskId, UserId, limit};
use forge::PushRequest;
use forge::push;
use jiff::Timestamp;
use objects::ObjectError;
use serde_json::json;
use store::{Created, Epoch, NewTask, StoreError};
use tracing::{info, warn};

use crate::Orchestrator;
use crate::admission::new_task_id;
use crate::change::Done;
use crate::engine::Onward;
use crate::report::{Heard, heard};

/// Bringing kept work to the code host may take this long; a cancel waits for it.
const PUSH_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a task could not be tried again.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its attachments could not be copied.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// It has an attachment that was never uploaded, or refused, or is kept no longer.
    #[error("an attachment of it is not there: submit it anew, with its files")]
    NotUploaded,
}

impl Orchestrator {
    /// Ends a task. One whose agent works is ended when its box has saved the work, after a grace at the latest, and this
    /// returns then: whoever asks again meanwhile gets the same answer. A caller that goes away does not undo it.
    pub async fn cancel(&self, id: TaskId, by: &str) -> Result<Done, StoreError> {
        let grace = self.parts().policy.cancel_grace;
        let order = Order::Cancel { by: by.to_owned() };
        let asked = self.command(id, Command::Leave { order, until: after(self.now(), grace) }).await?;
        if let Done::Applied(_) | Done::Nothing(_) = asked {
            self.ring();
            self.until_left(id, grace + PUSH_TIMEOUT.min(grace)).await?;
        }
        self.command(id, Command::Cancel { by: by.to_owned() }).await
    }

    /// Lets a task wait for a person. One whose agent works is parked when its box has saved the work.
    pub async fn pause(&self, id: TaskId, by: &str) -> Result<Done, StoreError> {
        let until = after(self.now(), self.parts().policy.park_grace);
        let order = Order::Pause { by: by.to_owned() };
        let done = self.command(id, Command::Leave { order, until }).await?;
        self.ring();
        match done {
            Done::Refused(Refused::WrongState(_), _) => {
                self.command(id, Command::Park { why: QueueReason::Paused, not_before: None }).await
            }
            done => Ok(done),
        }
    }

    /// Ends the waiting of a task: it goes into the queue for its next attempt, which goes on from the saved work.
    pub async fn resume(&self, id: TaskId, by: &str) -> Result<Done, StoreError> {
        let done = self.command(id, Command::Resume { by: Some(by.to_owned()) }).await?;
        self.ring();
        Ok(done)
    }

    /// A new task of this person with the same specification, which is told what this one learned. `None`: it has not
    /// ended. Whether they may see the old one is the caller's to know.
    pub async fn retry(&self, old: &Task, by: &UserId) -> Result<Option<Task>, RetryError> {
        if !old.status().is_terminal() {
            return Ok(None);
        }
        let now = self.now();
        let id = new_task_id(now);
        let attachments = self.copy_attachments(old, id).await?;
        let (by, spec) = (by.clone(), old.spec.clone());
        let mut task = Task::with_attachments(id, by, &old.channel, spec, attachments, now);
        if task.status() == Status::PendingUploads {
            self.drop_attachments(id).await;
            return Err(RetryError::NotUploaded);
        }
        task.retry_of = Some(old.id);
        let event = NewEvent::new(
            EventKind::TaskCreated,
            json!({
                "repo": task.spec.repo, "issue_number": task.spec.issue_number, "channel_source": task.channel,
                "workflow": task.spec.workflow.as_str(), "retry_of": old.id,
            }),
        );
        let new = NewTask { task, events: vec![event], outbox: Vec::new(), idempotency: None };
        match self.store().task_create(new).await? {
            Created::New(task) | Created::Replay(task) => {
                info!(task.id = %task.id, task.retry_of = %old.id, "task accepted");
                self.ring();
                Ok(Some(*task))
            }
            // Without a key there is none to clash with.
            Created::KeyConflict(_) => Ok(None),
        }
    }

    /// The provider's usage limit is reached until then: the task waits for it. Answers whether it will.
    pub async fn usage_limited(
        &self,
        id: TaskId,
        attempt: Attempt,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let current = self.store().task_get(id).await?.is_some_and(|t| t.attempt == attempt);
        if !current {
            return Ok(false);
        }
        let leave = Command::Leave {
            order: Order::UsageLimit { until },
            until: after(self.now(), self.parts().policy.park_grace),
        };
        let done = self.command(id, leave).await?;
        self.ring();
        Ok(matches!(done, Done::Applied(_) | Done::Nothing(_)))
    }

    /// The box has saved its work and ends.
    pub async fn box_left(&self, id: TaskId, attempt: Attempt) -> Result<Heard<()>, StoreError> {
        let done = self.command(id, Command::Left { attempt }).await?;
        self.ring();
        Ok(heard(done))
    }

    /// Keeps what the agent did and carries out the order it left by. Repeating it is harmless.
    pub(crate) async fn depart(&self, task: &Task, epoch: Epoch) -> Result<Onward, StoreError> {
        let delivers = task.leaving.as_ref().is_some_and(|l| matches!(l.order, Order::Cancel { .. }));
        let kept = self.keep(task, delivers).await;
        self.follow(task, Command::Depart { kept }, epoch).await
    }

    /// The work that the box pushed. Of a task that ends, the branch goes to the code host, if what it brings may.
    pub(crate) async fn keep(&self, task: &Task, delivers: bool) -> Option<Kept> {
        let parts = self.parts();
        let base = task.results.base_branch.as_deref().unwrap_or_default();
        let work = parts.mirrors.branch_work(task.id, &task.spec.repo, &task.branch, base).await;
        let work = match work {
            Ok(work) => work.filter(|work| work.commits > 0)?,
            Err(failure) => {
                warn!(task.id = %task.id, error = %failure, "what an agent left could not be looked at");
                return None;
            }
        };
        let range = push::Range { head: &work.head_sha, base: &work.base_sha, seen: None };
        let place = match delivers {
            true => match tokio::time::timeout(PUSH_TIMEOUT, self.bring_to_forge(task, range)).await {
                Ok(true) => Place::Forge,
                Ok(false) | Err(_) => Place::Server,
            },
            false => Place::Server,
        };
        Some(Kept { head_sha: work.head_sha, commits: work.commits, place })
    }

    async fn bring_to_forge(&self, task: &Task, range: push::Range<'_>) -> bool {
        let (parts, repo, head_sha) = (self.parts(), &task.spec.repo, range.head);
        let mirror = parts.mirrors.quarantine(task.id);
        let pushed = async {
            if !self.look_at(task, &mirror, range).await?.is_empty() {
                return Ok(false);
            }
            let push = PushRequest { repo, mirror: &mirror, head_sha, branch: &task.branch };
            parts.forges.of(repo).push(&push).await.map(|_| true)
        };
        pushed.await.unwrap_or_else(|failure: forge::ForgeError| {
            warn!(task.id = %task.id, error = %failure, "what an agent left stays on this server");
            false
        })
    }

    /// Returns when no agent of the task is leaving any more, or after this time.
    async fn until_left(&self, id: TaskId, at_most: Duration) -> Result<(), StoreError> {
        let deadline = tokio::time::Instant::now() + at_most;
        let mut news = self.store().watch(id);
        loop {
            let leaving = self.store().task_get(id).await?.is_some_and(|t| t.leaving.is_some());
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if !leaving || left.is_zero() {
                return Ok(());
            }
            // Another process may carry it out, and does not tell this one.
            news.changed(left.min(Duration::from_millis(500))).await;
        }
    }

    /// What an agent is told of the work before its own: earlier attempts, and the task that this one tries again.
    pub(crate) async fn earlier(&self, task: &Task) -> Result<Option<String>, StoreError> {
        let mut told = Vec::new();
        if let Some(old) = task.retry_of
            && let Some(old) = self.store().task_get(old).await?
        {
            told.push(format!("Task {} was the same and ended {}.", old.id, old.status()));
            told.extend(old.state.failure().map(|f| format!("It failed: {f}")));
            if let Some(head) = &old.results.head_sha {
                let place = old.results.pr_url.as_deref().unwrap_or("not proposed");
                told.push(format!(
                    "Its work is on the branch {} at {head} ({place}), not in this work tree.",
                    old.branch
                ));
            }
            told.push(self.history(old.id).await?.work());
        }
        if task.attempt > Attempt(1) {
            told.push(
                Self::told_of_losses(task).unwrap_or_else(|| {
                    "An earlier attempt at this task was stopped before its end.".to_owned()
                }),
            );
            told.push(self.history(task.id).await?.work());
            for nudge in self.store().nudge_list(task.id).await?.iter().filter(|n| n.taken.is_some()) {
                told.push(format!("The person who gave the task said to it: {}", nudge.text));
            }
        }
        told.retain(|part| !part.is_empty());
        let text = domain::event::preview(&told.join("\n\n"), limit::EARLIER_MAX_CHARS);
        Ok(Some(text).filter(|text| !text.is_empty()))
    }
}
