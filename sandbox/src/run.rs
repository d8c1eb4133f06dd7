//! Building a box and running the worker in it.
//!
//! The monitor (the calling process) enters a mount namespace of its own (an ordinary user: a user namespace first),
//! makes both roots there, forks the two layers into their namespaces, gives each its identity, and stays outside as
//! their supervisor ([`crate::monitor`]). Mounts that come from the monitor's namespace are locked in the layers'.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};

use crate::cgroup::Cgroup;
use crate::enforced::Enforced;
use crate::layer::{self, Started};
use crate::layout::{Folders, INNER_ID, Layer, OUTER_ID, SESSION};
use crate::monitor;
use crate::root::{self, Cache};
use crate::seccomp::{self, Affinity, Wanted};
use crate::toolchain::{self, Toolchains};
use crate::{Plan, cover, disk, init, sys};

/// What the worker finds in its layer.
#[derive(Debug)]
pub struct Upper {
    /// Stream socket to the tools' first process: see [`crate::tools::ToolBox::connect`].
    pub tools: OwnedFd,
    /// Stream socket on which the monitor tells of limits that were reached: see [`crate::notice::Notice`].
    pub monitor: OwnedFd,
    /// What stands between the layers and the host.
    pub enforced: Enforced,
}

/// Why there is no box.
#[derive(Debug, thiserror::Error)]
#[error("building the box: {doing}")]
pub struct BoxError {
    /// The step and its object.
    pub doing: String,
    /// What went wrong beneath.
    #[source]
    pub source: std::io::Error,
}

/// Names the step in an error of the system.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, BoxError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, BoxError> {
        self.map_err(|e| BoxError { doing: what(), source: e.into() })
    }
}

/// Builds the box and runs `worker` in its upper layer, in a forked process; returns its exit code when the box is
/// gone. `payload` is called in the monitor once both layers stand, and its bytes are handed to `worker` through a
/// pipe: so a secret that it reads was never in the memory of the tools' layer.
///
/// Call it before the process has other threads. The worker is the first process of its namespace: a signal for which
/// it has no handler does not reach it, `SIGTERM` for the monitor is passed on to it.
pub fn run_box(
    plan: &Plan,
    payload: impl FnOnce() -> std::io::Result<Vec<u8>>,
    worker: impl FnOnce(Upper, Vec<u8>) -> u8,
) -> Result<u8, BoxError> {
    let mut built = Built::new(plan)?;
    let (line_up, line_down) = UnixStream::pair().doing(|| "making the line between the layers".into())?;
    let (monitor_up, monitor_down) = UnixStream::pair().doing(|| "making the monitor's line".into())?;
    let (mut secret_in, secret_out) = UnixStream::pair().doing(|| "making the line for the secret".into())?;
    let mut tools = built.start_tools(line_down.into())?;
    built.identify(&tools)?;
    // While the tools' layer settles, which has no copy of this one.
    built.worker_root()?;
    let upper = Upper { tools: line_up.into(), monitor: monitor_up.into(), enforced: built.enforced.clone() };
    let kept = [upper.tools.as_raw_fd(), upper.monitor.as_raw_fd(), secret_out.as_raw_fd()];
    let layer = built.layer(Layer::Worker, &kept)?;
    let mut worker = layer::start(&layer, |control| {
        let (enforced, secret) = receive(secret_out).map_err(|_| 1)?;
        drop(control);
        let upper = Upper { enforced, ..upper };
        let run = AssertUnwindSafe(|| worker(upper, secret));
        std::panic::catch_unwind(run).map(i32::from).map_err(|_| 101)
    })?;
    built.identify(&worker)?;
    built.bound(&tools);
    let watched = tools.ready()?;
    worker.ready()?;
    // A worker that has its secret has work to end well: from here on it is told of a stop.
    let signals = monitor::Signals::take()?;
    let mut secret = payload().doing(|| "reading the worker's secret".into())?;
    hand_over(&mut secret_in, &built.enforced, &secret).doing(|| "handing the secret over".into())?;
    secret.fill(0);
    drop(secret_in);
    let code = monitor::supervise(plan, &signals, worker, tools, watched, &built.cgroup, monitor_down)?;
    Ok(code)
}

