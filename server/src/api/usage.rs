//! `/v1/usage`: what models cost, and what is left of the budgets.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use domain::{Day, MicroUsd, Payer, Period, RepoRef, Role, UserId, Verdict};
use orchestrator::budget::Spent;
use protocol::rest::*;
use protocol::usage::{BudgetLine, PersonalBudget, UsageLine, UsageReport};
use serde::Deserialize;
use store::{Spending, UsageBy, UsageRow};
use utoipa::IntoParams;

use super::{ApiError, App, Caller, wire};

/// Days of one report at most.
const DAYS_MAX: i32 = 3660;

/// What to report.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsageQuery {
    /// First UTC day, `YYYY-MM-DD`; the first of this month when absent.
    from: Option<String>,
    /// Last UTC day, included; today when absent.
    to: Option<String>,
    /// `user`, `repo`, `workflow`, `model` (when absent) or `day`.
    by: Option<String>,
    /// Only this user's. Others than oneself only for owners.
    user: Option<String>,
    /// Only of this repository.
    repo: Option<String>,
}

/// What was spent. Owners see everybody's, everybody else their own.
#[utoipa::path(get, path = "/v1/usage", params(UsageQuery),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = Data<UsageReport>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn report(
    State(app): State<App>,
    caller: Caller,
    query: Result<Query<UsageQuery>, QueryRejection>,
) -> Result<Json<Data<UsageReport>>, ApiError> {
    let query = query?.0;
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let today = Day::of(app.orchestrator().now());
    let to = given(&query.to).map_or(Ok(today), |text| day("to", &text))?;
    let from = given(&query.from).map_or(Ok(to.first_of_month()), |text| day("from", &text))?;
    if from > to || to.0 - from.0 >= DAYS_MAX {
        return Err(ApiError::invalid(format!(
            "from ({from}) must not be after to ({to}), and not {DAYS_MAX} days or more before it"
        )));
    }
    let by = given(&query.by).map_or(Ok(UsageBy::Model), |text| by_name(&text))?;
    let user = whose(&caller, given(&query.user))?;
    let repo: Option<RepoRef> = given(&query.repo)
        .map(|text| text.parse())
        .transpose()
        .map_err(|e: domain::repo::BadRepo| ApiError::invalid(format!("repo: {e}")))?;
    let of = Spending { from, to, user: user.clone(), repo: repo.clone() };
    let mut rows = app.orchestrator().store().usage_report(of, by).await?;
    if by != UsageBy::Day {
        rows.sort_by(|a, b| b.cost.cmp(&a.cost).then_with(|| a.key.cmp(&b.key)));
    }
    let bounded = user.as_ref().unwrap_or(&caller.user);
    let budgets = app.orchestrator().budgets_shared(bounded, repo.as_ref()).await?;
    let now = app.orchestrator().now();
    let data = UsageReport {
        from: from.to_string(),
        to: to.to_string(),
        by: by.as_str().into(),
        user: user.map(|user| user.to_string()),
        repo: repo.map(|repo| repo.to_string()),
        total: line(&sum(&rows)),
        rows: rows.iter().map(line).collect(),
        budgets: budgets.iter().map(|row| budget(row, now)).collect(),
    };
    Ok(Json(Data { data }))
}

/// What is left of the budget that somebody has for this month.
pub(super) async fn personal(app: &App, user: &UserId) -> Result<PersonalBudget, ApiError> {
    let now = app.orchestrator().now();
    let today = Day::of(now);
    let budgets = app.orchestrator().budgets_shared(user, None).await?;
    let own = budgets
        .into_iter()
        .find(|row| row.bound.period == Period::Month && row.bound.payer == Payer::User(user.clone()));
    let spent = match &own {
        Some(row) => row.spent,
        None => {
            let of =
                Spending { from: today.first_of_month(), to: today, user: Some(user.clone()), repo: None };
            app.orchestrator().store().spent(vec![of]).await?.into_iter().next().unwrap_or_default()
        }
    };
    let limit = own.as_ref().map(|row| row.bound.hard);
    let left = |limit: MicroUsd| MicroUsd(limit.0.saturating_sub(spent.0).max(0));
    let month = today.first_of_month().to_string();
    Ok(PersonalBudget {
        // YYYY-MM of YYYY-MM-DD.
        period: month.get(..7).unwrap_or(&month).to_owned(),
        resets_at: Period::Month.renews_at(now).map(wire::time).unwrap_or_default(),
        configured: limit.is_some(),
        spend_usd: spent.usd(),
        monthly_limit_usd: limit.map(MicroUsd::usd),
        remaining_usd: limit.map(|limit| left(limit).usd()),
        utilization_percent: limit.filter(|limit| limit.0 > 0).map(|limit| spent.usd() / limit.usd() * 100.0),
        hard_stop: limit.is_some(),
        hard_stop_active: own.is_some_and(|row| row.bound.judge(row.spent, MicroUsd::ZERO) == Verdict::Stop),
    })
}

fn day(field: &str, text: &str) -> Result<Day, ApiError> {
    Day::parse(text).ok_or_else(|| {
        let given = domain::event::preview(text, 40);
        ApiError::invalid(format!("{field} must be a day as YYYY-MM-DD, got {given:?}"))
    })
}

fn by_name(text: &str) -> Result<UsageBy, ApiError> {
    UsageBy::ALL.iter().copied().find(|by| by.as_str() == text).ok_or_else(|| {
        let all: Vec<&str> = UsageBy::ALL.iter().map(|by| by.as_str()).collect();
        let given = domain::event::preview(text, 40);
        ApiError::invalid(format!("by must be one of {}, got {given:?}", all.join(", ")))
    })
}

/// Whose usage a caller sees; `None` is everybody's.
fn whose(caller: &Caller, asked: Option<String>) -> Result<Option<UserId>, ApiError> {
    let asked = asked.map(UserId::new);
    if caller.role == Role::Owner {
        return Ok(asked);
    }
    match asked {
        Some(other) if other != caller.user => {
            Err(ApiError::new(ErrorCode::Forbidden, "user: only an owner sees the usage of others"))
        }
        _ => Ok(Some(caller.user.clone())),
    }
}

fn sum(rows: &[UsageRow]) -> UsageRow {
    rows.iter().fold(UsageRow { key: "total".into(), ..UsageRow::default() }, |all, row| UsageRow {
        key: all.key,
        cost: all.cost + row.cost,
        tokens: all.tokens + row.tokens,
        calls: all.calls + row.calls,
        unpriced_calls: all.unpriced_calls + row.unpriced_calls,
    })
}

fn line(row: &UsageRow) -> UsageLine {
    UsageLine {
        key: row.key.clone(),
        cost_usd: row.cost.usd(),
        input_tokens: row.tokens.context(),
        output_tokens: row.tokens.output,
        cache_read_tokens: row.tokens.cache_read,
        cache_write_tokens: row.tokens.cache_write,
        calls: row.calls,
        unpriced_calls: row.unpriced_calls,
    }
}

fn budget(row: &Spent, now: jiff::Timestamp) -> BudgetLine {
    let Spent { bound, spent } = row;
    BudgetLine {
        scope: bound.payer.kind().into(),
        name: bound.payer.name(),
        period: Period::as_str(bound.period).into(),
        spent_usd: spent.usd(),
        soft_usd: bound.soft.map(MicroUsd::usd),
        hard_usd: bound.hard.usd(),
        renews_at: bound.period.renews_at(now).map(wire::time),
    }
}
