//! The words and the rules: tasks, attempts, sessions, events, limits, failures, outcomes.
//!
//! Pure: no clock, no I/O, no async. Time is an argument, randomness is an argument. Everything that decides what
//! happens to a task is here, so that it can be tested as a table; everything that makes it happen is elsewhere.
//!
//! | module | holds |
//! |---|---|
//! | [`id`] | typed identifiers (ULIDs), users, attempts |
//! | [`limit`] | one named constant for each bound |
//! | [`repo`] | how a repository is named |
//! | [`money`] | micro-dollars, tokens, prices |
//! | [`task`] | a task, what was asked, what came of it |
//! | [`attachment`] | images and documents that a task brings |
//! | [`state`] | the eleven states with their data, and the edges between them |
//! | [`command`] | everything that can happen to a task |
//! | [`transition`] | `Task::on`: the only function that changes a task |
//! | [`event`] | the record that people and clients read |
//! | [`mod@leave`] | an agent that is asked to leave before its end |
//! | [`steer`] | what people say to an agent that works |
//! | [`session`] | one box for one attempt, as compute backends describe it |
//! | [`access`] | who calls, what they may do, whose tasks they reach |
//! | [`box_limits`] | what one box may use |
//! | [`per_repo`] | a setting with a value of its own for some repositories |
//! | [`prompt`] | which words an agent works by |
//! | [`report`] | what a box says of its work |
//! | [`failure`] | why a task failed, who must act, and how |
//! | [`outcome`] | success or failure, inferred from evidence |
//! | [`workflow`] | the workflows of the contract and what each needs |
//! | [`approval`] | how far an approval reaches |

pub mod access;
pub mod approval;
pub mod attachment;
pub mod box_limits;
pub mod budget;
pub mod command;
pub mod event;
pub mod failure;
pub mod id;
pub mod leave;
pub mod limit;
pub mod lost;
pub mod money;
pub mod outcome;
pub mod per_repo;
pub mod prompt;
pub mod repo;
pub mod report;
pub mod session;
pub mod state;
pub mod steer;
pub mod task;
pub mod text;
pub mod transition;
pub mod workflow;

pub use access::{Identity, Role};
pub use attachment::{Attachment, AttachmentKind, AttachmentSource, Attachments, Content, Screened};
pub use box_limits::BoxLimits;
pub use budget::{Bound, Budgets, Day, Payer, Period, Verdict};
pub use command::Command;
pub use event::{EventKind, NewEvent};
pub use failure::{Failure, FailureCode};
pub use id::{
    ApiKeyId, AskId, AttachmentId, Attempt, AuditId, EventId, NodeId, NudgeId, ObligationId, RequestId,
    TaskId, UserId, WebhookId,
};
pub use money::{MicroUsd, TokenCount};
pub use per_repo::PerRepo;
pub use prompt::PromptVersion;
pub use repo::RepoRef;
pub use session::{IsolationTier, SessionHandle};
pub use state::{State, Status};
pub use task::{Task, TaskSpec};
pub use transition::{Applied, Change, Refused};
