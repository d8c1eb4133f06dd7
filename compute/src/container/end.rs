//! What becomes of a session: seen, bounded, stopped, removed.
//!
//! Whoever first sees that the worker has ended writes down how, and then removes both containers: a box ends with its
//! worker. Until it is written the containers stay, so a crash in between loses nothing.

use std::sync::PoisonError;
use std::time::Duration;

use bollard::errors::Error;
use bollard::query_parameters::{
    KillContainerOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveVolumeOptionsBuilder,
};
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::ask::{self, Container};
use super::engine::{Open, done, failed};
use super::layer;
use super::place::{End, Place, Record, TREE};
use super::start::on;
use super::{ContainerBackend, Ids};
use crate::local::folder::printable_tail;
use crate::local::{blocking, error};
use crate::{ComputeError, SessionStatus, StopOutcome};

/// A container that was killed is gone within this time, or hangs.
const KILL_DEADLINE: Duration = Duration::from_secs(20);
/// What has ended is told as ended within this time.
const NOTICE_DEADLINE: Duration = Duration::from_secs(5);
/// The disk of a box is measured this often, and never for more than a twentieth of the time.
const MEASURE_EVERY: Duration = Duration::from_secs(10);
const MEASURE_SHARE: u32 = 20;
const LOOK_MIN: Duration = Duration::from_millis(20);
const LOOK_MAX: Duration = Duration::from_millis(250);
/// Of a worker's output this much is kept.
const LOG_MAX_BYTES: usize = 1 << 20;
const MIB: u64 = 1 << 20;

/// What the engine says of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Running,
    Ended { code: i64, memory: Memory },
    Gone,
}

/// Whether the kernel ended it for want of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    Enough,
    Exhausted,
}

pub(super) async fn look(open: &Open, id: &str, doing: &str) -> Result<Seen, ComputeError> {
    let Some(Container { state, .. }) = ask::container(&open.facts.socket, id, doing).await? else {
        return Ok(Seen::Gone);
    };
    if state.lives() {
        return Ok(Seen::Running);
    }
    let memory = if state.oom_killed { Memory::Exhausted } else { Memory::Enough };
    Ok(Seen::Ended { code: state.exit_code, memory })
}

pub(super) async fn poll(
    backend: &ContainerBackend,
    place: &Place,
    ids: &Ids,
    doing: &str,
) -> Result<SessionStatus, ComputeError> {
    if let Some(End { code, tail }) = on(place, doing, |place| place.end()).await? {
        return Ok(SessionStatus::Ended { code, tail });
    }
    let open = backend.engine.open().await.map_err(|trouble| trouble.of(doing))?;
    let end = match look(&open, &ids.worker, doing).await? {
        Seen::Running => match over(backend, place, doing).await? {
            None => return Ok(SessionStatus::Running),
            Some(words) => {
                kill(&open, &ids.tools, doing).await?;
                kill(&open, &ids.worker, doing).await?;
                End { code: Some(137), tail: words }
            }
        },
        Seen::Ended { code, memory } => told(&open, place, ids, code, memory, doing).await?,
        Seen::Gone => End { code: None, tail: String::new() },
    };
    let End { code, tail } = settle(&open, place, ids, end, doing).await?;
    Ok(SessionStatus::Ended { code, tail })
}

pub(super) async fn stop(
    backend: &ContainerBackend,
    place: &Place,
    ids: &Ids,
    grace: Duration,
    doing: &str,
) -> Result<StopOutcome, ComputeError> {
    let open = &backend.engine.open().await.map_err(|trouble| trouble.of(doing))?;
    let (worker, tools) = (look(open, &ids.worker, doing).await?, look(open, &ids.tools, doing).await?);
    if (worker, tools) == (Seen::Gone, Seen::Gone) {
        return Ok(StopOutcome::AlreadyGone);
    }
    if worker == Seen::Running {
        // What is wrong with this shows when it is killed.
        if signal(open, &ids.worker, "SIGTERM").await.is_ok() {
            wait(open, &ids.worker, grace, doing).await?;
        }
    }
    kill(open, &ids.worker, doing).await?;
    kill(open, &ids.tools, doing).await?;
    if let Seen::Ended { code, memory } = look(open, &ids.worker, doing).await? {
        let end = told(open, place, ids, code, memory, doing).await?;
        settle(open, place, ids, end, doing).await?;
    } else {
        take_away(open, place, ids, doing).await?;
    }
    let ran = worker == Seen::Running || tools == Seen::Running;
    Ok(if ran { StopOutcome::Stopped } else { StopOutcome::AlreadyGone })
}

