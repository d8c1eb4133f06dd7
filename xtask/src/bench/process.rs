//! What the kernel's tables say about a process: memory, processor time, and which workers a server has.

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// `USER_HZ`: on Linux it is 100 everywhere that this runs.
const TICKS_PER_SECOND: f64 = 100.0;

/// A field of `/proc/PID/status`, in KiB.
pub fn status(pid: u32, field: &str) -> Result<u64> {
    table(pid, "status", field)
}

/// A field of `/proc/PID/smaps_rollup`, in KiB: `Pss` shares what is shared among those who share it.
pub fn smaps(pid: u32, field: &str) -> Result<u64> {
    table(pid, "smaps_rollup", field)
}

/// Processor seconds of a process and of every descendant that it has waited for.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let file = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
    ticks(&text).map(|ticks| ticks as f64 / TICKS_PER_SECOND).with_context(|| format!("reading {file}"))
}

/// The workers whose session is below a folder.
pub fn workers_below(home: &Path) -> Result<Vec<u32>> {
    let home = home.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("listing processes")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process that ends meanwhile is none of ours any more.
        let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = words.split('\0').collect();
        if words.get(1) == Some(&"worker") && words.iter().any(|word| word.starts_with(&home)) {
            found.push(pid);
        }
    }
    Ok(found)
}

fn table(pid: u32, name: &str, field: &str) -> Result<u64> {
    let file = format!("/proc/{pid}/{name}");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
    kib(&text, field).with_context(|| format!("finding {field} in {file}"))
}

fn kib(table: &str, field: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// User and system time, own and of waited children: fields 14 to 17. The name, which may hold anything, ends in `)`.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after) = stat.rsplit_once(')')?;
    let fields: Vec<u64> = after.split_whitespace().skip(11).take(4).filter_map(|f| f.parse().ok()).collect();
    (fields.len() == 4).then(|| fields.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_read_from_the_kernels_table() {
        let status = "Name:\tx\nVmHWM:\t   10 kB\nVmRSS:\t  2048 kB\n";
        assert_eq!(kib(status, "VmRSS"), Some(2048));
        assert_eq!(kib(status, "VmSwap"), None);
    }

    #[test]
    fn times_stand_behind_the_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 10 20 300 4000 20 0 1 0 5";
        assert_eq!(ticks(stat), Some(4330));
    }

    #[test]
    fn this_process_has_memory_and_has_used_time() {
        let me = std::process::id();
        assert!(status(me, "VmRSS").unwrap() > 0);
        assert!(smaps(me, "Pss").unwrap() > 0);
        assert!(cpu_seconds(me).is_ok());
    }
}
