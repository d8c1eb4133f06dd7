//! Typed identifiers. Ids are ULIDs: 26 characters of Crockford base32, upper case, sortable by time.
//!
//! Parsing accepts either case and always yields the upper-case form, because a lower-case cursor compared as raw text
//! is greater than every stored id and would silently match nothing.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// A text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be 26 characters of Crockford base32 (a ULID), got {got:?}")]
pub struct BadId {
    /// Which kind of id was expected, e.g. `task id`.
    pub what: &'static str,
    /// The text that was given, cut at 40 characters.
    pub got: String,
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// Makes an id from a time and 80 random bits (the low 80 of `random` are used).
            pub fn from_parts(at: Timestamp, random: u128) -> Self {
                Self(Ulid::from_parts(u64::try_from(at.as_millisecond()).unwrap_or(0), random))
            }

            /// The same id from its 128 bits.
            pub fn from_bits(bits: u128) -> Self {
                Self(Ulid(bits))
            }

            /// The 128 bits of this id; ids compare as these numbers do.
            pub fn bits(self) -> u128 {
                self.0.0
            }

            /// The millisecond since the epoch at which this id says it was made.
            pub fn millis(self) -> u64 {
                self.0.timestamp_ms()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                let bad = || BadId { what: $what, got: text.chars().take(40).collect() };
                let upper = text.to_ascii_uppercase();
                if upper.len() != 26 || !upper.bytes().all(|b| b"0123456789ABCDEFGHJKMNPQRSTVWXYZ".contains(&b)) {
                    return Err(bad());
                }
                if upper.as_bytes()[0] > b'7' {
                    return Err(bad());
                }
                Ulid::from_string(&upper).map(Self).map_err(|_| bad())
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id_type!(
    /// One task, for its whole life.
    TaskId, "task id"
);
id_type!(
    /// One event; strictly increasing within a task.
    EventId, "event id"
);
id_type!(
    /// One thing that must still happen after a transition (stop a session, say).
    ObligationId, "obligation id"
);
id_type!(
    /// One nudge: words of a person to an agent that works.
    NudgeId, "nudge id"
);
id_type!(
    /// One question of a person about a task.
    AskId, "ask id"
);
id_type!(
    /// One attachment of a task.
    AttachmentId, "attachment id"
);
id_type!(
    /// One HTTP request, as it shows in logs and error answers.
    RequestId, "request id"
);

id_type!(
    /// One API key: the part of it that is no secret.
    ApiKeyId, "API key id"
);
id_type!(
    /// One webhook.
    WebhookId, "webhook id"
);
id_type!(
    /// One line of the audit log.
    AuditId, "audit id"
);

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps a text that is already known to be one.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_type!(
    /// Who a task belongs to: `local-owner` in local mode.
    UserId
);
text_type!(
    /// One control-plane process; new at each start, so that a lease of a dead process is never mistaken for ours.
    NodeId
);

/// The number of an attempt at a task, from 1. It is the fencing token of everything a box does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl Attempt {
    /// Before any session was dispatched.
    pub const NONE: Attempt = Attempt(0);

    /// The attempt after this one.
    pub fn next(self) -> Attempt {
        Attempt(self.0 + 1)
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_parse_in_either_case_and_print_upper() {
        let id = TaskId::from_parts(Timestamp::from_second(1_700_000_000).unwrap(), 42);
        let text = id.to_string();
        assert_eq!(text.len(), 26);
        assert_eq!(text.to_lowercase().parse::<TaskId>().unwrap(), id);
        assert_eq!(text, text.to_uppercase());
    }

    #[test]
    fn what_is_not_an_id_is_told_so() {
        for bad in [
            "",
            "abc",
            "01ARZ3NDEKTSV4RRFFQ69G5FAU",
            "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "01ARZ3NDEKTSV4RRFFQ69G5FA ",
        ] {
            assert!(bad.parse::<TaskId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_sort_by_time_then_random() {
        let at = |s| Timestamp::from_second(s).unwrap();
        assert!(EventId::from_parts(at(1), u128::MAX) < EventId::from_parts(at(2), 0));
    }
}
