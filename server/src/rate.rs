//! How many requests one caller may make: a bucket for each caller and class of routes, in this process's memory.
//!
//! A generic cell rate algorithm: one time for each bucket, no counting windows, so no burst at a window's edge. Time is
//! an argument.

pub mod stranger;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::access::{Authenticated, Purpose, Scope};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Buckets that are kept before those that are full again are dropped.
const BUCKETS_MAX: usize = 10_000;

/// Kinds of routes that are limited together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Looking.
    Read,
    /// Submitting and steering tasks.
    Write,
    /// Approving and denying.
    Decide,
    /// Looking at what waits for an approval.
    Pending,
    /// Making, rotating and revoking keys and webhooks.
    Manage,
    /// Deliveries of one webhook.
    Webhook,
}

impl Class {
    /// The class of a route.
    pub fn of(scope: Scope, method: &str) -> Class {
        let looks = matches!(method, "GET" | "HEAD");
        match scope {
            Scope::ApprovalsDecide if looks => Class::Pending,
            Scope::ApprovalsDecide => Class::Decide,
            _ if looks || scope.purpose() == Purpose::Read => Class::Read,
            Scope::KeysManage | Scope::WebhooksManage | Scope::ServerManage => Class::Manage,
            Scope::TasksCreate
            | Scope::TasksSteer
            | Scope::TasksCancel
            | Scope::TasksRead
            | Scope::UsageRead
            | Scope::AuditRead
            | Scope::WebhooksInvoke => Class::Write,
        }
    }
}

/// How much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Requests a minute, in the long run; 0 is no limit.
    pub per_minute: u32,
    /// Requests at once.
    pub burst: u32,
}

/// `[rate]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "one for each class")]
pub struct Rates {
    pub read: Rate,
    pub write: Rate,
    pub decide: Rate,
    pub pending: Rate,
    pub manage: Rate,
    pub webhook: Rate,
    pub login: Rate,
}

impl Rates {
    /// No limits.
    pub fn off() -> Rates {
        let off = Rate { per_minute: 0, burst: 1 };
        Rates { read: off, write: off, decide: off, pending: off, manage: off, webhook: off, login: off }
    }

    fn of(&self, class: Class) -> Rate {
        match class {
            Class::Read => self.read,
            Class::Write => self.write,
            Class::Decide => self.decide,
            Class::Pending => self.pending,
            Class::Manage => self.manage,
            Class::Webhook => self.webhook,
        }
    }
}

/// The buckets of all callers.
#[derive(Debug)]
pub struct Limiter {
    rates: Rates,
    /// When each bucket is full again, nanoseconds since 1970.
    full_at: Mutex<HashMap<(String, Class), i128>>,
}

impl Limiter {
    /// All buckets full.
    pub fn new(rates: Rates) -> Limiter {
        Limiter { rates, full_at: Mutex::default() }
    }

    /// Takes one request out of a caller's bucket; `Err` says how long to wait.
    pub fn take(&self, who: &str, class: Class, now: Timestamp) -> Result<(), Duration> {
        let rate = self.rates.of(class);
        if rate.per_minute == 0 {
            return Ok(());
        }
        let now = now.as_nanosecond();
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= BUCKETS_MAX {
            // A full bucket is as good as none.
            full_at.retain(|_, at| *at > now);
        }
        let bucket = full_at.entry((who.to_owned(), class)).or_insert(now);
        // A clock that was set back must not keep anybody out for longer than an empty bucket does.
        *bucket = (*bucket).clamp(now, now + depth(rate));
        *bucket = take(*bucket, now, rate)?;
        Ok(())
    }
}

/// Whose bucket a caller's requests come out of; `None`: not limited. Whoever has the owner's key can change the limits.
pub fn bucket(user: &str, by: &Authenticated) -> Option<String> {
    match by {
        Authenticated::OwnerKey => None,
        Authenticated::ApiKey(_) | Authenticated::Oidc { .. } => Some(format!("user:{user}")),
        Authenticated::Webhook(id) => Some(format!("webhook:{id}")),
    }
}

/// Nanoseconds from one request to the next.
fn interval(rate: Rate) -> i128 {
    60_000_000_000 / i128::from(rate.per_minute.max(1))
}

/// Nanoseconds in which an empty bucket fills.
fn depth(rate: Rate) -> i128 {
    interval(rate) * i128::from(rate.burst.max(1))
}

