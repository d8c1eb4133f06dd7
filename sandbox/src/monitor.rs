//! The supervisor outside the box: passes signals on, keeps the limits, and ends one layer when the other has ended.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
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
use crate::watch::{DiskWatch, Eyes, Judge, Verdict};

/// Between two looks at the tools.
const LOOK: Duration = Duration::from_millis(200);
/// Looking takes at most this share of the time.
const SHARE: u32 = 10;
/// But it is no longer from one look to the next, unless half the time would go: who was killed is to hear why.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// How long the worker has to tell that the tools' layer has ended.
const LAST_WORDS: Duration = Duration::from_secs(20);

/// Waits until the box is gone; the worker's exit code. Meanwhile its limits are kept and told on `notices`.
pub(crate) fn supervise(
    plan: &Plan,
    mut worker: Started,
    mut tools: Started,
    watched: Option<Watched>,
    cgroup: &Cgroup,
    notices: UnixStream,
) -> Result<u8, BoxError> {
    // A worker that does not read must not hold the watchdog up.
    notices.set_nonblocking(true).doing(|| "preparing the monitor's line".into())?;
    let signals = Signals::take()?;
    let mut dog = Watchdog::new(plan, watched, cgroup);
    let mut last_words: Option<Instant> = None;
    loop {
        let wait =
            last_words.map_or(dog.wait(), |until| until.saturating_duration_since(Instant::now()).min(LOOK));
        let worker_end = (worker.pidfd().as_fd(), PollFlags::POLLIN);
        let tools_end = last_words.is_none().then(|| (tools.pidfd().as_fd(), PollFlags::POLLIN));
        wait_for([Some(worker_end), tools_end, Some((signals.as_fd(), PollFlags::POLLIN))], wait)?;
        while let Some(signal) = signals.next() {
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
        for notice in dog.look(&tools) {
            if let Err(e) = (&notices).write_all(notice.line().as_bytes()) {
                tracing::warn!(error = %e, %notice, "limit not told");
            }
        }
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
    let mut dog = Watchdog::new(plan, watched, cgroup);
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
                    Reply::Hello { environment } => {
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
        notices.extend(dog.look(&tools));
    };
    notices.extend(dog.last_look());
    drop(line);
    tools.end();
    Ok((code, notices))
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
struct Signals(SignalFd);

impl Signals {
    fn take() -> Result<Signals, BoxError> {
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

/// Looks at the tools from time to time; the disk, which takes longer, from a thread of its own.
struct Watchdog<'a> {
    plan: &'a Plan,
    cgroup: &'a Cgroup,
    eyes: Option<Eyes>,
    judge: Judge,
    next: Instant,
    disk: Option<mpsc::Receiver<Verdict>>,
}

impl<'a> Watchdog<'a> {
    fn new(plan: &'a Plan, watched: Option<Watched>, cgroup: &'a Cgroup) -> Watchdog<'a> {
        let eyes = watched.map(Eyes::new);
        Watchdog { plan, cgroup, eyes, judge: Judge::default(), next: Instant::now() + LOOK, disk: None }
    }

    fn wait(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// Looks when it is time, ends the tools' processes when a limit was reached, and returns what to tell.
    fn look(&mut self, tools: &Started) -> Vec<Notice> {
        let now = Instant::now();
        if now < self.next {
            return Vec::new();
        }
        let mut verdicts = self.processes();
        let disk = self.disk.get_or_insert_with(|| watch_disk(self.plan));
        verdicts.extend(disk.try_iter());
        let took = now.elapsed();
        self.next = now + (took * SHARE).clamp(LOOK, LOOK_MAX.max(took * 2));
        let mut told = Vec::new();
        for verdict in verdicts {
            match verdict {
                Verdict::Fine => (),
                Verdict::Tell(notice) => told.push(notice),
                Verdict::End(notice) => {
                    let _ = nix::unistd::write(tools.control(), b"end");
                    told.push(notice);
                }
            }
        }
        told
    }

    /// Once more when all is over: what the kernel did in between.
    fn last_look(&mut self) -> Option<Notice> {
        let usage = crate::watch::Usage::default();
        match self.judge.judge(&self.plan.limits, usage, 0, self.cgroup.oom_kills(), || 0) {
            Verdict::Tell(notice) => Some(notice),
            Verdict::Fine | Verdict::End(_) => None,
        }
    }

    fn processes(&mut self) -> Vec<Verdict> {
        let Some(eyes) = &self.eyes else { return Vec::new() };
        let usage = eyes.usage();
        // The control group counts what nobody has mapped.
        let unmapped =
            if self.cgroup.bounds_memory() || self.plan.limits.memory_mib == 0 { 0 } else { eyes.unmapped() };
        let oom_kills = self.cgroup.oom_kills();
        vec![self.judge.judge(&self.plan.limits, usage, unmapped, oom_kills, || eyes.memory())]
    }
}

/// Started late: a short command never pays for it. It ends with the receiver, at its next verdict or with the process.
fn watch_disk(plan: &Plan) -> mpsc::Receiver<Verdict> {
    let (tell, told) = mpsc::channel();
    let (dir, limits) = (plan.dir.clone(), plan.limits.clone());
    let watching = std::thread::Builder::new().name("disk".into()).spawn(move || {
        let mut watch = DiskWatch::new(&dir, &limits, Instant::now());
        loop {
            for verdict in watch.look(Instant::now()) {
                if tell.send(verdict).is_err() {
                    return;
                }
            }
            std::thread::park_timeout(LOOK);
        }
    });
    if let Err(e) = watching {
        tracing::warn!(error = %e, "the disk of the box is not watched");
    }
    told
}
