//! `bgagent run`: submit, watch, print what came of it.

use domain::TaskId;
use protocol::client::{Client, Replayed};
use protocol::rest::TaskDetail;

use super::request::{Asked, TaskArgs};
use super::watch::{self, Followed};
use crate::args::Output;
use crate::clean;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::render::outcome::outcome;

/// Give a task, watch it, and print what came of it
///
/// Ctrl-C leaves the task running. With --output json: the task as submitted, every event, the task as it ended, one a
/// line.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent run \"Fix the failing test\"
  bgagent run --repo ~/src/cat --build-command 'cargo test' --max-budget 2 \"Accept trailing commas\"
  bgagent run --repo octo/cat --issue 42 \"Mend the crash on an empty file\"")]
pub struct Args {
    #[command(flatten)]
    task: TaskArgs,
}

/// Runs the command.
pub async fn run(cx: &Context, args: Args) -> Result<Exit, Failure> {
    let asked = args.task.request(cx)?;
    let client = connect::connect_to_submit(cx).await?;
    let task = submit(cx, &client, &asked).await?;
    let id = id_of(&task)?;
    match watch::follow(cx, &client, id).await? {
        Followed::Interrupted => Ok(Exit::Interrupted),
        Followed::Ended(task) => {
            cx.result(&*task, |view| format!("\n{}", outcome(&task, view)))?;
            Ok(watch::exit_of(&task))
        }
    }
}

/// Submits, and says so.
pub async fn submit(cx: &Context, client: &Client, asked: &Asked) -> Result<TaskDetail, Failure> {
    let (made, replayed) = client.create(&asked.request, asked.key.as_deref()).await?;
    let task = asked.attached.upload(cx, client, made).await?;
    let id = clean::line(&task.task_id);
    match (cx.output, replayed) {
        (Output::Json, Replayed::Yes | Replayed::No) => cx.json(&task)?,
        (Output::Text, Replayed::No) => cx.note(&format!("Task {id} submitted.")),
        (Output::Text, Replayed::Yes) => cx.note(&format!("Task {id} was submitted before with this key.")),
    }
    Ok(task)
}

/// The id of a task that the server told us of.
pub fn id_of(task: &TaskDetail) -> Result<TaskId, Failure> {
    task.task_id.parse().map_err(|e| Failure::new(format!("the server's answer cannot be read: {e}")))
}
