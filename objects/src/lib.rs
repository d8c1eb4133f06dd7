//! Large things that are written once and read whole: traces, artifacts. The facts about them are the store's.
//!
//! [`ObjectStore`] is the seam; every implementation passes [`conformance`]. An object is there whole or not at all: a
//! [`put`](ObjectStore::put) that ended is durable, one that was cut off (by a crash, by a body that broke) leaves what was
//! there before. There is no append and no lock: whoever needs several writers gives each a key of its own.
//!
//! | module | keeps objects |
//! |---|---|
//! | [`local`] | as files of a folder |
//! | [`memory`] | in this process; for tests and simulation |
//!
//! A bucket of S3 is a crate of its own, `objects-s3`.

pub mod conformance;
mod key;
pub mod local;
pub mod memory;

use std::fmt;
use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;

pub use key::{BadKey, Key, segment};
pub use local::LocalObjects;
pub use memory::MemoryObjects;

/// The bytes of an object, piece by piece.
pub type Body = BoxStream<'static, io::Result<Bytes>>;

/// A place for objects.
#[async_trait]
pub trait ObjectStore: Send + Sync + fmt::Debug {
    /// Stores an object, over one that is there; answers how many bytes it has. When this returns, it is durable. When
    /// the body fails, nothing has changed.
    async fn put(&self, key: &Key, body: Body) -> Result<u64, ObjectError>;

    /// An object with its bytes; `None` when there is none. What is replaced or deleted meanwhile is still read whole.
    async fn get(&self, key: &Key) -> Result<Option<Object>, ObjectError>;

    /// What is known of an object without reading it.
    async fn stat(&self, key: &Key) -> Result<Option<Meta>, ObjectError>;

    /// Removes an object; one that is not there is removed already.
    async fn delete(&self, key: &Key) -> Result<(), ObjectError>;

    /// The objects whose keys begin with `prefix` (any text, empty for all), in the order of their keys.
    async fn list(&self, prefix: &str) -> Result<Vec<Meta>, ObjectError>;

    /// The address of an object, for people and records: `file:///…`, `s3://…`. It grants nothing.
    fn uri(&self, key: &Key) -> String;
}

/// What is known of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Its key.
    pub key: Key,
    /// Its size.
    pub bytes: u64,
    /// When it was stored.
    pub modified: Timestamp,
}

/// An object that is read.
pub struct Object {
    /// What is known of it.
    pub meta: Meta,
    /// Its bytes.
    pub body: Body,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("meta", &self.meta).finish_non_exhaustive()
    }
}

impl Object {
    /// All bytes of it, at most `max`.
    pub async fn whole(self, max: usize) -> io::Result<Vec<u8>> {
        let mut body = self.body;
        let mut all = Vec::new();
        while let Some(piece) = body.try_next().await? {
            if all.len() + piece.len() > max {
                let what = format!("{} is larger than {max} bytes", self.meta.key);
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }
}

/// Bytes that are at hand, as a body.
pub fn body(bytes: impl Into<Bytes>) -> Body {
    stream::once(std::future::ready(Ok(bytes.into()))).boxed()
}

/// What could not be done. The variants are what a caller branches on.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The place cannot be reached or is busy: the same call may succeed later.
    #[error("{doing}: {reason}")]
    Unavailable {
        /// The operation and its object.
        doing: String,
        /// Why.
        reason: String,
    },
    /// The disk is full or read-only, or the place does not let us: a person must act.
    #[error("{doing}: {reason}; free some space or make it writable")]
    NotWritable {
        /// The operation and its object.
        doing: String,
        /// Why.
        reason: String,
    },
    /// The place refuses, or is not what was configured (no such bucket, no permission): a person must act.
    #[error("{doing}: {reason}")]
    Refused {
        /// The operation and its object.
        doing: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The bytes to store could not be had.
    #[error("{doing}: what was to be stored broke off: {source}")]
    Body {
        /// The operation and its object.
        doing: String,
        /// Why.
        source: io::Error,
    },
}

impl ObjectError {
    /// What a file system refused.
    fn of_disk(doing: String, error: &io::Error) -> ObjectError {
        use io::ErrorKind as Kind;
        let reason = error.to_string();
        match error.kind() {
            Kind::StorageFull
            | Kind::QuotaExceeded
            | Kind::PermissionDenied
            | Kind::ReadOnlyFilesystem
            | Kind::NotADirectory
            | Kind::AlreadyExists
            | Kind::IsADirectory => ObjectError::NotWritable { doing, reason },
            _ => ObjectError::Unavailable { doing, reason },
        }
    }
}
