//! `cargo xtask lint`: every check that runs no test, each to its end, and a table of what they said.

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{architecture, defects, layout, place, step};

const EXAMPLES: &str = "\
Examples:
  cargo xtask lint
  cargo xtask lint --package store        clippy for one crate only; the rest looks at everything

`typos` and `cargo deny` are used when they are installed (`cargo xtask peers typos` installs the first).";

/// What to check.
#[derive(Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The only crate that clippy looks at
    #[arg(long, short)]
    package: Option<String>,
}

/// What came of a check.
enum Verdict {
    Passed,
    Failed(String),
    Absent(&'static str),
}

/// Runs every check; one that fails does not keep the others from running.
pub fn run(args: &Args) -> Result<()> {
    let checks: [(&str, &dyn Fn() -> Verdict); 7] = [
        ("format", &format),
        ("clippy", &|| clippy(args.package.as_deref())),
        ("typos", &typos),
        ("deny", &deny),
        ("architecture", &|| findings(architecture::violations())),
        ("layout", &|| findings(layout::violations())),
        ("defects", &|| findings(defects::violations())),
    ];
    let mut rows = Vec::new();
    for (name, check) in checks {
        let started = Instant::now();
        let verdict = check();
        rows.push((name, verdict, started.elapsed()));
    }
    print_table(&rows);
    let failed: Vec<_> = rows
        .iter()
        .filter(|(_, verdict, _)| matches!(verdict, Verdict::Failed(_)))
        .map(|(name, ..)| *name)
        .collect();
    if !failed.is_empty() {
        bail!("lint: {} failed; what they said is above", failed.join(", "));
    }
    Ok(())
}

fn format() -> Verdict {
    judge(place::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy(package: Option<&str>) -> Verdict {
    let mut clippy = place::cargo();
    clippy.args(["clippy", "--quiet", "--all-targets"]);
    match package {
        Some(package) => clippy.args(["--package", package]),
        None => clippy.arg("--workspace"),
    };
    judge(clippy.args(["--", "-D", "warnings"]))
}

fn typos() -> Verdict {
    let installed = || -> Option<PathBuf> {
        Some(place::peers().ok()?.join("typos/venv/bin/typos")).filter(|typos| typos.is_file())
    };
    match place::program("typos").or_else(installed) {
        Some(typos) => judge(Command::new(typos).current_dir(place::checkout())),
        None => Verdict::Absent("not installed: cargo xtask peers typos"),
    }
}

fn deny() -> Verdict {
    if !place::checkout().join("deny.toml").is_file() {
        return Verdict::Absent("no deny.toml");
    }
    if !place::has_cargo_command("deny") {
        return Verdict::Absent("not installed: cargo install cargo-deny");
    }
    judge(place::cargo().args(["deny", "check", "bans", "licenses", "sources"]))
}

fn judge(command: &mut Command) -> Verdict {
    match step::run(command) {
        Ok(()) => Verdict::Passed,
        Err(error) => Verdict::Failed(format!("{error:#}")),
    }
}

fn findings(found: Result<Vec<String>>) -> Verdict {
    match found {
        Ok(found) if found.is_empty() => Verdict::Passed,
        Ok(found) => {
            for finding in &found {
                eprintln!("{finding}");
            }
            Verdict::Failed(format!("{} found", found.len()))
        }
        Err(error) => Verdict::Failed(format!("{error:#}")),
    }
}

fn print_table(rows: &[(&str, Verdict, Duration)]) {
    println!("\n{:<14}{:<10}{:>8}", "check", "result", "time");
    for (name, verdict, took) in rows {
        let (word, note) = match verdict {
            Verdict::Passed => ("ok", ""),
            Verdict::Failed(why) => ("FAILED", why.as_str()),
            Verdict::Absent(why) => ("skipped", *why),
        };
        println!("{}", format!("{name:<14}{word:<10}{:>6.1} s  {note}", took.as_secs_f64()).trim_end());
    }
}
