//! `bgagent ask`: ask an agent that works how it stands.

use std::time::Duration;

use domain::{AskId, TaskId, limit};
use protocol::client::Client;
use protocol::steer::AskDetail;
use tokio::time::Instant;

use super::{nudge, number};
use crate::clean;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};

/// One wait of the server; the progress is shown anew between two.
const WAIT: Duration = Duration::from_secs(5);

/// Ask a question about a task
///
/// The agent answers between two steps and goes on with its work as if nobody had asked. When no agent is at work, the
/// answer is read from the task's record, and says so.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent ask 01ARZ3NDEKTSV4RRFFQ69G5FAV \"What are you doing, and what is left?\"
  bgagent ask --no-wait 01ARZ3NDEKTSV4RRFFQ69G5FAV \"Why the new dependency?\"

With --no-wait the answer comes as the event `ask_answered` (`bgagent watch`), and whole from
GET /v1/tasks/TASK/asks/ASK. The exit code is 0 when it is answered, 2 when --max-wait passed, 130 after Ctrl-C.")]
pub struct Args {
    /// The task
    task: TaskId,
    /// The question, at most 2,000 characters; `-` reads it from stdin
    #[arg(value_name = "QUESTION")]
    question: String,
    /// Return as soon as the question is accepted
    #[arg(long)]
    no_wait: bool,
    /// Seconds to wait for the answer at most, then exit with 2
    #[arg(long, value_name = "SECONDS", conflicts_with = "no_wait", default_value = "3600", value_parser = number::seconds)]
    max_wait: u64,
}

/// Runs the command.
pub async fn ask(cx: &Context, args: Args) -> Result<Exit, Failure> {
    let question = nudge::words("the question", args.question, limit::ASK_MAX_CHARS)?;
    let client = connect::connect(cx).await?;
    let asked = client.ask(args.task, &question).await?;
    if args.no_wait && asked.answer.is_none() {
        cx.result(&asked, |_| {
            clean::line(&format!("Question {} asked about task {}.", asked.ask_id, asked.task_id))
        })?;
        return Ok(Exit::Done);
    }
    let answered = tokio::select! {
        answered = wait(cx, &client, args.task, asked, Duration::from_secs(args.max_wait)) => answered,
        _ = tokio::signal::ctrl_c() => {
            cx.passing("");
            cx.note("The question stays open. `bgagent watch` shows when it is answered.");
            return Ok(Exit::Interrupted);
        }
    };
    cx.passing("");
    let answered = answered?;
    cx.result(&answered, |_| clean::block(answered.answer.as_deref().unwrap_or("(no answer yet)")))?;
    match answered.answer {
        Some(_) => Ok(Exit::Done),
        None => {
            cx.note("No answer in time; the question stays open.");
            Ok(Exit::GaveUp)
        }
    }
}

/// Waits for the answer, and says what it waits for.
async fn wait(
    cx: &Context,
    client: &Client,
    task: TaskId,
    mut asked: AskDetail,
    most: Duration,
) -> Result<AskDetail, Failure> {
    let id: AskId = asked.ask_id.parse().map_err(|e| Failure::new(format!("the server's answer: {e}")))?;
    let begun = Instant::now();
    while asked.answer.is_none() {
        let left = most.saturating_sub(begun.elapsed());
        if left.is_zero() {
            break;
        }
        let waited = begun.elapsed().as_secs();
        cx.passing(&format!("Waiting for the agent to come to the end of its step ({waited} s)"));
        match client.answer(task, id, WAIT.min(left.max(Duration::from_secs(1)))).await {
            Ok(now) => asked = now,
            // A server that restarts keeps the question.
            Err(error) if error.is_transient() => tokio::time::sleep(Duration::from_secs(1)).await,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(asked)
}
