//! `/v1/api-keys`: make, list, revoke. Not open to API keys themselves: a stolen one could make itself another.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use domain::access::{Scope, Scopes};
use domain::{ApiKeyId, Role, UserId, limit};
use jiff::Timestamp;
use protocol::access::*;
use protocol::rest::*;
use secrecy::ExposeSecret as _;
use store::{ApiKeyRecord, OwnedFilter, Touched};

use super::access::Object;
use super::body::Body;
use super::held::{self, HeldQuery, IdPath};
use super::{ApiError, App, Caller, wire};
use crate::identity::api_key;

/// The last moment that every database keeps exactly.
const EXPIRES_BEFORE: &str = "2262-01-01T00:00:00Z";

/// Makes an API key. The answer is the only place that its secret is ever in.
#[utoipa::path(post, path = "/v1/api-keys", request_body = CreateApiKeyRequest,
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 201, body = Data<CreatedApiKey>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 408, body = ErrorBody), (status = 413, body = ErrorBody), (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    body: Result<Body<CreateApiKeyRequest>, ApiError>,
) -> Result<(StatusCode, Extension<Object>, Json<Data<CreatedApiKey>>), ApiError> {
    let now = app.orchestrator().now();
    let asked = Asked::read(body?.0, &caller, now)?;
    let (secret, hash) = api_key::new_secret().map_err(held::no_randomness)?;
    let record = ApiKeyRecord {
        id: ApiKeyId::from_parts(now, held::random()?),
        user: asked.user,
        role: asked.role,
        name: asked.name,
        hash,
        scopes: asked.scopes,
        created_at: now,
        updated_at: now,
        expires_at: asked.expires_at,
        revoked_at: None,
        last_used_at: None,
    };
    app.orchestrator().store().api_key_create(record.clone()).await?;
    let data = CreatedApiKey {
        key_id: record.id.to_string(),
        key: api_key::written(record.id, &secret).expose_secret().to_owned(),
        scopes: names(&record.scopes),
        user_id: record.user.to_string(),
        role: record.role.to_string(),
        name: record.name,
        created_at: wire::time(record.created_at),
        expires_at: record.expires_at.map(wire::time),
    };
    Ok((StatusCode::CREATED, Extension(Object(data.key_id.clone())), Json(Data { data })))
}

/// API keys, newest first.
#[utoipa::path(get, path = "/v1/api-keys", params(HeldQuery),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = Page<ApiKeyDetail>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    query: Result<Query<HeldQuery>, QueryRejection>,
) -> Result<Json<Page<ApiKeyDetail>>, ApiError> {
    let list = query?.0.list::<ApiKeyId>(&app, &caller, "api-keys")?;
    let filter = OwnedFilter {
        user: list.user.clone(),
        revoked: list.revoked,
        before: list.before,
        limit: list.rows + 1,
    };
    let mut keys = app.orchestrator().store().api_key_list(filter).await?;
    let pagination = list.page(&app, &mut keys, |key| key.id.to_string());
    let now = app.orchestrator().now();
    Ok(Json(Page { data: keys.iter().map(|key| detail(key, now)).collect(), pagination }))
}

/// Revokes an API key. From the next request on it is refused.
#[utoipa::path(delete, path = "/v1/api-keys/{key_id}", params(("key_id" = String, Path)),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = Data<ApiKeyDetail>), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn revoke(
    State(app): State<App>,
    caller: Caller,
    IdPath(given): IdPath,
) -> Result<Json<Data<ApiKeyDetail>>, ApiError> {
    let none = || {
        let given = domain::event::preview(&given, 40);
        ApiError::new(ErrorCode::ApiKeyNotFound, format!("there is no API key {given}"))
    };
    let id: ApiKeyId = given.parse().map_err(|_| none())?;
    let now = app.orchestrator().now();
    match app.orchestrator().store().api_key_revoke(id, held::whose(&caller), now).await? {
        Touched::Done(key) => Ok(Json(Data { data: detail(&key, now) })),
        Touched::Revoked(key) => {
            let at = key.revoked_at.map_or_else(|| "before".into(), |at| format!("at {}", wire::time(at)));
            Err(ApiError::new(
                ErrorCode::ApiKeyAlreadyRevoked,
                format!("API key {id} was revoked {at} already"),
            ))
        }
        Touched::NoSuch => Err(none()),
    }
}

