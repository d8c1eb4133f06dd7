//! The process: take the session, build the box where there is one, make the runtime, run the pipeline, heed signals, leave an exit code.
//!
//! | code | means |
//! |---|---|
//! | 0 | the result is handed over, or nobody wants it any more (cancelled, superseded, another worker has the session) |
//! | 1 | the work could not be handed over; the log says why |
//! | 101 | a bug: the pipeline panicked (reported as `WORKER_CRASHED` where possible) |
//! | 143 | asked to end by a signal |

use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use domain::{Failure, FailureCode, IsolationTier};
use sandbox::Upper;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::boxed::{self, Seat};
use crate::claim::{Claim, ClaimError, Opened, open_session};
use crate::client::{Gateway, Patience};
use crate::job::Job;
use crate::pipeline::{self, Ended};
use crate::reap;
use crate::stop::{Reason, Stop};

/// Tools end with the pipeline that is dropped; this is for their last breath.
const SIGNAL_GRACE: Duration = Duration::from_millis(600);
/// For the report of a crash.
const CRASH_REPORT: Duration = Duration::from_secs(60);
/// Two: one for the agent, one for heartbeats beside it. More would only cost memory.
const THREADS: usize = 2;
/// Bytes of the log of one session; what comes after is lost.
const LOG_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// What `bgagent worker` is called with.
#[derive(Debug, Clone)]
pub struct WorkerArgs {
    /// The session's folder.
    pub session_dir: PathBuf,
    /// Where the tools' first process, in a container of its own, is to find us.
    pub tools_socket: Option<PathBuf>,
}

/// Does the work of one session. Call it before the process has other threads.
pub fn run(args: WorkerArgs) -> ExitCode {
    log_to_stderr();
    let opened = match open_session(&args.session_dir) {
        Ok(opened) => opened,
        Err(error) => return not_taken(&error),
    };
    match (opened.session.tier, args.tools_socket) {
        (IsolationTier::Process, None) => with_claim(opened, |claim| {
            let job = Job::direct(claim).map_err(io::Error::other);
            in_runtime(async { attend(job?).await })
        }),
        (IsolationTier::Container, Some(socket)) => with_claim(opened, |claim| {
            let seat = Seat::as_it_is(claim);
            in_runtime(async {
                let line = boxed::wait_for_tools(&socket).await?;
                attend(Job::boxed(seat, line, None).await?).await
            })
        }),
        (IsolationTier::Sandbox, None) => in_a_box(opened),
        (tier, _) => {
            let tier = tier.as_str();
            tracing::error!(tier, "this session's tier cannot be had in the way the worker was called");
            ExitCode::FAILURE
        }
    }
}

/// Takes the session, works in this process, and leaves the exit code.
fn with_claim(opened: Opened, work: impl FnOnce(&Claim) -> io::Result<u8>) -> ExitCode {
    let claim = match opened.take() {
        Ok(claim) => claim,
        Err(error) => return not_taken(&error),
    };
    let code = work(&claim).unwrap_or_else(|error| {
        tracing::error!(%error, "the work cannot begin");
        1
    });
    reap::end_all();
    leave(&claim, code)
}

/// The monitor's part: builds the box around the worker, and leaves its exit code. The session is taken when the box
/// stands, so one that cannot be built leaves an attempt that can still be started.
fn in_a_box(opened: Opened) -> ExitCode {
    let plan = match boxed::plan(&opened.session, &opened.dir, std::env::vars_os()) {
        Ok(plan) => plan,
        Err(why) => {
            tracing::error!(why, "the box cannot be planned");
            return ExitCode::FAILURE;
        }
    };
    let mut taken = None;
    let payload = || {
        let claim = opened.take().map_err(io::Error::other)?;
        let seat = Seat::of(&claim).map_err(io::Error::other)?;
        taken = Some(claim);
        seat.to_bytes()
    };
    let code = sandbox::run_box(&plan, payload, boxed_worker).unwrap_or_else(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "the box cannot be had");
        1
    });
    reap::end_all();
    match taken {
        Some(claim) => leave(&claim, code),
        None => ExitCode::from(code),
    }
}

/// The worker's part, in its own layer of the box.
fn boxed_worker(upper: Upper, payload: Vec<u8>) -> u8 {
    let work = Seat::from_bytes(&payload).and_then(|mut seat| {
        drop(payload);
        seat.enforced = Some(upper.enforced.to_string());
        in_runtime(async { attend(Job::boxed(seat, upper.tools, Some(upper.monitor)).await?).await })
    });
    work.unwrap_or_else(|error| {
        tracing::error!(%error, "the work cannot begin in the box");
        1
    })
}

fn in_runtime(work: impl Future<Output = io::Result<u8>>) -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    let code = runtime.block_on(work);
    // Whatever still blocks must not keep the box.
    runtime.shutdown_background();
    code
}

fn not_taken(error: &ClaimError) -> ExitCode {
    match error {
        ClaimError::Held { .. } => {
            tracing::info!(%error, "nothing to do");
            ExitCode::SUCCESS
        }
        ClaimError::AlreadyRan { .. } | ClaimError::Io { .. } => {
            tracing::error!(error = error as &dyn std::error::Error, "the session cannot be taken");
            ExitCode::FAILURE
        }
    }
}

fn leave(claim: &Claim, code: u8) -> ExitCode {
    if let Err(error) = claim.write_exit(code) {
        tracing::warn!(error = &error as &dyn std::error::Error, "the exit code is not left behind");
    }
    ExitCode::from(code)
}

/// Runs the pipeline until it ends, panics, or a signal comes.
async fn attend(job: Job) -> io::Result<u8> {
    let stop = Stop::default();
    let attached = Arc::new(OnceLock::new());
    #[expect(
        clippy::disallowed_methods,
        reason = "the one task of this process; awaited below, so a panic is seen"
    )]
    let mut work = tokio::spawn(pipeline::run(job, stop.clone(), attached.clone()));
    let ended = tokio::select! {
        ended = &mut work => ended,
        () = asked_to_end() => {
            stop.ask(Reason::Terminated);
            if tokio::time::timeout(SIGNAL_GRACE, &mut work).await.is_err() {
                work.abort();
            }
            return Ok(143);
        }
    };
    Ok(match ended {
        Ok(Ended::Delivered) => 0,
        Ok(Ended::Unwanted(Reason::Leaving | Reason::Cancelled | Reason::Superseded)) => 0,
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
    })
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
        .with_writer(Bounded::stderr)
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // Somebody else may have set one up already: then that one is used.
    if tracing_subscriber::registry().with(lines).with(filter).try_init().is_err() {
        tracing::debug!("logging was set up before");
    }
}

/// Error output that ends at a bound: the log is outside the box, and nothing in it may fill the disk there.
struct Bounded;

impl Bounded {
    fn stderr() -> Bounded {
        Bounded
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        static WRITTEN: AtomicU64 = AtomicU64::new(0);
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        match WRITTEN.fetch_add(length, Ordering::Relaxed) < LOG_MAX_BYTES {
            true => io::stderr().write_all(bytes).map(|()| bytes.len()),
            false => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
