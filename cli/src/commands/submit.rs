//! `bgagent submit`: hand a task over and go.

use super::request::TaskArgs;
use super::{number, run, status};
use crate::args::Output;
use crate::clean;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::render;

/// Give a task and return at once (or, with --wait, when it has ended)
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent submit \"Fix the failing test\"
  bgagent submit --repo octo/cat --issue 42 --idempotency-key nightly-42 \"Mend the crash on an empty file\"
  bgagent submit --attachment shot.png --attachment https://ci.example/log.txt \"Why does this fail?\"
  bgagent submit --wait --output json \"Accept trailing commas\"")]
pub struct Args {
    #[command(flatten)]
    task: TaskArgs,
    /// Wait until the task has ended; the exit code tells how
    #[arg(long)]
    wait: bool,
    /// Seconds to wait at most, then exit with 2
    #[arg(long, value_name = "SECONDS", requires = "wait", default_value = "86400", value_parser = number::seconds)]
    max_wait: u64,
}

/// Runs the command.
pub async fn submit(cx: &Context, args: Args) -> Result<Exit, Failure> {
    let asked = args.task.request(cx)?;
    let client = connect::connect_to_submit(cx).await?;
    let task = run::submit(cx, &client, &asked).await?;
    let id = run::id_of(&task)?;
    if args.wait {
        return status::wait_and_show(cx, &client, id, args.max_wait).await;
    }
    if cx.output == Output::Text {
        // As it was taken in: what came of it since is another look.
        cx.text(&render::status::status(&task, &[], None, &cx.view()))?;
        let id = clean::line(&id.to_string());
        cx.note(&format!("\nFollow it with: bgagent watch {id}"));
    }
    Ok(Exit::Done)
}
