//! Starting a session once, however often it is asked for.
//!
//! ```text
//! create <dir> ─▶ take `turn` ─▶ `pid` there? ──yes──▶ that is the session
//!                                   │ no
//!                               `lock` held? ──yes──▶ a worker is just starting: wait for `pid`
//!                                   │ no
//!                 session.json, bootstrap ─▶ spawn ─▶ wait for `pid`, or for the child's end
//! ```
//!
//! A crash anywhere leaves a folder from which the next call goes on: before the spawn it spawns, after it it finds
//! `lock` held or `pid` there. Whatever else happens, the worker's own claim of `lock` and `pid` decides: of two workers
//! of one attempt the second ends without having done anything.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use domain::SessionHandle;
use tokio::time::Instant;

use super::child::{self, ChildState};
use super::error::{self, PathError};
use super::folder::{Folder, SessionFile};
use super::proc::SESSION_MARK;
use super::tree::Identity;
use super::{LocalBackend, blocking};
use crate::{ComputeError, SessionSpec};

/// A worker that holds the lock must say who it is within this time.
const CLAIM_DEADLINE: Duration = Duration::from_secs(5);
/// A worker must have come up within this time.
const SPAWN_DEADLINE: Duration = Duration::from_secs(10);
/// Longer than one whole start by somebody else.
const TURN_DEADLINE: Duration = Duration::from_secs(20);
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// See the module's own words.
pub(super) async fn start(
    local: &LocalBackend,
    spec: &SessionSpec,
    doing: &str,
) -> Result<SessionHandle, ComputeError> {
    let folder = local.folder(spec.task, spec.attempt);
    on(&folder, doing, |folder| folder.create()).await?;
    let turn = wait_for(&folder, doing, TURN_DEADLINE, |folder| folder.turn()).await?;
    let Some(_turn) = turn else {
        return Err(error::unavailable(doing, "another process is starting or removing the same session"));
    };
    if let Some(worker) = on(&folder, doing, |folder| folder.worker()).await? {
        return handle(&folder, worker, spec, doing).await;
    }
    if on(&folder, doing, |folder| folder.is_held()).await? {
        return match wait_for(&folder, doing, CLAIM_DEADLINE, |folder| folder.worker()).await? {
            Some(worker) => handle(&folder, worker, spec, doing).await,
            None => Err(error::unavailable(doing, "a worker holds the session and does not say who it is")),
        };
    }
    let worker = spawn(local, &folder, spec, doing).await?;
    handle(&folder, worker, spec, doing).await
}

/// The handle of a session that was claimed; with the tier it was started in, not the one asked for now.
async fn handle(
    folder: &Folder,
    worker: Identity,
    spec: &SessionSpec,
    doing: &str,
) -> Result<SessionHandle, ComputeError> {
    let tier = on(folder, doing, |folder| folder.session()).await?.map_or(spec.tier, |file| file.tier);
    Ok(SessionHandle::Local {
        task: folder.task,
        attempt: folder.attempt,
        dir: folder.path.clone(),
        pid: worker.pid,
        start_ticks: worker.start_ticks,
        tier,
    })
}

async fn spawn(
    local: &LocalBackend,
    folder: &Folder,
    spec: &SessionSpec,
    doing: &str,
) -> Result<Identity, ComputeError> {
    let file = SessionFile {
        task: spec.task,
        attempt: spec.attempt,
        gateway: spec.gateway.clone(),
        tier: spec.tier,
        plan: spec.plan.clone(),
    };
    let token = spec.bootstrap_token.clone();
    on(folder, doing, move |folder| {
        folder.write_session(&file)?;
        folder.write_bootstrap(&token)
    })
    .await?;
    let claimed = spawn_and_wait(local, folder, doing).await;
    if claimed.is_err() {
        // Nobody is known to have taken the token: it does not stay on disk. A worker that is only slow then ends by
        // itself for want of it, and the next call starts another.
        on(folder, doing, |folder| folder.remove_bootstrap()).await?;
    }
    claimed
}