/// What the worker is given once both layers stand: what they are kept by, and the secret.
fn hand_over(to: &mut UnixStream, enforced: &Enforced, secret: &[u8]) -> io::Result<()> {
    for piece in [serde_json::to_vec(enforced)?.as_slice(), secret] {
        to.write_all(&(piece.len() as u64).to_le_bytes())?;
        to.write_all(piece)?;
    }
    Ok(())
}

fn receive(mut from: UnixStream) -> io::Result<(Enforced, Vec<u8>)> {
    let mut piece = || -> io::Result<Vec<u8>> {
        let mut length = [0; 8];
        from.read_exact(&mut length)?;
        let mut piece = vec![0; u64::from_le_bytes(length) as usize];
        from.read_exact(&mut piece)?;
        Ok(piece)
    };
    Ok((serde_json::from_slice(&piece()?)?, piece()?))
}

/// Runs one command in a box that has tools and no worker, with this process's input and outputs; returns its exit
/// code. The way out leads nowhere. `dir` is where it starts, in the box.
///
/// Call it before the process has other threads.
pub fn run_command(plan: &Plan, dir: &Path, argv: &[OsString]) -> Result<Ran, BoxError> {
    let mut built = Built::new(plan)?;
    let (ours, theirs) = UnixStream::pair().doing(|| "making the line to the tools".into())?;
    let mut tools = built.start_tools(theirs.into())?;
    built.identify(&tools)?;
    // Beside the layer's own work, for the kernel takes its time; no command runs before both are done.
    built.bound(&tools);
    let watched = tools.ready()?;
    let (code, notices) = monitor::run_command(plan, tools, watched, &built.cgroup, ours, dir, argv)?;
    Ok(Ran { code, notices, enforced: built.enforced.clone() })
}

/// What came of a command.
#[derive(Debug)]
pub struct Ran {
    /// As shells count: 128 + n for signal n.
    pub code: i32,
    /// Limits that were reached.
    pub notices: Vec<crate::notice::Notice>,
    /// What stood between it and the host.
    pub enforced: Enforced,
}

/// The box before its layers start.
struct Built<'a> {
    plan: &'a Plan,
    standing: Standing,
    toolchains: Toolchains,
    hidden: Vec<PathBuf>,
    cgroup: Cgroup,
    enforced: Enforced,
}

impl Drop for Built<'_> {
    /// The layers have their own copies of what was mounted; here it would only keep the folders from being removed.
    fn drop(&mut self) {
        let folders = Folders(&self.plan.dir);
        for path in [folders.root(Layer::Tools), folders.root(Layer::Worker), folders.cache_merged()] {
            let _ = umount2(&path, MntFlags::MNT_DETACH);
        }
    }
}

