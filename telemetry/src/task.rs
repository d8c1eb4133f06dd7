//! The spans of a task, made from its record when it has ended: who made the record, and how often the server was
//! restarted meanwhile, changes nothing in them. Pure.
//!
//! ```text
//! task
//! ├─ admission · queue · preflight · dispatch · session_start
//! ├─ task.pipeline                       what the box did
//! │  ├─ repo_setup · context_hydration
//! │  ├─ agent_execution
//! │  │  ├─ chat MODEL                    told as it happens, by the gateway (`gen_ai`)
//! │  │  └─ execute_tool NAME
//! │  └─ post_hooks
//! │     └─ commit · push · verify
//! └─ finish
//! ```
//!
//! A box tells no time: its events have the time at which they were stored, and a tool the length it says it had. Nothing
//! of what was said is in a span, unless that is asked for.

use std::time::Duration;

use domain::event::{Event, EventKind};
use domain::{Attempt, Task};
use jiff::Timestamp;
use serde_json::Value as Json;

use crate::id::{SpanId, TraceId};
use crate::span::{Kind, Moment, Span};
use crate::traces::Content;

/// The root span.
pub const ROOT: &str = "task";
/// The box's work on an attempt.
pub const PIPELINE: &str = "task.pipeline";
/// The agent's part of it: what model calls and tools belong to.
pub const AGENT: &str = "agent_execution";
/// What follows the agent.
pub const AFTER: &str = "post_hooks";
/// Events of one task that are looked at.
pub const EVENTS_MAX: usize = 20_000;
/// Things that happened, on the root span.
const MOMENTS_MAX: usize = 128;

/// All spans of a task that has ended, but for its model calls, the root first. `events` are its first [`EVENTS_MAX`], in
/// order.
pub fn spans(task: &Task, events: &[Event], content: Content) -> Vec<Span> {
    let mut walk = Walk::new(task, content);
    for event in events {
        walk.take(event);
    }
    walk.end(events.len() >= EVENTS_MAX)
}

struct Walk<'a> {
    task: &'a Task,
    content: Content,
    attempt: Attempt,
    open: Vec<Span>,
    calls: Vec<Call>,
    done: Vec<Span>,
    root: Span,
    last: Timestamp,
}

/// A tool that runs.
struct Call {
    seq: u64,
    turn: Option<u64>,
    tool: String,
    at: Timestamp,
    input: Option<String>,
}

/// What a step is a part of: none is the root.
fn above(name: &str) -> Option<&'static str> {
    match name {
        "repo_setup" | "context_hydration" | AGENT | AFTER => Some(PIPELINE),
        "commit" | "push" | "verify" => Some(AFTER),
        _ => None,
    }
}

