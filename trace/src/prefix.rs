//! What a model request adds to the one before it.
//!
//! An agent sends its whole conversation with every turn. A trace keeps each message once: a request names the earlier one
//! whose first messages it begins with, and a hash over them, so that nothing depends on trust when it is put together
//! again. Without a predecessor (after a restart, say) the whole request is kept.

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::line::{Continues, ModelRequest};

/// A chained hash over messages.
type Link = [u8; 32];

/// What is remembered of a request: hashes only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    call_id: String,
    chain: Vec<Link>,
    system: String,
    tools: String,
}

/// Who makes a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Names the call.
    pub call_id: String,
    /// The attempt.
    pub attempt: u32,
    /// The turn, where it is known.
    pub turn: Option<u32>,
    /// `main` or `compaction`.
    pub purpose: String,
    /// `provider/model`.
    pub model: String,
}

/// The line of a request, and what to remember of it for the next one. `body` is the request as JSON.
pub fn request(before: Option<&Seen>, caller: Caller, body: Value) -> (ModelRequest, Seen) {
    let mut body = match body {
        Value::Object(fields) => fields,
        other => Map::from_iter([("body".to_owned(), other)]),
    };
    let mut take = |name: &str| body.remove(name).unwrap_or(Value::Null);
    let (mut messages, mut system, mut tools) = (take("messages"), take("system"), take("tools"));
    for part in [&mut system, &mut tools] {
        unmark_each(part);
    }
    let mut messages = match messages.take() {
        Value::Array(messages) => messages,
        _ => Vec::new(),
    };
    messages.iter_mut().for_each(unmark_message);
    let chain = chain(&messages);
    let seen = Seen {
        call_id: caller.call_id.clone(),
        system: hash(&system),
        tools: hash(&tools),
        chain: chain.clone(),
    };
    let common =
        before.map_or(0, |before| before.chain.iter().zip(&chain).take_while(|(a, b)| a == b).count());
    let continues = before.filter(|_| common > 0).map(|before| Continues {
        call_id: before.call_id.clone(),
        messages: common,
        sha256: hex::encode(chain[common - 1]),
    });
    let line = ModelRequest {
        call_id: caller.call_id,
        attempt: caller.attempt,
        turn: caller.turn,
        purpose: caller.purpose,
        model: caller.model,
        messages: messages.split_off(common),
        continues,
        system: before.is_none_or(|before| before.system != seen.system).then_some(system),
        system_sha256: seen.system.clone(),
        tools: before.is_none_or(|before| before.tools != seen.tools).then_some(tools),
        tools_sha256: seen.tools.clone(),
        parameters: Value::Object(body),
    };
    (line, seen)
}

/// The chained hash of each message and all before it: SHA-256 of the last link and the message in canonical JSON.
fn chain(messages: &[Value]) -> Vec<Link> {
    let mut last: Link = [0; 32];
    let link = |message| {
        let mut hasher = Sha256::new();
        hasher.update(last);
        hasher.update(canonical(message));
        last = hasher.finalize().into();
        last
    };
    messages.iter().map(link).collect()
}

/// The chained hash of these messages, in hex.
pub fn chained<'a>(messages: impl Iterator<Item = &'a Value>) -> String {
    let mut last: Link = [0; 32];
    for message in messages {
        let mut hasher = Sha256::new();
        hasher.update(last);
        hasher.update(canonical(message));
        last = hasher.finalize().into();
    }
    hex::encode(last)
}

/// SHA-256 of a value in canonical JSON, in hex.
pub fn hash(value: &Value) -> String {
    hex::encode(Sha256::digest(canonical(value)))
}

/// JSON without spaces and with sorted keys: the same value is always the same text.
pub fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<_> = fields.keys().collect();
            keys.sort();
            let field = |key: &&String| format!("{}:{}", Value::from(key.as_str()), canonical(&fields[*key]));
            format!("{{{}}}", keys.iter().map(field).collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// Marks for a provider's cache wander from message to message and say nothing of the conversation.
fn unmark_message(message: &mut Value) {
    if let Some(content) = message.get_mut("content") {
        unmark_each(content);
        for block in content.as_array_mut().into_iter().flatten() {
            if block["type"] == "tool_result"
                && let Some(parts) = block.get_mut("content")
            {
                unmark_each(parts);
            }
        }
    }
}

fn unmark_each(blocks: &mut Value) {
    for block in blocks.as_array_mut().into_iter().flatten() {
        if let Some(fields) = block.as_object_mut() {
            fields.remove("cache_control");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn caller(call_id: &str) -> Caller {
        Caller {
            call_id: call_id.into(),
            attempt: 1,
            turn: Some(1),
            purpose: "main".into(),
            model: "p/m".into(),
        }
    }

    fn text(role: &str, text: &str, marked: bool) -> Value {
        let mut block = json!({ "type": "text", "text": text });
        if marked {
            block["cache_control"] = json!({ "type": "ephemeral" });
        }
        json!({ "role": role, "content": [block] })
    }

    fn body(system: &str, messages: Vec<Value>) -> Value {
        json!({ "model": "m", "max_tokens": 5, "system": system, "tools": [{ "name": "Bash" }], "messages": messages })
    }

    #[test]
    fn a_request_keeps_what_is_new_whatever_the_cache_marks_do() {
        let (first, seen) = request(None, caller("a"), body("s", vec![text("user", "one", true)]));
        assert_eq!(first.continues, None);
        assert_eq!(first.messages, [text("user", "one", false)]);
        assert_eq!(first.parameters, json!({ "model": "m", "max_tokens": 5 }));
        assert_eq!((first.system, first.tools), (Some(json!("s")), Some(json!([{ "name": "Bash" }]))));

        let longer =
            vec![text("user", "one", false), text("assistant", "two", false), text("user", "three", true)];
        let (second, seen) = request(Some(&seen), caller("b"), body("s", longer.clone()));
        let continues = second.continues.unwrap();
        assert_eq!((continues.call_id.as_str(), continues.messages), ("a", 1));
        assert_eq!(continues.sha256, chained(longer[..1].iter()));
        assert_eq!(second.messages, [text("assistant", "two", false), text("user", "three", false)]);
        assert_eq!((second.system, second.tools), (None, None));

        // A shortened conversation, with another system prompt.
        let (third, _) = request(Some(&seen), caller("c"), body("t", vec![text("user", "other", true)]));
        assert_eq!((third.continues, third.messages.len()), (None, 1));
        assert_eq!((third.system, third.tools), (Some(json!("t")), None));
    }

    #[test]
    fn a_field_called_like_a_mark_in_a_tools_input_stays() {
        let call = json!({ "type": "tool_use", "id": "1", "name": "t", "input": { "cache_control": 1 } });
        let said = json!({ "role": "assistant", "content": [call] });
        let (line, _) = request(None, caller("a"), body("s", vec![said.clone()]));
        assert_eq!(line.messages, [said]);
    }

    #[test]
    fn canonical_json_has_sorted_keys() {
        let value: Value = serde_json::from_str(r#"{"b":1,"a":{"d":[true,null],"c":"x"}}"#).unwrap();
        assert_eq!(canonical(&value), r#"{"a":{"c":"x","d":[true,null]},"b":1}"#);
    }
}
