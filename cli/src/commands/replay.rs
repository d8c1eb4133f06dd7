//! `bgagent replay`: look back at a task, or run it again and see what differs.

mod run;

use std::io::Write as _;
use std::path::PathBuf;

use clap::Subcommand;
use domain::TaskId;

use super::trace::{Over, may_write, write};
use crate::clean;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::render;

pub use run::Report;

/// What is known of a task; or run its trace again and see what differs
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  bgagent replay 01ARZ3NDEKTSV4RRFFQ69G5FAV
  bgagent replay 01ARZ3NDEKTSV4RRFFQ69G5FAV --json -o bundle.json
  bgagent replay run 01ARZ3NDEKTSV4RRFFQ69G5FAV"
)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    look: Look,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::Args),
}

/// The bundle.
#[derive(Debug, clap::Args)]
struct Look {
    /// The task
    #[arg(required = true)]
    task: Option<TaskId>,
    /// The bundle as JSON, as --output json does
    #[arg(long)]
    json: bool,
    /// Write the bundle, as JSON, here
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write over a file that is there
    #[arg(short, long, requires = "out")]
    force: bool,
}

/// Runs the command.
pub async fn replay(cx: &Context, args: Args) -> Result<Exit, Failure> {
    match args.verb {
        Some(Verb::Run(args)) => run::run(cx, args).await,
        None => look(cx, args.look).await,
    }
}

async fn look(cx: &Context, args: Look) -> Result<Exit, Failure> {
    let Look { task: Some(task), json, out, force } = args else {
        return Err(Failure::usage("which task?").hint("bgagent replay TASK"));
    };
    let over = if force { Over::Yes } else { Over::No };
    if let Some(file) = &out {
        may_write(file, over)?;
    }
    let bundle = connect::connect(cx).await?.replay(task).await?;
    match out {
        Some(file) => {
            let text = clean::json(&bundle)?;
            let bytes = write(&file, over, |to| writeln!(to, "{text}"))?;
            let shown = clean::line(&file.to_string_lossy());
            cx.note(&format!("The bundle of task {task} is in {shown} ({bytes} bytes)."));
        }
        None if json => cx.json(&bundle)?,
        None => cx.result(&bundle, |_| render::replay::bundle(&bundle))?,
    }
    Ok(Exit::Done)
}
