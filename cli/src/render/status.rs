//! The page of `bgagent status`, the same with and without `--wait`.

use domain::EventKind;
use protocol::rest::{EventRecord, LostBoxes, TaskDetail};
use serde_json::Value;

use super::{MISSING, View, dollars, time, wrap};
use crate::clean;

/// Columns of a description.
const DESCRIPTION_COLUMNS: usize = 60;
/// Columns before a value.
const LABEL: usize = 17;
/// The workflow that needs no mention.
const USUAL_WORKFLOW: &str = "coding/new-task-v1";

/// `events` are the newest of the task, in any order; `milestone` is the last one, which may be older than they are.
pub fn status(
    task: &TaskDetail,
    events: &[EventRecord],
    milestone: Option<&EventRecord>,
    view: &View,
) -> String {
    let mut newest: Vec<&EventRecord> = events.iter().collect();
    newest.sort_by_key(|e| std::cmp::Reverse(e.seq));
    let mut page = Page { lines: vec![head(task, view)], width: view.width };
    page.row("Repo", task.repo.as_deref().unwrap_or("— (repo-less)"));
    page.row("Channel", &task.channel_source);
    if let Some(workflow) = task.resolved_workflow.as_ref().filter(|w| w.id != USUAL_WORKFLOW) {
        let pr = task.pr_number.map(|n| format!(" (PR #{n})")).unwrap_or_default();
        page.row("Workflow", &format!("{}{pr}", workflow.id));
    }
    page.description(task);
    if task.status == "QUEUED" {
        page.row("Queue", &queue(task));
    }
    if let Some(order) = &task.leaving {
        page.row("Leaving", &format!("the agent saves its work ({order})"));
    }
    if let Some(lost) = &task.lost {
        page.row("Attempt", &attempt(lost));
    }
    if task.status == "QUEUED"
        && matches!(task.queue_reason.as_deref(), Some("paused" | "usage_limit"))
        && let Some(parked) = newest.iter().find(|e| e.event_type == "task_parked")
    {
        page.row("Parked", &self::parked(parked));
    }
    if task.status == "AWAITING_APPROVAL" {
        page.row("Approval", &approval(task, &newest, view));
    }
    page.row("Turn", &turn(task, &newest));
    page.row("Last milestone", &last_milestone(milestone, view));
    page.row(
        "Current",
        &match (task.is_terminal(), newest.first()) {
            (true, _) => format!("task {}", word(task)),
            (false, Some(event)) => current(event),
            (false, None) => word(task),
        },
    );
    page.row("Cost", &cost(task));
    if let Some(blocker) =
        newest.iter().find(|e| e.event_type == "agent_blocked" && task.status != "COMPLETED")
    {
        page.row("Blocker", &self::blocker(blocker, view));
    }
    if let Some(reason) = reason(task) {
        page.row("Reason", &reason);
        if let Some(class) = &task.error_classification {
            page.row("What to do", &class.remedy);
        }
    }
    if let Some(warning) = &task.warning {
        page.row("Warning", warning);
    }
    page.address("Branch", &task.branch_name);
    page.address("PR", task.pr_url.as_deref().unwrap_or(MISSING));
    if let Some(uri) = &task.trace_s3_uri {
        page.address("Trace S3", uri);
    }
    if let Some(uri) = &task.artifact_uri {
        page.address("Artifact", uri);
    }
    page.row("Last event", newest.first().map_or(MISSING, |e| e.timestamp.as_str()));
    page.lines.join("\n")
}

/// Why a task ended without success, in one line: `timeout: Exceeded max turns — <first line of the error>`.
pub fn reason(task: &TaskDetail) -> Option<String> {
    if !task.is_terminal() || task.status == "COMPLETED" {
        return None;
    }
    let error = task.error_message.as_deref().and_then(|e| e.lines().next()).unwrap_or_default();
    let known = task.error_classification.as_ref().filter(|c| c.category != "unknown");
    match (known, error) {
        (None, "") => None,
        (None, error) => Some(clean::line(error)),
        (Some(known), "") => Some(clean::line(&format!("{}: {}", known.category, known.title))),
        (Some(known), error) => Some(clean::line(&format!("{}: {} — {error}", known.category, known.title))),
    }
}

