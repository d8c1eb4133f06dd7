//! `bgagent events`: the record, as it is.

use domain::{EventId, TaskId, limit};
use protocol::client::{EventQuery, Order};
use protocol::rest::EventRecord;

use super::number;
use crate::args::Output;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::render;

/// Show the events of a task
///
/// With --output json: one event a line.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent events 01ARZ3NDEKTSV4RRFFQ69G5FAV --all
  bgagent events 01ARZ3NDEKTSV4RRFFQ69G5FAV --desc --limit 5
  bgagent events 01ARZ3NDEKTSV4RRFFQ69G5FAV --after 01ARZ3NDEKTSV4RRFFQ69G5FAW --output json")]
pub struct Args {
    /// The task
    task: TaskId,
    /// Rows; 50 when neither this nor --all is given
    #[arg(long, value_name = "N", value_parser = number::event_rows)]
    limit: Option<u32>,
    /// All events, page by page
    #[arg(long, conflicts_with = "desc")]
    all: bool,
    /// Only events after this event id
    #[arg(long, value_name = "EVENT", conflicts_with = "desc")]
    after: Option<EventId>,
    /// The newest first (at most 100)
    #[arg(long)]
    desc: bool,
}

/// Runs the command.
pub async fn events(cx: &Context, args: Args) -> Result<Exit, Failure> {
    let client = connect::connect(cx).await?;
    let unlimited = if args.all { u32::MAX } else { limit::EVENTS_PAGE_DEFAULT };
    let wanted = args.limit.unwrap_or(unlimited);
    let mut query = EventQuery {
        after: args.after.map(|id| id.to_string()),
        order: if args.desc { Order::NewestFirst } else { Order::OldestFirst },
        ..EventQuery::default()
    };
    let mut all: Vec<EventRecord> = vec![];
    let mut shown: u32 = 0;
    let more = loop {
        let left = wanted - shown;
        query.limit = Some(left.min(limit::EVENTS_PAGE_MAX));
        let page = client.events(args.task, &query).await?;
        shown += u32::try_from(page.data.len()).unwrap_or(left).min(left);
        match cx.output {
            // Printed page by page: a long record is not kept in memory.
            Output::Json => page.data.iter().try_for_each(|event| cx.json(event))?,
            Output::Text => all.extend(page.data),
        }
        let more = page.pagination.has_more;
        query.after = None;
        query.next_token = page.pagination.next_token;
        if shown >= wanted || !more || query.next_token.is_none() {
            break more;
        }
    };
    if cx.output == Output::Text {
        cx.text(&render::events::events(&all, &cx.view()))?;
    }
    if more {
        cx.note("(More events available)");
    }
    Ok(Exit::Done)
}
