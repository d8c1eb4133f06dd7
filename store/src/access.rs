//! Keys, webhooks and the audit log: what the store promises of them, and what a driver must do for it.

use std::fmt;

use async_trait::async_trait;
use domain::{ApiKeyId, UserId, WebhookId};
use jiff::Timestamp;

use crate::Store;
use crate::driver::StoreError;
use crate::record::*;

/// The part of a driver that keeps keys, webhooks and the audit log. Each method is documented on [`Store`].
#[async_trait]
#[expect(missing_docs, reason = "documented on Store")]
pub trait AccessDriver: Send + Sync + fmt::Debug {
    async fn api_key_create(&self, key: ApiKeyRecord) -> Result<(), StoreError>;
    async fn api_key_get(&self, id: ApiKeyId) -> Result<Option<ApiKeyRecord>, StoreError>;
    async fn api_key_list(&self, filter: OwnedFilter<ApiKeyId>) -> Result<Vec<ApiKeyRecord>, StoreError>;
    async fn api_key_revoke(
        &self,
        id: ApiKeyId,
        of: Option<&UserId>,
        now: Timestamp,
    ) -> Result<Touched<ApiKeyRecord>, StoreError>;
    async fn api_key_used(&self, id: ApiKeyId, at: Timestamp) -> Result<(), StoreError>;
    async fn webhook_create(&self, webhook: WebhookRecord) -> Result<(), StoreError>;
    async fn webhook_get(&self, id: WebhookId) -> Result<Option<WebhookRecord>, StoreError>;
    async fn webhook_list(&self, filter: OwnedFilter<WebhookId>) -> Result<Vec<WebhookRecord>, StoreError>;
    async fn webhook_revoke(
        &self,
        id: WebhookId,
        of: Option<&UserId>,
        now: Timestamp,
    ) -> Result<Touched<WebhookRecord>, StoreError>;
    async fn webhook_rotate(
        &self,
        id: WebhookId,
        of: Option<&UserId>,
        previous_until: Timestamp,
        now: Timestamp,
    ) -> Result<Touched<WebhookRecord>, StoreError>;
    async fn webhook_used(&self, id: WebhookId, at: Timestamp) -> Result<(), StoreError>;
    async fn webhook_claim(&self, delivery: Delivery) -> Result<bool, StoreError>;
    async fn audit_append(&self, lines: Vec<AuditRecord>) -> Result<(), StoreError>;
    async fn audit_list(&self, filter: AuditFilter) -> Result<Vec<AuditRecord>, StoreError>;
}

impl Store {
    /// Keeps a new API key.
    pub async fn api_key_create(&self, key: ApiKeyRecord) -> Result<(), StoreError> {
        self.driver.access().api_key_create(key).await
    }

    /// An API key, revoked or not. What was revoked before this is called is seen as revoked.
    pub async fn api_key_get(&self, id: ApiKeyId) -> Result<Option<ApiKeyRecord>, StoreError> {
        self.driver.access().api_key_get(id).await
    }

    /// API keys, newest first; full pages under any filter.
    pub async fn api_key_list(&self, filter: OwnedFilter<ApiKeyId>) -> Result<Vec<ApiKeyRecord>, StoreError> {
        self.driver.access().api_key_list(filter).await
    }

    /// Revokes a key of that user (of anybody when `None`), for good.
    pub async fn api_key_revoke(
        &self,
        id: ApiKeyId,
        of: Option<&UserId>,
        now: Timestamp,
    ) -> Result<Touched<ApiKeyRecord>, StoreError> {
        self.driver.access().api_key_revoke(id, of, now).await
    }

    /// Notes that a key was used; an earlier time than the one noted is not.
    pub async fn api_key_used(&self, id: ApiKeyId, at: Timestamp) -> Result<(), StoreError> {
        self.driver.access().api_key_used(id, at).await
    }

    /// Keeps a new webhook.
    pub async fn webhook_create(&self, webhook: WebhookRecord) -> Result<(), StoreError> {
        self.driver.access().webhook_create(webhook).await
    }

    /// A webhook, revoked or not.
    pub async fn webhook_get(&self, id: WebhookId) -> Result<Option<WebhookRecord>, StoreError> {
        self.driver.access().webhook_get(id).await
    }

    /// Webhooks, newest first; full pages under any filter.
    pub async fn webhook_list(
        &self,
        filter: OwnedFilter<WebhookId>,
    ) -> Result<Vec<WebhookRecord>, StoreError> {
        self.driver.access().webhook_list(filter).await
    }

    /// Revokes a webhook of that user (of anybody when `None`), for good.
    pub async fn webhook_revoke(
        &self,
        id: WebhookId,
        of: Option<&UserId>,
        now: Timestamp,
    ) -> Result<Touched<WebhookRecord>, StoreError> {
        self.driver.access().webhook_revoke(id, of, now).await
    }

    /// Gives a webhook its next secret; the one before is good until `previous_until`, older ones no longer.
    pub async fn webhook_rotate(
        &self,
        id: WebhookId,
        of: Option<&UserId>,
        previous_until: Timestamp,
        now: Timestamp,
    ) -> Result<Touched<WebhookRecord>, StoreError> {
        self.driver.access().webhook_rotate(id, of, previous_until, now).await
    }

    /// Notes that a delivery was accepted; an earlier time than the one noted is not.
    pub async fn webhook_used(&self, id: WebhookId, at: Timestamp) -> Result<(), StoreError> {
        self.driver.access().webhook_used(id, at).await
    }

    /// Takes a delivery in, once: `false` when the same one, signed in the same second, came in before.
    pub async fn webhook_claim(&self, delivery: Delivery) -> Result<bool, StoreError> {
        self.driver.access().webhook_claim(delivery).await
    }

    /// Adds lines to the audit log, all or none. A line whose id is there already is not added twice.
    pub async fn audit_append(&self, lines: Vec<AuditRecord>) -> Result<(), StoreError> {
        self.driver.access().audit_append(lines).await
    }

    /// Lines of the audit log, newest first; full pages under any filter.
    pub async fn audit_list(&self, filter: AuditFilter) -> Result<Vec<AuditRecord>, StoreError> {
        self.driver.access().audit_list(filter).await
    }
}
