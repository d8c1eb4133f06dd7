//! One streamed answer of the model, put together from its events.

use std::collections::BTreeMap;

use domain::TokenCount;
use serde_json::{Value, json};

use super::transcript::Block;

/// Why the model ended its reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// It has said what it had to say.
    EndTurn,
    /// It waits for tools.
    ToolUse,
    /// The reply reached its limit.
    MaxTokens,
    /// The provider paused a long turn: send it back to go on.
    PauseTurn,
    /// The context window is full.
    WindowFull,
    /// It declines.
    Refusal,
    /// Something we do not know, or nothing.
    Other(String),
}

/// A tool call of a reply.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// Its id.
    pub id: String,
    /// The tool's name, as the model gave it.
    pub name: String,
    /// Its input, or what was wrong with the JSON.
    pub input: Result<Value, String>,
}

/// A whole reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// What goes into the transcript.
    pub blocks: Vec<Block>,
    /// The tools it calls, in order.
    pub tool_calls: Vec<ToolCall>,
    /// Why it ended.
    pub stop: StopReason,
    /// What it used.
    pub usage: TokenCount,
    /// The model that answered, when it said so.
    pub model: Option<String>,
}

impl Reply {
    /// All its text.
    pub fn text(&self) -> String {
        let texts: Vec<&str> = self
            .blocks
            .iter()
            .filter_map(|block| match block {
                Block::Text { text } => Some(text.as_str()),
                Block::Thinking { .. }
                | Block::Image { .. }
                | Block::ToolUse { .. }
                | Block::ToolResult { .. }
                | Block::Other(_) => None,
            })
            .collect();
        texts.join("\n")
    }

    /// All its thoughts, when it showed any.
    pub fn thinking(&self) -> Option<String> {
        let thoughts: Vec<&str> = self
            .blocks
            .iter()
            .filter_map(|block| match block {
                Block::Thinking { thinking, .. } if !thinking.is_empty() => Some(thinking.as_str()),
                Block::Thinking { .. }
                | Block::Text { .. }
                | Block::Image { .. }
                | Block::ToolUse { .. }
                | Block::ToolResult { .. }
                | Block::Other(_) => None,
            })
            .collect();
        (!thoughts.is_empty()).then(|| thoughts.join("\n"))
    }
}

/// What an event of the stream meant.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more to come.
    More,
    /// The reply is whole.
    Done,
    /// The provider gave up.
    Failed {
        /// Anthropic's error type.
        kind: String,
        /// Its message.
        message: String,
        /// Our failure code, when the proxy gave one.
        code: Option<String>,
    },
}

/// Puts a reply together.
#[derive(Debug, Default)]
pub struct Assembly {
    blocks: BTreeMap<u64, Growing>,
    stop: Option<String>,
    usage: TokenCount,
    model: Option<String>,
}

#[derive(Debug)]
enum Growing {
    Text(String),
    Thinking { thinking: String, signature: String },
    ToolUse { id: String, name: String, json: String, given: Value },
    Other(Value),
}

impl Assembly {
    /// Takes one event.
    pub fn take(&mut self, event: &Value) -> Step {
        match event["type"].as_str().unwrap_or_default() {
            "message_start" => {
                self.model =
                    event["message"]["model"].as_str().filter(|name| !name.is_empty()).map(str::to_owned);
                self.count(&event["message"]["usage"]);
            }
            "content_block_start" => {
                self.blocks.insert(index(event), Growing::begin(&event["content_block"]));
            }
            "content_block_delta" => {
                if let Some(block) = self.blocks.get_mut(&index(event)) {
                    block.grow(&event["delta"]);
                }
            }
            "message_delta" => {
                if let Some(reason) = event["delta"]["stop_reason"].as_str() {
                    self.stop = Some(reason.to_owned());
                }
                self.count(&event["usage"]);
            }
            "message_stop" => return Step::Done,
            "error" => {
                let error = &event["error"];
                let word = |field: &str| error[field].as_str().unwrap_or_default().to_owned();
                let code = error["code"].as_str().map(str::to_owned);
                return Step::Failed { kind: word("type"), message: word("message"), code };
            }
            _ => (), // ping, content_block_stop, and what is yet to be invented
        }
        Step::More
    }

