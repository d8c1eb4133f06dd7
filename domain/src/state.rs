//! The eleven states, each with exactly its data, and the one table of edges.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::report::Report;
use crate::session::SessionHandle;

/// The wire name of a state; *ABCA*'s eleven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "described on the variants of `State`")]
pub enum Status {
    PendingUploads,
    Queued,
    Submitted,
    Hydrating,
    Running,
    AwaitingApproval,
    Finalizing,
    Completed,
    Failed,
    Cancelled,
    TimedOut,
}

impl Status {
    /// Every state, in the order of a task's life.
    pub const ALL: [Status; 11] = [
        Status::PendingUploads,
        Status::Queued,
        Status::Submitted,
        Status::Hydrating,
        Status::Running,
        Status::AwaitingApproval,
        Status::Finalizing,
        Status::Completed,
        Status::Failed,
        Status::Cancelled,
        Status::TimedOut,
    ];

    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::PendingUploads => "PENDING_UPLOADS",
            Status::Queued => "QUEUED",
            Status::Submitted => "SUBMITTED",
            Status::Hydrating => "HYDRATING",
            Status::Running => "RUNNING",
            Status::AwaitingApproval => "AWAITING_APPROVAL",
            Status::Finalizing => "FINALIZING",
            Status::Completed => "COMPLETED",
            Status::Failed => "FAILED",
            Status::Cancelled => "CANCELLED",
            Status::TimedOut => "TIMED_OUT",
        }
    }

    /// The state of that wire name.
    pub fn from_wire(name: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|s| s.as_str() == name)
    }

    /// Whether nothing can follow.
    pub fn is_terminal(self) -> bool {
        self.next().is_empty()
    }

    /// Where a task can go from here: the one table of edges (DESIGN 4.1 is drawn from it, every writer uses it).
    pub fn next(self) -> &'static [Status] {
        use Status::*;
        match self {
            PendingUploads => &[Submitted, Failed, Cancelled],
            Queued => &[Submitted, Failed, Cancelled],
            Submitted => &[Queued, Hydrating, Failed, Cancelled],
            Hydrating => &[Running, AwaitingApproval, Finalizing, Queued, Failed, Cancelled, TimedOut],
            Running => &[AwaitingApproval, Finalizing, Queued, Failed, Cancelled, TimedOut],
            AwaitingApproval => &[Running, Finalizing, Queued, Failed, Cancelled, TimedOut],
            Finalizing => &[Completed, Failed, Cancelled, TimedOut],
            Completed | Failed | Cancelled | TimedOut => &[],
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a task waits in the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum QueueReason {
    /// No slot is free, or an older task of the same scope waits.
    ConcurrencyLimit,
    /// A person paused it.
    Paused,
    /// The provider's usage limit; resumed at the earliest time.
    #[serde(rename = "usage_limit", alias = "provider_limit")]
    ProviderLimit,
    /// Its box was lost; the next attempt begins at the earliest time.
    BoxLost,
    /// A budget that it shares with other tasks is used up; tried again when its next period begins, or when a server starts
    /// that allows more.
    Budget {
        /// Which one, and what was spent of it, for people.
        detail: String,
    },
}

impl QueueReason {
    /// The wire name.
    pub fn as_str(&self) -> &'static str {
        match self {
            QueueReason::ConcurrencyLimit => "concurrency_limit",
            QueueReason::Paused => "paused",
            QueueReason::ProviderLimit => "usage_limit",
            QueueReason::BoxLost => "box_lost",
            QueueReason::Budget { .. } => "budget",
        }
    }

    /// What a person should know beside the name.
    pub fn detail(&self) -> Option<&str> {
        match self {
            QueueReason::Budget { detail } => Some(detail),
            QueueReason::ConcurrencyLimit
            | QueueReason::Paused
            | QueueReason::ProviderLimit
            | QueueReason::BoxLost => None,
        }
    }
}

/// How far hydration has come. Each phase is what is known to be done, so a restart carries on from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Hydration {
    /// Cheap checks before compute is spent.
    Preflight,
    /// Checks passed; a box is to be started (or was, and the answer was lost: starting is idempotent).
    Dispatch {
        /// Branch the work starts from and the pull request targets.
        base_branch: String,
    },
    /// A box was started and is expected to attach and to report `agent_started`.
    Boot {
        /// The box.
        session: SessionHandle,
    },
}

