//! The span of a model call, by the GenAI conventions (`gen_ai.*`, as of the convention's own repository, 2026-11; all of
//! it is "development" there).
//!
//! What was said is in it only when that is asked for, masked and cut.

use domain::{Attempt, MicroUsd, TaskId, TokenCount};
use jiff::Timestamp;
use redact::Redactor;
use serde_json::{Value as Json, json};

use crate::id::SpanId;
use crate::span::{Kind, Span};
use crate::task::AGENT;
use crate::traces::{Content, Traces};

/// Characters of one piece of what was said.
const PIECE_MAX: usize = 8 * 1024;
/// Bytes of one attribute with what was said.
const SAID_MAX_BYTES: usize = 64 * 1024;

/// A model call that has ended.
#[derive(Debug, Clone)]
pub struct Chat<'a> {
    /// The task it was made for.
    pub task: TaskId,
    /// Its attempt.
    pub attempt: Attempt,
    /// Its own id.
    pub call_id: &'a str,
    /// `anthropic`, `openai` or `script`.
    pub provider: &'a str,
    /// What the configuration calls the provider.
    pub provider_name: &'a str,
    /// The provider's name for the model.
    pub model: &'a str,
    /// What it was for.
    pub purpose: &'a str,
    /// The turn the client said it was.
    pub turn: Option<u32>,
    /// The request as it was sent on.
    pub request: &'a Json,
    /// The answer, as far as it came: `id`, `model`, `stop_reason`, and `content` when that is kept.
    pub response: Option<&'a Json>,
    /// What it used, and whether the provider said so.
    pub tokens: Option<TokenCount>,
    /// Whether the tokens are guessed from sizes.
    pub estimated: bool,
    /// What it cost, where the model has a price.
    pub cost: Option<MicroUsd>,
    /// What kind of failure it was: a status or one of our codes, never the provider's words.
    pub error: Option<String>,
    /// Seconds until a streamed answer began.
    pub first_chunk_s: Option<f64>,
    /// When it was asked.
    pub start: Timestamp,
    /// When the answer had ended.
    pub end: Timestamp,
}

/// The span, unless its task is not told.
pub fn span(traces: &Traces, masks: &Redactor, chat: &Chat<'_>) -> Option<Span> {
    let trace = traces.trace_of(chat.task)?;
    let mut span = Span {
        trace,
        id: SpanId::step(chat.task, chat.attempt, "chat", chat.call_id),
        parent: Some(SpanId::step(chat.task, chat.attempt, AGENT, "")),
        name: format!("chat {}", chat.model),
        kind: Kind::Client,
        start: chat.start,
        end: chat.end.max(chat.start),
        attributes: Vec::new(),
        moments: Vec::new(),
        links: Vec::new(),
        error: None,
    };
    span.set("gen_ai.operation.name", "chat");
    span.set("gen_ai.provider.name", chat.provider);
    span.set("gen_ai.conversation.id", chat.task.to_string());
    span.set("gen_ai.request.model", chat.model);
    span.set_some("gen_ai.request.max_tokens", chat.request["max_tokens"].as_u64());
    span.set("gen_ai.request.stream", chat.request["stream"] == true);
    span.set_some("gen_ai.response.time_to_first_chunk", chat.first_chunk_s);
    if let Some(response) = chat.response {
        span.set_some("gen_ai.response.id", response["id"].as_str());
        span.set_some("gen_ai.response.model", response["model"].as_str());
        let reason = response["stop_reason"].as_str().map(|reason| vec![reason.to_owned()]);
        span.set_some("gen_ai.response.finish_reasons", reason);
    }
    if let Some(tokens) = chat.tokens {
        // The convention's input is all of it; what a cache gave or took is a part.
        span.set("gen_ai.usage.input_tokens", tokens.context());
        span.set("gen_ai.usage.output_tokens", tokens.output);
        span.set("gen_ai.usage.cache_read.input_tokens", tokens.cache_read);
        span.set("gen_ai.usage.cache_write.input_tokens", tokens.cache_write);
        span.set("bgagent.usage.estimated", chat.estimated);
    }
    span.set_some("bgagent.cost_usd", chat.cost.map(MicroUsd::usd));
    span.set("bgagent.provider", chat.provider_name);
    span.set("bgagent.call.id", chat.call_id);
    span.set("bgagent.purpose", chat.purpose);
    span.set("bgagent.attempt", chat.attempt.0);
    span.set_some("bgagent.turn", chat.turn);
    if let Some(error) = &chat.error {
        span.fail(error.clone());
    }
    match traces.content() {
        Content::Withheld => (),
        Content::Told => said(&mut span, masks, chat),
    }
    Some(span)
}

