//! `cargo xtask`: everything a developer or CI does with this repository, as one program.
//!
//! One file per command. Nothing here knows the product's crates: xtask depends on none of them, builds them with
//! cargo and runs the binary like a stranger would.

mod architecture;
mod bench;
mod ci;
mod defects;
mod layout;
mod lint;
mod peers;
mod place;
mod step;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  cargo xtask test                        set up the peers, run every test
  cargo xtask test -- -p store fence      only the tests of `store` whose name contains `fence`
  cargo xtask test --no-peers             leave out what has to be installed; its tests say what they miss
  cargo xtask lint                        formatting, clippy, spelling, licences, architecture: one table
  cargo xtask peers projects              make the three real projects the tests work on
  cargo xtask bench size memory           build the release binary and print the figures
  cargo xtask ci                          what CI runs: lint, a clean-clone demo, all tests";

/// Develop, check and measure bgagent.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the tests of the whole workspace, with the peers they need
    Test(test::Args),
    /// Check formatting, lints, spelling, licences and the architecture
    Lint(lint::Args),
    /// Print figures: sizes, memory, latencies, rates
    Bench(bench::Args),
    /// Install what the tests meet that is not ours
    Peers(peers::Args),
    /// What CI runs: lint, a demo from a clean clone, all tests
    Ci(ci::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Test(args) => test::run(&args),
        Command::Lint(args) => lint::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Peers(args) => peers::run(&args),
        Command::Ci(args) => ci::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
