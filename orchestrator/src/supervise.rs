//! Looks at live boxes: asks the backend, records its raw answer, and adds what is known to a failure.

use compute::SessionStatus;
use domain::{Command, Failure, FailureCode, Task, limit};
use store::{PollResult, StoreError};
use tracing::warn;

use crate::Orchestrator;
use crate::dispatch::chain;

impl Orchestrator {
    /// Asks the backend and records the answer. What it means is decided by `next_step`.
    pub(crate) async fn poll(&self, task: &Task) -> Result<(), StoreError> {
        let Some(session) = task.state.session() else { return Ok(()) };
        let result = match self.parts().compute.poll(session).await {
            Ok(SessionStatus::Running) => PollResult::Running,
            Ok(SessionStatus::Ended { .. }) => PollResult::Ended,
            Err(failure) => {
                warn!(task.id = %task.id, error = %chain(&failure), "the backend could not be asked");
                PollResult::Error
            }
        };
        self.store().session_polled(task.id, task.attempt, result).await?;
        Ok(())
    }

    /// Adds the end of the worker's own log to a failure that is about its process.
    pub(crate) async fn with_evidence(&self, task: &Task, command: Command) -> Command {
        match command {
            Command::Fail { failure, results } => {
                Command::Fail { failure: self.explained(task, failure).await, results }
            }
            other => other,
        }
    }

    pub(crate) async fn explained(&self, task: &Task, failure: Failure) -> Failure {
        let about_process = matches!(
            failure.code,
            FailureCode::SessionEndedWithoutResult
                | FailureCode::SessionNeverStarted
                | FailureCode::SessionLost
        );
        let Some(session) = task.state.session().filter(|_| about_process) else { return failure };
        match self.parts().compute.poll(session).await {
            Ok(SessionStatus::Ended { code, tail }) => {
                let code = code.map_or_else(|| "unknown".to_owned(), |c| c.to_string());
                let mut detail = format!("{} (exit code {code})", failure.detail);
                if let Some(last) = tail.lines().rev().find(|l| !l.trim().is_empty()) {
                    detail.push_str("; its last words: ");
                    detail.push_str(&domain::event::preview(last.trim(), limit::PREVIEW_MAX_CHARS));
                }
                Failure::new(failure.code, detail)
            }
            Ok(SessionStatus::Running) | Err(_) => failure,
        }
    }
}
