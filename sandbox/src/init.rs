//! The tools' first process: starts what the worker asks for, reaps, reports, and ends all when the worker is gone.
//!
//! One loop. It holds no secret, keeps no descriptor that it does not need, and trusts the line alone: what the tools'
//! processes do can only reach it as the end of a child. Where no monitor looks from outside (in a container) a thread
//! beside the loop keeps the limits.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use domain::BoxLimits;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{AccessFlags, Pid, access};

use crate::cgroup::Own;
use crate::layout::{HOME, PROXY_PORT, USER};
use crate::line::{Inbox, Reply, Request, Text, send};
use crate::sys::{Ended, reap_any};
use crate::watch::{Eyes, Places};
use crate::watchdog::{Group, Watchdog};

/// Serves `line` until its other end closes, as the first process of a container (or of a test): makes the listener
/// itself, tells the worker `environment`, and changes nothing about its own isolation. With `limits` it is the first
/// process of its PID namespace, and ends all others in it when they reach one.
pub fn serve_tools(
    line: UnixStream,
    environment: &[(OsString, OsString)],
    limits: Option<BoxLimits>,
) -> io::Result<()> {
    let _ = crate::sys::loopback_up();
    // Where this is not the first process, orphans come to it all the same.
    let _ = crate::sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0);
    let _ = crate::sys::prctl(libc::PR_SET_DUMPABLE, 0, 0);
    let listener = listener()?;
    let ends = Ends::take()?;
    match limits {
        None => serve(line.into(), Seen::Alone, listener, environment, &ends),
        Some(limits) => {
            let cpu_seconds = limits.cpu_seconds;
            let (control, told) = keep(limits)?;
            serve(line.into(), Seen::FromWithin { control, told, cpu_seconds }, listener, environment, &ends)
        }
    }
}

/// Starts the thread that keeps the limits. Returns what it ends the tools by, and what the worker hears it by.
fn keep(limits: BoxLimits) -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, control) = UnixStream::pair()?;
    let (tell, told) = UnixStream::pair()?;
    // A worker that does not read must not hold it up; nor may the loop, which is told often enough.
    tell.set_nonblocking(true)?;
    ours.set_nonblocking(true)?;
    std::thread::Builder::new().name("watchdog".into()).spawn(move || {
        let mut dog = Watchdog::new(&limits, Places::within(), Some(Eyes::within()), Group::Own(Own::find()));
        // At once: later a bomb may have left no room for a thread.
        dog.watch_disk();
        loop {
            std::thread::park_timeout(dog.wait());
            dog.look_and_tell(&tell, |word| {
                let _ = nix::unistd::write(&ours, word);
            });
        }
    })?;
    Ok((control.into(), told.into()))
}

/// What the keeper of the limits says on its line: all commands are to end.
pub(crate) const END: &[u8] = b"e";
/// The same: memory that belongs to nobody is to be given back.
pub(crate) const TIDY: &[u8] = b"t";

/// Who keeps the limits of the tools.
pub(crate) enum Seen {
    /// Nobody.
    Alone,
    /// The monitor: [`END`] or [`TIDY`] comes on its line; its end ends this.
    FromOutside(OwnedFd),
    /// A thread of this process, by the same line; `told` is for the worker. Commands may use so many seconds of
    /// processor time each, which this process, whose thread it takes, has no bound of.
    FromWithin { control: OwnedFd, told: OwnedFd, cpu_seconds: u64 },
}

/// Tells when a child has ended. Taken before there are other threads: one that does not block the signal would get it.
pub(crate) struct Ends(SignalFd);

impl Ends {
    pub(crate) fn take() -> io::Result<Ends> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block()?;
        Ok(Ends(SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }
}

/// Before [`serve_tools`] in a container: this process, and so all that it starts, gives up what the engine left it. Call
/// it while there is one thread.
pub fn give_up() -> Result<(), crate::BoxError> {
    crate::lock::contained()
}

/// The way out as the tools see it. The port is fixed so that settings can name it; another where it is taken.
pub(crate) fn listener() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, PROXY_PORT))
        .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
}

