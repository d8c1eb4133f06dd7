//! The table of `bgagent events`.

use protocol::rest::EventRecord;

use super::table::table;
use super::{View, wrap};
use crate::clean;

/// Columns before an event's data.
const INDENT: usize = 4;

/// One row for each event; its data as JSON. On a terminal the data is below its row, broken where the line ends.
pub fn events(events: &[EventRecord], view: &View) -> String {
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
    let Some(width) = view.width else { return table(["TIMESTAMP", "EVENT TYPE", "METADATA"], &rows, view) };
    let shown = rows.iter().map(|[at, kind, data]| {
        let head = format!("{}  {}", view.paint.dim(at), view.paint.bold(kind));
        let data = if data == "{}" { vec![] } else { wrap::words(data, width.saturating_sub(INDENT)) };
        data.iter().fold(head, |lines, line| format!("{lines}\n{:INDENT$}{line}", ""))
    });
    shown.collect::<Vec<_>>().join("\n")
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
        let piped = View { width: None, ..sample::view() };
        insta::assert_snapshot!(events(&all, &piped));
        insta::assert_snapshot!("on_a_terminal", events(&all, &View { width: Some(24), ..sample::view() }));
        assert_eq!(events(&[], &piped), "No events found.");
    }
}
