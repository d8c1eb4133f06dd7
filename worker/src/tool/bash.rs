//! `Bash`: a shell command in the work tree. See [`super::process`] for how it is bounded and ended.
//!
//! The isolation tier decides what a command can reach; in the `process` tier that is everything this user can.

use std::time::Duration;

use domain::limit;
use serde_json::{Value, json};

use super::process::{End, Shell};
use super::{Input, ToolContext, ToolError, ToolOutput, Workspace};
use crate::notice;

/// When the model names no time.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(120);

/// What the model is told of it.
pub fn definition() -> (&'static str, Value) {
    let description = "Runs a bash command in the root of the work tree and returns its output and exit code. Each call is \
        a new shell: `cd` and variables do not carry over. There is no terminal and nobody to answer a prompt. Start \
        servers in the background with their output in a file (`cmd > /tmp/log 2>&1 &`). Long output is cut in the \
        middle. Use Read, Edit, Glob and Grep for files rather than cat, sed, find and grep.";
    let schema = json!({
        "type": "object",
        "properties": {
            "command": { "type": "string", "description": "The command line" },
            "timeout_ms": {
                "type": "integer",
                "description": format!(
                    "Milliseconds after which it is killed; {} when absent, {} at most",
                    TIMEOUT_DEFAULT.as_millis(),
                    limit::COMMAND_TIMEOUT.as_millis(),
                ),
            },
            "description": { "type": "string", "description": "What it does, in five to ten words" },
        },
        "required": ["command"],
    });
    (description, schema)
}

/// Runs it.
pub async fn run(at: &Workspace, input: Input<'_>, ctx: &ToolContext<'_>) -> Result<ToolOutput, ToolError> {
    let command = input.text("command")?;
    if command.trim().is_empty() || command.contains('\0') {
        return Err(input.refuse("command", "is empty or holds a NUL"));
    }
    let asked = input.number("timeout_ms")?.or(input.number("timeout")?);
    let timeout = asked
        .map_or(TIMEOUT_DEFAULT, Duration::from_millis)
        .clamp(Duration::from_millis(1), limit::COMMAND_TIMEOUT);
    let shell = Shell {
        command,
        directory: at.root().to_owned(),
        environment: at.environment(),
        launcher: at.launcher(),
        timeout,
        output_max: at.output_max(),
    };
    let notices = at.launcher().notices();
    let mark = notices.count();
    let done = shell
        .run(&ctx.cancel, at.background(), ctx.live)
        .await
        .map_err(|error| ToolError::new(format!("Bash: the command could not be run: {error}.")))?;
    let mut text = done.output.render();
    let mut note = |line: &str| {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(line);
    };
    let is_error = match done.end {
        End::Exited(0) => false,
        End::Exited(code) => {
            note(&format!("[exit code {code}]"));
            true
        }
        End::TimedOut => {
            note(&format!(
                "[killed after {} ms: time was up; ask for more with timeout_ms (at most {}), or run it in the background]",
                timeout.as_millis(),
                limit::COMMAND_TIMEOUT.as_millis(),
            ));
            true
        }
        End::Cancelled => {
            note("[killed: the task was cancelled]");
            true
        }
    };
    // What the kernel ended for its processor time no monitor is going to explain.
    let reached = match done.processor_limit {
        Some(_) => notices.since(mark),
        None => notices.after(mark, done.end).await,
    };
    for notice in &reached {
        note(&format!("[{}]", notice::told(notice)));
    }
    if let Some(seconds) = done.processor_limit.filter(|_| reached.is_empty()) {
        note(&format!("[{}]", notice::processor_limit(seconds)));
    }
    if done.left_running {
        note("[a process it started is still running in the background; its further output is not shown]");
    }
    Ok(ToolOutput { is_error, ..ToolOutput::text(text) })
}
