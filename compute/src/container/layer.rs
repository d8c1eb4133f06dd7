//! The two containers of a box, as data. Nothing here asks or does anything.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount,
    MountType, MountVolumeOptions, ResourcesUlimits,
};
use domain::BoxLimits;

use super::engine::{Facts, Rights};
use super::place::{Place, TREE};
use crate::CA_FILE;

/// The label that names a container's session.
pub(super) const SESSION: &str = "bgagent.session";
/// The label that names the server's state: two servers on one engine leave each other's containers alone.
pub(super) const STATE: &str = "bgagent.state";
/// The label that says which of the two it is.
pub(super) const LAYER: &str = "bgagent.layer";
/// The layer that holds the token.
pub(super) const WORKER: &str = "worker";
/// The layer that runs the agent's commands.
pub(super) const TOOLS: &str = "tools";

/// Where the worker finds the folder of the gateway's socket.
pub(super) const GATEWAY: &str = "/gateway";
/// The folder of the mirror's objects, for whoever reads the plan in the box.
pub(super) const OBJECTS: &str = "/box/objects";
const SESSION_DIR: &str = "/session";
const PROGRAM: &str = "/box/bgagent";
const TOOLS_SOCKET: &str = "/run/bgagent/tools.sock";

/// A user number that no system gives to a person or service (the range of systemd's containers ends below).
const NOBODYS: u32 = 1_900_000_000;
/// What a worker may use; tools have the bounds of the plan.
const WORKER_MEMORY: i64 = 2 << 30;
const WORKER_PROCESSES: i64 = 256;
/// An engine keeps this much of a container's output.
const LOG_MAX: &str = "1m";
const MIB: u64 = 1 << 20;
/// The tools' first process keeps their limits and says which was reached; an engine's bounds lie above, for what is
/// quicker than it. Of memory that is an eighth, and no less than this.
const MEMORY_ABOVE_MIN: u64 = 128;
/// For its own threads, and for what is started just then.
const PROCESSES_ABOVE: u64 = 8;
/// `/dev/shm` of a box whose memory is not bounded.
const SHARED_MEMORY_MIB: u64 = 2_048;
/// The engine's own, where the limit is too small for a half.
const SHARED_MEMORY_MIN_MIB: u64 = 16;

/// Who a box runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    /// In the container.
    pub(super) uid: u32,
    /// In the container.
    pub(super) gid: u32,
    /// Who the box's files are given to, when this process is not that user already.
    pub(super) give: Option<(u32, u32)>,
}

impl User {
    /// The user that can write the box's folders and nothing else of the machine: nobody's number where the server is
    /// root, the server's own user otherwise, which is root within the containers of a rootless engine.
    pub(super) fn of(rights: Rights, uid: u32, gid: u32) -> Result<User, String> {
        match (rights, uid) {
            (Rights::Root, 0) => Ok(User { uid: NOBODYS, gid: NOBODYS, give: Some((NOBODYS, NOBODYS)) }),
            (Rights::Root, _) => Ok(User { uid, gid, give: None }),
            (Rights::User, 0) => Err("the container engine is another user's, rootless, and cannot use root's folders: \
                                      run the server as that user, or name root's engine with `compute.engine`"
                .into()),
            (Rights::User, _) => Ok(User { uid: 0, gid: 0, give: None }),
        }
    }
}

/// The most that this process may lend of what is counted for each process or user; absent is unbounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hard {
    pub(super) open_files: Option<u64>,
    pub(super) processes: Option<u64>,
}

impl Hard {
    /// As the kernel tells it of this process. Podman gives itself no more processes than the machine can number, and
    /// cannot lend more than it has.
    pub(super) fn here() -> Hard {
        use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
        let hard = |what| getrlimit(what).ok().map(|(_, hard)| hard).filter(|hard| *hard != RLIM_INFINITY);
        let numbers = std::fs::read_to_string("/proc/sys/kernel/pid_max").ok();
        let numbers: Option<u64> = numbers.and_then(|text| text.trim().parse().ok());
        Hard {
            open_files: hard(Resource::RLIMIT_NOFILE),
            processes: hard(Resource::RLIMIT_NPROC).into_iter().chain(numbers).min(),
        }
    }
}

