//! One shell command as a process group of its own: bounded in time and output, ended as a whole.
//!
//! The group dies with the future that runs it (dropped, cancelled or timed out). A command that ends by itself may
//! leave processes behind (`server &`): the tool does not wait for them, their output is read and thrown away so that
//! they do not stop on a full or broken pipe, and they are ended with the task ([`Background`]).

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::Environment;
use super::text::HeadTail;
use crate::launch::{Launcher, Running, Start};

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
    /// Who starts it.
    pub launcher: &'a Launcher,
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
    /// The seconds of processor time for one process that ended it, if they did.
    pub processor_limit: Option<u64>,
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
#[derive(Debug)]
pub struct Background {
    launcher: Launcher,
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
        let (mut child, mut reader) = self.spawn().await?;
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
                code = child.wait() => break End::Exited(code?),
            }
        };
        match end {
            End::Exited(_) => (),
            End::TimedOut | End::Cancelled => end_all_of(&mut child).await?,
        }
        let drained_by = Instant::now() + DRAIN_MAX;
        while open && Instant::now() < drained_by {
            match timeout(DRAIN_GRACE, reader.read(&mut buffer)).await {
                Ok(read) => open = take(read?, &buffer, &mut output, live),
                Err(_) => break,
            }
        }
        let processor_limit = child.processor_limit();
        match end {
            End::Exited(_) => background.keep(child.release(), open.then_some(reader)).await,
            End::TimedOut | End::Cancelled => drop(child),
        }
        Ok(Finished { end, output, took: started.elapsed(), left_running: open, processor_limit })
    }

    /// With `bash`, or with `sh` on a machine without it.
    async fn spawn(&self) -> io::Result<(Running, pipe::Receiver)> {
        match self.spawn_with("bash").await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.spawn_with("sh").await,
            done => done,
        }
    }

    /// One pipe for both streams, so that their order is kept.
    async fn spawn_with(&self, shell: &str) -> io::Result<(Running, pipe::Receiver)> {
        let (reader, writer) = io::pipe()?;
        let start = Start {
            program: shell.into(),
            args: vec!["-c".into(), self.command.into()],
            env: self.environment.variables().to_vec(),
            dir: self.directory.clone(),
            stdin: None,
            stdout: writer.try_clone()?.into(),
            stderr: writer.into(),
        };
        let child = self.launcher.start(start).await?;
        Ok((child, pipe::Receiver::from_owned_fd(reader.into())?))
    }
}

impl Background {
    /// Of what that launcher started.
    pub fn of(launcher: Launcher) -> Self {
        Self { launcher, readers: Mutex::default(), groups: Mutex::default() }
    }

    /// Remembers the group of a command that ended, if anything of it still runs, and keeps its pipe from breaking.
    async fn keep(&self, group: i32, reader: Option<pipe::Receiver>) {
        lock(&self.groups).push(group);
        self.forget_ended().await;
        let Some(mut reader) = reader else { return };
        let mut readers = lock(&self.readers);
        while readers.try_join_next().is_some() {}
        readers.spawn(async move {
            let mut buffer = [0; 1024];
            while reader.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
        });
    }

    /// How many groups still run.
    pub async fn count(&self) -> usize {
        self.forget_ended().await;
        lock(&self.groups).len()
    }

    async fn forget_ended(&self) {
        let known = lock(&self.groups).clone();
        for group in known {
            if !self.launcher.runs(group).await {
                lock(&self.groups).retain(|other| *other != group);
            }
        }
    }

    /// Ends them all.
    pub fn stop(&self) {
        for group in lock(&self.groups).drain(..) {
            self.launcher.kill(group);
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop();
    }
}

/// TERM to all of its group, KILL to what is left; returns when the shell has ended.
async fn end_all_of(child: &mut Running) -> io::Result<()> {
    child.signal(Signal::SIGTERM);
    let gone = timeout(TERM_GRACE, child.wait()).await;
    child.signal(Signal::SIGKILL);
    match gone {
        Ok(code) => code.map(drop),
        Err(_) => child.wait().await.map(drop),
    }
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