pub(super) async fn purge(
    backend: &ContainerBackend,
    place: &Place,
    ids: &Ids,
    doing: &str,
) -> Result<(), ComputeError> {
    if !on(place, doing, |place| Ok(place.0.path.exists())).await? {
        return Ok(());
    }
    let turn = on(place, doing, |place| place.0.last_turn()).await?;
    let Some(_turn) = turn.into_lock(doing)? else { return Ok(()) };
    let open = backend.engine.open().await.map_err(|trouble| trouble.of(doing))?;
    for id in [&ids.worker, &ids.tools] {
        if look(&open, id, doing).await? == Seen::Running {
            return Err(error::unavailable(doing, format!("it still runs (container {id}): stop it first")));
        }
    }
    take_away(&open, place, ids, doing).await?;
    on(place, doing, |place| place.0.remove()).await
}

/// How an ended worker ended, in the engine's words and its own.
async fn told(
    open: &Open,
    place: &Place,
    ids: &Ids,
    code: i64,
    memory: Memory,
    doing: &str,
) -> Result<End, ComputeError> {
    let whole = log(open, &ids.worker).await;
    let tools = look(open, &ids.tools, doing).await?;
    let bound = on(place, doing, |place| place.record()).await?.map_or(0, |record| record.memory_mib);
    let mut tail = printable_tail(&whole);
    if memory == Memory::Exhausted {
        tail.push_str("\nthe worker's container was ended at its memory limit");
    }
    if let Seen::Ended { code: code @ 1.., memory } = tools {
        let why = match memory {
            Memory::Exhausted => format!(" at its memory limit ({bound} MiB, `compute.limits.memory_mib`)"),
            Memory::Enough => String::new(),
        };
        let words = self::tail(open, &ids.tools).await;
        tail.push_str(&format!("\nthe tools' container ended with code {code}{why} {}", words.trim()));
    }
    on(place, doing, move |place| {
        // For a person who keeps the folders of ended sessions; not worth an error.
        if place.0.path.exists() {
            drop(place.0.write_first("worker.log", whole.as_bytes()));
        }
        Ok(())
    })
    .await?;
    Ok(End { code: i32::try_from(code).ok(), tail: printable_tail(&tail) })
}

/// Writes down how it ended; then nothing needs the containers any more. Returns what is known: somebody who saw it end
/// before may have known better.
async fn settle(open: &Open, place: &Place, ids: &Ids, end: End, doing: &str) -> Result<End, ComputeError> {
    let known = on(place, doing, move |place| {
        place.write_end(&end)?;
        Ok(place.end()?.unwrap_or(end))
    });
    let known = known.await?;
    take_away(open, place, ids, doing).await?;
    Ok(known)
}

async fn take_away(open: &Open, place: &Place, ids: &Ids, doing: &str) -> Result<(), ComputeError> {
    for id in [&ids.worker, &ids.tools] {
        remove(open, id, doing).await?;
    }
    remove_cache(open, place).await;
    Ok(())
}

/// Ends and removes a container, and sees that it is gone.
pub(super) async fn remove(open: &Open, id: &str, doing: &str) -> Result<(), ComputeError> {
    kill(open, id, doing).await?;
    let force = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    let began = Instant::now();
    loop {
        // Whoever else removes it just now makes this fail: it is gone when the engine does not know it any more.
        let removed = done(open.docker.remove_container(id, Some(force.clone())).await);
        if look(open, id, doing).await? == Seen::Gone {
            return Ok(());
        }
        if began.elapsed() > KILL_DEADLINE {
            removed.map_err(failed(doing))?;
            return Err(error::unavailable(
                doing,
                format!("the engine does not remove container {id}: see its log"),
            ));
        }
        tokio::time::sleep(LOOK_MIN).await;
    }
}

/// The volume of the cache's two layers, where there was one. It holds nothing itself; a leftover is replaced or harmless.
pub(super) async fn remove_cache(open: &Open, place: &Place) {
    let force = RemoveVolumeOptionsBuilder::new().force(true).build();
    if let Err(error) = done(open.docker.remove_volume(&layer::name(place, "cache"), Some(force)).await) {
        tracing::warn!(error = &error as &dyn std::error::Error, "the volume of a cache is left");
    }
}

