//! A backend in memory, for tests of everything above the seam. Runs nothing; a test says what becomes of a session,
//! and which calls fail. Passes the same [`conformance`](crate::conformance) suite as the others.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::{Attempt, IsolationTier, SessionHandle, TaskId};
use tokio::sync::watch;

use crate::{ComputeBackend, ComputeError, SessionSpec, SessionStatus, StopOutcome};

/// An operation that can be told to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`ComputeBackend::start`].
    Start,
    /// [`ComputeBackend::poll`].
    Poll,
    /// [`ComputeBackend::stop`].
    Stop,
    /// [`ComputeBackend::list_sessions`].
    List,
    /// [`ComputeBackend::purge`].
    Purge,
}

/// How it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done; it may work later.
    Unavailable,
    /// Nothing is done; a person must change something.
    Denied,
    /// Nothing is done; it can never work.
    Unsupported,
    /// It IS done, but the caller never learns: the answer was lost, or the caller crashed.
    LostAnswer,
}

/// One call, as it arrived, failed ones too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// `start` of this session.
    Start(TaskId, Attempt),
    /// `poll` of this session.
    Poll(TaskId, Attempt),
    /// `stop` of this session with this grace.
    Stop(TaskId, Attempt, Duration),
    /// `list_sessions`.
    List,
    /// `purge` of this session.
    Purge(TaskId, Attempt),
}

/// The backend. Clones are the same backend, as seen by a control plane that was started again.
#[derive(Debug, Clone, Default)]
pub struct FakeBackend {
    world: Arc<Mutex<World>>,
    /// Rises with every session that comes to be.
    started: Arc<watch::Sender<u64>>,
}

#[derive(Debug, Default)]
struct World {
    sessions: BTreeMap<(TaskId, Attempt), Session>,
    faults: HashMap<Operation, VecDeque<Fault>>,
    calls: Vec<Call>,
}

#[derive(Debug)]
struct Session {
    spec: SessionSpec,
    status: SessionStatus,
}

impl FakeBackend {
    /// An empty world in which nothing fails.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next call of `operation` fails like this; several are taken in the order they were given.
    pub fn fail_next(&self, operation: Operation, fault: Fault) {
        self.world().faults.entry(operation).or_default().push_back(fault);
    }

    /// From now on the backend sees the session like this. False when there is no such session.
    pub fn set_status(&self, task: TaskId, attempt: Attempt, status: SessionStatus) -> bool {
        let mut world = self.world();
        let session = world.sessions.get_mut(&(task, attempt));
        session.map(|session| session.status = status).is_some()
    }

    /// The session's process ends by itself. False when there is no such session.
    pub fn end(&self, task: TaskId, attempt: Attempt, code: Option<i32>) -> bool {
        self.set_status(task, attempt, SessionStatus::Ended { code, tail: String::new() })
    }

    /// The session is gone without a trace, as when its machine was lost.
    pub fn vanish(&self, task: TaskId, attempt: Attempt) {
        self.world().sessions.remove(&(task, attempt));
    }

    /// What the session was started with: a test that plays the box attaches with its token.
    pub fn spec(&self, task: TaskId, attempt: Attempt) -> Option<SessionSpec> {
        self.world().sessions.get(&(task, attempt)).map(|session| session.spec.clone())
    }

