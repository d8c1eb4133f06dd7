//! Stops boxes nobody should pay for: of finished, superseded or unknown attempts. Ends quarantines of tasks that are
//! over. Takes no input, trusts no hint, safe to run twice. Why an attempt ended: see `supervise`.

use std::time::Duration;

use domain::transition::StopSession;
use domain::{SessionHandle, Status, Task, TaskId};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::Orchestrator;
use crate::dispatch::chain;

/// Between two sweeps.
const EVERY: Duration = Duration::from_secs(60);

/// What is over is looked for in one sweep of so many.
const OLD_EVERY: u32 = 60;

/// Whether a box is still wanted by its task, as it stands. A task that waits in the queue keeps the number of the
/// attempt that was parked, and wants no box of it.
pub fn wanted(session: &SessionHandle, task: Option<&Task>) -> bool {
    task.is_some_and(|task| task.attempt == session.attempt() && has_box(task.status()))
}

fn has_box(status: Status) -> bool {
    match status {
        Status::Hydrating | Status::Running | Status::AwaitingApproval | Status::Finalizing => true,
        Status::PendingUploads
        | Status::Queued
        | Status::Submitted
        | Status::Completed
        | Status::Failed
        | Status::Cancelled
        | Status::TimedOut => false,
    }
}

impl Orchestrator {
    pub(crate) async fn sweeps(&self, stop: CancellationToken) {
        let mut round = 0_u32;
        while !stop.is_cancelled() {
            self.sweep().await;
            self.sweep_quarantines().await;
            if round.is_multiple_of(OLD_EVERY) {
                self.sweep_traces().await;
                self.sweep_attachments().await;
                self.sweep_expired().await;
            }
            round = round.wrapping_add(1);
            tokio::select! {
                () = tokio::time::sleep(EVERY) => (),
                () = stop.cancelled() => (),
            }
        }
    }

    /// One sweep; answers how many boxes it stopped. Public so that tests can single-step.
    pub async fn sweep(&self) -> usize {
        let live = match self.parts().compute.list_sessions().await {
            Ok(live) => live,
            Err(failure) => {
                warn!(error = %failure, "the boxes could not be listed");
                return 0;
            }
        };
        let mut stopped = 0;
        for session in live {
            let task = match self.store().task_get(session.task()).await {
                Ok(task) => task,
                Err(_) => continue,
            };
            if wanted(&session, task.as_ref()) {
                continue;
            }
            let stop = StopSession {
                task: session.task(),
                attempt: session.attempt(),
                session: Some(session.clone()),
            };
            match self.stop_session(&stop).await {
                Ok(()) => {
                    stopped += 1;
                    info!(session.id = session.session_id(), "an orphaned box was stopped");
                }
                Err(failure) => {
                    warn!(session.id = session.session_id(), error = %failure, "an orphaned box could not be stopped")
                }
            }
        }
        stopped
    }

    /// Ends the quarantines that no task needs any more; answers how many. What was pushed and is on no forge stays as long
    /// as the record of its task. Public so that tests can single-step.
    pub async fn sweep_quarantines(&self) -> usize {
        let mirrors = &self.parts().mirrors;
        let tasks = mirrors.quarantines().unwrap_or_else(|failure| {
            warn!(error = %failure, "the quarantines could not be listed");
            Vec::new()
        });
        let mut ended = 0;
        for id in tasks {
            match self.end_quarantine(id).await {
                Ok(Fate::Kept) => (),
                Ok(Fate::Ended) => ended += 1,
                Err(failure) => warn!(task.id = %id, error = failure, "a quarantine could not be ended"),
            }
        }
        ended
    }

    async fn end_quarantine(&self, id: TaskId) -> Result<Fate, String> {
        let mirrors = &self.parts().mirrors;
        let Some(task) = self.store().task_get(id).await.map_err(|e| chain(&e))? else {
            return Ok(Fate::Kept);
        };
        if !task.status().is_terminal() {
            return Ok(Fate::Kept);
        }
        if let Some(pull) = self.store().pull_request_get(id).await.map_err(|e| chain(&e))? {
            mirrors.quarantine_end(id, &task.spec.repo, &pull.head_sha).await.map_err(|e| chain(&e))?;
            return Ok(Fate::Ended);
        }
        // It goes with the record of its task: see `retention`.
        if mirrors.was_pushed(id, &task.branch).await.map_err(|e| chain(&e))? {
            return Ok(Fate::Kept);
        }
        mirrors.quarantine_drop(id).map_err(|e| chain(&e))?;
        Ok(Fate::Ended)
    }
}

/// What became of a quarantine.
enum Fate {
    Kept,
    Ended,
}

#[cfg(test)]
mod tests {
    use domain::state::{QueueReason, State};
    use domain::{Attempt, TaskId, UserId};

    use super::*;

    #[test]
    fn a_box_is_wanted_by_the_attempt_that_works_and_by_nobody_else() {
        let spec = serde_json::json!({ "repo": "o/n", "workflow": "coding/new-task-v1", "description": "x" });
        let spec = serde_json::from_value(spec).unwrap();
        let (id, since) = (TaskId::from_bits(1), jiff::Timestamp::UNIX_EPOCH);
        let new = Task::new(id, UserId::new("u"), "api", spec, since);
        let of = |attempt| SessionHandle::Fake { task: id, attempt: Attempt(attempt) };
        let in_state = |state| Task { attempt: Attempt(2), state, ..new.clone() };
        let running = in_state(State::Running { since, session: of(2) });
        let parked = in_state(State::Queued { since, why: QueueReason::ProviderLimit, not_before: None });
        let ended = in_state(State::Completed { since });
        let asked = [
            ("the current attempt", wanted(&of(2), Some(&running))),
            ("an older attempt", wanted(&of(1), Some(&running))),
            ("a parked attempt", wanted(&of(2), Some(&parked))),
            ("a task that has ended", wanted(&of(2), Some(&ended))),
            ("an unknown task", wanted(&of(2), None)),
        ];
        assert_eq!(asked.map(|(_, wanted)| wanted), [true, false, false, false, false], "{asked:?}");
    }
}
