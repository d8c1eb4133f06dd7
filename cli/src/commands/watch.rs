//! `bgagent watch`: everything that happened and happens, to the very last event.

use domain::TaskId;
use futures_util::StreamExt as _;
use protocol::client::Client;
use protocol::client::stream::{Item, Watch};
use protocol::rest::TaskDetail;

use super::run;
use crate::args::Output;
use crate::clean;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::render;
use crate::tui;

/// Show what a task does, from its beginning until it ends
///
/// Ctrl-C stops watching, not the task. With --output json: one event a line.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent watch 01ARZ3NDEKTSV4RRFFQ69G5FAV
  bgagent watch 01ARZ3NDEKTSV4RRFFQ69G5FAV --tui
  bgagent watch 01ARZ3NDEKTSV4RRFFQ69G5FAV --output json | jq -r .event_type

The exit code is 0 when the task completed, 1 when it ended in another way, 2 when the server was away for too long,
130 after Ctrl-C.")]
pub struct Args {
    /// The task
    task: TaskId,
    /// On a whole screen, with keys to nudge, ask and cancel
    #[arg(long)]
    tui: bool,
}

/// How watching ended.
#[derive(Debug)]
pub enum Followed {
    /// The task has ended.
    Ended(Box<TaskDetail>),
    /// The person went away.
    Interrupted,
}

/// Runs the command.
pub async fn watch(cx: &Context, args: Args) -> Result<Exit, Failure> {
    if args.tui {
        tui::check(cx, args.task)?;
    }
    let client = connect::connect(cx).await?;
    let task = client.task(args.task).await?;
    if args.tui {
        return on_a_screen(cx, &client, args.task, task).await;
    }
    if cx.output == Output::Text && !task.is_terminal() {
        cx.note(&format!("Watching task {}... (Ctrl+C to stop)", run::id_of(&task)?));
    }
    match follow(cx, &client, args.task).await? {
        Followed::Interrupted => Ok(Exit::Interrupted),
        Followed::Ended(task) => {
            if cx.output == Output::Text {
                cx.note(&render::event::ended(&task));
            }
            Ok(exit_of(&task))
        }
    }
}

async fn on_a_screen(cx: &Context, client: &Client, id: TaskId, task: TaskDetail) -> Result<Exit, Failure> {
    match tui::watch(cx, client, id, task).await? {
        Followed::Interrupted => {
            cx.note(&come_back(id));
            Ok(Exit::Interrupted)
        }
        Followed::Ended(task) => {
            cx.note(&render::event::ended(&task));
            Ok(exit_of(&task))
        }
    }
}

/// Prints events until the task has ended or the person interrupts.
pub async fn follow(cx: &Context, client: &Client, id: TaskId) -> Result<Followed, Failure> {
    tokio::select! {
        ended = follow_to_end(cx, client, id) => Ok(Followed::Ended(Box::new(ended?))),
        _ = tokio::signal::ctrl_c() => {
            cx.passing("");
            cx.note(&come_back(id));
            Ok(Followed::Interrupted)
        }
    }
}

/// Prints events until the task has ended.
pub async fn follow_to_end(cx: &Context, client: &Client, id: TaskId) -> Result<TaskDetail, Failure> {
    let mut stream = client.stream(id, Watch::default());
    while let Some(item) = stream.next().await {
        match item {
            Ok(Item::Event(event)) => {
                cx.passing("");
                cx.result(&*event, |view| render::event::event(&event, view))?;
            }
            Ok(Item::Interrupted { because, pause }) => {
                cx.verbose(&format!("{because}; trying again in {} ms", pause.as_millis()));
                cx.passing("(the connection is interrupted; trying again)");
            }
            Err(error) if error.is_transient() => {
                return Err(Failure::from(error).exit(Exit::GaveUp).hint(come_back(id)));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(client.task(id).await?)
}

/// 0 for a completed task, 1 for any other end.
pub fn exit_of(task: &TaskDetail) -> Exit {
    if task.status == "COMPLETED" { Exit::Done } else { Exit::Failed }
}

/// How to go on after an interruption.
pub fn come_back(id: TaskId) -> String {
    clean::line(&format!("Task {id} goes on. Come back with: bgagent watch {id}"))
}
