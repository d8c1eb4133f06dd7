//! Who may call which route: one table, and the guard before every handler that reads it.
//!
//! A route that is in the API's description and not in the table is closed to everybody.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use domain::access::{self, Authenticated, Purpose, Scope, Scopes, Teams};
use domain::{Identity, Role, UserId};
use protocol::rest::ErrorCode;
use store::AuditRecord;
use tracing::error;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, ResponseBuilder};

use super::{ApiError, App};
use crate::audit;
use crate::identity::{Credential, Denied};
use crate::login::At;
use crate::rate::{self, Class};

/// What a request must bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: what it answers holds nothing of anybody.
    Nothing,
    /// A signature, which the handler checks.
    Signature,
    /// A caller, whoever it is.
    Anybody,
    /// A caller who may use this.
    Scope(Scope),
}

use Needs::{Anybody, Nothing, Scope as To, Signature};

/// When to ask again who cannot be told apart now, in seconds.
const UNAVAILABLE_RETRY_S: u64 = 10;

/// Every route. Those of `/v1/tasks/{task_id}` with a purpose to steer are refused on a task that is only shared to be
/// looked at, whatever their handler does.
pub const ROUTES: &[(&str, &str, Needs)] = &[
    ("GET", "/v1/health", Nothing),
    ("GET", "/v1/ready", Nothing),
    ("GET", "/v1/openapi.json", Nothing),
    ("GET", "/metrics", Nothing),
    ("GET", "/v1/identity", Nothing),
    ("GET", "/v1/whoami", Anybody),
    ("POST", "/v1/tasks", To(Scope::TasksCreate)),
    ("GET", "/v1/tasks", To(Scope::TasksRead)),
    ("GET", "/v1/tasks/{task_id}", To(Scope::TasksRead)),
    ("DELETE", "/v1/tasks/{task_id}", To(Scope::TasksCancel)),
    ("GET", "/v1/tasks/{task_id}/events", To(Scope::TasksRead)),
    ("GET", "/v1/tasks/{task_id}/stream", To(Scope::TasksRead)),
    ("POST", "/v1/tasks/{task_id}/stream", To(Scope::TasksRead)),
    ("GET", "/v1/tasks/{task_id}/pull-request", To(Scope::TasksRead)),
    ("GET", "/v1/tasks/{task_id}/trace", To(Scope::TasksRead)),
    ("GET", "/v1/tasks/{task_id}/replay", To(Scope::TasksRead)),
    ("POST", "/v1/tasks/{task_id}/nudge", To(Scope::TasksSteer)),
    ("POST", "/v1/tasks/{task_id}/asks", To(Scope::TasksSteer)),
    ("GET", "/v1/tasks/{task_id}/asks", To(Scope::TasksRead)),
    ("GET", "/v1/tasks/{task_id}/asks/{ask_id}", To(Scope::TasksRead)),
    ("POST", "/v1/tasks/{task_id}/pause", To(Scope::TasksSteer)),
    ("POST", "/v1/tasks/{task_id}/resume", To(Scope::TasksSteer)),
    ("POST", "/v1/tasks/{task_id}/retry", To(Scope::TasksSteer)),
    ("GET", "/v1/usage", To(Scope::UsageRead)),
    ("GET", "/v1/admin/obligations", To(Scope::ServerManage)),
    ("GET", "/v1/admin/sessions", To(Scope::ServerManage)),
    ("POST", "/v1/admin/purge", To(Scope::ServerManage)),
    ("POST", "/v1/webhooks", To(Scope::WebhooksManage)),
    ("GET", "/v1/webhooks", To(Scope::WebhooksManage)),
    ("DELETE", "/v1/webhooks/{webhook_id}", To(Scope::WebhooksManage)),
    ("POST", "/v1/webhooks/{webhook_id}/rotate", To(Scope::WebhooksManage)),
    ("POST", "/v1/tasks/{task_id}/confirm-uploads", To(Scope::TasksCreate)),
    ("POST", "/v1/uploads", Signature),
    ("POST", "/v1/webhooks/tasks", Signature),
    ("GET", "/v1/objects", Signature),
    ("GET", "/v1/audit", To(Scope::AuditRead)),
    ("POST", "/v1/api-keys", To(Scope::KeysManage)),
    ("GET", "/v1/api-keys", To(Scope::KeysManage)),
    ("DELETE", "/v1/api-keys/{key_id}", To(Scope::KeysManage)),
];

