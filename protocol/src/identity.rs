//! *Ours.* Who the caller is, and where people sign in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /v1/identity`: where people sign in. Holds no secret: whoever reaches the server may read it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IdentityInfo {
    /// The identity providers; none where only keys are accepted.
    pub providers: Vec<IdentityProvider>,
}

/// An OpenID Connect provider, with what a client needs to sign in at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IdentityProvider {
    /// Its name in the server's configuration.
    pub name: String,
    /// Its issuer; its discovery document is below.
    pub issuer: String,
    /// The public client to sign in with.
    pub client_id: String,
    /// What to ask for.
    pub scopes: Vec<String>,
    /// What to send besides, `resource` say.
    pub parameters: BTreeMap<String, String>,
    /// Where a browser comes back to; null: any port of 127.0.0.1.
    pub redirect_url: Option<String>,
    /// Which token to show the server as `Authorization: Bearer`: `id` or `access`.
    pub token: String,
}

/// `GET /v1/whoami`: the caller, as the server sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Whoami {
    /// The name that their tasks are kept under.
    pub user: String,
    /// `owner`, `member` or `viewer`.
    pub role: String,
    /// Their teams.
    pub teams: Vec<String>,
    /// What they may do: by their role, and by the key they came with.
    pub scopes: Vec<String>,
    /// How they showed who they are: `owner_key`, `api_key` or `oidc`.
    pub by: String,
    /// Which key, or which issuer; null for the owner's key.
    pub which: Option<String>,
}