/// Seconds that a task has taken, or took.
pub fn elapsed(task: &TaskDetail, view: &View) -> Option<i64> {
    let from = task.started_at.as_deref().unwrap_or(&task.created_at);
    let to = task.completed_at.as_deref().and_then(time::parse).unwrap_or(view.now);
    time::seconds_since(from, to)
}

/// Dollars, the budget, and what could not be priced.
pub fn cost(task: &TaskDetail) -> String {
    let spent = task.cost_usd.map_or_else(|| MISSING.into(), dollars);
    let budget = task.max_budget_usd.map(|b| format!(" / budget {}", dollars(b))).unwrap_or_default();
    let unpriced = match task.unpriced_calls {
        0 => String::new(),
        1 => " (and 1 model call without a price)".into(),
        n => format!(" (and {n} model calls without a price)"),
    };
    format!("{spent}{budget}{unpriced}")
}

/// The state of a task, as a word.
pub fn word(task: &TaskDetail) -> String {
    clean::line(&task.status).to_lowercase().replace('_', " ")
}

struct Page {
    lines: Vec<String>,
    width: Option<usize>,
}

impl Page {
    fn row(&mut self, label: &str, value: &str) {
        self.lines.push(wrap::hanging(&head_of(label), &clean::line(value), LABEL, self.width));
    }

    /// What a person may want to copy is in one piece: on the next line when it does not fit here.
    fn address(&mut self, label: &str, value: &str) {
        self.lines.push(wrap::fit(&format!("{}{}", head_of(label), clean::line(value)), self.width));
    }

    fn description(&mut self, task: &TaskDetail) {
        let text = match (task.task_description.as_deref(), task.issue_number) {
            (Some(text), Some(issue)) => format!("#{issue}: {text}"),
            (Some(text), None) => text.to_owned(),
            (None, Some(issue)) => format!("#{issue}"),
            (None, None) => MISSING.into(),
        };
        let mut lines = wrap::words(&clean::line(&text), DESCRIPTION_COLUMNS).into_iter();
        self.row("Description", &lines.next().unwrap_or_default());
        self.lines.extend(lines.map(|line| format!("{:LABEL$}{line}", "")));
    }
}

/// A label that fills the column keeps one space before its value.
fn head_of(label: &str) -> String {
    let label = format!("  {label}:");
    format!("{label:<16} ")
}

fn head(task: &TaskDetail, view: &View) -> String {
    let word = if task.is_terminal() { "total" } else { "elapsed" };
    let took = elapsed(task, view).map_or_else(|| MISSING.into(), time::duration);
    let status = view.paint.status(&clean::line(&task.status));
    format!("{} — {status} ({took} {word})", view.paint.bold(&format!("Task {}", clean::line(&task.task_id))))
}

fn queue(task: &TaskDetail) -> String {
    match (task.queue_reason.as_deref(), &task.not_before) {
        (Some("paused"), _) => return format!("paused (go on with: bgagent resume {})", task.task_id),
        (Some("box_lost"), Some(at)) => return format!("waits until {at} for its next attempt"),
        (Some("usage_limit"), Some(at)) => return format!("waits until {at} for the provider's usage limit"),
        (Some("budget"), _) => {
            return format!("waits: {}", task.queue_detail.as_deref().unwrap_or("a budget is used up"));
        }
        _ => (),
    }
    let Some(position) = task.queue_position else { return MISSING.into() };
    match task.estimated_wait_s {
        Some(s) => format!("position {position} (est. wait ~{}m)", s.div_ceil(60).max(1)),
        None => format!("position {position}"),
    }
}

/// Which attempt it is, and why it is not the first.
fn attempt(lost: &LostBoxes) -> String {
    let (this, of) = (lost.boxes.saturating_add(1), lost.attempts_max);
    format!("{this} of {}; the box before was lost: {}", of.max(this), lost.error_message)
}