/// When a bucket that is full at `full_at` is full again after one more request.
fn take(full_at: i128, now: i128, rate: Rate) -> Result<i128, Duration> {
    let next = full_at.max(now) + interval(rate);
    match next - now - depth(rate) {
        ..=0 => Ok(next),
        wait => Err(Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i128 = 1_000_000_000;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap()
    }

    fn limiter(per_minute: u32, burst: u32) -> Limiter {
        let rate = Rate { per_minute, burst };
        Limiter::new(Rates { read: rate, write: rate, ..Rates::off() })
    }

    #[test]
    fn a_burst_passes_then_one_each_interval() {
        let limiter = limiter(60, 3);
        let take = |ms| limiter.take("ann", Class::Read, at(ms));
        assert_eq!([take(0), take(0), take(0)], [Ok(()); 3]);
        assert_eq!(take(0), Err(Duration::from_secs(1)));
        assert_eq!(take(999), Err(Duration::from_millis(1)), "a refusal costs nothing");
        assert_eq!(take(1_000), Ok(()));
        assert_eq!(take(1_000), Err(Duration::from_secs(1)));
        assert_eq!([take(4_000), take(4_000), take(4_000)], [Ok(()); 3], "a bucket fills, and no further");
        assert!(take(4_000).is_err());
    }

    #[test]
    fn buckets_are_apart_by_caller_and_class_and_can_be_off() {
        let limiter = limiter(60, 1);
        assert!(limiter.take("ann", Class::Read, at(0)).is_ok());
        assert!(limiter.take("ann", Class::Read, at(0)).is_err());
        assert!(limiter.take("bob", Class::Read, at(0)).is_ok());
        assert!(limiter.take("ann", Class::Write, at(0)).is_ok());
        for _ in 0..1_000 {
            assert!(limiter.take("ann", Class::Decide, at(0)).is_ok());
        }
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_nobody_out() {
        let limiter = limiter(60, 2);
        for _ in 0..2 {
            limiter.take("ann", Class::Read, at(3_600_000)).unwrap();
        }
        let wait = limiter.take("ann", Class::Read, at(0)).unwrap_err();
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
        assert!(limiter.take("ann", Class::Read, at(1_000)).is_ok());
    }

    #[test]
    fn full_buckets_are_dropped_when_there_are_many() {
        let limiter = limiter(60, 2);
        for n in 0..BUCKETS_MAX {
            limiter.take(&n.to_string(), Class::Read, at(0)).unwrap();
        }
        limiter.take("last", Class::Read, at(500)).unwrap();
        assert_eq!(
            limiter.full_at.lock().unwrap().len(),
            BUCKETS_MAX + 1,
            "those that are not full are kept"
        );
        limiter.take("later", Class::Read, at(60_000)).unwrap();
        assert_eq!(limiter.full_at.lock().unwrap().len(), 1);
    }

    #[test]
    fn in_the_long_run_the_rate_holds() {
        for (per_minute, burst) in [(1, 1), (7, 3), (60, 100), (3_600, 100)] {
            let rate = Rate { per_minute, burst };
            let (mut full_at, mut passed) = (0, 0_u64);
            for tick in 0..60_000_i128 {
                if let Ok(next) = take(full_at, tick * SECOND / 100, rate) {
                    (full_at, passed) = (next, passed + 1);
                }
            }
            let most = u64::from(per_minute) * 10 + u64::from(burst);
            assert!(
                passed <= most && passed + u64::from(burst) + 1 >= most.min(60_000),
                "{rate:?}: {passed}"
            );
        }
    }

    #[test]
    fn classes_follow_what_a_route_does() {
        for (scope, method, class) in [
            (Scope::TasksRead, "GET", Class::Read),
            (Scope::TasksRead, "HEAD", Class::Read),
            (Scope::TasksCreate, "POST", Class::Write),
            (Scope::TasksCancel, "DELETE", Class::Write),
            (Scope::ApprovalsDecide, "POST", Class::Decide),
            (Scope::ApprovalsDecide, "GET", Class::Pending),
            (Scope::KeysManage, "POST", Class::Manage),
            (Scope::KeysManage, "GET", Class::Read),
            (Scope::WebhooksManage, "DELETE", Class::Manage),
            (Scope::AuditRead, "GET", Class::Read),
        ] {
            assert_eq!(Class::of(scope, method), class, "{method} {scope}");
        }
    }
}
