//! What stands between a box and the host on this machine.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which control groups bound the tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupKind {
    /// Version 2, delegated to this user.
    V2,
    /// Version 1, as root.
    V1,
    /// None that may be written here: the watchdog bounds alone.
    None,
}

/// The walls that stand beside namespaces, seccomp, lost privileges and resource limits, which every box has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforced {
    /// The box is a user of its own outside, too.
    pub privileged: bool,
    /// Landlock's version; 0 where the kernel has none.
    pub landlock: i32,
    /// Control groups.
    pub cgroup: CgroupKind,
    /// The dependency cache is an overlay: shared below, private above.
    pub cache_overlay: bool,
}

impl fmt::Display for CgroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CgroupKind::V2 => "cgroup v2",
            CgroupKind::V1 => "cgroup v1",
            CgroupKind::None => "watchdog",
        })
    }
}

impl fmt::Display for Enforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "namespaces, seccomp, ")?;
        match self.landlock {
            0 => write!(f, "no Landlock, ")?,
            version => write!(f, "Landlock {version}, ")?,
        }
        write!(
            f,
            "limits by {}, user {}",
            self.cgroup,
            if self.privileged { "of its own" } else { "as the server's" }
        )
    }
}
