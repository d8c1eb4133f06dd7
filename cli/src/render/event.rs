//! One event as `bgagent watch` shows it: lines with the time before them.

use domain::EventKind;
use protocol::rest::{EventRecord, TaskDetail};
use serde_json::Value;

use super::{MISSING, View, dollars, status, time, wrap};
use crate::clean;

/// Columns of `[14:03:59] `.
const STAMP: usize = 11;

/// The event in one or more lines.
pub fn event(event: &EventRecord, view: &View) -> String {
    let at = time::clock(&event.timestamp, &view.zone);
    let show = Show { stamp: format!("[{at}]"), data: &event.metadata, view };
    match EventKind::from_wire(&event.event_type) {
        Some(kind) => show.known(kind),
        None => {
            let data = clean::json(&event.metadata).unwrap_or_default();
            show.said("·", &format!("{} {data}", clean::line(&event.event_type)))
        }
    }
}

/// The last line of a watch: `Task <id> failed. timeout: Exceeded max turns — ...`.
pub fn ended(task: &TaskDetail) -> String {
    let reason = status::reason(task).map(|r| format!(" {r}")).unwrap_or_default();
    let (id, word) = (clean::line(&task.task_id), status::word(task));
    let look = match (task.status.as_str(), &task.pr_url) {
        ("COMPLETED", Some(_)) => format!("\nLook at it with: bgagent pr show {id}"),
        _ => String::new(),
    };
    format!("Task {id} {word}.{reason}{look}")
}

struct Show<'a> {
    stamp: String,
    data: &'a Value,
    view: &'a View,
}

