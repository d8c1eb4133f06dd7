//! Bounds for a command that reads what a stranger made: a small pack can unfold to any size, and take any time.
//!
//! They are set on the command before it has been given a byte, and its helpers inherit them. A command that meets one
//! ends with an error, as one does that meets broken data.

/// What one process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of memory.
    pub memory: u64,
    /// Seconds of processor time.
    pub cpu_s: u64,
}

impl Bounds {
    /// For taking a pack in.
    pub const UNPACK: Bounds = Bounds { memory: 4 * GIB, cpu_s: 600 };
    /// For a question about what has been taken in: a few trees can unfold to more paths than any memory holds.
    pub const READ: Bounds = Bounds { memory: GIB, cpu_s: 60 };
}

const GIB: u64 = 1024 * 1024 * 1024;

/// Configuration that makes git need little of it: large files are passed through, packs are looked at in windows.
pub(crate) const CONFIGURATION: &[(&str, &str)] =
    &[("core.bigFileThreshold", "64m"), ("core.packedGitWindowSize", "32m"), ("core.packedGitLimit", "256m")];

/// Sets the bounds on a process that was just started.
#[cfg(target_os = "linux")]
pub(crate) fn set(id: u32, bounds: Bounds) -> std::io::Result<()> {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    for (what, max) in [(Resource::As, bounds.memory), (Resource::Cpu, bounds.cpu_s), (Resource::Core, 0)] {
        prlimit(pid, what, Rlimit { current: Some(max), maximum: Some(max) })?;
    }
    Ok(())
}

/// Elsewhere there is no way to.
#[cfg(not(target_os = "linux"))]
pub(crate) fn set(_id: u32, _bounds: Bounds) -> std::io::Result<()> {
    Ok(())
}
