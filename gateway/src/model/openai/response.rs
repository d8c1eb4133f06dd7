//! A whole Chat Completions answer as an Anthropic message.

use domain::TokenCount;
use serde_json::{Value, json};

use super::{error_message, stop_reason, tokens};
use crate::model::frame::{estimate, usage_json};
use crate::model::meter::Basis;

/// The message and its count, which is estimated from the sizes where the server gives none.
pub(in crate::model) fn translate(
    answer: &Value,
    model: &str,
    request_bytes: usize,
) -> Result<(Value, TokenCount, Basis), String> {
    if let Some(error) = answer.get("error").filter(|e| !e.is_null()) {
        return Err(error_message(error));
    }
    let choice = answer["choices"].get(0).ok_or("the answer has no choices")?;
    let message = &choice["message"];
    let mut content = vec![];
    for field in ["content", "refusal"] {
        if let Some(text) = message[field].as_str().filter(|t| !t.is_empty()) {
            content.push(json!({ "type": "text", "text": text }));
        }
    }
    let calls = message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (n, call) in calls.iter().enumerate() {
        let id = match call["id"].as_str().filter(|id| !id.is_empty()) {
            Some(id) => id.to_owned(),
            None => crate::model::id("toolu_", n),
        };
        let (name, input) = (&call["function"]["name"], input(&call["function"]["arguments"]));
        content.push(json!({ "type": "tool_use", "id": id, "name": name, "input": input }));
    }
    let (count, basis) = match tokens(&answer["usage"]) {
        Some(count) => (count, Basis::Reported),
        None => (estimate(request_bytes, Value::from(content.clone()).to_string().len()), Basis::Estimated),
    };
    let id = answer["id"].as_str().map_or_else(|| crate::model::id("msg_", 0), str::to_owned);
    let message = json!({
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": answer["model"].as_str().unwrap_or(model),
        "content": content,
        "stop_reason": stop_reason(choice["finish_reason"].as_str().unwrap_or_default(), calls.len()),
        "stop_sequence": null,
        "usage": usage_json(count),
    });
    Ok((message, count, basis))
}

/// Arguments that are not a JSON object stay the text they are: the harness tells the model so.
fn input(arguments: &Value) -> Value {
    match arguments {
        Value::String(text) if text.trim().is_empty() => json!({}),
        Value::String(text) => match serde_json::from_str::<Value>(text) {
            Ok(object @ Value::Object(_)) => object,
            Ok(_) | Err(_) => text.clone().into(),
        },
        Value::Null => json!({}),
        object => object.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_calls_with_malformed_arguments() {
        let answer = json!({
            "id": "c", "model": "m-1",
            "choices": [{ "finish_reason": "stop", "message": { "content": "Hi", "reasoning_content": "x", "tool_calls": [
                { "id": "a", "function": { "name": "bash", "arguments": "{\"command\":\"ls\"}" } },
                { "id": "b", "function": { "name": "bash", "arguments": "{oops" } },
                { "id": "c", "function": { "name": "todo", "arguments": "" } },
            ] } }],
            "usage": { "prompt_tokens": 10, "completion_tokens": 2 },
        });
        let (message, count, basis) = translate(&answer, "m", 4).unwrap();
        assert_eq!((count.input, count.output, basis), (10, 2, Basis::Reported));
        insta::assert_json_snapshot!(message, @r#"
        {
          "content": [
            {
              "text": "Hi",
              "type": "text"
            },
            {
              "id": "a",
              "input": {
                "command": "ls"
              },
              "name": "bash",
              "type": "tool_use"
            },
            {
              "id": "b",
              "input": "{oops",
              "name": "bash",
              "type": "tool_use"
            },
            {
              "id": "c",
              "input": {},
              "name": "todo",
              "type": "tool_use"
            }
          ],
          "id": "c",
          "model": "m-1",
          "role": "assistant",
          "stop_reason": "tool_use",
          "stop_sequence": null,
          "type": "message",
          "usage": {
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "input_tokens": 10,
            "output_tokens": 2
          }
        }
        "#);
    }

    #[test]
    fn without_usage_it_is_guessed_and_an_error_is_an_error() {
        let answer =
            json!({ "choices": [{ "finish_reason": "stop", "message": { "content": "Hello there" } }] });
        let (_, count, basis) = translate(&answer, "m", 400).unwrap();
        assert_eq!((count.input, basis), (100, Basis::Estimated));
        assert!(count.output > 2);
        assert_eq!(translate(&json!({ "error": { "message": "no" } }), "m", 1).unwrap_err(), "no");
        assert!(translate(&json!({ "choices": [] }), "m", 1).is_err());
    }
}
