//! What may be spent: bounds on the money of a task, a user, a repository and the whole system, by UTC day and month.
//!
//! A *hard* bound is what is configured: no model call begins once it is reached. A *soft* bound is a part of it, and
//! reaching it is told once. Everything here is pure: who has spent what comes in as numbers.

use std::collections::BTreeMap;
use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use crate::id::UserId;
use crate::money::MicroUsd;
use crate::repo::RepoRef;
use crate::task::Task;

/// A UTC calendar day: days since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i32);

impl Day {
    /// The day of an instant.
    pub fn of(at: Timestamp) -> Day {
        Day(at.as_second().div_euclid(86_400) as i32)
    }

    /// The first day of the month that `self` is in.
    pub fn first_of_month(self) -> Day {
        self.date().first_of_month().to_zoned(TimeZone::UTC).map_or(self, |first| Day::of(first.timestamp()))
    }

    /// The calendar date.
    pub fn date(self) -> Date {
        self.start().to_zoned(TimeZone::UTC).date()
    }

    /// Its first instant.
    pub fn start(self) -> Timestamp {
        Timestamp::from_second(i64::from(self.0) * 86_400).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The day of a date written `YYYY-MM-DD`.
    pub fn parse(text: &str) -> Option<Day> {
        let date: Date = text.parse().ok()?;
        (date.to_string() == text).then_some(())?;
        date.to_zoned(TimeZone::UTC).ok().map(|start| Day::of(start.timestamp()))
    }
}

impl fmt::Display for Day {
    /// `YYYY-MM-DD`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.date().fmt(f)
    }
}

/// Over what time spending is summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// The life of the task.
    Task,
    /// A UTC calendar day.
    Day,
    /// A UTC calendar month.
    Month,
}

impl Period {
    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Period::Task => "task",
            Period::Day => "day",
            Period::Month => "month",
        }
    }

    /// First day of the period that `now` is in; `None` for the life of a task.
    pub fn from_day(self, now: Timestamp) -> Option<Day> {
        match self {
            Period::Task => None,
            Period::Day => Some(Day::of(now)),
            Period::Month => Some(Day::of(now).first_of_month()),
        }
    }

    /// When the next period begins; `None` for the life of a task.
    pub fn renews_at(self, now: Timestamp) -> Option<Timestamp> {
        let first = self.from_day(now)?;
        match self {
            Period::Task => None,
            Period::Day => Some(Day(first.0 + 1).start()),
            Period::Month => {
                let next = first.date().checked_add(1.month()).ok()?;
                next.to_zoned(TimeZone::UTC).ok().map(|z| z.timestamp())
            }
        }
    }
}

/// Whose spending is bounded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Payer {
    /// The one task.
    Task,
    /// All tasks of a user.
    User(UserId),
    /// All tasks on a repository.
    Repo(RepoRef),
    /// All tasks.
    System,
}

impl Payer {
    /// `task`, `user`, `repo` or `system`.
    pub fn kind(&self) -> &'static str {
        match self {
            Payer::Task => "task",
            Payer::User(_) => "user",
            Payer::Repo(_) => "repo",
            Payer::System => "system",
        }
    }

    /// The user's or the repository's name.
    pub fn name(&self) -> Option<String> {
        match self {
            Payer::User(user) => Some(user.to_string()),
            Payer::Repo(repo) => Some(repo.to_string()),
            Payer::Task | Payer::System => None,
        }
    }
}

/// One bound that holds for a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// Whose spending.
    pub payer: Payer,
    /// Over what time.
    pub period: Period,
    /// At this, a warning; `None` is never.
    pub soft: Option<MicroUsd>,
    /// At this, no further call.
    pub hard: MicroUsd,
}

impl Bound {
    /// As in "the budget of user ann for this month".
    pub fn describe(&self) -> String {
        let whose = match &self.payer {
            Payer::Task => return "the task's budget".into(),
            Payer::User(user) => format!("the budget of user {user}"),
            Payer::Repo(repo) => format!("the budget of repository {repo}"),
            Payer::System => "the budget of this server".into(),
        };
        format!("{whose} for this {}", self.period.as_str())
    }

