//! What people said to an agent while it worked, found again in what its model was told, with the boundary at which it was
//! heard.

use std::sync::Arc;

use serde_json::Value;

/// How the harness begins its answer to a call that a nudge came before.
const NOT_RUN: &str = "Not run: the person who gave the task said something first";

/// Words of a person, as the harness shows them to the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The words.
    pub text: String,
    /// They were heard before this tool call of the turn before, from 1; between the two turns when absent.
    pub before_call: Option<u32>,
}

/// What was said since the model last spoke, by the messages of a request.
pub fn heard(messages: &[Arc<Value>]) -> Vec<Heard> {
    let Some(last) = messages.last().filter(|m| m["role"] == "user") else { return Vec::new() };
    let blocks = last["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    let results: Vec<&Value> = blocks.iter().filter(|b| b["type"] == "tool_result").collect();
    let is_not_run = |block: &&&Value| text_of(&block["content"]).starts_with(NOT_RUN);
    // Those that were not run are the last ones of the turn.
    let not_run = results.iter().rev().take_while(is_not_run).count();
    // Nothing else was said: the agent had come to its end.
    let alone =
        messages.len() > 1 && blocks.iter().all(|b| b["text"].as_str().is_some_and(|t| words(t).is_some()));
    let before_call = match (results.len(), not_run) {
        (0, _) if alone => Some(1),
        (_, 0) => None,
        (all, not_run) => u32::try_from(all - not_run + 1).ok(),
    };
    let said = blocks.iter().filter_map(|block| block["text"].as_str()).flat_map(words);
    said.map(|text| Heard { text, before_call }).collect()
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => blocks.iter().filter_map(|b| b["text"].as_str()).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}

/// The words in a block of the harness: escaped, between marks.
fn words(block: &str) -> Option<String> {
    let (_, rest) = block.split_once("<user_nudge ")?;
    let (_, rest) = rest.split_once(">\n")?;
    let (text, _) = rest.split_once("\n</user_nudge>")?;
    let plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
    Some(plain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nudge(text: &str) -> Value {
        let text = format!("[words]\n<user_nudge timestamp=\"t\" nudge_id=\"n\">\n{text}\n</user_nudge>");
        json!({ "type": "text", "text": text })
    }

    fn result(text: &str) -> Value {
        json!({ "type": "tool_result", "tool_use_id": "x", "content": text })
    }

    #[test]
    fn the_boundary_follows_from_what_was_not_run() {
        let said = json!({ "role": "assistant", "content": [] });
        let check = |blocks: &[Value], first: bool| {
            let user = Arc::new(json!({ "role": "user", "content": blocks }));
            let messages = if first { vec![user] } else { vec![Arc::new(said.clone()), user] };
            heard(&messages).into_iter().map(|h| (h.text, h.before_call)).collect::<Vec<_>>()
        };
        let one = |call| vec![("a <b> & \"c\"".to_owned(), call)];
        let words = nudge("a &lt;b&gt; &amp; &quot;c&quot;");
        let task = json!({ "type": "text", "text": "the task" });
        let task_again = task.clone();
        assert_eq!(check(&[task, words.clone()], true), one(None), "before the first turn");
        assert_eq!(check(&[result("done"), words.clone()], false), one(None), "between two turns");
        assert_eq!(
            check(&[result("done"), result(NOT_RUN), result(NOT_RUN), words.clone()], false),
            one(Some(2))
        );
        assert_eq!(check(&[result(NOT_RUN), words.clone()], false), one(Some(1)));
        assert_eq!(check(std::slice::from_ref(&words), false), one(Some(1)), "when it would have ended");
        assert_eq!(check(&[task_again, words.clone()], false), one(None), "after the harness spoke");
        assert_eq!(check(&[result("done")], false), []);
        assert_eq!(check(&[words.clone(), nudge("two")], false).len(), 2);
    }
}