impl Show<'_> {
    fn known(&self, kind: EventKind) -> String {
        let paint = self.view.paint;
        match kind {
            EventKind::TaskCreated => self.said("·", &format!("Task created{}", self.word(" for ", "repo"))),
            EventKind::UploadsConfirmed => self.said("·", "Attachments are there"),
            EventKind::AttachmentBlocked => {
                self.trouble(&format!("{}{}", self.text("filename"), self.word(": ", "reason")))
            }
            EventKind::AttachmentsFetched => {
                self.said("·", &format!("Attachments fetched{}", self.word(": ", "attachment_count")))
            }
            EventKind::PendingUploadExpired => self.trouble("Attachments were not confirmed in time"),
            EventKind::AdmissionQueued => self.said("·", &format!("Queued{}", self.word(": ", "reason"))),
            EventKind::QueuePickup => {
                let waited = self.number("queued_for_s").map(|s| time::duration(s as i64));
                self.said("·", &format!("Left the queue after {}", waited.unwrap_or_else(|| MISSING.into())))
            }
            EventKind::PreflightPassed => {
                self.said("·", &format!("Checks passed{}", self.word(", starting from ", "base_branch")))
            }
            EventKind::PreflightWarning => self.warned(&self.text("detail")),
            EventKind::PreflightFailed => {
                self.trouble(&format!("{}{}", self.text("reason"), self.word(": ", "detail")))
            }
            EventKind::HydrationStarted => {
                self.said("·", &format!("Preparing{}", self.word(", attempt ", "attempt")))
            }
            EventKind::SessionStartRetry => {
                self.warned(&format!("The box could not be started, trying again: {}", self.text("reason")))
            }
            EventKind::SessionStarted => {
                let line = format!("Box started{}", self.word(", isolation ", "isolation"));
                self.with(self.said("·", &line), "isolation_note", "")
            }
            EventKind::SessionAttached => self.said("·", "Worker called in"),
            EventKind::TaskRunning => self.said("·", "Agent at work"),
            EventKind::ApprovalOpened => {
                let asked = format!(
                    "approval_opened request_id={}{}",
                    self.text("request_id"),
                    self.word(" until ", "until")
                );
                self.mark(&paint.yellow("★"), &asked)
            }
            EventKind::ApprovalClosed => {
                self.mark("★", &format!("approval_closed request_id={}", self.text("request_id")))
            }
            EventKind::AttemptLost => {
                let again = self.word(", the next one begins at ", "not_before");
                let work = self.word("; work so far is saved at ", "head_sha");
                let which = self.number("attempt").map(|n| format!(" of attempt {n}")).unwrap_or_default();
                self.warned(&format!("The box{which} was lost{}{work}{again}", self.word(": ", "detail")))
            }
            EventKind::TaskParked => {
                let until = self.word(" until ", "not_before");
                let work = self.word("; work so far is saved at ", "head_sha");
                let detail = self.word("; ", "detail");
                self.said("·", &format!("Parked{}{until}{detail}{work}", self.word(": ", "why")))
            }
            EventKind::TaskResumed => self
                .said("·", &format!("Resumed{}{}", self.word(" by ", "by"), self.word(" after: ", "after"))),
            EventKind::LeaveRequested => {
                let asked = format!("The agent saves its work and leaves{}", self.word(": ", "order"));
                self.mark(&paint.yellow("■"), &format!("{asked}{}", self.word(" by ", "by")))
            }
            EventKind::AskOpened => self.mark("?", &format!("Asked: {}", self.text("question_preview"))),
            EventKind::AskAnswered => {
                let from = if self.text("source") == "record" { " (from the record)" } else { "" };
                self.mark("!", &format!("Answered{from}: {}", self.text("answer_preview")))
            }
            EventKind::ResultReceived => {
                let said = format!(
                    "Work reported{}{}{}",
                    self.word(": agent ", "agent_status"),
                    self.gate(", build ", "build"),
                    self.gate(", lint ", "lint")
                );
                self.said("·", &said)
            }
            EventKind::PrCreated => {
                self.mark(&paint.green("★"), &format!("Pull request {}", self.text("pr_url")))
            }
            EventKind::TaskCompleted => {
                let done = self.mark(&paint.green("✔"), &paint.green("Completed"));
                self.with(done, "warning", "! ")
            }
            EventKind::TaskFailed => self.failed("Failed"),
            EventKind::TaskTimedOut => self.failed("Timed out"),
            EventKind::TaskCancelled => {
                let work = format!(
                    "{}{}",
                    self.word("; work so far is on ", "branch"),
                    self.word(" at ", "head_sha")
                );
                let by = self.word(" by ", "cancelled_by");
                self.mark(&paint.yellow("■"), &format!("Cancelled{by}{work}"))
            }
            EventKind::HydrationComplete => {
                let tokens =
                    self.number("token_estimate").map(|n| format!(", about {n} tokens")).unwrap_or_default();
                self.said("·", &format!("Context gathered{tokens}"))
            }
            EventKind::AgentTurn => self.turn(),
            EventKind::AgentToolCall => {
                let head = format!("  {} {}: ", paint.cyan("▶"), self.text("tool_name"));
                self.line(&head, &self.text("tool_input_preview"))
            }
            EventKind::AgentToolResult => self.tool_result(),
            EventKind::AgentCostUpdate => self.cost(),
            EventKind::AgentMilestone => self.milestone(),
            EventKind::AgentError => match self.data.get("error_type") {
                Some(_) => {
                    self.trouble(&format!("{}: {}", self.text("error_type"), self.text("message_preview")))
                }
                None => self.trouble(&self.text("error")),
            },
            EventKind::AgentBlocked => {
                let place = self.word(" [", "resource");
                let place = if place.is_empty() { place } else { format!("{place}]") };
                let what = format!("BLOCKED ({}){place}: {}", self.text("kind"), self.text("detail"));
                self.with(self.mark("⛔", &paint.red(&what)), "remediation_hint", "↳ ")
            }
            EventKind::LimitReached => self.warned(&self.text("detail")),
            EventKind::ModelWaiting => {
                let seconds = self.data["retry_in_s"].as_f64().or(self.data["seconds"].as_f64());
                let wait = seconds.map(|s| format!(", going on in {}", time::duration(s.ceil() as i64)));
                let status = self.word(" (HTTP ", "http_status");
                let status = if status.is_empty() { status } else { format!("{status})") };
                self.warned(&format!("The model provider asks to wait{status}{}", wait.unwrap_or_default()))
            }
            EventKind::ScreeningWarned => {
                self.warned(&format!("Screening of the {}: {}", self.text("source"), self.text("reason")))
            }
            EventKind::GuardrailBlocked => self.mark(
                "⛔",
                &paint.red(&format!(
                    "Guardrail blocked the {}: {}",
                    self.text("source"),
                    self.text("reason")
                )),
            ),
            EventKind::BudgetWarning => {
                let of = self.data["budget_usd"].as_f64().map(|b| format!(" ({})", dollars(b)));
                let spent = self.data["cost_usd"].as_f64().map(dollars).unwrap_or_default();
                self.warned(&format!(
                    "The budget of {}{} is nearly used up, {spent} spent",
                    self.payer(),
                    of.unwrap_or_default()
                ))
            }
            EventKind::BudgetExceeded => {
                let budget = self.data["budget_usd"].as_f64().map(|b| format!(" ({})", dollars(b)));
                let spent = self.data["spent_usd"].as_f64().or(self.data["cost_usd"].as_f64());
                let spent = spent.map(|s| format!(", {} spent", dollars(s))).unwrap_or_default();
                self.warned(&format!(
                    "The budget of {}{} is used up{spent}",
                    self.payer(),
                    budget.unwrap_or_default()
                ))
            }
            EventKind::PushRefused => self.warned(&format!("A push was refused: {}", self.text("reason"))),
            EventKind::EventsDropped => self.warned(&format!(
                "Further events of this attempt are not stored{}",
                self.word(": ", "reason")
            )),
            EventKind::EgressAllowed => {
                self.said("↗", &format!("Network: {}{}", self.place(), self.word(", allowed by ", "rule")))
            }
            EventKind::EgressObserved => {
                self.warned(&format!("Network: {}, which no rule allows", self.place()))
            }
            EventKind::EgressDenied if self.text("reason") == "more" => {
                self.warned("Network: further refusals are not told one by one")
            }
            EventKind::EgressDenied => {
                let setting = match self.text("reason").as_str() {
                    "private_address" | "local_name" => "egress.private",
                    _other => "egress.allow",
                };
                let cure = self.word(&format!("; {setting} would allow it with "), "rule");
                self.warned(&format!(
                    "Network: {} was refused{}{cure}",
                    self.place(),
                    self.word(": ", "reason")
                ))
            }
        }
    }

    fn turn(&self) -> String {
        let tools = match self.number("tool_calls_count") {
            Some(1) => ", 1 tool call".into(),
            Some(n) => format!(", {n} tool calls"),
            None => String::new(),
        };
        let head = format!("Turn #{} ({}{tools})", self.text("turn"), self.text("model"));
        let mut out = format!("{} {}", self.dim_stamp(), self.view.paint.bold(&head));
        for (name, label) in [("thinking_preview", "Thinking: "), ("text_preview", "Text: ")] {
            let text = self.text(name);
            if !text.is_empty() && text != MISSING {
                let head = format!("{:STAMP$}{label}", "");
                out.push('\n');
                out.push_str(&wrap::hanging(&head, &text, STAMP + 2, self.view.width));
            }
        }
        out
    }

    fn tool_result(&self) -> String {
        let paint = self.view.paint;
        let failed = self.data["is_error"].as_bool().unwrap_or(false);
        let (mark, note) = if failed { (paint.red("◀"), " [ERROR]") } else { (paint.cyan("◀"), "") };
        let slow = self.number("duration_ms").filter(|ms| *ms >= 1_000);
        let slow = slow.map(|ms| format!(" ({})", time::duration((ms / 1_000) as i64))).unwrap_or_default();
        let head = format!("  {mark} {}{note}{slow}: ", self.text("tool_name"));
        self.line(&head, &self.text("content_preview"))
    }

    fn cost(&self) -> String {
        let cost = self.data["cost_usd"].as_f64().or(self.data["call_cost_usd"].as_f64());
        let cost = cost.map_or_else(|| "no price".into(), |usd| format!("${usd:.4}"));
        let (input, output) = (self.text("input_tokens"), self.text("output_tokens"));
        let text = format!("Cost: {cost} ({input} in / {output} out tokens)");
        format!("{} {}", self.dim_stamp(), self.view.paint.dim(&text))
    }

    fn milestone(&self) -> String {
        let name = self.text("milestone");
        let mut text = match &self.data["details"] {
            Value::String(details) => clean::line(details),
            _ => String::new(),
        };
        if text.is_empty() {
            let fields = self.data.as_object().into_iter().flatten();
            let shown = fields.filter(|(key, _)| !matches!(key.as_str(), "milestone" | "turn"));
            text = shown
                .map(|(key, value)| format!("{}={}", clean::line(key), plain(value)))
                .collect::<Vec<_>>()
                .join(" ");
        }
        match name.as_str() {
            "tool_running" | "todo_list" => self.said("·", &text),
            "stage_started" => self.said("·", &format!("Stage {}", self.text("stage"))),
            _ => self.line(&format!("{} {name} ", self.view.paint.cyan("★")), &text),
        }
    }

    fn failed(&self, word: &str) -> String {
        let paint = self.view.paint;
        let what = format!("{word}{}{}", self.word(": ", "title"), self.word(" — ", "error_message"));
        self.with(self.mark(&paint.red("✖"), &paint.red(&what)), "remedy", "↳ ")
    }

    /// What came of a check of the work.
    fn gate(&self, before: &str, name: &str) -> String {
        match self.data[name].as_str() {
            Some("inert") => format!("{before}not checked"),
            Some(_) | None => self.word(before, name),
        }
    }

    /// What is of little weight.
    fn said(&self, mark: &str, text: &str) -> String {
        self.line(&format!("{} ", self.view.paint.dim(mark)), text)
    }

    fn warned(&self, text: &str) -> String {
        self.mark(&self.view.paint.yellow("!"), text)
    }

    fn trouble(&self, text: &str) -> String {
        self.mark(&self.view.paint.red("✖"), text)
    }

    fn mark(&self, mark: &str, text: &str) -> String {
        self.line(&format!("{mark} "), text)
    }

    fn line(&self, head: &str, text: &str) -> String {
        wrap::hanging(&format!("{} {head}", self.dim_stamp()), text, STAMP + 4, self.view.width)
    }

    /// One more line with the field `name`, when it is there.
    fn with(&self, mut lines: String, name: &str, mark: &str) -> String {
        if let Value::String(text) = &self.data[name] {
            lines.push('\n');
            let head = format!("{:STAMP$}{mark}", "");
            lines.push_str(&wrap::hanging(&head, &clean::line(text), STAMP + 2, self.view.width));
        }
        lines
    }

    fn dim_stamp(&self) -> String {
        self.view.paint.dim(&self.stamp)
    }

    /// `before` and the field, or nothing when it is not there.
    fn word(&self, before: &str, name: &str) -> String {
        match &self.data[name] {
            Value::Null => String::new(),
            value => format!("{before}{}", plain(value)),
        }
    }

    fn text(&self, name: &str) -> String {
        match &self.data[name] {
            Value::Null => MISSING.into(),
            value => plain(value),
        }
    }

    /// Whose budget: `the task`, `user ann for this day`.
    fn payer(&self) -> String {
        let period = self.word(" for this ", "period");
        match self.data["scope"].as_str() {
            Some("user") => format!("user{}{period}", self.word(" ", "name")),
            Some("repo") => format!("repository{}{period}", self.word(" ", "name")),
            Some("system") => format!("this server{period}"),
            _ => "the task".into(),
        }
    }

    /// A host, with its port where it says something.
    fn place(&self) -> String {
        match self.number("port") {
            None | Some(443) => self.text("host"),
            Some(port) => format!("{}:{port}", self.text("host")),
        }
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.data[name].as_u64().or_else(|| self.data[name].as_f64().map(|f| f.max(0.0) as u64))
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => clean::line(text),
        other => clean::json(other).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::render::{Paint, sample};

    #[test]
    fn a_whole_task() {
        let long =
            "cargo test --workspace --all-features -- --nocapture and then some more words that do not fit";
        let record = [
            ("task_created", json!({ "repo": "/srv/cat", "channel_source": "cli" })),
            ("admission_queued", json!({ "reason": "concurrency_limit", "admission_attempts": 1 })),
            ("queue_pickup", json!({ "queued_for_s": 194, "admission_attempts": 2 })),
            ("hydration_started", json!({ "attempt": 1 })),
            (
                "preflight_warning",
                json!({ "detail": "the work tree has changes that are not committed; they are not part of the task" }),
            ),
            ("preflight_passed", json!({ "base_branch": "main" })),
            ("session_start_retry", json!({ "reason": "no memory" })),
            (
                "session_started",
                json!({ "isolation": "process", "isolation_note": "no isolation: the agent runs as an ordinary process of this user" }),
            ),
            ("session_attached", json!({ "attempt": 1 })),
            ("agent_milestone", json!({ "milestone": "stage_started", "stage": "repo" })),
            ("agent_milestone", json!({ "milestone": "repo_setup_complete", "branch": "bgagent/x" })),
            ("egress_allowed", json!({ "host": "index.example", "port": 443, "rule": "cargo" })),
            (
                "egress_observed",
                json!({ "host": "x.example", "port": 8443, "reason": "not_allowed", "rule": "x.example:8443" }),
            ),
            (
                "egress_denied",
                json!({ "host": "y.example", "port": 443, "reason": "not_allowed", "rule": "y.example" }),
            ),
            ("egress_denied", json!({ "reason": "more", "limit": 100 })),
            ("hydration_complete", json!({ "sources": [], "token_estimate": 1200, "truncated": false })),
            ("task_running", json!({ "attempt": 1 })),
            (
                "agent_turn",
                json!({ "turn": 3, "model": "claude", "thinking_preview": "Hm.", "text_preview": "I look at the tests first, because they say what is wanted, and then at the code.", "tool_calls_count": 2 }),
            ),
            ("agent_tool_call", json!({ "tool_name": "Bash", "tool_input_preview": long, "turn": 3 })),
            (
                "agent_milestone",
                json!({ "milestone": "tool_running", "details": "Bash has run for 10 s: ok" }),
            ),
            (
                "agent_tool_result",
                json!({ "tool_name": "Bash", "is_error": true, "content_preview": "a\nb\u{1b}[2J", "turn": 3, "duration_ms": 12_500 }),
            ),
            (
                "agent_cost_update",
                json!({ "turn": 3, "call_cost_usd": 0.1234, "input_tokens": 100, "output_tokens": 20 }),
            ),
            ("agent_cost_update", json!({ "turn": 3, "input_tokens": 100, "output_tokens": 20 })),
            ("model_waiting", json!({ "retry_in_s": 12.2, "http_status": 529 })),
            ("agent_error", json!({ "error_type": "ToolError", "message_preview": "no such file" })),
            (
                "agent_blocked",
                json!({ "kind": "egress_denied", "detail": "connect refused", "resource": "pypi.org", "remediation_hint": "allow the host" }),
            ),
            ("screening_warned", json!({ "source": "nudge", "reason": "it asks to ignore instructions" })),
            (
                "guardrail_blocked",
                json!({ "source": "prompt", "reason": "the guardrail found: prompt attack" }),
            ),
            (
                "budget_warning",
                json!({ "budget_usd": 20.0, "cost_usd": 16.5, "scope": "user", "name": "ann", "period": "day" }),
            ),
            (
                "budget_exceeded",
                json!({ "budget_usd": 9.0, "cost_usd": 9.1, "scope": "system", "period": "month" }),
            ),
            ("budget_exceeded", json!({ "budget_usd": 1.0, "spent_usd": 1.02 })),
            ("events_dropped", json!({ "reason": "attempt_event_limit", "limit": 200_000 })),
            ("result_received", json!({ "agent_status": "completed", "build": "passed", "lint": "not_run" })),
            ("pr_created", json!({ "pr_url": "https://github.com/octo/cat/pull/12", "branch": "b" })),
            ("task_completed", json!({ "warning": "the lint command failed" })),
            (
                "task_failed",
                json!({ "title": "Exceeded max turns", "error_message": "MAX_TURNS: 100", "remedy": "Give it more turns." }),
            ),
            ("task_cancelled", json!({ "cancelled_by": "local-owner", "from": "RUNNING" })),
            (
                "attempt_lost",
                json!({ "attempt": 1, "boxes_lost": 1, "attempts_max": 2, "detail": "no heartbeat of the worker for 240 s", "head_sha": "0123456", "not_before": "2026-01-02T03:10:00Z" }),
            ),
            ("a_kind_of_tomorrow", json!({ "x": "\u{202e}" })),
        ];
        let lines: Vec<_> = record
            .iter()
            .enumerate()
            .map(|(n, (kind, data))| event(&sample::event(n as u64, kind, data.clone()), &sample::view()))
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    /// D-111: half of the events were not shown as text.
    /// D-112: escape sequences reached the terminal.
    #[test]
    fn every_kind_is_shown_even_with_no_data_and_nothing_escapes() {
        let data = json!({ "detail": "\u{1b}[2J\u{202e}\r\u{7}", "reason": "\u{9b}1m" });
        for &kind in EventKind::ALL {
            for data in [json!({}), data.clone()] {
                let shown = event(&sample::event(1, &kind.as_str(), data), &sample::view());
                assert!(shown.starts_with("[03:06:01] "), "{shown}");
                assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
            }
        }
    }

    #[test]
    fn colour_is_only_a_coat() {
        let record =
            sample::event(1, "agent_tool_result", json!({ "tool_name": "Read", "content_preview": "x" }));
        let colour = event(&record, &View { paint: Paint::Colour, ..sample::view() });
        assert!(colour.contains("\u{1b}[36m"));
        assert_eq!(console::strip_ansi_codes(&colour), event(&record, &sample::view()));
    }

    #[test]
    fn the_last_line_says_why() {
        assert_eq!(
            ended(&sample::failed()),
            format!(
                "Task {} failed. timeout: Exceeded max turns — MAX_TURNS: the agent used its 100 turns",
                sample::TASK
            )
        );
        let look = format!("Task {0} completed.\nLook at it with: bgagent pr show {0}", sample::TASK);
        assert_eq!(ended(&sample::completed()), look);
    }
}
