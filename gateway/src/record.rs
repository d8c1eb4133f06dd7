//! The model calls of tasks that want a trace, as they pass: what was asked and what came back, each an object of its own
//! that is durable before the box sees the end of the answer. A box can neither forge nor leave out any of it.
//!
//! A request keeps what it adds to the one before it (`trace::prefix`); after a restart it is kept whole. Everything is
//! masked first. Recording never fails a call: what cannot be stored is missing, and the log says so.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use domain::event::{EventKind, NewEvent};
use domain::transition::after;
use domain::{Attempt, TaskId, limit};
use jiff::Timestamp;
use orchestrator::Orchestrator;
use orchestrator::trace::{Half, part_key, part_time, parts_of};
use serde_json::json;
use tokio::sync::Mutex;
use trace::line::{CallError, ModelResponse};
use trace::prefix::{self, Caller, Seen};
use trace::{Entry, Line, pack};
use tracing::warn;

use crate::model::{Answered, ModelCall};

/// Attempts whose last request is remembered. One that is forgotten has its next request kept whole.
const ATTEMPTS_REMEMBERED: usize = 1_000;

/// Records model calls. Clones are the same recorder.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    parts: Arc<Parts>,
}

/// What is recorded of each attempt.
type Attempts = HashMap<(TaskId, Attempt), Arc<Mutex<Recorded>>>;

#[derive(Debug)]
struct Parts {
    orchestrator: Orchestrator,
    attempts: Mutex<Attempts>,
}

/// What is remembered of an attempt.
#[derive(Debug, Default)]
struct Recorded {
    /// The last request that was stored.
    seen: Option<Seen>,
    /// Calls whose request was stored and whose answer was not.
    open: Vec<String>,
    /// What the task's parts come to; unknown at first.
    sum: Option<Sum>,
}

/// What the parts of a task come to.
#[derive(Debug, Clone, Copy)]
struct Sum {
    bytes: u64,
    /// The time of the last one: each is later than the one before it, whatever the clock does.
    last: Timestamp,
}

impl Recorder {
    /// Into the objects of this control plane.
    pub fn new(orchestrator: Orchestrator) -> Recorder {
        Recorder { parts: Arc::new(Parts { orchestrator, attempts: Mutex::default() }) }
    }

    /// What a call asks of a model.
    pub async fn asked(&self, call_id: &str, call: &ModelCall, model: &str) {
        let recorded = self.of(call).await;
        let mut recorded = recorded.lock().await;
        let mut body = call.body.clone();
        self.parts.orchestrator.parts().policy.masks.all().mask_json(&mut body);
        let caller = Caller {
            call_id: call_id.to_owned(),
            attempt: call.attempt.0,
            turn: call.turn,
            purpose: call.purpose.as_str().to_owned(),
            model: model.to_owned(),
        };
        let (line, seen) = prefix::request(recorded.seen.as_ref(), caller, body);
        if self.store(&mut recorded, call, call_id, Half::Request, Line::ModelRequest(Box::new(line))).await {
            recorded.seen = Some(seen);
            recorded.open.push(call_id.to_owned());
        }
    }

    /// What came back.
    pub async fn answered(&self, call_id: &str, call: &ModelCall, answered: Answered) {
        let recorded = self.of(call).await;
        let mut recorded = recorded.lock().await;
        // Without its request an answer says nothing.
        let Some(place) = recorded.open.iter().position(|open| open == call_id) else { return };
        recorded.open.swap_remove(place);
        let masks = self.parts.orchestrator.parts().policy.masks.all();
        let mut message = answered.message;
        if let Some(message) = &mut message {
            masks.mask_json(message);
        }
        let error =
            answered.error.map(|(status, why)| CallError { status, message: masks.mask(&why).into_owned() });
        let line = ModelResponse {
            call_id: call_id.to_owned(),
            attempt: call.attempt.0,
            turn: call.turn,
            purpose: call.purpose.as_str().to_owned(),
            duration_ms: u64::try_from(answered.took.as_millis()).unwrap_or(u64::MAX),
            message,
            error,
        };
        self.store(&mut recorded, call, call_id, Half::Response, Line::ModelResponse(Box::new(line))).await;
    }

    async fn of(&self, call: &ModelCall) -> Arc<Mutex<Recorded>> {
        let mut attempts = self.parts.attempts.lock().await;
        if attempts.len() >= ATTEMPTS_REMEMBERED && !attempts.contains_key(&(call.task, call.attempt)) {
            attempts.clear();
        }
        attempts.entry((call.task, call.attempt)).or_default().clone()
    }

    /// Whether it was stored.
    async fn store(
        &self,
        recorded: &mut Recorded,
        call: &ModelCall,
        call_id: &str,
        half: Half,
        line: Line,
    ) -> bool {
        let orchestrator = &self.parts.orchestrator;
        let objects = &orchestrator.parts().objects;
        let stored = async {
            let before = match recorded.sum {
                Some(sum) => sum,
                None => {
                    let parts = objects.list(&parts_of(call.task)).await.map_err(text)?;
                    let last = parts.iter().filter_map(|part| part_time(&part.key)).max();
                    let bytes = parts.iter().map(|part| part.bytes).sum();
                    Sum { bytes, last: last.unwrap_or(Timestamp::UNIX_EPOCH) }
                }
            };
            recorded.sum = Some(before);
            let at = orchestrator.now().max(after(before.last, Duration::from_micros(1)));
            let packed = pack::one(&Entry { seq: 0, time: at, line }).map_err(text)?;
            if before.bytes + packed.len() as u64 > limit::TRACE_MAX_BYTES {
                return Ok(false);
            }
            let key = part_key(call.task, at, call_id, half).map_err(text)?;
            let bytes = objects.put(&key, objects::body(packed)).await.map_err(text)?;
            recorded.sum = Some(Sum { bytes: before.bytes + bytes, last: at });
            Ok::<bool, String>(true)
        };
        match stored.await {
            Ok(true) => true,
            Ok(false) => {
                self.tell_truncated(call).await;
                false
            }
            Err(failure) => {
                warn!(task.id = %call.task, call.id = call_id, error = failure, "a model call is missing in the trace");
                false
            }
        }
    }

    /// Once per attempt. Telemetry: whether it can be stored changes nothing.
    async fn tell_truncated(&self, call: &ModelCall) {
        let data = json!({ "milestone": "trace_truncated", "max_bytes": limit::TRACE_MAX_BYTES });
        let event = NewEvent {
            client_key: Some("gw-trace-truncated".into()),
            ..NewEvent::new(EventKind::AgentMilestone, data)
        };
        let _ = self.parts.orchestrator.box_event(call.task, call.attempt, event).await;
    }
}

fn text(failure: impl std::fmt::Display) -> String {
    failure.to_string()
}
