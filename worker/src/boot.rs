//! The process: claim the session, make the runtime, run the pipeline, heed signals, leave an exit code.
//!
//! | code | means |
//! |---|---|
//! | 0 | the result is handed over, or nobody wants it any more (cancelled, superseded, another worker has the session) |
//! | 1 | the work could not be handed over; the log says why |
//! | 101 | a bug: the pipeline panicked (reported as `WORKER_CRASHED` where possible) |
//! | 143 | asked to end by a signal |

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use domain::{Failure, FailureCode};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::claim::{Claim, ClaimError, claim_session};
use crate::client::{Gateway, Patience};
use crate::pipeline::{self, Ended};
use crate::reap;
use crate::stop::{Reason, Stop};

/// Tools end with the pipeline that is dropped; this is for their last breath.
const SIGNAL_GRACE: Duration = Duration::from_millis(600);
/// For the report of a crash.
const CRASH_REPORT: Duration = Duration::from_secs(60);
/// Two: one for the agent, one for heartbeats beside it. More would only cost memory.
const THREADS: usize = 2;

/// What `bgagent worker` is called with.
#[derive(Debug, Clone)]
pub struct WorkerArgs {
    /// The session's folder.
    pub session_dir: PathBuf,
}

/// Does the work of one session. Call it before the process has other threads.
pub fn run(args: WorkerArgs) -> ExitCode {
    log_to_stderr();
    let claim = match claim_session(&args.session_dir) {
        Ok(claim) => claim,
        Err(error @ ClaimError::Held { .. }) => {
            tracing::info!(%error, "nothing to do");
            return ExitCode::SUCCESS;
        }
        Err(error @ (ClaimError::AlreadyRan { .. } | ClaimError::Io { .. })) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the session cannot be taken");
            return ExitCode::FAILURE;
        }
    };
    let claim = Arc::new(claim);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let code = match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(attend(claim.clone()));
            // Whatever still blocks must not keep the box.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            tracing::error!(%error, "the runtime cannot be made");
            1
        }
    };
    reap::end_all();
    if let Err(error) = claim.write_exit(code) {
        tracing::warn!(error = &error as &dyn std::error::Error, "the exit code is not left behind");
    }
    ExitCode::from(code)
}

/// Runs the pipeline until it ends, panics, or a signal comes.
async fn attend(claim: Arc<Claim>) -> u8 {
    let stop = Stop::default();
    let attached = Arc::new(OnceLock::new());
    #[expect(
        clippy::disallowed_methods,
        reason = "the one task of this process; awaited below, so a panic is seen"
    )]
    let mut work = tokio::spawn(pipeline::run(claim, stop.clone(), attached.clone()));
    let ended = tokio::select! {
        ended = &mut work => ended,
        () = asked_to_end() => {
            stop.ask(Reason::Terminated);
            if tokio::time::timeout(SIGNAL_GRACE, &mut work).await.is_err() {
                work.abort();
            }
            return 143;
        }
    };
    match ended {
        Ok(Ended::Delivered) => 0,
        Ok(Ended::Unwanted(Reason::Cancelled | Reason::Superseded)) => 0,
        Ok(Ended::Unwanted(Reason::Terminated)) => 143,
        Ok(Ended::Unwanted(Reason::Unauthorized)) => {
            tracing::error!("the gateway refuses this worker's token");
            1
        }
        Ok(Ended::Undelivered(why)) => {
            tracing::error!(why, "the work could not be handed over");
            1
        }
        Err(panic) => {
            tracing::error!(error = %panic, "the pipeline panicked");
            if let Some(gateway) = attached.get() {
                report_crash(gateway, &panic.to_string()).await;
            }
            101
        }
    }
}

async fn report_crash(gateway: &Gateway, what: &str) {
    let report = domain::report::Report::lost(Failure::new(FailureCode::WorkerCrashed, what));
    if let Err(error) = gateway.result(&report, Patience::within(CRASH_REPORT)).await {
        tracing::error!(%error, "the crash could not be reported");
    }
}

async fn asked_to_end() {
    let mut signals = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(%error, "signals are not heard: a stop ends this process hard");
            return std::future::pending().await;
        }
    };
    tokio::select! {
        _ = signals.0.recv() => (),
        _ = signals.1.recv() => (),
    }
}

/// The log is the session's `worker.log`. `BGAGENT_LOG` says how much, as in `worker=debug`.
fn log_to_stderr() {
    #[expect(clippy::disallowed_methods, reason = "this is where the worker reads its environment")]
    let wanted = std::env::var("BGAGENT_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let filter = wanted.unwrap_or_else(|| {
        Targets::new().with_default(LevelFilter::WARN).with_target("worker", LevelFilter::INFO)
    });
    // A line that cannot be written (full disk) is lost; telling of it on the same stderr would panic.
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // Somebody else may have set one up already: then that one is used.
    if tracing_subscriber::registry().with(lines).with(filter).try_init().is_err() {
        tracing::debug!("logging was set up before");
    }
}
