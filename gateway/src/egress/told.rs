//! What is said of a decision: to the tool (an answer it can show), to the task's events (once for each host), to the
//! metrics (each time).

use std::collections::HashSet;

use axum::body::Body;
use domain::event::{EventKind, NewEvent, preview};
use domain::limit;
use http::{HeaderValue, StatusCode, header};
use hyper::Response;
use hyper::ext::ReasonPhrase;
use serde_json::json;

use super::address::Special;
use super::rule::Rule;
use super::target::{BadTarget, Target};

/// Why a request went nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No rule allows the host.
    #[error("{0} is not on the allowlist of this repository")]
    NotAllowed(Target),
    /// The host has an address that is not public.
    #[error("{0} has a {1} address, which boxes may not reach")]
    Special(Target, Special),
    /// The name is one of this network, and the outer proxy would look it up.
    #[error("{0} is a name of the local network, which boxes may not reach")]
    LocalName(Target),
    /// The host cannot be read.
    #[error("{0:?} is no host to go to: {1}")]
    BadTarget(String, BadTarget),
    /// TLS that names another host than the one asked for, or none.
    #[error("the TLS within the connection to {0} does not name that host")]
    OtherHost(Target),
    /// An absolute URL that is not plain HTTP.
    #[error("{0} URLs go through CONNECT; only http:// URLs can be asked for directly")]
    Scheme(String),
    /// A method that has the host send back what it got, credentials too.
    #[error("{0} requests are not passed on")]
    Method(String),
    /// No address was found.
    #[error("{0} was not found: the name has no address")]
    NotFound(Target),
    /// No address answered.
    #[error("{0} does not answer: {1}")]
    Unreachable(Target, String),
    /// The host's certificate is not good.
    #[error("the certificate of {0} is not good: {1}")]
    Certificate(Target, String),
    /// The connection broke off before an answer.
    #[error("{0} broke off: {1}")]
    Broken(Target, String),
}