/// How the dependency cache gets its private layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cache {
    /// There is none to share: an empty folder of this box.
    Private,
    /// A volume of the engine that was made of both layers.
    Volume(String),
    /// Podman's own overlay over a folder.
    Over(PathBuf),
}

/// What each container is made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Images<'a> {
    /// The operator's, for it has the token.
    pub(super) worker: &'a str,
    /// That, or the one that the repository names.
    pub(super) tools: &'a str,
}

/// What both containers are made with.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) place: &'a Place,
    pub(super) state: &'a str,
    pub(super) program: &'a Path,
    pub(super) images: Images<'a>,
    pub(super) user: &'a User,
    pub(super) facts: &'a Facts,
    pub(super) hard: Hard,
    pub(super) limits: &'a BoxLimits,
    pub(super) env: &'a [(String, String)],
    pub(super) objects: Option<&'a Path>,
    pub(super) ca: Option<&'a Path>,
    pub(super) gateway: &'a Path,
    pub(super) cache: &'a Cache,
}

/// Names the container of a session's layer.
pub(super) fn name(place: &Place, layer: &str) -> String {
    format!("bgagent-{}-{layer}", place.0.name()).to_lowercase()
}

/// The container that runs the agent's commands.
pub(super) fn tools(parts: &Parts<'_>) -> ContainerCreateBody {
    let place = parts.place;
    let mut mounts = common(parts);
    mounts.push(bind(&place.path("run"), "/run/bgagent", Access::Read));
    mounts.push(bind(&place.path("box/home"), "/home/agent", Access::Write));
    mounts.push(bind(&place.path("box/tmp"), "/tmp", Access::Write));
    mounts.extend(parts.objects.map(|objects| bind(objects, OBJECTS, Access::Read)));
    mounts.extend(parts.ca.map(|file| bind(file, CA_FILE, Access::Read)));
    let mut over = None;
    if let Cache::Volume(_) = parts.cache {
        // What the box adds there is seen in its upper layer alone.
        mounts.push(bind(&place.path("box/cache-upper"), sandbox::layout::CACHE_UPPER, Access::Read));
    }
    match parts.cache {
        Cache::Private => mounts.push(bind(&place.path("box/cache"), "/box/cache", Access::Write)),
        Cache::Volume(name) => mounts.push(Mount {
            target: Some("/box/cache".into()),
            source: Some(name.clone()),
            typ: Some(MountType::VOLUME),
            volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..Default::default() }),
            ..Default::default()
        }),
        Cache::Over(lower) => over = Some(vec![format!("{}:/box/cache:O", lower.display())]),
    }
    let limits = parts.limits;
    let bytes = |mib: u64| (mib > 0).then(|| signed(mib.saturating_mul(MIB)));
    let host = HostConfig {
        mounts: Some(mounts),
        binds: over,
        memory: bytes(memory_bound(limits)),
        memory_swap: bytes(memory_bound(limits)),
        shm_size: bytes(shared_memory(limits)),
        pids_limit: Some(if limits.processes > 0 { signed(limits.processes + PROCESSES_ABOVE) } else { -1 }),
        nano_cpus: (limits.cpus > 0).then(|| i64::from(limits.cpus) * 1_000_000_000),
        // Of the first process, which offers what it starts to the kernel before itself.
        oom_score_adj: Some(200),
        ulimits: Some(rlimits(parts.hard, limits)),
        ..walls(parts.facts)
    };
    let env = [("HOME", "/home/agent"), ("TMPDIR", "/tmp"), ("USER", "agent"), ("LANG", "C.UTF-8")];
    let env = env.into_iter().map(|(name, value)| format!("{name}={value}"));
    let env = env.chain(parts.env.iter().map(|(name, value)| format!("{name}={value}"))).collect();
    let cache_mib = match parts.cache {
        Cache::Private | Cache::Volume(_) => limits.cache_mib,
        // Of this overlay only the whole is seen, what is shared included.
        Cache::Over(_) => 0,
    };
    let kept = serde_json::to_string(&BoxLimits { cache_mib, ..limits.clone() }).unwrap_or_default();
    let words = ["box-tools", "--socket", TOOLS_SOCKET, "--limits", kept.as_str()];
    container(parts, TOOLS, parts.images.tools, &words, "/box/repo", env, host)
}

