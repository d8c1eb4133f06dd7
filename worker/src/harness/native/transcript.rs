//! What was said so far, about how many tokens that is, and the request made of it.

use domain::TokenCount;
use serde::Serialize;
use serde_json::{Value, json};

use crate::tool::{Content, ToolOutput, Tools};

/// Bytes of text per token, on average and on the safe side.
const BYTES_PER_TOKEN: u64 = 4;
/// What a picture costs, about.
const IMAGE_TOKENS: u64 = 1_600;
/// What a block costs besides its text.
const BLOCK_TOKENS: u64 = 8;

/// Who said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// We: the task, tool results, notes.
    User,
    /// The model.
    Assistant,
}

/// A piece of a message, in the wire's shape.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Block {
    /// Text.
    Text {
        /// Never empty: the API refuses that.
        text: String,
    },
    /// A picture.
    Image {
        /// `{type: base64, media_type, data}`.
        source: Value,
    },
    /// The model's thoughts; they must be sent back as they came.
    Thinking {
        /// What it thought.
        thinking: String,
        /// The provider's seal on it.
        signature: String,
    },
    /// A tool call of the model.
    ToolUse {
        /// Its id.
        id: String,
        /// The tool.
        name: String,
        /// A JSON object.
        input: Value,
    },
    /// Its result.
    ToolResult {
        /// Of which call.
        tool_use_id: String,
        /// What it came to.
        content: Vec<Part>,
        /// Whether it failed.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
    /// A block of a kind we do not know, sent back as it came.
    #[serde(untagged)]
    Other(Value),
}

/// A piece of a tool result, in the wire's shape.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Part {
    /// Text.
    Text {
        /// Never empty.
        text: String,
    },
    /// A picture.
    Image {
        /// `{type: base64, media_type, data}`.
        source: Value,
    },
}

/// What one side said.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Message {
    /// Which side.
    pub role: Role,
    /// What.
    pub content: Vec<Block>,
}

/// The conversation. Messages are only ever appended, or replaced as a whole by compaction, so that the provider's
/// prompt cache keeps matching.
#[derive(Debug)]
pub struct Transcript {
    system: String,
    definitions: Vec<Value>,
    /// From the task on.
    pub messages: Vec<Message>,
    /// Tokens of all messages: what the provider counted, plus an estimate of what was added since.
    tokens: u64,
}

/// Whether the model may call tools in its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolChoice {
    /// It may.
    Auto,
    /// It must answer in words.
    None,
}

impl Transcript {
    /// Begins with the system prompt, the tools and the task.
    pub fn new(system: String, tools: &Tools, first: Vec<Block>) -> Self {
        let mut begun = Self { system, definitions: tools.definitions(), messages: Vec::new(), tokens: 0 };
        begun.push(Role::User, first);
        begun.estimate_again();
        begun
    }

    /// About how many tokens the next request has.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Appends a message; one of the same side as the last is joined to it.
    pub fn push(&mut self, role: Role, content: Vec<Block>) {
        self.tokens += content.iter().map(Block::tokens).sum::<u64>();
        match self.messages.last_mut() {
            Some(last) if last.role == role => last.content.extend(content),
            Some(_) | None => self.messages.push(Message { role, content }),
        }
    }

    /// Appends what the model said; what it cost tells how large the transcript is.
    pub fn push_reply(&mut self, content: Vec<Block>, usage: TokenCount) {
        if !content.is_empty() {
            self.push(Role::Assistant, content);
        }
        if usage.context() > 0 {
            self.tokens = usage.context() + usage.output;
        }
    }

    /// Replaces the messages.
    pub fn replace(&mut self, messages: Vec<Message>) {
        self.messages = messages;
        self.estimate_again();
    }

