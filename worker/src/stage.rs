//! The stages of the work, as an explicit list: name, time limit, and what its failure means.

use std::future::Future;
use std::time::Duration;

use domain::{Failure, FailureCode, limit};
use serde_json::json;
use tokio::sync::watch;

use crate::spool::Spool;
use crate::stop::{Reason, Stop};

/// One step of the work. The order here is the order of the run; `Baseline` runs beside `Agent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Exchanging tokens and getting the work.
    Attach,
    /// Clone and branch.
    Repo,
    /// Bringing what the person attached.
    Attachments,
    /// Build and lint of the base, before the work.
    Baseline,
    /// The agent.
    Agent,
    /// Committing what the agent did not. Before `Verify`, whose leavings are not part of the work.
    Commit,
    /// Handing the branch over. Before `Verify`, which may take long: from here on the work is safe.
    Push,
    /// Build and lint of the work.
    Verify,
    /// The report.
    Result,
}

/// What the failure of a stage means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// There is nobody to report to: the worker ends with an error.
    End,
    /// Nothing was done yet: report the failure.
    Report,
    /// Keep the failure, save and push what there is, then report.
    SaveThenReport,
    /// Only a result of its own is lost; the rest goes on.
    GoOn,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Stage; 9] = [
        Stage::Attach,
        Stage::Repo,
        Stage::Attachments,
        Stage::Baseline,
        Stage::Agent,
        Stage::Commit,
        Stage::Push,
        Stage::Verify,
        Stage::Result,
    ];

    /// Its name in heartbeats, events and logs.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Attach => "attach",
            Stage::Repo => "repo",
            Stage::Attachments => "attachments",
            Stage::Baseline => "baseline",
            Stage::Agent => "agent",
            Stage::Verify => "verify",
            Stage::Commit => "commit",
            Stage::Push => "push",
            Stage::Result => "result",
        }
    }

    /// How long it may take. `verify` is the time of one build or lint run.
    pub fn timeout(self, verify: Duration) -> Duration {
        match self {
            Stage::Attach => limit::ATTACH_DEADLINE,
            Stage::Repo | Stage::Attachments => limit::HYDRATION_DEADLINE,
            // Two runs each, and the time to end them.
            Stage::Baseline | Stage::Verify => verify * 2 + Duration::from_secs(30),
            Stage::Agent => limit::TASK_LIFETIME,
            Stage::Commit => limit::COMMAND_TIMEOUT,
            Stage::Push => limit::FINALIZE_DEADLINE,
            // The work is done: waiting for the control plane costs nothing, giving up would lose it.
            Stage::Result => limit::TASK_LIFETIME,
        }
    }

    /// What its failure means.
    pub fn on_failure(self) -> OnFailure {
        match self {
            Stage::Attach | Stage::Result => OnFailure::End,
            Stage::Repo | Stage::Attachments => OnFailure::Report,
            Stage::Baseline | Stage::Verify => OnFailure::GoOn,
            Stage::Agent => OnFailure::SaveThenReport,
            // Commits that are there already are pushed although others could not be made.
            Stage::Commit => OnFailure::SaveThenReport,
            Stage::Push => OnFailure::Report,
        }
    }

    /// The failure of a stage that did not end in its time.
    fn timed_out(self, after: Duration) -> Failure {
        let code = match self {
            Stage::Attach | Stage::Repo | Stage::Attachments | Stage::Baseline => {
                FailureCode::HydrationTimedOut
            }
            Stage::Agent => FailureCode::TaskLifetimeExceeded,
            Stage::Verify => FailureCode::BuildTimedOut,
            Stage::Commit | Stage::Push | Stage::Result => FailureCode::FinalizeTimedOut,
        };
        Failure::new(code, format!("stage {} did not end within {} s", self.name(), after.as_secs()))
    }
}

/// Why a stage brought nothing.
#[derive(Debug)]
pub enum Broken {
    /// It failed.
    Failed(Failure),
    /// The work was asked to stop.
    Stopped(Reason),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Broken::Failed(failure)
    }
}

/// Runs stages: says where the work is, and keeps their time.
#[derive(Debug, Clone)]
pub struct Runner {
    spool: Spool,
    stop: Stop,
    now: watch::Sender<Stage>,
    verify: Duration,
}

impl Runner {
    /// Before the first stage.
    pub fn new(spool: Spool, stop: Stop) -> Runner {
        Runner { spool, stop, now: watch::Sender::new(Stage::Attach), verify: limit::VERIFY_TIMEOUT }
    }

    /// With another time for one build or lint run.
    #[must_use]
    pub fn verifying_within(self, verify: Duration) -> Runner {
        Runner { verify, ..self }
    }

    /// The stage that runs.
    pub fn watch(&self) -> watch::Receiver<Stage> {
        self.now.subscribe()
    }

    /// Runs the future as that stage. A stop or the end of its time drops it, and with it what it started.
    pub async fn run<T>(
        &self,
        stage: Stage,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Broken> {
        self.enter(stage);
        self.bounded(stage, work).await
    }

    /// As [`Runner::run`], for a stage that runs beside another one.
    pub async fn beside<T>(
        &self,
        stage: Stage,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Broken> {
        self.tell(stage);
        self.bounded(stage, work).await
    }

    async fn bounded<T>(
        &self,
        stage: Stage,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Broken> {
        let time = stage.timeout(self.verify);
        let done = tokio::select! {
            biased;
            reason = self.stop.asked() => return Err(Broken::Stopped(reason)),
            done = tokio::time::timeout(time, work) => done,
        };
        let done = done.unwrap_or_else(|_| Err(stage.timed_out(time)));
        done.map_err(|failure| {
            tracing::warn!(stage = stage.name(), failure.code = %failure.code, failure.detail, "a stage failed");
            Broken::Failed(failure)
        })
    }

    fn enter(&self, stage: Stage) {
        self.now.send_replace(stage);
        self.tell(stage);
    }

    fn tell(&self, stage: Stage) {
        tracing::info!(stage = stage.name(), "stage");
        self.spool.milestone("stage_started", json!({ "stage": stage.name() }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(dir: &std::path::Path) -> (Runner, Stop) {
        let stop = Stop::default();
        (Runner::new(Spool::open(dir).unwrap(), stop.clone()), stop)
    }

    #[test]
    fn a_stage_that_takes_too_long_has_a_typed_failure_that_names_it() {
        for stage in Stage::ALL {
            let failure = stage.timed_out(Duration::from_secs(7));
            assert!(failure.detail.contains(stage.name()) && failure.detail.contains("7 s"), "{failure}");
        }
    }

    #[tokio::test]
    async fn a_stage_says_where_the_work_is_and_ends_at_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let (runner, _) = runner(dir.path());
        assert!(runner.run(Stage::Repo, async { Ok(()) }).await.is_ok());
        assert_eq!(*runner.watch().borrow(), Stage::Repo);
        let spooled = std::fs::read_to_string(dir.path().join("spool.ndjson")).unwrap();
        assert!(spooled.contains("stage_started"), "{spooled}");
    }

    #[tokio::test]
    async fn a_stop_comes_before_anything_else() {
        let dir = tempfile::tempdir().unwrap();
        let (runner, stop) = runner(dir.path());
        stop.ask(Reason::Cancelled);
        stop.ask(Reason::Superseded);
        let ended = runner.run(Stage::Agent, async { Ok(()) }).await;
        assert!(matches!(ended, Err(Broken::Stopped(Reason::Cancelled))), "{ended:?}");
    }
}
