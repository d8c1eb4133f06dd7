//! What a task came to, as `bgagent run` ends.

use protocol::rest::TaskDetail;

use super::{MISSING, View, status, time, wrap};
use crate::clean;

/// The outcome and how to look at it.
pub fn outcome(task: &TaskDetail, view: &View) -> String {
    format!("{}\n\n{}", summary(task, view), look(task))
}

/// The outcome.
pub fn summary(task: &TaskDetail, view: &View) -> String {
    let paint = view.paint;
    let took = status::elapsed(task, view).map_or_else(|| MISSING.into(), time::duration);
    let turns = task.turns_attempted.map(|n| format!(", {n} turns")).unwrap_or_default();
    let mark = if task.status == "COMPLETED" { paint.green("✔") } else { paint.red("✖") };
    let head = format!(
        "{mark} {} in {took}{turns}, cost {}",
        paint.status(&clean::line(&task.status)),
        status::cost(task)
    );
    let mut lines = vec![head];
    let mut row = |label: &str, text: &str| {
        let head = format!("  {:<15}", format!("{label}:"));
        lines.push(wrap::hanging(&head, &clean::line(text), 17, view.width));
    };
    if let Some(reason) = status::reason(task) {
        row("Reason", &reason);
    }
    if let Some(what) = task.error_classification.as_ref().filter(|_| task.status != "COMPLETED") {
        row("What to do", &what.remedy);
    }
    if let Some(warning) = &task.warning {
        row("Warning", warning);
    }
    if let Some(url) = &task.pr_url {
        row("Pull request", url);
    }
    if task.head_sha.is_some() {
        let base = task.base_branch.as_deref().map(|b| format!(" -> {b}")).unwrap_or_default();
        row("Branch", &format!("{}{base}", task.branch_name));
    }
    let gates = [("build", task.build_passed), ("lint", task.lint_passed)];
    let gates: Vec<_> = gates
        .iter()
        .filter_map(|(n, p)| p.map(|p| format!("{n} {}", if p { "passed" } else { "failed" })))
        .collect();
    if !gates.is_empty() {
        row("Verified", &gates.join(", "));
    }
    if let Some(answer) = &task.answer_text {
        row("Answer", answer);
    }
    lines.join("\n")
}

/// How to look at it.
fn look(task: &TaskDetail) -> String {
    let id = clean::line(&task.task_id);
    let pushed = task.head_sha.is_some();
    let mut lines = vec!["Look at it:".to_owned()];
    if task.pr_url.is_some() {
        lines.push(format!("  bgagent pr show {id}"));
    }
    if let Some(repo) = task.repo.as_deref().filter(|r| pushed && r.starts_with('/')) {
        let (repo, branch) = (quoted(&clean::line(repo)), quoted(&clean::line(&task.branch_name)));
        lines.push(format!("  git -C {repo} log {branch}"));
    }
    lines.push(format!("  bgagent events {id} --all"));
    lines.join("\n")
}

/// A word for the shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn completed() {
        let mut task = sample::completed();
        task.repo = Some("/srv/my cat".into());
        insta::assert_snapshot!(outcome(&task, &sample::view()));
    }

    #[test]
    fn failed() {
        insta::assert_snapshot!(outcome(&sample::failed(), &sample::view()));
    }
}
