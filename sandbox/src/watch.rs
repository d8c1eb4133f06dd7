//! The watchdog's eyes and its judgement: what the tools use, and what follows.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use domain::BoxLimits;

use crate::disk;
use crate::layer::Watched;
use crate::layout::Folders;
use crate::notice::{Limit, Notice};

const MIB: u64 = 1024 * 1024;
/// A file system on which less is left is full for the box: the host needs the rest. Of a small one it is a tenth.
const FREE_MIN: u64 = 512 * MIB;
/// How long the agent has to delete what is too much.
const GRACE: Duration = Duration::from_secs(120);

/// What the tools use now.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) processes: u64,
    /// Threads included.
    pub(crate) threads: u64,
    /// Resident memory, shared pages counted by each.
    pub(crate) resident: u64,
}

/// Reads the tools' own `/proc` from outside.
#[derive(Debug)]
pub(crate) struct Eyes {
    proc: PathBuf,
    segments: File,
    memory: PathBuf,
    page: u64,
    /// Keeps the descriptors that the paths name.
    _held: Vec<std::os::fd::OwnedFd>,
}

impl Eyes {
    pub(crate) fn new(watched: Watched) -> Eyes {
        let path = |fd: &std::os::fd::OwnedFd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let page =
            nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096) as u64;
        Eyes {
            proc: path(&watched.proc),
            memory: path(&watched.memory),
            segments: watched.segments.into(),
            page,
            _held: vec![watched.proc, watched.memory],
        }
    }

    fn each_process(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(&self.proc).into_iter().flatten().flatten();
        // The first process is ours.
        entries
            .filter(|e| e.file_name().to_str().is_some_and(|n| n != "1" && n.parse::<u32>().is_ok()))
            .map(|e| e.path())
    }

    /// Cheap: one file per process.
    pub(crate) fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        let mut text = String::new();
        for process in self.each_process() {
            text.clear();
            let read = File::open(process.join("stat")).and_then(|mut f| f.read_to_string(&mut text));
            // After the name, which may hold anything, come the numbers: the state is the third field of all.
            let Some((_, rest)) = text.rsplit_once(')').filter(|_| read.is_ok()) else { continue };
            let field = |n: usize| {
                rest.split_whitespace().nth(n - 3).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0)
            };
            usage.processes += 1;
            usage.threads += field(20);
            usage.resident += field(24) * self.page;
        }
        usage
    }

    /// Memory that no process need have mapped: shared segments, `/dev/shm` and anonymous files.
    pub(crate) fn unmapped(&self) -> u64 {
        let mut bytes = 0;
        let mut table = vec![0; 64 * 1024];
        if let Ok(length) = self.segments.read_at(&mut table, 0) {
            let table = String::from_utf8_lossy(&table[..length]).into_owned();
            // The last two columns: resident and swapped bytes.
            let columns = |line: &str| -> u64 {
                line.split_whitespace().rev().take(2).filter_map(|n| n.parse::<u64>().ok()).sum()
            };
            bytes += table.lines().skip(1).map(columns).sum::<u64>();
        }
        if let Ok(all) = nix::sys::statvfs::statvfs(&self.memory) {
            bytes += (all.blocks() - all.blocks_free()) * all.fragment_size();
        }
        let mut seen = std::collections::HashSet::new();
        for process in self.each_process() {
            for fd in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
                let anonymous = fs::read_link(fd.path())
                    .is_ok_and(|to| to.as_os_str().as_encoded_bytes().starts_with(b"/memfd:"));
                if let Some(file) = anonymous.then(|| fs::metadata(fd.path()).ok()).flatten()
                    && seen.insert(file.ino())
                {
                    bytes += file.blocks() * 512;
                }
            }
        }
        bytes
    }

    /// Exact and dear: each page counted once.
    pub(crate) fn memory(&self) -> u64 {
        let (mut own, mut shared) = (0, 0);
        for process in self.each_process() {
            let Ok(text) = fs::read_to_string(process.join("smaps_rollup")) else { continue };
            let field = |name: &str| -> u64 {
                let line = text.lines().find_map(|l| l.strip_prefix(name));
                line.and_then(|l| l.split_whitespace().next())
                    .and_then(|n| n.parse::<u64>().ok())
                    .unwrap_or(0)
                    * 1024
            };
            own += field("Pss_Anon:") + field("SwapPss:");
            shared += field("Pss_Shmem:");
        }
        own + shared.max(self.unmapped())
    }
}

