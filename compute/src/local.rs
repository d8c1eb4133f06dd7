//! Runs boxes as process trees of this machine: in tier `process` as ordinary ones of this user, which isolates nothing;
//! in tier `sandbox` the worker itself builds the box, and the process that is started here is its monitor, outside.
//!
//! # The session folder
//!
//! Control plane and worker share `<sessions_dir>/<task>-<attempt>/` (mode 0700) and nothing else; the worker's half of
//! this protocol is `worker::claim`.
//!
//! | file | written by | holds |
//! |---|---|---|
//! | `turn` | control plane | locked (`flock`) while one control plane starts or purges the session |
//! | `session.json` | control plane | `{task, attempt, gateway, tier, plan}`; no secret |
//! | `bootstrap` | control plane, 0600 | the one-time token; the worker reads and then deletes it |
//! | `worker.log` | worker | its stdout and stderr, appended |
//! | `lock` | worker | locked (`flock`) for the worker's life; who cannot lock it is a second worker and ends with 0 |
//! | `pid` | worker, once it holds `lock` | `{"pid", "start_ticks"}`; never rewritten: this attempt has run |
//! | `exit` | worker, or who reaped it | its exit code in decimal |
//! | `box/` | tier `sandbox` | all that the box can write; it sees nothing else of the folder |
//!
//! Files appear whole, by rename. The worker is spawned as `<program> worker --session <dir>` with nothing in its
//! environment but what the configuration names and the mark [`SESSION_MARK`]. It makes its own POSIX session as its
//! first act, so it outlives the control plane and a terminal's Ctrl-C. Tools that it runs must inherit the mark.
//!
//! What belongs to a session, and what can get away from it, is told in `local/tree.rs`.

mod child;
pub(crate) mod error;
pub(crate) mod folder;
mod proc;
pub(crate) mod reach;
mod start;
mod tree;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::{Attempt, IsolationTier, SessionHandle, TaskId};

use self::child::Child;
use self::error::PathError;
use self::folder::{Folder, absent_ok};
pub use self::proc::SESSION_MARK;
use self::tree::{Ended, Identity};
use crate::{ComputeBackend, ComputeError, SessionSpec, SessionStatus, StopOutcome};

/// How long `poll` waits for a worker that has just ended to be reaped, and so for its code.
const CODE_DEADLINE: Duration = Duration::from_secs(5);

/// Variables that a worker needs to find its tools and that hold no secret, for [`LocalConfig::env`].
pub const ENV_ALLOWED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "GOPATH",
    "GOROOT",
    "GOCACHE",
    "JAVA_HOME",
    "NVM_DIR",
    "PYENV_ROOT",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// Where and how the local backend runs workers.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// Holds one folder for each session; made when it is not there.
    pub sessions_dir: PathBuf,
    /// The `bgagent` binary, usually `std::env::current_exe()`.
    pub program: PathBuf,
    /// The whole environment of the worker (see [`environment`]). Never anything with a secret.
    pub env: Vec<(OsString, OsString)>,
    /// Address of the gateway, as boxes are told: not every tier can reach every one.
    pub gateway: String,
}

/// Of the variables in `from` those that [`ENV_ALLOWED`] or `extra` names.
pub fn environment(
    from: impl IntoIterator<Item = (OsString, OsString)>,
    extra: &[String],
) -> Vec<(OsString, OsString)> {
    from.into_iter()
        .filter(|(name, _)| {
            ENV_ALLOWED.iter().any(|allowed| name == allowed) || extra.iter().any(|e| name == e.as_str())
        })
        .collect()
}

/// Runs boxes as process trees of this machine. Clones share what they know; several objects over one folder, also in
/// several processes, agree through the folder.
#[derive(Debug, Clone)]
pub struct LocalBackend {
    config: Arc<LocalConfig>,
    /// Workers that this process spawned, by session name. Only a faster way to their exit codes: what matters is in
    /// the folder.
    children: Arc<Mutex<HashMap<String, Child>>>,
}

impl LocalBackend {
    /// Touches nothing yet: what is wrong with the folder or the program is told by the first `start`.
    pub fn new(mut config: LocalConfig) -> Self {
        // The worker runs in another folder, so a relative path would name something else there. It fails only for an
        // empty path or without a current folder; then the path stays and `start` tells.
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        config.sessions_dir = absolute(&config.sessions_dir);
        if config.program.components().count() > 1 {
            config.program = absolute(&config.program);
        }
        Self { config: Arc::new(config), children: Arc::default() }
    }

