//! `bgagent pr`: the pull request of a task.

use clap::Subcommand;
use domain::TaskId;

use crate::args::Output;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::render::pull_request::{Depth, pull_request};

/// Look at the pull request of a task
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent pr show 01ARZ3NDEKTSV4RRFFQ69G5FAV
  bgagent pr show 01ARZ3NDEKTSV4RRFFQ69G5FAV --stat")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show title, place, body, changed files and diff
    #[command(after_help = "Examples:
  bgagent pr show 01ARZ3NDEKTSV4RRFFQ69G5FAV
  bgagent pr show 01ARZ3NDEKTSV4RRFFQ69G5FAV --stat
  bgagent pr show 01ARZ3NDEKTSV4RRFFQ69G5FAV --output json")]
    Show {
        /// The task
        task: TaskId,
        /// Only the changed files, no diff
        #[arg(long)]
        stat: bool,
    },
}

/// Runs the command.
pub async fn pr(cx: &Context, args: Args) -> Result<Exit, Failure> {
    let Verb::Show { task, stat } = args.verb;
    let depth = if stat { Depth::Stat } else { Depth::Diff };
    let client = connect::connect(cx).await?;
    let pr = client.pull_request(task).await?;
    match cx.output {
        // A diff stays as it is.
        Output::Text => cx.lines(&pull_request(&pr, depth, &cx.view()))?,
        Output::Json => cx.json(&pr)?,
    }
    Ok(Exit::Done)
}
