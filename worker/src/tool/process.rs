//! One shell command as a process group of its own: bounded in time and output, ended as a whole.
//!
//! The group dies with the future that runs it (dropped, cancelled or timed out). A command that ends by itself may
//! leave processes behind (`server &`): the tool does not wait for them, their output is read and thrown away so that
//! they do not stop on a full or broken pipe, and they are ended with the task ([`Background`]).

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::os::unix::process::ExitStatusExt;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::Environment;
use super::text::HeadTail;

/// Between asking a group to end and ending it.
const TERM_GRACE: Duration = Duration::from_millis(500);
/// How long output may still trickle in after the shell has ended, when somebody else holds the pipe.
const DRAIN_GRACE: Duration = Duration::from_millis(150);
/// The same in all, when it keeps trickling.
const DRAIN_MAX: Duration = Duration::from_millis(500);

/// A command to run.
#[derive(Debug)]
pub struct Shell<'a> {
    /// The command line, for `bash -c`.
    pub command: &'a str,
    /// Where.
    pub directory: PathBuf,
    /// With which variables.
    pub environment: &'a Environment,
    /// For how long at most.
    pub timeout: Duration,
    /// How many bytes of output are kept.
    pub output_max: usize,
}

/// How a command ended.
#[derive(Debug)]
pub struct Finished {
    /// Why it is over.
    pub end: End,
    /// Head and tail of stdout and stderr, in the order they came.
    pub output: HeadTail,
    /// How long it took.
    pub took: Duration,
    /// Whether processes it started still hold its output.
    pub left_running: bool,
}

/// Why a command is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The shell ended with this code; 128 + n for signal n.
    Exited(i32),
    /// It was ended because its time was up.
    TimedOut,
    /// It was ended because the task was cancelled.
    Cancelled,
}

/// Groups of processes that commands left behind, ended when this is dropped.
#[derive(Debug, Default)]
pub struct Background {
    readers: Mutex<JoinSet<()>>,
    groups: Mutex<Vec<i32>>,
}

impl Shell<'_> {
    /// Runs it to its end. `live` is given the output as it comes.
    pub async fn run(
        &self,
        cancel: &CancellationToken,
        background: &Background,
        live: &(dyn Fn(&str) + Send + Sync),
    ) -> io::Result<Finished> {
        let started = Instant::now();
        let (mut child, mut reader) = self.spawn()?;
        let group = Group(child.id().unwrap_or_default() as i32);
        let mut output = HeadTail::new(self.output_max);
        let deadline = started + self.timeout;
        let mut buffer = vec![0; 8 * 1024];
        let mut open = true;
        let end = loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => break End::Cancelled,
                () = tokio::time::sleep_until(deadline) => break End::TimedOut,
                read = reader.read(&mut buffer), if open => open = take(read?, &buffer, &mut output, live),
                status = child.wait() => break End::Exited(code(status?)),
            }
        };
        match end {
            End::Exited(_) => (),
            End::TimedOut | End::Cancelled => group.end(&mut child).await?,
        }
        let drained_by = Instant::now() + DRAIN_MAX;
        while open && Instant::now() < drained_by {
            match timeout(DRAIN_GRACE, reader.read(&mut buffer)).await {
                Ok(read) => open = take(read?, &buffer, &mut output, live),
                Err(_) => break,
            }
        }
        match end {
            End::Exited(_) => background.keep(group.release(), open.then_some(reader)),
            End::TimedOut | End::Cancelled => drop(group),
        }
        Ok(Finished { end, output, took: started.elapsed(), left_running: open })
    }

    /// With `bash`, or with `sh` on a machine without it.
    fn spawn(&self) -> io::Result<(Child, pipe::Receiver)> {
        match self.spawn_with("bash") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.spawn_with("sh"),
            done => done,
        }
    }

    /// One pipe for both streams, so that their order is kept.
    fn spawn_with(&self, shell: &str) -> io::Result<(Child, pipe::Receiver)> {
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new(shell);
        self.environment.apply(&mut command);
        command
            .args(["-c", self.command])
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn()?;
        drop(command); // our copies of the writing end
        Ok((child, pipe::Receiver::from_owned_fd(reader.into())?))
    }
}

impl Background {
    /// Remembers the group of a command that ended, if anything of it still runs, and keeps its pipe from breaking.
    fn keep(&self, group: i32, reader: Option<pipe::Receiver>) {
        let mut groups = lock(&self.groups);
        groups.push(group);
        groups.retain(|group| runs(*group));
        let Some(mut reader) = reader else { return };
        let mut readers = lock(&self.readers);
        while readers.try_join_next().is_some() {}
        readers.spawn(async move {
            let mut buffer = [0; 1024];
            while reader.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
        });
    }

    /// How many groups still run.
    pub fn len(&self) -> usize {
        let mut groups = lock(&self.groups);
        groups.retain(|group| runs(*group));
        groups.len()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends them all.
    pub fn stop(&self) {
        for group in lock(&self.groups).drain(..) {
            signal(group, Signal::SIGKILL);
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The group of a command; ends it when dropped before it was released.
struct Group(i32);

impl Group {
    /// TERM to all of it, KILL to what is left; returns when the shell is reaped.
    async fn end(&self, child: &mut Child) -> io::Result<()> {
        signal(self.0, Signal::SIGTERM);
        let gone = timeout(TERM_GRACE, child.wait()).await;
        signal(self.0, Signal::SIGKILL);
        match gone {
            Ok(status) => status.map(drop),
            Err(_) => child.wait().await.map(drop),
        }
    }

    fn release(self) -> i32 {
        let group = self.0;
        std::mem::forget(self);
        group
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        signal(self.0, Signal::SIGKILL);
    }
}

/// An exit code as a shell would print it: 128 + n for signal n.
pub fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// To a group that may be gone already. Group 0 would be our own.
fn signal(group: i32, signal: Signal) {
    if group > 1 {
        let _gone = killpg(Pid::from_raw(group), signal);
    }
}

/// Whether a group has members. Its number is not given to others while it has.
fn runs(group: i32) -> bool {
    group > 1 && killpg(Pid::from_raw(group), None).is_ok()
}

/// Whether the pipe is still open.
fn take(read: usize, buffer: &[u8], output: &mut HeadTail, live: &(dyn Fn(&str) + Send + Sync)) -> bool {
    output.push(&buffer[..read]);
    if read > 0 {
        live(&String::from_utf8_lossy(&buffer[..read]));
    }
    read > 0
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
