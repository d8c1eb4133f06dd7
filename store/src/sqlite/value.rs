//! How words of the domain are written in columns.

use domain::{EventId, ObligationId, TaskId};
use jiff::Timestamp;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Value, ValueRef};

/// An id as 16 big-endian bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bits(pub(super) u128);

/// A time as nanoseconds since 1970 (years 1677 to 2262; what lies beyond is moved to the edge).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At(pub(super) Timestamp);

/// A number that is never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Count(pub(super) u64);

impl From<TaskId> for Bits {
    fn from(id: TaskId) -> Bits {
        Bits(id.bits())
    }
}

impl From<EventId> for Bits {
    fn from(id: EventId) -> Bits {
        Bits(id.bits())
    }
}

impl From<ObligationId> for Bits {
    fn from(id: ObligationId) -> Bits {
        Bits(id.bits())
    }
}

impl Bits {
    pub(super) fn task(self) -> TaskId {
        TaskId::from_bits(self.0)
    }

    pub(super) fn event(self) -> EventId {
        EventId::from_bits(self.0)
    }

    pub(super) fn obligation(self) -> ObligationId {
        ObligationId::from_bits(self.0)
    }
}

impl ToSql for Bits {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Owned(Value::Blob(self.0.to_be_bytes().to_vec())))
    }
}

impl FromSql for Bits {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = value.as_blob()?;
        let bytes: [u8; 16] = bytes
            .try_into()
            .map_err(|_| FromSqlError::InvalidBlobSize { expected_size: 16, blob_size: bytes.len() })?;
        Ok(Bits(u128::from_be_bytes(bytes)))
    }
}

impl ToSql for At {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let nanos = self.0.as_nanosecond().clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        Ok(ToSqlOutput::Owned(Value::Integer(nanos as i64)))
    }
}

impl FromSql for At {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let nanos = value.as_i64()?;
        Timestamp::from_nanosecond(i128::from(nanos)).map(At).map_err(|_| FromSqlError::OutOfRange(nanos))
    }
}

impl ToSql for Count {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Owned(Value::Integer(i64::try_from(self.0).unwrap_or(i64::MAX))))
    }
}

impl FromSql for Count {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let n = value.as_i64()?;
        u64::try_from(n).map(Count).map_err(|_| FromSqlError::OutOfRange(n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_sort_as_ids_and_times_do() {
        let db = rusqlite::Connection::open_in_memory().unwrap();
        let less = |a: &dyn ToSql, b: &dyn ToSql| -> bool {
            db.query_row("SELECT ?1 < ?2", [a, b], |r| r.get(0)).unwrap()
        };
        assert!(less(&Bits(255), &Bits(256)));
        assert!(less(&Bits(1), &Bits(u128::MAX)));
        assert!(less(&At(Timestamp::from_second(-1).unwrap()), &At(Timestamp::from_second(0).unwrap())));
        assert!(less(&At(Timestamp::from_second(0).unwrap()), &At(Timestamp::MAX)));
    }
}