async fn spawn_and_wait(
    local: &LocalBackend,
    folder: &Folder,
    doing: &str,
) -> Result<Identity, ComputeError> {
    let (out, err) = on(folder, doing, |folder| Ok((folder.log()?, folder.log()?))).await?;
    let mut command = Command::new(&local.config.program);
    command
        // What people see in a list of processes; the program itself may be named by `/proc`.
        .arg0("bgagent")
        .arg("worker")
        .arg("--session")
        .arg(&folder.path)
        .env_clear()
        .envs(local.config.env.iter().map(|(name, value)| (name, value)))
        .env(SESSION_MARK, folder.name())
        .current_dir(&folder.path)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err);
    let keep = folder.clone();
    let child = child::spawn(command, move |pid, code| {
        if let Err(error) = keep.keep_exit(pid, code) {
            tracing::warn!(%error, process.pid = pid, process.code = code, "a worker's exit code was not kept");
        }
    })
    .await
    .map_err(|source| program_error(local, doing, source))?;
    local.remember(folder, &child);
    let began = Instant::now();
    let mut pause = PAUSE_MIN;
    loop {
        // Read before `pid` is looked for: a worker that has claimed and ended by then is still found.
        let state = child.state();
        if let Some(worker) = on(folder, doing, |folder| folder.worker()).await? {
            return Ok(worker);
        }
        match state {
            ChildState::Running if began.elapsed() < SPAWN_DEADLINE => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            ChildState::Running => {
                return Err(error::unavailable(
                    doing,
                    format!("the worker did not come up within {} s", SPAWN_DEADLINE.as_secs()),
                ));
            }
            ChildState::Ended(code) => return after_end(folder, doing, code).await,
        }
    }
}

/// The child ended before there was a `pid`: it found the session taken, or it failed.
async fn after_end(folder: &Folder, doing: &str, code: Option<i32>) -> Result<Identity, ComputeError> {
    if on(folder, doing, |folder| folder.is_held()).await?
        && let Some(worker) = wait_for(folder, doing, CLAIM_DEADLINE, |folder| folder.worker()).await?
    {
        return Ok(worker);
    }
    let folder_ = folder.clone();
    let tail = blocking(move || folder_.tail()).await;
    let code = code.map_or("an unknown code".into(), |code| format!("code {code}"));
    let log = folder.path.join("worker.log");
    Err(error::unavailable(
        doing,
        format!(
            "the worker ended with {code} before it took the session; {} ends: {}",
            log.display(),
            tail.trim()
        ),
    ))
}

fn program_error(local: &LocalBackend, doing: &str, source: std::io::Error) -> ComputeError {
    use std::io::ErrorKind;
    let program = local.config.program.display();
    match source.kind() {
        ErrorKind::NotFound => error::unsupported(
            doing,
            format!(
                "the program {program} (or its interpreter) is not there: it may have been moved or replaced; start \
                 the server again from where the program is now"
            ),
        ),
        ErrorKind::PermissionDenied => error::unsupported(
            doing,
            format!(
                "the program {program} may not be executed ({source}): check its permissions and `noexec` mounts"
            ),
        ),
        _other if source.raw_os_error() == Some(nix::errno::Errno::ENOEXEC as i32) => {
            error::unsupported(doing, format!("{program} is no program of this machine ({source})"))
        }
        // Too many processes, no memory, the file is being written: all of it may pass.
        _may_pass => PathError::at("running", &local.config.program)(source).of(doing),
    }
}

/// A file operation on the folder, off the runtime's threads.
async fn on<T: Send + 'static>(
    folder: &Folder,
    doing: &str,
    act: impl FnOnce(&Folder) -> Result<T, PathError> + Send + 'static,
) -> Result<T, ComputeError> {
    let folder = folder.clone();
    blocking(move || act(&folder)).await.map_err(|e| e.of(doing))
}

/// Repeats `look` until it finds something; `None` at the deadline.
pub(super) async fn wait_for<T: Send + 'static>(
    folder: &Folder,
    doing: &str,
    deadline: Duration,
    look: impl Fn(&Folder) -> Result<Option<T>, PathError> + Copy + Send + 'static,
) -> Result<Option<T>, ComputeError> {
    let began = Instant::now();
    let mut pause = PAUSE_MIN;
    loop {
        let found = on(folder, doing, look).await?;
        if found.is_some() || began.elapsed() >= deadline {
            return Ok(found);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
