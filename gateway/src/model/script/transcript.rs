//! A transcript file: what a scripted model says, turn by turn. Its format is described in `docs/guide/transcripts.md`.

use std::path::Path;

use domain::steer::Boundary;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A whole file, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Transcript {
    /// The model name that answers carry; the asked-for one when absent.
    pub model: Option<String>,
    /// At least one.
    pub turns: Vec<Turn>,
    /// What follows the last turn.
    pub after_last: AfterLast,
    /// The answer to a compaction call.
    pub compaction: Option<String>,
}

/// What the model says in one turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Text and tool calls.
    pub content: Vec<Block>,
    /// Anthropic's stop reason; `tool_use` or `end_turn`, by the content, when absent.
    pub stop_reason: Option<String>,
    /// The tokens; computed from sizes when absent.
    pub usage: Option<UsageField>,
    /// Pause before the answer.
    pub delay_ms: u64,
    /// Characters in each delta; one delta for each block when absent.
    pub chunk: Option<usize>,
    /// Sent, as it is, as the input of the turn's last tool call.
    pub malformed_tool_json: Option<String>,
    /// Sent instead of the content.
    pub error: Option<ErrorField>,
    /// The connection breaks after this many events.
    pub cut_after: Option<usize>,
    /// What people say at this turn.
    pub nudges: Vec<NudgeField>,
}

/// Words of a person to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NudgeField {
    /// The words.
    pub text: String,
    /// They are heard before this tool call of the turn, from 1 (of a turn without one: when it would be the last); before the
    /// model is asked when absent.
    #[serde(default)]
    pub before_call: Option<u32>,
}

/// One block of a turn.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Block {
    /// Words.
    Text {
        /// The words.
        text: String,
    },
    /// A tool call; its id is made anew each time it is played.
    ToolUse {
        /// The tool.
        name: String,
        /// Its input.
        #[serde(default)]
        input: Map<String, Value>,
    },
}

/// Token counts of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageField {
    /// Input tokens at the full price.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Input tokens read from cache.
    #[serde(default)]
    pub cache_read_input_tokens: u64,
    /// Input tokens written to cache.
    #[serde(default)]
    pub cache_creation_input_tokens: u64,
}

/// An error of a scripted provider.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorField {
    /// The HTTP status, 400 to 599.
    pub status: u16,
    /// Anthropic's error type.
    #[serde(default = "ErrorField::default_type")]
    pub r#type: String,
    /// The message.
    #[serde(default)]
    pub message: String,
    /// `Retry-After`, in seconds.
    #[serde(default)]
    pub retry_after: Option<u64>,
    /// Only the first so many requests of a task for this turn; every one when absent.
    #[serde(default)]
    pub times: Option<u32>,
}

impl ErrorField {
    fn default_type() -> String {
        "api_error".into()
    }
}

/// What follows the last turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterLast {
    /// A text that says the transcript is over, and `end_turn`.
    #[default]
    End,
    /// The turns again, from the first: a model that never ends.
    Repeat,
}

/// A transcript that cannot be played.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("transcript {file}: {problem}")]
pub struct BadTranscript {
    /// The file.
    pub file: String,
    /// Where in it, and what is wrong.
    pub problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileFields {
    version: u64,
    model: Option<String>,
    turns: Vec<Value>,
    #[serde(default)]
    after_last: AfterLast,
    compaction: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TurnFields {
    #[serde(default)]
    content: Vec<Value>,
    stop_reason: Option<String>,
    usage: Option<Value>,
    #[serde(default)]
    delay_ms: u64,
    chunk: Option<usize>,
    malformed_tool_json: Option<String>,
    error: Option<Value>,
    cut_after: Option<usize>,
    #[serde(default)]
    nudges: Vec<Value>,
}

const STOP_REASONS: [&str; 6] =
    ["end_turn", "tool_use", "max_tokens", "stop_sequence", "pause_turn", "refusal"];

impl Transcript {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, BadTranscript> {
        let bad = |problem| BadTranscript { file: path.display().to_string(), problem };
        let text = std::fs::read_to_string(path).map_err(|e| bad(format!("reading it: {e}")))?;
        Self::parse(&text).map_err(bad)
    }

    /// Checks a text. The error names the turn (from 1) and the field.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: FileFields = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if file.version != 1 {
            return Err(format!("version: this program plays version 1, not {}", file.version));
        }
        if file.turns.is_empty() {
            return Err("turns: at least one turn is needed".into());
        }
        let turns = file.turns.into_iter().enumerate().map(|(n, turn)| Turn::check(turn, n + 1));
        Ok(Self {
            model: file.model,
            turns: turns.collect::<Result<_, _>>()?,
            after_last: file.after_last,
            compaction: file.compaction,
        })
    }
}

