//! `POST /v1/webhooks/tasks`: a signed delivery becomes a task of whoever made the webhook.
//!
//! In order: the signature, which is checked over the body as it came; whether the webhook is still good; the rate; the
//! body; whether the delivery came in before; the task. A strict delivery is taken in once: the very same bytes again are
//! refused, while the sender's own second try, which it signs anew, is answered with the task of the first.

use std::net::IpAddr;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use domain::access::{Authenticated, Scope};
use domain::{Identity, WebhookId, limit};
use orchestrator::admission::Submission;
use protocol::access::DryRun;
use protocol::rest::*;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::{Delivery, WebhookRecord};
use tracing::{info, warn};
use utoipa::IntoParams;

use super::super::{ApiError, App, access, body, task, validate};
use crate::rate::Class;
use crate::webhook::{Presented, Secret, Signed, Unsigned, check};

/// Characters of a sender's `User-Agent` that are kept.
const AGENT_MAX_CHARS: usize = 200;

/// Which webhook.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeliverQuery {
    /// *Ours.* The webhook, as in the address that its creation answered with; the header `X-Webhook-Id` says the same.
    webhook_id: Option<String>,
}

/// Accepts a task from a signed delivery. The body is that of `POST /v1/tasks`, and may have `dry_run: true`: then it is
/// checked, and nothing is made.
#[utoipa::path(post, path = "/v1/webhooks/tasks", request_body = CreateTaskRequest,
    params(DeliverQuery,
        ("X-Webhook-Id" = Option<String>, Header, description = "The webhook"),
        ("webhook-id" = Option<String>, Header, description = "strict: the delivery, 1 to 64 of [A-Za-z0-9_-]"),
        ("webhook-timestamp" = Option<String>, Header, description = "strict: seconds since 1970"),
        ("webhook-signature" = Option<String>, Header, description = "strict: v1, and base64 of HMAC-SHA256 over id.timestamp.body"),
        ("X-Webhook-Signature" = Option<String>, Header, description = "plain: sha256= and hex of HMAC-SHA256 over the body"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 128 of [A-Za-z0-9_-]")),
    responses(
        (status = 201, body = Data<CreatedTask>), (status = 202, body = Data<CreatedTask>, description = "Made; its attachments are still to be uploaded"),
        (status = 200, body = Data<CreatedTask>, description = "Replay, or `DryRun`"),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 408, body = ErrorBody), (status = 409, body = ErrorBody), (status = 413, body = ErrorBody), (status = 429, body = ErrorBody),
        (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn deliver(
    State(app): State<App>,
    query: Result<Query<DeliverQuery>, QueryRejection>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, ApiError> {
    let id = which(query?.0.webhook_id, &headers)?;
    let from = app.settings().proxies.client(request.extensions(), &headers);
    let body = body::read(request, &app).await?;
    let (webhook, signed) = authenticate(&app, id.as_deref(), &headers, &body).await?;
    let identity = Identity {
        user: webhook.user.clone(),
        role: webhook.role,
        teams: Default::default(),
        scopes: webhook.role.scopes(),
        by: Authenticated::Webhook(webhook.id),
    };
    // From here on it is known who asks, whatever becomes of it.
    let answer = accept(&app, &webhook, &identity, signed, Sender { from, headers: &headers }, &body).await;
    Ok((Extension(identity), answer).into_response())
}

/// The webhook's id: in the query or the header, and the same where it is in both.
fn which(query: Option<String>, headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let header = one(headers, "x-webhook-id")?.map(str::to_owned);
    match (query.filter(|id| !id.is_empty()), header) {
        (Some(a), Some(b)) if !a.eq_ignore_ascii_case(&b) => {
            Err(ApiError::invalid("webhook_id and the header X-Webhook-Id name two webhooks; leave one out"))
        }
        (a, b) => Ok(a.or(b)),
    }
}

/// A header that may be there once.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ApiError> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value
            .to_str()
            .map(|text| Some(text.trim()))
            .map_err(|_| ApiError::invalid(format!("the header {name} is not plain text"))),
        (Some(_), Some(_)) => Err(ApiError::invalid(format!("the header {name} may be given once"))),
    }
}

/// The webhook that has signed this, and how. Which ids there are is not told to who cannot sign.
async fn authenticate(
    app: &App,
    id: Option<&str>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(WebhookRecord, Signed), ApiError> {
    let unauthorized = |why: String| ApiError::new(ErrorCode::Unauthorized, why);
    let presented = Presented {
        delivery: one(headers, "webhook-id")?,
        time: one(headers, "webhook-timestamp")?,
        strict: one(headers, "webhook-signature")?,
        plain: one(headers, "x-webhook-signature")?,
    };
    if presented.strict.is_none() && presented.plain.is_none() {
        return Err(unauthorized(Unsigned::Missing.to_string()));
    }
    let Some(id) = id else {
        return Err(unauthorized(
            "a delivery names its webhook: with ?webhook_id= in the address, or the header X-Webhook-Id"
                .into(),
        ));
    };
    let now = app.orchestrator().now();
    let webhook = match id.parse::<WebhookId>() {
        Ok(id) => app.orchestrator().store().webhook_get(id).await?,
        Err(_) => None,
    };
    let secrets = webhook.as_ref().map(|webhook| good(app, webhook)).unwrap_or_default();
    let signed = match check(&presented, body, &secrets, now.as_second()) {
        Ok(signed) => signed,
        Err(why) => {
            metrics::counter!("bgagent_webhook_refused_total").increment(1);
            if let Some(webhook) = &webhook {
                warn!(webhook.id = %webhook.id, why = %why, "a delivery was refused");
            }
            return Err(unauthorized(why.to_string()));
        }
    };
    // `check` passes nothing without a secret, so there is a webhook.
    let webhook = webhook.ok_or_else(|| unauthorized(Unsigned::Mismatch.to_string()))?;
    match webhook.revoked_at {
        Some(at) => Err(unauthorized(format!("webhook {} was revoked at {at:.0}; make another", webhook.id))),
        None => Ok((webhook, signed)),
    }
}

/// The secrets of a webhook that are good now.
fn good(app: &App, webhook: &WebhookRecord) -> Vec<Secret> {
    let secret = |generation| app.settings().webhook_key.secret(webhook.id, generation, webhook.signature);
    let now = app.orchestrator().now();
    let before = webhook.previous_until.filter(|until| *until > now && webhook.generation > 1);
    std::iter::once(secret(webhook.generation))
        .chain(before.map(|_| secret(webhook.generation - 1)))
        .collect()
}

/// Who sent it, as far as it can be told.
#[derive(Debug, Clone, Copy)]
struct Sender<'a> {
    from: Option<IpAddr>,
    headers: &'a HeaderMap,
}

async fn accept(
    app: &App,
    webhook: &WebhookRecord,
    identity: &Identity,
    signed: Signed,
    sender: Sender<'_>,
    body: &[u8],
) -> Result<Response, ApiError> {
    if !identity.allowed().has(Scope::TasksCreate) {
        let why = format!("{} is a {} on this server, and may not submit tasks", webhook.user, webhook.role);
        return Err(ApiError::new(ErrorCode::Forbidden, why));
    }
    access::within_rate(app, &identity.user, &identity.by, Class::Webhook)?;
    let (request, dry) = read(body)?;
    let key = match one(sender.headers, "idempotency-key")? {
        Some(key) => Some(validate::idempotency_key(key)?),
        // No key of a person has a colon.
        None => match &signed {
            Signed::Strict { delivery, .. } => Some(format!("webhook:{}:{delivery}", webhook.id)),
            Signed::Plain => None,
        },
    };
    let asked = request.map(validate::task_spec).transpose()?;
    let Some((spec, inline)) = asked.filter(|_| !dry) else {
        // What was asked for was looked at above; a dry run of nothing checks the signature.
        let task_checked = body_asks(body);
        let data = DryRun {
            dry_run: true,
            webhook_id: webhook.id.to_string(),
            signature: webhook.signature.as_str().into(),
            task_checked,
        };
        return Ok(Json(Data { data }).into_response());
    };
    claim(app, webhook, &signed).await?;
    note(app, webhook).await;
    let submission =
        Submission { user: webhook.user.clone(), channel: "webhook".into(), spec, idempotency_key: key };
    task::submit(app, submission, inline, metadata(webhook, &signed, sender)).await
}

/// The request of a body, and whether it is only to be looked at. `None`: a dry run that asks for no task.
fn read(body: &[u8]) -> Result<(Option<CreateTaskRequest>, bool), ApiError> {
    let invalid = |e: serde_json::Error| ApiError::invalid(format!("body: {e}"));
    // As `POST /v1/tasks` reads it, so that errors have their line, unless it has the field that only deliveries have.
    let mut fields: Map<String, Value> = serde_json::from_slice(body).map_err(invalid)?;
    match fields.remove("dry_run") {
        None => Ok((Some(serde_json::from_slice(body).map_err(invalid)?), false)),
        Some(Value::Bool(dry)) => {
            let request = (!(dry && fields.is_empty()))
                .then(|| serde_json::from_value(Value::Object(fields)))
                .transpose();
            Ok((request.map_err(invalid)?, dry))
        }
        Some(_) => Err(ApiError::invalid("dry_run must be true or false")),
    }
}

/// Whether a dry run's body asks for a task.
fn body_asks(body: &[u8]) -> bool {
    serde_json::from_slice::<Map<String, Value>>(body).is_ok_and(|fields| fields.len() > 1)
}

/// Takes a strict delivery in, once.
async fn claim(app: &App, webhook: &WebhookRecord, signed: &Signed) -> Result<(), ApiError> {
    let Signed::Strict { delivery, at } = signed else { return Ok(()) };
    let window = i64::try_from(limit::WEBHOOK_WINDOW.as_secs()).unwrap_or(i64::MAX);
    let forget_before = app.orchestrator().now().as_second() - 2 * window;
    let claim = Delivery { webhook: webhook.id, id: delivery.clone(), signed_at: *at, forget_before };
    match app.orchestrator().store().webhook_claim(claim).await? {
        true => Ok(()),
        false => {
            metrics::counter!("bgagent_webhook_refused_total").increment(1);
            warn!(webhook.id = %webhook.id, webhook.delivery = delivery, "a delivery came in twice");
            Err(ApiError::new(
                ErrorCode::Unauthorized,
                format!(
                    "delivery {delivery} came in before: a replay is refused; sign it anew, under the same webhook-id, to ask for its task"
                ),
            ))
        }
    }
}

async fn note(app: &App, webhook: &WebhookRecord) {
    let now = app.orchestrator().now();
    let step = i64::try_from(limit::LAST_USED_STEP.as_secs()).unwrap_or(i64::MAX);
    if webhook.last_used_at.is_none_or(|at| now.as_second() - at.as_second() >= step)
        && let Err(failure) = app.orchestrator().store().webhook_used(webhook.id, now).await
    {
        warn!(webhook.id = %webhook.id, error = %failure, "the use of a webhook could not be noted");
    }
}

/// What is kept of where a task came from.
fn metadata(webhook: &WebhookRecord, signed: &Signed, sender: Sender<'_>) -> Map<String, Value> {
    let agent = sender.headers.get("user-agent").and_then(|v| v.to_str().ok());
    let delivery = match signed {
        Signed::Strict { delivery, .. } => Some(delivery),
        Signed::Plain => None,
    };
    info!(webhook.id = %webhook.id, webhook.delivery = delivery, "a delivery was taken in");
    let kept = json!({
        "webhook_id": webhook.id.to_string(),
        "delivery_id": delivery,
        "source_ip": sender.from.map(|from| from.to_string()),
        "user_agent": agent.map(|agent| domain::event::preview(agent, AGENT_MAX_CHARS)),
        "api_request_id": super::super::request_id().map(|id| id.to_string()),
    });
    match kept {
        Value::Object(kept) => kept,
        _ => Map::new(),
    }
}
