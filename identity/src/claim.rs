//! The rules for what a token says. Pure: the time is an argument, and nothing here looks at a signature.

use std::collections::BTreeSet;
use std::fmt;

use domain::Role;
use domain::event::preview;
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::settings::{Required, Settings};

/// How far a provider's clock and ours may be apart.
pub const CLOCK_SKEW_S: i64 = 60;
/// A user's name is not longer.
const USER_MAX_CHARS: usize = 255;
/// Nobody is in more groups.
const GROUPS_MAX: usize = 1_000;
/// Groups shown to somebody who has no role.
const GROUPS_SHOWN: usize = 10;

/// Somebody, as their provider tells of them and the configuration reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Who: the prefix and the claim.
    pub user: String,
    /// What to call them; for people only.
    pub name: Option<String>,
    /// The most that one of their groups gives.
    pub role: Role,
    /// Their teams, by way of their groups.
    pub teams: BTreeSet<String>,
    /// Who says so.
    pub issuer: String,
    /// Until when the token is good.
    pub expires_at: Timestamp,
}

/// Why a token does not let anybody in. No text of these holds a part of the token but names and times.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Refusal {
    #[error("the token has {bytes} bytes and may have {max}; ask for fewer groups or scopes", max = crate::token::TOKEN_MAX_BYTES)]
    TooLong { bytes: usize },
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    #[error(
        "the token's alg is {name:?}; RS256, ES256 and EdDSA are accepted: set one of them for the client at its provider"
    )]
    Algorithm { name: String },
    #[error("the token was issued by {issuer:?}, which is no provider of this server")]
    Issuer { issuer: String },
    #[error("the token has expired, at {at}; sign in again with `bgagent login`")]
    Expired { at: Timestamp },
    #[error("the token is not valid yet, only from {from}; is the clock right?")]
    NotYetValid { from: Timestamp },
    #[error(
        "the token is for {audience}, and not for this server; use the client {client_id:?}, or have the provider add an audience of this server"
    )]
    Audience { audience: String, client_id: String },
    #[error("the token is a {kind} token; an ID or access token is needed")]
    Kind { kind: String },
    #[error("the token has no claim {claim:?}; ask for a scope that brings it, or have the provider add it")]
    Missing { claim: String },
    #[error("the token's claim {claim:?} must be {must}")]
    Type { claim: String, must: &'static str },
    #[error("the token's claim {claim:?} must be {must}, as this server requires it")]
    Required { claim: String, must: String },
    #[error(
        "the token is signed with a key that its provider does not publish (any more); sign in again with `bgagent login`"
    )]
    UnknownKey,
    #[error("the token's signature is wrong")]
    Signature,
    #[error(
        "{user} is signed in, but has no role here: {groups}. Ask whoever runs this server to give one of them a role ([identity.oidc])"
    )]
    NoRole { user: String, groups: Groups },
}

/// Somebody's groups, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups(pub BTreeSet<String>);

impl fmt::Display for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the token tells of no group");
        }
        let shown: Vec<_> = self.0.iter().take(GROUPS_SHOWN).map(|group| preview(group, 60)).collect();
        let more = if self.0.len() > GROUPS_SHOWN { ", ..." } else { "" };
        write!(f, "their groups are {}{more}", shown.join(", "))
    }
}

type Claims = Map<String, Value>;

/// The issuer that a token names, with which its provider is found.
pub fn issuer(claims: &Claims) -> Result<&str, Refusal> {
    text(claims, "iss")
}

/// Whether the token is in force and meant for us; everything but who it is of. `Ok` is when it expires.
pub fn admissible(settings: &Settings, claims: &Claims, now: Timestamp) -> Result<Timestamp, Refusal> {
    let named = issuer(claims)?;
    if named != settings.issuer {
        return Err(Refusal::Issuer { issuer: preview(named, 200) });
    }
    let expires = time(claims, "exp")?.ok_or_else(|| missing("exp"))?;
    let skewed = |seconds: i64| now.as_second().saturating_add(seconds);
    if skewed(-CLOCK_SKEW_S) >= expires.as_second() {
        return Err(Refusal::Expired { at: expires });
    }
    for claim in ["nbf", "iat"] {
        match time(claims, claim)? {
            Some(from) if from.as_second() > skewed(CLOCK_SKEW_S) => {
                return Err(Refusal::NotYetValid { from });
            }
            Some(_) | None => (),
        }
    }
    kind(claims)?;
    audience(settings, claims)?;
    Ok(expires)
}

