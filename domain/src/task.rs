//! A task: what was asked, where it stands, what came of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::attachment::{Attachment, AttachmentSource, Attachments, Screened};
use crate::id::{AttachmentId, Attempt, TaskId, UserId};
use crate::leave::Leaving;
use crate::limit;
use crate::lost::Losses;
use crate::money::{MicroUsd, TokenCount};
use crate::prompt::PromptVersion;
use crate::repo::RepoRef;
use crate::report::GateResult;
use crate::session::IsolationTier;
use crate::state::{State, Status};
use crate::transition::{after, wake_after};

/// The workflows that exist; *ABCA*'s names, all of version `1.0.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Workflow {
    /// New work on a repository, delivered as a pull request.
    #[serde(rename = "coding/new-task-v1")]
    NewTask,
}

impl Workflow {
    /// The one version there is.
    pub const VERSION: &'static str = "1.0.0";

    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Workflow::NewTask => "coding/new-task-v1",
        }
    }
}

/// What was asked. It never changes after the task was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// The repository to work on.
    pub repo: RepoRef,
    /// The workflow.
    pub workflow: Workflow,
    /// The issue it resolves, if any.
    #[serde(default)]
    pub issue_number: Option<u64>,
    /// What to do, in words.
    pub description: String,
    /// Turn limit, where the person set one.
    #[serde(default)]
    pub max_turns: Option<u32>,
    /// Budget, where the person set one; unset is unlimited.
    #[serde(default)]
    pub max_budget: Option<MicroUsd>,
    /// Whether longer previews and a full trajectory are kept.
    #[serde(default)]
    pub trace: bool,
    /// Model, where the person chose one: `provider/model` or `model`.
    #[serde(default)]
    pub model: Option<String>,
    /// Branch to start from, where the person named one.
    #[serde(default)]
    pub base_branch: Option<String>,
    /// Build and test command; found in the repository when absent.
    #[serde(default)]
    pub build_command: Option<String>,
    /// Lint command; found in the repository when absent.
    #[serde(default)]
    pub lint_command: Option<String>,
    /// The tier asked for; the server's own when absent.
    #[serde(default)]
    pub isolation: Option<IsolationTier>,
    /// Images and documents for the agent. Left out when there are none, so that the hash of older requests stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
}

impl TaskSpec {
    /// The turn limit in force.
    pub fn turns(&self) -> u32 {
        self.max_turns.unwrap_or(limit::TURNS_DEFAULT)
    }
}

/// What came of a task; filled as it becomes known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Results {
    /// Id of the last attempt's box, kept after it is gone.
    pub session_id: Option<String>,
    /// The tier that box was kept in.
    pub isolation: Option<IsolationTier>,
    /// Where a person looks at the pull request.
    pub pr_url: Option<String>,
    /// Branch the pull request targets.
    pub base_branch: Option<String>,
    /// Model that is used, `provider/model`; known after preflight.
    pub model: Option<String>,
    /// What preflight found worth knowing of the repository and the model; the agent is told too.
    pub notes: Vec<String>,
    /// Which words the last attempt's agent works by; known once it works.
    pub prompt_version: Option<PromptVersion>,
    /// Build against its baseline.
    pub build: Option<GateResult>,
    /// Lint against its baseline.
    pub lint: Option<GateResult>,
    /// Turns begun.
    pub turns_attempted: Option<u32>,
    /// Turns finished.
    pub turns_completed: Option<u32>,
    /// Commit at the head of the branch.
    pub head_sha: Option<String>,
    /// Whether code changed.
    pub code_changed: Option<bool>,
    /// The agent's words, kept when no code changed.
    pub answer: Option<String>,
    /// What a completed task's owner should know (the agent ended with an error, say).
    pub warning: Option<String>,
}

/// What the gateway metered. Kept by the store beside the task: every model call adds to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Dollars of all priced calls.
    pub cost: MicroUsd,
    /// Tokens of all calls.
    pub tokens: TokenCount,
    /// Model calls metered.
    pub calls: u64,
    /// Calls for which the price table has no row; their cost is not in `cost`.
    pub unpriced_calls: u64,
}

