//! Objects in this process: for tests and simulation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use jiff::Timestamp;

use crate::{Body, Key, Meta, Object, ObjectError, ObjectStore, body};

/// Clones are the same place.
#[derive(Debug, Clone, Default)]
pub struct MemoryObjects {
    all: Arc<Mutex<BTreeMap<Key, (Bytes, Timestamp)>>>,
}

impl MemoryObjects {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, (Bytes, Timestamp)>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn meta((key, (bytes, modified)): (&Key, &(Bytes, Timestamp))) -> Meta {
    Meta { key: key.clone(), bytes: bytes.len() as u64, modified: *modified }
}

#[async_trait]
impl ObjectStore for MemoryObjects {
    async fn put(&self, key: &Key, mut body: Body) -> Result<u64, ObjectError> {
        let mut all = BytesMut::new();
        loop {
            let piece = body.try_next().await;
            match piece.map_err(|source| ObjectError::Body { doing: format!("storing {key}"), source })? {
                Some(piece) => all.extend_from_slice(&piece),
                None => break,
            }
        }
        let bytes = all.len() as u64;
        let now = Timestamp::try_from(SystemTime::now()).unwrap_or_default();
        self.lock().insert(key.clone(), (all.freeze(), now));
        Ok(bytes)
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>, ObjectError> {
        let found = self.lock().get_key_value(key).map(|(k, v)| (meta((k, v)), v.0.clone()));
        Ok(found.map(|(meta, bytes)| Object { meta, body: body(bytes) }))
    }

    async fn stat(&self, key: &Key) -> Result<Option<Meta>, ObjectError> {
        Ok(self.lock().get_key_value(key).map(meta))
    }

    async fn delete(&self, key: &Key) -> Result<(), ObjectError> {
        self.lock().remove(key);
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Meta>, ObjectError> {
        Ok(self.lock().iter().filter(|(key, _)| key.as_str().starts_with(prefix)).map(meta).collect())
    }

    fn uri(&self, key: &Key) -> String {
        format!("memory:///{key}")
    }
}
