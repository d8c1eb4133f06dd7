//! What a box costs: `true` in one, from start to end, beside what others start it in.
//!
//! All in the same run, one after the other in rounds, so that what else the machine does falls on all of them alike.
//! Bubblewrap and Podman are measured when they are there (`cargo xtask peers bubblewrap podman`).

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::{Bed, Bench, Figure, spread::Spread};
use crate::{peers::bubblewrap, place};

/// The start of a box.
pub const BENCH: Bench = Bench { name: "box", about: "`true` in a box, beside what others start it in", run };

const ROUNDS: usize = 60;
const COMMAND: &str = "cargo xtask bench box";
/// The folders of a system, as links where they are links.
const SYSTEM: [&str; 5] = ["bin", "sbin", "lib", "lib32", "lib64"];

/// Something that runs `true` and ends.
struct Runner {
    name: &'static str,
    /// What its error output tells of the time within; else the whole is timed.
    timed: Timed,
    rounds: usize,
    command: Box<dyn Fn() -> Command>,
}

#[derive(Clone, Copy)]
enum Timed {
    Whole,
    /// `... took 12.3 ms`
    Told,
}

fn run(bed: &Bed) -> Result<Vec<Figure>> {
    let home = TempDir::with_prefix("bgagent-bench-").context("making a home for the boxes")?;
    let runners = runners(bed, &home)?;
    let mut times: Vec<Vec<Duration>> = runners.iter().map(|_| Vec::new()).collect();
    for round in 0..=ROUNDS {
        for (runner, times) in runners.iter().zip(&mut times) {
            let time = once(runner)?;
            // The first round warms up.
            if (1..=runner.rounds).contains(&round) {
                times.push(time);
            }
        }
    }
    let mut figures = Vec::new();
    for (runner, times) in runners.iter().zip(times) {
        let spread = Spread::of(times);
        for (which, value) in [("p50", spread.at(0.5)), ("p95", spread.at(0.95))] {
            let what = format!("{}, {which}", runner.name);
            figures.push(Figure { what, value, unit: "ms", command: COMMAND.into() });
        }
    }
    Ok(figures)
}

fn runners(bed: &Bed, home: &TempDir) -> Result<Vec<Runner>> {
    let (binary, folder) = (bed.binary.clone(), home.path().to_owned());
    let ours = move || {
        let mut command = Command::new(&binary);
        command.args(["box", "--verbose", "--", "true"]).current_dir(&folder);
        for variable in ["HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"] {
            command.env(variable, &folder);
        }
        command
    };
    let whole = |name, command: Box<dyn Fn() -> Command>| Runner {
        name,
        timed: Timed::Whole,
        rounds: ROUNDS,
        command,
    };
    let mut runners = vec![
        whole("fork and exec alone", Box::new(|| Command::new("true"))),
        whole("bgagent box -- true", Box::new(ours.clone())),
        Runner {
            name: "the box in it, without our start",
            timed: Timed::Told,
            rounds: ROUNDS,
            command: Box::new(ours),
        },
    ];
    match bubblewrap::program() {
        Some(bwrap) => {
            let work = home.path().join("work");
            std::fs::create_dir_all(&work).context("making a work folder")?;
            runners.push(whole("bwrap with the same namespaces", Box::new(move || like_ours(&bwrap, &work))));
        }
        None => eprintln!("box: no bwrap to compare with: cargo xtask peers bubblewrap"),
    }
    let podman = place::peers()?.join("podman");
    if podman.join("containers.conf").is_file() {
        let mut podman = whole("podman run", Box::new(move || in_podman(&podman)));
        podman.rounds = ROUNDS / 6;
        runners.push(podman);
    } else {
        eprintln!("box: no Podman to compare with: cargo xtask peers podman");
    }
    Ok(runners)
}

/// The same namespaces and the same kind of root.
fn like_ours(bwrap: &Path, work: &Path) -> Command {
    let mut command = Command::new(bwrap);
    command.args(["--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]);
    command.args(["--setenv", "PATH", "/usr/bin:/bin", "--ro-bind", "/usr", "/usr"]);
    for name in SYSTEM {
        let path = PathBuf::from("/").join(name);
        if let Ok(to) = path.read_link() {
            command.arg("--symlink").arg(to).arg(&path);
        } else if path.is_dir() {
            command.arg("--ro-bind").arg(&path).arg(&path);
        }
    }
    command.args([
        "--ro-bind-try",
        "/etc/ld.so.cache",
        "/etc/ld.so.cache",
        "--ro-bind-try",
        "/etc/ssl",
        "/etc/ssl",
    ]);
    command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--dir", "/home/agent", "--bind"]);
    command.arg(work).args(["/box/repo", "--chdir", "/box/repo", "--hostname", "box", "true"]);
    command
}

fn in_podman(folder: &Path) -> Command {
    let mut command = Command::new("podman");
    command
        .env("CONTAINERS_CONF", folder.join("containers.conf"))
        .env("CONTAINERS_STORAGE_CONF", folder.join("storage.conf"))
        .args(["run", "--rm", "--network=none", "--read-only", "--cap-drop=all"])
        .args(["--security-opt=no-new-privileges", "localhost/bgagent-tools:latest", "true"]);
    command
}

fn once(runner: &Runner) -> Result<Duration> {
    let mut command = (runner.command)();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let began = Instant::now();
    let output = command.output().with_context(|| format!("starting {}", runner.name))?;
    let whole = began.elapsed();
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{} ended with {}: {}", runner.name, output.status, said.trim());
    }
    match runner.timed {
        Timed::Whole => Ok(whole),
        Timed::Told => told(&said).with_context(|| format!("{} did not tell its time: {said}", runner.name)),
    }
}

fn told(said: &str) -> Option<Duration> {
    let (_, after) = said.rsplit_once("took ")?;
    let number: f64 = after.trim().strip_suffix(" ms")?.parse().ok()?;
    Some(Duration::from_secs_f64(number / 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_read_from_what_is_told() {
        assert_eq!(told("bgagent: Landlock 7; the box took 12.5 ms\n"), Some(Duration::from_micros(12_500)));
        assert_eq!(told("bgagent: it took long\n"), None);
    }
}