/// What the box decides about the tools' environment.
pub(crate) fn environment(
    port: u16,
    path: &OsStr,
    given: &[(OsString, OsString)],
) -> Vec<(OsString, OsString)> {
    let proxy = format!("http://127.0.0.1:{port}");
    let java = format!(
        "-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort={port} -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort={port} \
         -Dhttp.nonProxyHosts=localhost|127.0.0.1"
    );
    let own = ["localhost", "127.0.0.1", "::1"].join(",");
    // Given ones win over these.
    let mut environment: Vec<(OsString, OsString)> = vec![
        ("LANG".into(), "C.UTF-8".into()),
        ("SHELL".into(), "/bin/bash".into()),
        ("MAVEN_OPTS".into(), java.clone().into()),
        ("GRADLE_OPTS".into(), java.into()),
        ("NODE_USE_ENV_PROXY".into(), "1".into()),
    ];
    let decided: [(&str, OsString); 13] = [
        ("HOME", HOME.into()),
        ("USER", USER.into()),
        ("LOGNAME", USER.into()),
        ("TMPDIR", "/tmp".into()),
        ("PATH", path.to_owned()),
        ("http_proxy", proxy.clone().into()),
        ("https_proxy", proxy.clone().into()),
        ("all_proxy", proxy.clone().into()),
        ("HTTP_PROXY", proxy.clone().into()),
        ("HTTPS_PROXY", proxy.clone().into()),
        ("ALL_PROXY", proxy.into()),
        ("no_proxy", own.clone().into()),
        ("NO_PROXY", own.into()),
    ];
    let decided = decided.into_iter().map(|(n, v)| (OsString::from(n), v));
    for (name, value) in given.iter().cloned().chain(decided) {
        environment.retain(|(n, _)| *n != name);
        environment.push((name, value));
    }
    environment
}

/// The loop.
pub(crate) fn serve(
    line: OwnedFd,
    seen: Seen,
    listener: TcpListener,
    environment: &[(OsString, OsString)],
    ends: &Ends,
) -> io::Result<()> {
    let (control, told, of_commands) = match seen {
        Seen::Alone => (None, None, None),
        Seen::FromOutside(control) => (Some(control), None, None),
        Seen::FromWithin { control, told, cpu_seconds } => {
            (Some(control), Some(told), Some(cpu_seconds).filter(|seconds| *seconds > 0))
        }
    };
    let environment =
        environment.iter().map(|(n, v)| (Text::from(n.as_os_str()), Text::from(v.as_os_str()))).collect();
    let hello = Reply::Hello { environment, watched: told.is_some() };
    let fds: Vec<_> = [listener.as_raw_fd()].into_iter().chain(told.iter().map(AsRawFd::as_raw_fd)).collect();
    send(line.as_fd(), &hello, &fds)?;
    // The worker accepts; this end is not needed, and a copy here would keep the port open after it.
    drop((listener, told));
    let ours = getrlimit(Resource::RLIMIT_CPU).map_or(RLIM_INFINITY, |(soft, _)| soft);
    let mut tools = Tools {
        line,
        inbox: Inbox::default(),
        running: HashMap::new(),
        groups: HashSet::new(),
        processor: of_commands.or((ours != RLIM_INFINITY).then_some(ours)),
        of_commands,
    };
    let served = tools.serve(control.as_ref().map(AsFd::as_fd), &ends.0);
    tools.kill_all();
    tools.reap();
    match served {
        // The worker went away: the usual end.
        Err(e) if matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Ok(()),
        served => served,
    }
}

struct Tools {
    line: OwnedFd,
    inbox: Inbox,
    /// Started and not yet ended: process to request.
    running: HashMap<i32, u64>,
    /// Groups that were started here.
    groups: HashSet<i32>,
    /// Seconds of processor time that one process may use.
    processor: Option<u64>,
    /// The same where it is set for each command; else they inherit it.
    of_commands: Option<u64>,
}

