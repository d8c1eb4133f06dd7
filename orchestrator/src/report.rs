//! What boxes say, fenced by attempt: the gateway hands it in here, and here it becomes a transition.

use domain::event::{EventKind, NewEvent};
use domain::report::Report;
use domain::transition::Refused;
use domain::{Attempt, Command, Failure, PromptVersion, State, Task, TaskId, limit};
use serde_json::json;
use store::{Attach, EventAppend, StoreError};

use crate::change::{Done, With};
use crate::{Orchestrator, fault};

/// The answer to a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard<T> {
    /// Accepted (now, or before).
    Yes(T),
    /// The step before this one is not recorded yet: ask again soon.
    TooEarly,
    /// The attempt is over, or another has taken over: the box must stop itself.
    Superseded,
}

/// What a box must know of its task, besides the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The task.
    pub task: Task,
    /// Branch to start from.
    pub base_branch: String,
    /// What earlier attempts did.
    pub earlier: Option<String>,
}

impl Orchestrator {
    /// A worker attaches: the first instance of the current attempt wins.
    pub async fn box_attached(
        &self,
        id: TaskId,
        attempt: Attempt,
        instance: &str,
    ) -> Result<Heard<Work>, StoreError> {
        match self.store().session_attach(id, attempt, instance, self.now()).await? {
            Attach::Taken | Attach::Superseded => return Ok(Heard::Superseded),
            Attach::Attached => (),
        }
        let Some(task) = self.store().task_get(id).await? else { return Ok(Heard::Superseded) };
        let Some(base_branch) = task.results.base_branch.clone() else { return Ok(Heard::TooEarly) };
        let event = NewEvent {
            client_key: Some("attached".into()),
            ..NewEvent::new(EventKind::SessionAttached, json!({ "attempt": attempt }))
        };
        self.box_event(id, attempt, event).await?;
        let earlier = self.earlier(&task).await?;
        Ok(Heard::Yes(Work { task, base_branch, earlier }))
    }

    /// A box that cannot work with this server: its task fails, if it is that of the current attempt.
    pub async fn box_unfit(&self, id: TaskId, attempt: Attempt, failure: Failure) -> Result<(), StoreError> {
        loop {
            let Some(task) = self.store().task_get(id).await?.filter(|t| t.attempt == attempt) else {
                return Ok(());
            };
            let command = Command::Fail { failure: failure.clone(), results: None };
            match self.apply(&task, command, With::default()).await? {
                Done::Stale => continue,
                _ => return Ok(()),
            }
        }
    }

    /// An event of the gateway about an attempt (a provider that makes us wait, say).
    pub async fn box_event(
        &self,
        task: TaskId,
        attempt: Attempt,
        mut event: NewEvent,
    ) -> Result<(), StoreError> {
        self.parts().policy.masks.event(&mut event);
        let attempt_limit = limit::EVENTS_PER_ATTEMPT_MAX;
        let append = EventAppend { task, attempt, events: vec![event], attempt_limit, now: self.now() };
        self.store().events_append(append).await.map(drop)
    }

    /// The agent begins to work, by these words.
    pub async fn box_started(
        &self,
        id: TaskId,
        attempt: Attempt,
        prompt: Option<PromptVersion>,
    ) -> Result<Heard<()>, StoreError> {
        let heard = heard(self.command(id, Command::AgentStarted { attempt, prompt }).await?);
        fault::point("running.committed");
        Ok(heard)
    }

    /// The box has ended its work.
    pub async fn box_reported(
        &self,
        id: TaskId,
        attempt: Attempt,
        report: Report,
    ) -> Result<Heard<()>, StoreError> {
        let done = self.command(id, Command::Report { attempt, report: Box::new(report) }).await?;
        fault::point("report.committed");
        self.ring();
        Ok(heard(done))
    }

    /// Whether an attempt is still the one that counts.
    pub async fn box_is_current(
        &self,
        id: TaskId,
        attempt: Attempt,
        instance: &str,
    ) -> Result<bool, StoreError> {
        let Some(task) = self.store().task_get(id).await? else { return Ok(false) };
        if task.status().is_terminal()
            || task.attempt != attempt
            || matches!(task.state, State::Queued { .. })
        {
            return Ok(false);
        }
        let session = self.store().session_get(id, attempt).await?;
        Ok(session.and_then(|s| s.instance).is_some_and(|i| i == instance))
    }
}

pub(crate) fn heard(done: Done) -> Heard<()> {
    match done {
        Done::Applied(_) | Done::Nothing(_) => Heard::Yes(()),
        Done::Refused(Refused::TooEarly(_), _) => Heard::TooEarly,
        Done::Refused(Refused::Terminal(_) | Refused::Superseded(_) | Refused::WrongState(_), _)
        | Done::NoSuchTask
        | Done::Fenced
        | Done::NoSlot(_)
        | Done::Stale => Heard::Superseded,
    }
}
