//! An Anthropic Messages request as a Chat Completions request.

use serde_json::{Map, Value, json};

use crate::model::config::ProviderConfig;

/// Translates, or says which part of the request has no counterpart.
pub(in crate::model) fn translate(
    body: &Value,
    model: &str,
    config: &ProviderConfig,
) -> Result<Value, String> {
    let mut out = Map::new();
    out.insert("model".into(), model.into());
    out.insert("messages".into(), messages(body)?.into());
    if let Some(max) = body.get("max_tokens") {
        out.insert(config.max_tokens_field.as_str().into(), max.clone());
    }
    for (from, to) in [("temperature", "temperature"), ("top_p", "top_p"), ("stop_sequences", "stop")] {
        if let Some(value) = body.get(from).filter(|v| !v.is_null() && **v != json!([])) {
            out.insert(to.into(), value.clone());
        }
    }
    let tools = body["tools"].as_array().map(|tools| tools.iter().map(tool).collect::<Result<Vec<_>, _>>());
    if let Some(tools) = tools.transpose()?.filter(|t| !t.is_empty()) {
        out.insert("tools".into(), tools.into());
        tool_choice(&body["tool_choice"], &mut out)?;
    }
    if body["stream"] == true {
        out.insert("stream".into(), true.into());
        out.insert("stream_options".into(), json!({ "include_usage": true }));
    }
    out.extend(config.extra_body.clone());
    Ok(Value::Object(out))
}

fn messages(body: &Value) -> Result<Vec<Value>, String> {
    let mut out = vec![];
    let system = text_of(&body["system"], "system")?;
    if !system.is_empty() {
        out.push(json!({ "role": "system", "content": system }));
    }
    for (n, message) in body["messages"].as_array().into_iter().flatten().enumerate() {
        let at = format!("messages.{n}");
        match message["role"].as_str() {
            Some("user") => user(&message["content"], &at, &mut out)?,
            Some("assistant") => out.push(assistant(&message["content"], &at)?),
            Some("system") => {
                out.push(json!({ "role": "system", "content": text_of(&message["content"], &at)? }))
            }
            other => return Err(format!("{at}.role: expected user or assistant, got {other:?}")),
        }
    }
    Ok(out)
}

/// A user's message: tool results come first, as messages of their own, because they must follow the calls at once.
fn user(content: &Value, at: &str, out: &mut Vec<Value>) -> Result<(), String> {
    let mut parts = vec![];
    for (n, block) in blocks(content).iter().enumerate() {
        let at = format!("{at}.content.{n}");
        match block["type"].as_str().unwrap_or_default() {
            "text" => parts.push(json!({ "type": "text", "text": block["text"] })),
            "image" => parts.push(image(block, &at)?),
            "document" => parts.push(document(block, &at)?),
            "tool_result" => {
                let (text, images) = tool_result(block, &at)?;
                out.push(json!({ "role": "tool", "tool_call_id": block["tool_use_id"], "content": text }));
                parts.extend(images);
            }
            other => return Err(no_counterpart(&at, other)),
        }
    }
    if parts.is_empty() {
        return Ok(());
    }
    // Plain text where it will do: many servers know no parts.
    let texts: Option<Vec<&str>> = parts.iter().map(|p| p["text"].as_str()).collect();
    let content = texts.map_or_else(|| Value::from(parts.clone()), |texts| texts.join("\n\n").into());
    out.push(json!({ "role": "user", "content": content }));
    Ok(())
}

fn assistant(content: &Value, at: &str) -> Result<Value, String> {
    let (mut texts, mut calls) = (vec![], vec![]);
    for (n, block) in blocks(content).iter().enumerate() {
        match block["type"].as_str().unwrap_or_default() {
            "text" => texts.push(block["text"].as_str().unwrap_or_default().to_owned()),
            "thinking" | "redacted_thinking" => {}
            "tool_use" => calls.push(json!({
                "id": block["id"],
                "type": "function",
                "function": { "name": block["name"], "arguments": arguments(&block["input"]) },
            })),
            other => return Err(no_counterpart(&format!("{at}.content.{n}"), other)),
        }
    }
    let text = texts.concat();
    let mut message = json!({ "role": "assistant", "content": text });
    if !calls.is_empty() {
        if text.is_empty() {
            message["content"] = Value::Null;
        }
        message["tool_calls"] = calls.into();
    }
    Ok(message)
}