    /// The request's body. `extra` is said after the messages, for this request only.
    pub fn request(&self, model: &str, max_tokens: u64, choice: ToolChoice, extra: Option<&str>) -> Vec<u8> {
        #[derive(Serialize)]
        struct Request<'a> {
            model: &'a str,
            max_tokens: u64,
            stream: bool,
            system: Value,
            tools: Vec<Value>,
            #[serde(skip_serializing_if = "Option::is_none")]
            tool_choice: Option<Value>,
            messages: Vec<Said<'a>>,
        }
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Said<'a> {
            AsIs(&'a Message),
            Changed(Value),
        }
        let mut messages: Vec<Said<'_>> = self.messages.iter().map(Said::AsIs).collect();
        let last_user = self.messages.iter().rposition(|message| message.role == Role::User);
        if let Some(at) = last_user {
            let mut said = json!(self.messages[at]);
            if let Some(block) = said["content"].as_array_mut().and_then(|content| content.last_mut()) {
                block["cache_control"] = cached();
            }
            messages[at] = Said::Changed(said);
        }
        if let Some(extra) = extra {
            let words = json!({ "type": "text", "text": extra });
            match messages.last_mut() {
                Some(Said::Changed(last)) if last["role"] == "user" => {
                    if let Some(content) = last["content"].as_array_mut() {
                        content.push(words);
                    }
                }
                Some(_) | None => messages.push(Said::Changed(json!({ "role": "user", "content": [words] }))),
            }
        }
        let mut tools = self.definitions.clone();
        if let Some(last) = tools.last_mut() {
            last["cache_control"] = cached();
        }
        let request = Request {
            model,
            max_tokens,
            stream: true,
            system: json!([{ "type": "text", "text": self.system, "cache_control": cached() }]),
            tools,
            tool_choice: match choice {
                ToolChoice::Auto => None,
                ToolChoice::None => Some(json!({ "type": "none" })),
            },
            messages,
        };
        serde_json::to_vec(&request).unwrap_or_default()
    }

    fn estimate_again(&mut self) {
        let definitions: usize = self.definitions.iter().map(|tool| tool.to_string().len()).sum();
        let fixed = (self.system.len() + definitions) as u64 / BYTES_PER_TOKEN;
        self.tokens = fixed + self.messages.iter().map(Message::tokens).sum::<u64>();
    }
}

impl Message {
    /// About how many tokens.
    pub fn tokens(&self) -> u64 {
        self.content.iter().map(Block::tokens).sum()
    }
}

impl Block {
    /// Text; an empty one becomes a word, because the API refuses empty text.
    pub fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Block::Text { text: if text.trim().is_empty() { "(empty)".into() } else { text } }
    }

    /// The result of that call.
    pub fn result(tool_use_id: &str, output: ToolOutput) -> Self {
        let part = |content| match content {
            Content::Text(text) => Part::Text { text },
            Content::Image { media_type, data } => {
                Part::Image { source: json!({ "type": "base64", "media_type": media_type, "data": data }) }
            }
        };
        Block::ToolResult {
            tool_use_id: tool_use_id.to_owned(),
            content: output.content.into_iter().map(part).collect(),
            is_error: output.is_error,
        }
    }

    /// About how many tokens.
    pub fn tokens(&self) -> u64 {
        let bytes = |len: usize| len as u64 / BYTES_PER_TOKEN;
        BLOCK_TOKENS
            + match self {
                Block::Text { text } => bytes(text.len()),
                Block::Image { .. } => IMAGE_TOKENS,
                Block::Thinking { thinking, signature } => bytes(thinking.len() + signature.len()),
                Block::ToolUse { name, input, .. } => bytes(name.len() + json_len(input)),
                Block::ToolResult { content, .. } => content.iter().map(Part::tokens).sum(),
                Block::Other(value) => bytes(json_len(value)),
            }
    }
}

impl Part {
    fn tokens(&self) -> u64 {
        match self {
            Part::Text { text } => text.len() as u64 / BYTES_PER_TOKEN,
            Part::Image { .. } => IMAGE_TOKENS,
        }
    }
}

/// The length as JSON, about, without writing it.
fn json_len(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 6,
        Value::String(text) => text.len() + 2,
        Value::Array(list) => list.iter().map(json_len).sum::<usize>() + 2,
        Value::Object(map) => {
            map.iter().map(|(key, value)| key.len() + 4 + json_len(value)).sum::<usize>() + 2
        }
    }
}

fn cached() -> Value {
    json!({ "type": "ephemeral" })
}