impl Refusal {
    /// A word for events and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::NotAllowed(_) => "not_allowed",
            Refusal::Special(..) => "private_address",
            Refusal::LocalName(_) => "local_name",
            Refusal::BadTarget(..) => "bad_target",
            Refusal::OtherHost(_) => "other_host",
            Refusal::Scheme(_) => "bad_scheme",
            Refusal::Method(_) => "bad_method",
            Refusal::NotFound(_) => "not_found",
            Refusal::Unreachable(..) => "unreachable",
            Refusal::Certificate(..) => "bad_certificate",
            Refusal::Broken(..) => "broken",
        }
    }

    /// Whether it was refused here, rather than tried in vain.
    pub fn is_denial(&self) -> bool {
        match self {
            Refusal::NotAllowed(_)
            | Refusal::Special(..)
            | Refusal::LocalName(_)
            | Refusal::BadTarget(..)
            | Refusal::OtherHost(_)
            | Refusal::Scheme(_)
            | Refusal::Method(_) => true,
            Refusal::NotFound(_)
            | Refusal::Unreachable(..)
            | Refusal::Certificate(..)
            | Refusal::Broken(..) => false,
        }
    }

    fn target(&self) -> Option<&Target> {
        match self {
            Refusal::NotAllowed(target)
            | Refusal::Special(target, _)
            | Refusal::LocalName(target)
            | Refusal::OtherHost(target)
            | Refusal::NotFound(target)
            | Refusal::Unreachable(target, _)
            | Refusal::Certificate(target, _)
            | Refusal::Broken(target, _) => Some(target),
            Refusal::BadTarget(..) | Refusal::Scheme(_) | Refusal::Method(_) => None,
        }
    }

    /// The setting and the value in it that would allow it.
    pub fn remedy(&self) -> Option<(&'static str, String)> {
        match self {
            Refusal::NotAllowed(target) => Some(("allow", Rule::for_target(target).to_string())),
            Refusal::Special(_, Special::Metadata) => None,
            Refusal::Special(target, _) | Refusal::LocalName(target) => Some(("private", target.to_string())),
            Refusal::BadTarget(..)
            | Refusal::OtherHost(_)
            | Refusal::Scheme(_)
            | Refusal::Method(_)
            | Refusal::NotFound(_)
            | Refusal::Unreachable(..)
            | Refusal::Certificate(..)
            | Refusal::Broken(..) => None,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Refusal::BadTarget(..) | Refusal::Scheme(_) => StatusCode::BAD_REQUEST,
            Refusal::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            _ if self.is_denial() => StatusCode::FORBIDDEN,
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// The answer to the tool. The reason stands in the status line too: many tools show no more of a proxy's refusal.
    pub fn answer(&self, repo: &str) -> Response<Body> {
        let mut text = format!("bgagent egress: {self}\n");
        let mut phrase = format!("Refused by bgagent egress ({})", self.reason());
        if let Some((key, rule)) = self.remedy() {
            text += &format!(
                "To allow it, the operator adds {rule:?} to `{key}` under [egress], or under [repos.{repo:?}.egress], in bgagent.toml.\n"
            );
            phrase = format!("Refused by bgagent egress: {rule} is not in egress.{key}");
        }
        let mut answer = Response::new(Body::from(text));
        *answer.status_mut() = self.status();
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        answer.headers_mut().insert(header::CONTENT_TYPE, plain);
        if let Ok(phrase) = ReasonPhrase::try_from(phrase) {
            answer.extensions_mut().insert(phrase);
        }
        answer
    }

    fn event(&self) -> NewEvent {
        let (host, port) = match (self, self.target()) {
            (_, Some(target)) => (Some(target.host.to_string()), Some(target.port)),
            (Refusal::BadTarget(text, _), None) => {
                (Some(preview(&text.escape_default().to_string(), 200)), None)
            }
            (_, None) => (None, None),
        };
        let address = match self {
            Refusal::Special(_, special) => Some(special.as_str()),
            _ => None,
        };
        NewEvent::new(
            EventKind::EgressDenied,
            json!({
                "host": host, "port": port, "reason": self.reason(), "address": address,
                "rule": self.remedy().map(|(_, rule)| rule),
            }),
        )
    }
}

/// What was told of an attempt: each thing once, and no more than a record can bear.
#[derive(Debug, Default)]
pub struct Told {
    seen: HashSet<String>,
}

/// Something to tell.
#[derive(Debug)]
pub enum Tell<'a> {
    /// A rule allowed a host.
    Allowed(&'a Target, &'a str),
    /// None did, and it was let through.
    Observed(&'a Target),
    /// It was refused.
    Denied(&'a Refusal),
}

impl Told {
    /// The event for it, unless it was told before or too much was.
    pub fn once(&mut self, tell: &Tell<'_>) -> Option<NewEvent> {
        let (key, event) = match tell {
            Tell::Allowed(target, rule) => (
                format!("allowed-{target}"),
                NewEvent::new(
                    EventKind::EgressAllowed,
                    json!({ "host": target.host.to_string(), "port": target.port, "rule": rule }),
                ),
            ),
            Tell::Observed(target) => (
                format!("observed-{target}"),
                NewEvent::new(
                    EventKind::EgressObserved,
                    json!({
                        "host": target.host.to_string(), "port": target.port, "reason": "not_allowed",
                        "rule": Rule::for_target(target).to_string(),
                    }),
                ),
            ),
            Tell::Denied(refusal) => {
                let what = refusal.target().map(ToString::to_string).unwrap_or_default();
                (format!("denied-{}-{what}", refusal.reason()), refusal.event())
            }
        };
        if self.seen.contains(&key) || self.seen.len() > limit::EGRESS_EVENTS_PER_ATTEMPT_MAX {
            return None;
        }
        let last = self.seen.len() == limit::EGRESS_EVENTS_PER_ATTEMPT_MAX;
        self.seen.insert(key.clone());
        let (key, event) = if last {
            let more = json!({ "reason": "more", "limit": limit::EGRESS_EVENTS_PER_ATTEMPT_MAX });
            ("more".to_owned(), NewEvent::new(EventKind::EgressDenied, more))
        } else {
            (key, event)
        };
        // A key of fixed length: host names are long.
        let key = hex::encode(&<sha2::Sha256 as sha2::Digest>::digest(key.as_bytes())[..16]);
        Some(NewEvent { client_key: Some(format!("gw-egress-{key}")), ..event })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        Target::parse(text, Some(443)).unwrap()
    }

    #[test]
    fn a_refusal_names_what_would_allow_it() {
        let of = |refusal: Refusal| refusal.remedy().map(|(key, rule)| format!("{key} {rule}"));
        assert_eq!(of(Refusal::NotAllowed(target("a.example"))).as_deref(), Some("allow a.example"));
        assert_eq!(
            of(Refusal::NotAllowed(target("a.example:8443"))).as_deref(),
            Some("allow a.example:8443")
        );
        let special = |special| of(Refusal::Special(target("db.example"), special));
        assert_eq!(special(Special::Private).as_deref(), Some("private db.example:443"));
        assert_eq!(special(Special::Metadata), None);
    }

    #[test]
    fn each_thing_is_told_once_and_not_too_many() {
        let mut told = Told::default();
        let a = target("a.example");
        assert!(told.once(&Tell::Allowed(&a, "a.example")).is_some());
        assert!(told.once(&Tell::Allowed(&a, "a.example")).is_none());
        assert!(told.once(&Tell::Denied(&Refusal::NotAllowed(a.clone()))).is_some());
        let hosts = (0..300).map(|n| target(&format!("h{n}.example")));
        let events: Vec<NewEvent> = hosts.filter_map(|h| told.once(&Tell::Observed(&h))).collect();
        assert_eq!(events.len(), limit::EGRESS_EVENTS_PER_ATTEMPT_MAX - 2 + 1);
        assert_eq!(events.last().unwrap().metadata["reason"], "more");
        let bad = Refusal::BadTarget("a\u{1b}[31m".repeat(200), BadTarget::Character);
        let event = Told::default().once(&Tell::Denied(&bad)).unwrap();
        assert!(event.metadata["host"].as_str().unwrap().len() <= 200);
        assert!(!event.metadata.to_string().contains('\u{1b}'));
    }
}
