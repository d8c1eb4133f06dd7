//! `/v1/webhooks`: make, list, rotate, revoke. Deliveries: [`deliver`].

pub mod deliver;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use domain::transition::after;
use domain::{WebhookId, limit};
use jiff::Timestamp;
use protocol::access::*;
use protocol::rest::*;
use secrecy::ExposeSecret as _;
use std::time::Duration;
use store::{OwnedFilter, Signature, Touched, WebhookRecord};

use super::access::Object;
use super::body::{self, Body};
use super::held::{self, HeldQuery, IdPath};
use super::{ApiError, App, Caller, wire};

/// Makes a webhook. The answer says where deliveries go and has the secret, this once.
#[utoipa::path(post, path = "/v1/webhooks", request_body = CreateWebhookRequest,
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 201, body = Data<WebhookSecret>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 408, body = ErrorBody), (status = 413, body = ErrorBody), (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    body: Result<Body<CreateWebhookRequest>, ApiError>,
) -> Result<(StatusCode, Extension<Object>, Json<Data<WebhookSecret>>), ApiError> {
    let request = body?.0;
    let name = held::name(request.name)?;
    let signature = signature(request.signature.as_deref(), app.settings().webhook_signature)?;
    let now = app.orchestrator().now();
    let webhook = WebhookRecord {
        id: WebhookId::from_parts(now, held::random()?),
        user: caller.user,
        role: caller.role,
        name,
        signature,
        generation: 1,
        previous_until: None,
        created_at: now,
        updated_at: now,
        revoked_at: None,
        last_used_at: None,
    };
    app.orchestrator().store().webhook_create(webhook.clone()).await?;
    let object = Object(webhook.id.to_string());
    Ok((StatusCode::CREATED, Extension(object), Json(Data { data: shown(&app, &webhook) })))
}

fn signature(given: Option<&str>, default: Signature) -> Result<Signature, ApiError> {
    match given {
        None => Ok(default),
        Some(name) => Signature::from_wire(name).ok_or_else(|| {
            let name = domain::event::preview(name, 40);
            ApiError::invalid(format!("signature must be strict or plain, got {name:?}"))
        }),
    }
}

/// Webhooks, newest first.
#[utoipa::path(get, path = "/v1/webhooks", params(HeldQuery),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = Page<WebhookDetail>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    query: Result<Query<HeldQuery>, QueryRejection>,
) -> Result<Json<Page<WebhookDetail>>, ApiError> {
    let list = query?.0.list::<WebhookId>(&app, &caller, "webhooks")?;
    let filter = OwnedFilter {
        user: list.user.clone(),
        revoked: list.revoked,
        before: list.before,
        limit: list.rows + 1,
    };
    let mut webhooks = app.orchestrator().store().webhook_list(filter).await?;
    let pagination = list.page(&app, &mut webhooks, |webhook| webhook.id.to_string());
    let now = app.orchestrator().now();
    Ok(Json(Page { data: webhooks.iter().map(|webhook| detail(&app, webhook, now)).collect(), pagination }))
}

/// Revokes a webhook. From the next delivery on it is refused.
#[utoipa::path(delete, path = "/v1/webhooks/{webhook_id}", params(("webhook_id" = String, Path)),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = Data<WebhookDetail>), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn revoke(
    State(app): State<App>,
    caller: Caller,
    IdPath(given): IdPath,
) -> Result<Json<Data<WebhookDetail>>, ApiError> {
    let id: WebhookId = given.parse().map_err(|_| none(&given))?;
    let now = app.orchestrator().now();
    let touched = app.orchestrator().store().webhook_revoke(id, held::whose(&caller), now).await?;
    Ok(Json(Data { data: detail(&app, &live(touched, &given)?, now) }))
}

