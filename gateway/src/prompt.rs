//! The prompt that an agent begins with is screened here, outside of its reach: the first message of an attempt's first
//! call, with all that the worker put into it.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use domain::event::{EventKind, NewEvent};
use domain::{Attempt, Task, TaskId};
use screening::{Source, Verdict};
use serde_json::{Value, json};

use crate::Gateway;
use crate::model::{Answer, ModelCall};

/// Attempts that are remembered as screened. One that is forgotten is screened once more.
const SCREENED_MAX: usize = 10_000;

/// The attempts whose prompts have passed.
#[derive(Debug, Default)]
pub(crate) struct Screened(Mutex<HashSet<(TaskId, Attempt)>>);

impl Screened {
    fn has(&self, task: &Task) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&(task.id, task.attempt))
    }

    fn passed(&self, task: &Task) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= SCREENED_MAX {
            all.clear();
        }
        all.insert((task.id, task.attempt));
    }
}

/// Lets a call go on, unless it is the first of its attempt and its prompt does not pass.
pub(crate) async fn screen(gateway: &Gateway, task: &Task, call: &ModelCall) -> Result<(), Answer> {
    let orchestrator = gateway.orchestrator();
    if orchestrator.parts().policy.screens.is_empty() || gateway.screened().has(task) {
        return Ok(());
    }
    match orchestrator.screen(Source::Prompt, &first_message(&call.body)).await {
        Ok(Verdict::Passed) => (),
        Ok(Verdict::Warned(reason)) => {
            orchestrator.tell_screened(task.id, Source::Prompt, &reason).await;
        }
        Ok(Verdict::Blocked(reason)) => {
            let event = NewEvent {
                client_key: Some("gw-guardrail".into()),
                ..NewEvent::new(
                    EventKind::GuardrailBlocked,
                    json!({ "source": Source::Prompt.as_str(), "reason": reason }),
                )
            };
            // Telemetry: the refusal stands whether or not its event can be stored.
            let _ = orchestrator.box_event(task.id, task.attempt, event).await;
            return Err(Answer::guardrail(&reason));
        }
        Err(failure) => return Err(Answer::unscreened(failure.to_string())),
    }
    gateway.screened().passed(task);
    Ok(())
}

/// The text of the first message.
fn first_message(body: &Value) -> String {
    let content = &body["messages"][0]["content"];
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts: Vec<&str> = blocks.iter().filter_map(|block| block["text"].as_str()).collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_is_read_in_both_forms() {
        let text = |content: Value| {
            first_message(&json!({ "messages": [{ "content": content }, { "content": "x" }] }))
        };
        assert_eq!(text(json!("hi")), "hi");
        assert_eq!(
            text(
                json!([{ "type": "text", "text": "a" }, { "type": "image" }, { "type": "text", "text": "b" }])
            ),
            "a\nb"
        );
        assert_eq!((text(json!(7)), first_message(&json!({}))), (String::new(), String::new()));
    }
}
