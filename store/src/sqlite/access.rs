//! Keys, webhooks and the audit log.

mod audit;
mod key;
mod webhook;

use async_trait::async_trait;
use domain::{ApiKeyId, Role, UserId, WebhookId};
use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use super::SqliteDriver;
use super::fault::Fault;
use crate::access::AccessDriver;
use crate::driver::StoreError;
use crate::record::*;

#[async_trait]
impl AccessDriver for SqliteDriver {
    async fn api_key_create(&self, key: ApiKeyRecord) -> Result<(), StoreError> {
        self.write(format!("storing new API key {}", key.id), move |tx| key::create(tx, &key)).await
    }

    async fn api_key_get(&self, id: ApiKeyId) -> Result<Option<ApiKeyRecord>, StoreError> {
        self.read(format!("reading API key {id}"), move |db| key::get(db, id)).await
    }

    async fn api_key_list(&self, filter: OwnedFilter<ApiKeyId>) -> Result<Vec<ApiKeyRecord>, StoreError> {
        self.read("listing API keys".into(), move |db| {
            owned(db, key::COLUMNS, "api_key", &filter, ApiKeyId::bits, key::from_row)
        })
        .await
    }

    async fn api_key_revoke(
        &self,
        id: ApiKeyId,
        of: Option<&UserId>,
        now: Timestamp,
    ) -> Result<Touched<ApiKeyRecord>, StoreError> {
        let of = of.cloned();
        self.write(format!("revoking API key {id}"), move |tx| key::revoke(tx, id, of.as_ref(), now)).await
    }

    async fn api_key_used(&self, id: ApiKeyId, at: Timestamp) -> Result<(), StoreError> {
        self.write(format!("noting the use of API key {id}"), move |tx| key::used(tx, id, at)).await
    }

    async fn webhook_create(&self, webhook: WebhookRecord) -> Result<(), StoreError> {
        self.write(format!("storing new webhook {}", webhook.id), move |tx| webhook::create(tx, &webhook))
            .await
    }

    async fn webhook_get(&self, id: WebhookId) -> Result<Option<WebhookRecord>, StoreError> {
        self.read(format!("reading webhook {id}"), move |db| webhook::get(db, id)).await
    }

    async fn webhook_list(&self, filter: OwnedFilter<WebhookId>) -> Result<Vec<WebhookRecord>, StoreError> {
        self.read("listing webhooks".into(), move |db| {
            owned(db, webhook::COLUMNS, "webhook", &filter, WebhookId::bits, webhook::from_row)
        })
        .await
    }

    async fn webhook_revoke(
        &self,
        id: WebhookId,
        of: Option<&UserId>,
        now: Timestamp,
    ) -> Result<Touched<WebhookRecord>, StoreError> {
        let of = of.cloned();
        self.write(format!("revoking webhook {id}"), move |tx| webhook::revoke(tx, id, of.as_ref(), now))
            .await
    }

    async fn webhook_rotate(
        &self,
        id: WebhookId,
        of: Option<&UserId>,
        previous_until: Timestamp,
        now: Timestamp,
    ) -> Result<Touched<WebhookRecord>, StoreError> {
        let of = of.cloned();
        self.write(format!("rotating the secret of webhook {id}"), move |tx| {
            webhook::rotate(tx, id, of.as_ref(), previous_until, now)
        })
        .await
    }

    async fn webhook_used(&self, id: WebhookId, at: Timestamp) -> Result<(), StoreError> {
        self.write(format!("noting the use of webhook {id}"), move |tx| webhook::used(tx, id, at)).await
    }

    async fn webhook_claim(&self, delivery: Delivery) -> Result<bool, StoreError> {
        self.write(format!("taking in a delivery of webhook {}", delivery.webhook), move |tx| {
            webhook::claim(tx, &delivery)
        })
        .await
    }

    async fn audit_append(&self, lines: Vec<AuditRecord>) -> Result<(), StoreError> {
        self.write("writing the audit log".into(), move |tx| audit::append(tx, &lines)).await
    }

    async fn audit_list(&self, filter: AuditFilter) -> Result<Vec<AuditRecord>, StoreError> {
        self.read("reading the audit log".into(), move |db| audit::list(db, &filter)).await
    }
}

/// Keys or webhooks, newest first.
fn owned<Id: Copy, T>(
    db: &Connection,
    columns: &str,
    table: &str,
    filter: &OwnedFilter<Id>,
    bits: fn(Id) -> u128,
    from_row: fn(&Row<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut sql = format!("SELECT {columns} FROM {table} WHERE 1");
    let mut values: Vec<Value> = Vec::new();
    if let Some(user) = &filter.user {
        sql.push_str(" AND user = ?");
        values.push(Value::Text(user.as_str().into()));
    }
    match filter.revoked {
        Revoked::Hidden => sql.push_str(" AND revoked_at IS NULL"),
        Revoked::Shown => (),
    }
    if let Some(before) = filter.before {
        sql.push_str(" AND id < ?");
        values.push(Value::Blob(bits(before).to_be_bytes().to_vec()));
    }
    sql.push_str(" ORDER BY id DESC LIMIT ?");
    values.push(Value::Integer(i64::from(filter.limit)));
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |r| Ok(from_row(r)))?;
    rows.map(|row| row?).collect()
}

fn role(text: &str) -> Result<Role, Fault> {
    text.parse().map_err(Fault::Damaged)
}
