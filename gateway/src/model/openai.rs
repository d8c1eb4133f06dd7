//! The wire of OpenAI's Chat Completions, translated from and to Anthropic Messages.
//!
//! What the other wire cannot say is left out (thinking, cache marks, `top_k`) or refused by name (server-side tools,
//! unknown blocks). `reasoning_content` of an answer is not shown: it could not be sent back.

mod request;
mod response;
mod stream;

pub(super) use request::translate as request;
pub(super) use response::translate as response;
pub(super) use stream::Translator;

use domain::TokenCount;
use serde_json::Value;

/// Anthropic's stop reason. Several servers say `stop` although they call tools.
fn stop_reason(finish: &str, tools: usize) -> &'static str {
    match finish {
        "length" => "max_tokens",
        "content_filter" => "refusal",
        _ if tools > 0 => "tool_use",
        _ => "end_turn",
    }
}

/// OpenAI counts cached tokens among the prompt's; Anthropic counts them apart.
fn tokens(usage: &Value) -> Option<TokenCount> {
    let prompt = usage["prompt_tokens"].as_u64()?;
    let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0).min(prompt);
    let output = usage["completion_tokens"].as_u64().unwrap_or(0);
    Some(TokenCount { input: prompt - cached, output, cache_read: cached, cache_write: 0 })
}

/// What an `error` of an answer says, in whichever of its shapes.
fn error_message(error: &Value) -> String {
    match error {
        Value::String(text) => text.clone(),
        other => other["message"].as_str().map_or_else(|| other.to_string(), str::to_owned),
    }
}
