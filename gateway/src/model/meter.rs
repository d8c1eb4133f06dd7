//! What the proxy asks and tells the rest of the gateway: may this call start, what did it use, is it waiting.

use std::time::Duration;

use async_trait::async_trait;
use domain::{Attempt, MicroUsd, TaskId, TokenCount};
use serde_json::Value;

use super::ModelCall;

/// The seam to budgets and the store. The gateway implements it; tests have a fake.
#[async_trait]
pub trait Meter: Send + Sync {
    /// Asked before a call starts, and again after each wait: may it? The permit is kept until the call's usage is
    /// recorded, or until it is asked again.
    async fn before(&self, asking: Asking) -> Result<Permit, Refusal>;

    /// Told once for each call that reached a provider, before the client sees the end of the answer, so that the
    /// next call's budget check already counts it. `call_id` is unique; an implementation that may be called again
    /// after an error keys on it.
    async fn record(
        &self,
        call_id: &str,
        usage: Usage,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

    /// Told when the provider's usage limit is reached for `wait`, longer than a box should wait. Whether the task is parked
    /// until then: the call ends.
    async fn limited(&self, task: TaskId, attempt: Attempt, wait: Duration) -> bool {
        let _ = (task, attempt, wait);
        false
    }

    /// Told when a call starts to wait for its provider, so that people can see it.
    async fn waiting(&self, waiting: Waiting);

    /// Whether it wants to be told what is asked and answered.
    fn recording(&self) -> Recording {
        Recording::Off
    }

    /// Told what a call asks of `model` (`provider/model`), before it is asked; when recording.
    async fn asked(&self, _call_id: &str, _call: &ModelCall, _model: &str) {}

    /// Told what came back, before the client sees the end of it; when recording.
    async fn answered(&self, _call_id: &str, _call: &ModelCall, _answered: Answered) {}

    /// Told once for each call how it went, after all else. Telemetry: it does not wait and cannot fail.
    fn finished(&self, _call_id: &str, _call: &ModelCall, _finished: Finished<'_>) {}
}

/// How a call went.
#[derive(Debug)]
pub struct Finished<'a> {
    /// Where it led.
    pub resolved: &'a super::Resolved,
    /// What it used; none when nothing is known to have been used.
    pub used: Option<(TokenCount, Basis)>,
    /// Of the answer its `id`, `model` and `stop_reason`, as far as they came.
    pub response: Option<Value>,
    /// Why there is no whole answer, as a status or a short code.
    pub error: Option<String>,
    /// From the request to the first of a streamed answer, waits included.
    pub first_chunk: Option<Duration>,
    /// From the request to the end of the answer, waits included.
    pub took: Duration,
}

/// Whether requests and answers are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recording {
    /// They are.
    On,
    /// They are not.
    Off,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The message, whole or as far as it came.
    pub message: Option<Value>,
    /// The status that the client was given, and why the message is not whole.
    pub error: Option<(Option<u16>, String)>,
    /// From the request to the end of the answer, waits included.
    pub took: Duration,
}

/// A call that wants to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asking {
    /// The task it is made for.
    pub task: TaskId,
    /// Its attempt.
    pub attempt: Attempt,
    /// What it can cost at most, by an estimate of its input; zero without a price.
    pub most: MicroUsd,
}

/// Whatever a meter wants to know the end of a call by: it is dropped then.
pub type Permit = Box<dyn std::any::Any + Send>;

/// Why a call may not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing is left of a budget that the task is under.
    BudgetExceeded {
        /// Spent so far.
        spent: MicroUsd,
        /// The budget.
        budget: MicroUsd,
        /// Which one, and when it renews: a sentence.
        words: String,
    },
    /// Another attempt has taken over.
    Superseded,
    /// The task is not in a state in which it may call a model.
    Ended {
        /// Why, for the one who reads the worker's log.
        reason: String,
    },
    /// It cannot be told just now; the client may try again.
    Unavailable {
        /// Why.
        reason: String,
    },
}

/// What one call used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The task it was made for.
    pub task: TaskId,
    /// Its attempt.
    pub attempt: Attempt,
    /// The turn the client said it was.
    pub turn: Option<u32>,
    /// What it was for.
    pub purpose: super::Purpose,
    /// `provider/model`.
    pub model: String,
    /// The tokens.
    pub tokens: TokenCount,
    /// Whether the provider counted them.
    pub basis: Basis,
    /// The cost, where the model has a price.
    pub cost: Option<MicroUsd>,
    /// The day of that price.
    pub price_as_of: Option<String>,
}

/// Where a token count comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// The provider said so.
    Reported,
    /// Computed from sizes (four bytes are a token), because the provider said nothing or the stream broke.
    Estimated,
}

/// A call waits for its provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The task.
    pub task: TaskId,
    /// Its attempt.
    pub attempt: Attempt,
    /// `provider/model`.
    pub model: String,
    /// The provider's HTTP status; none when nothing answered.
    pub status: Option<u16>,
    /// The next try is after this long.
    pub retry_in: Duration,
}

/// Four bytes are about a token of English text or code.
pub(super) fn tokens_of(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4)
}
