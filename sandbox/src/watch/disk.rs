//! The disk: what the tools have filled, judged against its bounds, with a reserve for what saves their work.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use domain::BoxLimits;

use super::{MIB, Proc, Verdict};
use crate::disk;
use crate::layout::{self, Folders};
use crate::notice::{Limit, Notice, Phase};

/// A file system on which less is left is full for the box: the host needs the rest. Of a small one it is a tenth.
const FREE_MIN: u64 = 512 * MIB;
/// How long the agent has to delete what is too much.
const GRACE: Duration = Duration::from_secs(120);
/// Until processes that are to end have ended, and what they held is given back.
const SETTLE: Duration = Duration::from_secs(2);
/// Saving may take this share of what is left for the host.
const SAVING_SHARE: u64 = 4;
/// A box that grew by less than this share of what must be left is not to blame.
const GROWN_SHARE: u64 = 8;
/// A smaller fall of what is free calls for no look.
const MUCH_MIN: u64 = 32 * MIB;

/// Judges one bound of the disk: at the first breach the processes end; what stays too much for too long, or grows on,
/// ends the task.
#[derive(Debug, Default)]
pub(crate) struct DiskJudge {
    over: Option<(Instant, u64)>,
    /// The bound while work is saved: from what there was when that began.
    saving: Option<u64>,
}

impl DiskJudge {
    /// While work is saved nothing ends for what the tools had filled before; saving itself has its reserve.
    pub(crate) fn judge(
        &mut self,
        limit: Limit,
        used: u64,
        bound: u64,
        (now, phase): (Instant, Phase),
        words: &str,
    ) -> Verdict {
        let bound = match phase {
            Phase::Working => {
                self.saving = None;
                bound
            }
            Phase::Saving => {
                let begun = self.saving.is_some();
                let raised = *self.saving.get_or_insert(used.max(bound) + layout::saving_reserve(bound));
                self.over = self.over.filter(|_| begun);
                raised
            }
        };
        if used <= bound {
            self.over = None;
            return Verdict::Fine;
        }
        let detail = format!("{} MiB of {} MiB {words}", used / MIB, bound / MIB);
        match self.over {
            None => {
                self.over = Some((now, used));
                Verdict::End(Notice { limit, detail, fatal: false, spared: false })
            }
            Some((since, _)) if now.duration_since(since) < SETTLE => Verdict::Fine,
            Some((since, then))
                if used > then + bound / 10 + 64 * MIB || now.duration_since(since) >= GRACE =>
            {
                Verdict::End(Notice {
                    limit,
                    detail: format!("{detail}, and it stays so"),
                    fatal: true,
                    spared: false,
                })
            }
            Some(_) => Verdict::Fine,
        }
    }
}

/// Judges what is left of the file system. A box is ended for what it has filled itself; for what others have it is told.
#[derive(Debug)]
struct LeftJudge {
    /// What must be left.
    least: u64,
    judge: DiskJudge,
    /// Bytes that were free, and the box's own, when enough was left last; else at the first look.
    before: Option<(u64, u64)>,
    told: bool,
}

impl LeftJudge {
    fn new(least: u64) -> LeftJudge {
        LeftJudge { least, judge: DiskJudge::default(), before: None, told: false }
    }

    fn least(&self, phase: Phase) -> u64 {
        match phase {
            Phase::Working => self.least,
            Phase::Saving => self.least / SAVING_SHARE,
        }
    }

    fn judge(&mut self, free: u64, used: u64, now: Instant, phase: Phase) -> Verdict {
        let missing = self.least(phase).saturating_sub(free);
        let (free_before, used_before) = *self.before.get_or_insert((free, used));
        if missing == 0 {
            self.before = Some((free, used));
            self.told = false;
        }
        let (lost, grown) = (free_before.saturating_sub(free), used.saturating_sub(used_before));
        let by_this_box = grown >= self.least / GROWN_SHARE && grown >= lost / 2;
        // There nobody could save work any more, and what fills it may be hidden.
        let almost_full = free < self.least(Phase::Saving);
        let left = format!("its file system has {} MiB left", free / MIB);
        if missing > 0 && !by_this_box && !almost_full {
            if std::mem::replace(&mut self.told, true) {
                return Verdict::Fine;
            }
            let detail = format!("{left}, and others have filled it");
            return Verdict::Tell(Notice { limit: Limit::Disk, detail, fatal: false, spared: true });
        }
        match self.judge.judge(Limit::Disk, missing, 0, (now, Phase::Working), "") {
            Verdict::End(notice) => Verdict::End(Notice { detail: left, ..notice }),
            other => other,
        }
    }
}

