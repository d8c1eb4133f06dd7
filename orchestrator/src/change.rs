//! The only writer of a task: asks the domain what a command does, and stores the answer whole.

use domain::transition::{Refused, Slots};
use domain::{Change, Command, Status, Task, TaskId};
use store::{Changed, Epoch, NewOutboxRow, PullRequestRecord, Scope, StoreError, TaskChange};
use tracing::{info, warn};

use crate::Orchestrator;

/// How a command went.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Done {
    /// Stored.
    Applied(Box<Task>),
    /// It was so already.
    Nothing(Box<Task>),
    /// It does not apply; the task as it stands.
    Refused(Refused, Box<Task>),
    /// The task changed since it was looked at.
    Stale,
    /// The lease is another's now.
    Fenced,
    /// No slot is free, or an older task waits.
    NoSlot(Scope),
    /// There is no such task.
    NoSuchTask,
}

/// What goes with a command.
#[derive(Debug, Clone, Default)]
pub struct With {
    /// The lease it is done under.
    pub epoch: Option<Epoch>,
    /// The pull request it opens.
    pub pull_request: Option<PullRequestRecord>,
}

impl Orchestrator {
    /// A command of a person or a box: applied to the task as it stands, however often it changes meanwhile.
    pub async fn command(&self, id: TaskId, command: Command) -> Result<Done, StoreError> {
        loop {
            let Some(task) = self.store().task_get(id).await? else { return Ok(Done::NoSuchTask) };
            match self.apply(&task, command.clone(), With::default()).await? {
                Done::Stale => continue,
                done => return Ok(done),
            }
        }
    }

    /// A command computed from `seen`: applied only if the task is still as it was seen.
    pub(crate) async fn apply(&self, seen: &Task, command: Command, with: With) -> Result<Done, StoreError> {
        let now = self.now();
        let name = command.name();
        let mut applied = match seen.on(command, now) {
            Change::Applied(applied) => *applied,
            Change::Nothing => return Ok(Done::Nothing(Box::new(seen.clone()))),
            Change::Refused(refused) => return Ok(Done::Refused(refused, Box::new(seen.clone()))),
        };
        let masks = &self.parts().policy.masks;
        masks.applied(&mut applied);
        let mut pull_request = with.pull_request;
        pull_request.iter_mut().for_each(|record| masks.pull_request(record));
        let scopes = match applied.slots {
            Slots::Take => self.parts().policy.scopes(&seen.user, &seen.spec.repo),
            Slots::Keep | Slots::Free => Vec::new(),
        };
        let (from, to) = (seen.status(), applied.task.status());
        let ends = applied.task.status().is_terminal();
        let outbox = route(&applied.events.iter().map(|e| e.kind).collect::<Vec<_>>());
        let change = TaskChange { applied, epoch: with.epoch, scopes, outbox, pull_request, now };
        Ok(match self.store().task_change(change).await? {
            Changed::Applied(task) => {
                info!(task.id = %task.id, command = name, from = %from, to = %to, "task changed");
                count(from, to);
                if let Some(failure) = task.state.failure() {
                    warn!(task.id = %task.id, error = %failure, "task ended without success");
                }
                if ends {
                    let took = (now.as_millisecond() - task.created_at.as_millisecond()).max(0) as f64 / 1e3;
                    metrics::histogram!("bgagent_task_seconds", "status" => to.as_str()).record(took);
                    self.parts().policy.traces.ended(task.id);
                    self.ring();
                }
                Done::Applied(task)
            }
            Changed::Lost(_) => Done::Stale,
            Changed::Fenced => Done::Fenced,
            Changed::NoSlot(scope) => Done::NoSlot(scope),
        })
    }
}

/// Which events go to which channel. There is no channel yet, so nothing is routed; the outbox itself is in the store.
fn route(_events: &[domain::EventKind]) -> Vec<NewOutboxRow> {
    Vec::new()
}

fn count(from: Status, to: Status) {
    metrics::counter!("bgagent_task_transitions_total", "from" => from.as_str(), "to" => to.as_str())
        .increment(1);
}
