//! One layer: forked into its namespaces, moved into its root, stripped of all it does not need.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use domain::BoxLimits;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};
use nix::sys::stat::Mode;
use nix::unistd::{
    Gid, Uid, chdir, fchdir, pivot_root, setgroups, sethostname, setresgid, setresuid, setsid,
};
use seccompiler::BpfProgram;

use crate::layout::{INNER_ID, Layer};
use crate::lock;
use crate::run::{BoxError, Doing};
use crate::seccomp::{self, Affinity};
use crate::sys::{self, Show};

/// How a layer is to be.
pub(crate) struct Wanted<'a> {
    pub(crate) layer: Layer,
    pub(crate) root: PathBuf,
    pub(crate) name: &'a str,
    pub(crate) limits: &'a BoxLimits,
    pub(crate) affinity: Affinity,
    /// Where its processors begin, when they are bound by affinity.
    pub(crate) first_cpu: usize,
    pub(crate) filters: [BpfProgram; 2],
    /// Descriptors that its body uses; all others are closed.
    pub(crate) kept: Vec<RawFd>,
}

/// A layer that was forked. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Started {
    layer: Layer,
    pid: i32,
    pidfd: OwnedFd,
    control: OwnedFd,
    ended: bool,
}

/// What the monitor watches the tools by, opened in their layer.
#[derive(Debug)]
pub(crate) struct Watched {
    /// Their `/proc`.
    pub(crate) proc: OwnedFd,
    /// Their System V shared memory.
    pub(crate) segments: OwnedFd,
    /// Their `/dev/shm`.
    pub(crate) memory: OwnedFd,
}

/// Hidden in `/proc`: what a tool has no use for and the machine may not tell.
const MASKED: &[&str] =
    &["cmdline", "kcore", "keys", "key-users", "kmsg", "sysrq-trigger", "timer_list", "sched_debug"];
/// What watches files may be made in a box: each counts for the host's user who made the box, too, who is to have some left.
const WATCHES: [(&str, &str); 2] = [("max_inotify_instances", "32"), ("max_inotify_watches", "65536")];
/// Shown in `/proc` without its switches.
const READ_ONLY: &[&str] = &["sys", "irq", "bus", "fs"];

/// Forks a layer. `body` runs in it once it stands; its number is the exit code. It gets the line to the monitor.
pub(crate) fn start(
    wanted: &Wanted<'_>,
    body: impl FnOnce(OwnedFd) -> Result<i32, i32>,
) -> Result<Started, BoxError> {
    let what = || format!("starting the {}", wanted.layer.name());
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).doing(what)?;
    // The child finds itself in its copy of the root by its working directory: a path would be looked up with rights
    // that it does not have any more.
    let here = nix::fcntl::open(".", nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC, Mode::empty());
    chdir(&wanted.root).doing(what)?;
    let forked = sys::fork_into(
        libc::CLONE_NEWUSER
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS,
    );
    if matches!(forked, Ok(None)) {
        drop(ours);
        sys::exit(inside(wanted, theirs, body));
    }
    let _ = match here {
        Ok(here) => fchdir(here),
        Err(_) => chdir("/"),
    };
    let pid = forked.doing(what)?.unwrap_or_default();
    let pidfd = sys::pidfd(pid).doing(what)?;
    Ok(Started { layer: wanted.layer, pid, pidfd, control: ours, ended: false })
}

