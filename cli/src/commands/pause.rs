//! `bgagent pause`: let a task wait.

use std::time::Duration;

use domain::TaskId;
use tokio::time::Instant;

use crate::clean;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};

/// An agent that saves its work is waited for this long; the pause holds whether or not somebody waits.
const WAIT: Duration = Duration::from_secs(90);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(300);

/// Let a task wait: its work is saved, its box and slot are given back
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent pause 01ARZ3NDEKTSV4RRFFQ69G5FAV
  bgagent resume 01ARZ3NDEKTSV4RRFFQ69G5FAV")]
pub struct Args {
    /// The task
    task: TaskId,
}

/// Runs the command.
pub async fn pause(cx: &Context, args: Args) -> Result<Exit, Failure> {
    let client = connect::connect(cx).await?;
    client.pause(args.task).await?;
    let begun = Instant::now();
    let task = loop {
        let task = client.task(args.task).await?;
        if task.leaving.is_none() || begun.elapsed() > WAIT {
            break task;
        }
        cx.passing("The agent saves its work");
        tokio::time::sleep(LOOK).await;
    };
    cx.passing("");
    let paused = task.queue_reason.as_deref() == Some("paused");
    cx.result(&task, |_| {
        let id = &task.task_id;
        clean::line(&match (paused, &task.head_sha) {
            (true, Some(head)) => format!("Task {id} is paused; work so far is saved at {head}."),
            (true, None) => format!("Task {id} is paused."),
            (false, _) => format!("Task {id} is {}.", task.status),
        })
    })?;
    if paused {
        cx.note(&format!("Go on with: bgagent resume {}", args.task));
    }
    Ok(if paused || task.leaving.is_some() { Exit::Done } else { Exit::Failed })
}
