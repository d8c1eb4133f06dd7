//! A control group for the tools, where this process may make one: version 2 when delegated, version 1 as root.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use domain::BoxLimits;

use crate::enforced::CgroupKind;

const PREFIX: &str = "bgagent-box-";
const MIB: u64 = 1024 * 1024;
/// Microseconds over which the processors are shared out.
const CPU_PERIOD: u64 = 100_000;

/// The group of one box; removed when this is dropped. Those of monitors that were killed are removed by the next one.
#[derive(Debug)]
pub(crate) struct Cgroup {
    kind: CgroupKind,
    folders: Vec<PathBuf>,
    /// Where the kernel counts the processes that it ended for want of memory.
    memory: Option<PathBuf>,
    cpus: bool,
}

impl Cgroup {
    pub(crate) fn new(limits: &BoxLimits) -> Cgroup {
        let none = Cgroup::none();
        let (Ok(own), Ok(mounts)) =
            (fs::read_to_string("/proc/self/cgroup"), fs::read_to_string("/proc/self/mountinfo"))
        else {
            return none;
        };
        let name = format!("{PREFIX}{}", std::process::id());
        version_2(&own, &mounts, &name, limits)
            .or_else(|| version_1(&own, &mounts, &name, limits))
            .unwrap_or(none)
    }

    fn none() -> Cgroup {
        Cgroup { kind: CgroupKind::None, folders: Vec::new(), memory: None, cpus: false }
    }

    pub(crate) fn kind(&self) -> CgroupKind {
        self.kind
    }

    pub(crate) fn bounds_cpus(&self) -> bool {
        self.cpus
    }

    pub(crate) fn bounds_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// Places a process, and what it starts from now on; whether that worked. A group that is not entered bounds nothing:
    /// from then on this is none.
    #[must_use]
    pub(crate) fn add(&mut self, pid: i32) -> bool {
        let enter = |folder: &PathBuf| {
            let entered = fs::write(folder.join("cgroup.procs"), pid.to_string());
            entered
                .inspect_err(
                    |e| tracing::warn!(group = %folder.display(), error = %e, "control group not entered"),
                )
                .is_ok()
        };
        let entered = self.folders.iter().all(enter);
        if !entered {
            *self = Cgroup::none();
        }
        entered
    }

    /// How many processes the kernel has ended in it for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        let Some(file) = &self.memory else { return 0 };
        counted(&fs::read_to_string(file).unwrap_or_default(), "oom_kill ")
    }
}

/// The group that an engine made for this container, as it is seen from within; it is only read.
#[derive(Debug)]
pub(crate) struct Own {
    stat: PathBuf,
    /// Lines of `stat` that are memory which cannot be had back without ending a process.
    held: &'static [&'static str],
    events: PathBuf,
}

impl Own {
    /// `None` where it is not shown.
    pub(crate) fn find() -> Option<Own> {
        Own::below(Path::new("/sys/fs/cgroup"))
    }

    fn below(root: &Path) -> Option<Own> {
        let kinds: [(&str, &str, &'static [&'static str]); 2] = [
            ("", "memory.events", &["anon ", "shmem "]),
            ("memory", "memory.oom_control", &["total_rss ", "total_shmem "]),
        ];
        kinds.into_iter().find_map(|(folder, events, held)| {
            let folder = root.join(folder);
            let (stat, events) = (folder.join("memory.stat"), folder.join(events));
            (stat.is_file() && events.is_file()).then_some(Own { stat, held, events })
        })
    }

    /// Bytes that its processes hold: their own, and those of files in memory, whoever has mapped them.
    pub(crate) fn held(&self) -> u64 {
        let text = fs::read_to_string(&self.stat).unwrap_or_default();
        self.held.iter().map(|name| counted(&text, name)).sum()
    }

    /// How many processes the kernel has ended in it for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        counted(&fs::read_to_string(&self.events).unwrap_or_default(), "oom_kill ")
    }
}

