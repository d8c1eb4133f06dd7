//! What this machine can enforce, asked from the kernel by doing it: a tiny box is built and `true` is run in it.
//!
//! A box wants a process with one thread, so the program starts itself anew with the hidden command `box-probe`, whose
//! whole work is [`probe_main`].

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::BoxLimits;
use serde::{Deserialize, Serialize};

use crate::{CgroupKind, Enforced, Plan, sys};

/// The hidden command that runs [`probe_main`].
pub const COMMAND: &str = "box-probe";
/// How long a machine under load may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detail {
    /// What it is called.
    pub name: &'static str,
    /// Whether it is there.
    pub present: bool,
    /// Which kind of it, or what its absence means and what to do.
    pub note: String,
}

/// What the probe tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Report {
    /// Distinguishes it from what another program prints.
    box_probe: u32,
    enforced: Option<Enforced>,
    /// Why there is no box, and what to do.
    missing: Option<String>,
}

/// Whether a `sandbox` box can be had here; `Err` says what is missing and what to do. Asked once per process.
pub fn sandbox() -> Result<(), String> {
    report().map(drop)
}

/// What stands between such a box and the host.
pub fn enforced() -> Result<Enforced, String> {
    report()
}

/// As [`sandbox`], with the program that knows the command.
pub fn sandbox_of(program: &Path) -> Result<Enforced, String> {
    static ASKED: Mutex<Option<HashMap<PathBuf, Result<Enforced, String>>>> = Mutex::new(None);
    let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    let answers = asked.get_or_insert_default();
    answers.entry(program.to_owned()).or_insert_with(|| ask(program)).clone()
}

/// What doctor tells about it.
pub fn details() -> Vec<Detail> {
    match report() {
        Ok(enforced) => of(&enforced),
        Err(missing) => vec![Detail { name: "box", present: false, note: missing }],
    }
}

fn report() -> Result<Enforced, String> {
    let program = std::env::current_exe().map_err(|e| format!("this program cannot be found again: {e}"))?;
    sandbox_of(&program)
}

fn of(enforced: &Enforced) -> Vec<Detail> {
    let detail = |name, present, there: String, absent: &str| Detail {
        name,
        present,
        note: if present { there } else { absent.to_owned() },
    };
    vec![
        detail("box", true, enforced.to_string(), ""),
        detail(
            "Landlock",
            enforced.landlock > 0,
            format!("version {}", enforced.landlock),
            "the kernel has none: files are kept by mounts alone (Linux 5.13 or later with `landlock` in the boot \
             parameter `lsm=` adds the second wall)",
        ),
        detail(
            "control groups",
            enforced.cgroup != CgroupKind::None,
            enforced.cgroup.to_string(),
            "none that this user may write: memory is bounded by a watchdog, which a fast program can overshoot for a \
             moment (run the server as a systemd service with `Delegate=yes` and `DelegateSubgroup=server`)",
        ),
        detail(
            "user of its own",
            enforced.privileged,
            format!("files of the box belong to {}", crate::layout::OUTER_ID),
            "the box runs as the server's user, whose supplementary groups stay",
        ),
    ]
}

fn ask(program: &Path) -> Result<Enforced, String> {
    if !cfg!(target_os = "linux") {
        return Err("the tier `sandbox` needs Linux; use `--isolation container`".into());
    }
    let failed = |e: io::Error| format!("asking {} whether a box can be had: {e}", program.display());
    let mut child = Command::new(program)
        .arg(COMMAND)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    let ended = wait_until(pid.as_raw(), Instant::now() + PATIENCE).map_err(failed)?;
    if !ended {
        let _ = child.kill();
    }
    let output = child.wait_with_output().map_err(failed)?;
    if !ended {
        return Err(format!("a box was not built within {} s", PATIENCE.as_secs()));
    }
    let report: Option<Report> = serde_json::from_slice(&output.stdout).ok();
    match report.map(|r| (r.enforced, r.missing)) {
        Some((Some(enforced), None)) => Ok(enforced),
        Some((_, Some(missing))) => Err(missing),
        Some((None, None)) | None => {
            Err(format!("{} does not know the command `{COMMAND}` ({})", program.display(), output.status))
        }
    }
}

/// Waits for the process's end without taking its status; what it prints fits into a pipe.
fn wait_until(pid: i32, until: Instant) -> io::Result<bool> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let pidfd = sys::pidfd(pid)?;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(nix::Error::EINTR) => (),
            Ok(_) => return Ok(true),
            Err(e) => return Err(e.into()),
        }
    }
}

