//! Why a task failed, who must act, and how.
//!
//! A failure is typed where it happens: a [`FailureCode`] and a detail. What people read (title, remedy, whether a retry
//! helps) comes from the one table in `failure/code.rs`. [`classify_text`] is only for messages that come from outside.

mod code;
mod text;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

pub use code::FailureCode;
pub use text::{classify_text, resource_in};

use crate::limit;

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// Credentials or permissions.
    Auth,
    /// Something could not be reached.
    Network,
    /// Too much at once.
    Concurrency,
    /// The machine, container or process of the agent.
    Compute,
    /// The agent or its work.
    Agent,
    /// A content check refused it.
    Guardrail,
    /// Settings of the repository or of the server.
    Config,
    /// A limit of time, turns or money.
    Timeout,
    /// The agent's surroundings kept it from working.
    Blocked,
    /// None of these.
    Unknown,
}

impl Category {
    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Category::Auth => "auth",
            Category::Network => "network",
            Category::Concurrency => "concurrency",
            Category::Compute => "compute",
            Category::Agent => "agent",
            Category::Guardrail => "guardrail",
            Category::Config => "config",
            Category::Timeout => "timeout",
            Category::Blocked => "blocked",
            Category::Unknown => "unknown",
        }
    }
}

/// Who must act before it can work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorClass {
    /// Nobody: the same request may succeed. Only these are retried without being asked.
    Transient,
    /// Whoever runs the server.
    Service,
    /// Whoever made the request.
    User,
}

impl ErrorClass {
    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorClass::Transient => "transient",
            ErrorClass::Service => "service",
            ErrorClass::User => "user",
        }
    }
}

/// What people and clients are told of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Classification {
    /// What kind of trouble.
    pub category: Category,
    /// A short name for it.
    pub title: &'static str,
    /// What happened.
    pub description: &'static str,
    /// What to do.
    pub remedy: String,
    /// Whether sending the task again can help.
    pub retryable: bool,
    /// Who must act.
    pub error_class: ErrorClass,
}

/// One failure: what, and the particulars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong.
    pub code: FailureCode,
    /// The particulars, at most [`limit::ERROR_MESSAGE_MAX_CHARS`]. Never a secret.
    #[serde(deserialize_with = "detail_cut")]
    pub detail: String,
    /// What it was about (a host, a secret's name, a path), spliced into the remedy.
    #[serde(default, deserialize_with = "resource_cut", skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

impl Failure {
    /// A failure with its particulars; they are cut at the bound.
    pub fn new(code: FailureCode, detail: impl Into<String>) -> Self {
        Self { code, detail: cut(detail.into(), limit::ERROR_MESSAGE_MAX_CHARS), resource: None }
    }

    /// A failure from a message of somebody else's program.
    pub fn from_text(text: &str) -> Self {
        let failure = Self::new(classify_text(text), text.trim());
        match resource_in(text) {
            Some(resource) => failure.resource(resource),
            None => failure,
        }
    }

    /// Names what it was about.
    #[must_use]
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.resource = Some(cut(resource.into(), limit::NAME_MAX_CHARS));
        self
    }

    /// What to tell people.
    pub fn classify(&self) -> Classification {
        let row = self.code.row();
        let arn = self.resource.as_deref().filter(|r| r.starts_with("arn:"));
        let remedy = match arn {
            Some(arn) if self.code == FailureCode::BlockedAuthFailure => {
                format!(
                    "Let the task's role read the secret {arn} (secretsmanager:GetSecretValue), then submit again."
                )
            }
            Some(_) | None => splice(row.remedy, self.resource.as_deref()),
        };
        Classification {
            category: row.category,
            title: row.title,
            description: row.description,
            remedy,
            retryable: row.retryable,
            error_class: row.class,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(kind) = self.code.blocked_kind() else {
            return write!(f, "{}: {}", self.code, self.detail);
        };
        write!(f, "BLOCKED[{kind}]: {}", self.detail)?;
        match &self.resource {
            Some(resource) if resource_in(&self.detail).is_none() => write!(f, " (resource: {resource})"),
            Some(_) | None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// One sentence on whether to try again.
pub fn retry_guidance(of: &Classification) -> &'static str {
    match (of.category, of.error_class, of.retryable) {
        (_, ErrorClass::Transient, _) => "This looks temporary: try the same task again.",
        (_, ErrorClass::Service, _) => {
            "Whoever runs the server must fix this first; then submit the task again."
        }
        (Category::Guardrail, ErrorClass::User, _) => "Edit the text of the request, then submit it again.",
        (_, ErrorClass::User, true) => "Add guidance (see the remedy) and try again.",
        (_, ErrorClass::User, false) => "Trying again as it is may not resolve this.",
    }
}

/// Replaces each `{fallback}` of a remedy by the resource, or by the words within when there is none.
fn splice(remedy: &str, resource: Option<&str>) -> String {
    let mut out = String::with_capacity(remedy.len());
    let mut rest = remedy;
    while let Some((before, (fallback, after))) =
        rest.split_once('{').and_then(|(before, tail)| Some((before, tail.split_once('}')?)))
    {
        out.push_str(before);
        out.push_str(resource.unwrap_or(fallback));
        rest = after;
    }
    out.push_str(rest);
    out
}

fn cut(text: String, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some(_) => crate::event::preview(&text, max),
        None => text,
    }
}

fn detail_cut<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(cut(String::deserialize(from)?, limit::ERROR_MESSAGE_MAX_CHARS))
}

