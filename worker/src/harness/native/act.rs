//! The tool calls of one turn: looks side by side, changes one by one, results in the order asked.

use std::sync::Mutex;
use std::time::Duration;

use domain::event::{self, EventKind};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::reply::ToolCall;
use super::transcript::Block;
use super::{Run, compact, preview};
use crate::harness::{Stop, while_wanted};
use crate::tool::todo::TodoStatus;
use crate::tool::{Effect, Tool, ToolContext, ToolOutput};

/// Looks at once.
const PARALLEL: usize = 4;
/// Calls of one reply that are run; a model that asks for more has lost its way.
const CALLS_MAX: usize = 64;
/// A tool that runs longer is reported on, this often.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(15);

impl Run<'_> {
    /// Runs all calls of a turn; a result for each, in order.
    pub(super) async fn act(&self, calls: &[ToolCall]) -> Result<Vec<Block>, Stop> {
        let effect = |call: &ToolCall| self.tools.find(&call.name).map_or(Effect::Reads, Tool::effect);
        let mut results = Vec::with_capacity(calls.len());
        let (calls, beyond) = calls.split_at(calls.len().min(CALLS_MAX));
        for batch in calls.chunk_by(|a, b| effect(a) == Effect::Reads && effect(b) == Effect::Reads) {
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
        Ok(results)
    }

    async fn one(&self, call: &ToolCall) -> Result<Block, Stop> {
        self.ctx.signals.check().await.or_stop()?;
        let max = self.work.preview_max;
        let shown = match &call.input {
            Ok(input) => preview::input(input, max),
            Err(error) => event::preview(error, max),
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
        let last_line = Mutex::new(String::new());
        let live = |text: &str| {
            let line = text.lines().rev().find(|line| !line.trim().is_empty());
            if let (Some(line), Ok(mut last)) = (line, last_line.lock()) {
                *last = event::preview(line, self.work.preview_max);
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
                    let last = last_line.lock().map(|last| last.clone()).unwrap_or_default();
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
