//! The pull request's title and body, written from the work.

use domain::event::preview;
use domain::limit;
use domain::report::{AgentStatus, GateResult};
use git::GitError;

use crate::repo::Checkout;
use crate::verify::{Measured, Source, Verdict};

/// Lines of the list of changed files.
const CHANGES_MAX_LINES: usize = 60;
/// Commits that are listed.
const COMMITS_MAX: usize = 50;
/// Characters of the agent's own summary.
const SUMMARY_MAX_CHARS: usize = 20_000;
/// Characters of a red run's end.
const TAIL_MAX_CHARS: usize = 2_000;

/// What the body is written from.
#[derive(Debug, Clone)]
pub struct Telling<'a> {
    /// What was asked.
    pub description: &'a str,
    /// The issue it resolves.
    pub issue: Option<u64>,
    /// The agent's last words.
    pub summary: &'a str,
    /// How it ended.
    pub agent: AgentStatus,
    /// Build and lint.
    pub verdicts: &'a [Verdict],
    /// What a reader must know besides.
    pub notes: &'a [String],
}

/// The title: the subject of the only commit, else the summary's first line, else the first line of what was asked.
pub fn title(subjects: &[String], summary: &str, description: &str, branch: &str) -> String {
    let own = match subjects {
        [only] if !only.starts_with("chore(agent):") => Some(only.clone()),
        [] | [_] | [_, _, ..] => None,
    };
    let words = own.or_else(|| subject_of(summary)).or_else(|| subject_of(description));
    preview(&words.unwrap_or_else(|| format!("chore: {branch}")), limit::PR_TITLE_MAX_CHARS)
}

/// The first line with words in it, without Markdown around it.
pub fn subject_of(text: &str) -> Option<String> {
    let line = text.lines().map(|line| {
        let line = line.trim().trim_start_matches(['#', '>', '-', '*', ' ']);
        let line: String = line.chars().filter(|c| !c.is_control()).collect();
        line.trim().trim_end_matches(['.', ':', '*', ' ']).replace("**", "")
    });
    let fence = |line: &String| line.starts_with("```") || !line.chars().any(char::is_alphanumeric);
    line.into_iter().find(|line| !fence(line)).map(|line| preview(&line, limit::PR_TITLE_MAX_CHARS))
}

/// The subjects of the commits beyond the base, oldest first.
pub async fn subjects(checkout: &Checkout, head: &str) -> Result<Vec<String>, GitError> {
    let log = checkout.git().args(["log", "--reverse", "--format=%s"]);
    let range = format!("{}..{head}", checkout.base);
    let out = log.args([range.as_str(), "--"]).doing("listing the commits").run().await?;
    Ok(out.text().lines().map(str::to_owned).collect())
}

/// The body.
pub async fn body(
    checkout: &Checkout,
    head: &str,
    telling: &Telling<'_>,
) -> Result<(Vec<String>, String), GitError> {
    let subjects = subjects(checkout, head).await?;
    let range = format!("{}...{head}", checkout.base);
    let diff = checkout.git().args(["diff", "--stat=100", "--no-ext-diff", "--no-textconv"]);
    let changes = diff.args([range.as_str(), "--"]).doing("listing the changes").run().await?.text();
    let body = compose(&subjects, &changes, telling);
    Ok((subjects, body))
}

fn compose(subjects: &[String], changes: &str, telling: &Telling<'_>) -> String {
    let mut sections = vec![format!("## Summary\n\n{}", summary(telling))];
    if !changes.trim().is_empty() {
        sections.push(format!("## Changes\n\n{}", fenced(&middle_cut(changes, CHANGES_MAX_LINES))));
    }
    if !subjects.is_empty() {
        let mut list: Vec<String> = subjects.iter().take(COMMITS_MAX).map(|s| format!("- {s}")).collect();
        if subjects.len() > COMMITS_MAX {
            list.push(format!("- … and {} more", subjects.len() - COMMITS_MAX));
        }
        sections.push(format!("## Commits\n\n{}", list.join("\n")));
    }
    let verdicts: Vec<String> = telling.verdicts.iter().map(verdict).collect();
    sections.push(format!("## Verification\n\n{}", verdicts.join("\n")));
    if !telling.notes.is_empty() {
        let notes: Vec<String> = telling.notes.iter().map(|note| format!("- {note}")).collect();
        sections.push(format!("## Notes\n\n{}", notes.join("\n")));
    }
    preview(&sections.join("\n\n"), limit::PR_BODY_MAX_CHARS)
}

fn summary(telling: &Telling<'_>) -> String {
    let said = telling.summary.trim();
    let mut text = match said.is_empty() {
        true => format!("**Task:** {}", preview(telling.description.trim(), 2_000)),
        false => preview(said, SUMMARY_MAX_CHARS),
    };
    let stopped = match telling.agent {
        AgentStatus::Success => None,
        AgentStatus::MaxTurns => Some("The agent reached its turn limit: this is the work up to there."),
        AgentStatus::MaxBudget => Some("The agent reached its budget: this is the work up to there."),
        AgentStatus::Error => Some("The agent ended with an error: this is the work up to there."),
        AgentStatus::Unknown => Some("The agent ended without saying how: this is the work up to there."),
    };
    if let Some(stopped) = stopped {
        text = format!("> **Unfinished.** {stopped}\n\n{text}");
    }
    if let Some(issue) = telling.issue {
        text.push_str(&format!("\n\nResolves #{issue}"));
    }
    text
}