impl Transcript {
    /// Whether people speak in it.
    pub fn has_nudges(&self) -> bool {
        self.turns.iter().any(|turn| !turn.nudges.is_empty())
    }

    /// What people say by that boundary: the turn, its place among what is said in that turn, the words. What was heard at an
    /// earlier boundary of the turn is among it; what should have been heard before a call of the turn before and was not,
    /// because there was none, is heard before the next one.
    pub fn nudges(&self, at: Boundary) -> Vec<(u32, usize, &str)> {
        let of = |turn: u32| {
            let found = turn.checked_sub(1).and_then(|n| self.turns.get(n as usize));
            let said = found.into_iter().flat_map(|turn| turn.nudges.iter().enumerate());
            said.map(move |(n, nudge)| (turn, n, nudge))
        };
        let before = of(at.turn.saturating_sub(1)).filter(|(_, _, nudge)| nudge.before_call.is_some());
        let now = of(at.turn).filter(|(_, _, nudge)| match (nudge.before_call, at.calls) {
            (None, _) => at.calls.is_none(),
            (Some(call), done) => done.is_some_and(|done| call <= done.saturating_add(1)),
        });
        let before = before.filter(|_| at.calls.is_none());
        before.chain(now).map(|(turn, n, nudge)| (turn, n, nudge.text.as_str())).collect()
    }
}

impl Turn {
    fn check(turn: Value, number: usize) -> Result<Self, String> {
        let at = format!("turn {number}");
        let fields: TurnFields = part(turn, &at)?;
        let mut content = vec![];
        for (n, block) in fields.content.into_iter().enumerate() {
            content.push(part::<Block>(block, &format!("{at}, content {}", n + 1))?);
        }
        let mut nudges = vec![];
        for (n, nudge) in fields.nudges.into_iter().enumerate() {
            let at = format!("{at}, nudge {}", n + 1);
            let nudge: NudgeField = part(nudge, &at)?;
            if nudge.text.trim().is_empty() || nudge.before_call == Some(0) {
                return Err(format!("{at}: text must say something, and before_call counts from 1"));
            }
            nudges.push(nudge);
        }
        let usage = fields.usage.map(|u| part(u, &format!("{at}, usage"))).transpose()?;
        let error: Option<ErrorField> = fields.error.map(|e| part(e, &format!("{at}, error"))).transpose()?;
        if let Some(error) = error.as_ref().filter(|e| !(400..=599).contains(&e.status)) {
            return Err(format!("{at}, error.status: 400 to 599 is an error, {} is not", error.status));
        }
        if content.is_empty() && error.as_ref().is_none_or(|e| e.times.is_some()) {
            return Err(format!("{at}, content: say something, or give an error without `times`"));
        }
        if let Some(reason) = fields.stop_reason.as_deref().filter(|r| !STOP_REASONS.contains(r)) {
            return Err(format!("{at}, stop_reason: {reason:?} is none of {}", STOP_REASONS.join(", ")));
        }
        if fields.chunk == Some(0) {
            return Err(format!("{at}, chunk: at least 1 character"));
        }
        let calls = content.iter().any(|b| matches!(b, Block::ToolUse { .. }));
        if fields.malformed_tool_json.is_some() && !calls {
            return Err(format!("{at}, malformed_tool_json: the turn has no tool_use to send it in"));
        }
        Ok(Self {
            content,
            stop_reason: fields.stop_reason,
            usage,
            delay_ms: fields.delay_ms,
            chunk: fields.chunk,
            malformed_tool_json: fields.malformed_tool_json,
            error,
            cut_after: fields.cut_after,
            nudges,
        })
    }
}

