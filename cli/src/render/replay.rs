//! Replays: what is known of a task, and where two runs differ.

use protocol::rest::EventRecord;
use protocol::trace::ReplayBundle;
use trace::{Difference, Subject};

use super::{MISSING, View, wrap};
use crate::clean;
use crate::commands::replay::Report;

/// Lines of each side of a difference.
const SIDE_LINES: usize = 6;
/// Columns of a line of it.
const SIDE_COLUMNS: usize = 160;

/// The bundle, for people: facts, then a line for each event.
pub fn bundle(bundle: &ReplayBundle) -> String {
    let text = |value: Option<&str>| value.map_or_else(|| MISSING.to_owned(), clean::line);
    let gate = |passed: Option<bool>| match passed {
        Some(true) => "PASSED",
        Some(false) => "FAILED",
        None => MISSING,
    };
    let verification = bundle.verification.as_ref();
    let workflow = bundle.resolved_workflow.as_ref().map(|w| format!("{}@{}", w.id, w.version));
    let rows = [
        ("Task", clean::line(&bundle.task_id)),
        ("Workflow", text(workflow.as_deref())),
        ("Prompt ver", text(bundle.prompt_version.as_deref())),
        ("Cost", bundle.cost_usd.map_or_else(|| MISSING.to_owned(), |usd| format!("${usd:.4}"))),
        ("OTEL trace", text(bundle.otel_trace_id.as_deref())),
        ("Session", text(bundle.session_id.as_deref())),
        ("Trace URI", text(bundle.trace_uri.as_deref())),
        ("Build", gate(verification.and_then(|v| v.build_passed)).to_owned()),
        ("Lint", gate(verification.and_then(|v| v.lint_passed)).to_owned()),
        ("Collected", clean::line(&bundle.collected_at)),
    ];
    let mut lines: Vec<String> =
        rows.into_iter().map(|(label, value)| format!("{:<13}{value}", format!("{label}:"))).collect();
    let cut = if bundle.events_truncation.is_some() { ", TRUNCATED" } else { "" };
    lines.push(format!("\nEvents ({}{cut}):", bundle.events.len()));
    lines.extend(bundle.events.iter().map(event));
    if bundle.events_truncation.is_some() {
        lines.push(format!("\nThe rest: bgagent events {} --all", clean::line(&bundle.task_id)));
    }
    lines.join("\n")
}

/// When, what, and of which milestone, stage or tool.
fn event(event: &EventRecord) -> String {
    let of = ["milestone", "stage", "tool_name"].map(|name| event.metadata[name].as_str().map(clean::line));
    let of: String = of.into_iter().flatten().map(|word| format!(" {word}")).collect();
    format!("  {}  {}{of}", clean::line(&event.timestamp), clean::line(&event.event_type))
}

/// What a replay came to.
pub fn report(report: &Report, view: &View) -> String {
    let paint = view.paint;
    let found = &report.comparison;
    let compared = format!(
        "{}, {}, {}, the prompt, the tools, verification and outcome",
        count(u64::from(found.turns), "turn"),
        count(u64::from(found.tool_results), "tool result"),
        count(u64::from(found.files), "changed file"),
    );
    let mut out = match found.differences.as_slice() {
        [] => {
            let head = format!("{} It behaves the same: ", paint.green("✔"));
            wrap::hanging(&head, &format!("{compared}."), 2, view.width)
        }
        differences => {
            let n = count(differences.len() as u64, "difference");
            let shown: Vec<String> = differences.iter().map(|d| difference(d, view)).collect();
            let compared = wrap::hanging("Compared: ", &format!("{compared}."), 2, view.width);
            format!("{} {n}:\n\n{}\n\n{compared}", paint.red("✖"), shown.join("\n\n"))
        }
    };
    let (task, sha) = (clean::line(&report.recorded_task_id), clean::line(&report.base_sha));
    let from = domain::event::preview(&sha, 15).replace("...", "");
    out.push_str(&format!("\nRecorded as {task}, attempt {}; run again from {from}.", report.attempt));
    if report.recorded_truncated {
        out.push_str("\n! The recorded trace is not whole: what is missing in it was not compared.");
    }
    out
}

fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn difference(difference: &Difference, view: &View) -> String {
    let what = match difference.subject {
        Subject::SystemPrompt => "prompt",
        Subject::Tool => "tool",
        Subject::Parameter => "request",
        Subject::Message => "message to the model",
        Subject::ToolResult => "tool result",
        Subject::Turns => "run",
        Subject::File => "file",
        Subject::Verification => "verification",
        Subject::Outcome => "outcome",
    };
    let turn = difference.turn.map(|turn| format!("turn {turn}, ")).unwrap_or_default();
    let mut lines = vec![format!("  {turn}{what}: {}", clean::line(&difference.name))];
    lines.extend(side("-", difference.recorded.as_deref()).map(|line| view.paint.red(&line)));
    lines.extend(side("+", difference.replayed.as_deref()).map(|line| view.paint.green(&line)));
    lines.join("\n")
}

/// A side of a difference, line by line.
fn side(mark: &str, text: Option<&str>) -> impl Iterator<Item = String> {
    let text = text.map_or_else(|| "(nothing)".to_owned(), clean::block);
    let all: Vec<String> = text.lines().map(str::to_owned).collect();
    let more = all.len().saturating_sub(SIDE_LINES);
    let rest = (more > 0).then(|| format!("    {mark} ({more} more lines)"));
    let shown: Vec<String> = all
        .into_iter()
        .take(SIDE_LINES)
        .map(|line| format!("    {mark} {}", domain::event::preview(&line, SIDE_COLUMNS)))
        .collect();
    shown.into_iter().chain(rest)
}

#[cfg(test)]
mod tests {
    use protocol::rest::ResolvedWorkflow;
    use protocol::trace::{EventsTruncation, Verification};
    use trace::Comparison;

    use super::*;
    use crate::render::sample;

    #[test]
    fn a_bundle_is_facts_and_events() {
        let event = |seq, kind: &str| EventRecord {
            event_id: format!("01ARZ3NDEKTSV4RRFFQ69G5FA{seq}"),
            seq,
            event_type: kind.into(),
            timestamp: "2026-11-28T16:46:01.000Z".into(),
            metadata: serde_json::json!({ "milestone": "stage_started", "stage": "evil\u{1b}[2J" }),
        };
        let shown = bundle(&ReplayBundle {
            task_id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".into(),
            workflow_ref: Some("coding/new-task-v1".into()),
            resolved_workflow: Some(ResolvedWorkflow {
                id: "coding/new-task-v1".into(),
                version: "1.0.0".into(),
            }),
            prompt_version: None,
            events: vec![event(1, "task_created"), event(2, "evil\u{1b}[2J")],
            events_truncation: Some(EventsTruncation { reason: "max_events".into(), returned_events: 2 }),
            verification: Some(Verification { build_passed: Some(true), lint_passed: None }),
            trace_uri: Some("file:///t/01ARZ3NDEKTSV4RRFFQ69G5FAV.jsonl.gz".into()),
            otel_trace_id: None,
            session_id: Some("s1".into()),
            cost_usd: Some(0.1234),
            collected_at: "2026-11-28T17:00:00.000Z".into(),
        });
        insta::assert_snapshot!(shown);
    }

    fn sample_report(differences: Vec<Difference>) -> Report {
        Report {
            recorded_task_id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".into(),
            attempt: 1,
            base_sha: "a".repeat(40),
            replayed_task_id: "01BX5ZZKBKACTAV9WEVGEMMVRZ".into(),
            same: differences.is_empty(),
            recorded_truncated: !differences.is_empty(),
            comparison: Comparison { turns: 3, tool_results: 2, files: 1, differences },
        }
    }

    #[test]
    fn the_same_is_one_line_and_differences_show_both_sides() {
        let view = sample::view();
        let long: Vec<String> = (0..9).map(|n| format!("line {n}")).collect();
        let differences = vec![
            Difference {
                subject: Subject::ToolResult,
                turn: Some(2),
                name: "Bash (call 1 of turn 2)".into(),
                recorded: Some("4 passed\u{1b}[0m".into()),
                replayed: Some(long.join("\n")),
            },
            Difference {
                subject: Subject::Tool,
                turn: None,
                name: "WebFetch".into(),
                recorded: Some("offered to the model".into()),
                replayed: None,
            },
        ];
        let shown = [report(&sample_report(vec![]), &view), report(&sample_report(differences), &view)];
        insta::assert_snapshot!(shown.join("\n\n===\n\n"));
    }
}
