//! The table of `bgagent list`.

use domain::event::preview;
use protocol::rest::TaskSummary;

use super::table::table;
use super::{MISSING, View};
use crate::clean;

/// Characters of a description.
const DESCRIPTION_CHARS: usize = 40;

/// One row for each task.
pub fn list(tasks: &[TaskSummary], view: &View) -> String {
    if tasks.is_empty() {
        return "No tasks found.".into();
    }
    let rows: Vec<_> = tasks
        .iter()
        .map(|task| {
            [
                clean::line(&task.task_id),
                clean::line(&task.status),
                clean::line(task.repo.as_deref().unwrap_or(MISSING)),
                clean::line(&task.created_at),
                description(task),
            ]
        })
        .collect();
    let text = table(["TASK ID", "STATUS", "REPO", "CREATED", "DESCRIPTION"], &rows);
    let header = text.lines().count().min(2);
    let mut lines = vec![];
    for (number, line) in text.lines().enumerate() {
        if number < header {
            lines.push(view.paint.bold(line));
        } else {
            let status = &rows[number - header][1];
            lines.push(line.replacen(status.as_str(), &view.paint.status(status), 1));
        }
    }
    lines.join("\n")
}

fn description(task: &TaskSummary) -> String {
    let words = task.task_description.as_deref().map(clean::line).unwrap_or_default();
    let whole = match (task.issue_number, words.is_empty()) {
        (Some(issue), true) => format!("#{issue}"),
        (Some(issue), false) => format!("#{issue}: {words}"),
        (None, true) => MISSING.into(),
        (None, false) => words,
    };
    preview(&whole, DESCRIPTION_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn rows_are_aligned_and_cut() {
        let mut second = sample::summary();
        second.status = "AWAITING_APPROVAL".into();
        second.issue_number = Some(7);
        second.task_description = None;
        second.repo = None;
        let mut third = sample::summary();
        third.task_description = Some("a\x1b[2J very long description that goes beyond the column".into());
        insta::assert_snapshot!(list(&[sample::summary(), second, third], &sample::view()));
        assert_eq!(list(&[], &sample::view()), "No tasks found.");
    }
}