/// What was said, each attribute JSON as the convention has it.
fn said(span: &mut Span, masks: &Redactor, chat: &Chat<'_>) {
    let system = parts(&chat.request["system"]);
    if !system.is_empty() {
        span.set("gen_ai.system_instructions", newest(masks, system.into_iter()));
    }
    let messages = chat.request["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let messages = messages.iter().map(|m| json!({ "role": m["role"], "parts": parts(&m["content"]) }));
    span.set("gen_ai.input.messages", newest(masks, messages));
    if let Some(response) = chat.response {
        let message = json!({
            "role": "assistant", "parts": parts(&response["content"]),
            "finish_reason": response["stop_reason"].as_str().unwrap_or("error"),
        });
        span.set("gen_ai.output.messages", newest(masks, std::iter::once(message)));
    }
}

/// The parts of a message of Anthropic's wire. Pictures and documents are told by their kind alone.
fn parts(content: &Json) -> Vec<Json> {
    match content {
        Json::String(text) => vec![json!({ "type": "text", "content": text })],
        Json::Array(blocks) => blocks.iter().map(part).collect(),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) => Vec::new(),
    }
}

fn part(block: &Json) -> Json {
    match block["type"].as_str().unwrap_or_default() {
        "text" => json!({ "type": "text", "content": block["text"] }),
        "thinking" => json!({ "type": "reasoning", "content": block["thinking"] }),
        "tool_use" => {
            json!({ "type": "tool_call", "id": block["id"], "name": block["name"], "arguments": block["input"] })
        }
        "tool_result" => {
            let response = match &block["content"] {
                blocks @ Json::Array(_) => parts(blocks).into(),
                other => other.clone(),
            };
            json!({ "type": "tool_call_response", "id": block["tool_use_id"], "response": response })
        }
        other => json!({ "type": other }),
    }
}

/// As one JSON array: of too many the newest, and of the oldest of these its last parts. Those before are not looked at.
fn newest(masks: &Redactor, all: impl DoubleEndedIterator<Item = Json>) -> String {
    let mut kept: Vec<String> = Vec::new();
    let mut room = SAID_MAX_BYTES - "[]".len();
    for mut value in all.rev() {
        // Masked whole: of a secret that is cut in two a half is left.
        masks.mask_json(&mut value);
        cut(&mut value);
        let text = value.to_string();
        match room.checked_sub(text.len() + ",".len()) {
            Some(left) => {
                kept.push(text);
                room = left;
            }
            None => {
                kept.extend(last_parts(value, room));
                break;
            }
        }
    }
    kept.reverse();
    format!("[{}]", kept.join(","))
}

/// A message with as many of its last parts as there is room for.
fn last_parts(mut message: Json, room: usize) -> Option<String> {
    let parts = std::mem::take(message.get_mut("parts")?.as_array_mut()?);
    let mut bytes = message.to_string().len();
    let fits = |part: &&Json| {
        bytes += part.to_string().len() + ",".len();
        bytes <= room
    };
    let mut kept: Vec<Json> = parts.iter().rev().take_while(fits).cloned().collect();
    kept.reverse();
    (!kept.is_empty()).then(|| {
        message["parts"] = kept.into();
        message.to_string()
    })
}