/// Why the task waits though it had begun, and until when.
fn parked(event: &EventRecord) -> String {
    let why = event.metadata["why"].as_str().unwrap_or(MISSING);
    match event.metadata["not_before"].as_str() {
        Some(until) => format!("{why} (not before {until})"),
        None => why.to_owned(),
    }
}

/// Which approval it waits for, and for how long.
fn approval(task: &TaskDetail, newest: &[&EventRecord], view: &View) -> String {
    let opened = newest.iter().find(|e| e.event_type == "approval_opened");
    let told = opened.and_then(|e| e.metadata["request_id"].as_str());
    let request = task.awaiting_approval_request_id.as_deref().or(told).unwrap_or(MISSING);
    let until = opened.and_then(|e| e.metadata["until"].as_str());
    match until.and_then(|until| time::seconds_since(until, view.now)) {
        Some(over) if over < 0 => format!("{request} (expires in {})", time::duration(-over)),
        Some(_) => format!("{request} (expired)"),
        None => request.to_owned(),
    }
}

fn turn(task: &TaskDetail, newest: &[&EventRecord]) -> String {
    let seen =
        newest.iter().filter(|e| e.event_type == "agent_turn").find_map(|e| e.metadata["turn"].as_u64());
    match seen.max(task.turns_attempted.map(u64::from)) {
        Some(turn) => format!("{turn} / ~{}", task.max_turns.unwrap_or(domain::limit::TURNS_DEFAULT)),
        None => MISSING.into(),
    }
}

fn last_milestone(milestone: Option<&EventRecord>, view: &View) -> String {
    let Some(event) = milestone else { return MISSING.into() };
    let name = event.metadata["milestone"].as_str().unwrap_or(MISSING);
    let name = match (name, event.metadata["stage"].as_str()) {
        ("stage_started", Some(stage)) => format!("stage {stage}"),
        (name, Some(stage)) => format!("{name} {stage}"),
        (name, None) => name.to_owned(),
    };
    match time::seconds_since(&event.timestamp, view.now) {
        Some(age) => format!("{name} ({} ago)", time::duration(age)),
        None => name,
    }
}

fn current(event: &EventRecord) -> String {
    let word = |name: &str| event.metadata[name].as_str().unwrap_or("a").to_owned();
    match EventKind::from_wire(&event.event_type) {
        Some(EventKind::AgentToolCall) => format!("{} tool call", word("tool_name")),
        Some(EventKind::AgentToolResult) => format!("{} tool result", word("tool_name")),
        Some(EventKind::AgentTurn | EventKind::AgentCostUpdate) => match event.metadata["turn"].as_u64() {
            Some(turn) => format!("agent turn {turn}"),
            None => "agent turn".into(),
        },
        Some(EventKind::AgentMilestone) => match &event.metadata["stage"] {
            Value::String(stage) => format!("stage {stage}"),
            _ => word("milestone").replace('_', " "),
        },
        _ => event.event_type.replace('_', " "),
    }
}