fn part<T: DeserializeOwned>(value: Value, at: &str) -> Result<T, String> {
    serde_json::from_value(value).map_err(|e| format!("{at}: {e}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problem(turn: Value) -> String {
        Transcript::parse(
            &json!({ "version": 1, "turns": [{ "content": [{ "type": "text", "text": "a" }] }, turn] })
                .to_string(),
        )
        .unwrap_err()
    }

    #[test]
    fn people_speak_before_a_turn_or_before_one_of_its_calls() {
        let said =
            json!([{ "text": "a" }, { "text": "b", "before_call": 2 }, { "text": "c", "before_call": 3 }]);
        let content = json!([{ "type": "text", "text": "x" }]);
        let text = json!({ "version": 1, "turns": [{ "content": content }, { "content": content, "nudges": said }] });
        let script = Transcript::parse(&text.to_string()).unwrap();
        let heard = |turn, calls| {
            let all = script.nudges(Boundary { turn, calls });
            all.iter().map(|(turn, n, text)| format!("{turn}.{n}{text} ")).collect::<String>()
        };
        assert_eq!((heard(1, None), heard(2, None)), (String::new(), "2.0a ".to_owned()));
        // A boundary that was passed over is made up for at the next one.
        assert_eq!([Some(0), Some(1), Some(2)].map(|calls| heard(2, calls)), ["", "2.1b ", "2.1b 2.2c "]);
        assert_eq!((heard(3, None), heard(3, Some(0))), ("2.1b 2.2c ".to_owned(), String::new()));
        assert!(
            !Transcript::parse(r#"{"version":1,"turns":[{"content":[{"type":"text","text":"x"}]}]}"#)
                .unwrap()
                .has_nudges()
        );
    }

    #[test]
    fn errors_name_the_turn_and_the_field() {
        let cases = [
            (
                json!({ "content": [{ "type": "text", "text": "a" }], "nudges": [{ "text": "a", "before_call": 0 }] }),
                "turn 2, nudge 1: text must say something",
            ),
            (
                json!({ "content": [{ "type": "txt", "text": "a" }] }),
                "turn 2, content 1: unknown variant `txt`",
            ),
            (
                json!({ "content": [{ "type": "tool_use", "name": "bash", "input": 1 }] }),
                "turn 2, content 1: invalid type",
            ),
            (json!({ "contents": [] }), "turn 2: unknown field `contents`"),
            (json!({ "content": [] }), "turn 2, content: say something"),
            (
                json!({ "content": [{ "type": "text", "text": "a" }], "stop_reason": "stop" }),
                "turn 2, stop_reason: \"stop\"",
            ),
            (json!({ "error": { "status": 200 } }), "turn 2, error.status: 400 to 599"),
            (json!({ "error": { "status": 429, "times": 1 } }), "turn 2, content: say something"),
            (json!({ "error": { "code": 429 } }), "turn 2, error: unknown field `code`"),
            (
                json!({ "content": [{ "type": "text", "text": "a" }], "malformed_tool_json": "{" }),
                "turn 2, malformed_tool_json",
            ),
            (
                json!({ "content": [{ "type": "text", "text": "a" }], "usage": { "input_tokens": 1 } }),
                "turn 2, usage: missing field `output_tokens`",
            ),
        ];
        for (turn, want) in cases {
            let got = problem(turn);
            assert!(got.starts_with(want), "{got:?} should start with {want:?}");
        }
        assert!(Transcript::parse("{\"version\":2,\"turns\":[]}").unwrap_err().contains("version"));
        assert!(Transcript::parse("{\"version\":1,\"turns\":[]}").unwrap_err().contains("turns"));
    }
}
