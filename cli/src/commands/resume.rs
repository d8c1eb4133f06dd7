//! `bgagent resume`: let a task go on that waits.

use domain::TaskId;

use crate::clean;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};

/// Let a paused task go on, in a new box, from its saved work
///
/// Also ends the waiting for a provider's usage limit before its time.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  bgagent resume 01ARZ3NDEKTSV4RRFFQ69G5FAV")]
pub struct Args {
    /// The task
    task: TaskId,
}

/// Runs the command.
pub async fn resume(cx: &Context, args: Args) -> Result<Exit, Failure> {
    let client = connect::connect(cx).await?;
    let task = client.resume(args.task).await?;
    cx.result(&task, |_| clean::line(&format!("Task {} goes on; it is {}.", task.task_id, task.status)))?;
    Ok(Exit::Done)
}
