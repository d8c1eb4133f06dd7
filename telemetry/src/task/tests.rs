use std::fmt::Write as _;

use domain::{EventId, Failure, FailureCode, State, TaskId, UserId};
use serde_json::json;

use super::*;
use crate::span::Value;

const SECRET: &str = "the words of somebody";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn task() -> Task {
    let spec = json!({ "repo": "acme/site", "workflow": "coding/new-task-v1", "description": SECRET });
    let spec = serde_json::from_value(spec).unwrap();
    let task = Task::new(TaskId::from_bits(1 << 90 | 5), UserId::new("ann"), "api", spec, at(0));
    Task { attempt: Attempt(1), completed_at: Some(at(60)), ..task }
}

/// A record: seconds, kind, data.
fn record(lines: &[(i64, EventKind, Json)]) -> Vec<Event> {
    let event = |(n, (seconds, kind, data)): (usize, &(i64, EventKind, Json))| Event {
        task: task().id,
        seq: n as u64 + 1,
        id: EventId::from_bits(n as u128),
        kind: *kind,
        at: at(*seconds),
        metadata: data.clone(),
    };
    lines.iter().enumerate().map(event).collect()
}

fn stage(name: &str) -> Json {
    json!({ "milestone": "stage_started", "stage": name })
}

fn call(turn: u64, tool: &str) -> Json {
    json!({ "turn": turn, "tool_name": tool, "tool_input_preview": SECRET })
}

fn answer(turn: u64, tool: &str, is_error: bool, duration_ms: u64) -> Json {
    json!({ "turn": turn, "tool_name": tool, "is_error": is_error, "duration_ms": duration_ms, "content_preview": SECRET })
}

fn whole() -> Vec<(i64, EventKind, Json)> {
    use EventKind::*;
    vec![
        (0, TaskCreated, json!({ "repo": "acme/site" })),
        (1, AdmissionQueued, json!({})),
        (5, QueuePickup, json!({ "queued_for_s": 4 })),
        (5, HydrationStarted, json!({ "attempt": 1 })),
        (6, PreflightPassed, json!({})),
        (7, SessionStarted, json!({ "session_id": "s", "strategy_type": "local", "isolation": "sandbox" })),
        (8, SessionAttached, json!({ "attempt": 1 })),
        (8, AgentMilestone, stage("repo")),
        (10, AgentMilestone, json!({ "milestone": "repo_setup_complete" })),
        (10, AgentMilestone, stage("baseline")),
        (11, TaskRunning, json!({ "attempt": 1 })),
        (11, AgentMilestone, stage("agent")),
        (12, AgentToolCall, call(1, "Bash")),
        (15, AgentToolResult, answer(1, "Bash", false, 2_500)),
        (16, AgentToolCall, call(2, "Bash")),
        (16, EgressDenied, json!({ "host": SECRET })),
        (18, AgentToolResult, answer(2, "Bash", true, 60_000)),
        (39, AgentMilestone, json!({ "milestone": "agent_execution_complete" })),
        (40, AgentMilestone, stage("commit")),
        (41, AgentMilestone, stage("push")),
        (42, AgentMilestone, stage("verify")),
        (50, AgentMilestone, stage("result")),
        (51, ResultReceived, json!({})),
        (59, PrCreated, json!({})),
        (60, TaskCompleted, json!({})),
    ]
}

/// The tree, one line a span: what it is, from when to when, how it failed.
fn drawn(spans: &[Span]) -> String {
    fn draw(out: &mut String, spans: &[Span], parent: Option<SpanId>, depth: usize) {
        let mut below: Vec<&Span> = spans.iter().filter(|s| s.parent == parent).collect();
        below.sort_by_key(|s| (s.start, s.end, s.name.clone()));
        for span in below {
            let seconds = |t: Timestamp| (t.as_millisecond() - at(0).as_millisecond()) as f64 / 1000.0;
            let error = span.error.as_deref().map(|e| format!(" ! {e}")).unwrap_or_default();
            let _ = writeln!(
                out,
                "{:indent$}{} {}..{}{error}",
                "",
                span.name,
                seconds(span.start),
                seconds(span.end),
                indent = depth * 2
            );
            draw(out, spans, Some(span.id), depth + 1);
        }
    }
    let mut out = String::new();
    draw(&mut out, spans, None, 0);
    assert_eq!(out.lines().count(), spans.len(), "every span hangs in the tree:\n{out}\n{spans:#?}");
    out
}

#[test]
fn a_record_is_a_tree() {
    let spans = spans(&task(), &record(&whole()), Content::Withheld);
    insta::assert_snapshot!(drawn(&spans));
    let root = &spans[0];
    assert_eq!((root.name.as_str(), root.trace), ("task", TraceId::of_task(task().id)));
    assert_eq!(
        root.moments.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(),
        ["egress_denied", "pr_created"]
    );
    let told = format!("{spans:?}");
    assert!(!told.contains(SECRET), "{told}");
    let dispatch = spans.iter().find(|s| s.name == "dispatch").unwrap();
    assert!(dispatch.attributes.contains(&("bgagent.isolation", Value::from("sandbox"))), "{dispatch:?}");
}

