//! A body of any length as one object: one request when it fits into a part, a multipart upload when it does not.

use std::io;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::{ObjectStore as _, PutMultipartOptions, PutOptions, PutPayload};
use objects::{Body, Key, ObjectError};
use tracing::warn;

use crate::S3Objects;

/// Bytes of a part, and so of a body that are in memory at once. Services take 10,000 parts: 80 GB.
pub(crate) const PART_BYTES: usize = 8 * 1024 * 1024;

/// What ended an upload.
enum Problem {
    Service(object_store::Error),
    Body(io::Error),
}

pub(crate) async fn put(to: &S3Objects, key: &Key, body: Body) -> Result<u64, ObjectError> {
    let doing = || format!("storing {}", to.place.uri(key.as_str()));
    let mut parts = Parts { body, part_bytes: to.part_bytes, left: Bytes::new() };
    let path = to.path(key.as_str())?;
    let stored = async {
        let first = parts.next().await?;
        if first.bytes < to.part_bytes {
            let bytes = first.bytes as u64;
            to.client.put_opts(&path, first.payload(), PutOptions::default()).await?;
            return Ok(bytes);
        }
        let mut upload = to.client.put_multipart_opts(&path, PutMultipartOptions::default()).await?;
        let done = async {
            let (mut part, mut bytes) = (first, 0);
            // What ends exactly with a part is followed by none.
            while part.bytes > 0 {
                bytes += part.bytes as u64;
                let last = part.bytes < to.part_bytes;
                upload.put_part(part.payload()).await?;
                if last {
                    break;
                }
                part = parts.next().await?;
            }
            upload.complete().await?;
            Ok(bytes)
        };
        let done: Result<u64, Problem> = done.await;
        if done.is_err()
            && let Err(error) = upload.abort().await
        {
            // It is no object and never will be; a lifecycle rule of the bucket removes its parts.
            let reason = to.failed("giving up an upload".into(), &error).to_string();
            warn!(object.key = %key, error = reason, "parts of an upload that failed may stay in the bucket");
        }
        done
    };
    stored.await.map_err(|problem| match problem {
        Problem::Service(error) => to.failed(doing(), &error),
        Problem::Body(source) => ObjectError::Body { doing: doing(), source },
    })
}

impl From<object_store::Error> for Problem {
    fn from(error: object_store::Error) -> Problem {
        Problem::Service(error)
    }
}

/// A body, cut into parts of one size; the last one is smaller.
struct Parts {
    body: Body,
    part_bytes: usize,
    left: Bytes,
}

#[derive(Default)]
struct Part {
    pieces: Vec<Bytes>,
    bytes: usize,
}

impl Part {
    fn payload(self) -> PutPayload {
        self.pieces.into_iter().collect()
    }
}

impl Parts {
    async fn next(&mut self) -> Result<Part, Problem> {
        let mut part = Part::default();
        while part.bytes < self.part_bytes {
            if self.left.is_empty() {
                match self.body.try_next().await.map_err(Problem::Body)? {
                    Some(piece) => self.left = piece,
                    None => break,
                }
            }
            let taken = self.left.split_to(self.left.len().min(self.part_bytes - part.bytes));
            part.bytes += taken.len();
            if !taken.is_empty() {
                part.pieces.push(taken);
            }
        }
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};

    use super::*;

    /// Pieces of these sizes, cut into parts of 10.
    async fn cut(pieces: &[usize]) -> Vec<usize> {
        let pieces: Vec<_> = pieces.iter().map(|n| Ok(Bytes::from(vec![0; *n]))).collect();
        let mut parts = Parts { body: stream::iter(pieces).boxed(), part_bytes: 10, left: Bytes::new() };
        let mut sizes = Vec::new();
        loop {
            match parts.next().await {
                Ok(part) if part.bytes == 0 => return sizes,
                Ok(part) => sizes.push(part.payload().content_length()),
                Err(_) => panic!("the body does not break"),
            }
        }
    }

    #[tokio::test]
    async fn parts_are_of_one_size_but_for_the_last() {
        assert_eq!(cut(&[]).await, Vec::<usize>::new());
        assert_eq!(cut(&[0, 3, 0]).await, [3]);
        assert_eq!(cut(&[10]).await, [10]);
        assert_eq!(cut(&[4, 4, 4, 4, 4]).await, [10, 10]);
        assert_eq!(cut(&[35]).await, [10, 10, 10, 5]);
        assert_eq!(cut(&[9, 2, 30]).await, [10, 10, 10, 10, 1]);
    }
}