/// The number in the line that begins so; 0 where there is none.
fn counted(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in &self.folders {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Makes `parent/name` with these settings; each is `(file, value, whether it must hold)`.
fn group(parent: &Path, name: &str, settings: &[(&str, String, bool)]) -> io::Result<PathBuf> {
    sweep(parent);
    let folder = parent.join(name);
    match fs::create_dir(&folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => (),
    }
    for (file, value, must) in settings {
        if let Err(e) = fs::write(folder.join(file), value)
            && *must
        {
            let _ = fs::remove_dir(&folder);
            return Err(e);
        }
    }
    Ok(folder)
}

/// Removes the groups of monitors that are gone; one that still holds a process cannot be removed.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.strip_prefix(PREFIX)) else { continue };
        if !Path::new("/proc").join(pid).exists() {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn version_2(own: &str, mounts: &str, name: &str, limits: &BoxLimits) -> Option<Cgroup> {
    let path = own.lines().find_map(|l| l.strip_prefix("0::"))?;
    let here = mounted(mounts, "cgroup2", None, path)?;
    // A group with processes has no groups with controllers below it: this one's neighbour it must be.
    let parent = here.parent()?;
    let enabled = || fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
    if !["memory", "pids"].iter().all(|c| enabled().split_whitespace().any(|e| e == *c)) {
        // Delegated, but not switched on; whoever has no right to is told so by the kernel.
        let _ = fs::write(parent.join("cgroup.subtree_control"), "+memory +pids");
        let _ = fs::write(parent.join("cgroup.subtree_control"), "+cpu");
    }
    let enabled = enabled();
    let has = |controller: &str| enabled.split_whitespace().any(|e| e == controller);
    if !has("memory") || !has("pids") {
        return None;
    }
    let mut settings = Vec::new();
    if limits.memory_mib > 0 {
        settings.push(("memory.max", (limits.memory_mib * MIB).to_string(), true));
        settings.push(("memory.swap.max", "0".into(), false));
    }
    if limits.processes > 0 {
        settings.push(("pids.max", (limits.processes + 8).to_string(), true));
    }
    let cpus = limits.cpus > 0 && has("cpu");
    if cpus {
        settings.push(("cpu.max", format!("{} {CPU_PERIOD}", u64::from(limits.cpus) * CPU_PERIOD), true));
    }
    let folder = group(parent, name, &settings).ok()?;
    let memory = Some(folder.join("memory.events")).filter(|_| limits.memory_mib > 0);
    Some(Cgroup { kind: CgroupKind::V2, folders: vec![folder], memory, cpus })
}

fn version_1(own: &str, mounts: &str, name: &str, limits: &BoxLimits) -> Option<Cgroup> {
    let parent = |controller: &str| {
        let path = own.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            controllers.split(',').any(|c| c == controller).then_some(path)
        })?;
        mounted(mounts, "cgroup", Some(controller), path)
    };
    let mut cgroup = Cgroup { kind: CgroupKind::V1, folders: Vec::new(), memory: None, cpus: false };
    if limits.memory_mib > 0 {
        let bytes = (limits.memory_mib * MIB).to_string();
        let settings =
            [("memory.limit_in_bytes", bytes.clone(), true), ("memory.memsw.limit_in_bytes", bytes, false)];
        let folder = group(&parent("memory")?, name, &settings).ok()?;
        cgroup.memory = Some(folder.join("memory.oom_control"));
        cgroup.folders.push(folder);
    }
    // Processes are counted by the kernel per user namespace already, and entering a group of this version is slow.
    if limits.cpus > 0
        && let Some(cpu) = parent("cpu")
    {
        let settings = [
            ("cpu.cfs_period_us", CPU_PERIOD.to_string(), true),
            ("cpu.cfs_quota_us", (u64::from(limits.cpus) * CPU_PERIOD).to_string(), true),
        ];
        if let Ok(folder) = group(&cpu, name, &settings) {
            cgroup.folders.push(folder);
            cgroup.cpus = true;
        }
    }
    (!cgroup.folders.is_empty()).then_some(cgroup)
}

/// The folder of the group `path` in the hierarchy of that kind, as it is mounted here.
fn mounted(mounts: &str, kind: &str, controller: Option<&str>, path: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, at) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        if right.next()? != kind {
            return None;
        }
        let options = right.nth(1)?;
        if controller.is_some_and(|c| !options.split(',').any(|o| o == c)) {
            return None;
        }
        // In a container the mount shows a part of the hierarchy only.
        let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        let folder = Path::new(at).join(below);
        Some(if folder.is_dir() { folder } else { PathBuf::from(at) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_where_they_are_mounted() {
        let root = tempfile::tempdir().unwrap();
        let at = root.path().display();
        std::fs::create_dir_all(root.path().join("memory/jobs/7")).unwrap();
        std::fs::create_dir_all(root.path().join("unified/user.slice/app")).unwrap();
        let mounts = format!(
            "30 20 0:26 / {at}/memory rw - cgroup cgroup rw,memory\n\
             31 20 0:27 /docker/abc {at}/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
             32 20 0:28 / {at}/unified rw - cgroup2 cgroup2 rw\n"
        );
        let found = |kind, controller, path| {
            mounted(&mounts, kind, controller, path).map(|p| p.strip_prefix(root.path()).unwrap().to_owned())
        };
        assert_eq!(found("cgroup", Some("memory"), "/jobs/7"), Some("memory/jobs/7".into()));
        assert_eq!(found("cgroup", Some("memory"), "/hidden"), Some("memory".into()));
        assert_eq!(found("cgroup", Some("cpu"), "/docker/abc"), Some("cpu".into()));
        assert_eq!(found("cgroup2", None, "/user.slice/app"), Some("unified/user.slice/app".into()));
        assert_eq!(found("cgroup", Some("pids"), "/"), None);
    }

    #[test]
    fn a_container_reads_its_own_group_of_either_version() {
        let root = tempfile::tempdir().unwrap();
        assert!(Own::below(root.path()).is_none());
        let put = |name: &str, text: &str| std::fs::write(root.path().join(name), text).unwrap();
        std::fs::create_dir(root.path().join("memory")).unwrap();
        put("memory/memory.stat", "cache 9\nrss 1\ntotal_rss 40\ntotal_shmem 2\n");
        put("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
        let first = Own::below(root.path()).unwrap();
        assert_eq!((first.held(), first.oom_kills()), (42, 3));
        put("memory.stat", "anon 7\nfile 100\nshmem 5\n");
        put("memory.events", "oom 9\noom_kill 1\n");
        let second = Own::below(root.path()).unwrap();
        assert_eq!((second.held(), second.oom_kills()), (12, 1));
    }

    #[test]
    fn a_group_that_is_not_entered_is_none() {
        let root = tempfile::tempdir().unwrap();
        // Nobody can write to a folder.
        std::fs::create_dir(root.path().join("cgroup.procs")).unwrap();
        let memory = Some(root.path().join("memory.events"));
        let folders = vec![root.path().to_owned()];
        let mut group = Cgroup { kind: CgroupKind::V2, folders, memory, cpus: true };
        assert!(!group.add(7));
        assert_eq!(group.kind(), CgroupKind::None);
        assert!(!group.bounds_memory() && !group.bounds_cpus());
    }

    /// Folders stand for groups: where the tests run, version 2 may have no controllers.
    #[test]
    fn a_delegated_group_gets_a_neighbour() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("service/server");
        std::fs::create_dir_all(&own).unwrap();
        std::fs::write(root.path().join("service/cgroup.subtree_control"), "cpu memory pids\n").unwrap();
        let mounts = format!("32 20 0:28 / {} rw - cgroup2 cgroup2 rw\n", root.path().display());
        let limits = BoxLimits { memory_mib: 1, processes: 5, cpus: 2, ..BoxLimits::default() };
        let mut group = version_2("0::/service/server\n", &mounts, "box", &limits).unwrap();
        let read = |file: &str| std::fs::read_to_string(root.path().join("service/box").join(file)).unwrap();
        assert_eq!(read("memory.max"), "1048576");
        assert_eq!(read("pids.max"), "13");
        assert_eq!(read("cpu.max"), "200000 100000");
        assert!(group.bounds_cpus() && group.bounds_memory());
        assert!(group.add(7) && group.kind() == CgroupKind::V2);
        assert_eq!(read("cgroup.procs"), "7");
        std::fs::remove_file(root.path().join("service/cgroup.subtree_control")).unwrap();
        std::fs::create_dir(root.path().join("service/cgroup.subtree_control")).unwrap();
        assert!(
            version_2("0::/service/server\n", &mounts, "box", &limits).is_none(),
            "no controllers, no group"
        );
    }
}