/// Kills a container that runs, and waits until it does not.
async fn kill(open: &Open, id: &str, doing: &str) -> Result<(), ComputeError> {
    if look(open, id, doing).await? != Seen::Running {
        return Ok(());
    }
    let sent = signal(open, id, "SIGKILL").await;
    // Refused because it has just ended, which an engine may be slow to notice: then all is well.
    let patience = if sent.is_ok() { KILL_DEADLINE } else { NOTICE_DEADLINE };
    if wait(open, id, patience, doing).await? != Seen::Running {
        return Ok(());
    }
    sent.map_err(failed(doing))?;
    let words =
        format!("container {id} was killed and does not end: it may hang in the kernel on a disk or mount");
    Err(error::unavailable(doing, words))
}

async fn signal(open: &Open, id: &str, name: &str) -> Result<(), Error> {
    let options = KillContainerOptionsBuilder::new().signal(name).build();
    done(open.docker.kill_container(id, Some(options)).await)
}

/// Looks until the container does not run, or time is up.
async fn wait(open: &Open, id: &str, time: Duration, doing: &str) -> Result<Seen, ComputeError> {
    let began = Instant::now();
    let mut pause = LOOK_MIN;
    loop {
        let seen = look(open, id, doing).await?;
        if seen != Seen::Running || began.elapsed() >= time {
            return Ok(seen);
        }
        tokio::time::sleep(pause.min(time.saturating_sub(began.elapsed()))).await;
        pause = (pause * 2).min(LOOK_MAX);
    }
}

/// The end of what a container wrote, fit to be shown. What cannot be read is not worth an error.
pub(super) async fn tail(open: &Open, id: &str) -> String {
    printable_tail(&log(open, id).await)
}

async fn log(open: &Open, id: &str) -> String {
    let all = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
    let mut lines = open.docker.logs(id, Some(all));
    let mut text = String::new();
    while let Some(Ok(line)) = lines.next().await {
        text.push_str(&line.to_string());
        if text.len() > 2 * LOG_MAX_BYTES {
            let mut from = text.len() - LOG_MAX_BYTES;
            while !text.is_char_boundary(from) {
                from += 1;
            }
            text = text.split_off(from);
        }
    }
    text
}

/// Which bound of the disk the box is far over, in words. The first process of its tools keeps the bounds themselves; this
/// is for what it cannot see or end. Measured now and then: what is written in between is bounded by the size of a file
/// and the time.
async fn over(
    backend: &ContainerBackend,
    place: &Place,
    doing: &str,
) -> Result<Option<String>, ComputeError> {
    let name = place.0.name();
    let due = {
        let measured = backend.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let due = |(at, took): &(Instant, Duration)| at.elapsed() >= MEASURE_EVERY.max(*took * MEASURE_SHARE);
        measured.get(&name).is_none_or(due)
    };
    let Some(record) = on(place, doing, |place| place.record()).await?.filter(|_| due) else {
        return Ok(None);
    };
    let began = Instant::now();
    let place = place.clone();
    let (disk, cache) = blocking(move || {
        let of_tools: Vec<&str> = TREE.into_iter().chain(["home", "tmp"]).collect();
        (place.used(&of_tools), place.used(&["cache", "cache-upper"]))
    })
    .await;
    let mut measured = backend.measured.lock().unwrap_or_else(PoisonError::into_inner);
    measured.insert(name, (Instant::now(), began.elapsed()));
    Ok(beyond(&record, disk, cache))
}

fn beyond(record: &Record, disk: u64, cache: u64) -> Option<String> {
    let over = |used: u64, mib: u64| {
        let bound = mib.saturating_mul(MIB);
        // Once for what was written before it was ended, once for saving the work.
        mib > 0 && used > bound.saturating_add(2 * sandbox::layout::saving_reserve(bound))
    };
    let words = |what: &str, used: u64, bound: u64, setting: &str| {
        format!(
            "{what} hold {} MiB, and the box may have {bound} (`compute.limits.{setting}`): it was ended",
            used / MIB
        )
    };
    if over(disk, record.disk_mib) {
        return Some(words("the work tree, home and /tmp", disk, record.disk_mib, "disk_mib"));
    }
    over(cache, record.cache_mib)
        .then(|| words("the box's additions to the cache", cache, record.cache_mib, "cache_mib"))
}
