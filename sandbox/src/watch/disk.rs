//! The disk: what the tools have filled, judged against its bounds, with a reserve for what saves their work.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use domain::BoxLimits;

use super::{MIB, Verdict};
use crate::disk;
use crate::layout::{self, Folders};
use crate::notice::{Limit, Notice, Phase};

/// A file system on which less is left is full for the box: the host needs the rest. Of a small one it is a tenth.
const FREE_MIN: u64 = 512 * MIB;
/// How long the agent has to delete what is too much.
const GRACE: Duration = Duration::from_secs(120);
/// Saving may take this share of what is left for the host.
const SAVING_SHARE: u64 = 4;

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
                Verdict::End(Notice { limit, detail, fatal: false })
            }
            Some((since, then))
                if used > then + bound / 10 + 64 * MIB || now.duration_since(since) >= GRACE =>
            {
                Verdict::End(Notice { limit, detail: format!("{detail}, and it stays so"), fatal: true })
            }
            Some(_) => Verdict::Fine,
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
}

impl Places {
    /// Those of a box, from outside.
    pub(crate) fn of_box(dir: &Path) -> Places {
        let folders = Folders(dir);
        Places { tree: folders.tree().into(), cache: folders.cache_upper() }
    }

    /// As the tools see them, in a container.
    pub(crate) fn within() -> Places {
        let upper = PathBuf::from(layout::CACHE_UPPER);
        let tree = [layout::REPO, layout::BASELINE, layout::HOME, "/tmp"].map(PathBuf::from);
        Places { tree: tree.into(), cache: if upper.exists() { upper } else { layout::CACHE.into() } }
    }

    fn device(&self) -> &Path {
        self.tree.first().map_or(Path::new("/"), PathBuf::as_path)
    }
}

/// Looks at the disk, at most a twentieth of the time.
#[derive(Debug)]
pub(crate) struct DiskWatch {
    places: Places,
    limits: BoxLimits,
    tree: DiskJudge,
    cache: DiskJudge,
    left: DiskJudge,
    next: Instant,
    /// What must be left of the file system.
    least: u64,
    /// Free bytes at the last look; a fall of much since then calls for one.
    free: u64,
    /// What went on at the last look; another calls for one, too.
    phase: Phase,
}

impl DiskWatch {
    pub(crate) fn new(places: Places, limits: &BoxLimits, now: Instant) -> DiskWatch {
        let free = disk::free(places.device()).unwrap_or(u64::MAX);
        let least = disk::size(places.device()).map_or(FREE_MIN, |size| FREE_MIN.min(size / 10));
        DiskWatch {
            places,
            limits: limits.clone(),
            tree: DiskJudge::default(),
            cache: DiskJudge::default(),
            left: DiskJudge::default(),
            next: now,
            least,
            free,
            phase: Phase::Working,
        }
    }

    /// What follows now, worst first.
    pub(crate) fn look(&mut self, now: Instant, phase: Phase) -> Vec<Verdict> {
        let free = disk::free(self.places.device()).unwrap_or(u64::MAX);
        let mut verdicts = vec![self.judge_left(free, now, phase)];
        let much = (self.limits.disk_mib * MIB / 20).max(32 * MIB);
        if now >= self.next || free.saturating_add(much) < self.free || phase != self.phase {
            self.phase = phase;
            let tree = disk::used(self.places.tree.iter().map(PathBuf::as_path));
            let cache = disk::used([self.places.cache.as_path()]);
            let measures = [
                (Limit::Disk, &mut self.tree, tree, self.limits.disk_mib, "in its work tree, home and /tmp"),
                (
                    Limit::Cache,
                    &mut self.cache,
                    cache,
                    self.limits.cache_mib,
                    "added to its dependency cache",
                ),
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
            let took = now.elapsed();
            self.next = now + (took * 20).max(Duration::from_secs(5));
            self.free = disk::free(self.places.device()).unwrap_or(u64::MAX);
        }
        self.free = self.free.max(free);
        verdicts.retain(|v| *v != Verdict::Fine);
        verdicts
    }

    /// The file system itself, whoever filled it.
    fn judge_left(&mut self, free: u64, now: Instant, phase: Phase) -> Verdict {
        let least = match phase {
            Phase::Working => self.least,
            Phase::Saving => self.least / SAVING_SHARE,
        };
        let missing = least.saturating_sub(free);
        match self.left.judge(Limit::Disk, missing, 0, (now, Phase::Working), "") {
            Verdict::End(notice) => {
                let detail = format!("its file system has {} MiB left", free / MIB);
                Verdict::End(Notice { detail, ..notice })
            }
            other => other,
        }
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
            (1_300, 5, Working),
            (1_100, 200, Working),
        ]);
        let expected = [
            "fine",
            "end the box reached its disk limit: 1001 MiB of 1000 MiB here",
            "fine",
            "fine",
            "end the box reached its disk limit: 1100 MiB of 1000 MiB here",
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
            (1_500, 1, Working),
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
}
