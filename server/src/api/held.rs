//! What keys and webhooks have in common: their names, their pages, and whose they are.

use axum::extract::FromRequestParts;
use axum::extract::Path;
use axum::http::request::Parts;
use domain::{Role, UserId, limit};
use protocol::rest::{ErrorCode, Pagination};
use serde::Deserialize;
use store::Revoked;
use utoipa::IntoParams;

use super::{ApiError, App, Caller, task};

/// Which to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HeldQuery {
    /// `1` or `true`: also what was revoked.
    include_revoked: Option<String>,
    /// *Ours.* `mine`, as when absent, or, for owners, `all`.
    whose: Option<String>,
    /// Rows, 20 when absent, at most 100.
    limit: Option<String>,
    /// From the page before.
    next_token: Option<String>,
}

/// A list that was asked for.
pub(super) struct List<Id> {
    name: String,
    pub(super) user: Option<UserId>,
    pub(super) revoked: Revoked,
    pub(super) before: Option<Id>,
    pub(super) rows: u32,
}

impl HeldQuery {
    /// The list of `what` that the caller asked for.
    pub(super) fn list<Id: std::str::FromStr>(
        self,
        app: &App,
        caller: &Caller,
        what: &str,
    ) -> Result<List<Id>, ApiError> {
        let whose = self.whose.as_deref().filter(|w| !w.is_empty()).unwrap_or("mine");
        let user = match (whose, caller.role) {
            ("mine", _) => Some(caller.user.clone()),
            ("all", Role::Owner) => None,
            ("all", Role::Member | Role::Viewer) => {
                return Err(ApiError::new(ErrorCode::Forbidden, "whose=all: only owners see everybody's"));
            }
            (other, _) => {
                let other = domain::event::preview(other, 40);
                return Err(ApiError::invalid(format!("whose must be mine or all, got {other:?}")));
            }
        };
        let revoked = match self.include_revoked.as_deref() {
            Some("1" | "true") => Revoked::Shown,
            Some(_) | None => Revoked::Hidden,
        };
        let name = format!("{what}:{whose}:{}:{revoked:?}", caller.user);
        let before = match self.next_token.as_deref().filter(|t| !t.is_empty()) {
            Some(token) => Some(opened(app, &name, token)?),
            None => None,
        };
        let rows = task::rows(self.limit.as_deref(), limit::ACCESS_PAGE_DEFAULT, limit::ACCESS_PAGE_MAX);
        Ok(List { name, user, revoked, before, rows })
    }
}

impl<Id> List<Id> {
    /// Cuts what was read (one row more than asked for) to a page.
    pub(super) fn page<T>(&self, app: &App, read: &mut Vec<T>, id: impl Fn(&T) -> String) -> Pagination {
        page(app, &self.name, self.rows, read, id)
    }
}

/// The place of a page token of this list.
pub(super) fn opened<Id: std::str::FromStr>(app: &App, list: &str, token: &str) -> Result<Id, ApiError> {
    app.cursors()
        .open(list, token)
        .and_then(|place| place.parse().ok())
        .ok_or_else(|| ApiError::invalid("next_token is not a token of this list; begin again without it"))
}

/// Cuts what was read (one row more than `rows`) to a page of `list`.
pub(super) fn page<T>(
    app: &App,
    list: &str,
    rows: u32,
    read: &mut Vec<T>,
    id: impl Fn(&T) -> String,
) -> Pagination {
    let has_more = read.len() > rows as usize;
    read.truncate(rows as usize);
    let last = read.last().filter(|_| has_more);
    Pagination { next_token: last.map(|last| app.cursors().sign(list, &id(last))), has_more }
}

/// The id in a path, as text. What is no text is no id.
#[derive(Debug, Clone)]
pub struct IdPath(pub String);

impl FromRequestParts<App> for IdPath {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<IdPath, std::convert::Infallible> {
        let id = Path::<String>::from_request_parts(parts, app).await;
        Ok(IdPath(id.map_or_else(|_| String::new(), |Path(id)| id)))
    }
}

/// Whose may be changed: one's own, or, for an owner, anybody's.
pub(super) fn whose(caller: &Caller) -> Option<&UserId> {
    match caller.role {
        Role::Owner => None,
        Role::Member | Role::Viewer => Some(&caller.user),
    }
}

/// A name: 1 to 64 letters, digits, spaces, dashes and underscores, with a letter or digit at both ends. *ABCA*'s rule.
pub(super) fn name(given: Option<String>) -> Result<String, ApiError> {
    let given = given.ok_or_else(|| ApiError::invalid("name is required: say what it is for"))?;
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b' ' || b == b'_' || b == b'-';
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = given.as_bytes();
    let good = bytes.len() <= limit::ACCESS_NAME_MAX_CHARS
        && bytes.iter().copied().all(inner)
        && ends(bytes.first())
        && ends(bytes.last());
    match good {
        true => Ok(given),
        false => Err(ApiError::invalid(format!(
            "name must be 1 to {} letters, digits, spaces, dashes and underscores, and begin and end with a letter or digit",
            limit::ACCESS_NAME_MAX_CHARS
        ))),
    }
}

/// 128 bits of randomness for a new id.
pub(super) fn random() -> Result<u128, ApiError> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random).map_err(no_randomness)?;
    Ok(u128::from_le_bytes(random))
}

/// The system's generator failed: no secret is made without it.
pub(super) fn no_randomness(failure: getrandom::Error) -> ApiError {
    tracing::error!(error = %failure, "no randomness");
    ApiError::new(ErrorCode::InternalError, "the server could not make a secret; its log says why")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for good in ["a", "7", "ab", "CI of team-a_1", &"x".repeat(64)] {
            assert_eq!(name(Some(good.to_owned())).unwrap(), good);
        }
        for bad in ["", " ", "-", "a ", " a", "a-", "_a", "a.b", "ä", "a\nb", "a\0", "<b>", &"x".repeat(65)]
        {
            let error = format!("{:?}", name(Some(bad.to_owned())).unwrap_err());
            assert!(error.contains("name"), "{bad:?}: {error}");
        }
        assert!(name(None).is_err());
    }
}
