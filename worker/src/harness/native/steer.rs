//! What people say, at the boundaries of the loop: nudges become part of the conversation, questions are answered beside it.
//!
//! The order is everywhere the same: a stop first, then the stuck guard, then nudges, then questions. A nudge is taken
//! only while there is a turn left in which it can be heeded. A question costs one model call on the conversation as it
//! stands; neither it nor its answer is left in the conversation, so the work goes on as if nobody had asked.

use domain::steer::{AnswerSource, Boundary};
use redact::Redactor;

use super::call::{CallError, Purpose};
use super::transcript::{Block, Role, ToolChoice};
use super::{End, Run, prompt};
use crate::harness::{Question, Stop, while_wanted};

/// Tokens of an answer.
const ANSWER_TOKENS: u64 = 2_000;

impl Run<'_> {
    /// Between two turns.
    pub(super) async fn heed(&mut self) -> Result<(), End> {
        self.ctx.signals.check().await.or_stop()?;
        let nudges = self.nudges(None).await?;
        if !nudges.is_empty() {
            self.transcript.push(Role::User, nudges);
        }
        self.answer_questions().await
    }

    /// Whether what the agent says now can still be answered by another turn.
    pub(super) fn has_turns_left(&self) -> bool {
        self.attempted < self.work.max_turns
    }

    /// The nudges that wait, as they are shown to the model. Their acknowledgement is stored before this returns.
    /// `calls` of this turn are done; none before the model is asked.
    pub(super) async fn nudges(&self, calls: Option<usize>) -> Result<Vec<Block>, Stop> {
        self.ctx.signals.check().await.or_stop()?;
        let calls = calls.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        let at = Boundary { turn: self.attempted, calls };
        let taken = self.ctx.steering.take_nudges(at).await?;
        Ok(taken.iter().map(|nudge| Block::text(prompt::nudge(nudge))).collect())
    }

    /// Answers the questions that wait. What goes wrong with an answer is the answer: the work does not end over it.
    pub(super) async fn answer_questions(&mut self) -> Result<(), End> {
        for question in self.ctx.steering.questions() {
            let (answer, source) = match self.side_call(&question).await {
                Ok(answer) => (answer, AnswerSource::Agent),
                Err(CallError::Stopped(stop)) => return Err(End::Stopped(stop)),
                Err(CallError::Budget) => not_asked("the task's budget is used up"),
                Err(CallError::TooLong(why)) => not_asked(&why),
                Err(CallError::Failed(failure)) => not_asked(&failure.to_string()),
            };
            self.ctx.steering.answer(question.id, answer, source).await?;
        }
        Ok(())
    }

    /// Asks the model beside the work.
    async fn side_call(&mut self, question: &Question) -> Result<String, CallError> {
        let tokens = self.work.max_output_tokens.min(ANSWER_TOKENS);
        let words = prompt::question(&question.text);
        let body = self.transcript.request(&self.work.model, tokens, ToolChoice::None, Some(&words));
        let reply = while_wanted(&*self.ctx.signals, self.tries(body.into(), Purpose::Ask)).await;
        let reply = reply.map_err(CallError::Stopped)??;
        self.tokens = self.tokens + reply.usage;
        Ok(words_of(&reply.text(), self.tools.redactor()))
    }
}

fn words_of(answer: &str, redactor: &Redactor) -> String {
    let answer = redactor.mask(answer.trim()).into_owned();
    if answer.is_empty() { "(the agent gave no answer)".to_owned() } else { answer }
}

fn not_asked(why: &str) -> (String, AnswerSource) {
    (format!("The agent could not be asked: {why}"), AnswerSource::Record)
}
