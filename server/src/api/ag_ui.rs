//! A task's events in the words of AG-UI (protocol 1.0), so that a stock client renders a run. Pure.
//!
//! One event becomes any number of frames, and what a frame opens (a message, a tool call) the same event closes: a
//! client that comes back by its cursor is never in the middle of something. The exception are steps, which are closed
//! only when they were opened in the same stream. Frames that have no counterpart are `CUSTOM`, named like the event.

use std::collections::VecDeque;

use domain::event::{Event, EventKind};
use serde_json::{Value, json};

/// The state of one translated stream.
#[derive(Debug)]
pub struct Run {
    thread: String,
    run: String,
    state: Value,
    phase: Phase,
    step: Option<String>,
    /// Tool calls without a result: name and id, the oldest first.
    calls: VecDeque<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Before,
    Open,
    /// Nothing may follow the end of a run.
    Over,
}

impl Run {
    /// A stream of the run `run` in the conversation `thread` that begins with this state.
    pub fn new(thread: String, run: String, state: Value) -> Run {
        Run { thread, run, state, phase: Phase::Before, step: None, calls: VecDeque::new() }
    }

    /// The state of a task of which nothing was told yet.
    pub fn blank() -> Value {
        state("SUBMITTED", None, None)
    }

    /// The frames of one event.
    pub fn on(&mut self, event: &Event) -> Vec<Value> {
        if self.phase == Phase::Over {
            return Vec::new();
        }
        let mut frames = Vec::new();
        if self.phase == Phase::Before {
            self.phase = Phase::Open;
            frames.push(json!({ "type": "RUN_STARTED", "threadId": self.thread, "runId": self.run }));
            frames.push(json!({ "type": "STATE_SNAPSHOT", "snapshot": self.state }));
        }
        self.translate(event, &mut frames);
        let at = event.at.as_millisecond();
        for frame in &mut frames {
            frame["timestamp"] = at.into();
        }
        frames
    }

    fn translate(&mut self, event: &Event, out: &mut Vec<Value>) {
        let data = &event.metadata;
        let text = |name: &str| data[name].as_str().unwrap_or_default();
        if let Some(status) = status(event.kind) {
            out.push(replace("/status", status.into()));
        }
        match event.kind {
            EventKind::AgentTurn => {
                let id = event.id.to_string();
                reasoning(&format!("{id}-r"), text("thinking_preview"), out);
                message(&id, text("text_preview"), out);
            }
            EventKind::AgentToolCall => {
                let (id, name) = (event.id.to_string(), text("tool_name").to_owned());
                call(&id, &name, text("tool_input_preview"), out);
                self.calls.push_back((name, id));
            }
            EventKind::AgentToolResult => {
                let name = text("tool_name");
                let open = self.calls.iter().position(|(open, _)| open == name);
                let id = match open.and_then(|at| self.calls.remove(at)) {
                    Some((_, id)) => id,
                    None => {
                        // Its call was told before this stream began.
                        let id = format!("{}-c", event.id);
                        call(&id, name, "", out);
                        id
                    }
                };
                out.push(json!({
                    "type": "TOOL_CALL_RESULT", "messageId": event.id.to_string(), "toolCallId": id,
                    "role": "tool", "content": text("content_preview"),
                }));
            }
            EventKind::AgentMilestone if text("milestone") == "stage_started" => {
                self.end_step(out);
                let step = if text("stage").is_empty() { "stage" } else { text("stage") };
                out.push(json!({ "type": "STEP_STARTED", "stepName": step }));
                self.step = Some(step.to_owned());
            }
            EventKind::AgentCostUpdate => {
                if data["cost_usd"].is_number() {
                    out.push(replace("/cost_usd", data["cost_usd"].clone()));
                }
                out.push(custom(event));
            }
            EventKind::PrCreated => {
                out.push(replace("/pr_url", data["pr_url"].clone()));
                out.push(custom(event));
            }
            EventKind::TaskCompleted | EventKind::TaskCancelled => {
                self.end_step(out);
                let outcome = if event.kind == EventKind::TaskCompleted { "success" } else { "cancelled" };
                out.push(json!({
                    "type": "RUN_FINISHED", "threadId": self.thread, "runId": self.run,
                    "result": data, "outcome": { "type": outcome },
                }));
                self.phase = Phase::Over;
            }
            EventKind::TaskFailed | EventKind::TaskTimedOut => {
                self.end_step(out);
                let words = [text("error_message"), text("title"), "the task failed"];
                let message = words.into_iter().find(|w| !w.is_empty());
                let mut frame = json!({ "type": "RUN_ERROR", "message": message });
                if data["error_code"].is_string() {
                    frame["code"] = data["error_code"].clone();
                }
                out.push(frame);
                self.phase = Phase::Over;
            }
            _other => out.push(custom(event)),
        }
    }

    fn end_step(&mut self, out: &mut Vec<Value>) {
        if let Some(step) = self.step.take() {
            out.push(json!({ "type": "STEP_FINISHED", "stepName": step }));
        }
    }
}

/// The state that a client keeps of a run.
pub fn state(status: &str, cost_usd: Option<f64>, pr_url: Option<&str>) -> Value {
    json!({ "status": status, "cost_usd": cost_usd, "pr_url": pr_url })
}