/// A text stands for arguments that were never JSON; they go back as they came.
fn arguments(input: &Value) -> String {
    match input {
        Value::String(malformed) => malformed.clone(),
        Value::Null => "{}".to_owned(),
        input => input.to_string(),
    }
}

/// The text for the tool's message, and the images, which only a user's message can hold.
fn tool_result(block: &Value, at: &str) -> Result<(String, Vec<Value>), String> {
    let (mut texts, mut images) = (vec![], vec![]);
    for (n, part) in blocks(&block["content"]).iter().enumerate() {
        let at = format!("{at}.content.{n}");
        match part["type"].as_str().unwrap_or_default() {
            "text" => texts.push(part["text"].as_str().unwrap_or_default().to_owned()),
            "image" => {
                images.push(image(part, &at)?);
                texts.push("(an image: see the next message)".to_owned());
            }
            other => return Err(no_counterpart(&at, other)),
        }
    }
    let text = texts.join("\n\n");
    Ok((if block["is_error"] == true { format!("[error] {text}") } else { text }, images))
}

fn image(block: &Value, at: &str) -> Result<Value, String> {
    let source = &block["source"];
    let url = match source["type"].as_str().unwrap_or_default() {
        "base64" => data_url(source),
        "url" => source["url"].as_str().unwrap_or_default().to_owned(),
        other => return Err(no_counterpart(&format!("{at}.source"), other)),
    };
    Ok(json!({ "type": "image_url", "image_url": { "url": url } }))
}

fn document(block: &Value, at: &str) -> Result<Value, String> {
    let source = &block["source"];
    match source["type"].as_str().unwrap_or_default() {
        "text" => Ok(json!({ "type": "text", "text": source["data"] })),
        "base64" => {
            let name = block["title"].as_str().unwrap_or("document");
            Ok(json!({ "type": "file", "file": { "filename": name, "file_data": data_url(source) } }))
        }
        other => Err(no_counterpart(&format!("{at}.source"), other)),
    }
}

fn data_url(source: &Value) -> String {
    let text = |name: &str| source[name].as_str().unwrap_or_default();
    format!("data:{};base64,{}", text("media_type"), text("data"))
}

fn tool(tool: &Value) -> Result<Value, String> {
    match tool["type"].as_str() {
        None | Some("custom") => {}
        Some(other) => return Err(no_counterpart("tools", other)),
    }
    let mut function = json!({ "name": tool["name"], "parameters": tool["input_schema"] });
    for field in ["description", "strict"] {
        if let Some(value) = tool.get(field) {
            function[field] = value.clone();
        }
    }
    Ok(json!({ "type": "function", "function": function }))
}

fn tool_choice(choice: &Value, out: &mut Map<String, Value>) -> Result<(), String> {
    let to = match choice["type"].as_str() {
        None => return Ok(()),
        Some("auto") => "auto".into(),
        Some("any") => "required".into(),
        Some("none") => "none".into(),
        Some("tool") => json!({ "type": "function", "function": { "name": choice["name"] } }),
        Some(other) => return Err(no_counterpart("tool_choice", other)),
    };
    out.insert("tool_choice".into(), to);
    if choice["disable_parallel_tool_use"] == true {
        out.insert("parallel_tool_calls".into(), false.into());
    }
    Ok(())
}

/// Content is a text or blocks; a text is one block.
fn blocks(content: &Value) -> Vec<Value> {
    match content {
        Value::String(text) => vec![json!({ "type": "text", "text": text })],
        Value::Array(blocks) => blocks.clone(),
        _ => vec![],
    }
}

fn text_of(content: &Value, at: &str) -> Result<String, String> {
    let mut texts = vec![];
    for (n, block) in blocks(content).iter().enumerate() {
        match block["text"].as_str() {
            Some(text) => texts.push(text.to_owned()),
            None => return Err(no_counterpart(&format!("{at}.{n}"), block["type"].as_str().unwrap_or("?"))),
        }
    }
    Ok(texts.join("\n\n"))
}

fn no_counterpart(at: &str, kind: &str) -> String {
    format!("{at}: {kind:?} cannot be sent to an OpenAI-compatible provider")
}

#[cfg(test)]
mod tests;