#[test]
fn that_the_agent_runs_may_be_told_before_the_repository_is_ready() {
    let mut lines = whole();
    let running = lines.remove(10);
    assert_eq!(running.1, EventKind::TaskRunning);
    let names = |lines: &[(i64, EventKind, Json)]| {
        let spans = spans(&task(), &record(lines), Content::Withheld);
        let mut names: Vec<String> = spans.into_iter().map(|span| span.name).collect();
        names.sort_unstable();
        names
    };
    let usual = names(&whole());
    for place in 7..10 {
        let mut early = lines.clone();
        early.insert(place, running.clone());
        assert_eq!(names(&early), usual, "told as number {place}");
    }
}

#[test]
fn the_same_record_is_the_same_tree() {
    let made = || spans(&task(), &record(&whole()), Content::Withheld);
    assert_eq!(made(), made());
}

#[test]
fn what_was_said_is_told_when_asked_for() {
    let spans = spans(&task(), &record(&whole()), Content::Told);
    let tool = spans.iter().find(|s| s.name == "execute_tool Bash").unwrap();
    for key in ["gen_ai.tool.call.arguments", "gen_ai.tool.call.result"] {
        assert!(tool.attributes.contains(&(key, Value::from(SECRET))), "{key}: {tool:?}");
    }
}

#[test]
fn a_failure_is_of_what_was_at_work() {
    let mut lines = whole();
    // It times out while the second tool runs.
    lines.truncate(16);
    lines.push((30, EventKind::TaskTimedOut, json!({ "error_code": "TASK_LIFETIME_EXCEEDED" })));
    let failure = Failure::new(FailureCode::TaskLifetimeExceeded, "too long");
    let task =
        Task { state: State::TimedOut { failure, since: at(30) }, completed_at: Some(at(30)), ..task() };
    let spans = spans(&task, &record(&lines), Content::Withheld);
    insta::assert_snapshot!(drawn(&spans));
}

#[test]
fn each_attempt_has_steps_of_its_own() {
    use EventKind::*;
    let mut lines = whole();
    lines.truncate(14);
    lines.extend([
        (20, TaskParked, json!({ "why": "paused" })),
        (25, TaskResumed, json!({})),
        (26, QueuePickup, json!({})),
        (26, HydrationStarted, json!({ "attempt": 2 })),
        (27, PreflightPassed, json!({})),
        // This box calls in before its start is recorded.
        (28, SessionAttached, json!({ "attempt": 2 })),
        (28, SessionStarted, json!({ "attempt": 2 })),
        (29, AgentMilestone, stage("repo")),
        (30, TaskRunning, json!({ "attempt": 2 })),
        (30, AgentMilestone, stage("agent")),
        (32, AgentToolCall, call(1, "Bash")),
        (33, AgentToolResult, answer(1, "Bash", false, 500)),
        (40, TaskCancelled, json!({})),
    ]);
    let task = Task { attempt: Attempt(2), completed_at: Some(at(40)), ..task() };
    let spans = spans(&task, &record(&lines), Content::Withheld);
    insta::assert_snapshot!(drawn(&spans));
    let ids: std::collections::HashSet<_> = spans.iter().map(|s| s.id).collect();
    assert_eq!(ids.len(), spans.len(), "every span has an id of its own");
}

proptest::proptest! {
    /// Whatever is recorded in whatever order: one root, every id once, every parent there, no end before its start.
    #[test]
    fn any_record_is_a_sound_tree(picks in proptest::collection::vec((0usize..45, 0i64..60, 0usize..8), 0..60)) {
        let stages = ["repo", "agent", "commit", "push", "verify", "result", "baseline", "odd"];
        let lines: Vec<_> = picks
            .iter()
            .map(|(kind, seconds, n)| {
                let kind = EventKind::ALL[*kind % EventKind::ALL.len()];
                let data = json!({
                    "milestone": "stage_started", "stage": stages[*n], "turn": n, "tool_name": "Bash",
                    "duration_ms": 1_000, "attempt": n,
                });
                (*seconds, kind, data)
            })
            .collect();
        let spans = spans(&task(), &record(&lines), Content::Withheld);
        let ids: std::collections::HashSet<_> = spans.iter().map(|s| s.id).collect();
        proptest::prop_assert_eq!(spans.iter().filter(|s| s.parent.is_none()).count(), 1);
        for span in &spans {
            proptest::prop_assert!(span.end >= span.start, "{:?}", span);
            proptest::prop_assert!(span.parent.is_none_or(|parent| ids.contains(&parent)), "{:?}", span);
        }
        proptest::prop_assert_eq!(ids.len(), spans.len());
    }
}
