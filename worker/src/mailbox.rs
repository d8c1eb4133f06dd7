//! What people say to the agent, between the poll that hears of it and the agent that takes it over.
//!
//! Here is only what waits: a nudge is the agent's when the control plane has acknowledged it, and each is handed over
//! once. A worker that ends before keeps nothing back, because what was not taken waits in the control plane.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::steer::{AnswerSource, Boundary};
use domain::{AskId, NudgeId};
use protocol::box_api::{AskAnswer, Directives, OpenAsk};

use crate::client::{CallError, Gateway, Patience};
use crate::harness::{Nudge, Question, Steering, Stop as Left};
use crate::stop::{Reason, Stop};

/// How long an answer waits for a control plane that is away.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);

/// Shared by the poll and the agent.
#[derive(Debug, Clone)]
pub struct Mailbox {
    gateway: Gateway,
    stop: Stop,
    scripted: bool,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    nudges: Vec<NudgeId>,
    asks: Vec<OpenAsk>,
    /// Handed over already, whatever a late poll says.
    taken: HashSet<NudgeId>,
    answered: HashSet<AskId>,
}

impl Mailbox {
    /// Empty. `scripted`: the control plane knows at which boundary people speak, and is asked at each.
    pub fn new(gateway: Gateway, stop: Stop, scripted: bool) -> Mailbox {
        Mailbox { gateway, stop, scripted, inner: Arc::default() }
    }

    /// What a poll heard replaces what waited.
    pub fn put(&self, heard: &Directives) {
        let mut inner = self.lock();
        inner.nudges = heard.nudges.clone();
        inner.asks = heard.asks.clone();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> Vec<NudgeId> {
        let inner = self.lock();
        inner.nudges.iter().filter(|id| !inner.taken.contains(id)).copied().collect()
    }

    /// Ends the work when the control plane does not want it any more; anything else is tried again at the next boundary.
    fn heard(&self, error: CallError) -> Result<(), Left> {
        match error {
            CallError::Superseded { .. } => {
                self.stop.ask(Reason::Superseded);
                Err(Left::Superseded)
            }
            CallError::Unauthorized { .. } => {
                self.stop.ask(Reason::Unauthorized);
                Err(Left::Cancelled)
            }
            error @ (CallError::Away { .. } | CallError::Refused { .. }) => {
                tracing::warn!(%error, "what a person said waits");
                Ok(())
            }
        }
    }
}

#[async_trait]
impl Steering for Mailbox {
    async fn take_nudges(&self, at: Boundary) -> Result<Vec<Nudge>, Left> {
        let (waiting, at) = (self.waiting(), self.scripted.then_some(at));
        if waiting.is_empty() && at.is_none() {
            return Ok(Vec::new());
        }
        match self.gateway.take_nudges(waiting, at).await {
            Ok(taken) => {
                let mut inner = self.lock();
                let fresh = taken.into_iter().filter(|n| inner.taken.insert(n.id));
                Ok(fresh.map(|n| Nudge { id: n.id, submitted_at: n.submitted_at, text: n.text }).collect())
            }
            Err(error) => self.heard(error).map(|()| Vec::new()),
        }
    }

    fn questions(&self) -> Vec<Question> {
        let inner = self.lock();
        let open = inner.asks.iter().filter(|a| !inner.answered.contains(&a.id));
        open.map(|a| Question { id: a.id, text: a.question.clone() }).collect()
    }

    async fn answer(&self, question: AskId, answer: String, source: AnswerSource) -> Result<(), Left> {
        let answer = AskAnswer { answer, source };
        match self.gateway.answer(question, &answer, Patience::within(ANSWER_PATIENCE)).await {
            Ok(()) => (),
            Err(error) => self.heard(error)?,
        }
        // One side call for a question: what could not be handed over is answered from the record at the end.
        self.lock().answered.insert(question);
        Ok(())
    }
}
