//! The table of `bgagent events`.

use protocol::rest::EventRecord;

use super::table::table;
use crate::clean;

/// One row for each event; its data as JSON.
pub fn events(events: &[EventRecord]) -> String {
    if events.is_empty() {
        return "No events found.".into();
    }
    let rows: Vec<_> = events
        .iter()
        .map(|event| {
            let data = clean::json(&event.metadata).unwrap_or_default();
            [clean::line(&event.timestamp), clean::line(&event.event_type), data]
        })
        .collect();
    table(["TIMESTAMP", "EVENT TYPE", "METADATA"], &rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::render::sample;

    #[test]
    fn rows_hold_the_data_as_json() {
        let all = [
            sample::event(1, "task_created", json!({ "repo": "octo/cat" })),
            sample::event(2, "agent_tool_result", json!({ "content_preview": "\u{1b}[2J\u{202e}x" })),
        ];
        insta::assert_snapshot!(events(&all));
        assert_eq!(events(&[]), "No events found.");
    }
}
