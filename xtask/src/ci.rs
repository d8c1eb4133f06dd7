//! `cargo xtask ci`: what has to hold before a change lands, in one command.
//!
//! The tests come last, so that the log closes with their summary. An earlier failure does not keep the later parts
//! from running: one run tells all that is wrong.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{
    lint,
    peers::{self, Peer},
    place, step, test,
};

const EXAMPLES: &str = "\
Examples:
  cargo xtask ci                          everything
  cargo xtask ci --only lint              one part of it
  cargo xtask ci --only demo --only test";

/// What to run.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Run only this part; may be given several times
    #[arg(long, value_enum)]
    only: Vec<Part>,
}

/// A part of CI, in the order they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// `cargo xtask lint`, with its tools installed
    Lint,
    /// `cargo run --release -- demo` on what is committed
    Demo,
    /// `cargo xtask test`
    Test,
}

/// Runs the parts asked for.
pub fn run(args: &Args) -> Result<()> {
    let mut failed = Vec::new();
    let mut took = Vec::new();
    for part in [Part::Lint, Part::Demo, Part::Test] {
        if !args.only.is_empty() && !args.only.contains(&part) {
            continue;
        }
        let started = Instant::now();
        if part == Part::Test {
            eprintln!("ci: so far {took:?}; failed: {failed:?}");
        }
        let done = match part {
            Part::Lint => peers::set_up(&[Peer::Typos]).and_then(|()| lint::run(&lint::Args::default())),
            Part::Demo => demo(),
            Part::Test => test::run(&test::Args::default()),
        };
        if let Err(error) = done {
            eprintln!("ci: {part:?}: {error:#}");
            failed.push(part);
        }
        took.push((part, step::seconds(started)));
    }
    if !failed.is_empty() {
        bail!("ci: failed: {failed:?}; each said why above");
    }
    Ok(())
}

/// A newcomer's first command, on what is committed and with a home of its own.
///
/// A checkout without changes is as good as a clone of it, and saves building everything a second time.
fn demo() -> Result<()> {
    let home = TempDir::with_prefix("bgagent-demo-").context("making a home for the demo")?;
    let mut git = std::process::Command::new("git");
    let changes = step::read(git.args(["status", "--porcelain"]).current_dir(place::checkout()))?;
    let mut cargo = place::cargo();
    if !changes.is_empty() {
        let clone = home.path().join("clone");
        let mut git = std::process::Command::new("git");
        step::run(git.args(["clone", "--quiet", "--no-hardlinks"]).arg(place::checkout()).arg(&clone))?;
        cargo.current_dir(clone);
    }
    for (variable, folder) in [
        ("XDG_STATE_HOME", "state"),
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_DATA_HOME", "data"),
        ("XDG_CACHE_HOME", "cache"),
    ] {
        cargo.env(variable, home.path().join(folder));
    }
    for key in ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GITHUB_TOKEN", "BGAGENT_API_URL", "BGAGENT_API_KEY"] {
        cargo.env_remove(key);
    }
    step::run(cargo.args(["run", "--quiet", "--release", "--", "demo"]))
}
