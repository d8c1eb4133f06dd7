//! Which processes belong to a session, and how they are ended.
//!
//! A session is more than the children of its worker: builds leave daemons that outlive their parents. What is ours:
//! - the worker, by id and start time;
//! - every process that carries the session's mark in its environment, wherever it went;
//! - every process of the worker's POSIX session, also without a mark;
//! - every descendant of any of these.
//!
//! What gets away: a process that leaves the POSIX session AND clears its environment AND loses its parent after the
//! worker has died. (While the worker lives it adopts orphans, so they stay descendants.) An ordinary process tree
//! has no wall around it; the tiers with one do.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::blocking;
use super::proc::{self, Delivery, Life, Mark, Process};

/// Between two looks while a tree is asked to end.
const LOOK_MIN: Duration = Duration::from_millis(5);
const LOOK_MAX: Duration = Duration::from_millis(100);
/// Longest wait for processes that were killed and do not go (stuck in the kernel).
const KILL_DEADLINE: Duration = Duration::from_secs(10);
/// Rounds of freezing before killing anyway.
const FREEZE_ROUNDS: usize = 8;
/// Looks in a row that must find nothing: one look is no snapshot, a process may be made behind its back.
const EMPTY_LOOKS: usize = 2;

/// A process, for sure: its id and its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) pid: i32,
    pub(super) start_ticks: u64,
}

/// A session to look for.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// `<task>-<attempt>`, the mark.
    pub(super) name: String,
    /// The worker, when it is known.
    pub(super) worker: Option<Identity>,
}

/// How ending a tree went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Something ran; nothing is left.
    All,
    /// Nothing ran.
    Nothing,
    /// These belong to another user.
    Refused(Vec<i32>),
    /// These were killed and did not go.
    Stuck(Vec<i32>),
}

/// Whether `process` is the worker: the same id, the same start time, and no environment that says otherwise (after a
/// reboot both numbers could come again).
pub(super) fn is_worker(process: &Process, worker: Identity, name: &str) -> bool {
    let same = process.pid == worker.pid && process.start_ticks == worker.start_ticks;
    same && match &process.mark {
        Mark::Unknown => true,
        Mark::Absent => false,
        Mark::Session(mark) => mark == name,
    }
}

/// The live processes of `target` among `all`, never this process itself. `known` are processes that were found to be
/// the session's before.
pub(super) fn members(all: &[Process], target: &Target, known: &HashSet<Identity>) -> Vec<Process> {
    let me = std::process::id().cast_signed();
    let mut ours = vec![false; all.len()];
    for (i, process) in all.iter().enumerate() {
        ours[i] = known.contains(&identity(process))
            || target.worker.is_some_and(|worker| is_worker(process, worker, &target.name))
            || process.mark == Mark::Session(target.name.clone());
    }
    let sid = target.worker.map(|w| w.pid).filter(|sid| session_is_ours(all, &ours, *sid));
    let at: HashMap<i32, usize> = all.iter().enumerate().map(|(i, p)| (p.pid, i)).collect();
    loop {
        let mut grew = false;
        for (i, process) in all.iter().enumerate() {
            let in_session = sid == Some(process.sid);
            // A parent started before its child; if not, its id was reused while we looked.
            let parent = at.get(&process.ppid).filter(|p| all[**p].start_ticks <= process.start_ticks);
            if !ours[i] && (in_session || parent.is_some_and(|p| ours[*p])) {
                ours[i] = true;
                grew = true;
            }
        }
        if !grew {
            break;
        }
    }
    let live = |p: &Process| p.life != Life::Ended && p.pid != me;
    all.iter().zip(&ours).filter(|(p, ours)| **ours && live(p)).map(|(p, _)| p.clone()).collect()
}

/// Ends the whole tree: TERM, up to `grace`, then KILL until nothing is found any more.
pub(super) async fn end(target: &Target, grace: Duration) -> io::Result<Ended> {
    let mut known = HashSet::new();
    let mut found = look_twice(target, &known).await?;
    if found.is_empty() {
        return Ok(Ended::Nothing);
    }
    let asked = Instant::now();
    let mut pause = LOOK_MIN;
    while !found.is_empty() && asked.elapsed() < grace {
        // A process is asked once; one that was forked meanwhile is asked as well.
        let fresh: Vec<Process> = found.iter().filter(|p| known.insert(identity(p))).cloned().collect();
        send(fresh, Signal::SIGTERM).await?;
        tokio::time::sleep(pause.min(grace.saturating_sub(asked.elapsed()))).await;
        pause = (pause * 2).min(LOOK_MAX);
        found = look_twice(target, &known).await?;
    }
    known.extend(found.iter().map(identity));
    kill_all(target, known, found).await
}

/// Freezes before killing: a frozen process forks nothing, so what is found then is all there is.
async fn kill_all(
    target: &Target,
    mut known: HashSet<Identity>,
    mut found: Vec<Process>,
) -> io::Result<Ended> {
    let began = Instant::now();
    let mut pause = LOOK_MIN;
    while !found.is_empty() {
        for _ in 0..FREEZE_ROUNDS {
            let moving: Vec<Process> = found.iter().filter(|p| p.life == Life::Alive).cloned().collect();
            send(moving, Signal::SIGSTOP).await?;
            found = look(target, &known).await?;
            if found.iter().all(|p| !known.insert(identity(p))) {
                break;
            }
        }
        let pids: Vec<i32> = found.iter().map(|p| p.pid).collect();
        let taken = send(found, Signal::SIGKILL).await?;
        if !taken.is_empty() && taken.iter().all(|t| *t == Delivery::Refused) {
            return Ok(Ended::Refused(pids));
        }
        if began.elapsed() > KILL_DEADLINE {
            return Ok(Ended::Stuck(pids));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOK_MAX);
        found = look_twice(target, &known).await?;
    }
    Ok(Ended::All)
}

async fn look_twice(target: &Target, known: &HashSet<Identity>) -> io::Result<Vec<Process>> {
    for _ in 1..EMPTY_LOOKS {
        let found = look(target, known).await?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    look(target, known).await
}

async fn look(target: &Target, known: &HashSet<Identity>) -> io::Result<Vec<Process>> {
    let (target, known) = (target.clone(), known.clone());
    blocking(move || Ok(members(&proc::snapshot()?, &target, &known))).await
}

async fn send(to: Vec<Process>, signal: Signal) -> io::Result<Vec<Delivery>> {
    blocking(move || to.iter().map(|p| proc::signal(p, signal)).collect()).await
}

fn identity(process: &Process) -> Identity {
    Identity { pid: process.pid, start_ticks: process.start_ticks }
}

/// Whether POSIX session `sid` is the worker's. Its number cannot be given to another process while one of its
/// members lives. So: if its leader lives, it must be the worker; if it does not, a member must be ours for another
/// reason, or else the number may have gone round.
fn session_is_ours(all: &[Process], ours: &[bool], sid: i32) -> bool {
    match all.iter().position(|p| p.pid == sid) {
        Some(leader) => ours[leader],
        None => all.iter().zip(ours).any(|(p, ours)| *ours && p.sid == sid && p.life != Life::Ended),
    }
}

#[cfg(test)]
mod tests;