/// MiB at which the engine ends processes; 0 is no bound.
fn memory_bound(limits: &BoxLimits) -> u64 {
    match limits.memory_mib {
        0 => 0,
        mib => mib.saturating_add(MEMORY_ABOVE_MIN.max(mib / 8)),
    }
}

/// MiB of `/dev/shm`.
fn shared_memory(limits: &BoxLimits) -> u64 {
    match limits.memory_mib {
        0 => SHARED_MEMORY_MIB,
        mib => (mib / 2).max(SHARED_MEMORY_MIN_MIB),
    }
}

/// The container that runs the worker.
pub(super) fn worker(parts: &Parts<'_>) -> ContainerCreateBody {
    let place = parts.place;
    let mut mounts = common(parts);
    mounts.push(bind(&place.path("run"), "/run/bgagent", Access::Write));
    mounts.push(bind(&place.path("session"), SESSION_DIR, Access::Write));
    // Read-only: connecting needs no more, and where the box has the server's own user it could replace the socket.
    mounts.push(bind(parts.gateway, GATEWAY, Access::Read));
    let host = HostConfig {
        mounts: Some(mounts),
        memory: Some(WORKER_MEMORY),
        memory_swap: Some(WORKER_MEMORY),
        pids_limit: Some(WORKER_PROCESSES),
        oom_score_adj: Some(500),
        ulimits: Some(rlimits(parts.hard, parts.limits)),
        tmpfs: Some(HashMap::from([tmpfs("/run"), tmpfs("/tmp")])),
        ..walls(parts.facts)
    };
    let env = vec![format!("HOME={SESSION_DIR}"), "TMPDIR=/tmp".into(), "LANG=C.UTF-8".into()];
    let words = ["worker", "--session", SESSION_DIR, "--tools-socket", TOOLS_SOCKET];
    container(parts, WORKER, parts.images.worker, &words, SESSION_DIR, env, host)
}

