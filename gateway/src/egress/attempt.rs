//! One attempt's side of the proxy: what it may reach, how many connections it has, and its end, at which everything
//! that is open for it is cut.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use domain::event::NewEvent;
use domain::{Attempt, RepoRef, TaskId, limit};
use hyper::Response;
use orchestrator::token::BoxIdentity;
use orchestrator::{Clock, Orchestrator};
use store::StoreError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Egress;
use super::policy::{Groups, Policy, Speech, Verdict};
use super::resolve::Reach;
use super::target::Target;
use super::told::{Refusal, Tell, Told};

/// A new connection waits so long for room.
const SLOT_WAIT: Duration = Duration::from_secs(2);
/// Between two looks at whether an attempt still counts, when nothing is heard of its task.
const LOOK: Duration = Duration::from_secs(5);

/// The attempts that have opened a tunnel and are not over.
#[derive(Debug, Clone, Default)]
pub struct Attempts(Arc<Mutex<Sides>>);

type Sides = HashMap<(TaskId, Attempt), Arc<Side>>;

impl Attempts {
    fn lock(&self) -> std::sync::MutexGuard<'_, Sides> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The proxy as one attempt has it.
#[derive(Debug)]
pub struct Side {
    whose: Whose,
    /// Its repository, for messages.
    pub repo: String,
    /// What it may reach.
    pub policy: Arc<Policy>,
    /// The proxy.
    pub egress: Egress,
    over: CancellationToken,
    slots: Arc<Semaphore>,
    told: Mutex<Told>,
}

/// Whose requests they are.
#[derive(Debug)]
enum Whose {
    /// A box's, as long as its attempt counts; told in its task's events.
    Attempt { identity: BoxIdentity, orchestrator: Orchestrator },
    /// Those of a command that the owner runs in a box; told to the owner.
    Owner { told: Mutex<Vec<NewEvent>> },
}

/// A request that may go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// The rule that allowed it; none was needed when the mode is to look on.
    pub rule: Option<String>,
    /// What may be spoken.
    pub speech: Speech,
    /// Whether an address that is not public will do.
    pub reach: Reach,
}

impl Egress {
    /// The side of the attempt that `identity` proves, watched until it is over. `None` when its task is gone.
    pub async fn side(
        &self,
        orchestrator: &Orchestrator,
        identity: &BoxIdentity,
    ) -> Result<Option<Arc<Side>>, StoreError> {
        let key = (identity.task, identity.attempt);
        if let Some(side) = self.attempts.lock().get(&key) {
            return Ok(Some(side.clone()));
        }
        let Some(task) = orchestrator.store().task_get(identity.task).await? else { return Ok(None) };
        let fresh = Arc::new(Side {
            whose: Whose::Attempt { identity: identity.clone(), orchestrator: orchestrator.clone() },
            repo: task.spec.repo.to_string(),
            policy: self.parts().policies.of(&task.spec.repo).clone(),
            egress: self.clone(),
            over: CancellationToken::new(),
            slots: Arc::new(Semaphore::new(limit::EGRESS_CONNECTIONS_PER_ATTEMPT)),
            told: Mutex::default(),
        });
        let side = self.attempts.lock().entry(key).or_insert_with(|| fresh.clone()).clone();
        if Arc::ptr_eq(&side, &fresh) {
            self.work.spawn(side.clone().watch(orchestrator.clone(), identity.clone()));
        }
        Ok(Some(side))
    }

    /// The side of a command that the owner runs in a box on `repo`: it may reach what the repository's boxes may.
    pub fn owner(&self, repo: &RepoRef) -> Arc<Side> {
        Arc::new(Side {
            whose: Whose::Owner { told: Mutex::default() },
            repo: repo.to_string(),
            policy: self.parts().policies.of(repo).clone(),
            egress: self.clone(),
            over: CancellationToken::new(),
            slots: Arc::new(Semaphore::new(limit::EGRESS_CONNECTIONS_PER_ATTEMPT)),
            told: Mutex::default(),
        })
    }

    /// Runs `work` until it ends or the attempt does.
    pub fn spawn(&self, side: &Side, work: impl Future<Output = ()> + Send + 'static) {
        let over = side.over.clone();
        self.work.spawn(async move {
            tokio::select! {
                () = over.cancelled() => (),
                () = work => (),
            }
        });
    }
}

