//! The span of a model call. It is made here, where the call is metered: a box can neither forge nor leave one out.

use std::sync::{Mutex, PoisonError};

use orchestrator::Orchestrator;
use serde_json::Value;
use telemetry::gen_ai::{self, Chat};

use crate::model::{Answered, Basis, Finished, Kind, ModelCall};

/// What is kept of one call for its span.
#[derive(Debug, Default)]
pub(crate) struct ChatSpan {
    /// The answer's content, when it is to be told.
    said: Mutex<Option<Value>>,
}

impl ChatSpan {
    /// Keeps what was said.
    pub fn said(&self, answered: &Answered) {
        let content = answered.message.as_ref().map(|message| message["content"].clone());
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = content;
    }

    /// Gives the span of a call that has ended now.
    pub fn tell(&self, orchestrator: &Orchestrator, call_id: &str, call: &ModelCall, finished: Finished<'_>) {
        let policy = &orchestrator.parts().policy;
        if policy.traces.trace_of(call.task).is_none() {
            return;
        }
        let mut response = finished.response;
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(response), Some(said)) = (&mut response, said) {
            response["content"] = said;
        }
        let end = orchestrator.now();
        let price = finished.resolved.price.as_ref();
        let chat = Chat {
            task: call.task,
            attempt: call.attempt,
            call_id,
            provider: match finished.resolved.config().kind {
                Kind::Anthropic => "anthropic",
                Kind::Openai => "openai",
                Kind::Script => "script",
            },
            provider_name: finished.resolved.provider(),
            model: &finished.resolved.model,
            purpose: call.purpose.as_str(),
            turn: call.turn,
            request: &call.body,
            response: response.as_ref(),
            tokens: finished.used.map(|(tokens, _)| tokens),
            estimated: matches!(finished.used, Some((_, Basis::Estimated))),
            cost: price.zip(finished.used).map(|(price, (tokens, _))| price.cost(tokens)),
            error: finished.error,
            first_chunk_s: finished.first_chunk.map(|first| first.as_secs_f64()),
            start: end.checked_sub(finished.took).unwrap_or(end),
            end,
        };
        if let Some(span) = gen_ai::span(&policy.traces, policy.masks.all(), &chat) {
            policy.traces.give(span);
        }
    }
}
