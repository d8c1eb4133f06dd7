//! The settings that would allow what a task asked the network for: TOML that can be copied as it is.

use std::collections::BTreeMap;

use domain::TaskId;
use protocol::rest::EventRecord;
use serde::Serialize;
use serde_json::Value;

use crate::clean;

/// What a task asked for, by the rule that allows it or would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suggestion {
    /// The task.
    pub task_id: String,
    /// The repository the rules are for.
    pub repo: String,
    /// For `allow`, in order.
    pub allow: Vec<String>,
    /// For `private`, in order: what has an address that is not public.
    pub private: Vec<String>,
    /// What became of it, rule by rule.
    pub seen: BTreeMap<String, Fate>,
    /// Whether there was more than was told.
    pub truncated: bool,
}

/// What became of what a rule stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// A rule let it out.
    Allowed,
    /// No rule did, but it was let out to be told.
    Observed,
    /// It was refused.
    Denied,
}

impl Suggestion {
    /// Nothing yet.
    pub fn new(task: TaskId, repo: &str) -> Suggestion {
        Suggestion {
            task_id: task.to_string(),
            repo: repo.to_owned(),
            allow: vec![],
            private: vec![],
            seen: BTreeMap::new(),
            truncated: false,
        }
    }

    /// Takes an event in, if it is about the network.
    pub fn add(&mut self, event: &EventRecord) {
        let fate = match event.event_type.as_str() {
            "egress_allowed" => Fate::Allowed,
            "egress_observed" => Fate::Observed,
            "egress_denied" => Fate::Denied,
            _other => return,
        };
        let text = |key: &str| event.metadata.get(key).and_then(Value::as_str);
        let private = match text("reason") {
            Some("more") => {
                self.truncated = true;
                return;
            }
            Some("private_address" | "local_name") => true,
            Some(_) | None => false,
        };
        let Some(rule) = text("rule").map(str::to_owned).or_else(|| place(&event.metadata)) else { return };
        // What was let out in one attempt and refused in another is told as what a person must look at.
        let seen = self.seen.entry(rule.clone()).or_insert(fate);
        *seen = (*seen).max(fate);
        add(&mut self.allow, &rule);
        if private {
            add(&mut self.private, &rule);
        }
    }
}

/// The host and port of an event without a rule.
fn place(metadata: &Value) -> Option<String> {
    let host = metadata.get("host")?.as_str()?;
    match metadata.get("port").and_then(Value::as_u64) {
        None | Some(80 | 443) => Some(host.to_owned()),
        Some(port) => Some(format!("{host}:{port}")),
    }
}

/// Adds in order: groups of tools, then hosts by domain, so that those of one owner stand together.
fn add(rules: &mut Vec<String>, rule: &str) {
    let key = |rule: &str| {
        let group = !rule.contains(['.', ':']);
        (!group, rule.split('.').rev().map(str::to_owned).collect::<Vec<_>>())
    };
    if let Err(place) = rules.binary_search_by_key(&key(rule), |known| key(known)) {
        rules.insert(place, rule.to_owned());
    }
}

/// The section of the configuration.
pub fn suggestion(told: &Suggestion) -> String {
    let mut lines = vec![];
    if told.seen.is_empty() {
        lines.push(format!("# Task {} asked the network for nothing.", told.task_id));
        return lines.join("\n");
    }
    let many = |fate: Fate| told.seen.values().filter(|seen| **seen == fate).count();
    lines.push(format!(
        "# What task {} asked the network for: {} allowed, {} observed, {} refused.",
        told.task_id,
        many(Fate::Allowed),
        many(Fate::Observed),
        many(Fate::Denied)
    ));
    if many(Fate::Denied) > 0 {
        lines.push("# Take out what this repository should not reach.".into());
    }
    if told.truncated {
        lines.push(
            "# There was more than the events tell: allow this, and look again after the next run.".into(),
        );
    }
    lines.push(format!("[repos.{}.egress]", quoted(&told.repo)));
    lines.push("allow = [".into());
    for rule in &told.allow {
        lines.push(row(rule, told.seen.get(rule)));
    }
    lines.push("]".into());
    if !told.private.is_empty() {
        lines.push("# These have addresses of your own network.".into());
        lines.push("private = [".into());
        lines.extend(told.private.iter().map(|rule| row(rule, None)));
        lines.push("]".into());
    }
    lines.join("\n")
}

