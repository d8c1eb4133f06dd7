//! Objects in a bucket of Amazon S3, or of a service that speaks its protocol.
//!
//! One object is one key below the prefix. A put is one request, or for what is larger than a part one multipart upload,
//! so that an object is there whole or not at all; nothing is ever in memory but one part of it. Calls that failed for a
//! reason that passes are tried again, with growing pauses, as long as [`Settings::patience`].
//!
//! What a crash leaves of a large put is an upload that was never completed. It is no object, is not listed, and is not
//! found again from here: a lifecycle rule of the bucket removes it.
//!
//! | module | holds |
//! |---|---|
//! | [`settings`] | where the bucket is, and who asks |
//! | `cause` | what an answer of the service means, in words of the seam |
//! | `upload` | a body of any length as one object |
//! | `check` | whether all that is needed is allowed |

mod cause;
mod check;
pub mod settings;
mod upload;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use object_store::aws::AmazonS3;
use object_store::list::{PaginatedListOptions, PaginatedListStore as _};
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStore as _};
use objects::{Body, Key, Meta, Object, ObjectError, ObjectStore};

use crate::cause::{Cause, Place};
pub use crate::settings::{Addressing, Credentials, Role, Settings, SettingsError};

/// A bucket, or a prefix in one. Clones share their connections.
#[derive(Clone)]
pub struct S3Objects {
    client: Arc<AmazonS3>,
    place: Place,
    patience: Duration,
    part_bytes: usize,
}

impl fmt::Debug for S3Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Objects").field("uri", &self.place.uri("")).finish_non_exhaustive()
    }
}

impl S3Objects {
    /// The objects of a bucket. Nothing is asked of the service yet; [`S3Objects::check`] does.
    pub fn new(settings: &Settings) -> Result<S3Objects, SettingsError> {
        Ok(S3Objects {
            client: Arc::new(settings.client()?),
            place: settings.place(),
            patience: settings.patience,
            part_bytes: upload::PART_BYTES,
        })
    }

    /// The same with parts of this size, which services want to be 5 MiB at least.
    #[must_use]
    pub fn with_parts_of(mut self, bytes: usize) -> S3Objects {
        self.part_bytes = bytes;
        self
    }

    /// `s3://bucket/prefix/`, for people.
    pub fn address(&self) -> String {
        self.place.uri("")
    }

    /// Writes, reads, lists and removes one small object, and looks for one that is not there: whether all that is needed
    /// is allowed. The error says what is missing.
    pub async fn check(&self) -> Result<(), ObjectError> {
        check::check(self).await
    }

    /// The whole name of an object in the bucket.
    fn path(&self, name: &str) -> Result<Path, ObjectError> {
        // Keys are plain, so that this cannot fail for one.
        Path::parse(self.place.name(name)).map_err(|e| ObjectError::Refused {
            doing: format!("naming {}", self.place.uri(name)),
            reason: e.to_string(),
        })
    }

    fn cause(&self, error: &object_store::Error) -> Cause {
        cause::of(error, &self.place, self.patience)
    }

    /// What could not be done; a missing object counts as refused here.
    fn failed(&self, doing: String, error: &object_store::Error) -> ObjectError {
        self.cause(error).error(doing)
    }

    /// An object by its name below the prefix.
    async fn fetch(&self, name: &str) -> Result<Option<(ObjectMeta, Body)>, ObjectError> {
        let doing = format!("reading {}", self.place.uri(name));
        match self.client.get_opts(&self.path(name)?, GetOptions::default()).await {
            Ok(found) => {
                let meta = found.meta.clone();
                let this = self.clone();
                let broken = move |e: object_store::Error| {
                    io::Error::other(this.cause(&e).error(doing.clone()).to_string())
                };
                Ok(Some((meta, found.into_stream().map_err(broken).boxed())))
            }
            Err(error) => match self.cause(&error) {
                Cause::Absent => Ok(None),
                cause => Err(cause.error(doing)),
            },
        }
    }

