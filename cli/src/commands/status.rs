//! `bgagent status`: a task as it stands, or as it ended.

use std::time::Duration;

use domain::TaskId;
use protocol::client::{Client, ClientError, EventQuery, Order};
use protocol::rest::{EventRecord, TaskDetail};
use tokio::time::{Instant, sleep, timeout_at};

use super::{number, watch};
use crate::args::Output;
use crate::clean;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::render;

/// Newest events looked at for the page.
const RECENT: u32 = domain::limit::EVENTS_PAGE_MAX;
/// Pages read from the beginning for a milestone that is older than those.
const PAGES_MAX: usize = 100;
/// How long one look may last; the server answers it early when something happens.
const LOOK: Duration = Duration::from_secs(5);
/// Failures in a row that are borne.
const FAILURES_MAX: u32 = 5;

/// Show a task: state, turn, cost, last milestone, pull request
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent status 01ARZ3NDEKTSV4RRFFQ69G5FAV
  bgagent status 01ARZ3NDEKTSV4RRFFQ69G5FAV --wait --max-wait 3600 && echo completed

With --wait the exit code is 0 when the task completed, 1 when it ended in another way, 2 when the time was up.")]
pub struct Args {
    /// The task
    task: TaskId,
    /// Wait until the task has ended
    #[arg(long)]
    wait: bool,
    /// Seconds to wait at most, then exit with 2
    #[arg(long, value_name = "SECONDS", requires = "wait", default_value = "86400", value_parser = number::seconds)]
    max_wait: u64,
}

/// Runs the command.
pub async fn status(cx: &Context, args: Args) -> Result<Exit, Failure> {
    let client = connect::connect(cx).await?;
    if args.wait {
        return wait_and_show(cx, &client, args.task, args.max_wait).await;
    }
    let task = client.task(args.task).await?;
    show(cx, &client, task).await?;
    Ok(Exit::Done)
}

/// Prints the page of a task.
pub async fn show(cx: &Context, client: &Client, task: TaskDetail) -> Result<(), Failure> {
    if cx.output == Output::Json {
        return cx.json(&task);
    }
    let id = super::run::id_of(&task)?;
    let query = EventQuery { limit: Some(RECENT), order: Order::NewestFirst, ..EventQuery::default() };
    let events = client.events(id, &query).await?.data;
    let milestone = match events.iter().filter(|e| is_milestone(e)).max_by_key(|e| e.seq) {
        Some(recent) => Some(recent.clone()),
        None if events.len() < RECENT as usize => None,
        None => older_milestone(client, id).await?,
    };
    cx.text(&render::status::status(&task, &events, milestone.as_ref(), &cx.view()))
}

/// Waits for the end of a task and prints its page.
pub async fn wait_and_show(
    cx: &Context,
    client: &Client,
    id: TaskId,
    max_wait: u64,
) -> Result<Exit, Failure> {
    let waited = tokio::select! {
        waited = wait(cx, client, id, Duration::from_secs(max_wait)) => waited,
        _ = tokio::signal::ctrl_c() => {
            cx.passing("");
            cx.note(&watch::come_back(id));
            return Ok(Exit::Interrupted);
        }
    };
    cx.passing("");
    match waited? {
        Some(task) => {
            let exit = watch::exit_of(&task);
            show(cx, client, task).await?;
            Ok(exit)
        }
        None => Err(Failure::new(format!("task {id} has not ended within {max_wait} s; it goes on"))
            .hint(format!("Wait on with: bgagent status {id} --wait"))
            .exit(Exit::GaveUp)),
    }
}

async fn wait(
    cx: &Context,
    client: &Client,
    id: TaskId,
    max_wait: Duration,
) -> Result<Option<TaskDetail>, Failure> {
    let begun = Instant::now();
    let deadline = begun + max_wait;
    let mut cursor: Option<String> = None;
    let mut failures = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let looked = timeout_at(deadline, look(client, id, &mut cursor, LOOK.min(left))).await;
        let Ok(looked) = looked else { return Ok(None) };
        match looked {
            Ok(task) if task.is_terminal() => return Ok(Some(task)),
            Ok(task) => {
                failures = 0;
                let status = clean::line(&task.status);
                cx.passing(&format!("Waiting... Status: {status} ({}s)", begun.elapsed().as_secs()));
            }
            Err(error) => {
                failures += 1;
                if !error.is_transient() {
                    return Err(error.into());
                }
                if failures > FAILURES_MAX {
                    let failure = Failure::from(error).exit(Exit::GaveUp);
                    return Err(
                        failure.hint(format!("The task goes on. Wait on with: bgagent status {id} --wait"))
                    );
                }
                let backoff = Duration::from_millis(250 << failures);
                sleep(error.retry_after().unwrap_or(backoff).min(left)).await;
            }
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
    }
}

/// The task, after its next events or after `wait`.
async fn look(
    client: &Client,
    id: TaskId,
    cursor: &mut Option<String>,
    wait: Duration,
) -> Result<TaskDetail, ClientError> {
    let task = client.task(id).await?;
    if task.is_terminal() {
        return Ok(task);
    }
    let query = match &*cursor {
        None => EventQuery { limit: Some(1), order: Order::NewestFirst, ..EventQuery::default() },
        Some(after) => EventQuery {
            after: Some(after.clone()),
            limit: Some(RECENT),
            wait: Some(wait.max(Duration::from_secs(1))),
            ..EventQuery::default()
        },
    };
    let events = client.events(id, &query).await?.data;
    if let Some(last) = events.iter().max_by_key(|e| e.seq) {
        *cursor = Some(last.event_id.clone());
    } else if cursor.is_none() {
        sleep(wait.min(Duration::from_millis(500))).await;
    }
    client.task(id).await
}

/// The last milestone in the whole record.
async fn older_milestone(client: &Client, id: TaskId) -> Result<Option<EventRecord>, Failure> {
    let mut query = EventQuery { limit: Some(RECENT), ..EventQuery::default() };
    let mut found = None;
    for _ in 0..PAGES_MAX {
        let page = client.events(id, &query).await?;
        found = page.data.into_iter().rfind(is_milestone).or(found);
        query.next_token = page.pagination.next_token;
        if query.next_token.is_none() {
            break;
        }
    }
    Ok(found)
}

/// Signs of a tool at work are no milestones.
fn is_milestone(event: &EventRecord) -> bool {
    event.event_type == "agent_milestone"
        && !matches!(
            event.metadata["milestone"].as_str(),
            Some("tool_running" | "todo_list" | "model_retry") | None
        )
}