impl<'a> Walk<'a> {
    fn new(task: &'a Task, content: Content) -> Walk<'a> {
        let mut root = Span {
            trace: TraceId::of_task(task.id),
            id: SpanId::root(task.id),
            parent: None,
            name: ROOT.into(),
            kind: Kind::Internal,
            start: task.created_at,
            end: task.completed_at.unwrap_or(task.updated_at),
            attributes: Vec::new(),
            moments: Vec::new(),
            links: Vec::new(),
            error: None,
        };
        root.set("bgagent.task.id", task.id.to_string());
        root.set("bgagent.repo", task.spec.repo.to_string());
        root.set("user.id", task.user.as_str());
        root.set("bgagent.channel", task.channel.as_str());
        root.set("bgagent.workflow", task.spec.workflow.as_str());
        Walk {
            task,
            content,
            attempt: Attempt(0),
            open: Vec::new(),
            calls: Vec::new(),
            done: Vec::new(),
            root,
            last: task.created_at,
        }
    }

    fn take(&mut self, event: &Event) {
        let (at, seq) = (event.at, event.seq);
        self.last = self.last.max(at);
        let text = |name: &str| event.metadata[name].as_str();
        match event.kind {
            EventKind::TaskCreated => self.begin("admission", at, seq),
            EventKind::AdmissionQueued => {
                self.close("admission", at);
                self.begin("queue", at, seq);
            }
            EventKind::QueuePickup => self.close("queue", at),
            EventKind::HydrationStarted => {
                self.close_all(at, None);
                self.attempt = attempt_of(event).unwrap_or(Attempt(self.attempt.0 + 1));
                self.begin("preflight", at, seq);
            }
            EventKind::PreflightPassed => {
                self.close("preflight", at);
                self.begin("dispatch", at, seq);
            }
            EventKind::PreflightFailed => {
                let code = text("reason").unwrap_or("preflight_failed").to_owned();
                self.fail("preflight", at, &code);
            }
            EventKind::SessionStarted => {
                let known = [
                    ("bgagent.isolation", "isolation"),
                    ("bgagent.backend", "strategy_type"),
                    ("session.id", "session_id"),
                ];
                if let Some(span) = self.open.iter_mut().find(|s| s.name == "dispatch") {
                    known.iter().for_each(|(key, field)| span.set_some(key, text(field)));
                }
                self.close("dispatch", at);
                // A box may call in before its start is recorded.
                if !self.knows(PIPELINE) {
                    self.begin("session_start", at, seq);
                }
            }
            EventKind::SessionAttached => {
                self.close("session_start", at);
                self.begin_in_box(PIPELINE, at);
            }
            EventKind::TaskRunning => self.begin_agent(at),
            EventKind::AgentMilestone => match text("milestone").unwrap_or_default() {
                "stage_started" => self.stage(text("stage").unwrap_or_default(), at),
                "repo_setup_complete" => {
                    self.close("repo_setup", at);
                    // That the agent runs is told by another way, and may come first.
                    let runs_since = self.open.iter().find(|span| span.name == AGENT).map(|span| span.start);
                    self.begin_in_box("context_hydration", runs_since.unwrap_or(at));
                    if let Some(since) = runs_since {
                        self.close("context_hydration", since);
                    }
                }
                "agent_execution_complete" => self.end_agent(at, None),
                "branch_pushed" => self.close("push", at),
                _ => (),
            },
            EventKind::AgentToolCall => self.calls.push(Call {
                seq,
                turn: event.metadata["turn"].as_u64(),
                tool: text("tool_name").unwrap_or("unknown").to_owned(),
                at,
                input: text("tool_input_preview").map(str::to_owned),
            }),
            EventKind::AgentToolResult => self.tool(event),
            EventKind::ResultReceived => {
                self.close_all(at, None);
                self.begin("finish", at, seq);
            }
            EventKind::AttemptLost => {
                let code = text("error_code").unwrap_or("lost").to_owned();
                self.close_all(at, Some(&code));
                self.begin("queue", at, seq);
            }
            EventKind::TaskParked => {
                self.close_all(at, None);
                self.begin("queue", at, seq);
            }
            EventKind::TaskFailed | EventKind::TaskTimedOut => {
                let code = text("error_code").unwrap_or("failed").to_owned();
                self.close_all(at, Some(&code));
            }
            EventKind::TaskCompleted | EventKind::TaskCancelled => self.close_all(at, None),
            EventKind::PreflightWarning
            | EventKind::SessionStartRetry
            | EventKind::LeaveRequested
            | EventKind::ApprovalOpened
            | EventKind::ApprovalClosed
            | EventKind::TaskResumed
            | EventKind::PrCreated
            | EventKind::AgentError
            | EventKind::AgentBlocked
            | EventKind::LimitReached
            | EventKind::ModelWaiting
            | EventKind::BudgetExceeded
            | EventKind::BudgetWarning
            | EventKind::ScreeningWarned
            | EventKind::GuardrailBlocked
            | EventKind::AttachmentBlocked
            | EventKind::EventsDropped
            | EventKind::EgressDenied
            | EventKind::PushRefused => self.moment(event),
            _ => (),
        }
    }

    /// The worker enters a stage.
    fn stage(&mut self, stage: &str, at: Timestamp) {
        match stage {
            "repo" => self.begin_in_box("repo_setup", at),
            "agent" => self.begin_agent(at),
            "commit" | "push" | "verify" => {
                self.close_setup(at);
                self.end_agent(at, None);
                self.begin_in_box(AFTER, at);
                for before in ["commit", "push", "verify"] {
                    self.close(before, at);
                }
                let name = ["commit", "push", "verify"].into_iter().find(|name| *name == stage);
                name.into_iter().for_each(|name| self.begin_in_box(name, at));
            }
            "result" => self.close_under(AFTER, at, None),
            // `attach` is the beginning of the pipeline; `baseline` runs beside the agent and has no end of its own.
            _ => (),
        }
    }

    fn begin_agent(&mut self, at: Timestamp) {
        self.close_setup(at);
        self.begin_in_box(AGENT, at);
    }

    fn close_setup(&mut self, at: Timestamp) {
        self.close("repo_setup", at);
        self.close("context_hydration", at);
    }

    /// A tool has run. Its start is computed from the length the worker says it had.
    fn tool(&mut self, event: &Event) {
        let turn = event.metadata["turn"].as_u64();
        let tool = event.metadata["tool_name"].as_str().unwrap_or("unknown");
        let place = self.calls.iter().position(|call| call.turn == turn && call.tool == tool);
        let call = place.map(|place| self.calls.remove(place));
        let took = Duration::from_millis(event.metadata["duration_ms"].as_u64().unwrap_or(0));
        let start = event.at.checked_sub(took).unwrap_or(event.at);
        self.begin_in_box(AGENT, start);
        let mut span =
            self.tool_span(tool, turn, call.as_ref().map_or(event.seq, |call| call.seq), start, event.at);
        if event.metadata["is_error"] == Json::Bool(true) {
            span.fail("tool_error");
        }
        if self.content == Content::Told {
            span.set_some("gen_ai.tool.call.arguments", call.and_then(|call| call.input));
            span.set_some("gen_ai.tool.call.result", event.metadata["content_preview"].as_str());
        }
        self.done.push(span);
    }

    fn tool_span(&self, tool: &str, turn: Option<u64>, seq: u64, start: Timestamp, end: Timestamp) -> Span {
        let mut span = self.span(format!("execute_tool {tool}"), start);
        span.id = SpanId::step(self.task.id, self.attempt, "execute_tool", &seq.to_string());
        span.parent = Some(SpanId::step(self.task.id, self.attempt, AGENT, ""));
        let agent = self.open.iter().find(|s| s.name == AGENT).map_or(start, |agent| agent.start);
        span.start = start.max(agent);
        span.end = end.max(span.start);
        span.set("gen_ai.operation.name", "execute_tool");
        span.set("gen_ai.tool.name", tool);
        span.set("gen_ai.tool.type", "function");
        span.set("gen_ai.conversation.id", self.task.id.to_string());
        span.set_some("bgagent.turn", turn);
        span.set("bgagent.attempt", self.attempt.0);
        span
    }

    /// A span that is open from now on. `seq` tells apart what may come more than once in an attempt.
    fn begin(&mut self, name: &'static str, at: Timestamp, seq: u64) {
        if self.open.iter().any(|span| span.name == name) {
            return;
        }
        let key = if seq == 0 { String::new() } else { seq.to_string() };
        let mut span = self.span(name.into(), at);
        span.id = SpanId::step(self.task.id, self.attempt, name, &key);
        span.parent = Some(match above(name) {
            Some(above) => SpanId::step(self.task.id, self.attempt, above, ""),
            None => SpanId::root(self.task.id),
        });
        if self.attempt.0 > 0 {
            span.set("bgagent.attempt", self.attempt.0);
        }
        if name == AGENT {
            span.set("gen_ai.operation.name", "invoke_agent");
            span.set("gen_ai.agent.name", "bgagent");
            span.set("gen_ai.conversation.id", self.task.id.to_string());
            span.set_some("gen_ai.request.model", self.task.results.model.as_deref());
        }
        self.open.push(span);
    }

    /// The same for a step of the box, which comes once in an attempt, after what it is a part of.
    fn begin_in_box(&mut self, name: &'static str, at: Timestamp) {
        if let Some(above) = above(name) {
            self.begin_in_box(above, at);
        }
        if !self.knows(name) {
            self.begin(name, at, 0);
        }
    }

    /// Whether this attempt has, or had, a step that comes once.
    fn knows(&self, name: &str) -> bool {
        let id = SpanId::step(self.task.id, self.attempt, name, "");
        self.open.iter().chain(&self.done).any(|span| span.id == id)
    }

    fn span(&self, name: String, at: Timestamp) -> Span {
        Span {
            trace: self.root.trace,
            id: self.root.id,
            parent: None,
            name,
            kind: Kind::Internal,
            start: at,
            end: at,
            attributes: Vec::new(),
            moments: Vec::new(),
            links: Vec::new(),
            error: None,
        }
    }

    fn close(&mut self, name: &str, at: Timestamp) {
        if let Some(place) = self.open.iter().position(|span| span.name == name) {
            let mut span = self.open.remove(place);
            span.end = at.max(span.start);
            self.done.push(span);
        }
    }

    fn fail(&mut self, name: &str, at: Timestamp, kind: &str) {
        if let Some(span) = self.open.iter_mut().find(|span| span.name == name) {
            span.fail(kind);
        }
        self.close(name, at);
    }

    /// Closes a step and its parts; what fails is the innermost that was open.
    fn close_under(&mut self, name: &str, at: Timestamp, error: Option<&str>) {
        let parts: Vec<String> =
            self.open.iter().filter(|s| above(&s.name) == Some(name)).map(|s| s.name.clone()).collect();
        for part in &parts {
            if let Some(error) = error {
                self.fail(part, at, error);
            }
            self.close(part, at);
        }
        match error {
            Some(error) => self.fail(name, at, error),
            None => self.close(name, at),
        }
    }

    /// The agent is over: a tool that has not answered by now never does.
    fn end_agent(&mut self, at: Timestamp, error: Option<&str>) {
        for call in std::mem::take(&mut self.calls) {
            self.begin_in_box(AGENT, call.at);
            let mut span = self.tool_span(&call.tool, call.turn, call.seq, call.at, at);
            span.fail("no_result");
            self.done.push(span);
        }
        self.close_under(AGENT, at, error);
    }

    /// Everything is over, and with an error all that was open has failed.
    fn close_all(&mut self, at: Timestamp, error: Option<&str>) {
        self.end_agent(at, error);
        self.close_under(AFTER, at, error);
        self.close_under(PIPELINE, at, error);
        while let Some(name) = self.open.first().map(|span| span.name.clone()) {
            match error {
                Some(error) => self.fail(&name, at, error),
                None => self.close(&name, at),
            }
        }
    }

    fn moment(&mut self, event: &Event) {
        if self.root.moments.len() < MOMENTS_MAX {
            self.root.moments.push(Moment { name: event.kind.as_str(), at: event.at });
        }
    }

    fn end(mut self, cut: bool) -> Vec<Span> {
        let task = self.task;
        let end = self.root.end.max(self.last.min(task.completed_at.unwrap_or(self.last)));
        self.close_all(end, None);
        let root = &mut self.root;
        root.end = end.max(root.start);
        root.set("bgagent.status", task.status().as_str());
        root.set("bgagent.attempts", task.attempt.0);
        root.set_some("bgagent.model", task.results.model.as_deref());
        root.set_some("bgagent.turns", task.results.turns_completed);
        let spent = &task.spent;
        if spent.calls > 0 {
            root.set("bgagent.model_calls", spent.calls);
            root.set("bgagent.input_tokens", spent.tokens.context());
            root.set("bgagent.output_tokens", spent.tokens.output);
        }
        if spent.calls > spent.unpriced_calls {
            root.set("bgagent.cost_usd", spent.cost.usd());
        }
        // The address of a local branch holds the branch's name, which is made of the description's words.
        let url = task.results.pr_url.as_deref().filter(|url| url.starts_with("http"));
        root.set_some("bgagent.pull_request.url", url);
        if cut {
            root.set("bgagent.events_cut", true);
        }
        if let Some(failure) = task.state.failure() {
            root.fail(failure.code.as_str());
        }
        self.done.push(self.root);
        // The outermost first: of more than the queue takes, the inner ones are missed least.
        self.done.reverse();
        self.done
    }
}

fn attempt_of(event: &Event) -> Option<Attempt> {
    event.metadata["attempt"].as_u64().and_then(|n| u32::try_from(n).ok()).map(Attempt)
}

#[cfg(test)]
mod tests;