    /// The whole reply.
    pub fn finish(self) -> Reply {
        let mut blocks = Vec::with_capacity(self.blocks.len());
        let mut tool_calls = Vec::new();
        for growing in self.blocks.into_values() {
            match growing {
                Growing::Text(text) if text.trim().is_empty() => (),
                Growing::Text(text) => blocks.push(Block::Text { text }),
                Growing::Thinking { thinking, signature } => {
                    blocks.push(Block::Thinking { thinking, signature })
                }
                Growing::ToolUse { id, name, json, given } => {
                    let input = parse_input(&json, given);
                    let said = input.clone().unwrap_or_else(
                        |_| json!({ "malformed_json": domain::event::preview(&json, 1_000) }),
                    );
                    blocks.push(Block::ToolUse { id: id.clone(), name: name.clone(), input: said });
                    tool_calls.push(ToolCall { id, name, input });
                }
                Growing::Other(value) => blocks.push(Block::Other(value)),
            }
        }
        let stop = match self.stop.as_deref().unwrap_or_default() {
            "end_turn" | "stop_sequence" => StopReason::EndTurn,
            "tool_use" => StopReason::ToolUse,
            "max_tokens" => StopReason::MaxTokens,
            "pause_turn" => StopReason::PauseTurn,
            "model_context_window_exceeded" => StopReason::WindowFull,
            "refusal" => StopReason::Refusal,
            other => StopReason::Other(other.to_owned()),
        };
        Reply { blocks, tool_calls, stop, usage: self.usage, model: self.model }
    }

    /// Later counts replace earlier ones: they are totals of this reply.
    fn count(&mut self, usage: &Value) {
        let mut set = |field: &str, slot: fn(&mut TokenCount) -> &mut u64| {
            if let Some(n) = usage[field].as_u64() {
                *slot(&mut self.usage) = n;
            }
        };
        set("input_tokens", |usage| &mut usage.input);
        set("output_tokens", |usage| &mut usage.output);
        set("cache_read_input_tokens", |usage| &mut usage.cache_read);
        set("cache_creation_input_tokens", |usage| &mut usage.cache_write);
    }
}

impl Growing {
    fn begin(block: &Value) -> Self {
        let word = |field: &str| block[field].as_str().unwrap_or_default().to_owned();
        match block["type"].as_str().unwrap_or_default() {
            "text" => Growing::Text(word("text")),
            "thinking" => Growing::Thinking { thinking: word("thinking"), signature: word("signature") },
            "tool_use" => Growing::ToolUse {
                id: word("id"),
                name: word("name"),
                json: String::new(),
                given: block["input"].clone(),
            },
            _ => Growing::Other(block.clone()),
        }
    }

    fn grow(&mut self, delta: &Value) {
        let word = |field: &str| delta[field].as_str().unwrap_or_default();
        match self {
            Growing::Text(text) => text.push_str(word("text")),
            Growing::Thinking { thinking, signature } => {
                thinking.push_str(word("thinking"));
                signature.push_str(word("signature"));
            }
            Growing::ToolUse { json, .. } => json.push_str(word("partial_json")),
            Growing::Other(_) => (),
        }
    }
}

/// The input of a tool call: an object, streamed as text or given whole at the start.
fn parse_input(json: &str, given: Value) -> Result<Value, String> {
    if json.trim().is_empty() {
        return Ok(if given.is_object() { given } else { json!({}) });
    }
    match serde_json::from_str::<Value>(json) {
        Ok(input) if input.is_object() => Ok(input),
        Ok(_) => Err("it is not a JSON object".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn index(event: &Value) -> u64 {
    event["index"].as_u64().unwrap_or_default()
}