    fn folder(&self, task: TaskId, attempt: Attempt) -> Folder {
        Folder::new(&self.config.sessions_dir, task, attempt)
    }

    fn remember(&self, folder: &Folder, child: &Child) {
        self.children.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.name(), child.clone());
    }

    fn child(&self, folder: &Folder, pid: i32) -> Option<Child> {
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.get(&folder.name()).filter(|child| child.pid == pid).cloned()
    }

    fn forget(&self, folder: &Folder) {
        self.children.lock().unwrap_or_else(PoisonError::into_inner).remove(&folder.name());
    }
}

#[async_trait]
impl ComputeBackend for LocalBackend {
    fn name(&self) -> &'static str {
        "local"
    }

    fn supports(&self, tier: IsolationTier) -> Result<(), String> {
        match tier {
            IsolationTier::Process if cfg!(target_os = "linux") => Ok(()),
            IsolationTier::Process => {
                Err("the local backend finds processes through Linux' /proc: run the server on Linux".into())
            }
            IsolationTier::Sandbox => {
                reach::from_a_box(&self.config.gateway)?;
                sandbox::probe::sandbox_of(&self.config.program).map(drop)
            }
            IsolationTier::Container | IsolationTier::Microvm => {
                Err(format!("the local backend has no tier `{}`", tier.as_str()))
            }
        }
    }

    async fn start(&self, spec: &SessionSpec) -> Result<SessionHandle, ComputeError> {
        let doing = doing("starting", spec.task, spec.attempt);
        self.supports(spec.tier).map_err(|reason| error::unsupported(&doing, reason))?;
        start::start(self, spec, &doing).await
    }

    async fn poll(&self, handle: &SessionHandle) -> Result<SessionStatus, ComputeError> {
        let (folder, worker, doing) = local(handle, "polling")?;
        let name = folder.name();
        let alive = blocking(move || {
            let process = proc::read(worker.pid)?;
            io::Result::Ok(
                process.is_some_and(|p| p.life != proc::Life::Ended && tree::is_worker(&p, worker, &name)),
            )
        });
        if alive.await.map_err(|e| proc_error(e, &doing))? {
            return Ok(SessionStatus::Running);
        }
        let written = written_code(&folder, worker, &doing).await?;
        let code = match (written, self.child(&folder, worker.pid)) {
            (Some(code), _) => Some(code),
            // It could not be written, to a full disk say.
            (None, Some(child)) => tokio::time::timeout(CODE_DEADLINE, child.ended()).await.ok().flatten(),
            (None, None) => None,
        };
        let tail = blocking(move || folder.tail()).await;
        Ok(SessionStatus::Ended { code, tail })
    }

    async fn stop(&self, handle: &SessionHandle, grace: Duration) -> Result<StopOutcome, ComputeError> {
        let (folder, worker, doing) = local(handle, "stopping")?;
        let ended =
            tree::end(&folder.target(Some(worker)), grace).await.map_err(|e| proc_error(e, &doing))?;
        match ended {
            Ended::All => Ok(StopOutcome::Stopped),
            Ended::Nothing => Ok(StopOutcome::AlreadyGone),
            Ended::Refused(pids) => Err(error::denied(
                &doing,
                format!("processes {pids:?} belong to another user: end them as that user or as root"),
            )),
            Ended::Stuck(pids) => Err(error::unavailable(
                &doing,
                format!(
                    "processes {pids:?} were killed and do not end: they may hang in the kernel on a disk or mount"
                ),
            )),
        }
    }

    async fn list_sessions(&self) -> Result<Vec<SessionHandle>, ComputeError> {
        let doing = "listing the local sessions";
        let sessions = self.config.sessions_dir.clone();
        blocking(move || list(&sessions, doing)).await
    }

    async fn purge(&self, handle: &SessionHandle) -> Result<(), ComputeError> {
        let (folder, worker, doing) = local(handle, "purging")?;
        if folder != self.folder(folder.task, folder.attempt) {
            let (dir, sessions) = (folder.path.display(), self.config.sessions_dir.display());
            return Err(error::unsupported(
                &doing,
                format!("{dir} is not a session of {sessions}: remove it by hand"),
            ));
        }
        let kept = folder.clone();
        let said = doing.clone();
        blocking(move || purge(&folder, worker, &said)).await?;
        self.forget(&kept);
        Ok(())
    }
}

