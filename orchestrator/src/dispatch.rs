//! Starts the box of an attempt: refreshes the mirror, makes the task's quarantine that the box will clone from, opens
//! the session record, starts compute.
//!
//! A crash between any two lines is harmless: mirror, quarantine and session record repeat, and `start` finds the
//! session it started before. A task that was cancelled meanwhile has its box stopped by the obligation of that
//! transition; a box that was started after it is stopped here.

use compute::{BoxSpec, ComputeError, SessionSpec};
use domain::event::{EventKind, NewEvent};
use domain::transition::StopSession;
use domain::{Command, Failure, FailureCode, SessionHandle, Task};
use forge::{ForgeError, Retry};
use serde_json::json;
use store::{Epoch, StoreError};
use tracing::warn;

use crate::change::{Done, With};
use crate::engine::Onward;
use crate::sweep::wanted;
use crate::{Orchestrator, fault};

/// Tries of a start that failed for a passing reason: one retry, as ABCA does, and only for those.
const START_TRIES: u32 = 2;

impl Orchestrator {
    pub(crate) async fn dispatch(&self, task: &Task, epoch: Epoch) -> Result<Onward, StoreError> {
        self.store().session_open(task.id, task.attempt, self.now()).await?;
        fault::point("dispatch.opened");
        // There before the box, which may be lent its objects.
        let made = self.parts().mirrors.make(&task.spec.repo).await;
        let first = match made {
            Ok(first) => first,
            Err(ForgeError { failure, .. }) => {
                return self.fail_early(task, failure, epoch).await;
            }
        };
        let (mirror, session) = if self.asks_for_image(task) {
            let mirror = self.refresh_mirror(task, first).await;
            let session = match &mirror {
                Ok(()) => self.start(task).await,
                Err(failure) => Err(failure.clone()),
            };
            (mirror, session)
        } else {
            tokio::join!(self.refresh_mirror(task, first), self.start(task))
        };
        let session = match (mirror, session) {
            (Ok(()), Ok(session)) => session,
            (Err(failure), session) => {
                if let Ok(session) = session {
                    self.stop_at_once(task, session).await;
                }
                return self.fail_early(task, failure, epoch).await;
            }
            (Ok(()), Err(failure)) => {
                return self.fail_early(task, failure, epoch).await;
            }
        };
        fault::point("dispatch.started");
        let command = Command::SessionStarted { session: session.clone() };
        let done = self.apply(task, command, With { epoch: Some(epoch), pull_request: None }).await?;
        fault::point("dispatch.committed");
        if let Done::Refused(..) | Done::Stale = &done
            && let Some(current) = self.store().task_get(task.id).await?
            && !wanted(&session, Some(&current))
        {
            self.stop_at_once(task, session).await;
        }
        self.onward(task, done).await
    }

    async fn refresh_mirror(&self, task: &Task, first: bool) -> Result<(), Failure> {
        let (repo, mirrors) = (&task.spec.repo, &self.parts().mirrors);
        if first {
            // The first fetch of a large repository takes a while: say what is going on.
            let data = json!({ "milestone": "repository_first_fetch" });
            self.tell(task, "first-fetch", EventKind::AgentMilestone, data).await;
        }
        let forge = self.parts().forges.of(repo);
        let base = task.results.base_branch.as_deref().unwrap_or_default();
        let mut tries = 0;
        loop {
            tries += 1;
            let refreshed = async {
                mirrors.refresh(repo, &forge.remote(repo).await?, base).await?;
                mirrors.quarantine_open(task.id, repo, base).await
            };
            match refreshed.await {
                Ok(()) => return Ok(()),
                Err(ForgeError { failure, retry: Retry::Never, .. }) => return Err(failure),
                Err(ForgeError { failure, .. }) if tries == 3 => return Err(failure),
                Err(failure) => {
                    warn!(error = %failure, "the repository could not be fetched; trying again");
                    tokio::time::sleep(self.parts().policy.retry_pause * tries).await;
                }
            }
        }
    }

    async fn start(&self, task: &Task) -> Result<SessionHandle, Failure> {
        let parts = self.parts();
        let mut plan = BoxSpec {
            objects: Some(parts.mirrors.objects(&task.spec.repo)),
            ..parts.policy.plan(&task.spec.repo)
        };
        if self.asks_for_image(task) {
            plan.tools_image = self.image(task).await?;
        }
        let spec = SessionSpec {
            task: task.id,
            attempt: task.attempt,
            gateway: parts.gateway.clone(),
            bootstrap_token: parts.token_key.bootstrap(task.id, task.attempt),
            tier: parts.policy.tier_of(&task.spec),
            plan,
        };
        let mut tries = 0;
        loop {
            tries += 1;
            match parts.compute.start(&spec).await {
                Ok(session) => return Ok(session),
                Err(failure @ ComputeError::Unavailable { .. }) if tries < START_TRIES => {
                    let reason = chain(&failure);
                    warn!(error = reason, "the box did not start; trying once more");
                    let data = json!({ "reason": reason });
                    self.tell(task, "start-retry", EventKind::SessionStartRetry, data).await;
                    tokio::time::sleep(parts.policy.retry_pause).await;
                }
                Err(failure) => {
                    let retried = if tries > 1 { " (already retried)" } else { "" };
                    let detail = format!("{}{retried}", chain(&failure));
                    return Err(Failure::new(FailureCode::SessionStartFailed, detail));
                }
            }
        }
    }

    /// Telemetry: the work goes on whether or not it can be told.
    async fn tell(&self, task: &Task, key: &str, kind: EventKind, data: serde_json::Value) {
        let event = NewEvent { client_key: Some(key.into()), ..NewEvent::new(kind, data) };
        if let Err(failure) = self.box_event(task.id, task.attempt, event).await {
            warn!(task.id = %task.id, error = %failure, "an event could not be stored");
        }
    }

    /// Stops a box that nobody wants any more. When that fails, the orphan sweep finds it.
    async fn stop_at_once(&self, task: &Task, session: SessionHandle) {
        let stop = StopSession { task: task.id, attempt: task.attempt, session: Some(session) };
        if let Err(failure) = self.stop_session(&stop).await {
            warn!(task.id = %task.id, error = %failure, "an unwanted box could not be stopped; the sweep will find it");
        }
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(failure: &dyn std::error::Error) -> String {
    let mut text = failure.to_string();
    let mut cause = failure.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
