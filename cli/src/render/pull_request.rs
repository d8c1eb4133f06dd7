//! The page of `bgagent pr show`.

use protocol::rest::PullRequestDetail;

use super::{Paint, View};
use crate::clean;

/// How much of the change is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Only which files changed.
    Stat,
    /// The diff too.
    Diff,
}

/// Title, place, body, changed files, diff.
pub fn pull_request(pr: &PullRequestDetail, depth: Depth, view: &View) -> String {
    let paint = view.paint;
    let number = pr.number.map(|n| format!(" #{n}")).unwrap_or_default();
    let short = |sha: &str| clean::line(&sha.chars().take(12).collect::<String>());
    let mut lines = vec![
        paint.bold(&format!("{}{number}", clean::line(&pr.title))),
        format!("  URL:     {}", clean::line(&pr.url)),
        format!("  State:   {}", clean::line(&pr.state)),
        format!("  Branch:  {} -> {}", clean::line(&pr.branch), clean::line(&pr.base_branch)),
        format!("  Commits: {}..{}", short(&pr.base_sha), short(&pr.head_sha)),
        format!("  Task:    {}", clean::line(&pr.task_id)),
        String::new(),
    ];
    let body = clean::block(&pr.body);
    lines.push(body.trim_end().to_owned());
    lines.push(String::new());
    lines.push(clean::block(&pr.diff_stat).trim_end().to_owned());
    if depth == Depth::Diff && !pr.diff.is_empty() {
        lines.push(String::new());
        lines.push(diff(&pr.diff, paint));
        if pr.diff_truncated {
            lines.push(paint.yellow("(The diff is longer; the rest is in the branch.)"));
        }
    }
    lines.join("\n")
}

/// A unified diff; what it says of controls is made visible.
pub fn diff(text: &str, paint: Paint) -> String {
    let lines = text.lines().map(|line| {
        let clean = clean::block(line);
        match line.as_bytes().first() {
            Some(b'+') if !line.starts_with("+++") => paint.green(&clean),
            Some(b'-') if !line.starts_with("---") => paint.red(&clean),
            Some(b'@') => paint.cyan(&clean),
            Some(b' ') | None => clean,
            Some(_) => paint.bold(&clean),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn with_the_diff() {
        insta::assert_snapshot!(pull_request(&sample::pull_request(), Depth::Diff, &sample::view()));
    }

    #[test]
    fn only_the_files() {
        let shown = pull_request(&sample::pull_request(), Depth::Stat, &sample::view());
        assert!(shown.contains("src/parse.rs | 2 +-") && !shown.contains("@@"), "{shown}");
    }
}
