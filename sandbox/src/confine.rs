//! What a process gives up that only has to read, think and answer: everything but its memory and its three descriptors.
//!
//! It needs no namespace, no root and no help of a parent, so it is had wherever the program runs. Its bounds are the
//! kernel's; the wall clock is its parent's.

use std::collections::BTreeMap;
use std::io;

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};
use nix::sys::resource::{Resource, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use crate::lock::at_most;
use crate::run::{BoxError, Doing};
use crate::seccomp::{self, all, has_not, is};
use crate::sys;

/// Descriptors that it may have: input, output, errors.
const DESCRIPTORS: u64 = 3;

/// How much of the machine it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of address space.
    pub memory_bytes: u64,
    /// Seconds of processor time; then SIGXCPU, a second later SIGKILL.
    pub cpu_seconds: u64,
}

/// Confines this process for good. It has to have one thread, and to own no descriptor but 0, 1 and 2, for the others
/// are closed.
///
/// From then on it opens no file, starts nothing, connects to nothing and cannot undo any of it. What it still asks the
/// kernel for is refused with `EPERM`, not killed: a library that asks for the time zone goes on without.
///
/// # Errors
/// A kernel without seccomp filters; it is then not confined, and must not go on. Landlock is a second wall where the
/// kernel has it.
pub fn confine(bounds: &Bounds) -> Result<(), BoxError> {
    sys::close_all_but(&[0, 1, 2]).doing(|| "closing what was inherited".into())?;
    let limits = [
        (Resource::RLIMIT_AS, bounds.memory_bytes),
        (Resource::RLIMIT_CPU, bounds.cpu_seconds),
        (Resource::RLIMIT_FSIZE, 0),
        (Resource::RLIMIT_NPROC, 0),
        (Resource::RLIMIT_MEMLOCK, 0),
    ];
    for (resource, bound) in limits {
        at_most(resource, bound).doing(|| format!("bounding {resource:?}"))?;
    }
    // As for boxes: 0 would still start a program where the kernel pipes core dumps to one.
    setrlimit(Resource::RLIMIT_CORE, 1, 1).doing(|| "forbidding core dumps".into())?;
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).doing(|| "forbidding new privileges".into())?;
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).doing(|| "hiding the process".into())?;
    let filter = filter(std::process::id())
        .map_err(io::Error::other)
        .doing(|| "making the filter of system calls".into())?;
    nothing_of_the_system()?;
    // Last, for what is above opens some.
    at_most(Resource::RLIMIT_NOFILE, DESCRIPTORS).doing(|| "bounding RLIMIT_NOFILE".into())?;
    seccomp::install(&[filter]).doing(|| "installing the filter of system calls".into())
}

/// No file, no port, no signal to others, as far as the kernel's Landlock knows of it.
fn nothing_of_the_system() -> Result<(), BoxError> {
    let abi = ABI::V6;
    if sys::landlock_version() == 0 {
        return Ok(());
    }
    let enforce = || -> Result<(), landlock::RulesetError> {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))?
            .handle_access(AccessNet::from_all(abi))?
            .scope(Scope::from_all(abi))?
            .create()?
            .restrict_self()
            .map(drop)
    };
    enforce().map_err(io::Error::other).doing(|| "enforcing Landlock".into())
}

fn filter(pid: u32) -> Result<BpfProgram, seccompiler::Error> {
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let mut allowed: BTreeMap<_, _> = ALLOWED.iter().map(|call| (*call, vec![])).collect();
    // A process that aborts raises a signal in itself; others of its user are not its to signal.
    allowed.insert(libc::SYS_tgkill, vec![all([is(0, pid.into())?])?]);
    // No memory becomes code.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        allowed.insert(call, vec![all([has_not(2, libc::PROT_EXEC as u64)?])?]);
    }
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    Ok(SeccompFilter::new(allowed, refuse, SeccompAction::Allow, arch)?.try_into()?)
}

/// Reading, writing and memory; ending; three more with conditions. No call here names a file, an address or a process but itself.
const ALLOWED: &[i64] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_fits_the_kernel_and_names_no_way_out() {
        assert!(filter(1).unwrap().len() < 4_096);
        for call in [
            libc::SYS_openat,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_execve,
            libc::SYS_clone,
            libc::SYS_ptrace,
            libc::SYS_kill,
            libc::SYS_prlimit64,
            libc::SYS_unlinkat,
        ] {
            assert!(!ALLOWED.contains(&call), "{call}");
        }
    }
}