/// What a route needs; `None` when it has no row.
pub fn needs(method: &str, path: &str) -> Option<Needs> {
    // HEAD is GET without its body.
    let method = if method == "HEAD" { "GET" } else { method };
    ROUTES.iter().find(|(m, p, _)| *m == method && *p == path).map(|(.., needs)| *needs)
}

/// The caller, authenticated, and allowed to use the route.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who.
    pub user: UserId,
    /// What they are here.
    pub role: Role,
    /// The teams that they are in, of those that are configured.
    pub teams: BTreeSet<String>,
    /// What they may do: by their role, and by the key they came with.
    pub scopes: Scopes,
    /// How they showed who they are.
    pub by: Authenticated,
    /// What the route does to a task.
    pub purpose: Purpose,
}

impl Caller {
    /// Somebody on a route that needs `scope`.
    pub fn new(identity: Identity, teams: &Teams, scope: Scope) -> Caller {
        Caller {
            scopes: identity.allowed(),
            teams: teams.of(&identity.user, &identity.teams),
            user: identity.user,
            role: identity.role,
            by: identity.by,
            purpose: scope.purpose(),
        }
    }

    /// The most they may want of a task of `of`; `None`: for them there is no such task.
    pub fn reach(&self, teams: &Teams, of: &UserId) -> Option<Purpose> {
        access::reach(&self.user, self.role, &self.teams, teams, of)
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    /// The guard has put it there.
    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Caller, ApiError> {
        parts.extensions.get().cloned().ok_or_else(ApiError::unauthorized)
    }
}

/// The routes that nobody decided about.
#[derive(Debug, Clone, Default)]
pub(super) struct Undecided(BTreeSet<(String, String)>);

impl Undecided {
    /// Those of the description that have no row.
    pub(super) fn of(description: &OpenApi) -> Undecided {
        let all = description.paths.paths.iter().flat_map(|(path, item)| {
            operations(item).map(|(method, _)| (method.as_str().to_owned(), path.clone()))
        });
        Undecided(all.filter(|(method, path)| needs(method, path).is_none()).collect())
    }
}

/// What a request made or changed, for the audit log: handlers that make something put it beside their answer.
#[derive(Debug, Clone)]
pub struct Object(pub String);

/// Before every handler: who calls, and may they. After it: what they did.
pub(super) async fn guard(
    State((app, undecided)): State<(App, Undecided)>,
    request: Request,
    next: Next,
) -> Response {
    let (deed, door) = (Deed::of(&request), Door::of(&app, &request));
    let (who, response) = match admit(&app, &undecided, request).await {
        Ok(request) => {
            let caller = request.extensions().get::<Caller>().map(|c| (c.user.clone(), c.by.clone()));
            if let Some((user, by)) = &caller {
                door.opened(&app, user, by);
            }
            let response = next.run(request).await;
            // A delivery shows whose it is by its signature, which its handler checks.
            let signed = response.extensions().get::<Identity>().map(|i| (i.user.clone(), i.by.clone()));
            let response = match signed.is_none() && response.status() == StatusCode::UNAUTHORIZED {
                true => door.closed(&app, None).map_or(response, IntoResponse::into_response),
                false => response,
            };
            (caller.or(signed), response)
        }
        Err((None, refused)) => {
            let slow = door.closed(&app, Some(&refused));
            (None, slow.unwrap_or(refused).into_response())
        }
        Err((Some(caller), refused)) => (Some((caller.user, caller.by)), refused.into_response()),
    };
    if let (Some(deed), Some((actor, by))) = (deed, who) {
        let at_once = deed.at_once;
        deed.note(&app, actor, &by, &response);
        if at_once && let Err(failure) = app.trail().flush(app.orchestrator().store()).await {
            error!(error = %failure, "the audit log could not be written; its lines wait");
        }
    }
    response
}

/// Where a request comes in, and what it shows at it.
struct Door {
    from: Option<IpAddr>,
    /// Whether it brings something that may be wrong.
    shows: bool,
}

impl Door {
    fn of(app: &App, request: &Request) -> Door {
        let method = request.method().as_str();
        let route = request.extensions().get::<MatchedPath>().and_then(|path| needs(method, path.as_str()));
        Door {
            from: app.settings().proxies.client(request.extensions(), request.headers()),
            shows: matches!(route, Some(Signature)) || Credential::of(request.headers()).is_some(),
        }
    }

