//! `bgagent usage`: the table of what was spent, and the bars of the budgets.

use protocol::usage::{BudgetLine, UsageLine, UsageReport};

use super::table::table;
use super::{View, dollars};
use crate::clean;

/// The table, its sum, and the budgets.
pub fn usage(report: &UsageReport, view: &View) -> String {
    let mut of = vec![format!("{} to {} (UTC)", clean::line(&report.from), clean::line(&report.to))];
    of.extend(report.user.iter().map(|user| format!("user {}", clean::line(user))));
    of.extend(report.repo.iter().map(|repo| format!("repository {}", clean::line(repo))));
    let mut blocks = vec![view.paint.bold(&format!("Usage, {}", of.join(", ")))];
    if report.rows.is_empty() {
        blocks.push("No model was called.".into());
    } else {
        let mut rows: Vec<_> = report.rows.iter().map(cells).collect();
        if report.rows.len() > 1 {
            rows.push(cells(&report.total));
        }
        let by = clean::line(&report.by).to_uppercase();
        blocks.push(table([by.as_str(), "COST", "CALLS", "INPUT", "CACHED", "OUTPUT"], &rows, view));
    }
    if report.total.unpriced_calls > 0 {
        let calls = report.total.unpriced_calls;
        let (calls, have) =
            if calls == 1 { ("1 call".into(), "has") } else { (format!("{calls} calls"), "have") };
        blocks.push(view.paint.yellow(&format!(
            "{calls} {have} no price: add rows to [[model.prices]] in the server's configuration."
        )));
    }
    if !report.budgets.is_empty() {
        let budgets: Vec<String> = report.budgets.iter().map(|budget| self::budget(budget, view)).collect();
        blocks.push(format!("{}\n{}", view.paint.bold("Budgets"), budgets.join("\n")));
    }
    blocks.join("\n\n")
}

fn cells(line: &UsageLine) -> [String; 6] {
    [
        clean::line(&line.key),
        dollars(line.cost_usd),
        line.calls.to_string(),
        tokens(line.input_tokens),
        tokens(line.cache_read_tokens),
        tokens(line.output_tokens),
    ]
}

/// `999`, `12.3k`, `4.56M`.
fn tokens(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{:.1}k", count as f64 / 1e3),
        _ => format!("{:.2}M", count as f64 / 1e6),
    }
}

fn budget(budget: &BudgetLine, view: &View) -> String {
    let whose = match (&budget.name, budget.scope.as_str()) {
        (Some(name), scope) => format!("{} {}", clean::line(scope), clean::line(name)),
        (None, _) => "this server".into(),
    };
    let part = if budget.hard_usd > 0.0 { budget.spent_usd / budget.hard_usd * 100.0 } else { 100.0 };
    let line = format!(
        "  {whose}, {}: {} of {} ({:.0}%)",
        clean::line(&budget.period),
        dollars(budget.spent_usd),
        dollars(budget.hard_usd),
        part.floor()
    );
    let renews = budget.renews_at.as_deref().map(clean::line).unwrap_or_default();
    if budget.spent_usd >= budget.hard_usd {
        view.paint.red(&format!("{line}, used up; renews {renews}"))
    } else if budget.soft_usd.is_some_and(|soft| budget.spent_usd >= soft) {
        view.paint.yellow(&format!("{line}, nearly used up; renews {renews}"))
    } else {
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    fn line(key: &str, cost_usd: f64, calls: u64) -> UsageLine {
        UsageLine {
            key: key.into(),
            cost_usd,
            input_tokens: calls * 12_345,
            output_tokens: calls * 321,
            cache_read_tokens: calls * 9_999,
            cache_write_tokens: 17,
            calls,
            unpriced_calls: 0,
        }
    }

    fn bound(scope: &str, name: Option<&str>, period: &str, spent: f64, hard: f64) -> BudgetLine {
        BudgetLine {
            scope: scope.into(),
            name: name.map(Into::into),
            period: period.into(),
            spent_usd: spent,
            soft_usd: Some(hard * 0.8),
            hard_usd: hard,
            renews_at: Some("2026-12-01T00:00:00Z".into()),
        }
    }

    #[test]
    fn a_report_is_a_table_and_its_budgets() {
        let mut report = UsageReport {
            from: "2026-11-01".into(),
            to: "2026-11-28".into(),
            by: "model".into(),
            user: None,
            repo: Some("octo/cat".into()),
            rows: vec![
                line("anthropic/claude-sonnet-4-6", 12.3456, 250),
                line("local/\u{1b}[31mqwen", 0.0, 3),
            ],
            total: UsageLine { unpriced_calls: 3, ..line("total", 12.3456, 253) },
            budgets: vec![
                bound("user", Some("ann"), "day", 0.5, 20.0),
                bound("repo", Some("octo/cat"), "month", 90.0, 100.0),
                bound("system", None, "month", 500.0, 500.0),
            ],
        };
        insta::assert_snapshot!(usage(&report, &sample::view()));
        report.rows.clear();
        report.budgets.clear();
        report.total = line("total", 0.0, 0);
        let empty = usage(&report, &sample::view());
        assert!(empty.ends_with("No model was called."), "{empty}");
    }

    #[test]
    fn token_counts_are_short() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1.0k"), (123_456, "123.5k"), (4_560_000, "4.56M")];
        for (count, text) in cases {
            assert_eq!(tokens(count), text);
        }
    }
}