impl Started {
    pub(crate) fn layer(&self) -> Layer {
        self.layer
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Readable when it has ended.
    pub(crate) fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// The line to it.
    pub(crate) fn control(&self) -> &OwnedFd {
        &self.control
    }

    /// Lets it go on: its identity is written.
    pub(crate) fn go(&self) -> Result<(), BoxError> {
        say(&self.control, b"go", &[]).doing(|| format!("letting the {} go on", self.layer.name()))
    }

    /// Waits until it stands.
    pub(crate) fn ready(&mut self) -> Result<Option<Watched>, BoxError> {
        let name = self.layer.name();
        let (word, fds) = hear(&self.control).doing(|| format!("waiting for the {name}"))?;
        match word.as_slice() {
            b"ready" => {
                let mut fds = fds.into_iter();
                let (Some(proc), Some(segments), Some(memory)) = (fds.next(), fds.next(), fds.next()) else {
                    return Ok(None);
                };
                Ok(Some(Watched { proc, segments, memory }))
            }
            [] => {
                Err(io::Error::other("it ended before it stood")).doing(|| format!("waiting for the {name}"))
            }
            failed => {
                let (errno, doing) = failed.split_first_chunk::<4>().unwrap_or((&[0; 4], b"?"));
                let source = match i32::from_le_bytes(*errno) {
                    0 => io::Error::other("refused"),
                    errno => io::Error::from_raw_os_error(errno),
                };
                Err(BoxError { doing: format!("{name}: {}", String::from_utf8_lossy(doing)), source })
            }
        }
    }

    /// Takes its exit status; `None` while it lives.
    pub(crate) fn reap(&mut self) -> Option<i32> {
        use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
        let code = match waitpid(nix::unistd::Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => code,
            Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
            Ok(_) | Err(nix::Error::EINTR) => return None,
            Err(_) => 1,
        };
        self.ended = true;
        Some(code)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        if !self.ended {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), signal);
        }
    }

    /// Ends it, with every process in it, and waits until all are gone.
    pub(crate) fn end(&mut self) {
        while !self.ended {
            self.signal(Signal::SIGKILL);
            let mut fds = [nix::poll::PollFd::new(self.pidfd.as_fd(), nix::poll::PollFlags::POLLIN)];
            let _ = nix::poll::poll(&mut fds, nix::poll::PollTimeout::NONE);
            self.reap();
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.end();
    }
}

fn say(to: &OwnedFd, word: &[u8], fds: &[RawFd]) -> nix::Result<()> {
    let rights = [ControlMessage::ScmRights(fds)];
    let rights: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(word)], rights, MsgFlags::MSG_NOSIGNAL, None).map(drop)
}

fn hear(from: &OwnedFd) -> nix::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut word = [0u8; 1024];
    let mut space = nix::cmsg_space!([RawFd; 3]);
    loop {
        let mut into = [IoSliceMut::new(&mut word)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let (length, fds) = match recvmsg::<()>(from.as_raw_fd(), &mut into, Some(&mut space), flags) {
            Ok(got) => {
                let mut fds = Vec::new();
                for message in got.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(raw) = message {
                        // SAFETY: the kernel has just made them for this process, and nobody else knows them.
                        fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                    }
                }
                (got.bytes, fds)
            }
            Err(nix::Error::EINTR) => continue,
            Err(e) => return Err(e),
        };
        return Ok((word[..length].to_vec(), fds));
    }
}

/// The child's way, from the fork to its body's end.
fn inside(wanted: &Wanted<'_>, control: OwnedFd, body: impl FnOnce(OwnedFd) -> Result<i32, i32>) -> i32 {
    match settle(wanted, &control) {
        Ok(watched) => {
            let fds: Vec<RawFd> = watched.iter().map(AsRawFd::as_raw_fd).collect();
            if say(&control, b"ready", &fds).is_err() {
                return 1;
            }
            drop(watched);
            body(control).unwrap_or_else(|code| code)
        }
        Err(e) => {
            let mut word = e.source.raw_os_error().unwrap_or_default().to_le_bytes().to_vec();
            let text = match e.source.raw_os_error() {
                Some(_) => e.doing,
                None => format!("{}: {}", e.doing, e.source),
            };
            word.extend_from_slice(&text.as_bytes()[..text.len().min(1_000)]);
            let _ = say(&control, &word, &[]);
            1
        }
    }
}

fn settle(wanted: &Wanted<'_>, control: &OwnedFd) -> Result<Vec<OwnedFd>, BoxError> {
    let tools = wanted.layer == Layer::Tools;
    descriptors(wanted, control)?;
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    // Handlers and masks of the monitor mean nothing here; a program started later gets the usual ones.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
        .doing(|| "unblocking signals".into())?;
    sys::ordinary_priority().doing(|| "giving up a priority".into())?;
    let (word, _) = hear(control).doing(|| "waiting for the identity".into())?;
    if word != b"go" {
        return Err(io::Error::other("the monitor is gone")).doing(|| "waiting for the identity".into());
    }
    sethostname(wanted.name).doing(|| "naming the box".into())?;
    into_root()?;
    if tools {
        sys::loopback_up().doing(|| "switching loopback on".into())?;
        setsid().doing(|| "leaving the terminal".into())?;
    }
    if tools {
        // Whatever the kernel must end for want of memory, it is one of these before anything of the host.
        fs::write("/proc/self/oom_score_adj", "1000").doing(|| "offering itself to the kernel".into())?;
        sys::wipe_start(c"box-tools").doing(|| "forgetting how it was started".into())?;
    }
    let (uid, gid) = (Uid::from_raw(INNER_ID), Gid::from_raw(INNER_ID));
    // Refused where the monitor is an ordinary user, whose groups then stay: the roots show nothing that they open.
    let _ = setgroups(&[]);
    setresgid(gid, gid, gid).doing(|| "taking the group".into())?;
    setresuid(uid, uid, uid).doing(|| "taking the user".into())?;
    // After the change of user, which clears it. Should the monitor be gone by now, the next word to it fails.
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0).doing(|| "binding to the monitor".into())?;
    if tools && wanted.affinity == Affinity::Bound {
        bind_processors(0, wanted.limits.cpus, wanted.first_cpu)
            .doing(|| "bounding the processors".into())?;
    }
    let watched = if tools { watched()? } else { Vec::new() };
    // Late, for the monitor places it meanwhile: its own group is the root of what it sees.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP)
        .doing(|| "hiding the control groups".into())?;
    lock::limit(wanted.layer, wanted.limits)?;
    lock::privileges()?;
    lock::files(wanted.layer)?;
    seccomp::install(&wanted.filters).doing(|| "installing the filter of system calls".into())?;
    Ok(watched)
}

