//! `bgagent worker`: what a box runs. Not for people.

use std::path::PathBuf;
use std::process::ExitCode;

use worker::WorkerArgs;

/// Work at one task in its box (started by a server, not by people)
#[derive(Debug, clap::Args)]
#[command(after_help = "A server starts it as: bgagent worker --session DIR")]
pub struct Args {
    /// The session's folder
    #[arg(long, value_name = "DIR")]
    pub session: PathBuf,
}

/// Runs the command. Reads its one option itself: the parser of all commands is not needed in a box.
pub fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(2);
    match (words.next(), words.next(), words.next()) {
        (Some(option), Some(dir), None) if option == "--session" => {
            worker::run(WorkerArgs { session_dir: PathBuf::from(dir) })
        }
        _ => {
            eprintln!("Error: `bgagent worker` takes --session DIR and nothing else");
            eprintln!("Hint: A server starts it for each task; give a task with `bgagent run`.");
            ExitCode::from(2)
        }
    }
}
