//! What people say to a task that runs, and how its agent hears it: nudges and questions.
//!
//! Words are masked before they are stored. The box learns in its directives that something waits, and takes it over by a
//! call that the store makes whole: acknowledged and consumed, or neither. A question that no agent will answer is
//! answered from the record when somebody looks: nothing has to notice that the agent is gone.

use domain::steer::{AnswerSource, Ask, Nudge};
use domain::{AskId, Attempt, NudgeId, State, Status, Task, TaskId, UserId, limit};
use sha2::{Digest as _, Sha256};
use store::{
    Answered, Asked, EventCursor, EventQuery, NewAnswer, NewAsk, NewNudge, NudgeTake, Nudged, NudgesTaken,
    SessionRecord, StoreError,
};

use crate::Orchestrator;
use crate::history::{History, LOOK_BACK};
use crate::report::Heard;

/// What waits for an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Nudges, the oldest first, at most [`limit::NUDGES_AT_ONCE`].
    pub nudges: Vec<Nudge>,
    /// Open questions, the oldest first.
    pub asks: Vec<Ask>,
}

impl Orchestrator {
    /// Says something to the agent of a task. When this returns `Nudged::Stored`, it is on the disk.
    pub async fn nudge(&self, task: TaskId, by: &UserId, text: &str) -> Result<Nudged, StoreError> {
        let now = self.now();
        let nudge = NewNudge {
            id: NudgeId::from_parts(now, random()),
            task,
            by: by.clone(),
            text: self.parts().policy.masks.all().mask(text).into_owned(),
            per_minute: limit::NUDGES_PER_MINUTE,
            now,
        };
        self.store().nudge_add(nudge).await
    }

    /// What a transcript says to the agent in a turn, stored once however often it is asked for. `number` is its place among
    /// what is said in that turn.
    pub async fn nudge_played(
        &self,
        task: TaskId,
        attempt: Attempt,
        turn: u32,
        number: usize,
        text: &str,
    ) -> Result<NudgeId, StoreError> {
        let place = format!("{task} {attempt} {turn} {number}");
        let mut bits = [0u8; 16];
        bits.copy_from_slice(&Sha256::digest(place.as_bytes())[..16]);
        let id = NudgeId::from_bits(u128::from_be_bytes(bits));
        if self.store().nudge_list(task).await?.iter().any(|nudge| nudge.id == id) {
            return Ok(id);
        }
        let nudge = NewNudge {
            id,
            task,
            by: UserId::new("script"),
            text: self.parts().policy.masks.all().mask(text).into_owned(),
            per_minute: u32::MAX,
            now: self.now(),
        };
        // Of a task that has ended, nothing is taken.
        let _ = self.store().nudge_add(nudge).await?;
        Ok(id)
    }

    /// Asks a question about a task. A task without an agent is answered at once, from its record.
    pub async fn ask(&self, task: &Task, by: &UserId, question: &str) -> Result<Asked, StoreError> {
        // A question that was left open by an agent that is gone would keep the next one out.
        self.asks_settled(task.id).await?;
        let now = self.now();
        let session = self.store().session_get(task.id, task.attempt).await?;
        let answer = match will_answer(task, session.as_ref()) {
            true => None,
            false => Some(self.answer_from_record(task).await?),
        };
        let ask = NewAsk {
            id: AskId::from_parts(now, random()),
            task: task.id,
            by: by.clone(),
            question: self.parts().policy.masks.all().mask(question).into_owned(),
            answer,
            per_minute: limit::ASKS_PER_MINUTE,
            now,
        };
        self.store().ask_open(ask).await
    }