/// Gives a webhook a new secret, shown this once; the one of now is good for a while beside it.
#[utoipa::path(post, path = "/v1/webhooks/{webhook_id}/rotate", params(("webhook_id" = String, Path)),
    request_body = Option<RotateWebhookRequest>,
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = Data<WebhookSecret>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 408, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn rotate(
    State(app): State<App>,
    caller: Caller,
    IdPath(given): IdPath,
    request: Request,
) -> Result<Json<Data<WebhookSecret>>, ApiError> {
    let overlap = overlap(&body::read(request, &app).await?)?;
    let id: WebhookId = given.parse().map_err(|_| none(&given))?;
    let now = app.orchestrator().now();
    let (store, until) = (app.orchestrator().store(), after(now, overlap));
    let touched = store.webhook_rotate(id, held::whose(&caller), until, now).await?;
    Ok(Json(Data { data: shown(&app, &live(touched, &given)?) }))
}

fn overlap(bytes: &[u8]) -> Result<Duration, ApiError> {
    // A body that says nothing may be left out.
    let request: Option<RotateWebhookRequest> = match bytes.trim_ascii() {
        b"" => None,
        given => {
            body::no_array(given)?;
            serde_json::from_slice(given).map_err(|e| ApiError::invalid(format!("body: {e}")))?
        }
    };
    let given = request.and_then(|r| r.overlap_s).map(Duration::from_secs);
    let overlap = given.unwrap_or(limit::WEBHOOK_OVERLAP_DEFAULT);
    match overlap <= limit::WEBHOOK_OVERLAP_MAX {
        true => Ok(overlap),
        false => Err(ApiError::invalid(format!(
            "overlap_s must be 0 to {}: the old secret cannot be kept for longer",
            limit::WEBHOOK_OVERLAP_MAX.as_secs()
        ))),
    }
}

fn none(given: &str) -> ApiError {
    let given = domain::event::preview(given, 40);
    ApiError::new(ErrorCode::WebhookNotFound, format!("there is no webhook {given}"))
}

fn live(touched: Touched<WebhookRecord>, given: &str) -> Result<WebhookRecord, ApiError> {
    match touched {
        Touched::Done(webhook) => Ok(webhook),
        Touched::Revoked(webhook) => {
            let at =
                webhook.revoked_at.map_or_else(|| "before".into(), |at| format!("at {}", wire::time(at)));
            Err(ApiError::new(
                ErrorCode::WebhookAlreadyRevoked,
                format!("webhook {} was revoked {at}", webhook.id),
            ))
        }
        Touched::NoSuch => Err(none(given)),
    }
}

fn url(app: &App, id: WebhookId) -> String {
    format!("{}/v1/webhooks/tasks?webhook_id={id}", app.settings().public_url)
}

fn shown(app: &App, webhook: &WebhookRecord) -> WebhookSecret {
    let secret = app.settings().webhook_key.secret(webhook.id, webhook.generation, webhook.signature);
    WebhookSecret {
        webhook_id: webhook.id.to_string(),
        name: webhook.name.clone(),
        secret: secret.written().expose_secret().to_owned(),
        webhook_url: url(app, webhook.id),
        signature: webhook.signature.as_str().into(),
        created_at: wire::time(webhook.created_at),
        previous_secret_until: webhook.previous_until.map(wire::time),
    }
}

fn detail(app: &App, webhook: &WebhookRecord, now: Timestamp) -> WebhookDetail {
    WebhookDetail {
        webhook_id: webhook.id.to_string(),
        name: webhook.name.clone(),
        status: if webhook.revoked_at.is_some() { "revoked" } else { "active" }.into(),
        signature: webhook.signature.as_str().into(),
        webhook_url: url(app, webhook.id),
        user_id: webhook.user.to_string(),
        created_at: wire::time(webhook.created_at),
        updated_at: wire::time(webhook.updated_at),
        revoked_at: webhook.revoked_at.map(wire::time),
        last_used_at: webhook.last_used_at.map(wire::time),
        previous_secret_until: webhook.previous_until.filter(|until| *until > now).map(wire::time),
    }
}