/// The whole work of the hidden command: builds a box, runs `true` in it, prints what came of it.
pub fn probe_main() -> ExitCode {
    let report = match tiny() {
        Ok(enforced) => Report { box_probe: 1, enforced: Some(enforced), missing: None },
        Err(missing) => Report { box_probe: 1, enforced: None, missing: Some(missing) },
    };
    println!("{}", serde_json::to_string(&report).unwrap_or_default());
    if report.missing.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tiny() -> Result<Enforced, String> {
    if !sys::seccomp_offered() {
        return Err(
            "the kernel has no seccomp filters (CONFIG_SECCOMP_FILTER); use `--isolation container`".into()
        );
    }
    let dir = std::env::temp_dir().join(format!("bgagent-probe-{}", std::process::id()));
    let plan = Plan {
        dir: dir.clone(),
        state: None,
        name: "probe".into(),
        worker_binds: Vec::new(),
        read_only: Vec::new(),
        cache: None,
        env: Vec::new(),
        limits: BoxLimits::default(),
    };
    let ran = crate::run_command(&plan, Path::new("/box/repo"), &["true".into()]);
    // Where the box was built from an ordinary user's namespace, the folders are this user's all the same.
    let _ = fs::remove_dir_all(&dir);
    match ran {
        Ok(ran) if ran.code == 0 => Ok(ran.enforced),
        Ok(ran) => Err(format!("`true` ended with code {} in a box", ran.code)),
        Err(e) => Err(advice(&e.doing, &e.source, &|path| fs::read_to_string(path).ok())),
    }
}

/// What is missing, in words, and what to do; `read` reads the kernel's switches.
fn advice(doing: &str, source: &io::Error, read: &dyn Fn(&str) -> Option<String>) -> String {
    let off = |path: &str, value: &str| read(path).is_some_and(|v| v.trim() == value);
    let user_namespace = doing.contains("user namespace");
    let denied =
        matches!(source.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOSPC | libc::EUSERS));
    if off("/proc/sys/user/max_user_namespaces", "0") {
        return "user namespaces are switched off: sudo sysctl user.max_user_namespaces=10000".into();
    }
    if denied && off("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return "users may make no user namespaces: sudo sysctl kernel.unprivileged_userns_clone=1".into();
    }
    if denied && off("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        return "AppArmor lets users make no user namespaces: install a profile that allows `userns` for this program, \
                or sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
            .into();
    }
    if user_namespace && denied {
        return format!(
            "no user namespace can be made ({source}): in a container, its engine forbids it; run the server outside, \
             or as root with CAP_SYS_ADMIN, or use `--isolation container`"
        );
    }
    if doing.contains("mounting /proc") && denied {
        return format!(
            "/proc of a new process namespace cannot be mounted ({source}): this container hides parts of its own; run \
             the server outside, or start the container with `--security-opt systempaths=unconfined`"
        );
    }
    if source.raw_os_error() == Some(libc::ENOSYS) {
        return format!("the kernel is too old for {doing} ({source}): Linux 5.12 or later is needed");
    }
    format!("{doing}: {source}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(doing: &str, errno: i32, switch: (&str, &str), begins: &str) {
        let read = |path: &str| (path == switch.0).then(|| switch.1.to_owned());
        let words = advice(doing, &io::Error::from_raw_os_error(errno), &read);
        assert!(words.starts_with(begins), "{words}");
    }

    #[test]
    fn words_say_what_to_do() {
        let user = "making a user namespace";
        check(
            user,
            libc::ENOSPC,
            ("/proc/sys/user/max_user_namespaces", "0\n"),
            "user namespaces are switched off: sudo",
        );
        check(
            user,
            libc::EPERM,
            ("/proc/sys/kernel/unprivileged_userns_clone", "0\n"),
            "users may make no user",
        );
        check(
            user,
            libc::EACCES,
            ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n"),
            "AppArmor lets",
        );
        check(
            user,
            libc::EPERM,
            ("", ""),
            "no user namespace can be made (Operation not permitted (os error 1)): in a",
        );
        check("tools' layer: mounting /proc", libc::EPERM, ("", ""), "/proc of a new process namespace");
        check("mounting a root", libc::ENOSYS, ("", ""), "the kernel is too old");
        check("mounting a root", libc::ENOMEM, ("", ""), "mounting a root: Cannot allocate");
    }

    #[test]
    fn another_program_is_no_probe() {
        let said = sandbox_of(Path::new("/bin/true")).unwrap_err();
        assert!(said.starts_with("/bin/true does not know the command `box-probe`"), "{said}");
    }
}
