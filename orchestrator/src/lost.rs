//! A box that is gone: looks for what it left, makes sure that nothing of it runs any more, and gives the task its next
//! attempt or its end. Which of the two is decided by [`domain::lost::another`] and by what is left of the budgets.

use domain::event::{Event, EventKind};
use domain::failure::ErrorClass;
use domain::lost::{self, Bounds, Lost};
use domain::report::Report;
use domain::transition::after;
use domain::{Command, Failure, State, Task};
use jiff::Timestamp;
use store::{Epoch, EventCursor, EventQuery, StoreError};
use tracing::{info, warn};

use crate::Orchestrator;
use crate::change::With;
use crate::dispatch::chain;
use crate::engine::Onward;

/// Events of a page when the log is read backwards.
const PAGE: u32 = 200;
/// Pages that are read for the turns of an attempt: more events than this without a turn among them are not looked through.
const PAGES: u32 = 10;

impl Orchestrator {
    /// Carries on after a lost box. Repeating it is harmless.
    pub(crate) async fn lose(
        &self,
        task: &Task,
        failure: Failure,
        epoch: Epoch,
    ) -> Result<Onward, StoreError> {
        let failure = self.explained(task, failure).await;
        let command = match self.another(task, &failure).await? {
            Some(lost) => {
                info!(task.id = %task.id, attempt.number = task.attempt.0, error = %failure, "a box was lost; another follows");
                Command::Lose { attempt: task.attempt, lost: Box::new(lost) }
            }
            None => Command::Report { attempt: task.attempt, report: Box::new(Report::lost(failure)) },
        };
        self.follow(task, command, epoch).await
    }

    /// The next attempt, if there may be one.
    async fn another(&self, task: &Task, failure: &Failure) -> Result<Option<Lost>, StoreError> {
        let policy = &self.parts().policy;
        let attempts_max = *policy.attempts_max.of(&task.spec.repo);
        let lifetime = *policy.lifetime.of(&task.spec.repo);
        let bounds = Bounds { attempts_max, backoff: policy.lost_backoff, lifetime };
        let turns = self.turns_of_attempt(task).await?;
        let Some(not_before) = lost::another(task, turns, bounds, self.now()) else { return Ok(None) };
        match self.without_budget(task).await {
            // One that waits for a shared budget's next period does so before its next box is started.
            Ok(None | Some(Command::Park { .. })) => (),
            Ok(Some(_)) | Err(_) => {
                info!(task.id = %task.id, "a box was lost, and nothing is left to spend on another");
                return Ok(None);
            }
        }
        // One box of a task at a time: what may still run of this one is ended first.
        if let Some(session) = task.state.session()
            && let Err(failure) = self.end_box(session).await
        {
            warn!(task.id = %task.id, error = %chain(&failure), "a lost box could not be ended, so that no other follows");
            return Ok(None);
        }
        let kept = self.keep(task, false).await;
        Ok(Some(Lost { failure: failure.clone(), turns, attempts_max, not_before, kept }))
    }

    /// Turns that the agent of the current attempt has begun, as its log tells.
    async fn turns_of_attempt(&self, task: &Task) -> Result<u32, StoreError> {
        let mut from = EventCursor::Newest;
        for _ in 0..PAGES {
            let query = EventQuery { task: task.id, from, limit: PAGE };
            let mut events = self.store().events_read(query).await?;
            events.sort_by_key(|event| std::cmp::Reverse(event.seq));
            if let Some(turns) = turns_in(&events) {
                return Ok(turns);
            }
            match events.last().map(|event| event.seq) {
                Some(oldest @ 2..) => {
                    from = EventCursor::AfterSeq(oldest.saturating_sub(u64::from(PAGE) + 1));
                }
                Some(_) | None => break,
            }
        }
        Ok(0)
    }

    /// Fails a task whose next box does not come to be. What earlier attempts pushed is delivered with it.
    ///
    /// What may pass is waited out for a task that lost its box: a machine that is started again is up before its network is.
    pub(crate) async fn fail_early(
        &self,
        task: &Task,
        failure: Failure,
        epoch: Epoch,
    ) -> Result<Onward, StoreError> {
        if let Some(at) = self.later(task, &failure) {
            warn!(task.id = %task.id, error = %failure, "the next box cannot be started yet; trying again");
            return Ok(Onward::At(at));
        }
        if task.attempt.0 <= 1 {
            return self.follow(task, Command::Fail { failure, results: None }, epoch).await;
        }
        let (results, pull_request) = self.deliver_kept(task, &failure).await;
        let command = Command::Fail { failure, results: results.map(Box::new) };
        let done = self.apply(task, command, With { epoch: Some(epoch), pull_request }).await?;
        self.onward(task, done).await
    }

    /// When an attempt that follows a lost box is begun again after a failure that may pass; its time for hydration bounds it.
    fn later(&self, task: &Task, failure: &Failure) -> Option<Timestamp> {
        let State::Hydrating { since, .. } = &task.state else { return None };
        let policy = &self.parts().policy;
        let at = after(self.now(), policy.lost_backoff.max(policy.retry_pause));
        let passes = failure.classify().error_class == ErrorClass::Transient;
        (task.losses.boxes > 0 && passes && at < after(*since, policy.hydration_deadline)).then_some(at)
    }

    /// How the loss of earlier boxes is told to the agent that goes on.
    pub(crate) fn told_of_losses(task: &Task) -> Option<String> {
        let last = task.losses.last.as_ref()?;
        Some(format!(
            "The box of an earlier attempt at this task was lost before its agent ended ({last}). What it had saved, if anything, is in the work tree; \
             what it did after that is gone. Look at what is there first (git log, git status), do not do it again, and go on. \
             {} of {} turns are left.",
            task.turns_left(),
            task.spec.turns()
        ))
    }
}

/// The turns that the newest attempt in a page of a log (the newest event first) has begun. `None`: the page does not tell.
fn turns_in(events: &[Event]) -> Option<u32> {
    for event in events {
        match event.kind {
            EventKind::AgentTurn => {
                let turn = event.metadata["turn"].as_u64().unwrap_or(0);
                return Some(u32::try_from(turn).unwrap_or(u32::MAX));
            }
            EventKind::HydrationStarted => return Some(0),
            _ => (),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use domain::{EventId, TaskId};
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    fn log(kinds: &[(EventKind, u64)]) -> Vec<Event> {
        let event = |(n, (kind, turn)): (usize, &(EventKind, u64))| {
            let (task, id) = (TaskId::from_bits(1), EventId::from_bits(1));
            let metadata = json!({ "turn": turn });
            Event { task, seq: n as u64, id, kind: *kind, at: Timestamp::UNIX_EPOCH, metadata }
        };
        kinds.iter().rev().enumerate().map(event).collect()
    }

    #[test]
    fn turns_are_those_of_the_newest_attempt_alone() {
        use EventKind::{AgentToolCall, AgentTurn, HydrationStarted, SessionAttached};
        let first =
            [(HydrationStarted, 0), (AgentTurn, 1), (AgentToolCall, 0), (AgentTurn, 2), (AgentToolCall, 0)];
        assert_eq!(turns_in(&log(&first)), Some(2));
        let second = [first.as_slice(), &[(HydrationStarted, 0), (SessionAttached, 0)]].concat();
        assert_eq!(turns_in(&log(&second)), Some(0));
        assert_eq!(turns_in(&log(&[(AgentToolCall, 0)])), None, "an older page tells");
    }
}
