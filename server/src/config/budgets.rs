//! `[budgets]`: dollars in the file, micro-dollars for the rest of the program.

use std::collections::BTreeMap;

use domain::budget::{Caps, WhenExhausted};
use domain::{MicroUsd, RepoRef};
use serde::Deserialize;

use super::ConfigError;

/// `[budgets]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "described in defaults.toml")]
pub struct Budgets {
    pub soft_percent: u8,
    pub when_exhausted: Exhausted,
    pub task_usd: f64,
    pub user: CapsUsd,
    pub repo: CapsUsd,
    pub system: CapsUsd,
    pub users: BTreeMap<String, CapsUsd>,
    pub repos: BTreeMap<String, CapsUsd>,
}

/// `budgets.when_exhausted`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "described in defaults.toml")]
pub enum Exhausted {
    Wait,
    Refuse,
}

/// Dollars for a UTC day and a UTC month; 0 is no bound.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "described in defaults.toml")]
pub struct CapsUsd {
    pub day_usd: f64,
    pub month_usd: f64,
}

impl Budgets {
    /// As the orchestrator knows them.
    pub fn build(&self) -> Result<domain::Budgets, ConfigError> {
        if self.soft_percent > 100 {
            return Err(ConfigError(format!(
                "budgets.soft_percent must be 0 to 100, got {}",
                self.soft_percent
            )));
        }
        let users = self
            .users
            .iter()
            .map(|(user, caps)| Ok((user.clone(), caps.build(&format!("budgets.users.{user:?}"))?)));
        let repos = self.repos.iter().map(|(name, caps)| {
            let section = format!("budgets.repos.{name:?}");
            let repo: RepoRef =
                name.parse().map_err(|e: domain::repo::BadRepo| ConfigError(format!("[{section}]: {e}")))?;
            Ok((repo.to_string(), caps.build(&section)?))
        });
        Ok(domain::Budgets {
            soft_percent: self.soft_percent,
            when_exhausted: match self.when_exhausted {
                Exhausted::Wait => WhenExhausted::Wait,
                Exhausted::Refuse => WhenExhausted::Refuse,
            },
            task: dollars("budgets.task_usd", self.task_usd)?,
            user: self.user.build("budgets.user")?,
            repo: self.repo.build("budgets.repo")?,
            system: self.system.build("budgets.system")?,
            users: users.collect::<Result<_, ConfigError>>()?,
            repos: repos.collect::<Result<_, ConfigError>>()?,
        })
    }
}

impl CapsUsd {
    fn build(self, section: &str) -> Result<Caps, ConfigError> {
        Ok(Caps {
            day: dollars(&format!("{section}.day_usd"), self.day_usd)?,
            month: dollars(&format!("{section}.month_usd"), self.month_usd)?,
        })
    }
}

fn dollars(setting: &str, usd: f64) -> Result<Option<MicroUsd>, ConfigError> {
    let given = MicroUsd::from_usd(usd).filter(|_| usd >= 0.0);
    let Some(given) = given else {
        return Err(ConfigError(format!("{setting} must be US dollars from 0 (no bound), got {usd}")));
    };
    Ok((given > MicroUsd::ZERO).then_some(given))
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Env};
    use super::*;

    fn read(text: &str) -> Result<domain::Budgets, String> {
        let env = Env::from([("HOME".to_owned(), "/home/x".to_owned())]);
        Config::from_text(text, "bgagent.toml", &env).map(|c| c.policy().budgets).map_err(|e| e.to_string())
    }

    #[test]
    fn nothing_is_bounded_by_default_and_a_warning_is_due_at_80_percent() {
        assert_eq!(read("").unwrap(), domain::Budgets { soft_percent: 80, ..domain::Budgets::default() });
    }

    #[test]
    fn dollars_are_read_for_all_and_for_one() {
        let text = "[budgets]\ntask_usd = 5\n[budgets.user]\nday_usd = 20.5\n[budgets.users.ann]\nmonth_usd = 500\n\
                    [budgets.repos.\"owner/name\"]\nday_usd = 1\n[budgets.system]\nmonth_usd = 1e4";
        let budgets = read(text).unwrap();
        assert_eq!(budgets.task, Some(MicroUsd(5_000_000)));
        assert_eq!(budgets.when_exhausted, WhenExhausted::Wait);
        let refuse = read("[budgets]\nwhen_exhausted = \"refuse\"").unwrap();
        assert_eq!(refuse.when_exhausted, WhenExhausted::Refuse);
        assert_eq!(budgets.user, Caps { day: Some(MicroUsd(20_500_000)), month: None });
        assert_eq!(budgets.users["ann"], Caps { day: None, month: Some(MicroUsd(500_000_000)) });
        assert_eq!(budgets.repos["owner/name"].day, Some(MicroUsd(1_000_000)));
        assert_eq!(budgets.system.month, Some(MicroUsd(10_000_000_000)));
    }

    #[test]
    fn what_is_no_budget_is_told_by_its_name() {
        for (text, words) in [
            ("[budgets]\nsoft_percent = 101", "soft_percent must be 0 to 100"),
            ("[budgets]\ntask_usd = -1", "budgets.task_usd must be US dollars from 0"),
            ("[budgets.user]\nday_usd = nan", "budgets.user.day_usd"),
            ("[budgets.users.ann]\nmonth_usd = inf", "budgets.users.\"ann\".month_usd"),
            ("[budgets.repos.\"nonsense\"]\nday_usd = 1", "[budgets.repos.\"nonsense\"]"),
            ("[budgets.user]\nweek_usd = 1", "week_usd"),
            ("[budgets]\nwhen_exhausted = \"later\"", "`wait` or `refuse`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
