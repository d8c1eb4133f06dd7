//! Keys, webhooks and the audit log in memory.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use domain::{ApiKeyId, AuditId, UserId, WebhookId};
use jiff::Timestamp;

use super::MemoryDriver;
use crate::access::AccessDriver;
use crate::driver::StoreError;
use crate::record::*;

#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) keys: BTreeMap<ApiKeyId, ApiKeyRecord>,
    pub(super) webhooks: BTreeMap<WebhookId, WebhookRecord>,
    pub(super) deliveries: BTreeSet<(WebhookId, i64, String)>,
    pub(super) audit: BTreeMap<AuditId, AuditRecord>,
}

fn there_already(what: &str, id: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged { doing: format!("storing new {what} {id}"), reason: "it is there already".into() }
}

/// The rows that a filter asks for.
fn owned<Id: Ord + Copy, T: Clone>(
    rows: &BTreeMap<Id, T>,
    filter: &OwnedFilter<Id>,
    of: impl Fn(&T) -> (&UserId, Option<Timestamp>),
) -> Vec<T> {
    let wanted = |(id, row): &(&Id, &T)| {
        let (user, revoked_at) = of(row);
        filter.user.as_ref().is_none_or(|wanted| wanted == user)
            && (filter.revoked == Revoked::Shown || revoked_at.is_none())
            && filter.before.is_none_or(|before| **id < before)
    };
    rows.iter().rev().filter(wanted).take(filter.limit as usize).map(|(_, row)| row.clone()).collect()
}

#[async_trait]
impl AccessDriver for MemoryDriver {
    async fn api_key_create(&self, key: ApiKeyRecord) -> Result<(), StoreError> {
        let keys = &mut self.lock().access.keys;
        if keys.contains_key(&key.id) {
            return Err(there_already("API key", key.id));
        }
        keys.insert(key.id, key);
        Ok(())
    }

    async fn api_key_get(&self, id: ApiKeyId) -> Result<Option<ApiKeyRecord>, StoreError> {
        Ok(self.lock().access.keys.get(&id).cloned())
    }

    async fn api_key_list(&self, filter: OwnedFilter<ApiKeyId>) -> Result<Vec<ApiKeyRecord>, StoreError> {
        Ok(owned(&self.lock().access.keys, &filter, |key| (&key.user, key.revoked_at)))
    }

    async fn api_key_revoke(
        &self,
        id: ApiKeyId,
        of: Option<&UserId>,
        now: Timestamp,
    ) -> Result<Touched<ApiKeyRecord>, StoreError> {
        let mut t = self.lock();
        Ok(match t.access.keys.get_mut(&id) {
            Some(key) if of.is_none_or(|of| *of == key.user) => match key.revoked_at {
                Some(_) => Touched::Revoked(key.clone()),
                None => {
                    (key.revoked_at, key.updated_at) = (Some(now), now);
                    Touched::Done(key.clone())
                }
            },
            Some(_) | None => Touched::NoSuch,
        })
    }

    async fn api_key_used(&self, id: ApiKeyId, at: Timestamp) -> Result<(), StoreError> {
        if let Some(key) = self.lock().access.keys.get_mut(&id) {
            key.last_used_at = key.last_used_at.max(Some(at));
        }
        Ok(())
    }

    async fn webhook_create(&self, webhook: WebhookRecord) -> Result<(), StoreError> {
        let webhooks = &mut self.lock().access.webhooks;
        if webhooks.contains_key(&webhook.id) {
            return Err(there_already("webhook", webhook.id));
        }
        webhooks.insert(webhook.id, webhook);
        Ok(())
    }

    async fn webhook_get(&self, id: WebhookId) -> Result<Option<WebhookRecord>, StoreError> {
        Ok(self.lock().access.webhooks.get(&id).cloned())
    }

    async fn webhook_list(&self, filter: OwnedFilter<WebhookId>) -> Result<Vec<WebhookRecord>, StoreError> {
        Ok(owned(&self.lock().access.webhooks, &filter, |webhook| (&webhook.user, webhook.revoked_at)))
    }

    async fn webhook_revoke(
        &self,
        id: WebhookId,
        of: Option<&UserId>,
        now: Timestamp,
    ) -> Result<Touched<WebhookRecord>, StoreError> {
        self.change(id, of, |webhook| (webhook.revoked_at, webhook.updated_at) = (Some(now), now))
    }

    async fn webhook_rotate(
        &self,
        id: WebhookId,
        of: Option<&UserId>,
        previous_until: Timestamp,
        now: Timestamp,
    ) -> Result<Touched<WebhookRecord>, StoreError> {
        self.change(id, of, |webhook| {
            webhook.generation += 1;
            (webhook.previous_until, webhook.updated_at) = (Some(previous_until), now);
        })
    }

    async fn webhook_used(&self, id: WebhookId, at: Timestamp) -> Result<(), StoreError> {
        if let Some(webhook) = self.lock().access.webhooks.get_mut(&id) {
            webhook.last_used_at = webhook.last_used_at.max(Some(at));
        }
        Ok(())
    }

    async fn webhook_claim(&self, delivery: Delivery) -> Result<bool, StoreError> {
        let Delivery { webhook, id, signed_at, forget_before } = delivery;
        let deliveries = &mut self.lock().access.deliveries;
        deliveries.retain(|(of, at, _)| *of != webhook || *at >= forget_before);
        Ok(deliveries.insert((webhook, signed_at, id)))
    }

    async fn audit_append(&self, lines: Vec<AuditRecord>) -> Result<(), StoreError> {
        let mut t = self.lock();
        for line in lines {
            t.access.audit.entry(line.id).or_insert(line);
        }
        Ok(())
    }

    async fn audit_list(&self, filter: AuditFilter) -> Result<Vec<AuditRecord>, StoreError> {
        let wanted = |line: &&AuditRecord| {
            filter.actor.as_ref().is_none_or(|actor| *actor == line.actor)
                && filter.action.as_ref().is_none_or(|action| *action == line.action)
                && filter.object.as_ref().is_none_or(|object| Some(object) == line.object.as_ref())
                && filter.before.is_none_or(|before| line.id < before)
        };
        let t = self.lock();
        Ok(t.access.audit.values().rev().filter(wanted).take(filter.limit as usize).cloned().collect())
    }
}

impl MemoryDriver {
    fn change(
        &self,
        id: WebhookId,
        of: Option<&UserId>,
        change: impl FnOnce(&mut WebhookRecord),
    ) -> Result<Touched<WebhookRecord>, StoreError> {
        let mut t = self.lock();
        Ok(match t.access.webhooks.get_mut(&id) {
            Some(webhook) if of.is_none_or(|of| *of == webhook.user) => {
                if webhook.revoked_at.is_some() {
                    return Ok(Touched::Revoked(webhook.clone()));
                }
                change(webhook);
                Touched::Done(webhook.clone())
            }
            Some(_) | None => Touched::NoSuch,
        })
    }
}