    /// Stable within its period, e.g. `user-month-2026-11-01`: what is told once is told under this key.
    pub fn key(&self, now: Timestamp) -> String {
        let from = self.period.from_day(now).map(|day| format!("-{day}")).unwrap_or_default();
        format!("{}-{}{from}", self.payer.kind(), self.period.as_str())
    }
}

/// A pair of hard bounds; zero or absent is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caps {
    /// For a UTC day.
    pub day: Option<MicroUsd>,
    /// For a UTC month.
    pub month: Option<MicroUsd>,
}

/// What becomes of a task that is about to start when a budget it shares with others is used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenExhausted {
    /// It waits in the queue until the next period begins.
    #[default]
    Wait,
    /// It fails.
    Refuse,
}

/// Every configured bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Budgets {
    /// The part of a hard bound, in percent, at which a warning is due; 0 is never.
    pub soft_percent: u8,
    /// What becomes of a task that finds nothing left of a day or a month.
    pub when_exhausted: WhenExhausted,
    /// For tasks that name no budget.
    pub task: Option<MicroUsd>,
    /// For each user without a row of their own.
    pub user: Caps,
    /// For each repository without a row of its own.
    pub repo: Caps,
    /// For everything.
    pub system: Caps,
    /// Single users.
    pub users: BTreeMap<String, Caps>,
    /// Single repositories.
    pub repos: BTreeMap<String, Caps>,
}

impl Budgets {
    /// The bounds that hold for a task, the narrowest first.
    pub fn of(&self, task: &Task) -> Vec<Bound> {
        let own = task.spec.max_budget.or(self.task);
        let own = own.map(|hard| self.bound(Payer::Task, Period::Task, hard));
        own.into_iter().chain(self.shared(&task.user, Some(&task.spec.repo))).collect()
    }

    /// The smallest hard bound that holds for a task; `None` when nothing bounds it.
    pub fn least(&self, task: &Task) -> Option<MicroUsd> {
        self.of(task).iter().map(|bound| bound.hard).min()
    }

    /// The bounds beyond a single task that hold for a user, and for a repository where one is named.
    pub fn shared(&self, user: &UserId, repo: Option<&RepoRef>) -> Vec<Bound> {
        let mut bounds = Vec::new();
        let mut add = |payer: Payer, caps: Caps| {
            for (period, hard) in [(Period::Day, caps.day), (Period::Month, caps.month)] {
                bounds.extend(hard.map(|hard| self.bound(payer.clone(), period, hard)));
            }
        };
        add(Payer::User(user.clone()), *self.users.get(user.as_str()).unwrap_or(&self.user));
        if let Some(repo) = repo {
            add(Payer::Repo(repo.clone()), *self.repos.get(&repo.to_string()).unwrap_or(&self.repo));
        }
        add(Payer::System, self.system);
        bounds
    }

    fn bound(&self, payer: Payer, period: Period, hard: MicroUsd) -> Bound {
        let soft = match self.soft_percent {
            0 => None,
            percent => Some(MicroUsd((i128::from(hard.0) * i128::from(percent) / 100) as i64)),
        };
        Bound { payer, period, soft, hard }
    }
}

/// What a bound says to a call that is about to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go.
    Go,
    /// Go, and tell that the soft bound is reached.
    Warn,
    /// Calls that run may still use the rest up: wait until one of them has ended.
    Wait,
    /// Nothing is left.
    Stop,
}