/// What follows from what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fine,
    /// Something to tell; the kernel has acted.
    Tell(Notice),
    /// End the tools' processes.
    End(Notice),
}

/// Judges memory and processes, look by look.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    crowded: u32,
    oom_kills: u64,
}

impl Judge {
    /// `precise` is asked only when the cheap figure is over the bound.
    pub(crate) fn judge(
        &mut self,
        limits: &BoxLimits,
        usage: Usage,
        unmapped: u64,
        oom_kills: u64,
        precise: impl FnOnce() -> u64,
    ) -> Verdict {
        let newly = oom_kills.saturating_sub(self.oom_kills);
        self.oom_kills = oom_kills;
        // The bound of the kernel is never crossed: near it for two looks is a bomb.
        let near = limits.processes.saturating_sub((limits.processes / 50).max(1));
        self.crowded = if limits.processes > 0 && usage.threads >= near { self.crowded + 1 } else { 0 };
        if self.crowded >= 2 {
            self.crowded = 0;
            let detail = format!("{} of {} processes and threads", usage.threads, limits.processes);
            return Verdict::End(Notice { limit: Limit::Processes, detail, fatal: false });
        }
        let bound = limits.memory_mib * MIB;
        if bound > 0 && usage.resident + unmapped > bound {
            let held = precise();
            if held > bound {
                let detail = format!("{} MiB of {} MiB", held / MIB, limits.memory_mib);
                return Verdict::End(Notice { limit: Limit::Memory, detail, fatal: false });
            }
        }
        if newly > 0 {
            let detail = format!("the kernel ended {newly} of its processes at {} MiB", limits.memory_mib);
            return Verdict::Tell(Notice { limit: Limit::Memory, detail, fatal: false });
        }
        Verdict::Fine
    }
}

/// Judges one bound of the disk: at the first breach the processes end; what stays too much for too long, or grows on,
/// ends the task.
#[derive(Debug, Default)]
pub(crate) struct DiskJudge {
    over: Option<(Instant, u64)>,
}

impl DiskJudge {
    pub(crate) fn judge(
        &mut self,
        limit: Limit,
        used: u64,
        bound: u64,
        now: Instant,
        words: &str,
    ) -> Verdict {
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

/// Looks at the disk, at most a twentieth of the time.
#[derive(Debug)]
pub(crate) struct DiskWatch {
    dir: PathBuf,
    limits: BoxLimits,
    tree: DiskJudge,
    cache: DiskJudge,
    left: DiskJudge,
    next: Instant,
    /// What must be left of the file system.
    least: u64,
    /// Free bytes at the last look; a fall of much since then calls for one.
    free: u64,
}

impl DiskWatch {
    pub(crate) fn new(dir: &Path, limits: &BoxLimits, now: Instant) -> DiskWatch {
        let free = disk::free(dir).unwrap_or(u64::MAX);
        let least = disk::size(dir).map_or(FREE_MIN, |size| FREE_MIN.min(size / 10));
        DiskWatch {
            dir: dir.to_owned(),
            limits: limits.clone(),
            tree: DiskJudge::default(),
            cache: DiskJudge::default(),
            left: DiskJudge::default(),
            next: now,
            least,
            free,
        }
    }

    /// What follows now, worst first.
    pub(crate) fn look(&mut self, now: Instant) -> Vec<Verdict> {
        let free = disk::free(&self.dir).unwrap_or(u64::MAX);
        let mut verdicts = vec![self.judge_left(free, now)];
        let much = (self.limits.disk_mib * MIB / 20).max(32 * MIB);
        if now >= self.next || free.saturating_add(much) < self.free {
            let folders = Folders(&self.dir);
            let tree = disk::used(folders.tree().iter().map(PathBuf::as_path));
            let cache = disk::used([folders.cache_upper().as_path()]);
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
                    verdicts.push(judge.judge(limit, used, bound, now, words));
                }
            }
            let took = now.elapsed();
            self.next = now + (took * 20).max(Duration::from_secs(5));
            self.free = disk::free(&self.dir).unwrap_or(u64::MAX);
        }
        self.free = self.free.max(free);
        verdicts.retain(|v| *v != Verdict::Fine);
        verdicts
    }

