//! What lets a watcher in is looked at again while it watches: a token ends, a key is revoked, a team changes.

use axum::http::{HeaderMap, header};
use domain::Task;
use domain::access::{Purpose, Scope};
use protocol::rest::ErrorCode;

use super::{ApiError, App, Caller};
use crate::identity::Denied;

/// The credential that a watcher came with. It is a secret, and leaves this only to be verified.
#[derive(Clone)]
pub(super) struct Ticket {
    headers: HeaderMap,
    user: domain::UserId,
}

impl Ticket {
    /// Of this caller, by the headers they came with.
    pub(super) fn of(caller: &Caller, headers: &HeaderMap) -> Ticket {
        let mut kept = HeaderMap::new();
        for name in ["x-api-key", header::AUTHORIZATION.as_str()] {
            if let (Ok(name), Some(value)) = (header::HeaderName::try_from(name), headers.get(name)) {
                kept.insert(name, value.clone());
            }
        }
        Ticket { headers: kept, user: caller.user.clone() }
    }

    /// Why the watcher may not go on watching this task; `None` while they may, and while it cannot be told.
    pub(super) async fn lost(&self, app: &App, task: &Task) -> Option<ApiError> {
        let gone = |why: &str| ApiError::new(ErrorCode::Unauthorized, why);
        let identity = match app.keys().identify(&self.headers, app.orchestrator().now()).await {
            Ok(Some(identity)) if identity.user == self.user => identity,
            Ok(Some(_) | None) => return Some(gone("the credential is not good any more")),
            Err(Denied::Unavailable(_)) => return None,
            Err(denied @ (Denied::Refused(_) | Denied::Forbidden(_))) => return Some(denied.into()),
        };
        let caller = Caller::new(identity, app.teams(), Scope::TasksRead);
        let reaches = caller.reach(app.teams(), &task.user).is_some_and(|most| most >= Purpose::Read);
        (!caller.scopes.has(Scope::TasksRead) || !reaches)
            .then(|| ApiError::new(ErrorCode::Forbidden, "this task is not yours to watch any more"))
    }
}
