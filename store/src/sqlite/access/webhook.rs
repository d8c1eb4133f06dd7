//! Webhooks and their deliveries.

use domain::{UserId, WebhookId};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::role;
use crate::record::{Delivery, Signature, Touched, WebhookRecord};
use crate::sqlite::fault::Fault;
use crate::sqlite::value::{At, Bits};

pub(super) const COLUMNS: &str = "id, user, role, name, signature, generation, previous_until, created_at, updated_at, revoked_at, last_used_at";

/// See [`crate::Store::webhook_create`].
pub(super) fn create(tx: &Connection, webhook: &WebhookRecord) -> Result<(), Fault> {
    tx.prepare_cached(
        "INSERT INTO webhook (id, user, role, name, signature, generation, previous_until, created_at, updated_at, revoked_at, last_used_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute(params![
        Bits(webhook.id.bits()),
        webhook.user.as_str(),
        webhook.role.as_str(),
        webhook.name,
        webhook.signature.as_str(),
        webhook.generation,
        webhook.previous_until.map(At),
        At(webhook.created_at),
        At(webhook.updated_at),
        webhook.revoked_at.map(At),
        webhook.last_used_at.map(At),
    ])?;
    Ok(())
}

/// See [`crate::Store::webhook_get`].
pub(super) fn get(db: &Connection, id: WebhookId) -> Result<Option<WebhookRecord>, Fault> {
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM webhook WHERE id = ?1"))?
        .query_row([Bits(id.bits())], |r| Ok(from_row(r)))
        .optional()?
        .transpose()
}

/// See [`crate::Store::webhook_revoke`].
pub(super) fn revoke(
    tx: &Connection,
    id: WebhookId,
    of: Option<&UserId>,
    now: Timestamp,
) -> Result<Touched<WebhookRecord>, Fault> {
    change(tx, id, of, |webhook| WebhookRecord { revoked_at: Some(now), updated_at: now, ..webhook })
}

/// See [`crate::Store::webhook_rotate`].
pub(super) fn rotate(
    tx: &Connection,
    id: WebhookId,
    of: Option<&UserId>,
    previous_until: Timestamp,
    now: Timestamp,
) -> Result<Touched<WebhookRecord>, Fault> {
    change(tx, id, of, |webhook| WebhookRecord {
        generation: webhook.generation + 1,
        previous_until: Some(previous_until),
        updated_at: now,
        ..webhook
    })
}

fn change(
    tx: &Connection,
    id: WebhookId,
    of: Option<&UserId>,
    change: impl FnOnce(WebhookRecord) -> WebhookRecord,
) -> Result<Touched<WebhookRecord>, Fault> {
    let Some(webhook) = get(tx, id)?.filter(|webhook| of.is_none_or(|of| *of == webhook.user)) else {
        return Ok(Touched::NoSuch);
    };
    if webhook.revoked_at.is_some() {
        return Ok(Touched::Revoked(webhook));
    }
    let changed = change(webhook);
    tx.prepare_cached(
        "UPDATE webhook SET generation = ?2, previous_until = ?3, updated_at = ?4, revoked_at = ?5 WHERE id = ?1",
    )?
    .execute(params![
        Bits(id.bits()),
        changed.generation,
        changed.previous_until.map(At),
        At(changed.updated_at),
        changed.revoked_at.map(At),
    ])?;
    Ok(Touched::Done(changed))
}

/// See [`crate::Store::webhook_used`].
pub(super) fn used(tx: &Connection, id: WebhookId, at: Timestamp) -> Result<(), Fault> {
    tx.prepare_cached(
        "UPDATE webhook SET last_used_at = ?2 WHERE id = ?1 AND (last_used_at IS NULL OR last_used_at < ?2)",
    )?
    .execute(params![Bits(id.bits()), At(at)])?;
    Ok(())
}

/// See [`crate::Store::webhook_claim`].
pub(super) fn claim(tx: &Connection, delivery: &Delivery) -> Result<bool, Fault> {
    let webhook = Bits(delivery.webhook.bits());
    tx.prepare_cached("DELETE FROM webhook_delivery WHERE webhook_id = ?1 AND signed_at < ?2")?
        .execute(params![webhook, delivery.forget_before])?;
    let inserted = tx
        .prepare_cached(
            "INSERT INTO webhook_delivery (webhook_id, signed_at, delivery) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        )?
        .execute(params![webhook, delivery.signed_at, delivery.id])?;
    Ok(inserted == 1)
}

pub(super) fn from_row(r: &Row<'_>) -> Result<WebhookRecord, Fault> {
    let at = |column| Ok::<_, Fault>(r.get::<_, Option<At>>(column)?.map(|at| at.0));
    let signature: String = r.get(4)?;
    let signature = [Signature::Strict, Signature::Plain].into_iter().find(|s| s.as_str() == signature);
    Ok(WebhookRecord {
        id: WebhookId::from_bits(r.get::<_, Bits>(0)?.0),
        user: UserId::new(r.get::<_, String>(1)?),
        role: role(&r.get::<_, String>(2)?)?,
        name: r.get(3)?,
        signature: signature.ok_or_else(|| Fault::Damaged("a webhook has no known signature".into()))?,
        generation: r.get(5)?,
        previous_until: at(6)?,
        created_at: r.get::<_, At>(7)?.0,
        updated_at: r.get::<_, At>(8)?.0,
        revoked_at: at(9)?,
        last_used_at: at(10)?,
    })
}
