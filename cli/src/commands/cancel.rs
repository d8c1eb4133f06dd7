//! `bgagent cancel`: end a task.

use domain::TaskId;

use crate::clean;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};

/// End a task; the work so far stays on its branch
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
    cx.passing("The agent saves its work");
    let cancelled = client.cancel(args.task).await;
    cx.passing("");
    let cancelled = cancelled?;
    cx.result(&cancelled, |_| {
        clean::line(&format!("Task {} cancelled at {}.", cancelled.task_id, cancelled.cancelled_at))
    })?;
    // A word beside the result: the task is cancelled whether or not this can be told.
    if let Ok(task) = client.task(args.task).await
        && let Some(head) = &task.head_sha
    {
        cx.note(&clean::line(&format!("Work so far is on branch {} ({head}).", task.branch_name)));
    }
    Ok(Exit::Done)
}
