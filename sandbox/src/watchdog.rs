//! Looks at the tools from time to time and ends them at a limit: from the monitor, or in the tools' container itself.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use domain::BoxLimits;

use crate::cgroup::{Cgroup, Own};
use crate::init::{END, TIDY};
use crate::notice::{Limit, Notice, Phase};
use crate::watch::{DiskWatch, Eyes, Judge, Places, Usage, Verdict};

/// Between two looks at the tools.
pub(crate) const LOOK: Duration = Duration::from_millis(200);
/// The same where much of the memory is taken and the next bound is an engine's.
const LOOK_CLOSE: Duration = Duration::from_millis(50);
/// Looking takes at most this share of the time.
const SHARE: u32 = 10;
/// But it is no longer from one look to the next, unless half the time would go: who was killed is to hear why.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// Bytes that are read of what the worker says, at once.
const SAID_MAX: usize = 256;

/// What counts beside `/proc`.
#[derive(Debug)]
pub(crate) enum Group<'a> {
    /// A group that the monitor has made: the kernel bounds the tools in it.
    Ours(&'a Cgroup),
    /// The one of the container that this is; its own bound is above the tools'.
    Own(Option<Own>),
}

/// Keeps the limits of one box. The disk, which takes longer, is looked at from a thread of its own.
#[derive(Debug)]
pub(crate) struct Watchdog<'a> {
    limits: &'a BoxLimits,
    places: Places,
    eyes: Option<Eyes>,
    group: Group<'a>,
    judge: Judge,
    next: Instant,
    saving: Arc<AtomicBool>,
    disk: Option<mpsc::Receiver<(Phase, Verdict)>>,
    /// Whether much of the memory was taken at the last look.
    close: bool,
}

impl<'a> Watchdog<'a> {
    pub(crate) fn new(
        limits: &'a BoxLimits,
        places: Places,
        eyes: Option<Eyes>,
        group: Group<'a>,
    ) -> Watchdog<'a> {
        let next = Instant::now() + LOOK;
        let (judge, saving) = (Judge::default(), Arc::default());
        Watchdog { limits, places, eyes, group, judge, next, saving, disk: None, close: false }
    }

    pub(crate) fn wait(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// As [`Watchdog::look`]: hears on `line` what the worker is at, and tells there what was reached.
    pub(crate) fn look_and_tell(&mut self, mut line: &UnixStream, say: impl Fn(&[u8])) {
        let told = self.look_hearing(Some(line), say);
        for notice in told {
            if let Err(e) = line.write_all(notice.line().as_bytes()) {
                tracing::warn!(error = %e, %notice, "limit not told");
            }
        }
    }

    /// Looks when it is time, has the tools' processes ended when a limit was reached (`say` to their first one), and
    /// returns what to tell.
    pub(crate) fn look(&mut self, say: impl Fn(&[u8])) -> Vec<Notice> {
        self.look_hearing(None, say)
    }

    fn look_hearing(&mut self, line: Option<&UnixStream>, say: impl Fn(&[u8])) -> Vec<Notice> {
        let now = Instant::now();
        if now < self.next {
            return Vec::new();
        }
        let mut verdicts: Vec<(Option<Phase>, Verdict)> =
            self.processes().into_iter().map(|verdict| (None, verdict)).collect();
        self.watch_disk();
        let disk = self.disk.iter().flat_map(mpsc::Receiver::try_iter);
        verdicts.extend(disk.map(|(phase, verdict)| (Some(phase), verdict)));
        let took = now.elapsed();
        let often = if self.close { LOOK_CLOSE } else { LOOK };
        self.next = now + (took * SHARE).clamp(often, LOOK_MAX.max(took * 2));
        // Last, so that nothing is ended by a word of before.
        let phase = line.and_then(|line| self.hear(line)).unwrap_or_else(|| self.phase());
        let mut told = Vec::new();
        for (judged_in, verdict) in verdicts {
            match verdict {
                Verdict::Fine => (),
                Verdict::Tell(notice) => {
                    // The kernel ends processes, and leaves what they shared.
                    if notice.limit == Limit::Memory {
                        say(TIDY);
                    }
                    told.push(notice);
                }
                Verdict::End(_) if judged_in == Some(Phase::Working) && phase == Phase::Saving => (),
                Verdict::End(notice) => {
                    say(END);
                    told.push(notice);
                }
            }
        }
        told
    }

    /// Once more when all is over: what the kernel did in between.
    pub(crate) fn last_look(&mut self) -> Option<Notice> {
        match self.judge.judge(self.limits, Usage::default(), 0, self.oom_kills(), || 0) {
            Verdict::Tell(notice) => Some(notice),
            Verdict::Fine | Verdict::End(_) => None,
        }
    }

    fn phase(&self) -> Phase {
        if self.saving.load(Ordering::Acquire) { Phase::Saving } else { Phase::Working }
    }

    /// What the worker said last, if it said anything.
    fn hear(&self, mut line: &UnixStream) -> Option<Phase> {
        let mut said = [0; SAID_MAX];
        let length = line.read(&mut said).unwrap_or(0);
        let phase = Phase::last(&String::from_utf8_lossy(&said[..length]))?;
        self.saving.store(phase == Phase::Saving, Ordering::Release);
        Some(phase)
    }

    fn oom_kills(&self) -> u64 {
        match &self.group {
            Group::Ours(group) => group.oom_kills(),
            Group::Own(own) => own.as_ref().map_or(0, Own::oom_kills),
        }
    }

    fn processes(&mut self) -> Option<Verdict> {
        let eyes = self.eyes.as_ref()?;
        let mut usage = eyes.usage();
        let oom_kills = self.oom_kills();
        let bound = self.limits.memory_mib;
        let verdict = match &self.group {
            // The control group counts what nobody has mapped.
            Group::Ours(group) => {
                let unmapped = if group.bounds_memory() || bound == 0 { 0 } else { eyes.unmapped() };
                self.judge.judge(self.limits, usage, unmapped, oom_kills, || eyes.memory())
            }
            Group::Own(Some(own)) => {
                let held = own.held();
                usage.resident = held;
                self.judge.judge(self.limits, usage, 0, oom_kills, || held)
            }
            Group::Own(None) => {
                let unmapped = if bound == 0 { 0 } else { eyes.unmapped() };
                usage.resident += unmapped;
                self.judge.judge(self.limits, usage, 0, oom_kills, || eyes.memory())
            }
        };
        let engine = matches!(self.group, Group::Own(_));
        self.close = engine && bound > 0 && usage.resident / 1024 / 1024 > bound / 2;
        Some(verdict)
    }

    /// Started late by the first look: a short command never pays for it. It ends with the receiver, at its next
    /// verdict or with the process.
    pub(crate) fn watch_disk(&mut self) {
        if self.disk.is_some() {
            return;
        }
        let (tell, told) = mpsc::channel();
        let (places, limits, saving) = (self.places.clone(), self.limits.clone(), self.saving.clone());
        let proc = self.eyes.as_ref().map(Eyes::proc);
        let watching = std::thread::Builder::new().name("disk".into()).spawn(move || {
            let mut watch = DiskWatch::new(places, proc, &limits, Instant::now());
            loop {
                let saves = saving.load(Ordering::Acquire);
                let phase = if saves { Phase::Saving } else { Phase::Working };
                for verdict in watch.look(Instant::now(), phase) {
                    if tell.send((phase, verdict)).is_err() {
                        return;
                    }
                }
                std::thread::park_timeout(LOOK);
            }
        });
        if let Err(e) = watching {
            tracing::warn!(error = %e, "the disk of the box is not watched");
        }
        self.disk = Some(told);
    }
}