/// A task's state with its data. `since` is when it was entered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Waits for attachments. No slot, no compute.
    PendingUploads {
        /// Entered at.
        since: Timestamp,
        /// Cancelled when not confirmed by then.
        until: Timestamp,
    },
    /// Waits for a slot, a time or a person. No slot, no compute.
    Queued {
        /// Entered at.
        since: Timestamp,
        /// Why.
        why: QueueReason,
        /// Not before this time.
        not_before: Option<Timestamp>,
    },
    /// Accepted, to be admitted.
    Submitted {
        /// Entered at.
        since: Timestamp,
    },
    /// Admitted: holds a slot; checks, then a box that prepares the work.
    Hydrating {
        /// Entered at.
        since: Timestamp,
        /// How far.
        phase: Hydration,
    },
    /// The agent works.
    Running {
        /// Entered at.
        since: Timestamp,
        /// Its box.
        session: SessionHandle,
    },
    /// The agent waits for a person's decision. Keeps its slot and its box.
    AwaitingApproval {
        /// Entered at.
        since: Timestamp,
        /// Its box.
        session: SessionHandle,
        /// What is asked.
        request_id: String,
        /// The question expires then.
        until: Timestamp,
    },
    /// The box has reported; the control plane pushes, opens the pull request and decides.
    Finalizing {
        /// Entered at.
        since: Timestamp,
        /// Its box, to be stopped.
        session: SessionHandle,
        /// What the box said.
        report: Box<Report>,
    },
    /// Done, with a deliverable.
    Completed {
        /// Ended at.
        since: Timestamp,
    },
    /// Ended without one.
    Failed {
        /// Ended at.
        since: Timestamp,
        /// Why, who must act, and how.
        failure: Failure,
    },
    /// A person ended it.
    Cancelled {
        /// Ended at.
        since: Timestamp,
        /// Who.
        by: String,
    },
    /// A deadline ended it.
    TimedOut {
        /// Ended at.
        since: Timestamp,
        /// Which one, and what to do.
        failure: Failure,
    },
}

impl State {
    /// The wire name.
    pub fn status(&self) -> Status {
        match self {
            State::PendingUploads { .. } => Status::PendingUploads,
            State::Queued { .. } => Status::Queued,
            State::Submitted { .. } => Status::Submitted,
            State::Hydrating { .. } => Status::Hydrating,
            State::Running { .. } => Status::Running,
            State::AwaitingApproval { .. } => Status::AwaitingApproval,
            State::Finalizing { .. } => Status::Finalizing,
            State::Completed { .. } => Status::Completed,
            State::Failed { .. } => Status::Failed,
            State::Cancelled { .. } => Status::Cancelled,
            State::TimedOut { .. } => Status::TimedOut,
        }
    }

    /// When this state was entered.
    pub fn since(&self) -> Timestamp {
        match self {
            State::PendingUploads { since, .. }
            | State::Queued { since, .. }
            | State::Submitted { since }
            | State::Hydrating { since, .. }
            | State::Running { since, .. }
            | State::AwaitingApproval { since, .. }
            | State::Finalizing { since, .. }
            | State::Completed { since }
            | State::Failed { since, .. }
            | State::Cancelled { since, .. }
            | State::TimedOut { since, .. } => *since,
        }
    }

    /// The box of this state, where it has one.
    pub fn session(&self) -> Option<&SessionHandle> {
        match self {
            State::Hydrating { phase: Hydration::Boot { session }, .. }
            | State::Running { session, .. }
            | State::AwaitingApproval { session, .. }
            | State::Finalizing { session, .. } => Some(session),
            State::Hydrating { phase: Hydration::Preflight | Hydration::Dispatch { .. }, .. }
            | State::PendingUploads { .. }
            | State::Queued { .. }
            | State::Submitted { .. }
            | State::Completed { .. }
            | State::Failed { .. }
            | State::Cancelled { .. }
            | State::TimedOut { .. } => None,
        }
    }

    /// Why it failed, where it did.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            State::Failed { failure, .. } | State::TimedOut { failure, .. } => Some(failure),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_states_are_final_and_every_other_can_end() {
        let ends: Vec<_> = Status::ALL.into_iter().filter(|s| s.is_terminal()).collect();
        assert_eq!(ends, [Status::Completed, Status::Failed, Status::Cancelled, Status::TimedOut]);
        for s in Status::ALL.into_iter().filter(|s| !s.is_terminal()) {
            assert!(s.next().contains(&Status::Cancelled), "{s} can be cancelled");
            assert!(s.next().contains(&Status::Failed), "{s} can fail");
        }
    }

    /// D-036: FINALIZING was never entered.
    #[test]
    fn only_finalizing_completes() {
        for s in Status::ALL {
            assert_eq!(s.next().contains(&Status::Completed), s == Status::Finalizing, "{s}");
        }
    }

    #[test]
    fn wire_names_round_trip() {
        for s in Status::ALL {
            assert_eq!(Status::from_wire(s.as_str()), Some(s));
            assert_eq!(serde_json::to_value(s).unwrap(), s.as_str());
        }
    }
}