    /// The file system itself, whoever filled it.
    fn judge_left(&mut self, free: u64, now: Instant) -> Verdict {
        let missing = self.least.saturating_sub(free);
        match self.left.judge(Limit::Disk, missing, 0, now, "") {
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

    fn limits() -> BoxLimits {
        BoxLimits { memory_mib: 100, processes: 100, ..BoxLimits::default() }
    }

    fn words(verdict: &Verdict) -> String {
        match verdict {
            Verdict::Fine => "fine".into(),
            Verdict::Tell(n) => format!("tell {n}"),
            Verdict::End(n) if n.fatal => format!("fatal {n}"),
            Verdict::End(n) => format!("end {n}"),
        }
    }

    #[test]
    fn pages_that_are_shared_do_not_count_twice() {
        let mut judge = Judge::default();
        let forked = Usage { processes: 3, threads: 3, resident: 150 * MIB };
        assert_eq!(judge.judge(&limits(), forked, 0, 0, || 60 * MIB), Verdict::Fine);
        let hog = judge.judge(&limits(), forked, 0, 0, || 150 * MIB);
        assert_eq!(words(&hog), "end the box reached its memory limit: 150 MiB of 100 MiB");
        let hidden = judge.judge(&limits(), Usage::default(), 101 * MIB, 0, || 101 * MIB);
        assert_eq!(words(&hidden), "end the box reached its memory limit: 101 MiB of 100 MiB");
    }

    #[test]
    fn many_processes_for_a_moment_are_no_bomb() {
        let mut judge = Judge::default();
        let mut look =
            |threads| words(&judge.judge(&limits(), Usage { threads, ..Usage::default() }, 0, 0, || 0));
        assert_eq!(look(99), "fine");
        assert_eq!(look(50), "fine");
        assert_eq!(look(99), "fine");
        assert_eq!(look(100), "end the box reached its process limit: 100 of 100 processes and threads");
    }

    #[test]
    fn what_the_kernel_did_is_told_once() {
        let mut judge = Judge::default();
        let mut look = |kills| words(&judge.judge(&limits(), Usage::default(), 0, kills, || 0));
        assert_eq!(
            look(2),
            "tell the box reached its memory limit: the kernel ended 2 of its processes at 100 MiB"
        );
        assert_eq!(look(2), "fine");
    }

    #[test]
    fn a_full_disk_may_be_cleaned_up() {
        let mut judge = DiskJudge::default();
        let start = Instant::now();
        let mut look = |used: u64, seconds: u64| {
            words(&judge.judge(
                Limit::Disk,
                used * MIB,
                1_000 * MIB,
                start + Duration::from_secs(seconds),
                "here",
            ))
        };
        assert_eq!(look(1_000, 0), "fine");
        assert_eq!(look(1_001, 1), "end the box reached its disk limit: 1001 MiB of 1000 MiB here");
        assert_eq!(look(1_001, 2), "fine");
        assert_eq!(look(900, 3), "fine");
        assert_eq!(look(1_100, 4), "end the box reached its disk limit: 1100 MiB of 1000 MiB here");
        let grown = look(1_300, 5);
        assert_eq!(grown, "fatal the box reached its disk limit: 1300 MiB of 1000 MiB here, and it stays so");
        let stays = look(1_100, 200);
        assert_eq!(stays, "fatal the box reached its disk limit: 1100 MiB of 1000 MiB here, and it stays so");
    }
}
