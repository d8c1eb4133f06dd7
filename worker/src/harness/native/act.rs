//! The tool calls of one turn: looks side by side, changes one by one, results in the order asked.

use std::sync::Mutex;
use std::time::Duration;

use domain::event::{self, EventKind};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use redact::{Redactor, Stream};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::reply::ToolCall;
use super::transcript::Block;
use super::{Run, compact, preview};
use crate::harness::{Stop, while_wanted};
use crate::tool::todo::TodoStatus;
use crate::tool::{Effect, Tool, ToolContext, ToolOutput, text};

/// Looks at once.
const PARALLEL: usize = 4;
/// Calls of one reply that are run; a model that asks for more has lost its way.
const CALLS_MAX: usize = 64;
/// A tool that runs longer is reported on, this often.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(15);
/// What a call is answered that a nudge came before. `trace::nudge` knows its first words.
const NOT_RUN: &str = "Not run: the person who gave the task said something first (below). Heed it, then call again if it is still \
wanted.";
/// Bytes of a line that are kept for such a report.
const LINE_MAX_BYTES: usize = 16 * 1024;

/// The last whole line of a tool's output, masked. A line that has not ended is not shown: a secret in it might be cut in
/// two, one half in this report and the other in the next.
struct Progress {
    masked: Stream,
    line: String,
    last: String,
}

impl Progress {
    fn new(redactor: &Redactor) -> Progress {
        Progress { masked: redactor.stream(), line: String::new(), last: String::new() }
    }

    fn push(&mut self, text: &str) {
        let text = self.masked.push(text);
        for piece in text.split_inclusive('\n') {
            self.line.push_str(text::prefix(piece, LINE_MAX_BYTES.saturating_sub(self.line.len())));
            if piece.ends_with('\n') {
                let line = std::mem::take(&mut self.line);
                if !line.trim().is_empty() {
                    self.last = domain::text::line(&text::plain(&line));
                }
            }
        }
    }
}

