//! A container engine with an image that has the usual tools: `localhost/bgagent-tools`, made from this machine's own
//! distribution by its own package manager, because no image has to be fetched for that.
//!
//! Programs come from apt by name, everything else is in the peer's folder: nothing of a Podman that a person uses is
//! touched. The service ends by itself when nobody asked it anything for a while.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::Made;
use crate::{place, step};

/// The image that tests make containers from.
pub const IMAGE: &str = "localhost/bgagent-tools:latest";

const PROGRAMS: [&str; 3] = ["podman", "runc", "debootstrap"];
/// What is in the image, beside what a distribution cannot do without.
const PACKAGES: &str = "ca-certificates,git,gcc,libc6-dev,make,python3,procps";
/// In memory, and in a mount namespace that takes it away whatever happens: installing waits for the disk thousands of
/// times otherwise. What is removed is not needed in an image.
const BUILD: &str = r#"
mount -t tmpfs -o size=3g,mode=755 image "$1"
debootstrap --variant=minbase --include="$2" "$3" "$1" "$4" >/dev/null
cd "$1"
rm -rf var/cache/apt/archives var/lib/apt/lists usr/share/doc usr/share/man usr/share/locale
tar -cf "$5" .
"#;
/// Seconds without a question after which the service ends.
const IDLE_S: u32 = 7_200;
const START_DEADLINE: Duration = Duration::from_secs(30);
/// Longest path of a UNIX socket, with room to spare.
const SOCKET_PATH_MAX: usize = 100;

/// This file says what is made.
pub fn recipe() -> String {
    format!("{PROGRAMS:?} {PACKAGES} {BUILD}")
}

/// Installs the programs and makes the image.
pub fn make(folder: &Path) -> Result<Made> {
    if !is_root() {
        return Ok(Made::Impossible("installing and starting Podman needs root here".into()));
    }
    let missing: Vec<&str> = PROGRAMS.into_iter().filter(|name| place::program(name).is_none()).collect();
    if !missing.is_empty() {
        if place::program("apt-get").is_none() {
            return Ok(Made::Impossible(format!("no {} and no apt-get: install them", missing.join(", "))));
        }
        let apt = || {
            let mut apt = Command::new("apt-get");
            apt.env("DEBIAN_FRONTEND", "noninteractive");
            apt
        };
        step::run(apt().args(["update", "-qq"]))?;
        step::run(apt().args(["install", "-qq", "-y", "--no-install-recommends"]).args(&missing))?;
    }
    configure(folder)?;
    if podman(folder).args(["image", "exists", IMAGE]).status().is_ok_and(|status| status.success()) {
        return Ok(Made::Done);
    }
    let scratch = TempDir::with_prefix_in(".making-", folder).context("making a scratch folder")?;
    let (root, archive) = (scratch.path().join("root"), scratch.path().join("root.tar"));
    fs::create_dir(&root).with_context(|| format!("making {}", root.display()))?;
    let (suite, mirror) = distribution()?;
    let mut build = Command::new("unshare");
    build.args(["--mount", "--propagation", "private", "sh", "-euc", BUILD, "build"]);
    step::run(build.arg(&root).args([PACKAGES, &suite, &mirror]).arg(&archive))?;
    step::run(podman(folder).args(["import", "--quiet"]).arg(&archive).arg(IMAGE).stdout(Stdio::null()))?;
    Ok(Made::Done)
}