fn blocker(event: &EventRecord, view: &View) -> String {
    let text = |name: &str| event.metadata[name].as_str().map(str::to_owned);
    let mut line = text("kind").unwrap_or_else(|| "unknown".into());
    if let Some(resource) = text("resource") {
        line.push_str(&format!(" [{resource}]"));
    }
    if let Some(age) = time::seconds_since(&event.timestamp, view.now) {
        line.push_str(&format!(" ({} ago)", time::duration(age)));
    }
    if let Some(hint) = text("remediation_hint") {
        line.push_str(&format!(" — {hint}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::render::sample;

    #[test]
    fn running() {
        let events = [
            sample::event(3, "agent_milestone", json!({ "milestone": "repo_setup_complete" })),
            sample::event(30, "agent_turn", json!({ "turn": 8 })),
            sample::event(31, "agent_tool_call", json!({ "tool_name": "Bash", "turn": 8 })),
        ];
        insta::assert_snapshot!(status(&sample::running(), &events, Some(&events[0]), &sample::view()));
    }

    #[test]
    fn parked() {
        let paused = TaskDetail { queue_reason: Some("paused".into()), ..sample::queued() };
        assert!(queue(&paused).contains("bgagent resume 01ARZ3NDEKTSV4RRFFQ69G5FAV"));
        let limited = TaskDetail {
            queue_reason: Some("usage_limit".into()),
            not_before: Some("2026-01-02T09:00:00Z".into()),
            ..sample::queued()
        };
        assert_eq!(queue(&limited), "waits until 2026-01-02T09:00:00Z for the provider's usage limit");
        let detail = "the budget of user ann for this day is used up: $5.00 of $5.00; it renews at 2026-01-03T00:00:00Z";
        let spent = TaskDetail {
            queue_reason: Some("budget".into()),
            queue_detail: Some(detail.into()),
            ..sample::queued()
        };
        assert_eq!(queue(&spent), format!("waits: {detail}"));
    }

    #[test]
    fn queued() {
        let events = [sample::event(2, "admission_queued", json!({}))];
        insta::assert_snapshot!(status(&sample::queued(), &events, None, &sample::view()));
    }

    /// D-107: a waiting approval was not in the status.
    #[test]
    fn every_row_that_a_task_can_have() {
        let mut task = sample::running();
        task.status = "AWAITING_APPROVAL".into();
        task.awaiting_approval_request_id = Some("01ARZ3NDEKTSV4RRFFQ69G5REQ".into());
        task.trace_s3_uri = Some("s3://traces/x.ndjson.gz".into());
        task.artifact_uri = Some("s3://artifacts/x".into());
        task.issue_number = Some(7);
        let opened = json!({ "request_id": "01ARZ3NDEKTSV4RRFFQ69G5REQ", "until": "2026-01-02T03:10:00Z" });
        let events = [sample::event(9, "approval_opened", opened)];
        insta::assert_snapshot!(status(&task, &events, None, &sample::view()));
    }

    #[test]
    fn parked_until_a_usage_limit_is_reset() {
        let mut task = sample::queued();
        task.queue_position = None;
        let parked = json!({ "why": "usage_limit", "not_before": "2026-01-02T05:00:00Z" });
        let events = [sample::event(9, "task_parked", parked)];
        insta::assert_snapshot!(status(&task, &events, None, &sample::view()));
    }

    #[test]
    fn after_a_lost_box() {
        let mut task = sample::queued();
        task.queue_position = None;
        (task.attempt, task.queue_reason) = (1, Some("box_lost".into()));
        task.not_before = Some("2026-01-02T03:05:00Z".into());
        task.lost = Some(LostBoxes {
            boxes: 1,
            attempts_max: 2,
            turns: 7,
            error_code: "SESSION_ENDED_WITHOUT_RESULT".into(),
            error_message:
                "SESSION_ENDED_WITHOUT_RESULT: the worker's process ended without a result (exit code 137)"
                    .into(),
        });
        let events = [sample::event(40, "attempt_lost", json!({}))];
        insta::assert_snapshot!(status(&task, &events, None, &sample::view()));
    }

    #[test]
    fn failed_with_a_blocker_and_a_foreign_workflow() {
        let mut task = sample::failed();
        task.resolved_workflow.as_mut().unwrap().id = "coding/pr-iteration-v1".into();
        task.pr_number = Some(42);
        task.unpriced_calls = 2;
        let blocked = json!({ "kind": "egress_denied", "resource": "pypi.org", "detail": "no",
            "remediation_hint": "allow the host", "retryable": false });
        let events =
            [sample::event(40, "agent_blocked", blocked), sample::event(41, "task_failed", json!({}))];
        insta::assert_snapshot!(status(&task, &events, None, &sample::view()));
    }

    #[test]
    fn completed_hides_its_blockers_and_shows_its_warning() {
        let mut task = sample::completed();
        task.warning = Some("the lint command failed".into());
        task.repo = None;
        let events = [
            sample::event(40, "agent_blocked", json!({ "kind": "auth_failure" })),
            sample::event(41, "task_completed", json!({})),
        ];
        insta::assert_snapshot!(status(&task, &events, None, &sample::view()));
    }
}