impl Run<'_> {
    /// Runs all calls of a turn; a result for each, in order, and after them what people said meanwhile.
    pub(super) async fn act(&self, calls: &[ToolCall]) -> Result<Vec<Block>, Stop> {
        let effect = |call: &ToolCall| self.tools.find(&call.name).map_or(Effect::Reads, Tool::effect);
        let mut results = Vec::with_capacity(calls.len());
        let mut said = Vec::new();
        let (calls, beyond) = calls.split_at(calls.len().min(CALLS_MAX));
        for batch in calls.chunk_by(|a, b| effect(a) == Effect::Reads && effect(b) == Effect::Reads) {
            // Words of a person take effect before the next call, not after all that were planned without them.
            if said.is_empty() && self.has_turns_left() {
                said = self.nudges(Some(results.len())).await?;
            }
            if !said.is_empty() {
                results.extend(batch.iter().map(|call| Block::result(&call.id, ToolOutput::error(NOT_RUN))));
                continue;
            }
            let running: Vec<_> = batch.iter().map(|call| self.one(call)).collect();
            let done: Vec<Block> = stream::iter(running).buffered(PARALLEL).try_collect().await?;
            results.extend(done);
        }
        let too_many = format!(
            "Not run: a reply may have {CALLS_MAX} tool calls at most. Send it again if it is needed."
        );
        results
            .extend(beyond.iter().map(|call| Block::result(&call.id, ToolOutput::error(too_many.clone()))));
        compact::fit_window(&mut results, self.work);
        results.extend(self.unstick());
        results.extend(said);
        Ok(results)
    }

    async fn one(&self, call: &ToolCall) -> Result<Block, Stop> {
        self.ctx.signals.check().await.or_stop()?;
        let max = self.work.preview_max;
        let redactor = self.tools.redactor();
        let shown = match &call.input {
            Ok(input) => preview::input(input, max, redactor),
            Err(error) => event::preview(&redactor.mask(error), max),
        };
        let name = event::preview(&call.name, 100);
        self.ctx.events.emit(
            EventKind::AgentToolCall,
            json!({ "tool_name": name, "tool_input_preview": shown, "turn": self.attempted }),
        );
        let started = Instant::now();
        let (output, stopped) = match self.run_tool(call, &name).await {
            Ok(output) => (output, None),
            Err(stop) => (ToolOutput::error("The task was stopped while this ran."), Some(stop)),
        };
        self.ctx.events.emit(
            EventKind::AgentToolResult,
            json!({
                "tool_name": name,
                "is_error": output.is_error,
                "content_preview": event::preview(&output.as_text(), max),
                "turn": self.attempted,
                "duration_ms": started.elapsed().as_millis() as u64,
            }),
        );
        if let (Ok(input), Ok(mut stuck)) = (&call.input, self.stuck.lock()) {
            stuck.record(&call.name, input, output.is_error, &output.as_text());
        }
        match stopped {
            Some(stop) => Err(stop),
            None => Ok(Block::result(&call.id, output)),
        }
    }

    async fn run_tool(&self, call: &ToolCall, name: &str) -> Result<ToolOutput, Stop> {
        let input = match &call.input {
            Ok(input) => input,
            Err(error) => {
                return Ok(ToolOutput::error(format!(
                    "The input of this call is not valid JSON ({error}); nothing was done. Send the call again with a \
                     complete JSON object. If it was cut off, make it smaller."
                )));
            }
        };
        // Cancelled also when this future is dropped, so that work on other threads ends.
        let cancel = CancellationToken::new();
        let _guard = cancel.clone().drop_guard();
        let progress = Mutex::new(Progress::new(self.tools.redactor()));
        let live = |text: &str| {
            if let Ok(mut progress) = progress.lock() {
                progress.push(text);
            }
        };
        let ctx = ToolContext { cancel, live: &live };
        let started = Instant::now();
        let mut running =
            std::pin::pin!(while_wanted(&*self.ctx.signals, self.tools.run(&call.name, input, &ctx)));
        let output = loop {
            tokio::select! {
                biased;
                done = &mut running => break done?,
                () = tokio::time::sleep(PROGRESS_INTERVAL) => {
                    let last = progress.lock().map(|p| event::preview(&p.last, self.work.preview_max)).unwrap_or_default();
                    self.ctx.events.emit(EventKind::AgentMilestone, json!({
                        "milestone": "tool_running",
                        "details": format!("{name} has run for {} s: {last}", started.elapsed().as_secs()),
                        "turn": self.attempted,
                    }));
                }
            }
        };
        if self.tools.find(&call.name) == Some(Tool::TodoWrite) && !output.is_error {
            self.report_todos();
        }
        Ok(output)
    }

    /// Advice for an agent that goes round in circles.
    fn unstick(&self) -> Option<Block> {
        let advice = self.stuck.lock().ok()?.advice()?;
        let details = event::preview(&advice.what, self.work.preview_max);
        self.ctx.events.emit(
            EventKind::AgentMilestone,
            json!({ "milestone": "stuck_steer", "details": details, "turn": self.attempted }),
        );
        Some(Block::text(advice.words()))
    }

    fn report_todos(&self) {
        let todos = self.tools.workspace().todos();
        let done = todos.iter().filter(|todo| todo.status == TodoStatus::Completed).count();
        let now = todos.iter().find(|todo| todo.status == TodoStatus::InProgress);
        let now = now.map(|todo| format!(": {}", todo.content)).unwrap_or_default();
        let details =
            event::preview(&format!("{done} of {} steps done{now}", todos.len()), self.work.preview_max);
        self.ctx.events.emit(
            EventKind::AgentMilestone,
            json!({ "milestone": "todo_list", "details": details, "todos": todos, "turn": self.attempted }),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_shows_whole_lines_without_secrets() {
        let token = format!("ghp_{}", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0fG3hJ6");
        let mut progress = Progress::new(&Redactor::default());
        progress.push("one\ntwo is not");
        assert_eq!(progress.last, "one");
        progress.push(&format!(" {}", &token[..20]));
        assert_eq!(progress.last, "one");
        progress.push(&format!("{} done\r\n\n", &token[20..]));
        progress.push("three");
        assert_eq!(progress.last, "two is not [redacted] done");
    }
}
