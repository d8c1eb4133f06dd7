//! What models cost, and what is left of the budgets: `GET /v1/usage` (*ours*), and *ABCA*'s `GET /v1/tasks?view=budget`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What was spent in a range of UTC days.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageReport {
    /// First day, `YYYY-MM-DD`.
    pub from: String,
    /// Last day, included.
    pub to: String,
    /// What a row stands for: `user`, `repo`, `workflow`, `model` or `day`.
    pub by: String,
    /// Whose usage it is; null for everybody's.
    pub user: Option<String>,
    /// Which repository's; null for all.
    pub repo: Option<String>,
    /// One for each user, repository, workflow, model or day; days in order, all else the most expensive first.
    pub rows: Vec<UsageLine>,
    /// The sum of the rows.
    pub total: UsageLine,
    /// The budgets that bound the caller now, and those of `repo` where one is named.
    pub budgets: Vec<BudgetLine>,
}

/// One row, or the sum of all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageLine {
    /// What it stands for; `total` in the sum.
    pub key: String,
    /// US dollars of all priced calls, as metered at the model proxy.
    pub cost_usd: f64,
    /// Input tokens, cached ones included.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Input tokens read from the provider's cache.
    pub cache_read_tokens: u64,
    /// Input tokens written to the provider's cache.
    pub cache_write_tokens: u64,
    /// Model calls.
    pub calls: u64,
    /// Calls of models without a row in the price table; their cost is not in `cost_usd`.
    pub unpriced_calls: u64,
}

/// One budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BudgetLine {
    /// `user`, `repo` or `system`.
    pub scope: String,
    /// The user's or the repository's name.
    pub name: Option<String>,
    /// `day` or `month`, in UTC.
    pub period: String,
    /// Spent in it so far.
    pub spent_usd: f64,
    /// A warning is told at this; null for never.
    pub soft_usd: Option<f64>,
    /// No call begins at this.
    pub hard_usd: f64,
    /// When the next period begins.
    pub renews_at: Option<String>,
}

/// `GET /v1/tasks?view=budget`: the caller's own budget of this UTC month.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PersonalBudget {
    /// `YYYY-MM`.
    pub period: String,
    /// When the next month begins.
    pub resets_at: String,
    /// Whether the caller has a budget of the month. Whether or not, those of the day and of the whole server bound them too.
    pub configured: bool,
    /// US dollars of all priced calls, as metered at the model proxy.
    pub spend_usd: f64,
    /// The budget; null without one.
    pub monthly_limit_usd: Option<f64>,
    /// What is left of it, 0 when it is used up; null without one.
    pub remaining_usd: Option<f64>,
    /// Percent of it that is spent, also beyond 100; null without one.
    pub utilization_percent: Option<f64>,
    /// Whether nothing more is spent at it: true where there is one.
    pub hard_stop: bool,
    /// Whether it is used up.
    pub hard_stop_active: bool,
}
