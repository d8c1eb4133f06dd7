//! The stages of a task with the time at which each began: a record of a minute in ten lines.

use domain::EventKind;
use protocol::rest::EventRecord;

use super::time;
use crate::clean;

/// One line for each step, with the seconds since the first event.
pub fn timeline(events: &[EventRecord]) -> String {
    let begun = events.first().and_then(|e| time::parse(&e.timestamp));
    let mut lines = vec!["Timeline:".to_owned()];
    for event in events {
        let Some(step) = step(event) else { continue };
        let at =
            begun.zip(time::parse(&event.timestamp)).map(|(from, to)| to.duration_since(from).as_secs_f64());
        lines.push(format!(
            "  {:>9}  {step}",
            at.map_or_else(|| super::MISSING.into(), |s| format!("+{s:.3}s"))
        ));
    }
    lines.join("\n")
}

/// What the event means for the course of the task; most mean nothing.
fn step(event: &EventRecord) -> Option<String> {
    let text = |name: &str| clean::line(event.metadata[name].as_str().unwrap_or_default());
    let kind = EventKind::from_wire(&event.event_type)?;
    let by_control_plane = !kind.from_box() && kind != EventKind::AgentCostUpdate;
    if by_control_plane {
        return Some(event.event_type.replace('_', " "));
    }
    match kind {
        EventKind::AgentTurn => Some(format!("turn {}", event.metadata["turn"].as_u64().unwrap_or_default())),
        EventKind::AgentMilestone if text("milestone") == "stage_started" => {
            Some(format!("stage {}", text("stage")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::render::sample;

    #[test]
    fn only_steps_are_told() {
        let events = [
            sample::event(1, "task_created", json!({})),
            sample::event(3, "agent_milestone", json!({ "milestone": "stage_started", "stage": "repo" })),
            sample::event(4, "agent_turn", json!({ "turn": 1 })),
            sample::event(5, "agent_tool_call", json!({ "tool_name": "Bash" })),
            sample::event(6, "agent_cost_update", json!({})),
            sample::event(7, "task_completed", json!({})),
        ];
        insta::assert_snapshot!(timeline(&events));
    }
}
