//! Why the work must end before it is done, told once to everything that runs.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// The reason. The first one given stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The task is cancelled or parked: the work is saved first.
    Leaving,
    /// The task has ended.
    Cancelled,
    /// The attempt is over, or another box has it: nothing may be sent any more.
    Superseded,
    /// The gateway does not take our token.
    Unauthorized,
    /// The machine asked us to end.
    Terminated,
}

/// Shared by the pipeline and the tasks beside it.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    token: CancellationToken,
    reason: Arc<OnceLock<Reason>>,
}

impl Stop {
    /// Asks everything to stop. The reason is there before anybody hears of it.
    pub fn ask(&self, reason: Reason) {
        let first = *self.reason.get_or_init(|| reason);
        if !self.token.is_cancelled() {
            tracing::info!(stop.reason = ?first, "stopping");
        }
        self.token.cancel();
    }

    /// Why, when asked.
    pub fn reason(&self) -> Option<Reason> {
        self.reason.get().copied()
    }

    /// Waits until asked.
    pub async fn asked(&self) -> Reason {
        self.token.cancelled().await;
        self.reason().unwrap_or(Reason::Terminated)
    }

    /// Cancelled when asked; for what knows only tokens.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }
}