    fn at(&self, app: &App) -> Option<At> {
        let request = super::request_id()?;
        Some(At { request, now: app.orchestrator().now(), from: self.from })
    }

    /// Somebody known came in.
    fn opened(&self, app: &App, user: &UserId, by: &Authenticated) {
        let line = self.at(app).and_then(|at| app.logins().accepted(user, by, at));
        note(app, line);
    }

    /// What was shown is not good. `refused` is the answer where it is known why; the answer of this, if any, is given
    /// instead: the address has tried too often.
    fn closed(&self, app: &App, refused: Option<&ApiError>) -> Option<ApiError> {
        let denied =
            refused.is_none_or(|why| matches!(why.code(), ErrorCode::Unauthorized | ErrorCode::Forbidden));
        if !self.shows || !denied {
            return None;
        }
        metrics::counter!("bgagent_credentials_refused_total").increment(1);
        let slow = self.from.and_then(|from| app.strangers().failed(from, app.orchestrator().now()).err());
        if let Some(wait) = slow {
            return Some(too_many("requests with a credential that is not good", wait));
        }
        if let Some(why) = refused {
            let status = why.code().http_status();
            note(app, self.at(app).and_then(|at| app.logins().refused(why.message(), status, at)));
        }
        None
    }
}

/// Adds a line without an id.
fn note(app: &App, line: Option<AuditRecord>) {
    if let Some(mut line) = line {
        line.id = app.trail().id(line.request, line.at);
        app.trail().add(line);
    }
}

/// A request that changes something, if it is let.
struct Deed {
    action: String,
    object: Option<String>,
    /// Whether its line is stored before it is answered.
    at_once: bool,
}

impl Deed {
    fn of(request: &Request) -> Option<Deed> {
        let method = request.method().as_str();
        if !matches!(method, "POST" | "PUT" | "PATCH" | "DELETE") {
            return None;
        }
        let route = request.extensions().get::<MatchedPath>()?.as_str();
        let needs = needs(method, route)?;
        if matches!(needs, To(scope) if scope.purpose() == Purpose::Read) {
            return None;
        }
        // The id in the path, in the form in which ids are kept.
        let mut parts = route.split('/').zip(request.uri().path().split('/'));
        let id = parts.find(|(part, _)| part.starts_with('{')).map(|(_, id)| id.to_ascii_uppercase());
        let keys = matches!(needs, To(Scope::KeysManage | Scope::WebhooksManage | Scope::ServerManage));
        Some(Deed {
            action: audit::action(method, route),
            object: id.map(|id| domain::event::preview(&id, 40)),
            at_once: keys,
        })
    }

