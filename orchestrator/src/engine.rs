//! The engine: claims what is due, drives each claimed task step by step, sleeps until something is due again.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use domain::{Command, Task, TaskId};
use jiff::Timestamp;
use store::{Claimed, Epoch, LeaseRelease, SessionRecord, StoreError};
use tokio::sync::Semaphore;
use tracing::{Instrument, debug, error, info_span, warn};

use crate::change::{Done, With};
use crate::next::{Polled, Step, next_step};
use crate::tasks::{OnPanic, Tasks};
use crate::{Orchestrator, fault};

/// Tasks driven at once. Driving is mostly waiting for forges and processes.
const DRIVERS: usize = 64;
/// The engine looks at least this often, in case a wake was for another process's write.
const IDLE_LOOK: Duration = Duration::from_secs(10);
/// More than this over [`IDLE_LOOK`] between two looks is a sleep of the machine.
const SLEEP_SLACK: Duration = Duration::from_secs(20);
/// After an error of the store, before the next try.
const STORE_BACKOFF: Duration = Duration::from_millis(500);

/// Where a drive goes on.
pub(crate) enum Onward {
    /// Look again at once, at this task.
    Again(Box<Task>),
    /// Not before this time.
    At(Timestamp),
    /// The task is at rest, or somebody else's.
    Over,
}

impl Orchestrator {
    /// Runs until `tasks` is told to stop: the engine, the obligations and the orphan sweep.
    pub fn run(&self, tasks: &Tasks) {
        let (engine, duties, sweep) = (self.clone(), self.clone(), self.clone());
        let (a, b) = (tasks.clone(), tasks.clone());
        tasks.spawn("engine", OnPanic::Stop, async move { engine.engine(a).await });
        tasks.spawn("obligations", OnPanic::Stop, async move { duties.obligations(b).await });
        let stop = tasks.stopping();
        tasks.spawn("orphan sweep", OnPanic::Log, async move { sweep.sweeps(stop).await });
        if self.parts().policy.traces.on() {
            let (teller, stop) = (self.clone(), tasks.stopping());
            tasks.spawn("spans of tasks", OnPanic::Log, async move { teller.tell_ended(stop).await });
        }
    }