/// Which folders are measured.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// Together under the bound of the disk; the first names the file system.
    pub(crate) tree: Vec<PathBuf>,
    /// Under the bound of the cache.
    pub(crate) cache: PathBuf,
    /// The cache as the tools write to it: an overlay is a file system of its own.
    written: PathBuf,
}

impl Places {
    /// Those of a box, from outside.
    pub(crate) fn of_box(dir: &Path) -> Places {
        let folders = Folders(dir);
        Places { tree: folders.tree().into(), cache: folders.cache_upper(), written: folders.cache_merged() }
    }

    /// As the tools see them, in a container.
    pub(crate) fn within() -> Places {
        let upper = PathBuf::from(layout::CACHE_UPPER);
        let tree = [layout::REPO, layout::BASELINE, layout::HOME, "/tmp"].map(PathBuf::from);
        let cache = if upper.exists() { upper } else { layout::CACHE.into() };
        Places { tree: tree.into(), cache, written: layout::CACHE.into() }
    }

    fn device(&self) -> &Path {
        self.tree.first().map_or(Path::new("/"), PathBuf::as_path)
    }

    /// The file systems that the tools can write to.
    fn devices(&self) -> Vec<u64> {
        let places = self.tree.iter().chain([&self.cache, &self.written]);
        places.filter_map(|at| std::fs::metadata(at).ok()).map(|at| at.dev()).collect()
    }
}

/// Looks at the disk, at most a twentieth of the time.
#[derive(Debug)]
pub(crate) struct DiskWatch {
    places: Places,
    /// Whose processes may hold files without a name.
    proc: Option<Proc>,
    limits: BoxLimits,
    tree: DiskJudge,
    cache: DiskJudge,
    left: LeftJudge,
    next: Instant,
    /// Free bytes at the last look; a fall of much since then calls for one.
    free: u64,
    /// Whether there was too little at the last look.
    low: bool,
    /// What went on at the last look; another calls for one, too.
    phase: Phase,
}

impl DiskWatch {
    pub(crate) fn new(places: Places, proc: Option<Proc>, limits: &BoxLimits, now: Instant) -> DiskWatch {
        let free = disk::free(places.device()).unwrap_or(u64::MAX);
        let least = disk::size(places.device()).map_or(FREE_MIN, |size| FREE_MIN.min(size / 10));
        DiskWatch {
            places,
            proc,
            limits: limits.clone(),
            tree: DiskJudge::default(),
            cache: DiskJudge::default(),
            left: LeftJudge::new(least),
            next: now,
            free,
            low: false,
            phase: Phase::Working,
        }
    }

    /// What follows now, worst first.
    pub(crate) fn look(&mut self, now: Instant, phase: Phase) -> Vec<Verdict> {
        let free = disk::free(self.places.device()).unwrap_or(u64::MAX);
        let low = free < self.left.least(phase);
        let much = if low { MUCH_MIN } else { (self.limits.disk_mib * MIB / 20).max(MUCH_MIN) };
        let fell = free.saturating_add(much) < self.free;
        let due = now >= self.next || fell || low != self.low || phase != self.phase;
        (self.low, self.phase) = (low, phase);
        if !due {
            self.free = self.free.max(free);
            return Vec::new();
        }
        let verdicts = self.measure(free, now, phase);
        let took = now.elapsed();
        let ended = verdicts.iter().any(|verdict| matches!(verdict, Verdict::End(_)));
        // Soon, where it is to be seen whether that helped.
        self.next = now + (took * 20).max(if ended { SETTLE } else { Duration::from_secs(5) });
        self.free = disk::free(self.places.device()).unwrap_or(u64::MAX).max(free);
        verdicts
    }

