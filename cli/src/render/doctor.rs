//! The page of `bgagent doctor`.

use serde::Serialize;

use super::{View, wrap};
use crate::clean;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Good.
    Ok,
    /// Works, but somebody should know.
    Warn,
    /// Tasks will not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Stable name.
    pub id: &'static str,
    /// How it ended.
    pub status: Verdict,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    pub fix: Option<String>,
}

/// One line for each check, then the verdict.
pub fn doctor(checks: &[Check], view: &View) -> String {
    let paint = view.paint;
    let mut lines = vec![];
    for check in checks {
        let word = match check.status {
            Verdict::Ok => paint.green("ok  "),
            Verdict::Warn => paint.yellow("warn"),
            Verdict::Fail => paint.red("fail"),
        };
        let head = format!("{word}  {:<10} ", check.id);
        lines.push(wrap::hanging(&head, &clean::line(&check.detail), 17, view.width));
        if let Some(fix) = &check.fix {
            lines.push(wrap::hanging(&format!("{:17}↳ ", ""), &clean::line(fix), 19, view.width));
        }
    }
    let failed = checks.iter().filter(|c| c.status == Verdict::Fail).count();
    lines.push(String::new());
    lines.push(match failed {
        0 => "Ready.".into(),
        1 => "1 check failed.".into(),
        n => format!("{n} checks failed."),
    });
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn checks_say_what_to_do() {
        let check = |id, status, detail: &str, fix: Option<&str>| Check {
            id,
            status,
            detail: detail.into(),
            fix: fix.map(str::to_owned),
        };
        let checks = [
            check("git", Verdict::Ok, "git 2.47.1", None),
            check(
                "isolation",
                Verdict::Warn,
                "process: no isolation, the agent runs as an ordinary process of this user and can reach its files",
                None,
            ),
            check(
                "model",
                Verdict::Fail,
                "no model provider",
                Some("Set ANTHROPIC_API_KEY, or OPENAI_BASE_URL for any OpenAI-compatible server."),
            ),
        ];
        insta::assert_snapshot!(doctor(&checks, &sample::view()));
    }
}
