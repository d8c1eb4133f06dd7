//! API keys.

use domain::access::{Scope, Scopes};
use domain::{ApiKeyId, UserId};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::role;
use crate::record::{ApiKeyRecord, Touched};
use crate::sqlite::fault::Fault;
use crate::sqlite::value::{At, Bits};

pub(super) const COLUMNS: &str =
    "id, user, role, name, hash, scopes, created_at, updated_at, expires_at, revoked_at, last_used_at";

/// See [`crate::Store::api_key_create`].
pub(super) fn create(tx: &Connection, key: &ApiKeyRecord) -> Result<(), Fault> {
    let scopes: Vec<_> = key.scopes.iter().map(Scope::as_str).collect();
    tx.prepare_cached(
        "INSERT INTO api_key (id, user, role, name, hash, scopes, created_at, updated_at, expires_at, revoked_at, last_used_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute(params![
        Bits(key.id.bits()),
        key.user.as_str(),
        key.role.as_str(),
        key.name,
        key.hash,
        scopes.join(" "),
        At(key.created_at),
        At(key.updated_at),
        key.expires_at.map(At),
        key.revoked_at.map(At),
        key.last_used_at.map(At),
    ])?;
    Ok(())
}

/// See [`crate::Store::api_key_get`].
pub(super) fn get(db: &Connection, id: ApiKeyId) -> Result<Option<ApiKeyRecord>, Fault> {
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM api_key WHERE id = ?1"))?
        .query_row([Bits(id.bits())], |r| Ok(from_row(r)))
        .optional()?
        .transpose()
}

/// See [`crate::Store::api_key_revoke`].
pub(super) fn revoke(
    tx: &Connection,
    id: ApiKeyId,
    of: Option<&UserId>,
    now: Timestamp,
) -> Result<Touched<ApiKeyRecord>, Fault> {
    let Some(key) = get(tx, id)?.filter(|key| of.is_none_or(|of| *of == key.user)) else {
        return Ok(Touched::NoSuch);
    };
    if key.revoked_at.is_some() {
        return Ok(Touched::Revoked(key));
    }
    tx.prepare_cached("UPDATE api_key SET revoked_at = ?2, updated_at = ?2 WHERE id = ?1")?
        .execute(params![Bits(id.bits()), At(now)])?;
    Ok(Touched::Done(ApiKeyRecord { revoked_at: Some(now), updated_at: now, ..key }))
}

/// See [`crate::Store::api_key_used`].
pub(super) fn used(tx: &Connection, id: ApiKeyId, at: Timestamp) -> Result<(), Fault> {
    tx.prepare_cached(
        "UPDATE api_key SET last_used_at = ?2 WHERE id = ?1 AND (last_used_at IS NULL OR last_used_at < ?2)",
    )?
    .execute(params![Bits(id.bits()), At(at)])?;
    Ok(())
}

pub(super) fn from_row(r: &Row<'_>) -> Result<ApiKeyRecord, Fault> {
    let at = |column| Ok::<_, Fault>(r.get::<_, Option<At>>(column)?.map(|at| at.0));
    let scopes: String = r.get(5)?;
    Ok(ApiKeyRecord {
        id: ApiKeyId::from_bits(r.get::<_, Bits>(0)?.0),
        user: UserId::new(r.get::<_, String>(1)?),
        role: role(&r.get::<_, String>(2)?)?,
        name: r.get(3)?,
        hash: r.get(4)?,
        // A scope that this program does not know opens nothing.
        scopes: scopes.split(' ').filter_map(|scope| scope.parse().ok()).collect::<Scopes>(),
        created_at: r.get::<_, At>(6)?.0,
        updated_at: r.get::<_, At>(7)?.0,
        expires_at: at(8)?,
        revoked_at: at(9)?,
        last_used_at: at(10)?,
    })
}
