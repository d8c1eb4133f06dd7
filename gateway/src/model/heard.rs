//! Of an answer only what tells which one it was: its id, its model, why it ended.

use serde::Deserialize;
use serde_json::{Value, json};

use super::assemble::assemble;
use super::frame::Frame;

/// Bytes of a stream that are kept for it.
const KEPT_MAX_BYTES: usize = 64 * 1024;

/// The few frames of a stream that say it.
#[derive(Default)]
pub(super) struct Heard {
    raw: Vec<u8>,
}

impl Heard {
    /// Keeps a frame if it says something of it: the first, and those that count tokens.
    pub fn hear(&mut self, frame: &Frame) {
        let begins = || memchr::memmem::find(&frame.bytes, b"message_start").is_some();
        let says = frame.counted.is_some() || (self.raw.is_empty() && begins());
        if says && self.raw.len() + frame.bytes.len() <= KEPT_MAX_BYTES {
            self.raw.extend_from_slice(&frame.bytes);
        }
    }

    /// What they say, in the shape of a message without content.
    pub fn message(&self) -> Option<Value> {
        assemble(&self.raw).map(|message| brief(&message))
    }
}

/// The same of a message that came whole.
pub(super) fn of_message(body: &[u8]) -> Option<Value> {
    #[derive(Deserialize)]
    struct Message {
        id: Option<String>,
        model: Option<String>,
        stop_reason: Option<String>,
    }
    let Message { id, model, stop_reason } = serde_json::from_slice(body).ok()?;
    Some(json!({ "id": id, "model": model, "stop_reason": stop_reason }))
}

fn brief(message: &Value) -> Value {
    json!({ "id": message["id"], "model": message["model"], "stop_reason": message["stop_reason"] })
}

#[cfg(test)]
mod tests {
    use super::super::frame::frames_of;
    use super::*;

    #[test]
    fn a_stream_and_a_message_say_the_same_and_nothing_of_the_content() {
        let message = json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m-1",
            "content": [{ "type": "text", "text": "long words ".repeat(1_000) }],
            "stop_reason": "end_turn", "stop_sequence": null,
            "usage": { "input_tokens": 7, "output_tokens": 9 },
        });
        let mut heard = Heard::default();
        frames_of(&message, Some(10)).iter().for_each(|frame| heard.hear(frame));
        let said = json!({ "id": "msg_1", "model": "m-1", "stop_reason": "end_turn" });
        assert_eq!(heard.message(), Some(said.clone()));
        assert!(heard.raw.len() < 2_000, "{}", heard.raw.len());
        assert_eq!(of_message(message.to_string().as_bytes()), Some(said));
        assert_eq!(Heard::default().message(), None);
        assert_eq!(of_message(b"no JSON"), None);
    }
}
