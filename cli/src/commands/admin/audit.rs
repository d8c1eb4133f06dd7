//! `bgagent admin audit`: who did what.

use protocol::client::AuditQuery;

use crate::args::Output;
use crate::commands::number;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::render::access;

/// Show who did what, newest first; for owners
///
/// With --output json: one line of the log a line.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent admin audit --limit 100
  bgagent admin audit --object 01ARZ3NDEKTSV4RRFFQ69G5FAV
  bgagent admin audit --action api_key.create --output json | jq -r .actor")]
pub struct Args {
    /// Only what this user did
    #[arg(long, value_name = "USER")]
    actor: Option<String>,
    /// Only this: task.cancel, api_key.create
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only what was done to this: the id of a task, key or webhook
    #[arg(long, value_name = "ID")]
    object: Option<String>,
    /// Rows, 1 to 100
    #[arg(long, value_name = "N", value_parser = number::task_rows)]
    limit: Option<u32>,
}

/// Runs the command.
pub async fn audit(cx: &Context, args: Args) -> Result<Exit, Failure> {
    let Args { actor, action, object, limit } = args;
    let query = AuditQuery { actor, action, object, limit, next_token: None };
    let page = connect::connect(cx).await?.audit(&query).await?;
    match cx.output {
        Output::Json => page.data.iter().try_for_each(|line| cx.json(line))?,
        Output::Text => cx.text(&access::audit(&page.data))?,
    }
    if page.pagination.has_more {
        cx.note("(More lines: narrow them with --actor, --action or --object, or raise --limit)");
    }
    Ok(Exit::Done)
}
