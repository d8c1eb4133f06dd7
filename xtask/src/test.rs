//! `cargo xtask test`: the peers, then the workspace's tests by whichever runner is here.
//!
//! The runner's output is left as it is, and its summary comes last.

use std::process::Command;

use anyhow::Result;

use crate::{
    peers::{self, Peer},
    place, step,
};

const EXAMPLES: &str = "\
Examples:
  cargo xtask test
  cargo xtask test -- -p gateway          everything after `--` goes to the runner
  cargo xtask test -- --no-fail-fast

With cargo-nextest installed that is the runner, and the examples in the documentation are run before;
without it `cargo test` runs both.";

/// How to test.
#[derive(Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Leave out the peers that are not there yet
    #[arg(long)]
    no_peers: bool,
    /// Arguments for the runner
    #[arg(last = true)]
    runner: Vec<String>,
}

/// Who runs the tests.
enum Runner {
    Nextest,
    Cargo,
}

/// Sets up the peers unless told not to, and runs the tests.
pub fn run(args: &Args) -> Result<()> {
    if !args.no_peers {
        peers::set_up(&Peer::OF_TESTS)?;
    }
    tests(&args.runner)
}

/// Runs the tests with the peers that are there.
fn tests(extra: &[String]) -> Result<()> {
    let everything = !extra.iter().any(|argument| argument == "-p" || argument.starts_with("--package"));
    let workspace = if everything { vec!["--workspace"] } else { Vec::new() };
    // Tests start the binary: it has to be of this tree before the first of them runs.
    step::run(with_peers(place::cargo().args([
        "build",
        "--quiet",
        "--package",
        "cli",
        "--bin",
        "bgagent",
    ]))?)?;
    match runner() {
        Runner::Nextest => {
            if everything && extra.is_empty() {
                step::run(with_peers(place::cargo().args(["test", "--quiet", "--workspace", "--doc"]))?)?;
            }
            step::run(with_peers(place::cargo().args(["nextest", "run"]).args(workspace).args(extra))?)
        }
        Runner::Cargo => step::run(with_peers(place::cargo().arg("test").args(workspace).args(extra))?),
    }
}

fn runner() -> Runner {
    if place::has_cargo_command("nextest") { Runner::Nextest } else { Runner::Cargo }
}

fn with_peers(command: &mut Command) -> Result<&mut Command> {
    let binary = place::target().join("debug/bgagent");
    if let Some(engine) = peers::engine()? {
        command.env("DOCKER_HOST", engine.address).env("BGAGENT_TEST_IMAGE", engine.image);
    }
    Ok(command.env(place::PEERS_VARIABLE, place::peers()?).env("BGAGENT_TEST_BINARY", binary))
}
