//! `bgagent egress`: what a task asked the network for, as the setting that would allow it.

use clap::Subcommand;
use domain::{TaskId, limit};
use protocol::client::EventQuery;

use crate::args::Output;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::render::egress::{Suggestion, suggestion};

/// Look at what tasks asked the network for
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent egress suggest 01ARZ3NDEKTSV4RRFFQ69G5FAV
  bgagent egress suggest 01ARZ3NDEKTSV4RRFFQ69G5FAV --output json | jq -r '.allow[]'")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the allowlist of what a task asked for
    ///
    /// What was refused is in it too, marked as such: take out what the repository should not reach. With
    /// egress.mode = "observe" nothing public is refused, so that one run shows all that a project needs.
    #[command(after_help = "Examples:
  bgagent egress suggest 01ARZ3NDEKTSV4RRFFQ69G5FAV
  bgagent egress suggest 01ARZ3NDEKTSV4RRFFQ69G5FAV >> \"$(bgagent config path)\"
  bgagent egress suggest 01ARZ3NDEKTSV4RRFFQ69G5FAV --output json | jq -r '.allow[]'")]
    Suggest {
        /// The task
        task: TaskId,
    },
}

/// Runs the command.
pub async fn egress(cx: &Context, args: Args) -> Result<Exit, Failure> {
    let Verb::Suggest { task } = args.verb;
    let client = connect::connect(cx).await?;
    let repo = client.task(task).await?.repo.unwrap_or_default();
    let mut told = Suggestion::new(task, &repo);
    let mut query = EventQuery { limit: Some(limit::EVENTS_PAGE_MAX), ..EventQuery::default() };
    loop {
        let page = client.events(task, &query).await?;
        page.data.iter().for_each(|event| told.add(event));
        query.next_token = page.pagination.next_token;
        if !page.pagination.has_more || query.next_token.is_none() {
            break;
        }
    }
    match cx.output {
        Output::Text => cx.lines(&suggestion(&told))?,
        Output::Json => cx.json(&told)?,
    }
    Ok(Exit::Done)
}
