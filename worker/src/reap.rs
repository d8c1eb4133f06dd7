//! Buries the children of others. The worker adopts every process of the session that lost its parent (`claim`), so
//! that a stop finds it; when such a process ends, nobody but the worker can take its entry off the process table.

use std::collections::HashSet;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// Between two looks. Who started a child waits for it within milliseconds, so what is dead at two looks is nobody's.
const INTERVAL: Duration = Duration::from_secs(20);

/// Looks until dropped.
pub async fn reap() {
    let mut dead_before = HashSet::new();
    loop {
        tokio::time::sleep(INTERVAL).await;
        dead_before = look(&dead_before);
    }
}

/// Ends every process that is still below this one, when the work is over: also a daemon that left the session and took
/// its mark off, which nobody else would find. What an ended process leaves is adopted, and ended in turn.
pub fn end_all() {
    loop {
        let children = children();
        if children.is_empty() {
            return;
        }
        for pid in children {
            // One that has ended meanwhile is buried below like the others.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if waitpid(None, None).is_err() {
            return;
        }
    }
}

/// Buries those that were dead before; gives those that are dead now.
fn look(dead_before: &HashSet<i32>) -> HashSet<i32> {
    let dead: HashSet<i32> = children().into_iter().filter(|pid| is_dead(*pid)).collect();
    for pid in dead.intersection(dead_before) {
        if let Err(error) = waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG)) {
            tracing::debug!(%error, process.pid = pid, "an ended process was buried by somebody else");
        }
    }
    dead.difference(dead_before).copied().collect()
}

fn children() -> Vec<i32> {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let lists =
        threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>())
        .collect()
}

fn is_dead(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_dead_at_two_looks_is_buried() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id().cast_signed();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !is_dead(pid) {
            assert!(std::time::Instant::now() < deadline, "the child does not end");
            std::thread::yield_now();
        }
        assert!(children().contains(&pid));
        let dead = look(&HashSet::new());
        assert!(dead.contains(&pid) && is_dead(pid), "the first look only looks");
        // Only ours: tests beside this one have children too.
        look(&HashSet::from([pid]));
        assert!(!children().contains(&pid));
        assert!(child.wait().is_err(), "it is buried already");
    }
}
