//! What the log of a task says about its work so far, in words: for whoever carries the work on, and for whoever asks when
//! no agent is at work. Pure, and short whatever the log holds.

use domain::event::{Event, EventKind, preview};
use domain::{State, Task, limit};
use serde_json::Value;

/// Events of a log that are looked at, the newest.
pub(crate) const LOOK_BACK: u32 = 400;
/// Tool calls that are told.
const CALLS: usize = 12;
/// Words of the agent that are told.
const WORDS: usize = 3;

/// The work, as the log tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    turns: u64,
    words: Vec<String>,
    calls: Vec<String>,
    todos: Vec<String>,
    milestone: Option<String>,
}

impl History {
    /// Of these events, the oldest first.
    pub fn of(events: &[Event]) -> History {
        let mut told = History::default();
        for event in events {
            told.take(event);
        }
        told.words.drain(..told.words.len().saturating_sub(WORDS));
        told.calls.drain(..told.calls.len().saturating_sub(CALLS));
        told
    }

    fn take(&mut self, event: &Event) {
        let text = |name: &str| event.metadata.get(name).and_then(Value::as_str).unwrap_or_default();
        match event.kind {
            EventKind::AgentTurn => {
                self.turns = event.metadata["turn"].as_u64().unwrap_or(self.turns);
                let words = text("text_preview").trim();
                if !words.is_empty() {
                    self.words.push(words.to_owned());
                }
            }
            EventKind::AgentToolCall => {
                self.calls.push(format!("{} {}", text("tool_name"), text("tool_input_preview")));
            }
            EventKind::AgentToolResult if event.metadata["is_error"] == true => {
                if let Some(call) = self.calls.last_mut() {
                    call.push_str(&format!(" -> failed: {}", text("content_preview")));
                }
            }
            EventKind::AgentMilestone => match text("milestone") {
                "todo_list" => {
                    let todos = event.metadata["todos"].as_array().map(Vec::as_slice).unwrap_or_default();
                    let line = |t: &Value| {
                        let text = |name: &str| t[name].as_str().unwrap_or_default().to_owned();
                        format!("[{}] {}", text("status"), text("content"))
                    };
                    self.todos = todos.iter().map(line).collect();
                }
                "stage_started" | "tool_running" | "model_retry" | "box_ready" => (),
                name => self.milestone = Some(name.to_owned()),
            },
            _ => (),
        }
    }

    /// What was done, for an agent that goes on with it; empty when there is nothing to tell.
    pub fn work(&self) -> String {
        let mut parts = Vec::new();
        if self.turns > 0 {
            parts.push(format!("It took {} turns.", self.turns));
        }
        for (title, lines) in [
            ("Its list of steps:", &self.todos),
            ("Its last words:", &self.words),
            ("Its last tool calls:", &self.calls),
        ] {
            if !lines.is_empty() {
                let lines: Vec<String> = lines
                    .iter()
                    .map(|l| format!("- {}", preview(l, limit::PREVIEW_TRACE_MAX_CHARS)))
                    .collect();
                parts.push(format!("{title}\n{}", lines.join("\n")));
            }
        }
        preview(&parts.join("\n\n"), HISTORY_MAX_CHARS)
    }

    /// How a task stands, for a person: the same words for the same record.
    pub fn answer(&self, task: &Task) -> String {
        let mut said = vec![format!(
            "No agent is at work on this task now, so this is read from its record. {}",
            standing(task)
        )];
        if let Some(words) = self.words.last() {
            said.push(format!("The agent's last words: {words}"));
        }
        if let Some(milestone) = &self.milestone {
            said.push(format!("Last milestone: {milestone}."));
        }
        if self.turns > 0 {
            said.push(format!("Turns so far: {}.", self.turns));
        }
        if let Some(url) = &task.results.pr_url {
            said.push(format!("Pull request: {url}"));
        }
        preview(&said.join("\n"), limit::ASK_ANSWER_MAX_CHARS)
    }
}

/// Characters of a history in a prompt.
const HISTORY_MAX_CHARS: usize = 12_000;

fn standing(task: &Task) -> String {
    let status = task.status();
    match &task.state {
        State::Queued { why, not_before, .. } => {
            let when = not_before.map(|at| format!(", not before {at:.0}")).unwrap_or_default();
            format!("It is {status} ({}{when}).", why.as_str())
        }
        State::Failed { failure, .. } | State::TimedOut { failure, .. } => {
            format!("It is {status}: {failure} {}", failure.classify().remedy)
        }
        State::Cancelled { by, .. } => format!("It is {status}, by {by}."),
        State::Finalizing { .. } => {
            format!("It is {status}: the box has reported, and what it pushed is being delivered.")
        }
        State::Running { .. } => format!("It is {status}: the agent has ended, its work is being verified."),
        State::PendingUploads { .. }
        | State::Submitted { .. }
        | State::Hydrating { .. }
        | State::AwaitingApproval { .. }
        | State::Completed { .. } => format!("It is {status}."),
    }
}

#[cfg(test)]
mod tests {
    use domain::{EventId, TaskId};
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    fn event(kind: EventKind, metadata: Value) -> Event {
        let (task, id) = (TaskId::from_bits(1), EventId::from_bits(1));
        Event { task, seq: 1, id, kind, at: Timestamp::UNIX_EPOCH, metadata }
    }

    #[test]
    fn the_last_of_the_work_is_told() {
        let mut log: Vec<Event> = (1..=20)
            .map(|n| {
                let input = format!("step {n}");
                event(EventKind::AgentToolCall, json!({ "tool_name": "Bash", "tool_input_preview": input }))
            })
            .collect();
        log.push(event(
            EventKind::AgentToolResult,
            json!({ "is_error": true, "content_preview": "no such file" }),
        ));
        log.push(event(EventKind::AgentTurn, json!({ "turn": 7, "text_preview": "I look at the parser." })));
        let todos = json!([{ "status": "in_progress", "content": "mend the parser" }]);
        log.push(event(EventKind::AgentMilestone, json!({ "milestone": "todo_list", "todos": todos })));
        let work = History::of(&log).work();
        for told in [
            "It took 7 turns.",
            "[in_progress] mend the parser",
            "I look at the parser.",
            "Bash step 20 -> failed: no such file",
            "Bash step 9",
        ] {
            assert!(work.contains(told), "{told} in {work}");
        }
        assert!(!work.contains("step 8\n"), "{work}");
        assert_eq!(History::of(&[]).work(), "");
    }
}
