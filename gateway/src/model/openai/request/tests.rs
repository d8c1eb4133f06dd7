//! Requests of the one wire and of the other.

use super::*;
use crate::model::config::{Kind, MaxTokensField};

fn check(body: Value) -> Value {
    translate(&body, "m", &ProviderConfig::new(Kind::Openai)).unwrap()
}

#[test]
fn a_whole_conversation() {
    let body = json!({
        "model": "ignored", "max_tokens": 100, "temperature": 0.5, "top_k": 3, "stop_sequences": ["END"], "stream": true,
        "thinking": { "type": "enabled", "budget_tokens": 1024 },
        "system": [{ "type": "text", "text": "Be brief.", "cache_control": { "type": "ephemeral" } }, { "type": "text", "text": "Be kind." }],
        "messages": [
            { "role": "user", "content": "Hello" },
            { "role": "assistant", "content": [
                { "type": "thinking", "thinking": "hm", "signature": "s" },
                { "type": "text", "text": "Looking." },
                { "type": "tool_use", "id": "t1", "name": "bash", "input": { "command": "ls" } },
                { "type": "tool_use", "id": "t2", "name": "shot", "input": "{bad json" },
            ] },
            { "role": "user", "content": [
                { "type": "text", "text": "and" },
                { "type": "tool_result", "tool_use_id": "t1", "content": "a.rs" },
                { "type": "tool_result", "tool_use_id": "t2", "is_error": true, "content": [
                    { "type": "text", "text": "no" },
                    { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "AAAA" } },
                ] },
            ] },
            { "role": "assistant", "content": [{ "type": "tool_use", "id": "t3", "name": "bash", "input": {} }] },
            { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t3" }] },
        ],
        "tools": [{ "name": "bash", "description": "Runs.", "input_schema": { "type": "object" }, "cache_control": { "type": "ephemeral" } }],
        "tool_choice": { "type": "any", "disable_parallel_tool_use": true },
    });
    insta::assert_json_snapshot!(check(body), @r#"
    {
      "max_tokens": 100,
      "messages": [
        {
          "content": "Be brief.\n\nBe kind.",
          "role": "system"
        },
        {
          "content": "Hello",
          "role": "user"
        },
        {
          "content": "Looking.",
          "role": "assistant",
          "tool_calls": [
            {
              "function": {
                "arguments": "{\"command\":\"ls\"}",
                "name": "bash"
              },
              "id": "t1",
              "type": "function"
            },
            {
              "function": {
                "arguments": "{bad json",
                "name": "shot"
              },
              "id": "t2",
              "type": "function"
            }
          ]
        },
        {
          "content": "a.rs",
          "role": "tool",
          "tool_call_id": "t1"
        },
        {
          "content": "[error] no\n\n(an image: see the next message)",
          "role": "tool",
          "tool_call_id": "t2"
        },
        {
          "content": [
            {
              "text": "and",
              "type": "text"
            },
            {
              "image_url": {
                "url": "data:image/png;base64,AAAA"
              },
              "type": "image_url"
            }
          ],
          "role": "user"
        },
        {
          "content": null,
          "role": "assistant",
          "tool_calls": [
            {
              "function": {
                "arguments": "{}",
                "name": "bash"
              },
              "id": "t3",
              "type": "function"
            }
          ]
        },
        {
          "content": "",
          "role": "tool",
          "tool_call_id": "t3"
        }
      ],
      "model": "m",
      "parallel_tool_calls": false,
      "stop": [
        "END"
      ],
      "stream": true,
      "stream_options": {
        "include_usage": true
      },
      "temperature": 0.5,
      "tool_choice": "required",
      "tools": [
        {
          "function": {
            "description": "Runs.",
            "name": "bash",
            "parameters": {
              "type": "object"
            }
          },
          "type": "function"
        }
      ]
    }
    "#);
}

#[test]
fn tool_choices_and_the_name_of_the_limit() {
    let body = |choice: Value| json!({ "max_tokens": 5, "messages": [], "tools": [{ "name": "t", "input_schema": {} }], "tool_choice": choice });
    assert_eq!(check(body(json!({ "type": "auto" })))["tool_choice"], "auto");
    assert_eq!(check(body(json!({ "type": "none" })))["tool_choice"], "none");
    assert_eq!(check(body(json!({ "type": "tool", "name": "t" })))["tool_choice"]["function"]["name"], "t");
    let mut config = ProviderConfig::new(Kind::Openai);
    config.max_tokens_field = MaxTokensField::MaxCompletionTokens;
    config.extra_body.insert("reasoning_effort".into(), "low".into());
    let out = translate(&body(Value::Null), "m", &config).unwrap();
    assert_eq!(
        (&out["max_completion_tokens"], out.get("max_tokens"), &out["reasoning_effort"]),
        (&json!(5), None, &json!("low"))
    );
}

#[test]
fn what_has_no_counterpart_is_refused_by_place_and_name() {
    let cases = [
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "container_upload" }] }] }),
            "messages.0.content.0: \"container_upload\"",
        ),
        (
            json!({ "messages": [], "tools": [{ "type": "web_search_20250305", "name": "w" }] }),
            "tools: \"web_search_20250305\"",
        ),
        (
            json!({ "messages": [{ "role": "tool", "content": "x" }] }),
            "messages.0.role: expected user or assistant",
        ),
    ];
    for (body, want) in cases {
        let got = translate(&body, "m", &ProviderConfig::new(Kind::Openai)).unwrap_err();
        assert!(got.starts_with(want), "{got}");
    }
}