fn verdict(of: &Verdict) -> String {
    let gate = of.gate.name();
    let Some(command) = &of.command else {
        return format!("- **{gate}: INERT.** No command is configured or found, so nothing was checked.");
    };
    let line = command.line.replace('`', "'").replace('\n', " ");
    let from = match command.source {
        Source::Configured => "configured".to_owned(),
        Source::File(file) => format!("found in {file}"),
    };
    let word = match of.result() {
        GateResult::Passed => "PASS",
        GateResult::Failed => "FAIL",
        GateResult::FailedAsBefore => "FAIL, as before this change",
        GateResult::TimedOut => "TIMED OUT",
        GateResult::Infra => "NOT MEASURED, the machine failed",
        GateResult::Inert => "INERT",
    };
    let before = of.before.as_ref().map_or_else(|| "not measured".to_owned(), told);
    let after = of.after.as_ref().map_or_else(|| "nothing changed".to_owned(), told);
    let mut text = format!("- **{gate}: {word}.** `{line}` ({from}). Before: {before}. After: {after}.");
    if let Some(Measured::Red { tail, .. }) = &of.after
        && !tail.is_empty()
    {
        let end: String = last_chars(tail, TAIL_MAX_CHARS);
        text.push_str(&format!("\n\n{}\n", fenced(&end)));
    }
    text
}

fn told(measured: &Measured) -> String {
    match measured {
        Measured::Green => "green".into(),
        Measured::Red { code, .. } => format!("red (exit {code})"),
        Measured::TimedOut => "no end in its time".into(),
        Measured::Infra(why) => format!("the machine failed ({})", preview(why, 200)),
        Measured::Inert(why) => format!("cannot run here ({})", preview(why, 200)),
    }
}

/// A code block that its content cannot close.
fn fenced(text: &str) -> String {
    let mut fence = "```".to_owned();
    while text.contains(&fence) {
        fence.push('`');
    }
    format!("{fence}\n{}\n{fence}", text.trim_end())
}

/// The first lines and the last one, which is the sum.
fn middle_cut(text: &str, max: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    match lines.as_slice() {
        [.., last] if lines.len() > max => {
            let left_out = lines.len() - max;
            format!("{}\n … {left_out} more files\n{last}", lines[..max - 1].join("\n"))
        }
        _ => text.to_owned(),
    }
}

fn last_chars(text: &str, max: usize) -> String {
    let count = text.chars().count();
    text.chars().skip(count.saturating_sub(max)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{Command, Gate};

    #[test]
    fn titles_come_from_the_work_in_order_of_trust() {
        let t = |subjects: &[&str], summary: &str| {
            let subjects: Vec<String> = subjects.iter().map(|s| (*s).to_owned()).collect();
            title(&subjects, summary, "Make it fast.\nplease", "bgagent/x")
        };
        assert_eq!(t(&["fix: it"], "Words"), "fix: it");
        assert_eq!(t(&["chore(agent): save"], "## **Fixed** the parser.\n\nmore"), "Fixed the parser");
        assert_eq!(t(&["a", "b"], "```\n---\n- Adds x:"), "Adds x");
        assert_eq!(t(&[], ""), "Make it fast");
        assert_eq!(title(&[], "", "---", "bgagent/x"), "chore: bgagent/x");
        assert_eq!(t(&["ñ".repeat(500).as_str()], "").chars().count(), limit::PR_TITLE_MAX_CHARS);
    }

    #[test]
    fn the_body_tells_what_was_checked_and_what_was_not() {
        let command = Command { line: "make test".into(), source: Source::File("Makefile") };
        let red = |tail: &str| Measured::Red { code: 2, tail: tail.into() };
        let verdicts = [
            Verdict {
                gate: Gate::Build,
                command: Some(command),
                before: Some(Measured::Green),
                after: Some(red("x\n```\nboom")),
            },
            Verdict::off(Gate::Lint),
        ];
        let telling = Telling {
            description: "d",
            issue: Some(7),
            summary: "Did it.",
            agent: AgentStatus::MaxTurns,
            verdicts: &verdicts,
            notes: &["`big` was left out.".to_owned()],
        };
        let body = compose(&["one".to_owned()], " a | 1 +\n", &telling);
        insta::assert_snapshot!(body, @r"
        ## Summary

        > **Unfinished.** The agent reached its turn limit: this is the work up to there.

        Did it.

        Resolves #7

        ## Changes

        ```
         a | 1 +
        ```

        ## Commits

        - one

        ## Verification

        - **Build and tests: FAIL.** `make test` (found in Makefile). Before: green. After: red (exit 2).

        ````
        x
        ```
        boom
        ````

        - **Lint: INERT.** No command is configured or found, so nothing was checked.

        ## Notes

        - `big` was left out.
        ");
    }

    #[test]
    fn a_huge_body_is_cut_to_what_a_forge_takes() {
        let huge = "ñ".repeat(200_000);
        let subjects: Vec<String> = (0..10_000).map(|n| format!("{n} {huge:.100}")).collect();
        let notes: Vec<String> = (0..1_000).map(|_| huge[..2_000].to_owned()).collect();
        let telling = Telling {
            description: &huge,
            issue: None,
            summary: &huge,
            agent: AgentStatus::Success,
            verdicts: &[],
            notes: &notes,
        };
        let changes: String = (0..50_000).map(|n| format!(" file{n} | 1 +\n")).collect();
        let body = compose(&subjects, &changes, &telling);
        assert_eq!(body.chars().count(), limit::PR_BODY_MAX_CHARS);
        assert!(body.contains("49940 more files") && body.contains("9950 more"));
    }
}
