//! `bgagent cancel`: end a task.

use domain::TaskId;

use crate::clean;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};

/// End a task; what it has pushed stays
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  bgagent cancel 01ARZ3NDEKTSV4RRFFQ69G5FAV")]
pub struct Args {
    /// The task
    task: TaskId,
}

/// Runs the command.
pub async fn cancel(cx: &Context, args: Args) -> Result<Exit, Failure> {
    let client = connect::connect(cx).await?;
    let cancelled = client.cancel(args.task).await?;
    cx.result(&cancelled, |_| {
        clean::line(&format!("Task {} cancelled at {}.", cancelled.task_id, cancelled.cancelled_at))
    })?;
    Ok(Exit::Done)
}