impl Bound {
    /// The verdict when `spent` is recorded and the calls that run may cost `running` at most.
    pub fn judge(&self, spent: MicroUsd, running: MicroUsd) -> Verdict {
        if spent >= self.hard {
            Verdict::Stop
        } else if spent + running >= self.hard && running > MicroUsd::ZERO {
            Verdict::Wait
        } else if self.soft.is_some_and(|soft| spent >= soft) {
            Verdict::Warn
        } else {
            Verdict::Go
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn days_and_months_are_of_the_utc_calendar() {
        let cases = [
            (
                "2026-11-28T16:00:00Z",
                "2026-11-28",
                "2026-11-01",
                "2026-11-29T00:00:00Z",
                "2026-12-01T00:00:00Z",
            ),
            (
                "2026-12-31T23:59:59Z",
                "2026-12-31",
                "2026-12-01",
                "2027-01-01T00:00:00Z",
                "2027-01-01T00:00:00Z",
            ),
            (
                "2028-02-29T00:00:00Z",
                "2028-02-29",
                "2028-02-01",
                "2028-03-01T00:00:00Z",
                "2028-03-01T00:00:00Z",
            ),
            (
                "1969-12-31T23:59:59Z",
                "1969-12-31",
                "1969-12-01",
                "1970-01-01T00:00:00Z",
                "1970-01-01T00:00:00Z",
            ),
        ];
        for (now, day, first, tomorrow, next) in cases {
            let now = at(now);
            assert_eq!(Period::Day.from_day(now).unwrap().to_string(), day);
            assert_eq!(Period::Month.from_day(now).unwrap().to_string(), first);
            assert_eq!(Period::Day.renews_at(now), Some(at(tomorrow)));
            assert_eq!(Period::Month.renews_at(now), Some(at(next)));
        }
        assert_eq!((Period::Task.from_day(at("2026-01-01T00:00:00Z")), Day::parse("2026-1-1")), (None, None));
        assert_eq!(Day::parse("2026-11-28").unwrap().date().to_string(), "2026-11-28");
        assert_eq!(Day::parse("2026-02-30"), None);
    }

    #[test]
    fn a_name_of_its_own_replaces_the_common_bound() {
        let caps = |day| Caps { day: Some(MicroUsd(day)), month: None };
        let budgets = Budgets {
            soft_percent: 80,
            user: caps(100),
            repo: Caps { day: None, month: Some(MicroUsd(7)) },
            users: [("ann".into(), caps(500))].into(),
            ..Budgets::default()
        };
        let repo: RepoRef = "o/r".parse().unwrap();
        let of = |user: &str| budgets.shared(&UserId::new(user), Some(&repo));
        assert_eq!(of("bob")[0].hard, MicroUsd(100));
        assert_eq!((of("ann")[0].hard, of("ann")[0].soft), (MicroUsd(500), Some(MicroUsd(400))));
        assert_eq!(of("ann")[1].describe(), "the budget of repository o/r for this month");
        assert_eq!(of("ann")[1].key(at("2026-11-28T00:00:00Z")), "repo-month-2026-11-01");
        assert_eq!(of("ann").len(), 2, "no bound of the system is configured");
    }

    #[test]
    fn verdicts() {
        let bound = Bound {
            payer: Payer::System,
            period: Period::Day,
            soft: Some(MicroUsd(80)),
            hard: MicroUsd(100),
        };
        let judge = |spent, running| bound.judge(MicroUsd(spent), MicroUsd(running));
        assert_eq!(
            [judge(0, 0), judge(79, 20), judge(80, 0), judge(99, 0)],
            [Verdict::Go, Verdict::Go, Verdict::Warn, Verdict::Warn]
        );
        assert_eq!(
            [judge(79, 21), judge(0, 500), judge(100, 0), judge(101, 9)],
            [Verdict::Wait, Verdict::Wait, Verdict::Stop, Verdict::Stop]
        );
    }

    proptest! {
        #[test]
        fn a_call_that_goes_leaves_running_ones_room(spent in 0i64..1000, running in 0i64..1000, hard in 1i64..1000) {
            let bound = Bound { payer: Payer::System, period: Period::Day, soft: Some(MicroUsd(hard / 2)), hard: MicroUsd(hard) };
            let goes = matches!(bound.judge(MicroUsd(spent), MicroUsd(running)), Verdict::Go | Verdict::Warn);
            prop_assert_eq!(goes, spent < hard && (running == 0 || spent + running < hard));
        }
    }
}
