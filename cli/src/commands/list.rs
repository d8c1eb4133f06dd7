//! `bgagent list`: tasks, the newest first.

use protocol::client::TaskFilter;
use protocol::rest::TaskSummary;

use super::number;
use crate::args::Output;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::render;
use crate::repo;

/// Show tasks, the newest first
///
/// Tasks of several people have a column that says whose they are. With --output json: one task a line.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent list
  bgagent list --status RUNNING,QUEUED --limit 100
  bgagent list --whose team --status RUNNING
  bgagent list --repo . --output json | jq -r .task_id")]
pub struct Args {
    /// Only tasks in these states, separated by commas
    #[arg(long, value_name = "STATES", value_parser = states)]
    status: Option<String>,
    /// Only tasks of this repository
    #[arg(long, value_name = "REPO")]
    repo: Option<String>,
    /// Whose tasks: your own, also your team's, or (for owners) everybody's
    #[arg(long, value_name = "WHOSE", value_enum, default_value_t = Whose::Mine)]
    whose: Whose,
    /// Rows, 1 to 100
    #[arg(long, value_name = "N", value_parser = number::task_rows)]
    limit: Option<u32>,
}

/// Whose tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Whose {
    Mine,
    Team,
    All,
}

impl Whose {
    /// As the server is asked; its default needs no word.
    fn wire(self) -> Option<String> {
        match self {
            Whose::Mine => None,
            Whose::Team => Some("team".into()),
            Whose::All => Some("all".into()),
        }
    }
}

/// Runs the command.
pub async fn list(cx: &Context, args: Args) -> Result<Exit, Failure> {
    let home = cx.env.get("HOME").map(std::path::Path::new);
    let repo = args.repo.map(|text| repo::resolve(&text, home)).transpose()?;
    let client = connect::connect(cx).await?;
    let filter = TaskFilter {
        status: args.status,
        repo,
        whose: args.whose.wire(),
        limit: args.limit,
        next_token: None,
    };
    let page = client.list(&filter).await?;
    match cx.output {
        Output::Json => {
            for task in &page.data {
                let task: &TaskSummary = task;
                cx.json(task)?;
            }
        }
        Output::Text => cx.text(&render::list::list(&page.data, &cx.view()))?,
    }
    if page.pagination.has_more {
        cx.note("(More tasks available: narrow the list with --status or --repo, or raise --limit)");
    }
    Ok(Exit::Done)
}

/// States are told apart here, so that a slip of the pen is not an empty list.
fn states(text: &str) -> Result<String, String> {
    let known = domain::Status::ALL.map(|s| s.as_str());
    let asked: Vec<String> =
        text.split(',').map(|s| s.trim().to_ascii_uppercase()).filter(|s| !s.is_empty()).collect();
    match asked.iter().find(|s| !known.contains(&s.as_str())) {
        Some(unknown) => Err(format!("{unknown} is no state; the states are {}", known.join(", "))),
        None if asked.is_empty() => Err(format!("name at least one of {}", known.join(", "))),
        None => Ok(asked.join(",")),
    }
}
