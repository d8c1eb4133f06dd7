//! What can go wrong below, before it is known which operation it happened to.

use std::path::Path;

use domain::TaskId;
use rusqlite::ErrorCode;

use crate::driver::StoreError;

/// A failure that can be told to every operation of a batch.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// Try again.
    Unavailable(String),
    /// A person must act.
    NotWritable(String),
    /// The file holds what this program did not write.
    Damaged(String),
    /// The file is of a newer program.
    Newer {
        /// Its schema version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// No such task.
    NoSuchTask(TaskId),
}

impl Fault {
    /// The same, with the operation and the file.
    pub(super) fn during(self, doing: String, path: &Path) -> StoreError {
        let path = path.display().to_string();
        match self {
            Fault::Unavailable(reason) => StoreError::Unavailable { doing, reason },
            Fault::NotWritable(reason) => StoreError::NotWritable { doing, path, reason },
            Fault::Damaged(reason) => StoreError::Damaged { doing, reason: format!("{path}: {reason}") },
            Fault::Newer { found, known } => StoreError::Newer { path, found, known },
            Fault::NoSuchTask(task) => StoreError::NoSuchTask(task),
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Fault {
        let reason = error.to_string();
        match error.sqlite_error_code() {
            Some(
                ErrorCode::ReadOnly
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied,
            ) => Fault::NotWritable(reason),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation) => {
                Fault::Damaged(reason)
            }
            // Busy, locked, interrupted, out of memory: the same call may succeed later.
            Some(_) => Fault::Unavailable(reason),
            // Not SQLite's: a row that does not convert to what we wrote.
            None => Fault::Damaged(reason),
        }
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Fault {
        Fault::Damaged(format!("JSON: {error}"))
    }
}
