//! Events on their way out: first to disk, then to the gateway, in order, each once.
//!
//! `append` writes a line to `spool.ndjson` and returns; a task beside it sends what is there in batches. While the
//! control plane is away nothing is lost but what exceeds the bound of the file, and that is said in one event. Each
//! event has a number of its own, so a batch whose answer was lost is sent again and dropped there. `spool.ack` says
//! up to which byte everything was taken; it may lag behind, never run ahead.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::EventKind;
use domain::limit;
use protocol::box_api::{BoxErrorCode, BoxEvent};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use crate::client::{CallError, Gateway, Pause};
use crate::stop::{Reason, Stop};

mod cut;

/// Bytes of unsent events kept on disk.
const FILE_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// When that is too much, one part in this many is dropped.
const DROP_PART: u64 = 4;
/// The file is emptied when all was taken and it is this long.
const FILE_RESET_BYTES: u64 = 1024 * 1024;
/// Read at once; more than the longest line.
const READ_BYTES: u64 = 1024 * 1024;
/// Between two batches, so that a flood travels in few of them. The first event after a silence does not wait.
const BATCH_PAUSE: Duration = Duration::from_millis(25);

/// Where events go. Clones are the same spool.
#[derive(Debug, Clone)]
pub struct Spool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    added: Notify,
    /// Bytes that are not taken yet; 0 also when nothing will be sent any more.
    waiting: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    ack_path: PathBuf,
    file: File,
    max: u64,
    /// Where the next line goes.
    end: u64,
    /// Everything before was taken.
    acked: u64,
    /// Changes when the file is written anew, so that a late acknowledgement is not applied to other bytes.
    generation: u64,
    next_key: u64,
    /// Events that could not be written (the disk is full); said as soon as one can.
    lost: u64,
    /// The gateway takes no more.
    closed: bool,
}

struct Batch {
    events: Vec<BoxEvent>,
    generation: u64,
    upto: u64,
}

impl Spool {
    /// Opens the spool of a session folder, or goes on with the one that is there.
    pub fn open(dir: &Path) -> io::Result<Spool> {
        Self::bounded(dir, FILE_MAX_BYTES)
    }

