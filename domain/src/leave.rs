//! An agent that is asked to leave before its end: its box saves the work, says that it has, and only then the task is
//! cancelled or parked. The order is on the record, with a time after which nobody waits for the box any more.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Why it is to leave, and so what becomes of the task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// A person ends the task.
    Cancel {
        /// Who.
        by: String,
    },
    /// A person wants it to wait.
    Pause {
        /// Who.
        by: String,
    },
    /// The provider's usage limit: the task waits for its end.
    UsageLimit {
        /// The limit is reset then.
        until: Timestamp,
    },
}

impl Order {
    /// The wire name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Order::Cancel { .. } => "cancel",
            Order::Pause { .. } => "pause",
            Order::UsageLimit { .. } => "usage_limit",
        }
    }

    /// Whether this one replaces another that was given before: a person's word counts more than a limit, and an end more
    /// than a pause.
    pub fn replaces(&self, before: &Order) -> bool {
        let rank = |order: &Order| match order {
            Order::Cancel { .. } => 2,
            Order::Pause { .. } => 1,
            Order::UsageLimit { .. } => 0,
        };
        rank(self) > rank(before)
    }
}

/// An order that is being followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// What is to become of the task.
    pub order: Order,
    /// The box is waited for until then.
    pub until: Timestamp,
    /// When the box said that the work is saved.
    pub left_at: Option<Timestamp>,
}

impl Leaving {
    /// When the order is to be carried out: as soon as the work is saved, at the end of the time at the latest.
    pub fn due_at(&self) -> Timestamp {
        self.left_at.map_or(self.until, |left| left.min(self.until))
    }
}

/// Work that is kept although its agent did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Commit at the head of the task's branch.
    pub head_sha: String,
    /// Commits beyond the base.
    pub commits: u32,
    /// Where the branch is.
    pub place: Place,
}

/// Where kept work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// On the code host, under the task's branch.
    Forge,
    /// On this server, for the next attempt.
    Server,
}