    async fn remove(&self, name: &str) -> Result<(), ObjectError> {
        let one = stream::iter([Ok(self.path(name)?)]).boxed();
        match self.client.delete_stream(one).try_collect::<Vec<_>>().await {
            Ok(_) => Ok(()),
            Err(error) => match self.cause(&error) {
                Cause::Absent => Ok(()),
                cause => Err(cause.error(format!("removing {}", self.place.uri(name)))),
            },
        }
    }

    /// One page of names below the prefix that begin with `prefix`.
    async fn page(
        &self,
        prefix: &str,
        token: Option<String>,
    ) -> Result<(Vec<ObjectMeta>, Option<String>), ObjectError> {
        let options = PaginatedListOptions { page_token: token, ..PaginatedListOptions::default() };
        let page = self.client.list_paginated(Some(&self.place.name(prefix)), options).await;
        let page = page.map_err(|e| self.failed(format!("listing {}", self.place.uri(prefix)), &e))?;
        Ok((page.result.objects, page.page_token))
    }
}

#[async_trait]
impl ObjectStore for S3Objects {
    async fn put(&self, key: &Key, body: Body) -> Result<u64, ObjectError> {
        upload::put(self, key, body).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>, ObjectError> {
        let found = self.fetch(key.as_str()).await?;
        Ok(found.map(|(found, body)| Object { meta: meta(key.clone(), &found), body }))
    }

    async fn stat(&self, key: &Key) -> Result<Option<Meta>, ObjectError> {
        let head = GetOptions { head: true, ..GetOptions::default() };
        match self.client.get_opts(&self.path(key.as_str())?, head).await {
            Ok(found) => Ok(Some(meta(key.clone(), &found.meta))),
            Err(error) => match self.cause(&error) {
                // An answer to HEAD has no words: whether the object or the whole bucket is not there, say, the answer to
                // GET tells.
                Cause::Absent | Cause::Refused(_) => Ok(self.get(key).await?.map(|object| object.meta)),
                cause @ (Cause::Full(_) | Cause::Unavailable(_)) => {
                    Err(cause.error(format!("looking at {}", self.uri(key))))
                }
            },
        }
    }

    async fn delete(&self, key: &Key) -> Result<(), ObjectError> {
        self.remove(key.as_str()).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Meta>, ObjectError> {
        if !begins_a_key(prefix) {
            return Ok(Vec::new());
        }
        let (mut found, mut token) = (Vec::new(), None);
        loop {
            let (page, next) = self.page(prefix, token).await?;
            for object in page {
                // What is there by another hand, and no key, is none of ours.
                let name = self.place.below(object.location.as_ref());
                if let Some(key) =
                    name.filter(|name| name.starts_with(prefix)).and_then(|n| n.parse::<Key>().ok())
                {
                    found.push(meta(key, &object));
                }
            }
            match next {
                Some(next) => token = Some(next),
                None => break,
            }
        }
        // Not every service lists in the order of bytes.
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    fn uri(&self, key: &Key) -> String {
        self.place.uri(key.as_str())
    }
}

/// Whether a key can begin so.
fn begins_a_key(prefix: &str) -> bool {
    let key = |text: &str| text.parse::<Key>().is_ok();
    key(prefix) || key(&format!("{prefix}x"))
}

fn meta(key: Key, found: &ObjectMeta) -> Meta {
    let modified = Timestamp::from_millisecond(found.last_modified.timestamp_millis());
    Meta { key, bytes: found.size, modified: modified.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_begin_a_key_is_asked_for() {
        for yes in ["", "p", "p/", "p/a-", "p/a.", &"x".repeat(200)] {
            assert!(begins_a_key(yes), "{yes}");
        }
        for no in ["/", "p//", "../", "p/.", "ä", "a b", &"x".repeat(201)] {
            assert!(!begins_a_key(no), "{no}");
        }
    }
}
