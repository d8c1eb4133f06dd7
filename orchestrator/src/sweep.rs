//! Stops boxes nobody should pay for: of finished, superseded or unknown attempts. Takes no input, trusts no hint, safe
//! to run twice. Why an attempt ended: see `supervise`.

use std::time::Duration;

use domain::transition::StopSession;
use domain::{SessionHandle, Task};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::Orchestrator;

/// Between two sweeps.
const EVERY: Duration = Duration::from_secs(60);

/// Whether a box is still wanted by its task, as it stands.
pub fn wanted(session: &SessionHandle, task: Option<&Task>) -> bool {
    task.is_some_and(|t| !t.status().is_terminal() && t.attempt == session.attempt())
}

impl Orchestrator {
    pub(crate) async fn sweeps(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.sweep().await;
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
}