/// Every text of it, to the length of a piece.
fn cut(value: &mut Json) {
    match value {
        Json::String(text) if text.len() > PIECE_MAX => *text = domain::event::preview(text, PIECE_MAX),
        Json::Array(values) => values.iter_mut().for_each(cut),
        Json::Object(fields) => fields.values_mut().for_each(cut),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::Value;
    use crate::traces::Settings;

    fn chat<'a>(request: &'a Json, response: &'a Json) -> Chat<'a> {
        Chat {
            task: TaskId::from_bits(5),
            attempt: Attempt(1),
            call_id: "call_1",
            provider: "anthropic",
            provider_name: "main",
            model: "claude-x",
            purpose: "main",
            turn: Some(3),
            request,
            response: Some(response),
            tokens: Some(TokenCount { input: 10, output: 20, cache_read: 300, cache_write: 4 }),
            estimated: false,
            cost: Some(MicroUsd::from_usd(0.25).unwrap()),
            error: None,
            first_chunk_s: Some(0.5),
            start: Timestamp::UNIX_EPOCH,
            end: Timestamp::UNIX_EPOCH,
        }
    }

    fn made(content: Content, chat: &Chat<'_>) -> Span {
        let (traces, _queue) = Traces::new(Settings { sample_ratio: 1.0, content });
        span(&traces, &Redactor::default(), chat).unwrap()
    }

    fn text_of(span: &Span, key: &str) -> Option<String> {
        let value = span.attributes.iter().find(|(k, _)| *k == key).map(|(_, v)| v.clone());
        value.map(|value| match value {
            Value::Text(text) => text,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_call_is_told_by_the_convention_without_what_was_said() {
        let request = json!({
            "max_tokens": 100, "stream": true, "system": "You are told a lot.",
            "messages": [{ "role": "user", "content": "the words of a person" }],
        });
        let response = json!({
            "id": "msg_1", "model": "claude-x-1", "stop_reason": "end_turn",
            "content": [{ "type": "text", "text": "the words of a model" }],
        });
        let told = made(Content::Withheld, &chat(&request, &response));
        insta::assert_debug_snapshot!((told.name, told.kind, told.attributes));
        let failed =
            Chat { error: Some("529".into()), tokens: None, response: None, ..chat(&request, &response) };
        let told = made(Content::Withheld, &failed);
        assert_eq!(told.error.as_deref(), Some("529"));
        assert!(!told.attributes.iter().any(|(key, _)| key.starts_with("gen_ai.usage")));
    }

    #[test]
    fn what_was_said_is_told_when_asked_for_masked_and_cut() {
        let token = format!("ghp_{}", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
        let many =
            (0..400).map(|n| json!({ "role": "user", "content": format!("{n} {}", "x".repeat(1_000)) }));
        let mut messages: Vec<Json> = many.collect();
        messages.push(json!({ "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "t1", "content": format!("the key is {token} here") },
            { "type": "image", "source": { "data": "AAAA" } },
        ] }));
        let request = json!({ "system": "Be good.", "messages": messages });
        let response = json!({
            "id": "m", "stop_reason": "tool_use",
            "content": [{ "type": "tool_use", "id": "t2", "name": "Bash", "input": { "command": "y".repeat(20_000) } }],
        });
        let told = made(Content::Told, &chat(&request, &response));
        let system = text_of(&told, "gen_ai.system_instructions").unwrap();
        let system: Json = serde_json::from_str(&system).unwrap();
        assert_eq!(system, json!([{ "type": "text", "content": "Be good." }]));
        let input = text_of(&told, "gen_ai.input.messages").unwrap();
        let said: Vec<Json> = serde_json::from_str(&input).unwrap();
        assert!(input.len() <= SAID_MAX_BYTES && (10..100).contains(&said.len()), "{}", said.len());
        let last = said.last().unwrap();
        assert_eq!(last["parts"][0]["type"], "tool_call_response", "the newest is kept");
        assert_eq!(last["parts"][1], json!({ "type": "image" }));
        assert!(!input.contains(&token) && last.to_string().contains("the key is"), "{last}");
        let output = text_of(&told, "gen_ai.output.messages").unwrap();
        assert!(output.len() < 10_000 && output.contains(r#""finish_reason":"tool_use""#), "{output}");
    }

    #[test]
    fn a_secret_is_masked_where_it_would_be_cut_in_two() {
        let token = format!("ghp_{}", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
        for before in PIECE_MAX - token.len()..=PIECE_MAX {
            let text = format!("{} {token} and more", "x".repeat(before - 1));
            let request = json!({ "messages": [{ "role": "user", "content": text }] });
            let told = made(Content::Told, &chat(&request, &Json::Null));
            let input = text_of(&told, "gen_ai.input.messages").unwrap();
            assert!(!input.contains("ghp_"), "{before}: {}", &input[input.len() - 100..]);
        }
    }

    #[test]
    fn of_a_message_that_is_too_long_by_itself_the_last_parts_are_told() {
        let result = |n: usize| {
            let content = json!([{ "type": "text", "text": format!("{n} {}", "x".repeat(PIECE_MAX)) }, { "type": "image", "source": { "data": "AAAA" } }]);
            json!({ "type": "tool_result", "tool_use_id": format!("t{n}"), "content": content })
        };
        let results: Vec<Json> = (0..20).map(result).collect();
        let messages =
            json!([{ "role": "user", "content": "first" }, { "role": "user", "content": results }]);
        let request = json!({ "messages": messages });
        let told = made(Content::Told, &chat(&request, &Json::Null));
        let input = text_of(&told, "gen_ai.input.messages").unwrap();
        assert!(input.len() <= SAID_MAX_BYTES && !input.contains("AAAA"), "{}", input.len());
        let said: Vec<Json> = serde_json::from_str(&input).unwrap();
        let parts = said[0]["parts"].as_array().unwrap();
        let ids: Vec<&str> = parts.iter().map(|part| part["id"].as_str().unwrap()).collect();
        assert_eq!((said.len(), ids), (1, vec!["t13", "t14", "t15", "t16", "t17", "t18", "t19"]));
        assert_eq!(parts[0]["response"][1], json!({ "type": "image" }));
    }
}