/// The state a task is in after an event, where it tells one.
fn status(kind: EventKind) -> Option<&'static str> {
    Some(match kind {
        EventKind::TaskCreated | EventKind::QueuePickup => "SUBMITTED",
        EventKind::AdmissionQueued | EventKind::AttemptLost | EventKind::TaskParked => "QUEUED",
        EventKind::HydrationStarted => "HYDRATING",
        EventKind::TaskRunning | EventKind::ApprovalClosed => "RUNNING",
        EventKind::ApprovalOpened => "AWAITING_APPROVAL",
        EventKind::ResultReceived => "FINALIZING",
        EventKind::TaskCompleted => "COMPLETED",
        EventKind::TaskFailed => "FAILED",
        EventKind::TaskCancelled => "CANCELLED",
        EventKind::TaskTimedOut => "TIMED_OUT",
        _other => return None,
    })
}

fn replace(path: &str, value: Value) -> Value {
    json!({ "type": "STATE_DELTA", "delta": [{ "op": "replace", "path": path, "value": value }] })
}

fn custom(event: &Event) -> Value {
    json!({ "type": "CUSTOM", "name": event.kind.as_str(), "value": event.metadata })
}

fn message(id: &str, text: &str, out: &mut Vec<Value>) {
    if !text.is_empty() {
        out.push(json!({ "type": "TEXT_MESSAGE_START", "messageId": id, "role": "assistant" }));
        out.push(json!({ "type": "TEXT_MESSAGE_CONTENT", "messageId": id, "delta": text }));
        out.push(json!({ "type": "TEXT_MESSAGE_END", "messageId": id }));
    }
}

fn reasoning(id: &str, text: &str, out: &mut Vec<Value>) {
    if !text.is_empty() {
        out.push(json!({ "type": "REASONING_START", "messageId": id }));
        out.push(json!({ "type": "REASONING_MESSAGE_START", "messageId": id, "role": "reasoning" }));
        out.push(json!({ "type": "REASONING_MESSAGE_CONTENT", "messageId": id, "delta": text }));
        out.push(json!({ "type": "REASONING_MESSAGE_END", "messageId": id }));
        out.push(json!({ "type": "REASONING_END", "messageId": id }));
    }
}

fn call(id: &str, name: &str, input: &str, out: &mut Vec<Value>) {
    let name = if name.is_empty() { "tool" } else { name };
    out.push(json!({ "type": "TOOL_CALL_START", "toolCallId": id, "toolCallName": name }));
    if !input.is_empty() {
        out.push(json!({ "type": "TOOL_CALL_ARGS", "toolCallId": id, "delta": input }));
    }
    out.push(json!({ "type": "TOOL_CALL_END", "toolCallId": id }));
}

#[cfg(test)]
mod tests {
    use domain::{EventId, TaskId};
    use jiff::Timestamp;

    use super::*;

    fn event(seq: u64, kind: EventKind, metadata: Value) -> Event {
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        Event { task: TaskId::from_bits(1), seq, id: EventId::from_bits(u128::from(seq)), kind, at, metadata }
    }

    fn run() -> Run {
        Run::new("t".into(), "r".into(), Run::blank())
    }

    fn kinds(frames: &[Value]) -> Vec<&str> {
        frames.iter().map(|f| f["type"].as_str().unwrap()).collect()
    }

    #[test]
    fn results_find_their_calls_in_order_and_one_without_brings_its_own() {
        let mut run = run();
        let say =
            |run: &mut Run, seq, kind, name: &str| run.on(&event(seq, kind, json!({ "tool_name": name })));
        let first = say(&mut run, 1, EventKind::AgentToolCall, "Bash");
        assert_eq!(kinds(&first), ["RUN_STARTED", "STATE_SNAPSHOT", "TOOL_CALL_START", "TOOL_CALL_END"]);
        let second = say(&mut run, 2, EventKind::AgentToolCall, "Bash");
        for (seq, call) in [(3, &first[2]), (4, &second[0])] {
            let result = say(&mut run, seq, EventKind::AgentToolResult, "Bash");
            assert_eq!(result[0]["toolCallId"], call["toolCallId"]);
        }
        let stray = say(&mut run, 5, EventKind::AgentToolResult, "Bash");
        assert_eq!(kinds(&stray), ["TOOL_CALL_START", "TOOL_CALL_END", "TOOL_CALL_RESULT"]);
    }

    #[test]
    fn steps_are_closed_before_the_end_and_nothing_follows_it() {
        let mut run = run();
        let stage = json!({ "milestone": "stage_started", "stage": "agent" });
        run.on(&event(1, EventKind::AgentMilestone, stage));
        let failed = json!({ "error_code": "MAX_TURNS", "error_message": "too many" });
        let end = run.on(&event(2, EventKind::TaskFailed, failed));
        assert_eq!(kinds(&end), ["STATE_DELTA", "STEP_FINISHED", "RUN_ERROR"]);
        assert_eq!((&end[2]["code"], &end[2]["message"]), (&"MAX_TURNS".into(), &"too many".into()));
        assert!(run.on(&event(3, EventKind::SessionAttached, json!({}))).is_empty());
    }

    #[test]
    fn every_kind_is_told_somehow() {
        for &kind in EventKind::ALL {
            assert!(!run().on(&event(1, kind, json!({ "milestone": "x", "tool_name": "t" }))).is_empty());
        }
    }
}