    /// All questions about a task, the oldest first; those that no agent will answer any more are answered now.
    pub async fn asks_settled(&self, id: TaskId) -> Result<Vec<Ask>, StoreError> {
        let mut asks = self.store().ask_list(id).await?;
        if asks.iter().all(|a| a.answer.is_some()) {
            return Ok(asks);
        }
        let Some(task) = self.store().task_get(id).await? else { return Ok(asks) };
        let session = self.store().session_get(id, task.attempt).await?;
        if will_answer(&task, session.as_ref()) {
            return Ok(asks);
        }
        let text = self.answer_from_record(&task).await?;
        for ask in asks.iter_mut().filter(|a| a.answer.is_none()) {
            let answer = NewAnswer {
                task: id,
                ask: ask.id,
                attempt: None,
                source: AnswerSource::Record,
                text: text.clone(),
                now: self.now(),
            };
            if let Answered::Settled(settled) = self.store().ask_answer(answer).await? {
                *ask = settled;
            }
        }
        Ok(asks)
    }

    /// What waits for the agent of a task. Looked up only for the current attempt.
    pub async fn waiting(&self, task: TaskId) -> Result<Waiting, StoreError> {
        let mut nudges = self.store().nudge_list(task).await?;
        nudges.retain(|n| n.taken.is_none());
        nudges.truncate(limit::NUDGES_AT_ONCE);
        let mut asks = self.store().ask_list(task).await?;
        asks.retain(|a| a.answer.is_none());
        Ok(Waiting { nudges, asks })
    }

    /// The box takes nudges over: acknowledged in its log and its own from now on.
    pub async fn box_takes_nudges(
        &self,
        task: TaskId,
        attempt: Attempt,
        ids: Vec<NudgeId>,
    ) -> Result<Heard<Vec<Nudge>>, StoreError> {
        let take = NudgeTake { task, attempt, ids, now: self.now() };
        Ok(match self.store().nudge_take(take).await? {
            NudgesTaken::Taken(nudges) => Heard::Yes(nudges),
            NudgesTaken::Superseded => Heard::Superseded,
        })
    }

    /// The box answers a question; the first answer stays. `None`: there is no such question.
    pub async fn box_answers(
        &self,
        task: TaskId,
        attempt: Attempt,
        ask: AskId,
        source: AnswerSource,
        text: &str,
    ) -> Result<Option<Heard<()>>, StoreError> {
        let text = self.parts().policy.masks.all().mask(text).into_owned();
        let text = domain::event::preview(text.trim(), limit::ASK_ANSWER_MAX_CHARS);
        let answer = NewAnswer { task, ask, attempt: Some(attempt), source, text, now: self.now() };
        Ok(match self.store().ask_answer(answer).await? {
            Answered::Settled(_) => Some(Heard::Yes(())),
            Answered::Superseded => Some(Heard::Superseded),
            Answered::NoSuchAsk => None,
        })
    }

    /// What the record of a task says to whoever asks.
    async fn answer_from_record(&self, task: &Task) -> Result<String, StoreError> {
        Ok(self.history(task.id).await?.answer(task))
    }

    /// The work so far, by the task's log.
    pub(crate) async fn history(&self, task: TaskId) -> Result<History, StoreError> {
        let query = EventQuery { task, from: EventCursor::Newest, limit: LOOK_BACK };
        let mut events = self.store().events_read(query).await?;
        events.reverse();
        Ok(History::of(&events))
    }
}

/// Whether an agent works, or is about to, that will come to the question. The stage is the worker's own word, as old as
/// its last heartbeat: whoever waits for an answer looks again.
fn will_answer(task: &Task, session: Option<&SessionRecord>) -> bool {
    match task.status() {
        Status::Hydrating => true,
        Status::Running | Status::AwaitingApproval => {
            let stage = session.and_then(|s| s.stage.as_deref());
            !matches!(stage, Some("commit" | "push" | "verify" | "result"))
        }
        Status::PendingUploads
        | Status::Queued
        | Status::Submitted
        | Status::Finalizing
        | Status::Completed
        | Status::Failed
        | Status::Cancelled
        | Status::TimedOut => matches!(task.state, State::Submitted { .. }) && task.queued_at.is_none(),
    }
}

pub(crate) fn random() -> u128 {
    let mut random = [0u8; 16];
    // The operating system's generator does not fail on the platforms we run on; a collision would be refused.
    let _ = getrandom::fill(&mut random);
    u128::from_le_bytes(random)
}