fn resource_cut<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(|r| cut(r, limit::NAME_MAX_CHARS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_code_and_blocked_ones_their_kind_and_resource() {
        let plain = Failure::new(FailureCode::RepoNotGit, "/srv/x has no .git");
        assert_eq!(plain.to_string(), "REPO_NOT_GIT: /srv/x has no .git");
        let blocked = Failure::new(FailureCode::BlockedEgressDenied, "a connection was blocked")
            .resource("npm.example");
        assert_eq!(
            blocked.to_string(),
            "BLOCKED[egress_denied]: a connection was blocked (resource: npm.example)"
        );
        assert_eq!(classify_text(&blocked.to_string()), FailureCode::BlockedEgressDenied);
        assert_eq!(Failure::from_text(&blocked.to_string()).resource.as_deref(), Some("npm.example"));
    }

    #[test]
    fn details_are_cut_when_made_and_when_read() {
        let long = "ñ".repeat(5_000);
        let made = Failure::new(FailureCode::Unknown, long.clone());
        assert_eq!(made.detail.chars().count(), limit::ERROR_MESSAGE_MAX_CHARS);
        let read: Failure =
            serde_json::from_value(serde_json::json!({"code": "UNKNOWN", "detail": long, "resource": long}))
                .unwrap();
        assert_eq!(read.detail, made.detail);
        assert_eq!(read.resource.unwrap().chars().count(), limit::NAME_MAX_CHARS);
    }

    #[test]
    fn failures_round_trip_and_a_code_of_a_newer_version_is_unknown() {
        for code in FailureCode::ALL {
            let failure = Failure::new(code, "d").resource("r");
            let json = serde_json::to_value(&failure).unwrap();
            assert_eq!(json["code"], code.as_str());
            assert_eq!(serde_json::from_value::<Failure>(json).unwrap(), failure);
        }
        let newer: Failure = serde_json::from_str(r#"{"code":"FROM_THE_FUTURE","detail":"x"}"#).unwrap();
        assert_eq!(newer.code, FailureCode::Unknown);
    }

    #[test]
    fn remedies_name_the_resource_or_fall_back_to_words() {
        let named =
            Failure::new(FailureCode::BlockedEgressDenied, "").resource("crates.io").classify().remedy;
        assert!(named.contains("crates.io"), "{named}");
        for code in FailureCode::ALL {
            let plain = Failure::new(code, "").classify().remedy;
            assert!(!plain.contains(['{', '}']), "{code}: {plain}");
        }
        let arn = "arn:aws:secretsmanager:eu-west-1:1:secret:x";
        let secret = Failure::new(FailureCode::BlockedAuthFailure, "").resource(arn).classify().remedy;
        assert!(secret.contains("GetSecretValue") && secret.contains(arn), "{secret}");
    }

    #[test]
    fn guidance_follows_class_then_category() {
        let guide = |code| retry_guidance(&Failure::new(code, "").classify());
        assert!(guide(FailureCode::GithubUnreachable).contains("temporary"));
        assert!(guide(FailureCode::ModelNotConfigured).contains("server"));
        assert!(guide(FailureCode::GuardrailBlocked).contains("Edit"));
        assert!(guide(FailureCode::MaxTurns).contains("guidance"));
        assert!(guide(FailureCode::TaskNotSucceeded).contains("may not"));
    }
}