/// A request that is in order.
#[derive(Debug)]
struct Asked {
    name: String,
    user: UserId,
    role: Role,
    scopes: Scopes,
    expires_at: Option<Timestamp>,
}

impl Asked {
    fn read(request: CreateApiKeyRequest, caller: &Caller, now: Timestamp) -> Result<Asked, ApiError> {
        let name = held::name(request.name)?;
        let user = match request.user {
            Some(user) => self::user(user)?,
            None => caller.user.clone(),
        };
        if user != caller.user && caller.role != Role::Owner {
            return Err(ApiError::new(
                ErrorCode::Forbidden,
                "user: only owners make keys for others; leave it out for one of your own",
            ));
        }
        let role = match request.role {
            Some(role) => role.parse::<Role>().map_err(|why| ApiError::invalid(format!("role: {why}")))?,
            None if user == caller.user => caller.role,
            None => Role::Member,
        };
        if role > caller.role {
            return Err(ApiError::new(
                ErrorCode::Forbidden,
                format!("role: you are a {}, and cannot make a key of a {role}", caller.role),
            ));
        }
        let scopes = scopes(request.scopes, role)?;
        let expires_at = request.expires_at.map(|at| expires(&at, now)).transpose()?;
        Ok(Asked { name, user, role, scopes, expires_at })
    }
}

fn user(given: String) -> Result<UserId, ApiError> {
    let plain = !given.is_empty() && given.chars().all(|c| c.is_ascii_graphic());
    match plain && given.len() <= limit::NAME_MAX_CHARS {
        true => Ok(UserId::new(given)),
        false => Err(ApiError::invalid(format!(
            "user must be 1 to {} printable characters without spaces",
            limit::NAME_MAX_CHARS
        ))),
    }
}

fn scopes(given: Option<Vec<String>>, role: Role) -> Result<Scopes, ApiError> {
    let Some(given) = given else { return Ok(Scopes::from_iter([Scope::WebhooksManage])) };
    if given.is_empty() {
        return Err(ApiError::invalid("scopes must name at least one; leave it out for webhooks:manage"));
    }
    let bounds = role.scopes();
    let one = |name: &String| {
        let scope: Scope = name.parse().map_err(|why| ApiError::invalid(format!("scopes: {why}")))?;
        if !scope.grantable() {
            return Err(ApiError::invalid(format!("scopes: no API key may have {scope}")));
        }
        if !bounds.has(scope) {
            return Err(ApiError::invalid(format!("scopes: a {role} may not have {scope}")));
        }
        Ok(scope)
    };
    given.iter().map(one).collect()
}

fn expires(given: &str, now: Timestamp) -> Result<Timestamp, ApiError> {
    let shown = domain::event::preview(given, 40);
    let at: Timestamp = given.parse().map_err(|_| {
        ApiError::invalid(format!("expires_at must be a time as 2027-01-31T12:00:00Z, got {shown:?}"))
    })?;
    if at <= now {
        return Err(ApiError::invalid(format!("expires_at must be in the future, got {shown}")));
    }
    if EXPIRES_BEFORE.parse::<Timestamp>().is_ok_and(|last| at >= last) {
        return Err(ApiError::invalid(format!(
            "expires_at must be before {EXPIRES_BEFORE}; leave it out for never"
        )));
    }
    Ok(at)
}

fn names(scopes: &Scopes) -> Vec<String> {
    scopes.iter().map(|scope| scope.to_string()).collect()
}

fn detail(key: &ApiKeyRecord, now: Timestamp) -> ApiKeyDetail {
    let status = match (key.revoked_at, key.expires_at) {
        (Some(_), _) => "revoked",
        (None, Some(at)) if at <= now => "expired",
        (None, Some(_) | None) => "active",
    };
    ApiKeyDetail {
        key_id: key.id.to_string(),
        name: key.name.clone(),
        status: status.into(),
        scopes: names(&key.scopes),
        user_id: key.user.to_string(),
        role: key.role.to_string(),
        created_at: wire::time(key.created_at),
        updated_at: wire::time(key.updated_at),
        expires_at: key.expires_at.map(wire::time),
        revoked_at: key.revoked_at.map(wire::time),
        last_used_at: key.last_used_at.map(wire::time),
    }
}
