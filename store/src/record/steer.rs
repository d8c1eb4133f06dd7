//! Nudges and questions, as they go in and come out.

use std::time::Duration;

use domain::steer::{AnswerSource, Ask, Nudge};
use domain::{AskId, Attempt, NudgeId, Status, TaskId, UserId};
use jiff::Timestamp;

/// A nudge to store.
#[derive(Debug, Clone)]
pub struct NewNudge {
    /// Its id.
    pub id: NudgeId,
    /// To the agent of this task.
    pub task: TaskId,
    /// Of this person.
    pub by: UserId,
    /// The words.
    pub text: String,
    /// At most this many to the task within the last minute, this one included.
    pub per_minute: u32,
    /// The time.
    pub now: Timestamp,
}

/// How storing a nudge went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nudged {
    /// Stored; its agent will be told.
    Stored(Nudge),
    /// The task has ended.
    Ended(Status),
    /// Too many in a minute: one more fits after this time.
    TooMany(Duration),
}

/// Nudges that a box takes over.
#[derive(Debug, Clone)]
pub struct NudgeTake {
    /// The task.
    pub task: TaskId,
    /// The attempt that takes them.
    pub attempt: Attempt,
    /// Which.
    pub ids: Vec<NudgeId>,
    /// The time.
    pub now: Timestamp,
}

/// How taking went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NudgesTaken {
    /// These are the attempt's now (or were already: a repeat gets the same), the oldest first.
    Taken(Vec<Nudge>),
    /// The attempt is not the current one, is asked to leave, or the task has ended: nothing was taken.
    Superseded,
}

/// A question to store.
#[derive(Debug, Clone)]
pub struct NewAsk {
    /// Its id.
    pub id: AskId,
    /// About this task.
    pub task: TaskId,
    /// Who asks.
    pub by: UserId,
    /// The words.
    pub question: String,
    /// The answer, where the record already gives it.
    pub answer: Option<String>,
    /// At most this many about the task within the last minute, this one included.
    pub per_minute: u32,
    /// The time.
    pub now: Timestamp,
}

/// How asking went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Stored, with its answer if it came with one.
    Opened(Ask),
    /// The person has this open question about the task already.
    AlreadyOpen(AskId),
    /// Too many in a minute: one more fits after this time.
    TooMany(Duration),
}

/// An answer to store.
#[derive(Debug, Clone)]
pub struct NewAnswer {
    /// The task.
    pub task: TaskId,
    /// The question.
    pub ask: AskId,
    /// The attempt that answers; `None` for the control plane.
    pub attempt: Option<Attempt>,
    /// Whose words.
    pub source: AnswerSource,
    /// The words.
    pub text: String,
    /// The time.
    pub now: Timestamp,
}

/// How answering went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// The question has this answer: this one, or one that came before it.
    Settled(Ask),
    /// The attempt is not the current one, or the task has ended.
    Superseded,
    /// There is no such question about the task.
    NoSuchAsk,
}