/// What is the same whatever runs in it: no network, no rights, nothing of the machine but what is lent.
fn walls(facts: &Facts) -> HostConfig {
    let mut security = vec!["no-new-privileges".to_owned()];
    if facts.selinux {
        // The folders of a box have the labels of the server's files, which containers may not touch; giving them others
        // would change files that are not the box's (the program, the mirror).
        security.push("label=disable".into());
    }
    // Podman has one file and knows no other option.
    let mut log = HashMap::from([("max-size".to_owned(), LOG_MAX.to_owned())]);
    if !facts.podman {
        log.insert("max-file".into(), "1".into());
    }
    HostConfig {
        network_mode: Some("none".into()),
        readonly_rootfs: Some(true),
        cap_drop: Some(vec!["ALL".into()]),
        security_opt: Some(security),
        privileged: Some(false),
        ipc_mode: Some("private".into()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        // Nobody's number must be just that number outside, where an engine shifts users.
        userns_mode: (!facts.podman && facts.rights == Rights::Root).then(|| "host".into()),
        init: Some(false),
        tmpfs: Some(HashMap::from([tmpfs("/run")])),
        log_config: Some(HostConfigLogConfig { typ: Some("json-file".into()), config: Some(log) }),
        ..Default::default()
    }
}

fn container(
    parts: &Parts<'_>,
    layer: &str,
    image: &str,
    words: &[&str],
    dir: &str,
    env: Vec<String>,
    host: HostConfig,
) -> ContainerCreateBody {
    let labels =
        [(SESSION, parts.place.0.name()), (STATE, parts.state.to_owned()), (LAYER, layer.to_owned())];
    ContainerCreateBody {
        image: Some(image.to_owned()),
        hostname: Some("box".into()),
        user: Some(format!("{}:{}", parts.user.uid, parts.user.gid)),
        entrypoint: Some(vec![PROGRAM.into()]),
        cmd: Some(words.iter().map(|word| (*word).to_owned()).collect()),
        working_dir: Some(dir.into()),
        env: Some(env),
        labels: Some(labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".into()]), ..Default::default() }),
        stop_signal: Some("SIGTERM".into()),
        stop_timeout: Some(1),
        host_config: Some(host),
        ..Default::default()
    }
}

/// What both layers see.
fn common(parts: &Parts<'_>) -> Vec<Mount> {
    let place = parts.place;
    let mut mounts = vec![
        bind(parts.program, PROGRAM, Access::Read),
        bind(&place.path("etc/passwd"), "/etc/passwd", Access::Read),
        bind(&place.path("etc/group"), "/etc/group", Access::Read),
    ];
    let tree =
        TREE.iter().map(|name| bind(&place.path("box").join(name), &format!("/box/{name}"), Access::Write));
    mounts.extend(tree);
    mounts
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

fn bind(from: &Path, to: &str, access: Access) -> Mount {
    Mount {
        source: Some(from.to_string_lossy().into_owned()),
        target: Some(to.into()),
        typ: Some(MountType::BIND),
        read_only: Some(access == Access::Read),
        ..Default::default()
    }
}

fn tmpfs(path: &str) -> (String, String) {
    (path.into(), "rw,nosuid,nodev,noexec,size=64m,mode=1777".into())
}

/// An engine's own defaults may be more than this machine lets it give: every bound is named, and none is above ours.
fn rlimits(hard: Hard, limits: &BoxLimits) -> Vec<ResourcesUlimits> {
    let least = |wanted: u64, hard: Option<u64>| match (wanted, hard) {
        (0, hard) => hard,
        (wanted, hard) => Some(hard.map_or(wanted, |hard| hard.min(wanted))),
    };
    let bounds = [
        ("nofile", least(limits.open_files, hard.open_files)),
        // Counted for the user over all boxes: the bound of one box is the number of processes in its container.
        ("nproc", hard.processes),
        // Processor time is bounded by the tools' first process, which may use more than its commands.
        ("fsize", least(limits.file_mib.saturating_mul(MIB), None)),
        // Not 0: that would still start a program of the host's, where the kernel pipes core dumps to one; 1 does not.
        ("core", Some(1)),
    ];
    let bound = |(name, value): (&str, Option<u64>)| {
        let value = signed(value?);
        Some(ResourcesUlimits { name: Some(name.into()), soft: Some(value), hard: Some(value) })
    };
    bounds.into_iter().filter_map(bound).collect()
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_core_dump_reaches_a_program_of_the_host() {
        let bounds = rlimits(Hard::default(), &BoxLimits::default());
        let core = bounds.iter().find(|bound| bound.name.as_deref() == Some("core")).unwrap();
        assert_eq!((core.soft, core.hard), (Some(1), Some(1)));
    }

    #[test]
    fn the_engine_s_bounds_lie_above_those_that_tools_are_told_of() {
        let of = |memory_mib| {
            let limits = BoxLimits { memory_mib, ..BoxLimits::default() };
            (memory_bound(&limits), shared_memory(&limits))
        };
        assert_eq!(of(0), (0, SHARED_MEMORY_MIB));
        for mib in [1, 96, 400, 8_192, 1 << 20] {
            let (bound, shared) = of(mib);
            assert!(bound >= mib + mib / 8 && bound >= mib + MEMORY_ABOVE_MIN, "{mib}: {bound}");
            assert!(shared <= mib.max(SHARED_MEMORY_MIN_MIB), "{mib}: {shared}");
        }
    }
}
