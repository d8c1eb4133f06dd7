//! Streams as servers send them, and what becomes of them. The snapshot is the list of Anthropic events.

use serde_json::json;

use super::*;
use crate::model::sse::Splitter;

fn chunk(delta: Value, finish: Option<&str>) -> Value {
    json!({ "id": "c1", "model": "m-1", "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] })
}

fn tool(index: Option<u64>, id: &str, name: &str, arguments: &str) -> Value {
    let mut call = json!({ "function": { "arguments": arguments } });
    if let Some(index) = index {
        call["index"] = index.into();
    }
    if !id.is_empty() {
        call["id"] = id.into();
    }
    if !name.is_empty() {
        call["function"]["name"] = name.into();
    }
    chunk(json!({ "tool_calls": [call] }), None)
}

/// One line for each event: what a client is told, without the shell.
fn play(chunks: &[Value], end: &str) -> String {
    let text: String = chunks.iter().map(|c| format!("data: {c}\n\n")).collect();
    let (lines, last) = run(&format!("{text}{end}"));
    format!("{lines}{last}")
}

fn run(text: &str) -> (String, String) {
    let mut splitter = Splitter::default();
    splitter.push(text.as_bytes()).unwrap();
    let mut translator = Translator::new("asked", 400);
    let mut frames = vec![];
    while let Some(event) = splitter.next_event() {
        frames.extend(translator.event(&event));
    }
    frames.extend(translator.finish());
    let counted = frames.iter().rev().find_map(|f| f.counted);
    let mut out = Splitter::default();
    let mut lines = String::new();
    for frame in &frames {
        out.push(&frame.bytes).unwrap();
        while let Some(event) = out.next_event() {
            let mut data: Value = serde_json::from_str(&event.data).unwrap();
            assert_eq!(data["type"], event.name.as_str());
            data.as_object_mut().unwrap().remove("type");
            lines.push_str(&format!("{} {data}\n", event.name));
        }
    }
    (lines, format!("{:?} {counted:?}", frames.last().map(|f| f.end)))
}

const DONE: &str = "data: [DONE]\n\n";

#[test]
fn text_then_two_tools_with_late_usage() {
    let usage = json!({ "choices": [], "usage": { "prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": { "cached_tokens": 60 } } });
    insta::assert_snapshot!(play(&[
        chunk(json!({ "role": "assistant", "content": "" }), None),
        chunk(json!({ "reasoning_content": "hidden" }), None),
        chunk(json!({ "content": "I wi" }), None),
        chunk(json!({ "content": "ll" }), None),
        tool(Some(0), "call_a", "bash", ""),
        tool(Some(0), "", "", "{\"command\":"),
        tool(Some(0), "", "", "\"ls\"}"),
        tool(Some(1), "call_b", "read", ""),
        tool(Some(1), "", "", "{\"path\":\"a\"}"),
        chunk(json!({}), Some("tool_calls")),
        usage,
    ], DONE), @r#"
    message_start {"message":{"content":[],"id":"c1","model":"m-1","role":"assistant","stop_reason":null,"stop_sequence":null,"type":"message","usage":{"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"input_tokens":0,"output_tokens":0}}}
    content_block_start {"content_block":{"text":"","type":"text"},"index":0}
    content_block_delta {"delta":{"text":"I wi","type":"text_delta"},"index":0}
    content_block_delta {"delta":{"text":"ll","type":"text_delta"},"index":0}
    content_block_stop {"index":0}
    content_block_start {"content_block":{"id":"call_a","input":{},"name":"bash","type":"tool_use"},"index":1}
    content_block_delta {"delta":{"partial_json":"{\"command\":","type":"input_json_delta"},"index":1}
    content_block_delta {"delta":{"partial_json":"\"ls\"}","type":"input_json_delta"},"index":1}
    content_block_stop {"index":1}
    content_block_start {"content_block":{"id":"call_b","input":{},"name":"read","type":"tool_use"},"index":2}
    content_block_delta {"delta":{"partial_json":"{\"path\":\"a\"}","type":"input_json_delta"},"index":2}
    content_block_stop {"index":2}
    message_delta {"delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"cache_creation_input_tokens":0,"cache_read_input_tokens":60,"input_tokens":40,"output_tokens":7}}
    message_stop {}
    Some(Stop) Some((TokenCount { input: 40, output: 7, cache_read: 60, cache_write: 0 }, Reported))
    "#);
}

#[test]
fn interleaved_calls_come_out_one_after_the_other() {
    insta::assert_snapshot!(play(&[
        tool(Some(0), "a", "one", "{\"x\""),
        tool(Some(1), "b", "two", "{\"y\""),
        chunk(json!({ "content": "late words" }), None),
        tool(Some(0), "", "", ":1}"),
        tool(Some(1), "", "", ":2}"),
        chunk(json!({}), Some("stop")),
    ], DONE), @r#"
    message_start {"message":{"content":[],"id":"c1","model":"m-1","role":"assistant","stop_reason":null,"stop_sequence":null,"type":"message","usage":{"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"input_tokens":0,"output_tokens":0}}}
    content_block_start {"content_block":{"id":"a","input":{},"name":"one","type":"tool_use"},"index":0}
    content_block_delta {"delta":{"partial_json":"{\"x\"","type":"input_json_delta"},"index":0}
    content_block_delta {"delta":{"partial_json":":1}","type":"input_json_delta"},"index":0}
    content_block_stop {"index":0}
    content_block_start {"content_block":{"id":"b","input":{},"name":"two","type":"tool_use"},"index":1}
    content_block_delta {"delta":{"partial_json":"{\"y\":2}","type":"input_json_delta"},"index":1}
    content_block_stop {"index":1}
    content_block_start {"content_block":{"text":"","type":"text"},"index":2}
    content_block_delta {"delta":{"text":"late words","type":"text_delta"},"index":2}
    content_block_stop {"index":2}
    message_delta {"delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"input_tokens":100,"output_tokens":8}}
    message_stop {}
    Some(Stop) Some((TokenCount { input: 100, output: 8, cache_read: 0, cache_write: 0 }, Estimated))
    "#);
}

#[test]
fn servers_that_give_every_call_the_same_index_or_none() {
    let same = play(
        &[
            tool(Some(0), "a", "one", "{}"),
            tool(Some(0), "b", "two", "{\"y\""),
            tool(Some(0), "", "", ":2}"),
            chunk(json!({}), Some("tool_calls")),
        ],
        DONE,
    );
    let none = play(
        &[
            tool(None, "a", "one", "{}"),
            tool(None, "b", "two", "{\"y\""),
            tool(None, "", "", ":2}"),
            chunk(json!({}), Some("tool_calls")),
        ],
        DONE,
    );
    assert_eq!(same, none);
    insta::assert_snapshot!(same, @r#"
    message_start {"message":{"content":[],"id":"c1","model":"m-1","role":"assistant","stop_reason":null,"stop_sequence":null,"type":"message","usage":{"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"input_tokens":0,"output_tokens":0}}}
    content_block_start {"content_block":{"id":"a","input":{},"name":"one","type":"tool_use"},"index":0}
    content_block_delta {"delta":{"partial_json":"{}","type":"input_json_delta"},"index":0}
    content_block_stop {"index":0}
    content_block_start {"content_block":{"id":"b","input":{},"name":"two","type":"tool_use"},"index":1}
    content_block_delta {"delta":{"partial_json":"{\"y\":2}","type":"input_json_delta"},"index":1}
    content_block_stop {"index":1}
    message_delta {"delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"input_tokens":100,"output_tokens":4}}
    message_stop {}
    Some(Stop) Some((TokenCount { input: 100, output: 4, cache_read: 0, cache_write: 0 }, Estimated))
    "#);
}

#[test]
fn malformed_arguments_pass_as_they_are_and_usage_is_guessed() {
    insta::assert_snapshot!(play(&[tool(Some(0), "a", "bash", "{\"command\": oops"), chunk(json!({}), Some("length"))], ""), @r#"
    message_start {"message":{"content":[],"id":"c1","model":"m-1","role":"assistant","stop_reason":null,"stop_sequence":null,"type":"message","usage":{"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"input_tokens":0,"output_tokens":0}}}
    content_block_start {"content_block":{"id":"a","input":{},"name":"bash","type":"tool_use"},"index":0}
    content_block_delta {"delta":{"partial_json":"{\"command\": oops","type":"input_json_delta"},"index":0}
    content_block_stop {"index":0}
    message_delta {"delta":{"stop_reason":"max_tokens","stop_sequence":null},"usage":{"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"input_tokens":100,"output_tokens":5}}
    message_stop {}
    Some(Stop) Some((TokenCount { input: 100, output: 5, cache_read: 0, cache_write: 0 }, Estimated))
    "#);
}

#[test]
fn errors_in_mid_stream_and_early_ends_are_error_events() {
    let begun = chunk(json!({ "content": "Hi" }), None);
    insta::assert_snapshot!(play(&[begun.clone(), json!({ "error": { "message": "overloaded", "code": 500 } })], DONE), @r#"
    message_start {"message":{"content":[],"id":"c1","model":"m-1","role":"assistant","stop_reason":null,"stop_sequence":null,"type":"message","usage":{"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"input_tokens":0,"output_tokens":0}}}
    content_block_start {"content_block":{"text":"","type":"text"},"index":0}
    content_block_delta {"delta":{"text":"Hi","type":"text_delta"},"index":0}
    error {"error":{"code":"MODEL_UNREACHABLE","message":"overloaded","type":"api_error"}}
    Some(Failed) None
    "#);
    insta::assert_snapshot!(play(&[begun], ""), @r#"
    message_start {"message":{"content":[],"id":"c1","model":"m-1","role":"assistant","stop_reason":null,"stop_sequence":null,"type":"message","usage":{"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"input_tokens":0,"output_tokens":0}}}
    content_block_start {"content_block":{"text":"","type":"text"},"index":0}
    content_block_delta {"delta":{"text":"Hi","type":"text_delta"},"index":0}
    error {"error":{"code":"MODEL_UNREACHABLE","message":"the provider closed the stream before the answer was whole","type":"api_error"}}
    Some(Failed) None
    "#);
    insta::assert_snapshot!(play(&[], DONE), @r#"
    error {"error":{"code":"MODEL_UNREACHABLE","message":"the provider sent an empty answer","type":"api_error"}}
    Some(Failed) None
    "#);
    assert!(run("data: {broken\n\n").0.starts_with("error {"), "what is not JSON is an error");
}