impl Built<'_> {
    fn new(plan: &Plan) -> Result<Built<'_>, BoxError> {
        let standing = Standing::ask();
        let home = home();
        let hidden = cover::hidden(plan.state.as_deref(), home.as_deref())?;
        let toolchains = toolchain::find(
            &plan.dir,
            home.as_deref(),
            &hidden,
            &|name| plan.env_of(name).map(Into::into).or_else(|| std::env::var_os(name)),
            &|path| path.exists(),
        );
        let mask = umask(Mode::from_bits_truncate(0o022));
        let made = standing.enter().and_then(|()| {
            let owner = standing.owner();
            folders(plan, owner)?;
            let cache = cache(plan, standing)?;
            let items = root::of_tools(plan, &toolchains, &cache, &hidden);
            root::build(&Folders(&plan.dir).root(Layer::Tools), &items)?;
            Ok(cache)
        });
        umask(mask);
        let cache = made?;
        let cgroup = Cgroup::new(&plan.limits);
        let enforced = Enforced {
            privileged: standing == Standing::Root,
            landlock: sys::landlock_version(),
            cgroup: cgroup.kind(),
            cache_overlay: matches!(cache, Cache::Overlay(_)),
        };
        Ok(Built { plan, standing, toolchains, hidden, cgroup, enforced })
    }

    fn worker_root(&self) -> Result<(), BoxError> {
        let mask = umask(Mode::from_bits_truncate(0o022));
        let items = root::of_worker(self.plan, &self.hidden);
        let made = root::build(&Folders(&self.plan.dir).root(Layer::Worker), &items);
        umask(mask);
        made
    }

    fn layer(&self, layer: Layer, kept: &[i32]) -> Result<layer::Wanted<'_>, BoxError> {
        let affinity = if layer == Layer::Tools && self.plan.limits.cpus > 0 && !self.cgroup.bounds_cpus() {
            Affinity::Bound
        } else {
            Affinity::Free
        };
        let filters = seccomp::filters(Wanted { layer, affinity })
            .map_err(io::Error::other)
            .doing(|| "making the filter of system calls".into())?;
        Ok(layer::Wanted {
            layer,
            root: Folders(&self.plan.dir).root(layer),
            name: &self.plan.name,
            limits: &self.plan.limits,
            affinity,
            first_cpu: std::process::id() as usize,
            filters,
            kept: kept.to_vec(),
        })
    }

    fn start_tools(&self, line: OwnedFd) -> Result<Started, BoxError> {
        let layer = self.layer(Layer::Tools, &[line.as_raw_fd()])?;
        layer::start(&layer, |control| {
            let serve = || -> io::Result<()> {
                let ends = init::Ends::take()?;
                let listener = init::listener()?;
                let port = listener.local_addr()?.port();
                let environment = init::environment(port, &self.toolchains.path, &self.told());
                init::serve(line, init::Seen::FromOutside(control), listener, &environment, &ends)
            };
            serve().map(|()| 0).map_err(|_| 1)
        })
    }

    /// Places the tools in their control group. One that takes them not is none: then the watchdog bounds alone, and the
    /// record says so.
    fn bound(&mut self, tools: &Started) {
        let processors = self.cgroup.bounds_cpus();
        if self.cgroup.add(tools.pid()) {
            return;
        }
        self.enforced.cgroup = self.cgroup.kind();
        if processors
            && let Err(e) =
                layer::bind_processors(tools.pid(), self.plan.limits.cpus, std::process::id() as usize)
        {
            tracing::warn!(error = %e, "the processors of the box are not bounded");
        }
    }

    /// The plan's environment and what toolchains need.
    fn told(&self) -> Vec<(OsString, OsString)> {
        let mut env = self.toolchains.env.clone();
        env.extend(self.plan.env.iter().cloned());
        env
    }

    /// Gives a layer its user and lets it go on.
    fn identify(&self, started: &Started) -> Result<(), BoxError> {
        let proc = PathBuf::from(format!("/proc/{}", started.pid()));
        let (uid, gid) = self.standing.owner();
        let write = |file: &str, text: String| {
            fs::write(proc.join(file), text)
                .doing(|| format!("writing {file} of the {}", started.layer().name()))
        };
        write("uid_map", format!("{INNER_ID} {uid} 1\n"))?;
        write("gid_map", format!("{INNER_ID} {gid} 1\n"))?;
        started.go()
    }
}

/// With which rights the monitor builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Root of the machine (or of a container that may do as much): the box gets a user of its own.
    Root,
    /// Anybody else, by a user namespace: the box is that user outside.
    Ordinary { uid: u32, gid: u32 },
}

impl Standing {
    pub(crate) fn ask() -> Standing {
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let maps = |file: &str| fs::read_to_string(file).is_ok_and(|map| covers(&map, OUTER_ID));
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let enough =
            uid == 0 && may_build(&status) && maps("/proc/self/uid_map") && maps("/proc/self/gid_map");
        if enough { Standing::Root } else { Standing::Ordinary { uid, gid } }
    }

    /// User and group of the layers, in the monitor's terms.
    fn owner(self) -> (u32, u32) {
        match self {
            Standing::Root => (OUTER_ID, OUTER_ID),
            Standing::Ordinary { uid, gid } => (uid, gid),
        }
    }

    fn enter(self) -> Result<(), BoxError> {
        match self {
            Standing::Root => {
                unshare(CloneFlags::CLONE_NEWNS).doing(|| "making a mount namespace".into())?;
            }
            Standing::Ordinary { uid, gid } => {
                unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
                    .doing(|| "making a user namespace".into())?;
                let write = |file: &str, text: String| {
                    fs::write(Path::new("/proc/self").join(file), text).doing(|| format!("writing {file}"))
                };
                write("setgroups", "deny".into())?;
                write("uid_map", format!("{uid} {uid} 1\n"))?;
                write("gid_map", format!("{gid} {gid} 1\n"))?;
            }
        }
        // What the host mounts and unmounts later arrives here; nothing made here arrives there.
        let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).doing(|| "separating the mounts".into())
    }
}

