//! Background work of the control plane, each piece registered with a name and what its failure means.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error, info_span};

/// What it means when a piece of background work panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPanic {
    /// The piece is over; what it worked at is found again by what is stored.
    Log,
    /// The process cannot do its work without it: stop, so that a supervisor restarts it.
    Stop,
}

/// The registry: spawns, tracks, and stops all of it together.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Cancelled when the process is to stop.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs `work` in the background under `name`.
    #[expect(clippy::disallowed_methods, reason = "this is the registry that the lint points to")]
    pub fn spawn<F>(&self, name: &'static str, on_panic: OnPanic, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        let work = tokio::spawn(work.instrument(info_span!("background", task.name = name)));
        self.tracker.spawn(async move {
            if let Err(failure) = work.await
                && failure.is_panic()
            {
                match on_panic {
                    OnPanic::Log => (),
                    OnPanic::Stop => stop.cancel(),
                }
                error!(task.name = name, "background work panicked");
            }
        });
    }

    /// Tells all of it to stop.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until all of it has ended.
    pub async fn drained(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