/// Whose the token is and what they are here, of a token that is signed and [`admissible`].
pub fn person(
    provider: &str,
    settings: &Settings,
    claims: &Claims,
    expires_at: Timestamp,
) -> Result<Person, Refusal> {
    for (claim, required) in &settings.required {
        let found = lookup(claims, claim).ok_or_else(|| missing(claim))?;
        if !satisfies(found, required) {
            return Err(Refusal::Required { claim: claim.clone(), must: must(required) });
        }
    }
    let user = user(provider, settings, claims)?;
    let groups = groups(settings, claims)?;
    let in_one_of = |list: &[String]| list.iter().any(|group| groups.contains(group));
    let by_group = [
        (Role::Owner, &settings.owners),
        (Role::Member, &settings.members),
        (Role::Viewer, &settings.viewers),
    ];
    let by_group = by_group.into_iter().find(|(_, list)| in_one_of(list)).map(|(role, _)| role);
    let Some(role) = by_group.max(settings.everyone) else {
        return Err(Refusal::NoRole { user, groups: Groups(groups) });
    };
    Ok(Person {
        user,
        name: name(claims),
        role,
        teams: settings.teams.iter().filter(|(g, _)| groups.contains(*g)).map(|(_, t)| t.clone()).collect(),
        issuer: settings.issuer.clone(),
        expires_at,
    })
}

/// Providers sign other things with the same key: a refresh token must not pass for an access token. Cognito says it in
/// `token_use`, Keycloak in `typ`.
fn kind(claims: &Claims) -> Result<(), Refusal> {
    let told = [("token_use", ["id", "access"]), ("typ", ["ID", "Bearer"])];
    for (claim, good) in told {
        match claims.get(claim) {
            None => (),
            Some(Value::String(kind)) if good.contains(&kind.as_str()) => (),
            Some(Value::String(kind)) => return Err(Refusal::Kind { kind: preview(kind, 40) }),
            Some(_) => return Err(type_of(claim, "a text")),
        }
    }
    Ok(())
}

/// An ID token is for its client. An access token is for the audience it names, and only where it names none (Cognito) for
/// the client it was made for: a token made by our client for another server must not open this one.
fn audience(settings: &Settings, claims: &Claims) -> Result<(), Refusal> {
    let wrong = |audience: String| Refusal::Audience {
        audience: preview(&audience, 200),
        client_id: settings.client_id.clone(),
    };
    let audiences = match claims.get("aud") {
        None => {
            let client = text(claims, "client_id").map_err(|_| missing("aud"))?;
            return if client == settings.client_id { Ok(()) } else { Err(wrong(client.to_owned())) };
        }
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(several)) => several
            .iter()
            .map(|one| one.as_str().ok_or_else(|| type_of("aud", "a text or a list of texts")))
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(type_of("aud", "a text or a list of texts")),
    };
    if audiences.iter().any(|audience| settings.audiences.iter().any(|ours| ours == audience)) {
        return Ok(());
    }
    if !audiences.contains(&settings.client_id.as_str()) {
        return Err(wrong(audiences.join(", ")));
    }
    // OpenID Connect Core, 3.1.3.7: who asked for it must be the client, too.
    match claims.get("azp") {
        None => Ok(()),
        Some(Value::String(party)) if *party == settings.client_id => Ok(()),
        Some(Value::String(party)) => Err(wrong(format!("the client {party}"))),
        Some(_) => Err(type_of("azp", "a text")),
    }
}

