//! Makes a file ours: pragmas, then the migrations it has not seen.
//!
//! Migrations are SQL files, numbered from 1, applied in one transaction and recorded with a checksum. A file that knows
//! a migration we do not is of a newer program and is left alone.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};

use super::fault::Fault;

/// `bgag` in ASCII: tells our files from others'.
const APPLICATION_ID: i32 = 0x6267_6167;

/// The migrations, in order. Never edit one that was released: add the next.
pub(super) const MIGRATIONS: &[(&str, &str)] = &[
    ("0001_init", include_str!("migrations/0001_init.sql")),
    ("0010_steer", include_str!("migrations/0010_steer.sql")),
    ("0020_access", include_str!("migrations/0020_access.sql")),
    ("0030_trace", include_str!("migrations/0030_trace.sql")),
    ("0060_usage_day", include_str!("migrations/0060_usage_day.sql")),
];

/// How long a connection waits for another process that writes.
const BUSY: Duration = Duration::from_secs(10);

/// Statements kept prepared, per connection.
const STATEMENTS: usize = 128;

/// The pause before opening is tried again.
const PAUSE: Duration = Duration::from_millis(25);

/// Opens the one connection that writes, creating and migrating the file as needed. Blocks.
pub(super) fn open_writer(path: &Path) -> Result<Connection, Fault> {
    let begun = Instant::now();
    loop {
        match try_open_writer(path) {
            // Two that switch a new file to write-ahead mode would wait for each other, so SQLite refuses one at once.
            Err(Fault::Unavailable(_)) if begun.elapsed() < BUSY => {
                #[expect(clippy::disallowed_methods, reason = "runs on a thread for blocking work")]
                std::thread::sleep(PAUSE);
            }
            opened => return opened,
        }
    }
}

fn try_open_writer(path: &Path) -> Result<Connection, Fault> {
    let mut db = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    db.busy_timeout(BUSY)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    let ours = identify(&db)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "foreign_keys", "ON")?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    let mode: String = db.pragma_query_value(None, "journal_mode", |r| r.get(0))?;
    if mode != "wal" {
        return Err(Fault::NotWritable(format!(
            "the file system does not allow write-ahead logging (mode {mode})"
        )));
    }
    migrate(&mut db, ours)?;
    Ok(db)
}

/// Opens a connection that cannot write.
pub(super) fn open_reader(path: &Path) -> Result<Connection, Fault> {
    let db = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    db.busy_timeout(BUSY)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    db.pragma_update(None, "query_only", "ON")?;
    Ok(db)
}

/// Whose file it is.
enum Ours {
    /// Made by us.
    Yes,
    /// Empty.
    New,
}

fn identify(db: &Connection) -> Result<Ours, Fault> {
    // One snapshot: another process may be making it ours.
    let snapshot = db.unchecked_transaction()?;
    let tables: i64 = snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
    let application: i32 = snapshot.pragma_query_value(None, "application_id", |r| r.get(0))?;
    snapshot.finish()?;
    match (application, tables) {
        (APPLICATION_ID, _) => Ok(Ours::Yes),
        (0, 0) => Ok(Ours::New),
        (other, _) => Err(Fault::Damaged(format!(
            "this is an SQLite database of another program (application id {other:#x}); name another file"
        ))),
    }
}

fn migrate(db: &mut Connection, ours: Ours) -> Result<(), Fault> {
    let known = MIGRATIONS.len() as u32;
    if let Ours::Yes = ours
        && applied(db)? == Some(known)
    {
        return verify(db, known);
    }
    // Two processes may come here at once: the second finds the work done.
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_version (
           version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at INTEGER NOT NULL
         ) STRICT;",
    )?;
    let found = applied(&tx)?.unwrap_or(0);
    if found > known {
        return Err(Fault::Newer { found, known });
    }
    for (index, (name, sql)) in MIGRATIONS.iter().enumerate().skip(found as usize) {
        tx.execute_batch(sql)?;
        tx.execute(
            "INSERT INTO schema_version (version, name, checksum, applied_at) VALUES (?1, ?2, ?3, unixepoch())",
            params![index as i64 + 1, name, checksum(sql)],
        )?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.commit()?;
    verify(db, known)
}

fn applied(db: &Connection) -> Result<Option<u32>, Fault> {
    let table: Option<i64> = db
        .query_row("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_version'", [], |r| {
            r.get(0)
        })
        .optional()?;
    match table {
        Some(_) => Ok(db.query_row("SELECT max(version) FROM schema_version", [], |r| r.get(0))?),
        None => Ok(None),
    }
}

/// The first `count` migrations are ours.
fn verify(db: &Connection, count: u32) -> Result<(), Fault> {
    for (index, (name, sql)) in MIGRATIONS.iter().enumerate().take(count as usize) {
        let stored: Option<String> = db
            .query_row("SELECT checksum FROM schema_version WHERE version = ?1", [index as i64 + 1], |r| {
                r.get(0)
            })
            .optional()?;
        if stored.as_deref() != Some(&checksum(sql)) {
            return Err(Fault::Damaged(format!(
                "its migration {name} is not the one of this program; it was made by a development build: \
                 move the file away, or run the build that made it"
            )));
        }
    }
    Ok(())
}

/// Fails for a database of a newer program, or with migrations that are not ours; an older one is fine.
pub(super) fn known(db: &Connection) -> Result<(), Fault> {
    let (known, found) = (MIGRATIONS.len() as u32, applied(db)?.unwrap_or(0));
    if let Ours::New = identify(db)? {
        return Err(Fault::Damaged("it is empty".into()));
    }
    if found > known {
        return Err(Fault::Newer { found, known });
    }
    verify(db, found)
}

/// A file as a version made it that knew the first `count` migrations.
#[cfg(test)]
pub(super) fn make_as_of(path: &Path, count: usize) -> Result<(), Fault> {
    let db = Connection::open(path)?;
    db.execute_batch(
        "CREATE TABLE schema_version (
           version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at INTEGER NOT NULL
         ) STRICT;",
    )?;
    for (index, (name, sql)) in MIGRATIONS.iter().enumerate().take(count) {
        db.execute_batch(sql)?;
        db.execute(
            "INSERT INTO schema_version (version, name, checksum, applied_at) VALUES (?1, ?2, ?3, 0)",
            params![index as i64 + 1, name, checksum(sql)],
        )?;
    }
    db.pragma_update(None, "application_id", APPLICATION_ID)?;
    Ok(())
}

/// FNV-1a: finds an edited migration; it is no defence against anybody.
fn checksum(sql: &str) -> String {
    let hash =
        sql.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}
