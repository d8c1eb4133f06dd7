//! `bgagent worker`: what a box runs. Not for people; it is run by [`super::inside`], this is its help.

use std::path::PathBuf;

/// Work at one task in its box (started by a server, not by people)
#[derive(Debug, clap::Args)]
#[command(after_help = "A server starts it as: bgagent worker --session DIR")]
pub struct Args {
    /// The session's folder
    #[arg(long, value_name = "DIR")]
    pub session: PathBuf,
}
