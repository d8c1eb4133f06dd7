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
    pub api_key: String,
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
