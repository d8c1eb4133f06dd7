//! Starting programs of the work: here, or in the tools' layer of the box.
//!
//! Everything that runs code of the repository, and git on the work tree, is started through a [`Launcher`]. Without a
//! box it is an ordinary child of this process. In a box it is a child of the tools' first process, which sees neither
//! this process nor its files: the only things handed over are a command, its environment and its streams.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use git::place;
use nix::sys::resource::{RLIM_INFINITY, Resource, UsageWho, getrlimit, getrusage};
use nix::sys::signal::{Signal, killpg};
use nix::sys::time::TimeValLike as _;
use nix::unistd::Pid;
use sandbox::notice::{Limit, Notice};
use sandbox::tools;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::notice::Notices;
use crate::tool::Environment;

/// So long a command waits for room after all others were ended, and so long between two tries.
const ROOM_DEADLINE: Duration = Duration::from_secs(5);
const ROOM_PAUSE: Duration = Duration::from_millis(50);

/// Where programs are started. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Launcher {
    /// Beside this process, as this user: tier `process`.
    Direct,
    /// In the tools' layer.
    Boxed(Arc<Layer>),
}

/// The tools' layer of this box.
#[derive(Debug)]
pub struct Layer {
    /// The line to its first process.
    pub tools: tools::ToolBox,
    /// What programs get there.
    pub environment: Environment,
    /// What the monitor tells of limits.
    pub notices: Notices,
    /// Cancelled once the layer is found to have ended.
    pub ended: CancellationToken,
}

/// A program to start. It leads a process group of its own.
#[derive(Debug)]
pub struct Start {
    /// Name, looked up in `PATH` of `env`, or a path.
    pub program: OsString,
    /// Arguments after the name.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Where.
    pub dir: PathBuf,
    /// Its input; nothing when absent.
    pub stdin: Option<OwnedFd>,
    /// Its output.
    pub stdout: OwnedFd,
    /// Its error output.
    pub stderr: OwnedFd,
}

impl Start {
    /// The same once more.
    fn again(&self) -> io::Result<Start> {
        Ok(Start {
            program: self.program.clone(),
            args: self.args.clone(),
            env: self.env.clone(),
            dir: self.dir.clone(),
            stdin: self.stdin.as_ref().map(OwnedFd::try_clone).transpose()?,
            stdout: self.stdout.try_clone()?,
            stderr: self.stderr.try_clone()?,
        })
    }
}

impl From<Start> for tools::Command {
    fn from(start: Start) -> tools::Command {
        let Start { program, args, env, dir, stdin, stdout, stderr } = start;
        tools::Command { program, args, env, dir, stdin, stdout, stderr }
    }
}

/// A program that was started. Dropping it kills its group.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Once it has ended.
    code: Option<i32>,
}

#[derive(Debug)]
enum Child {
    // The group first: its number is surely ours until the child is reaped.
    Direct { group: Group, child: tokio::process::Child, spent: Duration },
    Boxed { child: tools::Child, layer: Arc<Layer> },
}

/// A process group of this machine; killed when dropped.
#[derive(Debug)]
struct Group(i32);

impl Launcher {
    /// Starts it. An error is that of `execve`: `NotFound` for a program that is not there.
    pub async fn start(&self, start: Start) -> io::Result<Running> {
        match self {
            Launcher::Direct => start_here(start),
            Launcher::Boxed(layer) => layer.start(start).await,
        }
    }

    /// Whether there is a box.
    pub fn is_boxed(&self) -> bool {
        match self {
            Launcher::Direct => false,
            Launcher::Boxed(_) => true,
        }
    }

    /// What programs get: of this machine what is harmless, or what the box decides.
    pub fn environment(&self) -> Environment {
        match self {
            Launcher::Direct => Environment::clean(std::env::vars_os()),
            Launcher::Boxed(layer) => layer.environment.clone(),
        }
    }

    /// What the monitor of the box tells of limits; nothing without a box.
    pub fn notices(&self) -> Notices {
        match self {
            Launcher::Direct => Notices::default(),
            Launcher::Boxed(layer) => layer.notices.clone(),
        }
    }

    /// Waits until the layer that programs are started in is found to have ended; without a box, for ever.
    pub async fn ended(&self) {
        match self {
            Launcher::Direct => std::future::pending().await,
            Launcher::Boxed(layer) => layer.ended.cancelled().await,
        }
    }

    /// The place git is started in; none when it is here.
    pub fn place(&self) -> Option<Arc<dyn place::Spawn>> {
        match self {
            Launcher::Direct => None,
            Launcher::Boxed(layer) => Some(Arc::new(Place(layer.clone()))),
        }
    }

    /// A folder whose git commands are started where everything is.
    pub fn at(&self, dir: &std::path::Path) -> git::At {
        git::At::new(dir, self.place())
    }

    /// Whether a group that was released has members. Its number is not given to others while it has.
    pub async fn runs(&self, group: i32) -> bool {
        match self {
            Launcher::Direct => group > 1 && killpg(Pid::from_raw(group), None).is_ok(),
            Launcher::Boxed(layer) => layer.tools.alive(group).await,
        }
    }

