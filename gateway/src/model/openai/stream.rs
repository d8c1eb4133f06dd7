//! A streamed Chat Completions answer as Anthropic's events.
//!
//! Anthropic's blocks come one after the other; Chat Completions may interleave text and several tool calls. The first
//! tool call is passed on as it comes. What comes for any other block meanwhile is kept until that one has ended, which
//! costs nothing: no tool runs before the message is whole.

use bytes::BytesMut;
use domain::TokenCount;
use serde_json::{Value, json};

use super::{error_message, stop_reason, tokens};
use crate::model::answer::Answer;
use crate::model::frame::{End, Frame, estimate, usage_json};
use crate::model::meter::Basis;
use crate::model::sse;

/// The state between two chunks.
pub(in crate::model) struct Translator {
    model: String,
    request_bytes: usize,
    generated: usize,
    started: bool,
    /// The index of the next Anthropic block.
    next_block: usize,
    open: Open,
    /// In the order they began; the first is passed on as it comes.
    calls: Vec<Call>,
    /// Text that came after a tool call had begun.
    late_text: String,
    finish: Option<String>,
    count: Option<TokenCount>,
    done: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Nothing,
    Text,
    Tool,
}

#[derive(Default)]
struct Call {
    /// The server's index, which broken servers give to several calls.
    index: Option<u64>,
    id: String,
    name: String,
    /// Arguments not passed on yet.
    arguments: String,
}

impl Translator {
    pub fn new(model: &str, request_bytes: usize) -> Self {
        Self {
            model: model.to_owned(),
            request_bytes,
            generated: 0,
            started: false,
            next_block: 0,
            open: Open::Nothing,
            calls: vec![],
            late_text: String::new(),
            finish: None,
            count: None,
            done: false,
        }
    }

    /// Takes one event of the server. `None`: nothing to pass on for it.
    pub fn event(&mut self, event: &sse::Event) -> Option<Frame> {
        let data = event.data.trim();
        if self.done || data.is_empty() {
            return None;
        }
        if data == "[DONE]" {
            return Some(if self.started {
                self.end()
            } else {
                self.fail("the provider sent an empty answer")
            });
        }
        let Ok(chunk) = serde_json::from_str::<Value>(data) else {
            return Some(self.fail("the provider sent an event that is not JSON"));
        };
        if let Some(error) = chunk.get("error").filter(|e| !e.is_null()) {
            return Some(self.fail(&error_message(error)));
        }
        if event.name == "error" {
            return Some(self.fail(&error_message(&chunk)));
        }
        let before = self.generated;
        let mut out = BytesMut::new();
        if let Some(count) = tokens(&chunk["usage"]).or_else(|| tokens(&chunk["x_groq"]["usage"])) {
            self.count = Some(count);
        }
        for choice in chunk["choices"].as_array().into_iter().flatten().take(1) {
            self.start(&chunk, &mut out);
            self.delta(&choice["delta"], &mut out);
            if let Some(finish) = choice["finish_reason"].as_str().filter(|f| !f.is_empty()) {
                self.finish = Some(finish.to_owned());
            }
        }
        let generated = self.generated - before;
        (!out.is_empty() || generated > 0).then(|| Frame {
            bytes: out.freeze(),
            counted: None,
            generated,
            end: End::More,
        })
    }

    /// The server has closed the connection. Without `[DONE]` that is an end only if it had said why it stopped.
    pub fn finish(&mut self) -> Option<Frame> {
        match (self.done, &self.finish) {
            (true, _) => None,
            (false, Some(_)) => Some(self.end()),
            (false, None) => Some(self.fail("the provider closed the stream before the answer was whole")),
        }
    }

