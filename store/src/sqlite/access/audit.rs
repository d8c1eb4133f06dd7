//! The audit log.

use domain::{AuditId, UserId};
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params, params_from_iter};

use crate::record::{AuditFilter, AuditRecord};
use crate::sqlite::fault::Fault;
use crate::sqlite::value::{At, Bits};

/// See [`crate::Store::audit_append`].
pub(super) fn append(tx: &Connection, lines: &[AuditRecord]) -> Result<(), Fault> {
    let mut statement = tx.prepare_cached(
        "INSERT INTO audit (id, at, actor, authenticated_by, credential, action, object, status, request)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
    )?;
    for line in lines {
        statement.execute(params![
            Bits(line.id.bits()),
            At(line.at),
            line.actor.as_str(),
            line.authenticated_by,
            line.credential,
            line.action,
            line.object,
            line.status,
            line.request.to_string(),
        ])?;
    }
    Ok(())
}

/// See [`crate::Store::audit_list`].
pub(super) fn list(db: &Connection, filter: &AuditFilter) -> Result<Vec<AuditRecord>, Fault> {
    let mut sql = String::from(
        "SELECT id, at, actor, authenticated_by, credential, action, object, status, request FROM audit WHERE 1",
    );
    let mut values: Vec<Value> = Vec::new();
    if let Some(actor) = &filter.actor {
        sql.push_str(" AND actor = ?");
        values.push(Value::Text(actor.as_str().into()));
    }
    if let Some(action) = &filter.action {
        sql.push_str(" AND action = ?");
        values.push(Value::Text(action.clone()));
    }
    if let Some(object) = &filter.object {
        sql.push_str(" AND object = ?");
        values.push(Value::Text(object.clone()));
    }
    if let Some(before) = filter.before {
        sql.push_str(" AND id < ?");
        values.push(Value::Blob(before.bits().to_be_bytes().to_vec()));
    }
    sql.push_str(" ORDER BY id DESC LIMIT ?");
    values.push(Value::Integer(i64::from(filter.limit)));
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |r| Ok(from_row(r)))?;
    rows.map(|row| row?).collect()
}

fn from_row(r: &Row<'_>) -> Result<AuditRecord, Fault> {
    let request: String = r.get(8)?;
    Ok(AuditRecord {
        id: AuditId::from_bits(r.get::<_, Bits>(0)?.0),
        at: r.get::<_, At>(1)?.0,
        actor: UserId::new(r.get::<_, String>(2)?),
        authenticated_by: r.get(3)?,
        credential: r.get(4)?,
        action: r.get(5)?,
        object: r.get(6)?,
        status: r.get(7)?,
        request: request.parse().map_err(|e: domain::id::BadId| Fault::Damaged(e.to_string()))?,
    })
}