/// Whether a map of `/proc` has `id` inside.
fn covers(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().filter_map(|n| n.parse::<u64>().ok());
        let (Some(from), Some(_), Some(count)) = (numbers.next(), numbers.next(), numbers.next()) else {
            return false;
        };
        (from..from + count).contains(&u64::from(id))
    })
}

/// Whether a process with this status has the capabilities that building takes.
fn may_build(status: &str) -> bool {
    const CHOWN: u64 = 1 << 0;
    const DAC_OVERRIDE: u64 = 1 << 1;
    const SETGID: u64 = 1 << 6;
    const SETUID: u64 = 1 << 7;
    const SYS_ADMIN: u64 = 1 << 21;
    let needed = CHOWN | DAC_OVERRIDE | SETGID | SETUID | SYS_ADMIN;
    let held = status.lines().find_map(|l| l.strip_prefix("CapEff:")).map(str::trim);
    held.and_then(|held| u64::from_str_radix(held, 16).ok()).is_some_and(|held| held & needed == needed)
}

fn home() -> Option<PathBuf> {
    let told = std::env::var_os("HOME").map(PathBuf::from).filter(|h| h.is_absolute());
    told.or_else(|| nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.dir))
}

/// Makes the folders of the box, the layers' own belonging to them.
fn folders(plan: &Plan, owner: (u32, u32)) -> Result<(), BoxError> {
    let folders = Folders(&plan.dir);
    let make = |path: &Path, mode: u32| {
        let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
        made.doing(|| format!("making {}", path.display()))
    };
    make(&plan.dir, 0o700)?;
    for layer in [Layer::Tools, Layer::Worker] {
        make(&folders.root(layer), 0o700)?;
    }
    let told = plan.worker_binds.iter().find(|b| b.to == Path::new(SESSION));
    let session = told.map_or(folders.session(), |bind| bind.from.clone());
    for path in folders.tree().iter().chain([&session, &folders.cache_upper()]) {
        make(path, 0o700)?;
        disk::hand_over(path, owner).doing(|| format!("handing {} to the box", path.display()))?;
    }
    Ok(())
}

/// The dependency cache: an overlay over what is shared, or what is shared beside a private folder.
fn cache(plan: &Plan, standing: Standing) -> Result<Cache, BoxError> {
    let folders = Folders(&plan.dir);
    let private = folders.cache_upper();
    let Some(shared) = plan.cache.clone().filter(|shared| shared.is_dir()) else {
        return Ok(Cache::Beside { private, shared: None });
    };
    let (work, merged) = (folders.cache_work(), folders.cache_merged());
    for path in [&work, &merged] {
        fs::create_dir_all(path).doing(|| format!("making {}", path.display()))?;
    }
    // Without ownership from the host's point of view the overlay keeps its marks in attributes that users may set.
    let marks = match standing {
        Standing::Root => "",
        Standing::Ordinary { .. } => ",userxattr",
    };
    let named = |path: &Path| path.to_str().filter(|p| !p.contains([',', ':', '\\'])).map(str::to_owned);
    let options = match (named(&shared), named(&private), named(&work)) {
        (Some(lower), Some(upper), Some(work)) => {
            format!("lowerdir={lower},upperdir={upper},workdir={work}{marks}")
        }
        // Names that the overlay's options cannot hold.
        _ => return Ok(Cache::Beside { private, shared: Some(shared) }),
    };
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    match mount(Some("box"), &merged, Some("overlay"), flags, Some(options.as_str())) {
        Ok(()) => Ok(Cache::Overlay(merged)),
        Err(_) => Ok(Cache::Beside { private, shared: Some(shared) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_covers_what_lies_in_it() {
        assert!(covers("         0          0 4294967295\n", OUTER_ID));
        assert!(!covers("0 1000 1\n1 100000 65536\n", OUTER_ID));
        assert!(covers("0 1000 1\n1899999999 5 2\n", OUTER_ID));
        assert!(!covers("", OUTER_ID));
    }

    #[test]
    fn root_of_a_container_without_capabilities_is_an_ordinary_user() {
        assert!(may_build("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(!may_build("CapEff:\t00000000a80425fb\n"));
        assert!(!may_build(""));
    }
}