impl Tools {
    fn serve(&mut self, control: Option<BorrowedFd<'_>>, children: &SignalFd) -> io::Result<()> {
        loop {
            let line = self.line.as_fd();
            let mut fds =
                vec![PollFd::new(line, PollFlags::POLLIN), PollFd::new(children.as_fd(), PollFlags::POLLIN)];
            fds.extend(control.map(|control| PollFd::new(control, PollFlags::POLLIN)));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => (),
                Err(e) => return Err(e.into()),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or_default()).collect();
            drop(fds);
            if ready[1] {
                while let Ok(Some(_)) = children.read_signal() {}
                for ended in self.reap() {
                    send(self.line.as_fd(), &ended, &[])?;
                }
            }
            if let Some(control) = control.filter(|_| ready[2]) {
                let mut word = [0u8; 16];
                match nix::unistd::read(control, &mut word) {
                    Ok(0) => return Ok(()),
                    Ok(length) if word[..length].iter().any(|said| END.contains(said)) => self.kill_all(),
                    Ok(_) => remove_segments(Segments::Orphans),
                    Err(Errno::EINTR | Errno::EAGAIN) => (),
                    Err(e) => return Err(e.into()),
                }
            }
            if ready[0] {
                if !self.inbox.fill(self.line.as_fd())? {
                    return Ok(());
                }
                while let Some(request) = self.inbox.take()? {
                    self.answer(request)?;
                }
            }
        }
    }

    fn answer(&mut self, request: Request) -> io::Result<()> {
        match request {
            Request::Spawn { id, program, args, env, dir, stdin } => {
                let stdin = if stdin { Some(self.inbox.descriptor()?) } else { None };
                let (stdout, stderr) = (self.inbox.descriptor()?, self.inbox.descriptor()?);
                let env: Vec<(OsString, OsString)> =
                    env.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
                let dir = PathBuf::from(OsString::from(dir));
                let reply = match self.start(
                    &program.into(),
                    args,
                    &env,
                    &dir,
                    [stdin, Some(stdout), Some(stderr)],
                ) {
                    Ok(group) => {
                        self.running.insert(group, id);
                        self.groups.insert(group);
                        Reply::Started { id, group }
                    }
                    Err(e) => Reply::Failed { id, errno: e.raw_os_error().unwrap_or(libc::EINVAL) },
                };
                send(self.line.as_fd(), &reply, &[])
            }
            Request::Signal { group, signal } => {
                if let (true, Ok(signal)) = (self.groups.contains(&group), Signal::try_from(signal)) {
                    let _ = kill(Pid::from_raw(-group), signal);
                }
                Ok(())
            }
            Request::Alive { id, group } => {
                let alive = self.groups.contains(&group) && kill(Pid::from_raw(-group), None).is_ok();
                send(self.line.as_fd(), &Reply::Alive { id, alive }, &[])
            }
            Request::KillAll => {
                self.kill_all();
                Ok(())
            }
        }
    }

    /// Collects what ended; all of it, whoever's child it was.
    fn reap(&mut self) -> Vec<Reply> {
        let mut ended = Vec::new();
        while let Some(Ended { pid, code, processor }) = reap_any() {
            if let Some(id) = self.running.remove(&pid) {
                let processor_s =
                    self.processor.filter(|bound| processor_limit_ended(code, processor, *bound));
                ended.push(Reply::Ended { id, code, processor_s });
            }
            // A number whose group is gone may be given to a stranger.
            if self.groups.contains(&pid) && kill(Pid::from_raw(-pid), None).is_err() {
                self.groups.remove(&pid);
            }
        }
        ended
    }

    fn start(
        &self,
        program: &OsString,
        args: Vec<Text>,
        env: &[(OsString, OsString)],
        dir: &Path,
        [stdin, stdout, stderr]: [Option<OwnedFd>; 3],
    ) -> io::Result<i32> {
        let path = env.iter().rev().find(|(n, _)| n == "PATH").map(|(_, v)| v.as_os_str());
        let found = look_up(program, path.unwrap_or_default(), dir)?;
        let stdio = |fd: Option<OwnedFd>| fd.map_or_else(Stdio::null, Stdio::from);
        let mut command = Command::new(found);
        command
            .arg0(program)
            .args(args.into_iter().map(OsString::from))
            .env_clear()
            .envs(env.iter().map(|(n, v)| (n, v)))
            .current_dir(dir)
            .process_group(0)
            .stdin(stdio(stdin))
            .stdout(stdio(stdout))
            .stderr(stdio(stderr));
        if let Some(seconds) = self.of_commands {
            let bound = move || Ok(crate::lock::at_most(Resource::RLIMIT_CPU, seconds)?);
            // SAFETY: between fork and exec it makes two system calls and allocates nothing.
            unsafe { command.pre_exec(bound) };
        }
        let child = command.spawn()?;
        // For want of memory it goes before us, and all that it holds goes with it; without us the whole box would. A program
        // that ended already, or is another user's, has no need of it.
        let _ = std::fs::write(format!("/proc/{}/oom_score_adj", child.id()), "1000");
        // Reaped by number: dropping this neither waits nor kills.
        Ok(child.id() as i32)
    }

    /// Ends every process of the tools. As first process of its namespace one call reaches them all at once, so that
    /// none can start another meanwhile.
    fn kill_all(&mut self) {
        if std::process::id() == 1 {
            let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
            // What outlives its processes would keep the box over its bound for ever.
            remove_segments(Segments::All);
            return;
        }
        for group in &self.groups {
            let _ = kill(Pid::from_raw(-group), Signal::SIGKILL);
        }
    }
}