/// Sees to it that the service runs; answers its address for `DOCKER_HOST`.
pub fn serve(folder: &Path) -> Result<String> {
    let socket = socket(folder);
    let address = format!("unix://{}", socket.display());
    if answers(&socket) {
        return Ok(address);
    }
    let guard = folder.join(".service-lock");
    let guard = fs::File::create(&guard).with_context(|| format!("opening {}", guard.display()))?;
    guard.lock().context("waiting for another run that starts it")?;
    if answers(&socket) {
        return Ok(address);
    }
    configure(folder)?;
    if socket.exists() {
        fs::remove_file(&socket).with_context(|| format!("removing {}", socket.display()))?;
    }
    let log = folder.join("service.log");
    let log_file = fs::File::create(&log).with_context(|| format!("making {}", log.display()))?;
    let mut service = podman(folder);
    // Not of this terminal: it outlives this run.
    let program = service.get_program().to_owned();
    let mut detached = Command::new("setsid");
    detached.arg("--fork").arg(program);
    for (name, value) in service.get_envs() {
        detached.env(name, value.unwrap_or_default());
    }
    service = detached;
    service.args(["system", "service", &format!("--time={IDLE_S}"), &address]);
    // Its helpers leave a file where they stand when a container runs out of memory.
    service.current_dir(folder).stdin(Stdio::null()).stdout(log_file.try_clone()?).stderr(log_file);
    step::run(&mut service)?;
    let started = Instant::now();
    while !answers(&socket) {
        if started.elapsed() > START_DEADLINE {
            bail!("Podman's service does not answer at {}; see {}", socket.display(), log.display());
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    Ok(address)
}

/// Podman over the peer's own folders.
fn podman(folder: &Path) -> Command {
    let mut podman = Command::new("podman");
    podman
        .env("CONTAINERS_CONF", folder.join("containers.conf"))
        .env("CONTAINERS_STORAGE_CONF", folder.join("storage.conf"));
    podman
}

/// Settings for machines that are containers or small virtual machines themselves: no systemd, cgroups of either
/// version, and bounds that even root cannot raise.
fn configure(folder: &Path) -> Result<()> {
    let run = Path::new("/run/bgagent-peers").join(short_name(folder));
    let files = open_files()?;
    let containers = format!(
        "[containers]\ndefault_ulimits = [\"nofile={files}:{files}\", \"nproc=4096:4096\"]\n\n\
         [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\ntmp_dir = {:?}\n",
        run.join("tmp")
    );
    let storage = format!(
        "[storage]\ndriver = \"overlay\"\ngraphroot = {:?}\nrunroot = {:?}\n",
        folder.join("storage"),
        run.join("storage")
    );
    for (name, text) in [("containers.conf", containers), ("storage.conf", storage)] {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn socket(folder: &Path) -> PathBuf {
    let plain = folder.join("podman.sock");
    if plain.as_os_str().len() <= SOCKET_PATH_MAX {
        return plain;
    }
    PathBuf::from(format!("/run/bgagent-peers/{}.sock", short_name(folder)))
}

fn short_name(folder: &Path) -> String {
    hex::encode(&Sha256::digest(folder.as_os_str().as_encoded_bytes())[..6])
}

/// Whether an engine answers there, asked as its clients ask.
fn answers(socket: &Path) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(head.ends_with(b"200"))
    };
    ask().unwrap_or(false)
}

/// The name of this machine's distribution, and where its packages come from, as apt is configured.
fn distribution() -> Result<(String, String)> {
    let release = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let suite = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let suite =
        suite.context("finding this distribution's name in /etc/os-release")?.trim_matches('"').to_owned();
    let targets = step::read(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(RELEASE) $(COMPONENT) $(SITE)",
        "Created-By: Packages",
    ]))?;
    let wanted = format!("{suite} main ");
    let mirror = targets.lines().find_map(|line| line.strip_prefix(&wanted));
    let mirror = mirror.with_context(|| format!("finding where apt gets {suite} from:\n{targets}"))?;
    Ok((suite, mirror.trim().to_owned()))
}

/// The most open files that this process may have.
fn open_files() -> Result<u64> {
    let limits = fs::read_to_string("/proc/self/limits").context("reading /proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let hard = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    Ok(hard.unwrap_or(1_048_576).min(1_048_576))
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_a_path_that_a_socket_can_have() {
        assert_eq!(socket(Path::new("/p/podman")), Path::new("/p/podman/podman.sock"));
        let long = PathBuf::from(format!("/{}", "x".repeat(200)));
        assert!(socket(&long).as_os_str().len() <= SOCKET_PATH_MAX);
    }

    #[test]
    fn nobody_answers_where_nothing_listens() {
        assert!(!answers(Path::new("/nonexistent/podman.sock")));
    }
}
