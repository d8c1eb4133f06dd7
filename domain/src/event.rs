//! The record people and clients read. Names and metadata are *ABCA*'s; the store numbers and stamps them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::id::{EventId, TaskId};

/// The name of an event. The first group is written by the control plane, the second by boxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the contract's; `docs/guide/events.md` describes each")]
pub enum EventKind {
    TaskCreated,
    UploadsConfirmed,
    AttachmentBlocked,
    PendingUploadExpired,
    AdmissionQueued,
    QueuePickup,
    PreflightPassed,
    PreflightWarning,
    PreflightFailed,
    HydrationStarted,
    AttachmentsFetched,
    SessionStartRetry,
    SessionStarted,
    SessionAttached,
    TaskRunning,
    LeaveRequested,
    ApprovalOpened,
    ApprovalClosed,
    AttemptLost,
    TaskParked,
    TaskResumed,
    AskOpened,
    AskAnswered,
    ResultReceived,
    PrCreated,
    TaskCompleted,
    TaskFailed,
    TaskCancelled,
    TaskTimedOut,

    HydrationComplete,
    AgentTurn,
    AgentToolCall,
    AgentToolResult,
    AgentCostUpdate,
    AgentMilestone,
    AgentError,
    AgentBlocked,
    LimitReached,
    ModelWaiting,
    BudgetExceeded,
    BudgetWarning,
    ScreeningWarned,
    GuardrailBlocked,
    EventsDropped,
    EgressAllowed,
    EgressObserved,
    EgressDenied,
    PushRefused,
}

impl EventKind {
    /// Every kind.
    pub const ALL: &'static [EventKind] = &[
        EventKind::TaskCreated,
        EventKind::UploadsConfirmed,
        EventKind::AttachmentBlocked,
        EventKind::PendingUploadExpired,
        EventKind::AdmissionQueued,
        EventKind::QueuePickup,
        EventKind::PreflightPassed,
        EventKind::PreflightWarning,
        EventKind::PreflightFailed,
        EventKind::HydrationStarted,
        EventKind::AttachmentsFetched,
        EventKind::SessionStartRetry,
        EventKind::SessionStarted,
        EventKind::SessionAttached,
        EventKind::TaskRunning,
        EventKind::LeaveRequested,
        EventKind::ApprovalOpened,
        EventKind::ApprovalClosed,
        EventKind::AttemptLost,
        EventKind::TaskParked,
        EventKind::TaskResumed,
        EventKind::AskOpened,
        EventKind::AskAnswered,
        EventKind::ResultReceived,
        EventKind::PrCreated,
        EventKind::TaskCompleted,
        EventKind::TaskFailed,
        EventKind::TaskCancelled,
        EventKind::TaskTimedOut,
        EventKind::HydrationComplete,
        EventKind::AgentTurn,
        EventKind::AgentToolCall,
        EventKind::AgentToolResult,
        EventKind::AgentCostUpdate,
        EventKind::AgentMilestone,
        EventKind::AgentError,
        EventKind::AgentBlocked,
        EventKind::LimitReached,
        EventKind::ModelWaiting,
        EventKind::BudgetExceeded,
        EventKind::BudgetWarning,
        EventKind::ScreeningWarned,
        EventKind::GuardrailBlocked,
        EventKind::EventsDropped,
        EventKind::EgressAllowed,
        EventKind::EgressObserved,
        EventKind::EgressDenied,
        EventKind::PushRefused,
    ];

    /// The wire name, e.g. `task_created`.
    pub fn as_str(self) -> String {
        match serde_json::to_value(self) {
            Ok(Value::String(name)) => name,
            _ => String::new(),
        }
    }

    /// The kind of that wire name.
    pub fn from_wire(name: &str) -> Option<EventKind> {
        serde_json::from_value(Value::String(name.into())).ok()
    }

    /// Whether a box may append this kind. Everything else is the control plane's to say.
    pub fn from_box(self) -> bool {
        matches!(
            self,
            EventKind::HydrationComplete
                | EventKind::AgentTurn
                | EventKind::AgentToolCall
                | EventKind::AgentToolResult
                | EventKind::AgentMilestone
                | EventKind::AgentError
                | EventKind::AgentBlocked
                | EventKind::LimitReached
        )
    }

    /// Whether this event says that the task has ended.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            EventKind::TaskCompleted
                | EventKind::TaskFailed
                | EventKind::TaskCancelled
                | EventKind::TaskTimedOut
        )
    }
}

/// An event about to be appended; the store gives it its number, id and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Its name.
    pub kind: EventKind,
    /// Its data: a JSON object; optional fields are omitted, never null.
    pub metadata: Value,
    /// For events of a box: a key unique within (task, attempt), so that a resend is dropped.
    pub client_key: Option<String>,
}

impl NewEvent {
    /// An event of the control plane. `metadata` must be an object; null fields are dropped.
    pub fn new(kind: EventKind, metadata: Value) -> Self {
        let metadata = match metadata {
            Value::Object(map) => Value::Object(map.into_iter().filter(|(_, v)| !v.is_null()).collect()),
            Value::Null => Value::Object(Map::new()),
            other => json!({ "value": other }),
        };
        Self { kind, metadata, client_key: None }
    }

    /// An event without data.
    pub fn bare(kind: EventKind) -> Self {
        Self::new(kind, Value::Null)
    }
}

/// An event as it is stored and served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The task it belongs to.
    pub task: TaskId,
    /// Its number within the task, from 1, without holes.
    pub seq: u64,
    /// Its id; increases with `seq` even when the clock does not.
    pub id: EventId,
    /// Its name.
    pub kind: EventKind,
    /// When the store appended it.
    pub at: Timestamp,
    /// Its data, a JSON object.
    pub metadata: Value,
}

/// Cuts a text for a preview: at most `max` characters, the last three of them `...` when something was cut.
pub fn preview(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(max.saturating_sub(3)).collect();
    cut.push_str("...");
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_wire_name_and_back() {
        for &kind in EventKind::ALL {
            assert_eq!(EventKind::from_wire(&kind.as_str()), Some(kind));
        }
        assert_eq!(EventKind::from_wire("no_such_event"), None);
    }

    #[test]
    fn boxes_cannot_speak_for_the_control_plane() {
        assert!(EventKind::ALL.iter().filter(|k| k.is_terminal()).all(|k| !k.from_box()));
        assert!(!EventKind::AgentCostUpdate.from_box(), "cost is metered at the proxy, not claimed");
    }

    #[test]
    fn previews_are_cut_by_characters_not_bytes() {
        assert_eq!(preview("añb", 3), "añb");
        assert_eq!(preview("ñññññ", 4), "ñ...");
    }
}
