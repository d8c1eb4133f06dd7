//! One backend of several: a new session goes to the one that has its tier, a handle to the one that gave it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::{IsolationTier, SessionHandle};

use crate::{ComputeBackend, ComputeError, SessionSpec, SessionStatus, StopOutcome};

/// The backends of this machine.
#[derive(Debug, Clone)]
pub struct Router {
    local: Arc<dyn ComputeBackend>,
    container: Arc<dyn ComputeBackend>,
}

impl Router {
    /// `local` for the tiers `process` and `sandbox`, `container` for its own.
    pub fn new(local: Arc<dyn ComputeBackend>, container: Arc<dyn ComputeBackend>) -> Self {
        Self { local, container }
    }

    fn of_tier(&self, tier: IsolationTier) -> &dyn ComputeBackend {
        match tier {
            IsolationTier::Process | IsolationTier::Sandbox | IsolationTier::Microvm => &*self.local,
            IsolationTier::Container => &*self.container,
        }
    }

    fn of_handle(&self, handle: &SessionHandle) -> &dyn ComputeBackend {
        match handle {
            SessionHandle::Container { .. } => &*self.container,
            // What is nobody's is refused by the one that always is there.
            SessionHandle::Local { .. } | SessionHandle::Fake { .. } => &*self.local,
        }
    }
}

#[async_trait]
impl ComputeBackend for Router {
    fn name(&self) -> &'static str {
        "machine"
    }

    fn supports(&self, tier: IsolationTier) -> Result<(), String> {
        self.of_tier(tier).supports(tier)
    }

    /// An attempt has one session, also when its tier was changed in between by a new configuration: the caller keeps
    /// the tier with the task.
    async fn start(&self, spec: &SessionSpec) -> Result<SessionHandle, ComputeError> {
        self.of_tier(spec.tier).start(spec).await
    }

    async fn poll(&self, handle: &SessionHandle) -> Result<SessionStatus, ComputeError> {
        self.of_handle(handle).poll(handle).await
    }

    async fn stop(&self, handle: &SessionHandle, grace: Duration) -> Result<StopOutcome, ComputeError> {
        self.of_handle(handle).stop(handle, grace).await
    }

    async fn list_sessions(&self) -> Result<Vec<SessionHandle>, ComputeError> {
        let (local, container) = tokio::join!(self.local.list_sessions(), self.container.list_sessions());
        let mut all = local?;
        all.extend(container?);
        Ok(all)
    }

    async fn purge(&self, handle: &SessionHandle) -> Result<(), ComputeError> {
        self.of_handle(handle).purge(handle).await
    }
}
