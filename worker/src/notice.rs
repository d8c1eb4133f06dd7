//! Limits that the box has reached, as its monitor tells them: one JSON object a line.
//!
//! A limit ends commands of the agent, not the task: the tool that ran says why it ended. Only one that cannot be mended
//! (the disk is still too full after everything was ended) ends the agent's work.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use domain::{EventKind, Failure, FailureCode};
use sandbox::notice::{Limit, Notice, Phase};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::spool::Spool;
use crate::tool::process::End;

/// Bytes of one line.
const LINE_MAX_BYTES: u64 = 16 * 1024;
/// Notices that are kept, and those that are events: a box that reaches its limits more often is told of often enough.
const KEPT_MAX: usize = 10_000;
const EVENTS_MAX: usize = 100;
/// So long the monitor has to say why a command was killed. What the kernel ended it finds out at its next look, which on
/// a busy machine is some looks' time away.
const GRACE: Duration = Duration::from_secs(2);

/// All notices so far. Clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Notices {
    told: Arc<watch::Sender<Vec<Notice>>>,
    /// The line to the monitor.
    monitor: Option<Arc<File>>,
}

/// The worker saves the work while this lives.
#[derive(Debug)]
#[must_use]
pub struct Saving(Notices);

impl Drop for Saving {
    fn drop(&mut self) {
        self.0.say(Phase::Working);
    }
}

impl Notices {
    /// None yet; the monitor at the other end of this line is going to tell.
    pub fn of_a_monitor(line: OwnedFd) -> Self {
        Notices { monitor: Some(Arc::new(File::from(line))), ..Notices::default() }
    }

    /// Tells the monitor that the work is saved from now on, until the answer is dropped: then a disk that the tools have
    /// filled does not end git. No command of the agent's runs meanwhile.
    pub fn saving(&self) -> Saving {
        self.say(Phase::Saving);
        Saving(self.clone())
    }

    fn say(&self, phase: Phase) {
        if let Some(mut line) = self.monitor.as_deref()
            && let Err(error) = line.write_all(phase.line().as_bytes())
        {
            tracing::warn!(%error, ?phase, "the monitor of the box is not told what goes on");
        }
    }

    /// Adds one.
    pub fn tell(&self, notice: Notice) {
        self.told.send_modify(|told| {
            if told.len() < KEPT_MAX || notice.fatal {
                told.push(notice);
            }
        });
    }

    /// How many there are: a mark for [`Notices::since`].
    pub fn count(&self) -> usize {
        self.told.borrow().len()
    }

    /// What was told after that mark.
    pub fn since(&self, mark: usize) -> Vec<Notice> {
        self.told.borrow().get(mark..).unwrap_or_default().to_vec()
    }

    /// What was told while a command ran that ended like this. One that was killed may have been killed at a limit: then
    /// the monitor gets a moment to say so.
    pub async fn after(&self, mark: usize, end: End) -> Vec<Notice> {
        let killed = matches!(end, End::Exited(code) if code == 128 + 9 || code == 128 + 15);
        if killed && self.monitor.is_some() {
            let _nothing_told = tokio::time::timeout(GRACE, self.beyond(mark)).await;
        }
        self.since(mark)
    }

    /// Waits until there are more than `mark`.
    async fn beyond(&self, mark: usize) {
        let mut told = self.told.subscribe();
        // The sender is ours: it cannot be gone.
        let _ = told.wait_for(|told| told.len() > mark).await;
    }

    /// Waits until the work cannot go on; why.
    pub async fn fatal(&self) -> Failure {
        let mut told = self.told.subscribe();
        let found = told.wait_for(|told| told.iter().any(|notice| notice.fatal)).await;
        let notice = found.ok().and_then(|told| told.iter().find(|notice| notice.fatal).cloned());
        match notice {
            Some(notice) => failure(&notice),
            None => std::future::pending().await,
        }
    }
}

/// In words for the model and for people.
pub fn told(notice: &Notice) -> String {
    let end = match (notice.fatal, notice.spared) {
        (true, _) => "that did not help",
        (false, true) => "nothing was ended",
        (false, false) => "its processes were ended",
    };
    format!("{notice}; {end}")
}

/// What ended a command that computed for too long, in words for the model and for people.
pub fn processor_limit(seconds: u64) -> String {
    format!("it reached its processor time limit of {seconds} s for one process, and was ended")
}

fn failure(notice: &Notice) -> Failure {
    let code = match notice.limit {
        Limit::Disk | Limit::Cache => FailureCode::DiskFull,
        Limit::Memory | Limit::Processes => FailureCode::WorkerCrashed,
    };
    Failure::new(code, told(notice))
}

/// Reads what the monitor tells until it ends. Each notice is an event, too.
pub async fn listen(from: OwnedFd, notices: Notices, spool: Spool) {
    let stream = std::os::unix::net::UnixStream::from(from);
    let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
    let stream = match stream {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%error, "the monitor of the box is not heard");
            return;
        }
    };
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        match (&mut stream).take(LINE_MAX_BYTES).read_until(b'\n', &mut line).await {
            Ok(0) => return,
            Ok(_) => (),
            Err(error) => {
                tracing::warn!(%error, "the monitor of the box is not heard any more");
                return;
            }
        }
        match serde_json::from_slice::<Notice>(&line) {
            Ok(notice) => {
                let limit = notice.limit;
                tracing::warn!(%limit, detail = notice.detail, notice.fatal, "a limit was reached");
                if notices.count() < EVENTS_MAX || notice.fatal {
                    let data = json!({ "limit": limit, "detail": told(&notice) });
                    spool.append(EventKind::LimitReached, data);
                }
                notices.tell(notice);
            }
            Err(error) => tracing::warn!(%error, "the monitor of the box said what is not understood"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[tokio::test]
    async fn notices_are_kept_told_as_events_and_a_fatal_one_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path()).unwrap();
        let (mut monitor, ours) = std::os::unix::net::UnixStream::pair().unwrap();
        let notices = Notices::of_a_monitor(ours.try_clone().unwrap().into());
        let mark = notices.count();
        let memory =
            Notice { limit: Limit::Memory, detail: "9 of 8 MiB".into(), fatal: false, spared: false };
        let disk = Notice { limit: Limit::Disk, detail: "21 of 20 GiB".into(), fatal: true, spared: false };
        let lines = format!("{}nonsense\n{}", memory.line(), disk.line());
        drop(notices.saving());
        monitor.write_all(lines.as_bytes()).unwrap();
        let mut heard = [0; 32];
        let length = monitor.read(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"saving\nworking\n");
        drop(monitor);
        listen(ours.into(), notices.clone(), spool).await;
        let all: Vec<String> = notices.since(mark).iter().map(told).collect();
        assert_eq!(
            all,
            [
                "the box reached its memory limit: 9 of 8 MiB; its processes were ended",
                "the box reached its disk limit: 21 of 20 GiB; that did not help"
            ]
        );
        assert_eq!(notices.fatal().await.code, FailureCode::DiskFull);
        let spooled = std::fs::read_to_string(dir.path().join("spool.ndjson")).unwrap();
        assert_eq!(spooled.matches("limit_reached").count(), 2, "{spooled}");
    }
}
