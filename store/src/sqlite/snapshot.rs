//! Copies of a database that is in use, and whether one is sound.

use std::path::Path;

use rusqlite::Connection;

use super::fault::Fault;
use super::schema;
use crate::driver::StoreError;

/// Writes a copy of the database at `from`, as it stands at one moment, to the new file `to`. A server may use the
/// database meanwhile. Blocks.
pub fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    let copied = || -> Result<(), Fault> {
        let db = schema::open_reader(from)?;
        // The copy is another file: the source stays unwritten.
        db.pragma_update(None, "query_only", "OFF")?;
        let target = to.to_str().ok_or_else(|| {
            Fault::NotWritable(format!("{} is not a path that SQLite can name", to.display()))
        })?;
        db.execute("VACUUM INTO ?1", [target])?;
        Ok(())
    };
    copied().map_err(|fault| fault.during(format!("copying the database to {}", to.display()), from))
}

/// What is wrong with the database at `path`; empty when it is sound. Reads all of it. Blocks.
pub fn problems(path: &Path) -> Result<Vec<String>, StoreError> {
    let checked = || -> Result<Vec<String>, Fault> {
        let db = schema::open_reader(path)?;
        schema::known(&db)?;
        let mut problems = Vec::new();
        list(&db, "PRAGMA integrity_check(20)", "the file is damaged", &mut problems)?;
        problems.retain(|problem| !problem.ends_with(": ok"));
        for (sql, what) in INVARIANTS {
            list(&db, sql, what, &mut problems)?;
        }
        Ok(problems)
    };
    checked().map_err(|fault| fault.during("checking the database".into(), path))
}

/// What holds in every database, whatever ran or crashed. Each statement finds the rows that break it.
const INVARIANTS: &[(&str, &str)] = &[
    (
        "SELECT \"table\" || ' row ' || coalesce(rowid, '?') FROM pragma_foreign_key_check LIMIT 20",
        "a row refers to one that is not there",
    ),
    (
        "SELECT hex(id) FROM task t WHERE last_seq <> (SELECT count(*) FROM event e WHERE e.task_id = t.id)
           OR last_seq <> (SELECT coalesce(max(seq), 0) FROM event e WHERE e.task_id = t.id) LIMIT 20",
        "the events of a task have a hole",
    ),
    (
        "SELECT hex(s.task_id) || ' ' || s.scope FROM slot s JOIN task t ON t.id = s.task_id
          WHERE t.status IN ('COMPLETED', 'FAILED', 'CANCELLED', 'TIMED_OUT') LIMIT 20",
        "a task that has ended holds a slot",
    ),
    (
        "SELECT hex(id) FROM task WHERE status IN ('COMPLETED', 'FAILED', 'CANCELLED', 'TIMED_OUT')
           AND completed_at IS NULL LIMIT 20",
        "a task has ended at no time",
    ),
    (
        "SELECT hex(t.id) FROM task t WHERE t.cost_micro <>
           (SELECT coalesce(sum(u.cost_micro), 0) FROM usage u WHERE u.task_id = t.id) LIMIT 20",
        "what a task has spent is not the sum of its calls",
    ),
];

fn list(db: &Connection, sql: &str, what: &str, problems: &mut Vec<String>) -> Result<(), Fault> {
    let mut statement = db.prepare(sql)?;
    let rows = statement.query_map([], |r| r.get::<_, String>(0))?;
    for row in rows {
        problems.push(format!("{what}: {}", row?));
    }
    Ok(())
}
