//! Where two runs of the same trajectory differ: what the model was told (prompt, tools, messages), what each tool call
//! answered, what was made, and how it ended. Pure: two trajectories in, a list out.
//!
//! The answers of the model are not compared: the second run played those of the first.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::line::Outcome;
use crate::normal::Normal;
use crate::play;
use crate::read::{Call, Trajectory};

/// Characters of what is shown of each side.
const SHOWN_MAX_CHARS: usize = 2_000;

/// What a comparison came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Turns that both runs had.
    pub turns: u32,
    /// Tool results that were compared.
    pub tool_results: u32,
    /// Files of the work that were compared.
    pub files: u32,
    /// Where they differ, in the order of the run. Empty when they behave the same.
    pub differences: Vec<Difference>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What differs.
    pub subject: Subject,
    /// The turn, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<u32>,
    /// Which one: a tool, a file, a field.
    pub name: String,
    /// As it was recorded; null when it was not there.
    pub recorded: Option<String>,
    /// As it is now.
    pub replayed: Option<String>,
}

/// What differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The system prompt.
    SystemPrompt,
    /// A tool as the model is told of it.
    Tool,
    /// Another field of the request.
    Parameter,
    /// A message to the model besides tool results.
    Message,
    /// What a tool call answered.
    ToolResult,
    /// How many turns there were.
    Turns,
    /// A file of the work.
    File,
    /// Build or lint.
    Verification,
    /// How the task ended.
    Outcome,
}

/// Compares a recorded run (one attempt of it) with one that played it again.
pub fn compare(recorded: &Trajectory, attempt: u32, replayed: &Trajectory) -> Comparison {
    let sides = Sides { normals: [Normal::of(&recorded.header), Normal::of(&replayed.header)] };
    let turns = [play::turns(recorded, attempt), play::turns(replayed, replayed.header.attempt)];
    let mut found = Comparison { turns: 0, tool_results: 0, files: 0, differences: Vec::new() };
    if let [Some(a), Some(b)] = [0, 1].map(|side: usize| turns[side].values().next()) {
        sides.told(a, b, &mut found.differences);
    }
    for (turn, a) in &turns[0] {
        let Some(b) = turns[1].get(turn) else { continue };
        found.turns += 1;
        sides.turn(*turn, a, b, &mut found);
    }
    let counts = turns.each_ref().map(|turns| turns.keys().next_back().copied().unwrap_or(0));
    note(&mut found.differences, Subject::Turns, None, "turns", counts.map(|n| Some(n.to_string())));
    files(recorded, replayed, &mut found);
    outcomes(recorded.outcome.as_ref(), replayed.outcome.as_ref(), &mut found.differences);
    found
}

struct Sides {
    normals: [Normal; 2],
}

impl Sides {
    fn texts(&self, values: [Option<&Value>; 2]) -> [Option<String>; 2] {
        let [a, b] = values;
        let text = |normal: &Normal, value: &Value| match normal.value(value) {
            Value::String(text) => text,
            other => other.to_string(),
        };
        [a.map(|v| text(&self.normals[0], v)), b.map(|v| text(&self.normals[1], v))]
    }

    /// What the model is told once: prompt, tools, parameters.
    fn told(&self, a: &Call, b: &Call, out: &mut Vec<Difference>) {
        let system = [&a.system, &b.system].map(|system| Value::from(words(system)));
        note(
            out,
            Subject::SystemPrompt,
            None,
            "system prompt",
            self.texts([Some(&system[0]), Some(&system[1])]),
        );
        let tools = [by_name(&a.tools), by_name(&b.tools)];
        for name in tools.iter().flat_map(BTreeMap::keys).collect::<BTreeSet<_>>() {
            let [a, b] = tools.each_ref().map(|tools| tools.get(name).copied());
            match (a, b) {
                // Field by field, so that a changed sentence is not shown as a changed schema.
                (Some(a), Some(b)) => {
                    for field in fields(a, b) {
                        let label = format!("{name}.{field}");
                        note(out, Subject::Tool, None, &label, self.texts([a.get(field), b.get(field)]));
                    }
                }
                (a, b) => {
                    let known = |tool: Option<&Value>| tool.map(|_| "offered to the model".to_owned());
                    note(out, Subject::Tool, None, name, [known(a), known(b)]);
                }
            }
        }
        for field in fields(&a.parameters, &b.parameters) {
            // The name of the model is that of the script in a replay.
            if field != "model" {
                let values = [a.parameters.get(field), b.parameters.get(field)];
                note(out, Subject::Parameter, None, field, self.texts(values));
            }
        }
    }

    /// What the model was told before a turn.
    fn turn(&self, turn: u32, a: &Call, b: &Call, found: &mut Comparison) {
        let sides = [a, b].map(|call| told_before(&call.messages));
        let out = &mut found.differences;
        let said = sides.each_ref().map(|side| Value::from(side.text.clone()));
        let said = self.texts([Some(&said[0]), Some(&said[1])]);
        note(out, Subject::Message, Some(turn), "message", said.map(|text| text.filter(|t| !t.is_empty())));
        let counts = sides.each_ref().map(|side| side.results.len());
        for n in 0..counts[0].max(counts[1]) {
            let results = sides.each_ref().map(|side| side.results.get(n));
            if let [Some(_), Some(_)] = results {
                found.tool_results += 1;
            }
            let name = results.iter().flatten().map(|r| r.name.as_str()).next().unwrap_or("?");
            let name = format!("{name} (call {} of turn {})", n + 1, turn.saturating_sub(1));
            let values = results.map(|r| r.map(|r| Value::from(r.text.clone())));
            let texts = self.texts(values.each_ref().map(Option::as_ref));
            note(out, Subject::ToolResult, Some(turn.saturating_sub(1)), &name, texts);
        }
    }
}

