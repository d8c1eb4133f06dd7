//! Texts without what differs from run to run and means nothing: ids, the box's folders, temporary paths, times, hashes
//! of commits, process ids, ports.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

use crate::line::Header;

#[expect(clippy::unwrap_used, reason = "the patterns are constants, and a test compiles them")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

macro_rules! patterns {
    ($($name:ident = $text:expr;)+) => {
        $(static $name: LazyLock<Regex> = LazyLock::new(|| pattern($text));)+
    };
}

patterns! {
    BOX = r"(?:/[^\s/'\x22:(),]+)*/(?:sessions|containers)/[0-9A-HJKMNP-TV-Z]{26}-\d+(?:/(?:box/)?[a-z]+)?";
    ID = r"\b[0-9A-HJKMNP-TV-Z]{26}\b";
    TEMPORARY = r"(?:/private)?/(?:var/)?tmp/[^\s'\x22:(),;\]}>]*";
    STAMP = r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z| ?[+-]\d\d:?\d\d)?\b";
    DATE = r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? (?:[A-Z][a-z]{2} +\d{1,2}|\d{1,2} [A-Z][a-z]{2})(?: \d{4})?,? \d\d:\d\d:\d\d(?: [AP]M)?(?: ?(?:[A-Z]{3,4}|[+-]\d{4}))?(?: \d{4})?";
    CLOCK = r"\b\d{1,2}:\d\d:\d\d(?:[.,]\d+)?\b";
    TOOK = r"\b\d+(?:\.\d+)?\s?(?:ns|us|µs|ms|s|secs?|seconds?|mins?|minutes?)\b";
    MINUTES = r"\b\d+m\s?\d+(?:\.\d+)?s\b";
    HEX = r"\b[0-9a-f]{7,64}\b";
    PID = r"(?i)\b(pid|process)([ =:#]+)\d+\b";
    PORT = r"\b(127\.0\.0\.1|localhost|\[::1\]):\d+\b";
}

/// Makes texts of one run comparable with those of another.
#[derive(Debug, Clone)]
pub struct Normal {
    names: Vec<(String, &'static str)>,
    /// The model's name, where it stands by itself.
    model: Option<Regex>,
}

impl Normal {
    /// For the texts of this run.
    pub fn of(header: &Header) -> Normal {
        // The longest first: the branch holds the task's id.
        let names = [(&header.branch, "<branch>"), (&header.task_id, "<task>"), (&header.repo, "<repo>")];
        let names = names.into_iter().filter(|(name, _)| !name.is_empty());
        let by_itself =
            |name: &String| Regex::new(&format!(r"(^|[^\w/.-]){}($|[^\w/-])", regex::escape(name)));
        let model = header.model.as_ref().filter(|name| !name.is_empty());
        Normal {
            names: names.map(|(name, mark)| (name.clone(), mark)).collect(),
            model: model.and_then(|name| by_itself(name).ok()),
        }
    }

    /// The text with marks in the place of what differs.
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, mark) in &self.names[..self.names.len().min(1)] {
            text = text.replace(name, mark);
        }
        text = BOX.replace_all(&text, "<box>").into_owned();
        for (name, mark) in self.names.iter().skip(1) {
            text = text.replace(name, mark);
        }
        if let Some(model) = &self.model {
            text = model.replace_all(&text, "${1}<model>${2}").into_owned();
        }
        for (found, mark) in [
            (&*ID, "<id>"),
            (&*TEMPORARY, "<tmp>"),
            (&*STAMP, "<time>"),
            (&*DATE, "<time>"),
            (&*CLOCK, "<time>"),
            (&*MINUTES, "<took>"),
            (&*TOOK, "<took>"),
        ] {
            text = found.replace_all(&text, mark).into_owned();
        }
        text = HEX.replace_all(&text, commit).into_owned();
        text = PID.replace_all(&text, "${1}${2}<pid>").into_owned();
        PORT.replace_all(&text, "${1}:<port>").into_owned()
    }

    /// The same for every text of a value.
    pub fn value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.text(text).into(),
            Value::Array(items) => items.iter().map(|item| self.value(item)).collect(),
            Value::Object(fields) => {
                Value::Object(fields.iter().map(|(key, value)| (key.clone(), self.value(value))).collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }
}

/// Hexadecimal of both letters and digits is a commit's name or the like; a word or a number is itself.
fn commit(found: &Captures<'_>) -> String {
    let text = &found[0];
    let both =
        text.contains(|c: char| c.is_ascii_digit()) && text.contains(|c: char| c.is_ascii_alphabetic());
    if both { "<hash>".into() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal() -> Normal {
        Normal {
            names: vec![
                ("bgagent/01ARZ3NDEKTSV4RRFFQ69G5FAV/fix".into(), "<branch>"),
                ("01ARZ3NDEKTSV4RRFFQ69G5FAV".into(), "<task>"),
                ("/home/me/project".into(), "<repo>"),
            ],
            model: Some(Regex::new(r"(^|[^\w/.-])p/m($|[^\w/-])").unwrap()),
        }
    }

    #[test]
    fn what_differs_from_run_to_run_is_marked_and_the_rest_stays() {
        let table = [
            ("on bgagent/01ARZ3NDEKTSV4RRFFQ69G5FAV/fix", "on <branch>"),
            ("task 01ARZ3NDEKTSV4RRFFQ69G5FAV of /home/me/project", "task <task> of <repo>"),
            ("at /tmp/b-1/state/sessions/01ARZ3NDEKTSV4RRFFQ69G5FAV-12/repo: no", "at <box>: no"),
            ("open /tmp/pytest-of-me/0/x.txt failed", "open <tmp> failed"),
            ("4 passed in 0.12s", "4 passed in <took>"),
            ("Finished in 3 ms, 4 files", "Finished in <took>, 4 files"),
            ("real 0m1.5s", "real <took>"),
            ("2026-11-28T16:46:01.123Z done", "<time> done"),
            ("Sat Nov 28 16:46:01 UTC 2026", "<time>"),
            ("at 16:46:01", "at <time>"),
            ("p/m has no row; (p/m) app/main p/m-2", "<model> has no row; (<model>) app/main p/m-2"),
            ("[main 1a2b3c4] words", "[main <hash>] words"),
            ("deadbeef effaced 1234567", "deadbeef effaced 1234567"),
            ("pid 4711, Process: 12", "pid <pid>, Process: <pid>"),
            ("http://127.0.0.1:4711/x", "http://127.0.0.1:<port>/x"),
            ("version 1.2.3, 5 tests, 10s of them", "version 1.2.3, 5 tests, <took> of them"),
        ];
        for (text, expected) in table {
            assert_eq!(normal().text(text), expected, "{text}");
        }
    }

    #[test]
    fn every_pattern_is_one() {
        let all = [&BOX, &ID, &TEMPORARY, &STAMP, &DATE, &CLOCK, &TOOK, &MINUTES, &HEX, &PID, &PORT];
        assert!(all.iter().all(|pattern| !pattern.is_match("")));
    }
}
