//! What a box says of its work when it ends. It is a claim: the control plane checks what it can (commits, pull
//! request) and decides with `outcome::infer`.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// How the agent itself ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentStatus {
    /// It said it was done.
    Success,
    /// It was stopped at the turn limit; work so far was saved.
    MaxTurns,
    /// It was stopped at the budget; work so far was saved.
    MaxBudget,
    /// It ended with an error.
    Error,
    /// It ended without saying how. Success is never inferred from this.
    Unknown,
}

/// A build or lint command's result against its baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateResult {
    /// Green.
    Passed,
    /// Red, and it was green (or could not be measured) before the work.
    Failed,
    /// Red, and it was red before the work too: not a regression.
    FailedAsBefore,
    /// It took too long.
    TimedOut,
    /// The machine failed (out of disk or memory, killed), not the code.
    Infra,
    /// No command is configured or found, or it cannot run here: the gate is off.
    Inert,
}

impl GateResult {
    /// The wire's tri-state: `None` means the gate never ran.
    pub fn passed(self) -> Option<bool> {
        match self {
            GateResult::Passed => Some(true),
            GateResult::Failed | GateResult::FailedAsBefore | GateResult::TimedOut | GateResult::Infra => {
                Some(false)
            }
            GateResult::Inert => None,
        }
    }
}

/// The result report of a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How the agent ended.
    pub agent: AgentStatus,
    /// Build against its baseline.
    pub build: GateResult,
    /// Lint against its baseline; informational.
    pub lint: GateResult,
    /// Turns begun, the one that hit a limit included.
    pub turns_attempted: u32,
    /// Turns finished.
    pub turns_completed: u32,
    /// Commit the branch pointed to when the box pushed; `None` when nothing was pushed.
    #[serde(default)]
    pub head_sha: Option<String>,
    /// Commits beyond the base that the box says it pushed.
    #[serde(default)]
    pub commits: u32,
    /// Pull request title written from the work.
    #[serde(default)]
    pub pr_title: String,
    /// Pull request body written from the work.
    #[serde(default)]
    pub pr_body: String,
    /// The agent's last words; kept as the answer when no code changed.
    #[serde(default)]
    pub answer: String,
    /// The first error, typed at its source; never masked by a later one.
    #[serde(default)]
    pub failure: Option<Failure>,
}

impl Report {
    /// What stands in for the report of a box that ended without one: nothing is claimed but why. Work that it pushed
    /// before is found by looking.
    pub fn lost(failure: Failure) -> Report {
        Report {
            agent: AgentStatus::Unknown,
            build: GateResult::Inert,
            lint: GateResult::Inert,
            turns_attempted: 0,
            turns_completed: 0,
            head_sha: None,
            commits: 0,
            pr_title: String::new(),
            pr_body: format!(
                "The box ended before it could describe its work ({failure}). Nothing was verified."
            ),
            answer: String::new(),
            failure: Some(failure),
        }
    }
}
