//! Takes away what differs from run to run, and keeps the columns.

use std::path::Path;

use regex::{Captures, Regex};

use super::Typed;

/// Ids that a reader meets, in the order in which they first appear.
const IDS: [&str; 3] =
    ["01M8HVX1R3GJ3ZBM8ME88SEYJV", "01M8HVXM2EE3GM6J9A7QVR44P5", "01M8HVZ0K4N7Q2RMD53TTB8XW6"];
/// Any other.
const ID: &str = "01M8HW00000000000000000000";
const ULID: &str = r"\b01[0-9A-HJKMNP-TV-Z]{24}\b";

/// What is replaced by what.
pub struct Masks {
    texts: Vec<(String, String)>,
    patterns: Vec<(Regex, &'static str)>,
    ids: Vec<(String, &'static str)>,
}

impl Masks {
    /// For this session.
    pub fn new(home: &Path, typed: &[Typed]) -> Masks {
        // As long as the folder it stands for.
        let home = home.display().to_string();
        let texts = vec![(home.clone(), format!("{:e<1$}", "/home/ann/workspace", home.len()))];
        let ulid = Regex::new(ULID).unwrap();
        let mut ids: Vec<(String, &'static str)> = vec![];
        // Those that the commands name, and those that steering answers with.
        let told = |t: &Typed| !["watch", "events", "replay", "trace"].iter().any(|w| t.words.contains(w));
        for text in typed.iter().filter(|t| told(t)).flat_map(|t| [&t.words, &t.seen]) {
            for found in ulid.find_iter(text) {
                if ids.len() < IDS.len() && ids.iter().all(|(id, _)| id != found.as_str()) {
                    ids.push((found.as_str().to_owned(), IDS[ids.len()]));
                }
            }
        }
        let pattern = |(from, to): (&str, &'static str)| (Regex::new(from).unwrap(), to);
        let patterns = [
            (r"\b[0-9a-f]{40}\b", "1c5ea54373dd888820d74f00800a34046bc1ade6"),
            (r"\b[0-9a-f]{12}\b", "1c5ea54373dd"),
            (r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "2026-11-28T14:03:59.123Z"),
            (r"\[\d\d:\d\d:\d\d\]", "[14:03:59]"),
            (r"(\d+h )?(\d+m )?\d+s (elapsed|total|ago)", "3s $3"),
            (r"(◀ \w+( \[ERROR\])?) \([^)]*\):", "$1:"),
            (r"\$\d+\.\d+", "$$0.0042"),
            (r"\d+ in / \d+ out tokens", "1850 in / 54 out tokens"),
            (r"\b\d+ bytes\b", "6756 bytes"),
            (r"Current:       tool running", "Current:       Bash tool call"),
            (r"\bbytes=\d+", "bytes=6756"),
            (r"Events \(\d+\)", "Events (38)"),
            (r"at turn \d+ of it", "at turn 2 of it"),
            (r#""(cost_usd|call_cost_usd|duration_s|duration_ms|elapsed_ms|took_ms)":[0-9.]+"#, "\"$1\":1"),
            (
                r#""(input_tokens|output_tokens|cache_\w+_tokens|bytes|size_bytes|context_tokens)":\d+"#,
                "\"$1\":1",
            ),
            (r#""seq":\d+"#, "\"seq\":1"),
            (r#""enforced":"[^"]*""#, "\"enforced\":\"namespaces, seccomp, Landlock 7\""),
        ];
        Masks { texts, patterns: patterns.into_iter().map(pattern).collect(), ids }
    }

    /// The text as it would be in any run.
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (from, to) in &self.texts {
            text = text.replace(from, to);
        }
        text = Regex::new(ULID)
            .unwrap()
            .replace_all(&text, |found: &Captures<'_>| self.id(&found[0]))
            .into_owned();
        for (id, shown) in &self.ids {
            text = text.replace(&id[id.len() - 8..], &shown[shown.len() - 8..]);
        }
        for (from, to) in &self.patterns {
            text = from.replace_all(&text, *to).into_owned();
        }
        text
    }

    fn id(&self, found: &str) -> &'static str {
        self.ids.iter().find(|(id, _)| id == found).map_or(ID, |(_, shown)| shown)
    }
}