    async fn engine(&self, tasks: Tasks) {
        let stop = tasks.stopping();
        let drivers = Arc::new(Semaphore::new(DRIVERS));
        let mut last_look = self.now();
        *self.awake_since.lock().unwrap_or_else(PoisonError::into_inner) = last_look;
        self.budgets_raised().await;
        while !stop.is_cancelled() {
            last_look = self.notice_sleep(last_look);
            let free = u32::try_from(drivers.available_permits()).unwrap_or(1);
            let claimed = match free {
                0 => Ok(Vec::new()),
                free => {
                    let parts = self.parts();
                    self.store().task_claim_due(&parts.node, self.now(), parts.policy.lease, free).await
                }
            };
            let wait = match claimed {
                Ok(claimed) if !claimed.is_empty() => {
                    for claimed in claimed {
                        let Ok(permit) = drivers.clone().acquire_owned().await else { return };
                        let driver = self.clone();
                        tasks.spawn("drive", OnPanic::Log, async move {
                            driver.drive(claimed).await;
                            drop(permit);
                            driver.ring();
                        });
                    }
                    continue;
                }
                // Every driver is at work; the first to end rings.
                Ok(_) if free == 0 => IDLE_LOOK,
                Ok(_) => self.idle_for().await,
                Err(failure) => {
                    error!(error = %failure, "the store did not answer");
                    STORE_BACKOFF
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => (),
                () = self.bell.notified() => (),
                () = stop.cancelled() => (),
            }
        }
    }

    /// How long nothing is due.
    async fn idle_for(&self) -> Duration {
        match self.store().next_due().await {
            Ok(Some(at)) => {
                let wait = at.as_millisecond().saturating_sub(self.now().as_millisecond());
                Duration::from_millis(u64::try_from(wait).unwrap_or(0))
                    .clamp(Duration::from_millis(5), IDLE_LOOK)
            }
            Ok(None) | Err(_) => IDLE_LOOK,
        }
    }

    /// Drives one claimed task until it must wait, then gives it back. Public so that tests can single-step.
    pub async fn drive(&self, claimed: Claimed) {
        let Claimed { task, epoch } = claimed;
        let span = info_span!("drive", task.id = %task.id);
        let (id, mut version) = (task.id, task.version);
        let keeper = self.keep_lease(id, epoch);
        let outcome = tokio::select! {
            outcome = self.steps(task, epoch, &mut version).instrument(span) => outcome,
            () = keeper => {
                warn!(task.id = %id, "the lease was lost; another node carries the task on");
                return;
            }
        };
        let wake_at = match outcome {
            Ok(wake_at) => wake_at,
            Err(failure) => {
                error!(task.id = %id, error = %failure, "a step failed; it is tried again");
                Some(domain::transition::after(self.now(), Duration::from_secs(1)))
            }
        };
        let release = LeaseRelease { task: id, epoch, seen_version: version, wake_at };
        if let Err(failure) = self.store().lease_release(release).await {
            warn!(task.id = %id, error = %failure, "the lease could not be given back; it runs out by itself");
        }
    }

    /// Renews the lease while a long step runs; ends only when the lease is lost.
    async fn keep_lease(&self, id: TaskId, epoch: Epoch) {
        let lease = self.parts().policy.lease;
        loop {
            tokio::time::sleep(lease / 3).await;
            let until = domain::transition::after(self.now(), lease);
            if let Ok(false) = self.store().lease_renew(id, epoch, until).await {
                return;
            }
        }
    }

    async fn steps(
        &self,
        mut task: Task,
        epoch: Epoch,
        version: &mut u64,
    ) -> Result<Option<Timestamp>, StoreError> {
        let mut polled = Polled::NotYet;
        loop {
            *version = task.version;
            let session = self.store().session_get(task.id, task.attempt).await?;
            let session = session.map(|s| self.as_heard(s));
            let step = next_step(&task, session.as_ref(), polled, self.now(), &self.parts().policy);
            debug!(?step, "next step");
            let onward = match step {
                Step::Rest => Onward::Over,
                Step::Wait(at) => Onward::At(at),
                Step::Apply(command) => {
                    let command = self.with_evidence(&task, *command).await;
                    self.follow(&task, command, epoch).await?
                }
                Step::Admit => self.admit(&task, epoch).await?,
                Step::PickUp => self.pick_up(&task, epoch).await?,
                Step::Preflight => self.preflight(&task, epoch).await?,
                Step::Dispatch => self.dispatch(&task, epoch).await?,
                Step::Poll => {
                    polled = Polled::JustNow;
                    self.poll(&task).await?;
                    Onward::Again(Box::new(task.clone()))
                }
                Step::Leave => self.depart(&task, epoch).await?,
                Step::Lose(failure) => self.lose(&task, failure, epoch).await?,
                Step::Finish => self.finish(&task, epoch).await?,
            };
            match onward {
                Onward::Again(next) => task = *next,
                Onward::At(at) => return Ok(Some(at)),
                Onward::Over => return Ok(None),
            }
        }
    }

    /// A box's silence counts only while somebody could have heard it: not while no control plane ran, nor while the
    /// machine slept.
    fn as_heard(&self, session: SessionRecord) -> SessionRecord {
        let awake_since = *self.awake_since.lock().unwrap_or_else(PoisonError::into_inner);
        SessionRecord {
            opened_at: session.opened_at.max(awake_since),
            heartbeat_at: session
                .attached_at
                .map(|attached| session.heartbeat_at.unwrap_or(attached).max(awake_since)),
            ..session
        }
    }

    /// Notices that the machine slept: the engine looks every [`IDLE_LOOK`] at the latest.
    fn notice_sleep(&self, last_look: Timestamp) -> Timestamp {
        let now = self.now();
        if now > domain::transition::after(last_look, IDLE_LOOK + SLEEP_SLACK) {
            warn!(
                "nothing was looked at for a while (the machine slept?); boxes get time to show that they live"
            );
            *self.awake_since.lock().unwrap_or_else(PoisonError::into_inner) = now;
        }
        now
    }

    /// Commits a command under the lease and says where the drive goes on.
    pub(crate) async fn follow(
        &self,
        task: &Task,
        command: Command,
        epoch: Epoch,
    ) -> Result<Onward, StoreError> {
        let done = self.apply(task, command, With { epoch: Some(epoch), pull_request: None }).await?;
        self.onward(task, done).await
    }

    /// Where a drive goes on after a command.
    pub(crate) async fn onward(&self, task: &Task, done: Done) -> Result<Onward, StoreError> {
        Ok(match done {
            Done::Applied(task) => Onward::Again(task),
            Done::Stale => match self.store().task_get(task.id).await? {
                Some(task) => Onward::Again(Box::new(task)),
                None => Onward::Over,
            },
            Done::Nothing(_) | Done::Refused(..) | Done::Fenced | Done::NoSlot(_) | Done::NoSuchTask => {
                Onward::Over
            }
        })
    }

    async fn admit(&self, task: &Task, epoch: Epoch) -> Result<Onward, StoreError> {
        fault::point("admit.before");
        let with = With { epoch: Some(epoch), pull_request: None };
        match self.apply(task, Command::Admit, with).await? {
            Done::NoSlot(_) => self.follow(task, Command::Enqueue, epoch).await,
            done => {
                fault::point("admit.committed");
                self.onward(task, done).await
            }
        }
    }

    async fn pick_up(&self, task: &Task, epoch: Epoch) -> Result<Onward, StoreError> {
        let with = With { epoch: Some(epoch), pull_request: None };
        match self.apply(task, Command::PickUp, with).await? {
            // Woken again when a slot of its scopes is freed; at the latest when it has waited too long.
            Done::NoSlot(_) => {
                let since = task.queued_at.unwrap_or(task.created_at);
                Ok(Onward::At(domain::transition::after(since, self.parts().policy.queue_backstop)))
            }
            done => self.onward(task, done).await,
        }
    }
}
