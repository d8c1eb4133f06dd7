//! Lines of the audit log about who came in and who did not: for each key and each person's provider the first use of a UTC
//! day, and what was refused, with the reason. No line has a credential. Memory is bounded: after many, or a restart, a line
//! may be written again.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::access::Authenticated;
use domain::{Day, RequestId, UserId};
use jiff::Timestamp;
use store::AuditRecord;

use crate::peer::neighbourhood;

/// Somebody was let in for the first time of a day.
pub const ACCEPT: &str = "login.accept";
/// A credential was refused.
pub const REFUSE: &str = "login.refuse";
/// Who is not known.
pub const NOBODY: &str = "(unknown)";

/// Lines of the day that are remembered, of those who came in and of those who did not.
const SEEN_MAX: usize = 20_000;
/// Characters of a reason.
const REASON_MAX_CHARS: usize = 200;

/// What was told of a day already.
#[derive(Debug, Default)]
pub struct Logins {
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    day: Option<Day>,
    accepted: HashSet<Accepted>,
    refused: HashSet<Refused>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Accepted {
    user: String,
    by: &'static str,
    which: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Refused {
    from: Option<IpAddr>,
    reason: String,
}

impl Told {
    fn is_new_accepted(&mut self, who: Accepted) -> bool {
        // People are told all the same, of many twice.
        if self.accepted.len() >= SEEN_MAX && !self.accepted.contains(&who) {
            self.accepted.clear();
        }
        self.accepted.insert(who)
    }

    fn is_new_refused(&mut self, what: Refused) -> bool {
        // Strangers can fill this, not overflow it: what follows of them today is in the metrics only.
        self.refused.len() < SEEN_MAX && self.refused.insert(what)
    }
}

/// What a line is about, beside its action.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// The request.
    pub request: RequestId,
    /// The time.
    pub now: Timestamp,
    /// From where, where it is known.
    pub from: Option<IpAddr>,
}

impl Logins {
    /// The line about somebody who is let in, if it is due. The owner's key is this machine's and is not told.
    pub fn accepted(&self, user: &UserId, by: &Authenticated, at: At) -> Option<AuditRecord> {
        if matches!(by, Authenticated::OwnerKey) {
            return None;
        }
        let who = Accepted { user: user.to_string(), by: by.kind(), which: by.which() };
        self.of_day(at.now).is_new_accepted(who).then(|| {
            let from = at.from.map(|from| format!("from {from}"));
            line(user.clone(), by.kind(), by.which(), ACCEPT, from, 200, at)
        })
    }

    /// The line about a credential that was refused with this status, if it is due.
    pub fn refused(&self, reason: &str, status: u16, at: At) -> Option<AuditRecord> {
        let reason = domain::event::preview(&domain::text::line(reason), REASON_MAX_CHARS);
        let what = Refused { from: at.from.map(neighbourhood), reason: reason.clone() };
        self.of_day(at.now).is_new_refused(what).then(|| {
            let told = match at.from {
                Some(from) => format!("from {from}: {reason}"),
                None => reason,
            };
            line(UserId::new(NOBODY), "none", None, REFUSE, Some(told), status, at)
        })
    }

    fn of_day(&self, now: Timestamp) -> MutexGuard<'_, Told> {
        let day = Some(Day::of(now));
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.day != day {
            *told = Told { day, ..Told::default() };
        }
        told
    }
}

fn line(
    actor: UserId,
    by: &str,
    credential: Option<String>,
    action: &str,
    object: Option<String>,
    status: u16,
    at: At,
) -> AuditRecord {
    AuditRecord {
        // Given when it is added.
        id: domain::AuditId::from_bits(0),
        at: at.now,
        actor,
        authenticated_by: by.into(),
        credential,
        action: action.into(),
        object,
        status,
        request: at.request,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64, from: &str) -> At {
        At {
            request: RequestId::from_bits(1),
            now: Timestamp::from_second(1_700_000_000 + s).unwrap(),
            from: from.parse().ok(),
        }
    }

    #[test]
    fn a_line_a_day_for_each_who_comes_in() {
        let logins = Logins::default();
        let ann = UserId::new("ann");
        let oidc = |issuer: &str| Authenticated::Oidc { issuer: issuer.into() };
        let told = |by: &Authenticated, s| logins.accepted(&ann, by, at(s, "192.0.2.1")).is_some();
        assert!(told(&oidc("a"), 0) && !told(&oidc("a"), 60) && told(&oidc("b"), 60));
        assert!(told(&oidc("a"), 86_400), "the next day");
        assert!(!told(&Authenticated::OwnerKey, 0));
        let line = logins.accepted(&UserId::new("bob"), &oidc("a"), at(0, "192.0.2.1")).unwrap();
        assert_eq!((line.action.as_str(), line.object.as_deref()), (ACCEPT, Some("from 192.0.2.1")));
        assert_eq!((line.authenticated_by.as_str(), line.credential.as_deref()), ("oidc", Some("a")));
    }

    #[test]
    fn a_refusal_is_told_once_a_day_by_address_and_reason_in_bounded_memory() {
        let logins = Logins::default();
        let told = |reason: &str, from: &str| logins.refused(reason, 401, at(0, from));
        let line = told("it has\nexpired", "192.0.2.1").unwrap();
        assert_eq!(line.actor.as_str(), NOBODY);
        let object = line.object.unwrap();
        assert!(object.starts_with("from 192.0.2.1: it has") && !object.contains('\n'), "{object}");
        assert!(told("it has\nexpired", "192.0.2.1").is_none());
        assert!(told("it has\nexpired", "192.0.2.2").is_some() && told("other", "192.0.2.1").is_some());
        for n in 0..2 * SEEN_MAX {
            told(&n.to_string(), "192.0.2.9");
        }
        assert_eq!(logins.told.lock().unwrap().refused.len(), SEEN_MAX);
        let by = Authenticated::Oidc { issuer: "a".into() };
        let ann = || logins.accepted(&UserId::new("ann"), &by, at(0, "192.0.2.1"));
        assert!(ann().is_some() && ann().is_none(), "people are told all the same, and once");
    }

    #[test]
    fn of_many_people_some_are_told_twice_in_bounded_memory() {
        let logins = Logins::default();
        let by = Authenticated::Oidc { issuer: "a".into() };
        let told =
            |n: usize| logins.accepted(&UserId::new(format!("u{n}")), &by, at(0, "192.0.2.1")).is_some();
        assert!((0..=SEEN_MAX).all(told));
        assert!(logins.told.lock().unwrap().accepted.len() <= SEEN_MAX);
        assert!(!told(SEEN_MAX) && told(0));
    }
}
