//! Notices that the agent goes round in circles, and says so to it. Advice only: a wrong kill is worse than a hint, and the
//! turn limit is the backstop. Pure.

use std::collections::{HashSet, VecDeque};

use serde_json::Value;

/// The same call with the same failure, this often in a row.
const REPEATS: usize = 3;
/// Outcomes that are looked at together.
const WINDOW: usize = 6;
/// The same failure this often among them, whatever was called.
const WINDOW_FAILURES: usize = 5;
/// Characters of an output by which a failure is known.
const FINGERPRINT_CHARS: usize = 300;

/// What was tried lately, and what was said about it.
#[derive(Debug, Default)]
pub struct StuckGuard {
    row: usize,
    last: Option<(String, String)>,
    window: VecDeque<Option<String>>,
    told: HashSet<String>,
    due: Option<Advice>,
}

/// What to tell the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// What was seen, in one line.
    pub what: String,
}

impl Advice {
    /// The words for the model.
    pub fn words(&self) -> String {
        format!(
            "[Note of the platform: {}. Trying it again will not help. Find out why it fails, work around it, or finish \
             with what you have and say what does not work and why.]",
            self.what
        )
    }
}

impl StuckGuard {
    /// A tool has run. Whether it failed is its own word, not a guess at its text.
    pub fn record(&mut self, tool: &str, input: &Value, failed: bool, output: &str) {
        let signature = signature(tool, input);
        let failure = failed.then(|| collapse(output).chars().take(FINGERPRINT_CHARS).collect::<String>());
        self.window.push_back(failure.clone());
        if self.window.len() > WINDOW {
            self.window.pop_front();
        }
        let Some(failure) = failure else {
            // It works now: what is said about it again would be news.
            self.told.remove(&signature);
            (self.row, self.last) = (0, None);
            return;
        };
        let now = (signature, failure);
        self.row = if self.last.as_ref() == Some(&now) { self.row + 1 } else { 1 };
        let (signature, failure) = now.clone();
        self.last = Some(now);
        if self.row >= REPEATS && self.told.insert(signature.clone()) {
            let call: String = signature.chars().take(120).collect();
            self.due =
                Some(Advice { what: format!("`{call}` failed {} times in a row in the same way", self.row) });
        }
        let same = self.window.iter().filter(|f| f.as_ref() == Some(&failure)).count();
        if same >= WINDOW_FAILURES {
            let what = format!("{same} of your last {} tool calls failed in the same way", self.window.len());
            self.due.get_or_insert(Advice { what });
            self.window.clear();
        }
    }

    /// What is to be said now, once.
    pub fn advice(&mut self) -> Option<Advice> {
        self.due.take()
    }
}

fn signature(tool: &str, input: &Value) -> String {
    let subject = ["command", "file_path", "path", "pattern"].iter().find_map(|name| input[name].as_str());
    let subject = subject.map_or_else(|| input.to_string(), str::to_owned);
    format!("{tool} {}", collapse(&subject).to_lowercase())
}

fn collapse(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Runs `command > output` (or `command` alone for a success) and collects what is said.
    fn run(steps: &[&str]) -> Vec<String> {
        let mut guard = StuckGuard::default();
        let mut said = Vec::new();
        for step in steps {
            let (command, output) = step.split_once(" > ").unwrap_or((step, ""));
            guard.record("Bash", &json!({ "command": command }), step.contains(" > "), output);
            said.extend(guard.advice().map(|a| a.what));
        }
        said
    }

    #[test]
    fn the_same_failure_three_times_is_told_once() {
        let oom = "make  test > heap out of memory";
        assert_eq!(run(&[oom, oom]), [""; 0]);
        assert_eq!(run(&[oom, oom, oom, oom]), ["`Bash make test` failed 3 times in a row in the same way"]);
        assert_eq!(run(&[oom, "ls", oom, oom]), [""; 0], "a success in between is not a circle");
        assert_eq!(run(&["a > 1 failed", "a > 2 failed", "a > 3 failed"]), [""; 0], "numbers tell progress");
    }

    #[test]
    fn variants_of_one_failure_are_seen_in_the_window() {
        let steps = [
            "push a > denied",
            "push b > denied",
            "ls",
            "push c > denied",
            "push d > denied",
            "push e > denied",
        ];
        assert_eq!(run(&steps), ["5 of your last 6 tool calls failed in the same way"]);
    }

    /// D-063: a spin of variants was hidden.
    #[test]
    fn a_window_speaks_also_when_the_last_failure_was_cleared() {
        let x = |n: u32| format!("try {n} > same");
        let mut steps: Vec<String> = (0..4).map(x).collect();
        steps.insert(2, "echo ok".into());
        steps.push(x(9));
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        assert_eq!(run(&steps).len(), 1);
    }
}