    /// Waits until the session has been started. Give it a deadline.
    pub async fn started(&self, task: TaskId, attempt: Attempt) -> SessionSpec {
        let mut started = self.started.subscribe();
        loop {
            started.borrow_and_update();
            if let Some(spec) = self.spec(task, attempt) {
                return spec;
            }
            // The sender is a field of `self`: it cannot be gone.
            if started.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Every session that is known, in order.
    pub fn sessions(&self) -> Vec<(TaskId, Attempt, SessionStatus)> {
        self.world().sessions.iter().map(|((task, attempt), s)| (*task, *attempt, s.status.clone())).collect()
    }

    /// Every call so far, in order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.world().calls.clone()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the call, then does `act`, unless it was told to fail.
    fn call<T>(
        &self,
        call: Call,
        doing: &str,
        act: impl FnOnce(&mut World) -> Result<T, ComputeError>,
    ) -> Result<T, ComputeError> {
        let mut world = self.world();
        let operation = call.operation();
        world.calls.push(call);
        let Some(fault) = world.faults.get_mut(&operation).and_then(VecDeque::pop_front) else {
            return act(&mut world);
        };
        let doing = doing.to_owned();
        match fault {
            Fault::Unavailable => Err(ComputeError::Unavailable { doing, source: "the test says so".into() }),
            Fault::Denied => Err(ComputeError::Denied { doing, source: "the test says so".into() }),
            Fault::Unsupported => Err(ComputeError::Unsupported { doing, reason: "the test says so".into() }),
            Fault::LostAnswer => {
                act(&mut world)?;
                Err(ComputeError::Unavailable { doing, source: "the answer was lost".into() })
            }
        }
    }
}

#[async_trait]
impl ComputeBackend for FakeBackend {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn supports(&self, tier: IsolationTier) -> Result<(), String> {
        match tier {
            IsolationTier::Process => Ok(()),
            IsolationTier::Sandbox | IsolationTier::Container | IsolationTier::Microvm => {
                Err(format!("the fake backend has no tier `{}`", tier.as_str()))
            }
        }
    }

    async fn start(&self, spec: &SessionSpec) -> Result<SessionHandle, ComputeError> {
        let (task, attempt) = (spec.task, spec.attempt);
        self.call(Call::Start(task, attempt), &doing("starting", task, attempt), |world| {
            world.sessions.entry((task, attempt)).or_insert_with(|| {
                self.started.send_modify(|count| *count += 1);
                Session { spec: spec.clone(), status: SessionStatus::Running }
            });
            Ok(SessionHandle::Fake { task, attempt })
        })
    }

    async fn poll(&self, handle: &SessionHandle) -> Result<SessionStatus, ComputeError> {
        let (task, attempt) = fake(handle, "polling")?;
        self.call(Call::Poll(task, attempt), &doing("polling", task, attempt), |world| {
            let gone = SessionStatus::Ended { code: None, tail: String::new() };
            Ok(world.sessions.get(&(task, attempt)).map_or(gone, |session| session.status.clone()))
        })
    }

    async fn stop(&self, handle: &SessionHandle, grace: Duration) -> Result<StopOutcome, ComputeError> {
        let (task, attempt) = fake(handle, "stopping")?;
        self.call(Call::Stop(task, attempt, grace), &doing("stopping", task, attempt), |world| {
            let Some(session) = world.sessions.get_mut(&(task, attempt)) else {
                return Ok(StopOutcome::AlreadyGone);
            };
            match session.status {
                SessionStatus::Running => {
                    session.status = SessionStatus::Ended { code: Some(143), tail: String::new() };
                    Ok(StopOutcome::Stopped)
                }
                SessionStatus::Ended { .. } => Ok(StopOutcome::AlreadyGone),
            }
        })
    }

    async fn list_sessions(&self) -> Result<Vec<SessionHandle>, ComputeError> {
        self.call(Call::List, "listing the fake sessions", |world| {
            let live = world.sessions.iter().filter(|(_, session)| session.status == SessionStatus::Running);
            Ok(live
                .map(|((task, attempt), _)| SessionHandle::Fake { task: *task, attempt: *attempt })
                .collect())
        })
    }

    async fn purge(&self, handle: &SessionHandle) -> Result<(), ComputeError> {
        let (task, attempt) = fake(handle, "purging")?;
        let doing = doing("purging", task, attempt);
        self.call(Call::Purge(task, attempt), &doing, |world| {
            let session = world.sessions.get(&(task, attempt));
            if session.is_some_and(|session| session.status == SessionStatus::Running) {
                let source = "it still runs: stop it first".into();
                return Err(ComputeError::Unavailable { doing: doing.clone(), source });
            }
            world.sessions.remove(&(task, attempt));
            Ok(())
        })
    }
}

impl Call {
    fn operation(&self) -> Operation {
        match self {
            Call::Start(..) => Operation::Start,
            Call::Poll(..) => Operation::Poll,
            Call::Stop(..) => Operation::Stop,
            Call::List => Operation::List,
            Call::Purge(..) => Operation::Purge,
        }
    }
}

fn fake(handle: &SessionHandle, verb: &str) -> Result<(TaskId, Attempt), ComputeError> {
    match handle {
        SessionHandle::Fake { task, attempt } => Ok((*task, *attempt)),
        SessionHandle::Local { task, attempt, .. } | SessionHandle::Container { task, attempt, .. } => {
            Err(ComputeError::Unsupported {
                doing: doing(verb, *task, *attempt),
                reason: format!(
                    "it is a session of backend `{}`, not of `fake`: ask that backend",
                    handle.backend()
                ),
            })
        }
    }
}

fn doing(verb: &str, task: TaskId, attempt: Attempt) -> String {
    format!("{verb} the session of {task} attempt {attempt}")
}