    /// Kills everything that was started in the box and all that came of it, also what left its group; without a box
    /// nothing, since there it could not be told from what is others'.
    pub fn kill_all(&self) {
        match self {
            Launcher::Direct => (),
            Launcher::Boxed(layer) => layer.tools.kill_all(),
        }
    }

    /// Kills a group that was released.
    pub fn kill(&self, group: i32) {
        match self {
            Launcher::Direct => signal(group, Signal::SIGKILL),
            Launcher::Boxed(layer) => layer.tools.kill_group(group),
        }
    }
}

fn start_here(start: Start) -> io::Result<Running> {
    let mut command = tokio::process::Command::new(&start.program);
    command
        .args(&start.args)
        .env_clear()
        .envs(start.env)
        .current_dir(&start.dir)
        .stdin(start.stdin.map_or_else(std::process::Stdio::null, std::process::Stdio::from))
        .stdout(start.stdout)
        .stderr(start.stderr)
        .process_group(0)
        .kill_on_drop(true);
    let spent = spent_by_children();
    let child = command.spawn()?;
    // Not reaped yet, so it has one.
    let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or_default());
    Ok(Running { child: Child::Direct { group, child, spent }, code: None })
}

impl Layer {
    async fn start(self: &Arc<Self>, start: Start) -> io::Result<Running> {
        let deadline = Instant::now() + ROOM_DEADLINE;
        let mut told = false;
        loop {
            let spawned = self.noted(self.tools.spawn(start.again()?.into()).await);
            match spawned {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                    if !std::mem::replace(&mut told, true) {
                        let detail = "no more process could be started".to_owned();
                        self.notices.tell(Notice {
                            limit: Limit::Processes,
                            detail,
                            fatal: false,
                            spared: false,
                        });
                    }
                    // An engine that only counts would leave the box of no use to anybody.
                    self.tools.kill_all();
                    tokio::time::sleep(ROOM_PAUSE).await;
                }
                spawned => {
                    let child = Child::Boxed { child: spawned?, layer: self.clone() };
                    return Ok(Running { child, code: None });
                }
            }
        }
    }

    /// Notes when an answer says that the layer has ended.
    fn noted<T>(&self, answer: io::Result<T>) -> io::Result<T> {
        if answer.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            self.ended.cancel();
        }
        answer
    }
}

/// The layer as a place of git's.
#[derive(Debug)]
struct Place(Arc<Layer>);

#[async_trait]
impl place::Spawn for Place {
    fn environment(&self) -> Vec<(OsString, OsString)> {
        self.0.environment.variables().to_vec()
    }

    async fn spawn(&self, start: place::Start) -> io::Result<Box<dyn place::Running>> {
        let place::Start { program, args, env, dir, stdin, stdout, stderr } = start;
        let dir = dir.unwrap_or_else(|| PathBuf::from("/"));
        let start = Start { program, args, env, dir, stdin: Some(stdin), stdout, stderr };
        Ok(Box::new(self.0.start(start).await?))
    }
}

#[async_trait]
impl place::Running for Running {
    async fn wait(&mut self) -> io::Result<i32> {
        Running::wait(self).await
    }
}

impl Running {
    /// Waits until it ended; its code as a shell would print it. May be dropped and called again.
    pub async fn wait(&mut self) -> io::Result<i32> {
        let code = match &mut self.child {
            Child::Direct { child, .. } => child.wait().await.map(code),
            Child::Boxed { child, layer } => layer.noted(child.wait().await),
        };
        self.code = code.as_ref().ok().copied();
        code
    }

    /// The seconds of processor time for one process at which it ended, if that was its end. Ask when it has ended.
    pub fn processor_limit(&self) -> Option<u64> {
        match &self.child {
            Child::Direct { spent, .. } => {
                let bound = processor_bound()?;
                let spent = spent_by_children().saturating_sub(*spent);
                let ended = |code: i32| sandbox::init::processor_limit_ended(code, spent, bound);
                self.code.is_some_and(ended).then_some(bound)
            }
            Child::Boxed { child, .. } => child.processor_limit(),
        }
    }

    /// Sends a signal to all of its group.
    pub fn signal(&self, with: Signal) {
        match &self.child {
            Child::Direct { group, .. } => signal(group.0, with),
            Child::Boxed { child, .. } => child.signal(with),
        }
    }

    /// Lets what is left of it run on; the number of its group, for [`Launcher::runs`] and [`Launcher::kill`].
    pub fn release(self) -> i32 {
        match self.child {
            Child::Direct { group, child: _ended, spent: _ } => {
                let number = group.0;
                std::mem::forget(group);
                number
            }
            Child::Boxed { child, .. } => child.release(),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        signal(self.0, Signal::SIGKILL);
    }
}

/// Seconds of processor time that one process of ours, and so of what we start, may use.
fn processor_bound() -> Option<u64> {
    let (soft, _) = getrlimit(Resource::RLIMIT_CPU).ok()?;
    (soft != RLIM_INFINITY).then_some(soft)
}

/// Processor time of all that was started here and has ended.
fn spent_by_children() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return Duration::ZERO };
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

/// An exit code as a shell would print it: 128 + n for signal n.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// To a group that may be gone already. Group 0 would be our own.
fn signal(group: i32, signal: Signal) {
    if group > 1 {
        let _gone = killpg(Pid::from_raw(group), signal);
    }
}
