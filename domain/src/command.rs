//! Everything that can happen to a task. `Task::on` decides what each does in each state.

use jiff::Timestamp;

use crate::attachment::Attachments;
use crate::failure::Failure;
use crate::id::{AttachmentId, Attempt};
use crate::leave::{Kept, Order};
use crate::lost::Lost;
use crate::prompt::PromptVersion;
use crate::report::Report;
use crate::session::SessionHandle;
use crate::state::QueueReason;
use crate::task::Results;

/// One thing that happens to a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// All attachments to upload are there and clean.
    ConfirmUploads {
        /// What they are.
        attachments: Attachments,
    },
    /// The uploads were not confirmed in time.
    ExpireUploads,
    /// The bytes of an attachment may not be shown: the task fails.
    BlockAttachment {
        /// Which.
        attachment: AttachmentId,
        /// Why, for the person.
        reason: String,
    },
    /// What was to be fetched is there and clean.
    AttachmentsFetched {
        /// What it is.
        attachments: Attachments,
    },
    /// Admission found no slot, or an older task waits.
    Enqueue,
    /// A slot may be free: leave the queue, taking it.
    PickUp,
    /// Take the slot and begin a new attempt.
    Admit,
    /// The cheap checks passed.
    PreflightPassed {
        /// Branch the work starts from.
        base_branch: String,
        /// Model that will be used, `provider/model`.
        model: String,
        /// What the owner should know.
        warnings: Vec<String>,
    },
    /// A box was started (or found again).
    SessionStarted {
        /// The box.
        session: SessionHandle,
    },
    /// The box says that the agent works.
    AgentStarted {
        /// The attempt that says so.
        attempt: Attempt,
        /// Which words it works by, where it says so.
        prompt: Option<PromptVersion>,
    },
    /// The agent asks for a decision.
    OpenGate {
        /// The attempt that asks.
        attempt: Attempt,
        /// The question's id.
        request_id: String,
        /// It expires then.
        until: Timestamp,
    },
    /// The decision was made or expired.
    CloseGate {
        /// The question's id.
        request_id: String,
    },
    /// Ask the agent to save its work and leave.
    Leave {
        /// What is to become of the task then.
        order: Order,
        /// The box is waited for until then.
        until: Timestamp,
    },
    /// The box has saved its work and leaves.
    Left {
        /// The attempt that says so.
        attempt: Attempt,
    },
    /// Carry out the order by which the agent left.
    Depart {
        /// What is kept of its work.
        kept: Option<Kept>,
    },
    /// Waiting is over: into the queue.
    Resume {
        /// The person who ends it; nobody when its time has come.
        by: Option<String>,
    },
    /// Save, stop the box, free the slot, wait.
    Park {
        /// Why.
        why: QueueReason,
        /// Not before this time.
        not_before: Option<Timestamp>,
    },
    /// The box is gone before its agent ended; another attempt is to follow.
    Lose {
        /// The attempt whose box it was.
        attempt: Attempt,
        /// What is known of it, and what follows.
        lost: Box<Lost>,
    },
    /// The box has ended its work and says how.
    Report {
        /// The attempt that reports.
        attempt: Attempt,
        /// What it says.
        report: Box<Report>,
    },
    /// The control plane has pushed, opened the pull request and decided: done.
    Complete {
        /// What came of it.
        results: Box<Results>,
    },
    /// It ended without a deliverable, or with one that does not count.
    Fail {
        /// Why.
        failure: Failure,
        /// What came of it all the same (a branch, a pull request with the work so far).
        results: Option<Box<Results>>,
    },
    /// A deadline passed.
    TimeOut {
        /// Which one.
        failure: Failure,
    },
    /// A person ends it.
    Cancel {
        /// Who.
        by: String,
    },
}

impl Command {
    /// Every command's name, for tables.
    pub fn name(&self) -> &'static str {
        match self {
            Command::ConfirmUploads { .. } => "confirm_uploads",
            Command::ExpireUploads => "expire_uploads",
            Command::BlockAttachment { .. } => "block_attachment",
            Command::AttachmentsFetched { .. } => "attachments_fetched",
            Command::Enqueue => "enqueue",
            Command::PickUp => "pick_up",
            Command::Admit => "admit",
            Command::PreflightPassed { .. } => "preflight_passed",
            Command::SessionStarted { .. } => "session_started",
            Command::AgentStarted { .. } => "agent_started",
            Command::OpenGate { .. } => "open_gate",
            Command::CloseGate { .. } => "close_gate",
            Command::Leave { .. } => "leave",
            Command::Left { .. } => "left",
            Command::Depart { .. } => "depart",
            Command::Resume { .. } => "resume",
            Command::Park { .. } => "park",
            Command::Lose { .. } => "lose",
            Command::Report { .. } => "report",
            Command::Complete { .. } => "complete",
            Command::Fail { .. } => "fail",
            Command::TimeOut { .. } => "time_out",
            Command::Cancel { .. } => "cancel",
        }
    }
}
