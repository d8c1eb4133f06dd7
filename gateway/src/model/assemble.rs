//! A streamed answer as one message, for the trace. What did not come is not there.

use serde_json::{Map, Value};

use super::sse::Splitter;

/// The message of a stream of Anthropic events; `None` when it has not begun.
pub(crate) fn assemble(raw: &[u8]) -> Option<Value> {
    let mut splitter = Splitter::default();
    splitter.push(raw).ok()?;
    let mut message: Option<Map<String, Value>> = None;
    let mut blocks: Vec<Block> = Vec::new();
    while let Some(event) = splitter.next_event() {
        let Ok(mut data) = serde_json::from_str::<Value>(&event.data) else { continue };
        let index = data["index"].as_u64().and_then(|n| usize::try_from(n).ok());
        match data["type"].as_str() {
            Some("message_start") => {
                message = data["message"].take().as_object_mut().map(std::mem::take);
            }
            Some("content_block_start") => {
                let block =
                    data["content_block"].take().as_object_mut().map(std::mem::take).unwrap_or_default();
                blocks.push(Block { fields: block, json: String::new() });
            }
            Some("content_block_delta") => {
                let block = index.and_then(|n| blocks.get_mut(n));
                if let (Some(block), Some(delta)) = (block, data["delta"].as_object()) {
                    block.add(delta);
                }
            }
            Some("message_delta") => {
                if let (Some(message), Value::Object(delta)) = (&mut message, data["delta"].take()) {
                    message.extend(delta);
                }
                if let (Some(message), Value::Object(usage)) = (&mut message, data["usage"].take()) {
                    match message.get_mut("usage").and_then(Value::as_object_mut) {
                        Some(known) => known.extend(usage),
                        None => drop(message.insert("usage".into(), usage.into())),
                    }
                }
            }
            Some(_) | None => (),
        }
    }
    let mut message = message?;
    message.insert("content".into(), blocks.into_iter().map(Block::finish).collect());
    Some(Value::Object(message))
}

struct Block {
    fields: Map<String, Value>,
    /// A tool's input, as it comes.
    json: String,
}

impl Block {
    fn add(&mut self, delta: &Map<String, Value>) {
        for (field, piece) in delta {
            let Value::String(piece) = piece else { continue };
            match field.as_str() {
                "type" => (),
                "partial_json" => self.json.push_str(piece),
                field => match self.fields.get_mut(field) {
                    Some(Value::String(text)) => text.push_str(piece),
                    Some(_) | None => drop(self.fields.insert(field.to_owned(), piece.clone().into())),
                },
            }
        }
    }

    /// An input that is no JSON stays the text it is.
    fn finish(mut self) -> Value {
        if !self.json.is_empty() {
            let input = serde_json::from_str(&self.json).unwrap_or(Value::String(self.json));
            self.fields.insert("input".into(), input);
        }
        Value::Object(self.fields)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::frame::events_of;
    use super::super::sse;
    use super::*;

    fn streamed(message: &Value) -> Vec<u8> {
        events_of(message, Some(3)).iter().flat_map(|(name, data)| sse::write(name, data).to_vec()).collect()
    }

    #[test]
    fn a_streamed_message_is_the_message() {
        let message = json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m",
            "content": [
                { "type": "thinking", "thinking": "let me see", "signature": "seal" },
                { "type": "text", "text": "I look – now" },
                { "type": "tool_use", "id": "t1", "name": "Bash", "input": { "command": "ls", "n": [1, null] } },
                { "type": "tool_use", "id": "t2", "name": "Bash", "input": {} },
            ],
            "stop_reason": "tool_use", "stop_sequence": null,
            "usage": { "input_tokens": 7, "output_tokens": 9, "cache_read_input_tokens": 1, "cache_creation_input_tokens": 0 },
        });
        assert_eq!(assemble(&streamed(&message)).unwrap(), message);
    }

    #[test]
    fn what_did_not_come_is_not_there() {
        let message = json!({
            "id": "msg_1", "role": "assistant", "content": [{ "type": "tool_use", "id": "t", "name": "B", "input": { "a": "long" } }],
            "stop_reason": "tool_use", "stop_sequence": null, "usage": { "input_tokens": 7, "output_tokens": 9 },
        });
        let raw = streamed(&message);
        let cut = String::from_utf8(raw.clone()).unwrap();
        let cut = cut.find("event: content_block_stop").unwrap();
        let part = assemble(&raw[..cut]).unwrap();
        assert_eq!(part["stop_reason"], Value::Null);
        assert_eq!(part["content"][0]["input"], json!({ "a": "long" }));
        assert_eq!(assemble(&raw[..raw.len().min(20)]), None);
        assert_eq!(assemble(b""), None);
    }

    #[test]
    fn an_input_that_is_no_json_is_kept_as_text() {
        let message = json!({
            "role": "assistant", "stop_reason": null, "stop_sequence": null, "usage": {},
            "content": [{ "type": "tool_use", "id": "t", "name": "B", "input": "{\"a\": " }],
        });
        assert_eq!(assemble(&streamed(&message)).unwrap()["content"][0]["input"], "{\"a\": ");
    }
}
