//! A box that is gone before its agent ended (its process, its machine): whether the task gets another one, and when.
//!
//! What is bounded for a task is bounded over all of its attempts: turns, dollars and time. A task whose boxes die again and
//! again costs no more than one whose box lives.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::leave::Kept;
use crate::limit;
use crate::task::Task;
use crate::transition::after;

/// What was lost so far. Empty for a task whose boxes all lived.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Losses {
    /// Boxes that were lost and replaced.
    pub boxes: u32,
    /// Turns that their agents had begun.
    pub turns: u32,
    /// Why the last one was lost.
    pub last: Option<Failure>,
}

/// A box was lost, and another is to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// What is known of it.
    pub failure: Failure,
    /// Turns that its agent had begun.
    pub turns: u32,
    /// Attempts in all, with those that were lost.
    pub attempts_max: u32,
    /// The next attempt does not begin before.
    pub not_before: Timestamp,
    /// What it had pushed.
    pub kept: Option<Kept>,
}

/// What decides about another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Attempts in all; 1 is no second one.
    pub attempts_max: u32,
    /// The wait before the second attempt; doubled before each further one.
    pub backoff: Duration,
    /// The time a task may take in all.
    pub lifetime: Duration,
}

/// When the next attempt of `task` may begin, whose agent had begun `turns` turns in the box that is lost at `now`.
/// `None`: there is none, because the attempts, the turns or the time are used up.
pub fn another(task: &Task, turns: u32, bounds: Bounds, now: Timestamp) -> Option<Timestamp> {
    let lost = task.losses.boxes.saturating_add(1);
    if lost >= bounds.attempts_max || task.losses.turns.saturating_add(turns) >= task.spec.turns() {
        return None;
    }
    let doubled = 1_u32.checked_shl(task.losses.boxes).unwrap_or(u32::MAX);
    let at = after(now, bounds.backoff.saturating_mul(doubled).min(limit::LOST_BACKOFF_MAX));
    let lifetime = bounds.lifetime.saturating_add(Duration::from_secs(task.parked_s));
    let over = task.started_at.is_some_and(|started| after(started, lifetime) <= at);
    (!over).then_some(at)
}

impl Task {
    /// Turns that its next agent may take: those that the agents of lost boxes have left.
    pub fn turns_left(&self) -> u32 {
        self.spec.turns().saturating_sub(self.losses.turns).max(limit::TURNS_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{TaskId, UserId};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn task(boxes: u32, turns: u32) -> Task {
        let spec = serde_json::json!({ "repo": "o/n", "workflow": "coding/new-task-v1", "description": "x" });
        let losses = Losses { boxes, turns, last: None };
        let new = Task::new(
            TaskId::from_bits(1),
            UserId::new("u"),
            "api",
            serde_json::from_value(spec).unwrap(),
            at(0),
        );
        Task { losses, started_at: Some(at(0)), ..new }
    }

    fn bounds(attempts_max: u32) -> Bounds {
        Bounds { attempts_max, backoff: Duration::from_secs(5), lifetime: Duration::from_secs(1_000) }
    }

    #[test]
    fn attempts_turns_and_time_are_bounds_over_all_boxes() {
        for (what, task, turns, attempts_max, now, expected) in [
            ("the first of two", task(0, 0), 3, 2, 10, Some(15)),
            ("the second of two", task(1, 3), 3, 2, 10, None),
            ("one is all", task(0, 0), 3, 1, 10, None),
            ("none means one", task(0, 0), 3, 0, 10, None),
            ("the wait doubles", task(1, 3), 3, 5, 10, Some(20)),
            ("and has an end", task(30, 3), 3, 500, 10, Some(10 + 300)),
            ("a turn is left", task(1, 60), 39, 5, 10, Some(20)),
            ("no turn is left", task(1, 60), 40, 5, 10, None),
            ("a second is left", task(0, 0), 3, 2, 994, Some(999)),
            ("no second is left", task(0, 0), 3, 2, 995, None),
            ("parked time does not count", Task { parked_s: 1, ..task(0, 0) }, 3, 2, 995, Some(1_000)),
            ("not begun", Task { started_at: None, ..task(0, 0) }, 0, 2, 5_000, Some(5_005)),
        ] {
            assert_eq!(another(&task, turns, bounds(attempts_max), at(now)), expected.map(at), "{what}");
        }
    }

    #[test]
    fn the_next_agent_has_the_turns_that_are_left() {
        assert_eq!(task(0, 0).turns_left(), 100);
        assert_eq!(task(1, 30).turns_left(), 70);
        assert_eq!(task(1, 100).turns_left(), 1);
    }
}
