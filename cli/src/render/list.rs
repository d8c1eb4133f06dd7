//! The table of `bgagent list`.

use console::measure_text_width;
use domain::event::preview;
use protocol::rest::TaskSummary;

use super::table::table;
use super::{MISSING, View, time};
use crate::clean;

const HEADER: [&str; 5] = ["TASK ID", "STATUS", "REPO", "CREATED", "DESCRIPTION"];

/// Characters of a description.
const DESCRIPTION_CHARS: usize = 40;
/// Characters of a repository on a narrow terminal.
const REPO_CHARS: usize = 16;

/// One row for each task. Whose it is is said where the tasks are not one person's.
pub fn list(tasks: &[TaskSummary], view: &View) -> String {
    if tasks.is_empty() {
        return "No tasks found.".into();
    }
    if tasks.iter().any(|task| task.user_id != tasks[0].user_id) {
        return of_several(tasks, view);
    }
    let rows: Vec<_> = tasks.iter().map(whole).collect();
    let rows = match view.width {
        Some(width) if columns(&rows) > width => narrow(tasks, rows, width, view),
        Some(_) | None => rows,
    };
    let text = table(HEADER, &rows, view);
    if !text.starts_with(HEADER[0]) {
        return text;
    }
    let mut lines = vec![];
    for (number, line) in text.lines().enumerate() {
        match number.checked_sub(2).and_then(|row| rows.get(row)) {
            None => lines.push(view.paint.bold(line)),
            Some([_, status, ..]) => {
                lines.push(line.replacen(status.as_str(), &view.paint.status(status), 1));
            }
        }
    }
    lines.join("\n")
}

/// The same with whose each task is.
fn of_several(tasks: &[TaskSummary], view: &View) -> String {
    let row = |task| {
        let [id, status, repo, created, description] = whole(task);
        let user = clean::line(task.user_id.as_deref().unwrap_or(MISSING));
        [id, status, user, repo, created, description]
    };
    let rows: Vec<_> = tasks.iter().map(row).collect();
    table(["TASK ID", "STATUS", "USER", "REPO", "CREATED", "DESCRIPTION"], &rows, view)
}

fn whole(task: &TaskSummary) -> [String; 5] {
    [
        clean::line(&task.task_id),
        clean::line(&task.status),
        clean::line(task.repo.as_deref().unwrap_or(MISSING)),
        clean::line(&task.created_at),
        description(task, DESCRIPTION_CHARS),
    ]
}

/// The same for a narrow terminal: the age, the last part of a path, and as much of the description as there is room for.
fn narrow(tasks: &[TaskSummary], mut rows: Vec<[String; 5]>, width: usize, view: &View) -> Vec<[String; 5]> {
    for (task, row) in tasks.iter().zip(&mut rows) {
        if let Some((_, folder)) = row[2].rsplit_once('/').filter(|_| row[2].starts_with('/')) {
            row[2] = folder.to_owned();
        }
        row[2] = preview(&row[2], REPO_CHARS);
        if let Some(age) = time::seconds_since(&task.created_at, view.now) {
            row[3] = format!("{} ago", time::age(age));
        }
        row[4] = String::new();
    }
    let Some(room) =
        (width + HEADER[4].len()).checked_sub(columns(&rows)).filter(|room| *room >= HEADER[4].len())
    else {
        return tasks.iter().map(whole).collect();
    };
    for (task, row) in tasks.iter().zip(&mut rows) {
        row[4] = description(task, room.min(DESCRIPTION_CHARS));
    }
    rows
}

/// Columns of the table.
fn columns(rows: &[[String; 5]]) -> usize {
    let most = |n: usize| rows.iter().map(|row| measure_text_width(&row[n])).max().unwrap_or(0);
    (0..HEADER.len()).map(|n| most(n).max(HEADER[n].len())).sum::<usize>() + 2 * (HEADER.len() - 1)
}

fn description(task: &TaskSummary, most: usize) -> String {
    let words = task.task_description.as_deref().map(clean::line).unwrap_or_default();
    let whole = match (task.issue_number, words.is_empty()) {
        (Some(issue), true) => format!("#{issue}"),
        (Some(issue), false) => format!("#{issue}: {words}"),
        (None, true) => MISSING.into(),
        (None, false) => words,
    };
    preview(&whole, most)
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
        let tasks = [sample::summary(), second, third];
        let piped = View { width: None, ..sample::view() };
        insta::assert_snapshot!(list(&tasks, &piped));
        insta::assert_snapshot!("at_80_columns", list(&tasks, &sample::view()));
        insta::assert_snapshot!("at_60_columns", list(&tasks, &View { width: Some(60), ..sample::view() }));
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