    fn start(&mut self, chunk: &Value, out: &mut BytesMut) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let id = match chunk["id"].as_str().filter(|id| !id.is_empty()) {
            Some(id) => id.to_owned(),
            None => crate::model::id("msg_", 0),
        };
        let message = json!({
            "id": id,
            "type": "message",
            "role": "assistant",
            "model": chunk["model"].as_str().filter(|m| !m.is_empty()).unwrap_or(&self.model),
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage_json(TokenCount::default()),
        });
        put(out, "message_start", json!({ "message": message }));
    }

    fn delta(&mut self, delta: &Value, out: &mut BytesMut) {
        // Not shown, but generated and billed.
        for field in ["reasoning_content", "reasoning"] {
            self.generated += delta[field].as_str().map_or(0, str::len);
        }
        for field in ["content", "refusal"] {
            if let Some(text) = delta[field].as_str().filter(|t| !t.is_empty()) {
                self.text(text, out);
            }
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            self.call(call, out);
        }
    }

    fn text(&mut self, text: &str, out: &mut BytesMut) {
        self.generated += text.len();
        if !self.calls.is_empty() {
            self.late_text.push_str(text);
            return;
        }
        if self.open == Open::Nothing {
            self.open_block(Open::Text, json!({ "type": "text", "text": "" }), out);
        }
        self.put_delta(json!({ "type": "text_delta", "text": text }), out);
    }

    fn call(&mut self, delta: &Value, out: &mut BytesMut) {
        let id = delta["id"].as_str().unwrap_or_default();
        let name = delta["function"]["name"].as_str().unwrap_or_default();
        let arguments = match &delta["function"]["arguments"] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            object => object.to_string(),
        };
        self.generated += name.len() + arguments.len();
        let slot = self.slot(delta["index"].as_u64(), id, name);
        let call = &mut self.calls[slot];
        if call.id.is_empty() {
            id.clone_into(&mut call.id);
        }
        if call.name.is_empty() {
            name.clone_into(&mut call.name);
        }
        call.arguments.push_str(&arguments);
        if slot == 0 {
            self.pass_on(slot, out);
        }
    }

    /// Which call a delta belongs to. Some servers give every call the index 0, or none at all: a new id with a name
    /// then begins a new call, and what comes without them belongs to the latest.
    fn slot(&mut self, index: Option<u64>, id: &str, name: &str) -> usize {
        let begins = !id.is_empty() && !name.is_empty();
        let by_id = self.calls.iter().position(|c| !id.is_empty() && c.id == id);
        let by_index = match index {
            Some(_) => self.calls.iter().rposition(|c| c.index == index),
            None => self.calls.len().checked_sub(1),
        };
        let by_index = by_index.filter(|slot| !begins || self.calls[*slot].id.is_empty());
        by_id.or(by_index).unwrap_or_else(|| {
            self.calls.push(Call { index, ..Call::default() });
            self.calls.len() - 1
        })
    }

    /// Sends what is there of a call, once its name is known.
    fn pass_on(&mut self, slot: usize, out: &mut BytesMut) {
        let Some(call) = self.calls.get_mut(slot).filter(|c| !c.name.is_empty()) else { return };
        let arguments = std::mem::take(&mut call.arguments);
        if call.id.is_empty() {
            call.id = crate::model::id("toolu_", slot);
        }
        let block = json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": {} });
        if self.open != Open::Tool {
            self.close_block(out);
            self.open_block(Open::Tool, block, out);
        }
        if !arguments.is_empty() {
            self.put_delta(json!({ "type": "input_json_delta", "partial_json": arguments }), out);
        }
    }

    fn end(&mut self) -> Frame {
        let mut out = BytesMut::new();
        self.start(&Value::Null, &mut out);
        self.close_block(&mut out);
        for slot in 1..self.calls.len() {
            self.pass_on(slot, &mut out);
            self.close_block(&mut out);
        }
        if !self.late_text.is_empty() {
            let text = std::mem::take(&mut self.late_text);
            self.open_block(Open::Text, json!({ "type": "text", "text": "" }), &mut out);
            self.put_delta(json!({ "type": "text_delta", "text": text }), &mut out);
            self.close_block(&mut out);
        }
        let counted = match self.count {
            Some(count) => (count, Basis::Reported),
            None => (estimate(self.request_bytes, self.generated), Basis::Estimated),
        };
        let tools = self.calls.iter().filter(|c| !c.name.is_empty()).count();
        let stop = stop_reason(self.finish.as_deref().unwrap_or_default(), tools);
        put(
            &mut out,
            "message_delta",
            json!({ "delta": { "stop_reason": stop, "stop_sequence": null }, "usage": usage_json(counted.0) }),
        );
        put(&mut out, "message_stop", json!({}));
        self.done = true;
        Frame { bytes: out.freeze(), counted: Some(counted), generated: 0, end: End::Stop }
    }

    fn fail(&mut self, message: &str) -> Frame {
        self.done = true;
        let counted = self.count.map(|count| (count, Basis::Reported));
        Frame { bytes: Answer::bad_gateway(message).event(), counted, generated: 0, end: End::Failed }
    }

    fn open_block(&mut self, open: Open, block: Value, out: &mut BytesMut) {
        put(out, "content_block_start", json!({ "index": self.next_block, "content_block": block }));
        self.next_block += 1;
        self.open = open;
    }

    fn put_delta(&self, delta: Value, out: &mut BytesMut) {
        put(out, "content_block_delta", json!({ "index": self.next_block - 1, "delta": delta }));
    }

    fn close_block(&mut self, out: &mut BytesMut) {
        if self.open != Open::Nothing {
            put(out, "content_block_stop", json!({ "index": self.next_block - 1 }));
            self.open = Open::Nothing;
        }
    }
}

fn put(out: &mut BytesMut, name: &str, mut data: Value) {
    data["type"] = name.into();
    out.extend_from_slice(&sse::write(name, &data));
}

#[cfg(test)]
mod tests;