    fn bounded(dir: &Path, max: u64) -> io::Result<Spool> {
        let (path, ack_path) = (dir.join("spool.ndjson"), dir.join("spool.ack"));
        let file = OpenOptions::new().create(true).read(true).append(true).open(&path)?;
        let (end, next_key) = last_whole_line(&file)?;
        file.set_len(end)?;
        let acked = std::fs::read_to_string(&ack_path).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0);
        let acked = if acked <= end { acked } else { 0 };
        let inner =
            Inner { path, ack_path, file, max, end, acked, generation: 0, next_key, lost: 0, closed: false };
        let waiting = watch::Sender::new(inner.end - inner.acked);
        Ok(Spool { shared: Arc::new(Shared { inner: Mutex::new(inner), added: Notify::new(), waiting }) })
    }

    /// Adds an event. Never fails and never waits for the network; what is too large is cut.
    pub fn append(&self, kind: EventKind, metadata: Value) {
        let mut inner = self.lock();
        inner.append(kind, metadata);
        self.shared.waiting.send_replace(inner.waiting());
        drop(inner);
        self.shared.added.notify_one();
    }

    /// A milestone with its particulars.
    pub fn milestone(&self, name: &str, details: Value) {
        let mut metadata = json!({ "milestone": name });
        if let (Value::Object(all), Value::Object(more)) = (&mut metadata, details) {
            all.extend(more);
        }
        self.append(EventKind::AgentMilestone, metadata);
    }

    /// Waits until everything was taken; `false` when it was not within `time`.
    pub async fn flush(&self, time: Duration) -> bool {
        let mut waiting = self.shared.waiting.subscribe();
        matches!(tokio::time::timeout(time, waiting.wait_for(|bytes| *bytes == 0)).await, Ok(Ok(_)))
    }

    /// Sends until nothing can be sent any more. Run it once, beside everything else.
    pub async fn send_all(self, gateway: Gateway, stop: Stop) {
        let mut pause = Pause::default();
        loop {
            // A few pages that were just written: not worth another thread.
            let read = self.lock().read();
            let batch = match read {
                Ok(Some(batch)) => batch,
                Ok(None) => {
                    self.shared.added.notified().await;
                    continue;
                }
                Err(error) => {
                    tracing::error!(%error, "the event spool cannot be read");
                    tokio::time::sleep(pause.next()).await;
                    continue;
                }
            };
            match gateway.events(&batch.events).await {
                Ok(accepted) => {
                    for refused in &accepted.refused {
                        tracing::warn!(
                            event.key = refused.key,
                            reason = refused.reason,
                            "an event was refused"
                        );
                    }
                    pause = Pause::default();
                    self.taken(&batch);
                    tokio::time::sleep(BATCH_PAUSE).await;
                }
                Err(CallError::Away { doing, why }) => {
                    tracing::debug!(doing, why, "events wait");
                    tokio::time::sleep(pause.next()).await;
                }
                Err(CallError::Superseded { .. }) => {
                    stop.ask(Reason::Superseded);
                    return self.close();
                }
                Err(CallError::Unauthorized { .. }) => {
                    stop.ask(Reason::Unauthorized);
                    return self.close();
                }
                Err(error @ CallError::Refused { code: Some(BoxErrorCode::EventLimit), .. }) => {
                    tracing::warn!(%error, "no more events are taken of this attempt");
                    return self.close();
                }
                // A batch that is refused as a whole would be refused again: telemetry never fails a task.
                Err(error @ CallError::Refused { .. }) => {
                    tracing::error!(%error, events = batch.events.len(), "a batch of events was refused and is dropped");
                    self.taken(&batch);
                }
            }
        }
    }

    fn taken(&self, batch: &Batch) {
        let mut inner = self.lock();
        inner.taken(batch);
        self.shared.waiting.send_replace(inner.waiting());
    }

    fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        self.shared.waiting.send_replace(0);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn waiting(&self) -> u64 {
        if self.closed { 0 } else { self.end - self.acked }
    }

    fn append(&mut self, kind: EventKind, metadata: Value) {
        if self.closed {
            return;
        }
        if self.lost > 0 {
            let lost = self.lost;
            let text = format!("{lost} events were lost: the disk of the box was full");
            if self.write(EventKind::AgentError, json!({ "error": text, "events_lost": lost })) {
                self.lost = 0;
            }
        }
        if !self.write(kind, cut::to_limit(metadata, limit::EVENT_METADATA_MAX_BYTES)) {
            self.lost += 1;
        }
        if self.end - self.acked > self.max
            && let Err(error) = self.drop_oldest()
        {
            tracing::error!(%error, "the event spool cannot be shortened");
        }
    }

    fn write(&mut self, kind: EventKind, metadata: Value) -> bool {
        let event = BoxEvent { key: key(self.next_key), event_type: kind.as_str(), metadata };
        let line = line_of(&event);
        match self.file.write_all(&line) {
            Ok(()) => {
                self.end += line.len() as u64;
                self.next_key += 1;
                true
            }
            Err(error) => {
                tracing::warn!(%error, "an event could not be written to the spool");
                // No half line stays before the next one.
                if let Err(error) = self.file.set_len(self.end) {
                    tracing::error!(%error, "the event spool cannot be cut back");
                }
                false
            }
        }
    }

    fn read(&mut self) -> io::Result<Option<Batch>> {
        if self.closed || self.end == self.acked {
            return Ok(None);
        }
        let lines = Lines::new(&self.path, self.acked, self.end.min(self.acked + READ_BYTES))?;
        let mut batch = Batch { events: Vec::new(), generation: self.generation, upto: self.acked };
        let mut bytes = 0;
        for line in lines {
            let line = line?;
            if !line.ends_with(b"\n")
                || batch.events.len() == limit::EVENT_BATCH_MAX
                || bytes + line.len() > limit::EVENT_BODY_MAX_BYTES / 2
            {
                break;
            }
            bytes += line.len();
            batch.upto += line.len() as u64;
            match serde_json::from_slice(&line) {
                Ok(event) => batch.events.push(event),
                Err(error) => {
                    tracing::error!(%error, "a line of the event spool cannot be read and is left out")
                }
            }
        }
        Ok(Some(batch))
    }

    fn taken(&mut self, batch: &Batch) {
        // After a rewrite the same events stand elsewhere: they are sent again, and dropped there by their keys.
        if batch.generation != self.generation {
            return;
        }
        self.acked = batch.upto;
        let reset = self.acked == self.end && self.end >= FILE_RESET_BYTES;
        if reset {
            self.acked = 0;
        }
        if let Err(error) = std::fs::write(&self.ack_path, self.acked.to_string()) {
            tracing::debug!(%error, "how far the spool was sent is not written");
        }
        // After the acknowledgement: a crash in between sends again what is known already.
        if reset {
            match self.file.set_len(0) {
                Ok(()) => (self.end, self.generation) = (0, self.generation + 1),
                Err(error) => {
                    tracing::warn!(%error, "the event spool cannot be emptied");
                    self.acked = self.end;
                }
            }
        }
    }

    /// Writes the file anew without its oldest tool results, and, if that is not enough, without its oldest events but
    /// milestones and errors; says how many were dropped.
    fn drop_oldest(&mut self) -> io::Result<()> {
        // A good part at once, so that the next event does not write it all anew.
        let excess = (self.end - self.acked) / DROP_PART;
        let result = EventKind::AgentToolResult.as_str();
        let kept_kinds = [EventKind::AgentMilestone.as_str(), EventKind::AgentError.as_str()];
        let fresh_path = self.path.with_extension("new");
        let mut fresh = File::create(&fresh_path)?;
        let mut results = 0_u64;
        for line in Lines::new(&self.path, self.acked, self.end)? {
            let line = line?;
            if event_type(&line) == Some(result.as_str()) {
                results += line.len() as u64;
            }
        }
        let (mut drop_results, mut drop_others) = (excess.min(results), excess.saturating_sub(results));
        let mut dropped = 0_u64;
        for line in Lines::new(&self.path, self.acked, self.end)? {
            let line = line?;
            let to_drop = match event_type(&line) {
                Some(kind) if kind == result => Some(&mut drop_results),
                Some(kind) if kept_kinds.iter().any(|k| k == kind) => None,
                Some(_) | None => Some(&mut drop_others),
            };
            match to_drop.filter(|bytes| **bytes > 0) {
                Some(bytes) => {
                    *bytes = bytes.saturating_sub(line.len() as u64);
                    dropped += 1;
                }
                None => fresh.write_all(&line)?,
            }
        }
        std::fs::write(&self.ack_path, "0")?;
        std::fs::rename(&fresh_path, &self.path)?;
        self.file = OpenOptions::new().read(true).append(true).open(&self.path)?;
        (self.end, self.acked, self.generation) = (self.file.metadata()?.len(), 0, self.generation + 1);
        let text =
            format!("{dropped} events were dropped: the control plane was away too long to keep them all");
        if !self.write(EventKind::AgentError, json!({ "error": text, "events_dropped": dropped })) {
            self.lost += 1;
        }
        Ok(())
    }
}

