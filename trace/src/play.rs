//! A transcript of the `script` provider (`docs/guide/transcripts.md`) that plays what the model said in a trace.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::nudge;
use crate::read::{Call, Trajectory};

/// What a transcript is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Played {
    /// The transcript file.
    pub transcript: Value,
    /// Turns in it.
    pub turns: u32,
}

/// Why a trace cannot be played.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unplayable {
    /// No model call of the attempt was answered whole.
    #[error("the trace holds no answer of a model in attempt {attempt}: there is nothing to play")]
    NoAnswer {
        /// The attempt.
        attempt: u32,
    },
    /// A turn between two others is missing.
    #[error("the answer of turn {turn} is not in the trace: what followed it cannot be played")]
    Missing {
        /// The turn.
        turn: u32,
    },
}

/// The calls of an attempt's turns that were answered whole; of one that was repeated, the last.
pub fn turns(trajectory: &Trajectory, attempt: u32) -> BTreeMap<u32, &Call> {
    let mut turns = BTreeMap::new();
    for call in trajectory.calls.iter().filter(|c| c.attempt == attempt && c.purpose == "main") {
        if let Some(turn) = call.turn
            && whole(call).is_some()
        {
            turns.insert(turn, call);
        }
    }
    turns
}

/// A transcript of what the model said in `attempt`, turn by turn.
pub fn transcript(trajectory: &Trajectory, attempt: u32) -> Result<Played, Unplayable> {
    let turns = turns(trajectory, attempt);
    let last = *turns.keys().next_back().ok_or(Unplayable::NoAnswer { attempt })?;
    let said = (1..=last).map(|turn| {
        let call = turns.get(&turn).ok_or(Unplayable::Missing { turn })?;
        Ok(turn_of(whole(call).unwrap_or(&Value::Null)))
    });
    let mut said = said.collect::<Result<Vec<_>, _>>()?;
    for (turn, call) in &turns {
        for heard in nudge::heard(&call.messages) {
            // What came before a call of the turn before is that turn's.
            let turn = turn - u32::from(heard.before_call.is_some());
            if let Some(played) = turn.checked_sub(1).and_then(|n| said.get_mut(n as usize)) {
                let mut words = json!({ "text": heard.text });
                if let Some(call) = heard.before_call {
                    words["before_call"] = call.into();
                }
                match played["nudges"].as_array_mut() {
                    Some(all) => all.push(words),
                    None => played["nudges"] = json!([words]),
                }
            }
        }
    }
    let mut transcript = json!({ "version": 1, "turns": said });
    let mut compactions =
        trajectory.calls.iter().filter(|c| c.attempt == attempt && c.purpose == "compaction");
    if let Some(summary) = compactions.find_map(|call| whole(call).map(words)).filter(|s| !s.is_empty()) {
        transcript["compaction"] = summary.into();
    }
    Ok(Played { transcript, turns: last })
}

fn whole(call: &Call) -> Option<&Value> {
    let response = call.response.as_ref().filter(|r| r.error.is_none())?;
    response.message.as_ref()
}

fn words(message: &Value) -> String {
    let blocks = message["content"].as_array().into_iter().flatten();
    blocks.filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n")
}

/// Words and tool calls; thoughts are not played, and nothing depends on them.
fn turn_of(message: &Value) -> Value {
    let mut turn = Map::new();
    let mut content = Vec::new();
    for block in message["content"].as_array().into_iter().flatten() {
        match block["type"].as_str() {
            Some("text") => content.push(json!({ "type": "text", "text": block["text"] })),
            Some("tool_use") => {
                let input = match &block["input"] {
                    // What was no JSON was recorded as it came.
                    Value::String(malformed) => {
                        turn.insert("malformed_tool_json".into(), malformed.clone().into());
                        json!({})
                    }
                    input => input.clone(),
                };
                content.push(json!({ "type": "tool_use", "name": block["name"], "input": input }));
            }
            Some(_) | None => (),
        }
    }
    turn.insert("content".into(), content.into());
    let stop = message["stop_reason"].as_str().unwrap_or("end_turn");
    turn.insert("stop_reason".into(), stop.into());
    let count = |name: &str| message["usage"][name].as_u64();
    if let (Some(input), Some(output)) = (count("input_tokens"), count("output_tokens")) {
        let usage = json!({
            "input_tokens": input,
            "output_tokens": output,
            "cache_read_input_tokens": count("cache_read_input_tokens").unwrap_or(0),
            "cache_creation_input_tokens": count("cache_creation_input_tokens").unwrap_or(0),
        });
        turn.insert("usage".into(), usage);
    }
    Value::Object(turn)
}