/// Of System V shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segments {
    All,
    /// Those that no process has attached.
    Orphans,
}

/// Removes shared memory of this IPC namespace: at once, or when the last process that has it attached is gone. Only the
/// first process of a box asks for it, in which the namespace is the tools' own.
fn remove_segments(which: Segments) {
    if std::process::id() != 1 {
        return;
    }
    let table = std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    for line in table.lines().skip(1) {
        // key, shmid, perms, size, cpid, lpid, nattch
        let column = |n: usize| line.split_whitespace().nth(n).and_then(|text| text.parse::<i32>().ok());
        if let (Some(id), Some(attached)) = (column(1), column(6))
            && (which == Segments::All || attached == 0)
        {
            // SAFETY: a number and no pointer; one that is gone is refused.
            unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
        }
    }
}

/// Whether a command that ended with this code (as shells count) after so much processor time, that of its own processes
/// included, reached the bound of `seconds` for one process. The signal for it says so; one that ignored that is killed
/// a second later, which many a killer does, but few after so long.
pub fn processor_limit_ended(code: i32, spent: Duration, seconds: u64) -> bool {
    code == 128 + libc::SIGXCPU || (code == 128 + libc::SIGKILL && spent >= Duration::from_secs(seconds))
}

/// As `execvp`: a name is looked for in `path`, the error of a file that may not be executed outlives that of none.
fn look_up(program: &OsStr, path: &OsStr, dir: &Path) -> io::Result<PathBuf> {
    let errno = |e: Errno| io::Error::from_raw_os_error(e as i32);
    if program.is_empty() {
        return Err(errno(Errno::ENOENT));
    }
    if program.as_encoded_bytes().contains(&b'/') {
        return Ok(dir.join(program));
    }
    let mut error = Errno::ENOENT;
    for folder in std::env::split_paths(path) {
        let candidate = dir.join(folder).join(program);
        match access(&candidate, AccessFlags::X_OK) {
            Ok(()) if candidate.is_file() => return Ok(candidate),
            Ok(()) => error = Errno::EACCES,
            Err(Errno::EACCES) => error = Errno::EACCES,
            Err(_) => (),
        }
    }
    Err(errno(error))
}
