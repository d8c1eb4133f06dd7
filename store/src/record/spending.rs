//! What was spent, summed by UTC day.

use domain::money::{MicroUsd, TokenCount};
use domain::{Day, RepoRef, UserId};

/// Whose spending of which days, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spending {
    /// From this day on.
    pub from: Day,
    /// To this day.
    pub to: Day,
    /// Only this user's.
    pub user: Option<UserId>,
    /// Only on this repository.
    pub repo: Option<RepoRef>,
}

/// What a row of a usage report stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageBy {
    /// A user.
    User,
    /// A repository.
    Repo,
    /// A workflow.
    Workflow,
    /// A model, `provider/model`.
    Model,
    /// A UTC day.
    Day,
}

impl UsageBy {
    /// Every way.
    pub const ALL: &'static [UsageBy] =
        &[UsageBy::User, UsageBy::Repo, UsageBy::Workflow, UsageBy::Model, UsageBy::Day];

    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            UsageBy::User => "user",
            UsageBy::Repo => "repo",
            UsageBy::Workflow => "workflow",
            UsageBy::Model => "model",
            UsageBy::Day => "day",
        }
    }
}

/// One row of a usage report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageRow {
    /// The user, repository, workflow, model or day (`YYYY-MM-DD`).
    pub key: String,
    /// Dollars of all priced calls.
    pub cost: MicroUsd,
    /// Tokens of all calls.
    pub tokens: TokenCount,
    /// Calls.
    pub calls: u64,
    /// Calls without a price.
    pub unpriced_calls: u64,
}