/// The last message before a turn, in its parts.
struct Told {
    text: String,
    results: Vec<ToolResult>,
}

struct ToolResult {
    name: String,
    text: String,
}

fn told_before(messages: &[std::sync::Arc<Value>]) -> Told {
    let mut told = Told { text: String::new(), results: Vec::new() };
    let Some(last) = messages.last().filter(|m| m["role"] == "user") else { return told };
    let asked = messages.iter().rev().find(|m| m["role"] == "assistant");
    let asked = asked.and_then(|m| m["content"].as_array()).into_iter().flatten();
    let names: BTreeMap<&str, &str> =
        asked.filter_map(|b| Some((b["id"].as_str()?, b["name"].as_str()?))).collect();
    match &last["content"] {
        Value::Array(blocks) => {
            for block in blocks {
                match block["type"].as_str() {
                    Some("tool_result") => {
                        let id = block["tool_use_id"].as_str().unwrap_or_default();
                        let failed = if block["is_error"] == true { "[error] " } else { "" };
                        told.results.push(ToolResult {
                            name: names.get(id).copied().unwrap_or("?").to_owned(),
                            text: format!("{failed}{}", words(&block["content"])),
                        });
                    }
                    Some(_) | None => {
                        let text = words(&Value::Array(vec![block.clone()]));
                        told.text.push_str(&format!("{text}\n"));
                    }
                }
            }
        }
        other => told.text = words(other),
    }
    told
}

/// The words of a text, or of blocks of text; what is none (a picture) is shown as it is.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let block = |b: &Value| b["text"].as_str().map_or_else(|| b.to_string(), str::to_owned);
            blocks.iter().map(block).collect::<Vec<_>>().join("\n")
        }
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn by_name(tools: &Value) -> BTreeMap<String, &Value> {
    let tools = tools.as_array().into_iter().flatten();
    tools.filter_map(|tool| Some((tool["name"].as_str()?.to_owned(), tool))).collect()
}

fn fields<'a>(a: &'a Value, b: &'a Value) -> BTreeSet<&'a str> {
    [a, b]
        .into_iter()
        .filter_map(Value::as_object)
        .flat_map(|fields| fields.keys().map(String::as_str))
        .collect()
}

fn files(recorded: &Trajectory, replayed: &Trajectory, found: &mut Comparison) {
    let works = [recorded.work.as_ref(), replayed.work.as_ref()];
    let same_tree = matches!(works, [Some(a), Some(b)] if a.tree == b.tree);
    let maps = works.map(|work| {
        let files = work.into_iter().flat_map(|work| &work.files);
        files
            .map(|f| (f.path.as_str(), format!("{} {} {}", f.status, f.mode, f.blob)))
            .collect::<BTreeMap<_, _>>()
    });
    let before = found.differences.len();
    for path in maps.iter().flat_map(BTreeMap::keys).copied().collect::<BTreeSet<_>>() {
        found.files += 1;
        let sides = maps.each_ref().map(|files| files.get(path).cloned());
        note(&mut found.differences, Subject::File, None, path, sides);
    }
    // More files than are named, or another start: the trees still tell.
    if !same_tree && found.differences.len() == before {
        let trees = works.map(|work| work.map(|work| format!("tree {}", work.tree)));
        note(&mut found.differences, Subject::File, None, "(all files)", trees);
    }
}

fn outcomes(recorded: Option<&Outcome>, replayed: Option<&Outcome>, out: &mut Vec<Difference>) {
    let of = |field: fn(&Outcome) -> Option<String>| [recorded.and_then(field), replayed.and_then(field)];
    note(out, Subject::Verification, None, "build", of(|o| o.build.clone()));
    note(out, Subject::Verification, None, "lint", of(|o| o.lint.clone()));
    note(out, Subject::Outcome, None, "status", of(|o| Some(o.status.clone())));
    note(out, Subject::Outcome, None, "error_code", of(|o| o.error_code.clone()));
}

fn note(
    out: &mut Vec<Difference>,
    subject: Subject,
    turn: Option<u32>,
    name: &str,
    sides: [Option<String>; 2],
) {
    let [recorded, replayed] = sides;
    if recorded == replayed {
        return;
    }
    let (recorded, replayed) = from_first_difference(recorded, replayed);
    out.push(Difference { subject, turn, name: name.to_owned(), recorded, replayed });
}

/// Long texts are shown from the line before the one where they begin to differ.
fn from_first_difference(a: Option<String>, b: Option<String>) -> (Option<String>, Option<String>) {
    let cut = |text: &str, from: usize| {
        let text: String = text.lines().skip(from).collect::<Vec<_>>().join("\n");
        let short: String = text.chars().take(SHOWN_MAX_CHARS).collect();
        let front = if from > 0 { "...\n" } else { "" };
        let back = if short.len() < text.len() { "..." } else { "" };
        format!("{front}{short}{back}")
    };
    match (&a, &b) {
        (Some(x), Some(y)) => {
            let same = x.lines().zip(y.lines()).take_while(|(x, y)| x == y).count();
            let from = same.saturating_sub(1);
            let (x, y) = (cut(x, from), cut(y, from));
            match x == y {
                // They differ in an end of line, which no line shows.
                true => (Some(format!("{x:?}")), Some(format!("{:?}", b.unwrap_or_default()))),
                false => (Some(x), Some(y)),
            }
        }
        (Some(x), None) => (Some(cut(x, 0)), None),
        (None, Some(y)) => (None, Some(cut(y, 0))),
        (None, None) => (None, None),
    }
}
