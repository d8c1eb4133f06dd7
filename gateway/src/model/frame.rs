//! What every provider yields, whatever its wire: whole Anthropic events with what they say about tokens.

use std::io;
use std::pin::Pin;

use bytes::Bytes;
use domain::TokenCount;
use futures_util::Stream;
use serde_json::{Value, json};

use super::answer::Answer;
use super::meter::{Basis, tokens_of};
use super::sse;

/// One or more whole events for the client.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub bytes: Bytes,
    /// The count so far, when this frame says it.
    pub counted: Option<(TokenCount, Basis)>,
    /// Bytes the model has generated with this frame, for the estimate when the count never comes.
    pub generated: usize,
    pub end: End,
}

/// Whether a stream goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    More,
    /// `message_stop`.
    Stop,
    /// An `error` event of the provider.
    Failed,
}

/// The frames of an answer; the error of one that broke says how.
pub(super) type Frames = Pin<Box<dyn Stream<Item = Result<Frame, io::Error>> + Send>>;

/// A provider's answer, once it has said yes.
pub(super) enum Opened {
    Stream(Frames),
    /// A whole message, as JSON.
    Message {
        body: Bytes,
        counted: Option<(TokenCount, Basis)>,
    },
    /// It said yes, and broke off after this many bytes.
    Torn {
        bytes: usize,
        answer: Answer,
    },
}

/// Reads along a stream of Anthropic events and keeps what it says about tokens.
#[derive(Debug, Default)]
pub(super) struct Tally {
    tokens: TokenCount,
}

impl Tally {
    /// The frame for one event as it came.
    pub fn frame(&mut self, event: sse::Event) -> Frame {
        let mut frame = Frame { bytes: event.raw, counted: None, generated: 0, end: End::More };
        match kind_of(&event.name, &event.data).as_str() {
            // The many: not parsed, only measured. About 80 bytes of each are its JSON shell.
            "content_block_delta" => frame.generated = event.data.len().saturating_sub(80),
            "content_block_start" => frame.generated = event.data.len().saturating_sub(90),
            "message_start" => {
                let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
                frame.counted = self.add(&data["message"]["usage"]);
            }
            "message_delta" => {
                let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
                frame.counted = self.add(&data["usage"]);
            }
            "message_stop" => frame.end = End::Stop,
            "error" => frame.end = End::Failed,
            _ => {}
        }
        frame
    }

    /// Counts are cumulative: a later one replaces an earlier one, an absent one leaves it.
    fn add(&mut self, usage: &Value) -> Option<(TokenCount, Basis)> {
        let count = |name: &str, before: u64| usage[name].as_u64().unwrap_or(before);
        self.tokens = TokenCount {
            input: count("input_tokens", self.tokens.input),
            output: count("output_tokens", self.tokens.output),
            cache_read: count("cache_read_input_tokens", self.tokens.cache_read),
            cache_write: count("cache_creation_input_tokens", self.tokens.cache_write),
        };
        (self.tokens != TokenCount::default()).then_some((self.tokens, Basis::Reported))
    }
}

/// The count of a whole Anthropic message.
pub(super) fn counted(message: &Value) -> Option<(TokenCount, Basis)> {
    Tally::default().add(&message["usage"])
}

/// Anthropic's usage object.
pub(super) fn usage_json(tokens: TokenCount) -> Value {
    json!({
        "input_tokens": tokens.input,
        "output_tokens": tokens.output,
        "cache_creation_input_tokens": tokens.cache_write,
        "cache_read_input_tokens": tokens.cache_read,
    })
}

/// Guessed from the sizes of the request and of what came back.
pub(super) fn estimate(request_bytes: usize, generated: usize) -> TokenCount {
    TokenCount { input: tokens_of(request_bytes), output: tokens_of(generated), ..TokenCount::default() }
}

/// The events that a client would have seen, had this message been streamed. `chunk` characters go into each delta.
pub(super) fn events_of(message: &Value, chunk: Option<usize>) -> Vec<(&'static str, Value)> {
    let mut start = message.clone();
    start["content"] = json!([]);
    start["stop_reason"] = Value::Null;
    start["stop_sequence"] = Value::Null;
    start["usage"]["output_tokens"] = 1.into();
    let mut events = vec![("message_start", json!({ "type": "message_start", "message": start }))];
    for (index, block) in message["content"].as_array().into_iter().flatten().enumerate() {
        let mut begun = block.clone();
        let (field, delta_type, text) = match block["type"].as_str().unwrap_or_default() {
            "text" => ("text", "text_delta", block["text"].as_str().unwrap_or_default().to_owned()),
            "thinking" => {
                ("thinking", "thinking_delta", block["thinking"].as_str().unwrap_or_default().to_owned())
            }
            "tool_use" => (
                "input",
                "input_json_delta",
                match &block["input"] {
                    Value::String(malformed) => malformed.clone(),
                    input => input.to_string(),
                },
            ),
            _ => ("", "", String::new()),
        };
        let delta_field = if field == "input" { "partial_json" } else { field };
        match field {
            "" => {}
            "input" => begun["input"] = json!({}),
            _ => begun[field] = "".into(),
        }
        let signature = begun.as_object_mut().and_then(|b| b.remove("signature"));
        events.push((
            "content_block_start",
            json!({ "type": "content_block_start", "index": index, "content_block": begun }),
        ));
        let mut delta = |delta: Value| {
            events.push((
                "content_block_delta",
                json!({ "type": "content_block_delta", "index": index, "delta": delta }),
            ));
        };
        for piece in pieces(&text, chunk) {
            delta(json!({ "type": delta_type, delta_field: piece }));
        }
        if let Some(signature) = signature {
            delta(json!({ "type": "signature_delta", "signature": signature }));
        }
        events.push(("content_block_stop", json!({ "type": "content_block_stop", "index": index })));
    }
    events.push((
        "message_delta",
        json!({
            "type": "message_delta",
            "delta": { "stop_reason": message["stop_reason"], "stop_sequence": message["stop_sequence"] },
            "usage": message["usage"],
        }),
    ));
    events.push(("message_stop", json!({ "type": "message_stop" })));
    events
}

/// The same, as frames.
pub(super) fn frames_of(message: &Value, chunk: Option<usize>) -> Vec<Frame> {
    let mut tally = Tally::default();
    events_of(message, chunk)
        .into_iter()
        .map(|(name, data)| {
            let raw = sse::write(name, &data);
            tally.frame(sse::Event { name: name.to_owned(), data: data.to_string(), raw })
        })
        .collect()
}

fn pieces(text: &str, chunk: Option<usize>) -> Vec<String> {
    match chunk.filter(|n| *n > 0) {
        _ if text.is_empty() => vec![],
        None => vec![text.to_owned()],
        Some(size) => {
            text.chars().collect::<Vec<_>>().chunks(size).map(|piece| piece.iter().collect()).collect()
        }
    }
}

/// The name of an event; servers that leave out the `event:` line say it in the data.
fn kind_of(name: &str, data: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Typed {
        r#type: Option<String>,
    }
    match name {
        "" | "message" => serde_json::from_str::<Typed>(data).ok().and_then(|t| t.r#type).unwrap_or_default(),
        name => name.to_owned(),
    }
}
