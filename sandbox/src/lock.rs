//! What a layer gives up before anything runs in it: identity, capabilities, resources, files (Landlock), calls (seccomp).

use std::io;
use std::path::Path;

use domain::BoxLimits;
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

use crate::layout::{self, Layer};
use crate::run::{BoxError, Doing};
use crate::seccomp::{self, Affinity, Wanted};
use crate::sys;

const MIB: u64 = 1024 * 1024;
/// Bytes that one process may keep from being swapped.
const LOCKED_MEMORY: u64 = 8 * MIB;
/// Threads of the worker.
const WORKER_THREADS: u64 = 1_024;

/// Sets the bounds that the kernel keeps per process, or per user of a user namespace.
pub(crate) fn limit(layer: Layer, limits: &BoxLimits) -> Result<(), BoxError> {
    let processes = match layer {
        Layer::Worker => WORKER_THREADS,
        Layer::Tools => limits.processes,
    };
    let cpu = if layer == Layer::Tools { limits.cpu_seconds } else { 0 };
    let bounds = [
        (Resource::RLIMIT_NPROC, processes),
        (Resource::RLIMIT_NOFILE, limits.open_files),
        (Resource::RLIMIT_FSIZE, limits.file_mib.saturating_mul(MIB)),
        (Resource::RLIMIT_CPU, cpu),
        (Resource::RLIMIT_MEMLOCK, LOCKED_MEMORY),
    ];
    for (resource, bound) in bounds {
        if bound > 0 {
            at_most(resource, bound).doing(|| format!("bounding {resource:?}"))?;
        }
    }
    // Not 0: that would still start a program of the host's, where the kernel pipes core dumps to one; 1 does not.
    setrlimit(Resource::RLIMIT_CORE, 1, 1).doing(|| "forbidding core dumps".into())
}

/// Lowers a bound, as far as it is not lower already. Two system calls and no more: it is used after a fork, too.
pub(crate) fn at_most(resource: Resource, bound: rlim_t) -> nix::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    let past = match resource {
        // A second before it is killed a process is told what for: its shell then says so.
        Resource::RLIMIT_CPU => 1,
        _other => 0,
    };
    setrlimit(resource, bound.min(hard), bound.saturating_add(past).min(hard))
}

/// Gives up every way to more rights: no capability is left, no program gives one.
pub(crate) fn privileges() -> Result<(), BoxError> {
    sys::drop_capabilities().doing(|| "dropping the capabilities".into())?;
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).doing(|| "forbidding new privileges".into())?;
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).doing(|| "hiding the first process".into())?;
    Ok(())
}

/// What the first process of a tools' container gives up of what its engine left: namespaces of its own, keys, unusual
/// sockets, writing where only a mount would forbid it. Engines and their versions differ in what they filter; boxes do
/// not.
pub(crate) fn contained() -> Result<(), BoxError> {
    let wanted = Wanted { layer: Layer::Tools, affinity: Affinity::Free };
    let filters = seccomp::filters(wanted)
        .map_err(io::Error::other)
        .doing(|| "making the filter of system calls".into())?;
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).doing(|| "forbidding new privileges".into())?;
    files(Layer::Tools)?;
    seccomp::install(&filters).doing(|| "installing the filter of system calls".into())
}

/// The second wall around the files: writing only where the mounts allow it too, no signal and no abstract socket out.
/// Returns whether the kernel has it.
pub(crate) fn files(layer: Layer) -> Result<bool, BoxError> {
    // The sets of access rights up to this version; an older kernel enforces those it knows.
    let abi = ABI::V6;
    if sys::landlock_version() == 0 {
        return Ok(false);
    }
    let all = AccessFs::from_all(abi);
    let read = AccessFs::from_read(abi);
    let mut rules: Vec<(&str, BitFlags<AccessFs>)> =
        vec![("/", read), ("/dev", all), ("/proc", read | AccessFs::WriteFile)];
    let writable: &[&str] = match layer {
        Layer::Worker => &[layout::SESSION, layout::REPO, layout::BASELINE],
        Layer::Tools => &["/tmp", "/var/tmp", layout::HOME, layout::REPO, layout::BASELINE, layout::CACHE],
    };
    // An image need not have all of them.
    rules.extend(writable.iter().filter(|at| Path::new(at).exists()).map(|at| (*at, all)));
    let enforce = || -> Result<RulesetStatus, Box<dyn std::error::Error + Send + Sync>> {
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(all)?
            .scope(Scope::from_all(abi))?
            .create()?;
        for (at, access) in &rules {
            ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(Path::new(at))?, *access))?;
        }
        Ok(ruleset.restrict_self()?.ruleset)
    };
    let status = enforce().map_err(io::Error::other).doing(|| "enforcing Landlock".into())?;
    Ok(status != RulesetStatus::NotEnforced)
}