/// Leaves no descriptor of the monitor but those that are meant for this layer.
fn descriptors(wanted: &Wanted<'_>, control: &OwnedFd) -> Result<(), BoxError> {
    let what = || "closing what is not for it".to_owned();
    let null = fs::File::options().read(true).write(true).open("dev/null").doing(what)?;
    let silent: &[RawFd] = match wanted.layer {
        Layer::Tools => &[0, 1, 2],
        // Its words go where the monitor's go.
        Layer::Worker => &[0],
    };
    for at in silent {
        sys::duplicate_onto(null.as_fd(), *at).doing(what)?;
    }
    drop(null);
    let mut kept = wanted.kept.clone();
    kept.extend([0, 1, 2, control.as_raw_fd()]);
    sys::close_all_but(&kept).doing(what)
}

/// Makes the working directory the root, with a `/proc` of this namespace, and forgets the host's tree.
fn into_root() -> Result<(), BoxError> {
    // A mount of the monitor's is locked here and cannot become the root; a copy of it can.
    let root = sys::copy_here().doing(|| "copying its root".into())?;
    fchdir(&root).doing(|| "entering its root".into())?;
    drop(root);
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "proc", Some("proc"), flags, None::<&str>).doing(|| "mounting /proc".into())?;
    // No user namespace below this one, should a filter ever let the call through.
    fs::write("proc/sys/user/max_user_namespaces", "0").doing(|| "forbidding user namespaces".into())?;
    for (name, bound) in WATCHES {
        // Older kernels count them otherwise.
        let _ = fs::write(Path::new("proc/sys/user").join(name), bound);
    }
    for name in MASKED {
        let at = Path::new("proc").join(name);
        if at.exists() {
            sys::bind_alone(Path::new("dev/null"), &at, Show::ReadOnly)
                .doing(|| format!("hiding /proc/{name}"))?;
        }
    }
    for name in READ_ONLY {
        let at = Path::new("proc").join(name);
        if at.exists() {
            sys::bind_alone(&at, &at, Show::ReadOnly).doing(|| format!("closing /proc/{name}"))?;
        }
    }
    pivot_root(".", ".").doing(|| "changing the root".into())?;
    umount2(".", MntFlags::MNT_DETACH).doing(|| "leaving the host's root".into())?;
    chdir("/").doing(|| "entering the root".into())
}

fn watched() -> Result<Vec<OwnedFd>, BoxError> {
    ["/proc", "/proc/sysvipc/shm", "/dev/shm"]
        .into_iter()
        .map(|at| Ok(fs::File::open(at).doing(|| format!("opening {at}"))?.into()))
        .collect()
}

/// A process (0 is this one) to some of the processors that it has, so many; which ones differs from box to box.
pub(crate) fn bind_processors(pid: i32, count: u32, first: usize) -> nix::Result<()> {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    let this = nix::unistd::Pid::from_raw(pid);
    let all = sched_getaffinity(this)?;
    let usable: Vec<usize> = (0..CpuSet::count()).filter(|cpu| all.is_set(*cpu).unwrap_or(false)).collect();
    let mut some = CpuSet::new();
    for cpu in
        usable.iter().cycle().skip(first % usable.len().max(1)).take((count as usize).min(usable.len()))
    {
        some.set(*cpu)?;
    }
    sched_setaffinity(this, &some)
}
