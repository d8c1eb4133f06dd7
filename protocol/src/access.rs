//! `/v1/api-keys`, `/v1/webhooks` and `/v1/audit`: *ABCA*'s wire contract where it has one, plus what is ours (marked
//! *ours*). Missing values are `null`, never omitted.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST /v1/api-keys`. Unknown fields are refused by name.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApiKeyRequest {
    /// What people call it: 1 to 64 letters, digits, spaces, dashes and underscores, the first and last a letter or digit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required, nullable = false, min_length = 1, max_length = 64)]
    pub name: Option<String>,
    /// What it may be used for; `webhooks:manage` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// From when on it is no good, RFC 3339, in the future; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// *Ours.* Whom it speaks for; the caller when absent. Only owners may name somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub user: Option<String>,
    /// *Ours.* `owner`, `member` or `viewer`: at most the caller's, which it is when absent; `member` for somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// A new API key; the only answer that has its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedApiKey {
    /// The part that is no secret.
    pub key_id: String,
    /// What people call it.
    pub name: String,
    /// The key, whole: `bgak_<key_id>_<64 hex digits>`. It is shown this once.
    pub key: String,
    /// What it may be used for.
    pub scopes: Vec<String>,
    /// *Ours.* Whom it speaks for.
    pub user_id: String,
    /// *Ours.* What they are when they come with it.
    pub role: String,
    /// When it was made.
    pub created_at: String,
    /// From when on it is no good; null is never.
    pub expires_at: Option<String>,
}

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiKeyDetail {
    /// The part that is no secret.
    pub key_id: String,
    /// What people call it.
    pub name: String,
    /// `active`, `revoked`, or (*ours*) `expired`.
    pub status: String,
    /// What it may be used for.
    pub scopes: Vec<String>,
    /// *Ours.* Whom it speaks for.
    pub user_id: String,
    /// *Ours.* What they are when they come with it.
    pub role: String,
    /// When it was made.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
    /// From when on it is no good; null is never.
    pub expires_at: Option<String>,
    /// When it was revoked.
    pub revoked_at: Option<String>,
    /// *Ours.* When it was last used, to the hour.
    pub last_used_at: Option<String>,
}

/// `POST /v1/webhooks`. Unknown fields are refused by name.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateWebhookRequest {
    /// What people call it: 1 to 64 letters, digits, spaces, dashes and underscores, the first and last a letter or digit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required, nullable = false, min_length = 1, max_length = 64)]
    pub name: Option<String>,
    /// *Ours.* How deliveries are signed: `strict` (Standard Webhooks) or `plain` (*ABCA*'s); as the server is
    /// configured when absent, which is `strict` unless it says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// A new webhook, or one with a new secret; the only answers that have the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookSecret {
    /// Its id.
    pub webhook_id: String,
    /// What people call it.
    pub name: String,
    /// What deliveries are signed with. It is shown this once.
    pub secret: String,
    /// *Ours.* Where deliveries go.
    pub webhook_url: String,
    /// *Ours.* How deliveries are signed: `strict` or `plain`.
    pub signature: String,
    /// When the webhook was made.
    pub created_at: String,
    /// *Ours.* Until when the secret before this one is good too; null for the first.
    pub previous_secret_until: Option<String>,
}

/// A webhook, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookDetail {
    /// Its id.
    pub webhook_id: String,
    /// What people call it.
    pub name: String,
    /// `active` or `revoked`.
    pub status: String,
    /// *Ours.* How deliveries are signed: `strict` or `plain`.
    pub signature: String,
    /// *Ours.* Where deliveries go.
    pub webhook_url: String,
    /// *Ours.* Whose tasks it makes.
    pub user_id: String,
    /// When it was made.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
    /// When it was revoked.
    pub revoked_at: Option<String>,
    /// *Ours.* When a delivery was last accepted, to the hour.
    pub last_used_at: Option<String>,
    /// *Ours.* Until when the secret before the last rotation is good; null when none is.
    pub previous_secret_until: Option<String>,
}

/// *Ours.* `POST /v1/webhooks/{id}/rotate`. The body may be left out.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateWebhookRequest {
    /// Seconds for which the secret of now is good too, 0 to 604,800 (a week); a day when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 604800)]
    pub overlap_s: Option<u64>,
}

/// *Ours.* The answer to a delivery with `dry_run: true`: it was checked, and nothing was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DryRun {
    /// True: nothing was made.
    pub dry_run: bool,
    /// The webhook that signed it.
    pub webhook_id: String,
    /// How it was signed: `strict` or `plain`.
    pub signature: String,
    /// Whether the body asked for a task, which would be accepted; otherwise the signature alone was checked.
    pub task_checked: bool,
}

/// *Ours.* A line of `GET /v1/audit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditLine {
    /// Its id.
    pub audit_id: String,
    /// When.
    pub timestamp: String,
    /// Who.
    pub actor: String,
    /// How they showed it: `owner_key`, `api_key`, `webhook` or `oidc`.
    pub authenticated_by: String,
    /// Which key, webhook or issuer.
    pub credential: Option<String>,
    /// What: `task.create`, `task.cancel`, `api_key.revoke`.
    pub action: String,
    /// Of what: an id.
    pub object: Option<String>,
    /// `done`, `refused` (4xx) or `failed` (5xx).
    pub outcome: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// The request, as in the server's log.
    pub request_id: String,
}
