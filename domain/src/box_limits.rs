//! What one box may use. Enforced outside the agent's reach; each bound has a default and a setting of the repository.

use serde::{Deserialize, Serialize};

/// Bounds of one box. 0 in a setting is no bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BoxLimits {
    /// MiB of memory of all processes of the tools together.
    pub memory_mib: u64,
    /// Processes and threads of the tools together.
    pub processes: u64,
    /// Processor cores.
    pub cpus: u32,
    /// Seconds of processor time of one process.
    pub cpu_seconds: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// MiB of the work tree, the home and /tmp of the box together.
    pub disk_mib: u64,
    /// MiB of one file.
    pub file_mib: u64,
    /// MiB of what the box adds to the dependency cache.
    pub cache_mib: u64,
}

impl Default for BoxLimits {
    fn default() -> Self {
        BoxLimits {
            memory_mib: 8 * 1024,
            processes: 2_048,
            cpus: 0,
            cpu_seconds: 4 * 3_600,
            open_files: 16_384,
            disk_mib: 20 * 1024,
            file_mib: 8 * 1024,
            cache_mib: 10 * 1024,
        }
    }
}