    fn measure(&mut self, free: u64, now: Instant, phase: Phase) -> Vec<Verdict> {
        let unlinked = self.proc.as_ref().map_or(0, |proc| proc.unlinked(&self.places.devices()));
        let tree = disk::used(self.places.tree.iter().map(PathBuf::as_path)).map(|named| named + unlinked);
        let cache = disk::used([self.places.cache.as_path()]);
        // What cannot be counted is as much as any box may be ended for.
        let used = tree.unwrap_or(u64::MAX).saturating_add(cache.unwrap_or(u64::MAX));
        let mut verdicts = vec![self.left.judge(free, used, now, phase)];
        let measures = [
            (Limit::Disk, &mut self.tree, tree, self.limits.disk_mib, "in its work tree, home and /tmp"),
            (Limit::Cache, &mut self.cache, cache, self.limits.cache_mib, "added to its dependency cache"),
        ];
        for (limit, judge, used, bound, words) in measures {
            if bound > 0 {
                let bound = bound * MIB;
                let (used, words) = match used {
                    Ok(used) => (used, words),
                    Err(disk::TooDeep) => {
                        (bound + 1, "since its folders lie too deep in each other to be counted")
                    }
                };
                verdicts.push(judge.judge(limit, used, bound, (now, phase), words));
            }
        }
        verdicts.retain(|v| *v != Verdict::Fine);
        verdicts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: u64 = 1_000;

    /// Looks in turn: MiB used, seconds since the start, what is going on.
    fn looks(all: &[(u64, u64, Phase)]) -> Vec<String> {
        let (mut judge, start) = (DiskJudge::default(), Instant::now());
        let look = |(used, seconds, phase): &(u64, u64, Phase)| {
            let at = (start + Duration::from_secs(*seconds), *phase);
            match judge.judge(Limit::Disk, used * MIB, BOUND * MIB, at, "here") {
                Verdict::Fine => "fine".into(),
                Verdict::Tell(n) => format!("tell {n}"),
                Verdict::End(n) if n.fatal => format!("fatal {n}"),
                Verdict::End(n) => format!("end {n}"),
            }
        };
        all.iter().map(look).collect()
    }

    #[test]
    fn a_full_disk_may_be_cleaned_up() {
        use Phase::Working;
        let seen = looks(&[
            (1_000, 0, Working),
            (1_001, 1, Working),
            (1_001, 2, Working),
            (900, 3, Working),
            (1_100, 4, Working),
            // It wrote on until it was ended.
            (1_300, 5, Working),
            (1_300, 6, Working),
            (1_100, 200, Working),
        ]);
        let expected = [
            "fine",
            "end the box reached its disk limit: 1001 MiB of 1000 MiB here",
            "fine",
            "fine",
            "end the box reached its disk limit: 1100 MiB of 1000 MiB here",
            "fine",
            "fatal the box reached its disk limit: 1300 MiB of 1000 MiB here, and it stays so",
            "fatal the box reached its disk limit: 1100 MiB of 1000 MiB here, and it stays so",
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn saving_goes_on_over_the_bound_and_has_a_bound_of_its_own() {
        use Phase::{Saving, Working};
        let seen = looks(&[
            (1_200, 0, Working),
            (1_500, 2, Working),
            // The reserve is half of the bound, from what there was.
            (1_500, 2, Saving),
            (1_500, 300, Saving),
            (2_000, 301, Saving),
            (2_001, 302, Saving),
            (2_001, 303, Saving),
            (2_001, 304, Working),
        ]);
        let expected = [
            "end the box reached its disk limit: 1200 MiB of 1000 MiB here",
            "fatal the box reached its disk limit: 1500 MiB of 1000 MiB here, and it stays so",
            "fine",
            "fine",
            "fine",
            "end the box reached its disk limit: 2001 MiB of 2000 MiB here",
            "fine",
            "fine",
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn who_fills_the_file_system_ends_and_others_are_told() {
        const LEAST: u64 = 512;
        let start = Instant::now();
        // MiB free, MiB of the box itself, look by look.
        let looks = |all: &[(u64, u64)]| -> Vec<String> {
            let mut left = LeftJudge::new(LEAST * MIB);
            let look =
                |(free, used): &(u64, u64)| match left.judge(free * MIB, used * MIB, start, Phase::Working) {
                    Verdict::Fine => "fine".into(),
                    Verdict::Tell(n) => format!("tell {n}"),
                    Verdict::End(n) => format!("end {n}"),
                };
            all.iter().map(look).collect()
        };
        let (told, ended) = (
            "tell the box is near its disk limit: its file system has 400 MiB left, and others have filled it",
            "end the box reached its disk limit: its file system has 400 MiB left",
        );
        // Both of them wrote, one much more.
        assert_eq!(looks(&[(900, 10), (400, 460), (390, 470)]), ["fine", ended, "fine"]);
        assert_eq!(looks(&[(900, 10), (400, 50), (390, 50)]), ["fine", told, "fine"]);
        // Slowly, and long after enough was left last.
        assert_eq!(
            looks(&[(513, 10), (400, 20), (300, 200)])[1..],
            [told, "end the box reached its disk limit: its file system has 300 MiB left"]
        );
        // It was so before the box was there.
        assert_eq!(looks(&[(400, 10), (400, 12)]), [told, "fine"]);
        // Nobody could save work any more.
        assert_eq!(
            looks(&[(900, 10), (127, 10)])[1],
            "end the box reached its disk limit: its file system has 127 MiB left"
        );
    }
}