/// One task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Its owner.
    pub user: UserId,
    /// Where it came from: `api`; later the channels of ABCA.
    pub channel: String,
    /// What was asked.
    pub spec: TaskSpec,
    /// Branch its work goes to.
    pub branch: String,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When its first session started to run.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// When it was first queued.
    pub queued_at: Option<Timestamp>,
    /// How often admission was tried and found no slot.
    pub admission_attempts: u32,
    /// Where it stands.
    pub state: State,
    /// Number of the current attempt; 0 before the first.
    pub attempt: Attempt,
    /// Rises by one with every change; a writer names the version it saw.
    pub version: u64,
    /// When the orchestrator must next look; `None` when nothing is due any more.
    pub wake_at: Option<Timestamp>,
    /// The order by which its agent is leaving, while it is.
    pub leaving: Option<Leaving>,
    /// Seconds it was parked; they do not count against its lifetime.
    pub parked_s: u64,
    /// Boxes that were lost, and what went with them.
    pub losses: Losses,
    /// What is known of its attachments.
    pub attachments: Attachments,
    /// The task that this one tries again.
    pub retry_of: Option<TaskId>,
    /// What came of it.
    pub results: Results,
    /// What it cost so far.
    pub spent: Spent,
}

impl Task {
    /// A task as it is accepted: SUBMITTED, due at once; or PENDING_UPLOADS when it has attachments to upload.
    pub fn new(id: TaskId, user: UserId, channel: &str, spec: TaskSpec, now: Timestamp) -> Task {
        Task::with_attachments(id, user, channel, spec, Attachments::new(), now)
    }

    /// The same, with what is known of its attachments already: only those that are not there yet are waited for.
    pub fn with_attachments(
        id: TaskId,
        user: UserId,
        channel: &str,
        spec: TaskSpec,
        attachments: Attachments,
        now: Timestamp,
    ) -> Task {
        let waits = spec.attachments.iter().enumerate().any(|(place, attachment)| {
            let known = attachments.contains_key(&AttachmentId::of(id, place));
            !known && matches!(attachment.source, AttachmentSource::Presigned { .. })
        });
        let state = match waits {
            true => State::PendingUploads { since: now, until: after(now, limit::PENDING_UPLOADS) },
            false => State::Submitted { since: now },
        };
        Task {
            branch: branch_name(id, &spec.description),
            id,
            user,
            channel: channel.to_owned(),
            spec,
            created_at: now,
            updated_at: now,
            started_at: None,
            completed_at: None,
            queued_at: None,
            admission_attempts: 0,
            wake_at: wake_after(&state, now),
            state,
            attempt: Attempt::NONE,
            version: 1,
            leaving: None,
            parked_s: 0,
            losses: Losses::default(),
            attachments,
            retry_of: None,
            results: Results::default(),
            spent: Spent::default(),
        }
    }

    /// Its attachments with their ids, as asked, and what is known of each.
    pub fn attached(&self) -> impl Iterator<Item = (AttachmentId, &Attachment, Option<&Screened>)> {
        self.spec.attachments.iter().enumerate().map(|(place, attachment)| {
            let id = AttachmentId::of(self.id, place);
            (id, attachment, self.attachments.get(&id))
        })
    }

    /// The wire name of its state.
    pub fn status(&self) -> Status {
        self.state.status()
    }
}

/// `bgagent/<task>/<slug>`: lower case, every run of other characters a dash, cut at
/// [`limit::SLUG_MAX_CHARS`], `task` when nothing is left. *ABCA*'s rule.
pub fn branch_name(task: TaskId, description: &str) -> String {
    let mut slug = String::new();
    for c in description.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            slug.push(c);
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
        if slug.len() >= limit::SLUG_MAX_CHARS {
            break;
        }
    }
    let slug = slug.trim_matches('-');
    format!("bgagent/{task}/{}", if slug.is_empty() { "task" } else { slug })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branch_names_are_slugs() {
        let id = TaskId::from_bits(7);
        let slug = |text: &str| branch_name(id, text).rsplit('/').next().unwrap().to_owned();
        assert_eq!(slug("Fix the Bug in foo.rs!"), "fix-the-bug-in-foo-rs");
        assert_eq!(slug("  ...  "), "task");
        assert_eq!(slug("ÄÖ"), "task");
        assert_eq!(slug(&"ab ".repeat(60)).len(), 50);
        assert!(!slug(&"abcdefghi ".repeat(60)).ends_with('-'));
    }
}