/// Lines of a stretch of a file, with their ends.
struct Lines(io::Take<BufReader<File>>);

impl Lines {
    fn new(path: &Path, from: u64, to: u64) -> io::Result<Lines> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        Ok(Lines(BufReader::new(file).take(to - from)))
    }
}

impl Iterator for Lines {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        match self.0.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(Ok(line)),
            Err(error) => Some(Err(error)),
        }
    }
}

fn key(number: u64) -> String {
    format!("e{number:06}")
}

fn line_of(event: &BoxEvent) -> Vec<u8> {
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Where the last whole line ends, and the number after the last event's. A line that a crash cut is not counted.
fn last_whole_line(file: &File) -> io::Result<(u64, u64)> {
    let (mut end, mut next_key) = (0, 1);
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        if line.ends_with(b"\n") {
            end += line.len() as u64;
            let event: Option<BoxEvent> = serde_json::from_slice(&line).ok();
            let number = event.and_then(|e| e.key.trim_start_matches('e').parse::<u64>().ok());
            next_key = number.map_or(next_key, |n| n + 1);
        }
        line.clear();
    }
    Ok((end, next_key))
}

/// The kind of a line, without reading all of it.
fn event_type(line: &[u8]) -> Option<&str> {
    const FIELD: &[u8] = b"\"event_type\":\"";
    let from = line.windows(FIELD.len()).take(64).position(|w| w == FIELD)? + FIELD.len();
    let rest = &line[from..];
    std::str::from_utf8(&rest[..rest.iter().position(|b| *b == b'"')?]).ok()
}

#[cfg(test)]
mod tests;