impl Side {
    /// Ends everything of this attempt as soon as it does not count any more.
    async fn watch(self: Arc<Self>, orchestrator: Orchestrator, identity: BoxIdentity) {
        let mut news = orchestrator.store().watch(identity.task);
        loop {
            match self.is_current().await {
                Ok(true) => (),
                Ok(false) => break,
                // Each request asks again; without an answer none goes on.
                Err(failure) => {
                    warn!(error = %failure, "the store does not say whether an attempt still counts")
                }
            }
            tokio::select! {
                () = self.over.cancelled() => break,
                () = news.changed(LOOK) => (),
            }
        }
        self.over.cancel();
        self.egress.attempts.lock().remove(&(identity.task, identity.attempt));
        info!(task.id = %identity.task, "the network of an attempt is closed");
    }

    /// Whether the attempt still counts, by the record.
    pub async fn is_current(&self) -> Result<bool, StoreError> {
        let Whose::Attempt { identity: BoxIdentity { task, attempt, instance }, orchestrator } = &self.whose
        else {
            return Ok(!self.over.is_cancelled());
        };
        let current = orchestrator.box_is_current(*task, *attempt, instance).await?;
        if !current {
            self.over.cancel();
        }
        Ok(current)
    }

    /// Room for one more connection. One that a tool has just closed is seen to be closed within a moment, so a moment
    /// is waited.
    pub async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        let room = self.slots.clone().acquire_owned();
        tokio::time::timeout(SLOT_WAIT, room).await.ok()?.ok()
    }

    /// The time by the platform's clock.
    pub fn now(&self) -> jiff::Timestamp {
        match &self.whose {
            Whose::Attempt { orchestrator, .. } => orchestrator.now(),
            Whose::Owner { .. } => Clock::System.now(),
        }
    }

    /// The attempt, when it is one.
    pub fn identity(&self) -> Option<&BoxIdentity> {
        match &self.whose {
            Whose::Attempt { identity, .. } => Some(identity),
            Whose::Owner { .. } => None,
        }
    }

    /// What an owner's command was told: the events that a task would have.
    pub fn told(&self) -> Vec<NewEvent> {
        match &self.whose {
            Whose::Attempt { .. } => vec![],
            Whose::Owner { told } => told.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Whether a rule allows `target`. What a rule allows may still have an address that is refused.
    pub async fn permit(&self, target: &Target) -> Result<Passage, Refusal> {
        let ask = &self.egress.parts().groups;
        let asked = self.policy.groups().iter().map(async |name| (name.clone(), ask.hosts(name).await));
        let groups = Groups(futures_util::future::join_all(asked).await.into_iter().collect());
        let reach = self.policy.reach(target, &groups);
        match self.policy.decide(target, &groups) {
            Verdict::Allowed(grant) => Ok(Passage { rule: Some(grant.rule), speech: grant.speech, reach }),
            Verdict::Observed => Ok(Passage { rule: None, speech: Speech::Any, reach }),
            Verdict::Denied => Err(Refusal::NotAllowed(target.clone())),
        }
    }

    /// Counts and tells that a request went to its host.
    pub async fn passed(&self, target: &Target, passage: &Passage) {
        match &passage.rule {
            Some(rule) => {
                count("allowed", "rule");
                self.tell(Tell::Allowed(target, rule)).await;
            }
            None => {
                count("observed", "not_allowed");
                self.tell(Tell::Observed(target)).await;
            }
        }
    }

    /// Counts and tells a refusal, and answers it.
    pub async fn refused(&self, refusal: &Refusal) -> Response<Body> {
        if refusal.is_denial() {
            count("denied", refusal.reason());
            let task = self.identity().map(|identity| identity.task.to_string());
            info!(task.id = task, reason = refusal.reason(), "a request to the network was refused");
            self.tell(Tell::Denied(refusal)).await;
        } else {
            count("failed", refusal.reason());
        }
        refusal.answer(&self.repo)
    }

    async fn tell(&self, tell: Tell<'_>) {
        let event = self.told.lock().unwrap_or_else(PoisonError::into_inner).once(&tell);
        let Some(event) = event else { return };
        match &self.whose {
            // Telemetry: the decision stands whether or not its event can be stored.
            Whose::Attempt { identity, orchestrator } => {
                let stored = orchestrator.box_event(identity.task, identity.attempt, event).await;
                if let Err(failure) = stored {
                    warn!(error = %failure, "an egress event could not be stored");
                }
            }
            Whose::Owner { told } => told.lock().unwrap_or_else(PoisonError::into_inner).push(event),
        }
    }
}

fn count(decision: &'static str, reason: &'static str) {
    metrics::counter!("bgagent_egress_requests_total", "decision" => decision, "reason" => reason)
        .increment(1);
}
