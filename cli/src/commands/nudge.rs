//! `bgagent nudge`: say something to an agent that works.

use std::io::Read as _;

use domain::{TaskId, limit};

use crate::clean;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};

/// Say something to the agent of a task, while it works
///
/// The agent reads it before its next step. `bgagent watch` shows when it has it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent nudge 01ARZ3NDEKTSV4RRFFQ69G5FAV \"Leave the public API as it is\"
  git diff | bgagent nudge 01ARZ3NDEKTSV4RRFFQ69G5FAV -")]
pub struct Args {
    /// The task
    task: TaskId,
    /// What it is to heed, at most 2,000 characters; `-` reads it from stdin
    #[arg(value_name = "MESSAGE")]
    message: String,
}

/// Runs the command.
pub async fn nudge(cx: &Context, args: Args) -> Result<Exit, Failure> {
    let message = words("the message", args.message, limit::NUDGE_MAX_CHARS)?;
    let client = connect::connect(cx).await?;
    let nudge = client.nudge(args.task, &message).await?;
    cx.result(&nudge, |_| {
        clean::line(&format!(
            "Nudge {} submitted for task {} at {}.",
            nudge.nudge_id, nudge.task_id, nudge.submitted_at
        ))
    })?;
    Ok(Exit::Done)
}

/// Words of the command line, or of stdin when they are `-`; their bounds are told before anything is sent.
pub fn words(what: &str, given: String, max: usize) -> Result<String, Failure> {
    let mut text = given;
    if text == "-" {
        text.clear();
        // One more than may be sent, in the longest characters: enough to see that it is too much.
        let most = (max as u64 + 1) * 4;
        std::io::stdin().lock().take(most).read_to_string(&mut text)?;
    }
    let text = text.trim();
    let characters = text.chars().count();
    match characters {
        0 => Err(Failure::usage(format!("{what} is empty"))
            .hint("Give it as one argument in quotes, or as - to read it from stdin.")),
        _ if characters > max => {
            Err(Failure::usage(format!("{what} has more than {max} characters, which is the most allowed"))
                .hint("Make it shorter; long instructions can stand in a file of the repository."))
        }
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_told_before_anything_is_sent() {
        let words = |text: &str| words("the message", text.to_owned(), 5).map_err(|f| f.message);
        assert_eq!(words("  abc "), Ok("abc".into()));
        assert_eq!(words("ñññññ"), Ok("ñññññ".into()));
        assert_eq!(words(" \n "), Err("the message is empty".into()));
        assert!(words("abcdef").unwrap_err().contains("more than 5"));
    }
}
