//! Who speaks, and whether its attempt still counts. Checked on every call: a token that was good a moment ago is
//! useless as soon as its attempt is over.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, RequestPartsExt as _};
use orchestrator::token::BoxIdentity;
use protocol::box_api::{BoxError, BoxErrorCode};
use store::StoreError;
use tracing::error;

use crate::Gateway;

/// The box whose current attempt makes this call.
#[derive(Debug, Clone)]
pub struct Caller(pub BoxIdentity);

/// The caller of a request that came in by the attempt's own tunnel, which has checked it: tools send no token. Put
/// into a request's extensions, where nothing that a box sends can put it.
#[derive(Debug, Clone)]
pub(crate) struct Known(pub(crate) BoxIdentity);

/// An error answer of the box API.
#[derive(Debug)]
pub struct Refusal {
    code: BoxErrorCode,
    message: String,
}

impl Refusal {
    /// A refusal with a sentence for the worker's log.
    pub fn new(code: BoxErrorCode, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into() }
    }

    /// The HTTP status it goes with.
    pub fn status(&self) -> StatusCode {
        match self.code {
            BoxErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
            BoxErrorCode::SessionSuperseded => StatusCode::CONFLICT,
            BoxErrorCode::TooEarly => StatusCode::TOO_EARLY,
            BoxErrorCode::BadRequest => StatusCode::BAD_REQUEST,
            BoxErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            BoxErrorCode::VersionUnsupported => StatusCode::UPGRADE_REQUIRED,
            BoxErrorCode::EventLimit => StatusCode::TOO_MANY_REQUESTS,
            BoxErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What axum could not read of a request.
    pub fn unread(status: StatusCode, why: &str) -> Refusal {
        let code = match status {
            StatusCode::PAYLOAD_TOO_LARGE => BoxErrorCode::TooLarge,
            _ => BoxErrorCode::BadRequest,
        };
        Refusal::new(code, domain::event::preview(why, 500))
    }

    /// The attempt is over.
    pub fn superseded() -> Refusal {
        Refusal::new(BoxErrorCode::SessionSuperseded, "this attempt is over; the box must stop")
    }
}

impl From<StoreError> for Refusal {
    fn from(failure: StoreError) -> Refusal {
        error!(error = %failure, "the store did not answer a box");
        Refusal::new(BoxErrorCode::Unavailable, "the control plane cannot store this now; ask again")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status(), Json(BoxError { code: self.code, message: self.message })).into_response()
    }
}

/// The token of a request: `Authorization: Bearer` or, as Anthropic clients send it, `x-api-key`.
pub fn token(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "));
    bearer.or_else(|| headers.get("x-api-key").and_then(|v| v.to_str().ok())).map(str::trim)
}

/// The identity a token proves, checked against the record.
pub async fn identify(gateway: &Gateway, token: Option<&str>) -> Result<BoxIdentity, Refusal> {
    let unknown = || Refusal::new(BoxErrorCode::Unauthorized, "a session token of this gateway is needed");
    let orchestrator = gateway.orchestrator();
    let identity =
        token.and_then(|t| orchestrator.parts().token_key.verify_session(t)).ok_or_else(unknown)?;
    if orchestrator.box_is_current(identity.task, identity.attempt, &identity.instance).await? {
        Ok(identity)
    } else {
        Err(Refusal::superseded())
    }
}

impl FromRequestParts<Gateway> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Caller, Refusal> {
        if let Some(Known(identity)) = parts.extensions.get() {
            return Ok(Caller(identity.clone()));
        }
        let headers: HeaderMap = parts.extract().await.unwrap_or_default();
        identify(gateway, token(&headers)).await.map(Caller)
    }
}
