//! `cargo xtask bench`: figures, each with the command that made it.
//!
//! A bench is one file beside the others, with one row in [`BENCHES`]. It gets the release binary and nothing else:
//! what it measures is what a user runs. Figures are printed, never asserted; a machine under load is not a bug.

mod api;
mod boxes;
mod events;
mod http;
mod lifecycle;
mod memory;
mod model;
mod process;
mod server;
mod size;
mod spread;
mod submit;
mod turn;

use std::{ffi::OsStr, path::PathBuf, time::Instant};

use anyhow::{Context, Result, bail};

use crate::{place, step};

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench                       every bench
  cargo xtask bench size memory           these two
  cargo xtask bench --profile dist size   with the profile that releases are built with
  cargo xtask bench --binary /usr/bin/bgagent submit   what is installed
  cargo xtask bench --list                what there is";

/// What to measure.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Benches to run; none means all
    names: Vec<String>,
    /// The cargo profile that the binary is built with
    #[arg(long, default_value = "release")]
    profile: String,
    /// Measure this binary and build nothing
    #[arg(long, value_name = "FILE", conflicts_with = "profile")]
    binary: Option<PathBuf>,
    /// Fewer clients and events: to see that a bench works, not to quote it
    #[arg(long)]
    small: bool,
    /// Say what there is, and measure nothing
    #[arg(long)]
    list: bool,
}

/// One bench.
pub struct Bench {
    /// The name on the command line, and the file's.
    pub name: &'static str,
    /// What it tells.
    pub about: &'static str,
    /// Measures.
    pub run: fn(&Bed) -> Result<Vec<Figure>>,
}

/// What a bench measures on.
pub struct Bed {
    /// The product, built with the profile asked for.
    pub binary: PathBuf,
    /// How much of it.
    pub scale: Scale,
    /// The cargo profile for what else is built.
    pub profile: String,
}

impl Bed {
    /// What an example of ours prints. It is built with the profile of the binary, so that nothing is built twice.
    pub fn example(&self, package: &str, name: &str, arguments: &[&OsStr]) -> Result<String> {
        let mut cargo = place::cargo();
        cargo.args(["run", "--quiet", "--profile", &self.profile, "--package", package, "--example", name]);
        step::read(cargo.arg("--").args(arguments))
    }
}

/// How much a bench does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// What is quoted.
    Full,
    /// Just enough to see that it works.
    Small,
}

/// One number, with what it says and where it comes from.
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// The number.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// The command that shows it again.
    pub command: String,
}

const BENCHES: &[Bench] = &[
    submit::BENCH,
    turn::BENCH,
    boxes::BENCH,
    lifecycle::BENCH,
    events::BENCH,
    api::BENCH,
    memory::BENCH,
    size::BENCH,
];

/// Builds the binary and runs the benches asked for.
pub fn run(args: &Args) -> Result<()> {
    if args.list {
        for bench in BENCHES {
            println!("{:<14}{}", bench.name, bench.about);
        }
        return Ok(());
    }
    let chosen = choose(&args.names)?;
    let scale = if args.small { Scale::Small } else { Scale::Full };
    let bed = match &args.binary {
        Some(file) => {
            let binary = file.canonicalize().with_context(|| format!("finding {}", file.display()))?;
            // How the file was built is not known; a small run is not worth a release build.
            let profile = if args.small { "dev" } else { "release" };
            Bed { binary, scale, profile: profile.into() }
        }
        None => Bed { binary: build(&args.profile)?, scale, profile: args.profile.clone() },
    };
    let what = match &args.binary {
        Some(file) => file.display().to_string(),
        None => format!("profile {}, {}", args.profile, revision()?),
    };
    println!("{} cores, load {}, {what}", cores(), load());
    for bench in chosen {
        let started = Instant::now();
        let figures = (bench.run)(&bed).with_context(|| format!("bench {}", bench.name))?;
        println!("\n{}: {} ({})", bench.name, bench.about, step::seconds(started));
        let width = figures.iter().map(|figure| figure.what.chars().count()).fold(44, usize::max);
        for Figure { what, value, unit, command } in figures {
            println!("  {what:<width$}{value:>12.2} {unit:<6}  {command}");
        }
    }
    Ok(())
}

fn choose(names: &[String]) -> Result<Vec<&'static Bench>> {
    if names.is_empty() {
        return Ok(BENCHES.iter().collect());
    }
    let find = |name: &String| match BENCHES.iter().find(|bench| bench.name == name) {
        Some(bench) => Ok(bench),
        None => {
            let known: Vec<_> = BENCHES.iter().map(|bench| bench.name).collect();
            bail!("there is no bench `{name}`; there are {}", known.join(", "))
        }
    };
    names.iter().map(find).collect()
}

fn build(profile: &str) -> Result<PathBuf> {
    step::run(place::cargo().args(["build", "--profile", profile, "--package", "cli", "--bin", "bgagent"]))?;
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(place::target().join(folder).join("bgagent"))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How busy the machine was in the last minute: figures of a shared machine are read with it.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().filter(|first| !first.is_empty()).unwrap_or("unknown").to_owned()
}

/// What was measured: the commit, and whether the tree has changes on top of it.
fn revision() -> Result<String> {
    let mut git = std::process::Command::new("git");
    let described =
        git.args(["describe", "--always", "--dirty", "--abbrev=12"]).current_dir(place::checkout());
    Ok(format!("revision {}", step::read(described)?.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_bench_is_answered_with_those_there_are() {
        let error = choose(&["weight".into()]).err().map(|error| error.to_string());
        assert_eq!(
            error.as_deref(),
            Some(
                "there is no bench `weight`; there are submit, worker_turn, box, lifecycle, events, api, memory, size"
            )
        );
        assert_eq!(choose(&[]).unwrap().len(), BENCHES.len());
    }
}
