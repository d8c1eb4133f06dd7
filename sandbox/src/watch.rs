//! The watchdog's eyes and its judgement: what the tools use, and what follows.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::BoxLimits;

use crate::layer::Watched;
use crate::notice::{Limit, Notice};

mod disk;

pub(crate) use disk::{DiskWatch, Places};

const MIB: u64 = 1024 * 1024;

/// What the tools use now.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) processes: u64,
    /// Threads included.
    pub(crate) threads: u64,
    /// Resident memory, shared pages counted by each.
    pub(crate) resident: u64,
}

/// The tools' own `/proc`: from outside, or as their first process.
#[derive(Debug, Clone)]
pub(crate) struct Proc {
    path: PathBuf,
    /// Keeps the descriptor that the path names.
    _held: Option<Arc<OwnedFd>>,
}

impl Proc {
    fn each_process(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        // The first process is ours.
        entries
            .filter(|e| e.file_name().to_str().is_some_and(|n| n != "1" && n.parse::<u32>().is_ok()))
            .map(|e| e.path())
    }

    /// Bytes of files on these devices that have no name any more and are held by a process, each once.
    pub(crate) fn unlinked(&self, devices: &[u64]) -> u64 {
        let mut seen = HashSet::new();
        let mut bytes = 0;
        for process in self.each_process() {
            let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|fd| fd.path());
            for path in open.chain(mapped(&process)) {
                let Ok(file) = fs::metadata(path) else { continue };
                let counts = file.is_file() && file.nlink() == 0 && devices.contains(&file.dev());
                if counts && seen.insert((file.dev(), file.ino())) {
                    bytes += file.blocks() * 512;
                }
            }
        }
        bytes
    }
}

/// Files without a name that a process has mapped. To follow these paths takes root of the machine.
fn mapped(process: &Path) -> Vec<PathBuf> {
    let maps = fs::read(process.join("maps")).unwrap_or_default();
    let maps = String::from_utf8_lossy(&maps);
    let file = |line: &str| {
        // Filled up with zeros here, and not there.
        let (from, to) = line.strip_suffix(" (deleted)")?.split_once(' ')?.0.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some(process.join("map_files").join(format!("{:x}-{:x}", number(from)?, number(to)?)))
    };
    maps.lines().filter_map(file).collect()
}

/// Looks at the tools' processes and memory.
#[derive(Debug)]
pub(crate) struct Eyes {
    proc: Proc,
    segments: Option<File>,
    memory: PathBuf,
    page: u64,
    /// Keeps the descriptor that the path names.
    _held: Option<OwnedFd>,
}

impl Eyes {
    pub(crate) fn new(watched: Watched) -> Eyes {
        let path = |fd: &OwnedFd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        Eyes {
            memory: path(&watched.memory),
            proc: Proc { path: path(&watched.proc), _held: Some(Arc::new(watched.proc)) },
            segments: Some(watched.segments.into()),
            page: page_size(),
            _held: Some(watched.memory),
        }
    }

    /// Those of the first process itself, where nobody watches from outside.
    pub(crate) fn within() -> Eyes {
        Eyes {
            proc: Proc { path: "/proc".into(), _held: None },
            memory: "/dev/shm".into(),
            segments: File::open("/proc/sysvipc/shm").ok(),
            page: page_size(),
            _held: None,
        }
    }

    /// For whoever looks at the disk.
    pub(crate) fn proc(&self) -> Proc {
        self.proc.clone()
    }

    /// Cheap: one file per process.
    pub(crate) fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        let mut text = String::new();
        for process in self.proc.each_process() {
            let Some((threads, resident)) = self.stat(&process, &mut text) else { continue };
            usage.processes += 1;
            usage.threads += threads;
            usage.resident += resident;
        }
        usage
    }

    /// Threads and resident bytes of one process.
    fn stat(&self, process: &Path, text: &mut String) -> Option<(u64, u64)> {
        text.clear();
        File::open(process.join("stat")).and_then(|mut f| f.read_to_string(text)).ok()?;
        // After the name, which may hold anything, come the numbers: the state is the third field of all.
        let (_, rest) = text.rsplit_once(')')?;
        let field =
            |n: usize| rest.split_whitespace().nth(n - 3).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        Some((field(20), field(24) * self.page))
    }

    /// Memory that no process need have mapped: shared segments, `/dev/shm` and anonymous files.
    pub(crate) fn unmapped(&self) -> u64 {
        let mut bytes = 0;
        let mut table = vec![0; 64 * 1024];
        if let Some(length) = self.segments.as_ref().and_then(|s| s.read_at(&mut table, 0).ok()) {
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
        let mut seen = HashSet::new();
        for process in self.proc.each_process() {
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
        let mut stat = String::new();
        for process in self.proc.each_process() {
            let Ok(text) = fs::read_to_string(process.join("smaps_rollup")) else {
                // One that may not be looked into, or is gone: what it shares counts as its own.
                own += self.stat(&process, &mut stat).map_or(0, |(_, resident)| resident);
                continue;
            };
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

fn page_size() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096) as u64
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
            return Verdict::End(Notice { limit: Limit::Processes, detail, fatal: false, spared: false });
        }
        let bound = limits.memory_mib * MIB;
        if bound > 0 && usage.resident + unmapped > bound {
            let held = precise();
            if held > bound {
                let detail = format!("{} MiB of {} MiB", held / MIB, limits.memory_mib);
                return Verdict::End(Notice { limit: Limit::Memory, detail, fatal: false, spared: false });
            }
        }
        if newly > 0 {
            let detail = format!("the kernel ended {newly} of its processes at {} MiB", limits.memory_mib);
            return Verdict::Tell(Notice { limit: Limit::Memory, detail, fatal: false, spared: false });
        }
        Verdict::Fine
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
}
