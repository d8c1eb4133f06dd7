//! What people say to an agent that works, and what is written about it: pure, so that every store says the same.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::event::{EventKind, NewEvent, preview};
use crate::id::{AskId, Attempt, NudgeId, TaskId, UserId};
use crate::limit;

/// Words to an agent that works: it must heed them from its next step on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nudge {
    /// Its id.
    pub id: NudgeId,
    /// To the agent of this task.
    pub task: TaskId,
    /// Of this person.
    pub by: UserId,
    /// The words, masked; at most [`limit::NUDGE_MAX_CHARS`] characters as they were sent.
    pub text: String,
    /// When they were accepted.
    pub submitted_at: Timestamp,
    /// The attempt that took them, and when; each nudge is taken once.
    pub taken: Option<(Attempt, Timestamp)>,
}

/// Who answered a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerSource {
    /// The agent, in a side call that leaves its work as it is.
    Agent,
    /// The control plane, from what is recorded: no agent is at work.
    Record,
}

impl AnswerSource {
    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            AnswerSource::Agent => "agent",
            AnswerSource::Record => "record",
        }
    }

    /// The source of that wire name.
    pub fn from_wire(name: &str) -> Option<AnswerSource> {
        [AnswerSource::Agent, AnswerSource::Record].into_iter().find(|s| s.as_str() == name)
    }
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The words, masked; at most [`limit::ASK_ANSWER_MAX_CHARS`] characters.
    pub text: String,
    /// Whose they are.
    pub source: AnswerSource,
    /// When.
    pub at: Timestamp,
}

/// A question about a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Its id.
    pub id: AskId,
    /// About this task.
    pub task: TaskId,
    /// Who asks. One question of a person about a task is open at a time.
    pub by: UserId,
    /// The words, masked.
    pub question: String,
    /// When it was asked.
    pub opened_at: Timestamp,
    /// The answer, as soon as there is one.
    pub answer: Option<Answer>,
}

/// Where an agent stands when it looks for nudges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boundary {
    /// The turn, from 1.
    pub turn: u32,
    /// Tool calls of this turn that are done; none before the model is asked.
    #[serde(default)]
    pub calls: Option<u32>,
}

/// The event that says that the agent has these nudges, written before it is shown them. Its details are *ABCA*'s: how
/// many, the ends of their ids, a preview.
pub fn nudges_acknowledged(taken: &[Nudge]) -> NewEvent {
    let tail = |id: NudgeId| id.to_string().chars().skip(18).collect::<String>();
    let ids: Vec<String> = taken.iter().map(|n| tail(n.id)).collect();
    let words: Vec<&str> = taken.iter().map(|n| n.text.as_str()).collect();
    let shown = preview(&words.join(" | ").replace('\n', " "), limit::NUDGE_PREVIEW_MAX_CHARS);
    let nudges = if taken.len() == 1 { "nudge" } else { "nudges" };
    NewEvent::new(
        EventKind::AgentMilestone,
        json!({
            "milestone": "nudge_acknowledged",
            "details": format!("{} {nudges} acknowledged ({}): {shown}", taken.len(), ids.join(", ")),
            "count": taken.len(), "nudge_ids": ids, "preview": shown,
        }),
    )
}

/// The event of a question.
pub fn ask_opened(ask: &Ask) -> NewEvent {
    let question = preview(&ask.question, limit::PREVIEW_MAX_CHARS);
    NewEvent::new(
        EventKind::AskOpened,
        json!({ "ask_id": ask.id, "question_preview": question, "by": ask.by }),
    )
}

/// The event of an answer.
pub fn ask_answered(ask: &Ask, answer: &Answer) -> NewEvent {
    let shown = preview(&answer.text, limit::PREVIEW_MAX_CHARS);
    NewEvent::new(
        EventKind::AskAnswered,
        json!({ "ask_id": ask.id, "answer_preview": shown, "source": answer.source }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_has_the_count_the_ends_of_ids_and_a_preview() {
        let nudge = |n: u128, text: &str| Nudge {
            id: NudgeId::from_bits(n),
            task: TaskId::from_bits(1),
            by: UserId::new("ann"),
            text: text.into(),
            submitted_at: Timestamp::UNIX_EPOCH,
            taken: None,
        };
        let one = nudges_acknowledged(&[nudge(1, "use tabs")]);
        assert_eq!(one.metadata["details"], "1 nudge acknowledged (00000001): use tabs");
        let two = nudges_acknowledged(&[nudge(1, &"x".repeat(59)), nudge(2, "b")]);
        let preview = two.metadata["preview"].as_str().unwrap();
        assert_eq!((preview.chars().count(), two.metadata["count"].as_u64()), (60, Some(2)));
        assert_eq!(two.metadata["nudge_ids"], json!(["00000001", "00000002"]));
    }
}