fn row(rule: &str, fate: Option<&Fate>) -> String {
    let words = match fate {
        Some(Fate::Denied) => "  # was refused",
        Some(Fate::Observed) => "  # no rule allowed it",
        Some(Fate::Allowed) | None => "",
    };
    format!("  {},{words}", quoted(rule))
}

/// A text of TOML. What came from a box must not end it early.
fn quoted(text: &str) -> String {
    toml::Value::String(clean::line(text)).to_string()
}

/// The kinds of events that this reads.
#[cfg(test)]
const KINDS: [&str; 3] = ["egress_allowed", "egress_observed", "egress_denied"];

#[cfg(test)]
mod tests {
    use domain::event::EventKind;
    use serde_json::json;

    use super::*;
    use crate::render::sample;

    fn told(events: &[(&str, Value)]) -> Suggestion {
        let mut told = Suggestion::new(sample::TASK.parse().unwrap(), "octo/cat");
        for (n, (kind, data)) in events.iter().enumerate() {
            told.add(&sample::event(n as u64, kind, data.clone()));
        }
        told
    }

    #[test]
    fn the_section_is_merged_sorted_and_collapsed_to_groups() {
        let told = told(&[
            ("task_created", json!({ "rule": "never" })),
            ("egress_allowed", json!({ "host": "index.example", "port": 443, "rule": "cargo" })),
            ("egress_allowed", json!({ "host": "files.example", "port": 443, "rule": "cargo" })),
            (
                "egress_allowed",
                json!({ "host": "a.cdn.example.org", "port": 443, "rule": "*.cdn.example.org" }),
            ),
            (
                "egress_denied",
                json!({ "host": "api.example.com", "port": 443, "reason": "not_allowed", "rule": "api.example.com" }),
            ),
            (
                "egress_denied",
                json!({ "host": "api.example.com", "port": 80, "reason": "not_allowed", "rule": "api.example.com" }),
            ),
            ("egress_observed", json!({ "host": "zoo.example.com", "port": 8443, "reason": "not_allowed" })),
            (
                "egress_denied",
                json!({ "host": "db.corp", "port": 5432, "reason": "private_address", "rule": "db.corp:5432" }),
            ),
            ("egress_denied", json!({ "reason": "bad_target" })),
            ("egress_denied", json!({ "reason": "more", "limit": 100 })),
        ]);
        insta::assert_snapshot!(suggestion(&told));
        insta::assert_json_snapshot!(told);
        let read: toml::Table = suggestion(&told).parse().unwrap();
        assert_eq!(read["repos"]["octo/cat"]["egress"]["allow"].as_array().unwrap().len(), 5);
    }

    #[test]
    fn a_task_that_asked_for_nothing_is_told_as_such() {
        insta::assert_snapshot!(suggestion(&told(&[])));
    }

    #[test]
    fn what_a_box_names_cannot_write_settings() {
        let evil = "x\"]\nmode = \"observe\"\n#";
        let told = told(&[("egress_denied", json!({ "host": evil, "port": 443, "reason": "not_allowed" }))]);
        let read: toml::Table = suggestion(&told).parse().unwrap();
        let egress = read["repos"]["octo/cat"]["egress"].as_table().unwrap();
        assert_eq!(egress.keys().collect::<Vec<_>>(), ["allow"]);
    }

    #[test]
    fn the_events_that_are_read_exist() {
        for kind in KINDS {
            assert!(EventKind::from_wire(kind).is_some(), "{kind}");
        }
    }
}
