//! The worker's end of the line to the tools' first process: starts commands there, waits for them, signals them.
//!
//! A thread reads the answers, so that the other end never has to wait for this one; requests are written at once by
//! whoever has them, so that a kill is on its way when `drop` returns.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::signal::Signal;
use nix::sys::socket::{Shutdown, shutdown};
use tokio::sync::oneshot;

use crate::line::{Inbox, Reply, Request, Text, send};

/// The tools' layer, as the worker sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ToolBox {
    end: Arc<End>,
    environment: Arc<[(OsString, OsString)]>,
}

/// A command to start there. Its environment is exactly `env`.
#[derive(Debug)]
pub struct Command {
    /// Name, looked up in `PATH` of `env`, or a path.
    pub program: OsString,
    /// Arguments after the name.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Where, as the tools see it.
    pub dir: PathBuf,
    /// Its input; nothing when absent.
    pub stdin: Option<OwnedFd>,
    /// Its output.
    pub stdout: OwnedFd,
    /// Its error output.
    pub stderr: OwnedFd,
}

/// A command that was started; it leads its own process group. Dropping this kills the group.
#[derive(Debug)]
pub struct Child {
    end: Arc<End>,
    group: i32,
    ending: oneshot::Receiver<Ending>,
    /// `Some(None)`: the layer ended first.
    ended: Option<Option<Ending>>,
    released: bool,
}

/// How a command ended, as shells count: 128 + n for signal n.
pub type Code = i32;

#[derive(Debug, Clone, Copy)]
struct Ending {
    code: Code,
    processor_s: Option<u64>,
}

/// Kept by every [`ToolBox`] and [`Child`]; when the last is gone the line closes, and with it the tools' layer ends.
#[derive(Debug)]
struct End {
    line: Arc<Line>,
}

impl Drop for End {
    fn drop(&mut self) {
        let _ = shutdown(self.line.fd.as_raw_fd(), Shutdown::Both);
    }
}

#[derive(Debug)]
struct Line {
    fd: OwnedFd,
    writing: Mutex<()>,
    next: AtomicU64,
    /// `None` once the tools' layer has ended.
    waiting: Mutex<Option<Waiting>>,
}

type Started = io::Result<(i32, oneshot::Receiver<Ending>)>;

#[derive(Debug, Default)]
struct Waiting {
    starting: HashMap<u64, oneshot::Sender<Started>>,
    running: HashMap<u64, oneshot::Sender<Ending>>,
    asking: HashMap<u64, oneshot::Sender<bool>>,
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the tools' layer of the box has ended")
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    fn send(&self, request: &Request, fds: &[RawFd]) -> io::Result<()> {
        let _one = held(&self.writing);
        send(self.fd.as_fd(), request, fds).map_err(|error| match error.kind() {
            // Seen here before it is seen by who reads.
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => gone(),
            _ => error,
        })
    }

    fn signal(&self, group: i32, signal: Signal) {
        // An error means that the line is gone, and all processes with it.
        let _ = self.send(&Request::Signal { group, signal: signal as i32 }, &[]);
    }

    /// Registers an answer that is waited for.
    fn ask<T>(
        &self,
        place: impl FnOnce(&mut Waiting, u64, oneshot::Sender<T>),
    ) -> io::Result<(u64, oneshot::Receiver<T>)> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        place(held(&self.waiting).as_mut().ok_or_else(gone)?, id, tell);
        Ok((id, told))
    }

    /// Reads answers until the other end is gone.
    fn read(&self, inbox: &mut Inbox, hello: oneshot::Sender<io::Result<Hello>>) {
        let mut hello = Some(hello);
        let ended = self.read_all(inbox, &mut hello);
        // Whoever still waits learns it by the end of his channel.
        held(&self.waiting).take();
        if let Some(hello) = hello {
            let _ = hello.send(Err(ended.err().unwrap_or_else(gone)));
        }
    }

    fn read_all(
        &self,
        inbox: &mut Inbox,
        hello: &mut Option<oneshot::Sender<io::Result<Hello>>>,
    ) -> io::Result<()> {
        while inbox.fill(self.fd.as_fd())? {
            while let Some(reply) = inbox.take()? {
                if let Reply::Hello { environment, watched } = reply {
                    let listener = TcpListener::from(inbox.descriptor()?);
                    let limits = if watched { Some(inbox.descriptor()?) } else { None };
                    let environment = environment.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
                    if let Some(hello) = hello.take() {
                        let _ = hello.send(Ok(Hello { environment, listener, limits }));
                    }
                } else if let Some(unwanted) = self.take(reply) {
                    self.signal(unwanted, Signal::SIGKILL);
                }
            }
        }
        Ok(())
    }

    /// Hands an answer to who waits for it. Returns the group of a command that nobody wants any more.
    fn take(&self, reply: Reply) -> Option<i32> {
        let mut waiting = held(&self.waiting);
        let waiting = waiting.as_mut()?;
        match reply {
            Reply::Hello { .. } => None,
            Reply::Started { id, group } => {
                let (end, ending) = oneshot::channel();
                waiting.running.insert(id, end);
                let told = waiting.starting.remove(&id).map(|tell| tell.send(Ok((group, ending))));
                (!matches!(told, Some(Ok(())))).then_some(group)
            }
            Reply::Failed { id, errno } => {
                if let Some(tell) = waiting.starting.remove(&id) {
                    let _ = tell.send(Err(io::Error::from_raw_os_error(errno)));
                }
                None
            }
            Reply::Ended { id, code, processor_s } => {
                if let Some(end) = waiting.running.remove(&id) {
                    let _ = end.send(Ending { code, processor_s });
                }
                None
            }
            Reply::Alive { id, alive } => {
                if let Some(tell) = waiting.asking.remove(&id) {
                    let _ = tell.send(alive);
                }
                None
            }
        }
    }
}

