//! The supervisor outside the box: passes signals on, keeps the limits, and ends one layer when the other has ended.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::Plan;
use crate::cgroup::Cgroup;
use crate::layer::{Started, Watched};
use crate::line::{Inbox, Reply, Request, Text, send};
use crate::notice::Notice;
use crate::run::{BoxError, Doing};
use crate::watch::{Eyes, Places};
use crate::watchdog::{Group, LOOK, Watchdog};

/// How long the worker has to tell that the tools' layer has ended.
const LAST_WORDS: Duration = Duration::from_secs(20);

/// Waits until the box is gone; the worker's exit code. Meanwhile its limits are kept and told on `notices`.
pub(crate) fn supervise(
    plan: &Plan,
    signals: &Signals,
    mut worker: Started,
    mut tools: Started,
    watched: Option<Watched>,
    cgroup: &Cgroup,
    notices: UnixStream,
) -> Result<u8, BoxError> {
    // A worker that does not read must not hold the watchdog up.
    notices.set_nonblocking(true).doing(|| "preparing the monitor's line".into())?;
    let mut asked = None;
    let mut dog = watchdog(plan, watched, cgroup);
    let mut last_words: Option<Instant> = None;
    loop {
        let wait =
            last_words.map_or(dog.wait(), |until| until.saturating_duration_since(Instant::now()).min(LOOK));
        let worker_end = (worker.pidfd().as_fd(), PollFlags::POLLIN);
        let tools_end = last_words.is_none().then(|| (tools.pidfd().as_fd(), PollFlags::POLLIN));
        wait_for([Some(worker_end), tools_end, Some((signals.as_fd(), PollFlags::POLLIN))], wait)?;
        while let Some(signal) = signals.next() {
            asked = Some(signal);
        }
        // At every look: a worker that has only just begun has no handler for it yet, and does not hear it.
        if let Some(signal) = asked {
            worker.signal(signal);
        }
        if let Some(code) = worker.reap() {
            tools.end();
            return Ok(u8::try_from(code).unwrap_or(1));
        }
        if last_words.is_none() && tools.reap().is_some() {
            last_words = Some(Instant::now() + LAST_WORDS);
        }
        if last_words.is_some_and(|until| Instant::now() >= until) {
            worker.end();
            return Ok(1);
        }
        dog.look_and_tell(&notices, |word| say(&tools, word));
    }
}

/// Runs one command in the tools' layer with this process's input and outputs.
pub(crate) fn run_command(
    plan: &Plan,
    mut tools: Started,
    watched: Option<Watched>,
    cgroup: &Cgroup,
    line: UnixStream,
    dir: &Path,
    argv: &[OsString],
) -> Result<(i32, Vec<Notice>), BoxError> {
    let what = || "running the command".to_owned();
    let (program, args) = argv.split_first().ok_or_else(|| io::Error::other("there is none")).doing(what)?;
    let signals = Signals::take()?;
    let mut dog = watchdog(plan, watched, cgroup);
    let mut inbox = Inbox::default();
    let mut notices = Vec::new();
    let mut group = None;
    let code = loop {
        wait_for(
            [
                Some((line.as_fd(), PollFlags::POLLIN)),
                Some((tools.pidfd().as_fd(), PollFlags::POLLIN)),
                Some((signals.as_fd(), PollFlags::POLLIN)),
            ],
            dog.wait(),
        )?;
        while let (Some(signal), Some(group)) = (signals.next(), group) {
            send(line.as_fd(), &Request::Signal { group, signal: signal as i32 }, &[]).doing(what)?;
        }
        if readable(&line) {
            if !inbox.fill(line.as_fd()).doing(what)? {
                return Err(io::Error::other("the tools' layer has ended")).doing(what);
            }
            let mut ended = None;
            while let Some(reply) = inbox.take().doing(what)? {
                match reply {
                    Reply::Hello { environment, watched: _ } => {
                        drop(inbox.descriptor());
                        let request = Request::Spawn {
                            id: 0,
                            program: program.as_os_str().into(),
                            args: args.iter().map(|a| Text::from(a.as_os_str())).collect(),
                            env: environment,
                            dir: dir.as_os_str().into(),
                            stdin: true,
                        };
                        send(line.as_fd(), &request, &[0, 1, 2]).doing(what)?;
                    }
                    Reply::Started { group: started, .. } => group = Some(started),
                    Reply::Failed { errno, .. } => {
                        let source = io::Error::from_raw_os_error(errno);
                        return Err(source).doing(|| format!("starting {}", program.display()));
                    }
                    Reply::Ended { code, .. } => ended = Some(code),
                    Reply::Alive { .. } => (),
                }
            }
            if let Some(code) = ended {
                break code;
            }
        }
        notices.extend(dog.look(|word| say(&tools, word)));
    };
    notices.extend(dog.last_look());
    drop(line);
    tools.end();
    Ok((code, notices))
}

fn watchdog<'a>(plan: &'a Plan, watched: Option<Watched>, cgroup: &'a Cgroup) -> Watchdog<'a> {
    let eyes = watched.map(Eyes::new);
    Watchdog::new(&plan.limits, Places::of_box(&plan.dir), eyes, Group::Ours(cgroup))
}

/// To the tools' first process.
fn say(tools: &Started, word: &[u8]) {
    let _ = nix::unistd::write(tools.control(), word);
}

fn readable(line: &UnixStream) -> bool {
    let mut fds = [PollFd::new(line.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

fn wait_for<const N: usize>(
    fds: [Option<(std::os::fd::BorrowedFd<'_>, PollFlags)>; N],
    wait: Duration,
) -> Result<(), BoxError> {
    let mut fds: Vec<PollFd<'_>> =
        fds.into_iter().flatten().map(|(fd, flags)| PollFd::new(fd, flags)).collect();
    // Rounded up: a wait of less than a millisecond must not become none.
    let wait = PollTimeout::try_from(wait.as_millis() as i64 + 1).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, wait) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(e) => Err(e).doing(|| "waiting for the box".into()),
    }
}

/// The signals that are passed on, instead of ending the monitor.
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// From now on.
    pub(crate) fn take() -> Result<Signals, BoxError> {
        let what = || "taking the signals".to_owned();
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
            mask.add(signal);
        }
        mask.thread_block().doing(what)?;
        Ok(Signals(SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).doing(what)?))
    }

    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn next(&self) -> Option<Signal> {
        let signal = self.0.read_signal().ok().flatten()?;
        Signal::try_from(signal.ssi_signo as i32).ok()
    }
}
