"""A strict client: the official `anthropic` SDK holds a two-turn conversation with each model, streamed and whole.

Prints one JSON object: model -> what the SDK understood. Any event it does not expect raises.
"""

import json
import sys

import anthropic

url, models = sys.argv[1], sys.argv[2:]
client = anthropic.Anthropic(base_url=url, api_key="box-token", max_retries=0, timeout=60)
TOOL = {
    "name": "bash",
    "description": "Runs a command.",
    "input_schema": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
}


def ask(model, messages, streamed):
    request = dict(model=model, max_tokens=200, system="Be brief.", messages=messages, tools=[TOOL])
    if not streamed:
        return client.messages.create(**request)
    with client.messages.stream(**request) as stream:
        deltas = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert deltas == "".join(b.text for b in message.content if b.type == "text"), deltas
    return message


def plain(message):
    blocks = [b.text if b.type == "text" else [b.name, b.input] for b in message.content]
    return {"blocks": blocks, "stop": message.stop_reason, "counted": message.usage.output_tokens > 0}


def converse(model, streamed):
    messages = [{"role": "user", "content": "Go."}]
    first = ask(model, messages, streamed)
    calls = [b for b in first.content if b.type == "tool_use"]
    if not calls:
        return [plain(first)]
    assert len({c.id for c in calls}) == len(calls)
    results = [{"type": "tool_result", "tool_use_id": c.id, "content": "ok"} for c in calls]
    messages.append({"role": "assistant", "content": [b.model_dump(exclude_none=True, exclude={"caller"}) for b in first.content]})
    messages.append({"role": "user", "content": results})
    return [plain(first), plain(ask(model, messages, streamed))]


print(json.dumps({m: {"streamed": converse(m, True), "whole": converse(m, False)} for m in models}))
