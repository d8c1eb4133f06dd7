//! `bgagent usage`: what models cost, and what is left of the budgets.

use clap::ValueEnum;
use protocol::client::UsageQuery;

use crate::args::Output;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::render;
use crate::repo;

/// Show what models cost, and what is left of the budgets
///
/// Days are UTC, and all of this month's are shown unless others are named. With --output json: one object, as
/// `GET /v1/usage` answers.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent usage
  bgagent usage --by day --from 2026-11-01 --to 2026-11-30
  bgagent usage --by user --repo octo/cat
  bgagent usage --output json | jq .total.cost_usd")]
pub struct Args {
    /// What a row stands for
    #[arg(long, value_enum, default_value = "model")]
    by: By,
    /// First day; the first of this month when absent
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    from: Option<String>,
    /// Last day, included; today when absent
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    to: Option<String>,
    /// Only this user's; others than yourself only as owner
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Only of this repository
    #[arg(long, value_name = "REPO")]
    repo: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum By {
    User,
    Repo,
    Workflow,
    Model,
    Day,
}

/// Runs the command.
pub async fn usage(cx: &Context, args: Args) -> Result<Exit, Failure> {
    let home = cx.env.get("HOME").map(std::path::Path::new);
    let repo = args.repo.map(|text| repo::resolve(&text, home)).transpose()?;
    let by = args.by.to_possible_value().map(|by| by.get_name().to_owned());
    let query = UsageQuery { from: args.from, to: args.to, by, user: args.user, repo };
    let client = connect::connect(cx).await?;
    let report = client.usage(&query).await?;
    match cx.output {
        Output::Json => cx.json(&report)?,
        Output::Text => cx.text(&render::usage::usage(&report, &cx.view()))?,
    }
    Ok(Exit::Done)
}

fn day(text: &str) -> Result<String, String> {
    match domain::Day::parse(text) {
        Some(day) => Ok(day.to_string()),
        None => Err("a day is written as 2026-11-28".into()),
    }
}
