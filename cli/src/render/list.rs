//! The table of `bgagent list`.

use domain::event::preview;
use protocol::rest::TaskSummary;

use super::table::table;
use super::{MISSING, View};
use crate::clean;

/// Characters of a description.
const DESCRIPTION_CHARS: usize = 40;

/// One row for each task. Whose it is is said where the tasks are not one person's.
pub fn list(tasks: &[TaskSummary], view: &View) -> String {
    if tasks.is_empty() {
        return "No tasks found.".into();
    }
    let several = tasks.iter().any(|task| task.user_id != tasks[0].user_id);
    let text = if several {
        let row = |task| {
            let [id, status, rest @ ..] = cells(task);
            let user = clean::line(task.user_id.as_deref().unwrap_or(MISSING));
            let [repo, created, description] = rest;
            [id, status, user, repo, created, description]
        };
        let rows: Vec<_> = tasks.iter().map(row).collect();
        table(["TASK ID", "STATUS", "USER", "REPO", "CREATED", "DESCRIPTION"], &rows)
    } else {
        let rows: Vec<_> = tasks.iter().map(cells).collect();
        table(["TASK ID", "STATUS", "REPO", "CREATED", "DESCRIPTION"], &rows)
    };
    let header = text.lines().count().min(2);
    let mut lines = vec![];
    for (number, line) in text.lines().enumerate() {
        if number < header {
            lines.push(view.paint.bold(line));
        } else {
            let status = clean::line(&tasks[number - header].status);
            lines.push(line.replacen(status.as_str(), &view.paint.status(&status), 1));
        }
    }
    lines.join("\n")
}

/// What every row has.
fn cells(task: &TaskSummary) -> [String; 5] {
    [
        clean::line(&task.task_id),
        clean::line(&task.status),
        clean::line(task.repo.as_deref().unwrap_or(MISSING)),
        clean::line(&task.created_at),
        description(task),
    ]
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

    #[test]
    fn tasks_of_several_people_say_whose_they_are() {
        let mut second = sample::summary();
        second.user_id = Some("bob@example.com\x1b[2J".into());
        let mut third = sample::summary();
        third.user_id = None;
        insta::assert_snapshot!("whose", list(&[sample::summary(), second, third], &sample::view()));
    }
}