    fn note(self, app: &App, actor: UserId, by: &Authenticated, response: &Response) {
        // What is refused because there is too much of it would fill the log.
        let (Some(request), false) =
            (super::request_id(), response.status() == StatusCode::TOO_MANY_REQUESTS)
        else {
            return;
        };
        let now = app.orchestrator().now();
        let made = response.extensions().get::<Object>().map(|object| object.0.clone());
        app.trail().add(AuditRecord {
            id: app.trail().id(request, now),
            at: now,
            actor,
            authenticated_by: by.kind().into(),
            credential: by.which(),
            action: self.action,
            object: made.or(self.object),
            status: response.status().as_u16(),
            request,
        });
    }
}

/// Takes the request out of the caller's bucket.
pub(super) fn within_rate(
    app: &App,
    user: &UserId,
    by: &Authenticated,
    class: Class,
) -> Result<(), ApiError> {
    let Some(bucket) = rate::bucket(user.as_str(), by) else { return Ok(()) };
    let taken = app.limiter().take(&bucket, class, app.orchestrator().now());
    taken.map_err(|wait| too_many("requests of this kind", wait))
}

fn too_many(what: &str, wait: Duration) -> ApiError {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    metrics::counter!("bgagent_rate_limited_total").increment(1);
    let message = format!("too many {what}; try again in {seconds} s");
    ApiError::new(ErrorCode::RateLimitExceeded, message).retry_after(seconds)
}

/// The request with its caller, or why not, with the caller where it is known.
async fn admit(
    app: &App,
    undecided: &Undecided,
    mut request: Request,
) -> Result<Request, (Option<Caller>, ApiError)> {
    // What no route serves is answered by the fallbacks.
    let Some(path) = request.extensions().get::<MatchedPath>() else { return Ok(request) };
    let scope = match needs(request.method().as_str(), path.as_str()) {
        Some(Nothing | Signature) => return Ok(request),
        Some(Anybody) => None,
        Some(To(scope)) => Some(scope),
        None => {
            let route = (request.method().as_str().to_owned(), path.as_str().to_owned());
            return match undecided.0.contains(&route) {
                true => Err((None, ApiError::new(ErrorCode::Forbidden, "this route is closed to everybody"))),
                // A method that the route does not have.
                false => Ok(request),
            };
        }
    };
    let identity = app.keys().identify(request.headers(), app.orchestrator().now()).await;
    let identity = identity.map_err(ApiError::from).and_then(|who| who.ok_or_else(ApiError::unauthorized));
    // Who somebody is, is read.
    let used = scope.unwrap_or(Scope::TasksRead);
    let caller = Caller::new(identity.map_err(|why| (None, why))?, app.teams(), used);
    let class = Class::of(used, request.method().as_str());
    if let Err(slow) = within_rate(app, &caller.user, &caller.by, class) {
        return Err((Some(caller), slow));
    }
    if let Some(scope) = scope.filter(|scope| !caller.scopes.has(*scope)) {
        let why = forbidden(&caller, scope);
        return Err((Some(caller), why));
    }
    request.extensions_mut().insert(caller);
    Ok(request)
}

fn forbidden(caller: &Caller, scope: Scope) -> ApiError {
    let why = match caller.role.scopes().has(scope) {
        true => {
            let has: Vec<_> = caller.scopes.iter().map(Scope::as_str).collect();
            format!("the key has {}; use one with that scope", or_none(&has.join(", ")))
        }
        false => format!("{} is a {} on this server, and may not", caller.user, caller.role),
    };
    ApiError::new(ErrorCode::Forbidden, format!("this needs the scope {scope}: {why}"))
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "no scope" } else { text }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> ApiError {
        match denied {
            Denied::Refused(why) => ApiError::new(ErrorCode::Unauthorized, why),
            Denied::Forbidden(why) => ApiError::new(ErrorCode::Forbidden, why),
            Denied::Unavailable(why) => {
                ApiError::new(ErrorCode::ServiceUnavailable, why).retry_after(UNAVAILABLE_RETRY_S)
            }
        }
    }
}

/// Completes the description: whatever needs a caller may be refused by the guard.
pub(super) fn describe(description: &mut OpenApi) {
    for (path, item) in &mut description.paths.paths {
        for (method, operation) in operations_mut(item) {
            if let Some(To(_) | Anybody) = needs(method.as_str(), path) {
                refusal(operation, "403", "The caller may not");
                refusal(
                    operation,
                    "429",
                    "Too many requests of this kind; `Retry-After` says when to come again",
                );
            }
        }
    }
}

fn refusal(operation: &mut Operation, status: &str, description: &str) {
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
    let response = ResponseBuilder::new().description(description).content("application/json", body).build();
    operation.responses.responses.entry(status.to_owned()).or_insert_with(|| response.into());
}

type Item = utoipa::openapi::PathItem;

fn operations(item: &Item) -> impl Iterator<Item = (Method, &Operation)> {
    [
        (Method::GET, &item.get),
        (Method::POST, &item.post),
        (Method::PUT, &item.put),
        (Method::PATCH, &item.patch),
        (Method::DELETE, &item.delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| operation.as_ref().map(|o| (method, o)))
}

fn operations_mut(item: &mut Item) -> impl Iterator<Item = (Method, &mut Operation)> {
    [
        (Method::GET, &mut item.get),
        (Method::POST, &mut item.post),
        (Method::PUT, &mut item.put),
        (Method::PATCH, &mut item.patch),
        (Method::DELETE, &mut item.delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| operation.as_mut().map(|o| (method, o)))
}