/// The exit code that the worker or its reaper has written. The reaper writes before it reaps, so nothing more comes once
/// the process is gone; one that has ended and is still there is waited for.
async fn written_code(folder: &Folder, worker: Identity, doing: &str) -> Result<Option<i32>, ComputeError> {
    let look = move |folder: &Folder| {
        let process = proc::read(worker.pid).map_err(PathError::at("reading", Path::new("/proc")))?;
        let gone = process.is_none_or(|process| process.start_ticks != worker.start_ticks);
        let code = folder.exit()?;
        Ok((gone || code.is_some()).then_some(code))
    };
    Ok(start::wait_for(folder, doing, CODE_DEADLINE, look).await?.flatten())
}

/// The sessions below `sessions` of which any process is left.
fn list(sessions: &Path, doing: &str) -> Result<Vec<SessionHandle>, ComputeError> {
    let reading = || PathError::at("reading", sessions);
    let Some(entries) = absent_ok(std::fs::read_dir(sessions)).map_err(|e| reading()(e).of(doing))? else {
        return Ok(Vec::new());
    };
    let mut folders = Vec::new();
    for entry in entries {
        let name = entry.map_err(|e| reading()(e).of(doing))?.file_name();
        folders.extend(name.to_str().and_then(|name| Folder::parse(sessions, name)));
    }
    folders.sort_by_key(|folder| (folder.task, folder.attempt));
    let all = proc::snapshot().map_err(|e| proc_error(e, doing))?;
    let mut live = Vec::new();
    for folder in folders {
        // A folder that is broken, or being removed, must not hide the others; its processes are found by their mark.
        let worker = folder.worker().unwrap_or_else(|error| {
            tracing::warn!(%error, "a session's pid file is not readable");
            None
        });
        let members = tree::members(&all, &folder.target(worker), &Default::default());
        // A worker that has not yet said who it is, or whose file is broken: the oldest process stands for it.
        let oldest = members.iter().min_by_key(|p| (p.start_ticks, p.pid));
        let Some(oldest) = oldest else { continue };
        let worker = worker.unwrap_or(Identity { pid: oldest.pid, start_ticks: oldest.start_ticks });
        let tier = folder.session().ok().flatten().map_or(IsolationTier::Process, |file| file.tier);
        live.push(SessionHandle::Local {
            task: folder.task,
            attempt: folder.attempt,
            dir: folder.path,
            pid: worker.pid,
            start_ticks: worker.start_ticks,
            tier,
        });
    }
    Ok(live)
}

fn purge(folder: &Folder, worker: Identity, doing: &str) -> Result<(), ComputeError> {
    if !folder.path.try_exists().map_err(|e| PathError::at("reading", &folder.path)(e).of(doing))? {
        return Ok(());
    }
    let turn = folder.last_turn().map_err(|e| e.of(doing))?;
    let Some(_turn) = turn.into_lock(doing)? else { return Ok(()) };
    let all = proc::snapshot().map_err(|e| proc_error(e, doing))?;
    let worker = folder.worker().ok().flatten().unwrap_or(worker);
    let left = tree::members(&all, &folder.target(Some(worker)), &Default::default());
    if !left.is_empty() {
        let pids: Vec<i32> = left.iter().map(|p| p.pid).collect();
        return Err(error::unavailable(doing, format!("it still runs (processes {pids:?}): stop it first")));
    }
    folder.remove().map_err(|e| e.of(doing))
}

/// What a handle of ours names.
fn local(handle: &SessionHandle, verb: &str) -> Result<(Folder, Identity, String), ComputeError> {
    let doing = doing(verb, handle.task(), handle.attempt());
    match handle {
        SessionHandle::Local { task, attempt, dir, pid, start_ticks, tier: _ } => Ok((
            Folder { task: *task, attempt: *attempt, path: dir.clone() },
            Identity { pid: *pid, start_ticks: *start_ticks },
            doing,
        )),
        SessionHandle::Container { .. } | SessionHandle::Fake { .. } => Err(error::unsupported(
            &doing,
            format!("it is a session of backend `{}`, not of `local`: ask that backend", handle.backend()),
        )),
    }
}

fn doing(verb: &str, task: TaskId, attempt: Attempt) -> String {
    format!("{verb} the session of {task} attempt {attempt}")
}

fn proc_error(source: io::Error, doing: &str) -> ComputeError {
    PathError::at("reading", Path::new("/proc"))(source).of(doing)
}

/// File and process work, off the runtime's threads. A panic in there goes on here.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that shuts down cancels blocking work; nobody reads an answer then.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}