fn user(provider: &str, settings: &Settings, claims: &Claims) -> Result<String, Refusal> {
    let claim = settings.user_claim.as_str();
    let told = match lookup(claims, claim) {
        None => return Err(missing(claim)),
        Some(Value::String(told)) => told,
        Some(_) => return Err(type_of(claim, "a text")),
    };
    // Whoever may write any address into their account must not become its owner here.
    if claim == "email" && claims.get("email_verified") != Some(&Value::Bool(true)) {
        return Err(Refusal::Required {
            claim: "email_verified".into(),
            must: "true, because users are told apart by email".into(),
        });
    }
    let plain = !told.trim().is_empty() && told.trim() == told && !told.chars().any(char::is_control);
    if !plain || told.chars().count() > USER_MAX_CHARS {
        return Err(type_of(claim, "1 to 255 characters, without control characters and spaces around them"));
    }
    Ok(match &settings.user_prefix {
        Some(prefix) => format!("{prefix}{told}"),
        None => format!("{provider}:{told}"),
    })
}

/// A list of texts, or one; none at all is no group.
fn groups(settings: &Settings, claims: &Claims) -> Result<BTreeSet<String>, Refusal> {
    let claim = settings.groups_claim.as_str();
    let wrong = || type_of(claim, "a list of texts");
    match lookup(claims, claim) {
        None | Some(Value::Null) => Ok(BTreeSet::new()),
        Some(Value::String(one)) => Ok(BTreeSet::from([one.clone()])),
        Some(Value::Array(several)) if several.len() <= GROUPS_MAX => {
            several.iter().map(|one| one.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Some(Value::Array(_)) => Err(type_of(claim, "a list of at most 1000 groups")),
        Some(_) => Err(wrong()),
    }
}

fn name(claims: &Claims) -> Option<String> {
    let told = ["name", "preferred_username", "email"].into_iter();
    let told = told.filter_map(|claim| claims.get(claim)?.as_str()).find(|name| !name.trim().is_empty());
    told.map(|name| preview(name.trim(), 100))
}

/// A claim by its name, which may hold dots, else by its path.
fn lookup<'a>(claims: &'a Claims, path: &str) -> Option<&'a Value> {
    if let Some(found) = claims.get(path) {
        return Some(found);
    }
    let mut names = path.split('.');
    let first = claims.get(names.next()?)?;
    names.try_fold(first, |found, name| found.as_object()?.get(name))
}

fn satisfies(found: &Value, required: &Required) -> bool {
    if let Value::Array(several) = found {
        return several.iter().any(|one| !one.is_array() && satisfies(one, required));
    }
    match required {
        Required::Flag(flag) => found.as_bool() == Some(*flag),
        Required::Number(number) => found.as_i64() == Some(*number),
        Required::Text(text) => found.as_str() == Some(text),
        Required::AnyOf(texts) => found.as_str().is_some_and(|found| texts.iter().any(|t| t == found)),
    }
}

fn must(required: &Required) -> String {
    match required {
        Required::Flag(flag) => flag.to_string(),
        Required::Number(number) => number.to_string(),
        Required::Text(text) => format!("{text:?}"),
        Required::AnyOf(texts) => format!("one of {}", texts.join(", ")),
    }
}

fn text<'a>(claims: &'a Claims, claim: &str) -> Result<&'a str, Refusal> {
    match claims.get(claim) {
        None => Err(missing(claim)),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(type_of(claim, "a text")),
    }
}

/// A NumericDate: seconds since 1970, perhaps with a fraction, which is cut off.
fn time(claims: &Claims, claim: &str) -> Result<Option<Timestamp>, Refusal> {
    let wrong = || type_of(claim, "a time in seconds since 1970");
    let seconds = match claims.get(claim) {
        None => return Ok(None),
        Some(Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(seconds), _) => seconds,
            #[expect(clippy::cast_possible_truncation, reason = "a cast of a float saturates")]
            (None, Some(seconds)) => seconds as i64,
            (None, None) => return Err(wrong()),
        },
        Some(_) => return Err(wrong()),
    };
    Timestamp::from_second(seconds).map(Some).map_err(|_| wrong())
}

fn missing(claim: &str) -> Refusal {
    Refusal::Missing { claim: claim.to_owned() }
}

fn type_of(claim: &str, must: &'static str) -> Refusal {
    Refusal::Type { claim: claim.to_owned(), must }
}

#[cfg(test)]
mod tests;
