//! Keys, webhooks and the audit log: who may come in, and who did what.

use domain::access::Scopes;
use domain::{ApiKeyId, AuditId, RequestId, Role, UserId, WebhookId};
use jiff::Timestamp;

/// An API key. Its secret is nowhere: only its hash is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRecord {
    /// The part of the key that is no secret.
    pub id: ApiKeyId,
    /// Whom it speaks for.
    pub user: UserId,
    /// What they are when they come with it.
    pub role: Role,
    /// What people call it.
    pub name: String,
    /// SHA-256 of the secret part.
    pub hash: [u8; 32],
    /// What it may be used for.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// From when on it is no good; `None` is never.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, give or take what the caller of [`crate::Store::api_key_used`] leaves out.
    pub last_used_at: Option<Timestamp>,
}

/// How the deliveries of a webhook are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// Over delivery, time and body (Standard Webhooks); each delivery counts once.
    Strict,
    /// Over the body alone, as *ABCA* does.
    Plain,
}

impl Signature {
    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Signature::Strict => "strict",
            Signature::Plain => "plain",
        }
    }

    /// From its wire name; `None`: there is no such one.
    pub fn from_wire(name: &str) -> Option<Signature> {
        [Signature::Strict, Signature::Plain].into_iter().find(|s| s.as_str() == name)
    }
}

/// A webhook. Its secret is derived from the server's key, its id and the generation; it is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookRecord {
    /// Its id.
    pub id: WebhookId,
    /// Whose tasks it makes.
    pub user: UserId,
    /// What they were when they made it.
    pub role: Role,
    /// What people call it.
    pub name: String,
    /// How its deliveries are signed.
    pub signature: Signature,
    /// Number of its secret, from 1; rises with each rotation.
    pub generation: u32,
    /// Until when the secret before this one is good too.
    pub previous_until: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When a delivery was last accepted, give or take.
    pub last_used_at: Option<Timestamp>,
}

/// Whether what was revoked is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// It is left out.
    Hidden,
    /// It is among the others.
    Shown,
}

/// Which keys or webhooks to list, newest first.
#[derive(Debug, Clone)]
pub struct OwnedFilter<Id> {
    /// Only this user's.
    pub user: Option<UserId>,
    /// Whether revoked ones are listed.
    pub revoked: Revoked,
    /// Only older ones than this, for paging.
    pub before: Option<Id>,
    /// At most this many.
    pub limit: u32,
}

/// How a change of a key or webhook went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched<T> {
    /// Done; this is how it stands now.
    Done(T),
    /// It was revoked before; nothing was changed.
    Revoked(T),
    /// There is none, or it is not that user's.
    NoSuch,
}

/// A delivery of a webhook that shows who it is by a signature that is good for a while.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The webhook.
    pub webhook: WebhookId,
    /// What the sender calls the delivery; a repetition has the same.
    pub id: String,
    /// Second since 1970 at which it was signed; a repetition has another.
    pub signed_at: i64,
    /// Those signed before this second can no longer come in, and are forgotten.
    pub forget_before: i64,
}

/// Something that somebody did, or was not let do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its id; rises with time.
    pub id: AuditId,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: UserId,
    /// How they showed it: `owner_key`, `api_key`, `webhook`, `oidc`.
    pub authenticated_by: String,
    /// Which key, webhook or issuer.
    pub credential: Option<String>,
    /// What: `task.create`.
    pub action: String,
    /// What of: an id.
    pub object: Option<String>,
    /// HTTP status of the answer.
    pub status: u16,
    /// The request, as in the log.
    pub request: RequestId,
}

/// Which lines of the audit log to read, newest first.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only what this user did.
    pub actor: Option<UserId>,
    /// Only this.
    pub action: Option<String>,
    /// Only what was done to this.
    pub object: Option<String>,
    /// Only older lines than this, for paging.
    pub before: Option<AuditId>,
    /// At most this many.
    pub limit: u32,
}
