//! `bgagent retry`: try a task again that has ended.

use domain::TaskId;

use crate::clean;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};

/// Try a task again that has ended: a new task, told what came of the old one
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent retry 01ARZ3NDEKTSV4RRFFQ69G5FAV
  bgagent retry 01ARZ3NDEKTSV4RRFFQ69G5FAV --output json | jq -r .task_id")]
pub struct Args {
    /// The task that has ended
    task: TaskId,
}

/// Runs the command.
pub async fn retry(cx: &Context, args: Args) -> Result<Exit, Failure> {
    let client = connect::connect(cx).await?;
    let task = client.retry(args.task).await?;
    cx.result(&task, |_| clean::line(&format!("Task {} tries {} again.", task.task_id, args.task)))?;
    cx.note(&clean::line(&format!("Follow it with: bgagent watch {}", task.task_id)));
    Ok(Exit::Done)
}