struct Hello {
    environment: Arc<[(OsString, OsString)]>,
    listener: TcpListener,
    limits: Option<OwnedFd>,
}

impl ToolBox {
    /// Takes the line over. Gives the listener on `127.0.0.1` that the tools' first process made in its own network
    /// namespace: what connects to it there is accepted here. It does not block (`tokio::net::TcpListener::from_std`).
    /// Where that process keeps the limits itself there is a line like the monitor's, too (see [`crate::Upper::monitor`]).
    pub async fn connect(line: OwnedFd) -> io::Result<(ToolBox, TcpListener, Option<OwnedFd>)> {
        let line = Arc::new(Line {
            fd: line,
            writing: Mutex::default(),
            next: AtomicU64::new(1),
            waiting: Mutex::new(Some(Waiting::default())),
        });
        // From here on: whoever gives up waiting closes the line.
        let end = Arc::new(End { line: line.clone() });
        let (tell, told) = oneshot::channel();
        std::thread::Builder::new()
            .name("tools-line".into())
            .spawn(move || line.read(&mut Inbox::default(), tell))?;
        let hello = told.await.map_err(|_| gone())??;
        hello.listener.set_nonblocking(true)?;
        Ok((ToolBox { end, environment: hello.environment }, hello.listener, hello.limits))
    }

    /// The environment that the box decides (`HOME`, `TMPDIR`, `PATH`, the proxy variables …), with what its plan gives.
    pub fn environment(&self) -> &[(OsString, OsString)] {
        &self.environment
    }

    /// Starts a command. An error is that of `execve` (`NotFound`, `PermissionDenied`), or of the line.
    pub async fn spawn(&self, command: Command) -> io::Result<Child> {
        let line = &self.end.line;
        let (id, started) = line.ask(|waiting, id, tell| drop(waiting.starting.insert(id, tell)))?;
        let request = Request::Spawn {
            id,
            program: command.program.as_os_str().into(),
            args: command.args.iter().map(|a| a.as_os_str().into()).collect(),
            env: command
                .env
                .iter()
                .map(|(n, v)| (Text::from(n.as_os_str()), Text::from(v.as_os_str())))
                .collect(),
            dir: command.dir.as_os_str().into(),
            stdin: command.stdin.is_some(),
        };
        let fds: Vec<RawFd> =
            command.stdin.iter().chain([&command.stdout, &command.stderr]).map(AsRawFd::as_raw_fd).collect();
        if let Err(e) = line.send(&request, &fds) {
            if let Some(waiting) = held(&line.waiting).as_mut() {
                waiting.starting.remove(&id);
            }
            return Err(e);
        }
        drop(command);
        let (group, ending) = started.await.map_err(|_| gone())??;
        Ok(Child { end: self.end.clone(), group, ending, ended: None, released: false })
    }

    /// Whether a process of the group is left.
    pub async fn alive(&self, group: i32) -> bool {
        let line = &self.end.line;
        let Ok((id, told)) = line.ask(|waiting, id, tell| drop(waiting.asking.insert(id, tell))) else {
            return false;
        };
        line.send(&Request::Alive { id, group }, &[]).is_ok() && told.await.unwrap_or(false)
    }

    /// Sends a signal to a group that was released.
    pub fn signal_group(&self, group: i32, signal: Signal) {
        self.end.line.signal(group, signal);
    }

    /// Ends a group that was released.
    pub fn kill_group(&self, group: i32) {
        self.signal_group(group, Signal::SIGKILL);
    }

    /// Ends every process of the tools, also those that left their group; the layer stays.
    pub fn kill_all(&self) {
        let _ = self.end.line.send(&Request::KillAll, &[]);
    }
}

impl Child {
    /// Names the command to [`Child::signal`]'s group; unique in the box. It is its number there, as `ps` shows it.
    pub fn group(&self) -> i32 {
        self.group
    }

    /// Waits until it ended. May be asked again.
    pub async fn wait(&mut self) -> io::Result<Code> {
        let ended = match self.ended {
            Some(ended) => ended,
            None => (&mut self.ending).await.ok(),
        };
        self.ended = Some(ended);
        ended.map(|ended| ended.code).ok_or_else(gone)
    }

    /// The seconds of processor time for one process at which it ended, if that was its end. Ask when it has ended.
    pub fn processor_limit(&self) -> Option<u64> {
        self.ended.flatten().and_then(|ended| ended.processor_s)
    }

    /// Sends a signal to its process group.
    pub fn signal(&self, signal: Signal) {
        self.end.line.signal(self.group, signal);
    }

    /// Lets it go on when this is dropped; returns its group.
    pub fn release(mut self) -> i32 {
        self.released = true;
        self.group
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.released {
            self.signal(Signal::SIGKILL);
        }
    }
}
