//! Meets obligations: what must happen after a transition and could not be part of it. Retried with backoff until done.

use std::time::Duration;

use compute::ComputeError;
use domain::SessionHandle;
use domain::transition::{StopSession, after};
use store::{Alarm, Duty, Obligation, StoreError};
use tracing::{error, info, warn};

use crate::config::KeepSessions;
use crate::dispatch::chain;
use crate::tasks::{OnPanic, Tasks};
use crate::{Orchestrator, fault};

/// At once, at most.
const AT_ONCE: u32 = 32;
/// One try may take this long before another process may try too.
const LEASE: Duration = Duration::from_secs(60);
/// The longest wait between two tries.
const BACKOFF_MAX: Duration = Duration::from_secs(300);

impl Orchestrator {
    pub(crate) async fn obligations(&self, tasks: Tasks) {
        let stop = tasks.stopping();
        while !stop.is_cancelled() {
            match self.store().obligation_claim_due(self.now(), LEASE, AT_ONCE).await {
                Ok(due) if !due.is_empty() => {
                    for obligation in due {
                        let this = self.clone();
                        tasks.spawn("obligation", OnPanic::Log, async move { this.meet(obligation).await });
                    }
                }
                Ok(_) => (),
                Err(failure) => error!(error = %failure, "obligations could not be read"),
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => (),
                () = self.duty_bell().notified() => (),
                () = stop.cancelled() => (),
            }
        }
    }

    /// Tries one obligation. Public so that tests can single-step.
    pub async fn meet(&self, obligation: Obligation) {
        let settled = match &obligation.duty {
            Duty::StopSession { attempt, session } => {
                let stop = StopSession { task: obligation.task, attempt: *attempt, session: session.clone() };
                match self.stop_session(&stop).await {
                    Ok(()) => {
                        fault::point("stop.done");
                        self.store().obligation_done(obligation.id).await
                    }
                    Err(failure) => self.put_off(&obligation, &failure).await,
                }
            }
            Duty::SealTrace => match self.seal_trace(obligation.task).await {
                Ok(()) => {
                    fault::point("trace.sealed");
                    self.store().obligation_done(obligation.id).await
                }
                Err(failure) => {
                    let text = chain(&failure);
                    warn!(task.id = %obligation.task, error = %text, "a trace could not be put together; trying again");
                    let at = after(self.now(), backoff(&obligation));
                    self.store().obligation_retry(obligation.id, at, &text, failure.alarm()).await
                }
            },
        };
        if let Err(failure) = settled {
            warn!(obligation.id = %obligation.id, error = %failure, "an obligation could not be recorded; it is tried again");
        }
    }

    async fn put_off(&self, obligation: &Obligation, failure: &ComputeError) -> Result<(), StoreError> {
        let alarm = match failure {
            ComputeError::Unavailable { .. } => Alarm::Off,
            ComputeError::Denied { .. } | ComputeError::Unsupported { .. } => Alarm::On,
        };
        let wait = backoff(obligation);
        let text = chain(failure);
        warn!(task.id = %obligation.task, error = %text, "a box could not be stopped; trying again");
        self.store().obligation_retry(obligation.id, after(self.now(), wait), &text, alarm).await
    }

    /// Stops a box and clears up after it. Already gone is done. A box whose handle was lost is looked for.
    pub(crate) async fn stop_session(&self, stop: &StopSession) -> Result<(), ComputeError> {
        let compute = &self.parts().compute;
        let session = match &stop.session {
            Some(session) => Some(session.clone()),
            None => {
                let live = compute.list_sessions().await?;
                live.into_iter().find(|s| s.task() == stop.task && s.attempt() == stop.attempt)
            }
        };
        let Some(session) = session else { return Ok(()) };
        self.end_box(&session).await?;
        match self.parts().policy.keep_sessions {
            KeepSessions::Yes => Ok(()),
            KeepSessions::No => compute.purge(&session).await,
        }
    }

    /// Makes sure that nothing of a box runs any more. Already gone is done.
    pub(crate) async fn end_box(&self, session: &SessionHandle) -> Result<(), ComputeError> {
        let parts = self.parts();
        let outcome = parts.compute.stop(session, parts.policy.stop_grace).await?;
        info!(task.id = %session.task(), attempt.number = session.attempt().0, ?outcome, "box stopped");
        Ok(())
    }
}

fn backoff(obligation: &Obligation) -> Duration {
    Duration::from_secs(1 << obligation.tries.min(8)).min(BACKOFF_MAX)
}
