//! Traces and replays.

use std::time::Duration;

use bytes::Bytes;
use domain::TaskId;
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use url::Url;

use super::{Client, ClientError};
use crate::rest::Data;
use crate::trace::{ReplayBundle, TraceAddress};

/// A server that sends nothing of a file for this long has gone.
const SILENCE: Duration = Duration::from_secs(120);

/// A file that comes from a server, piece by piece.
pub type Pieces = BoxStream<'static, Result<Bytes, ClientError>>;

impl Client {
    /// Where the trace of a task can be fetched.
    pub async fn trace(&self, task: TaskId) -> Result<TraceAddress, ClientError> {
        Ok(self.get::<Data<_>>(&format!("v1/tasks/{task}/trace"), "the address of the trace").await?.data)
    }

    /// What is known of a task, with its events.
    pub async fn replay(&self, task: TaskId) -> Result<ReplayBundle, ClientError> {
        Ok(self.get::<Data<_>>(&format!("v1/tasks/{task}/replay"), "the replay bundle").await?.data)
    }

    /// What such an address leads to. The key is not sent: the address is enough, and may be of another server.
    pub async fn fetch(&self, address: &str) -> Result<Pieces, ClientError> {
        let bad = |why: String| ClientError::BadUrl { url: address.to_owned(), why };
        let url = Url::parse(address).map_err(|e| bad(e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("it must begin with http:// or https://".into()));
        }
        let answer = tokio::time::timeout(SILENCE, self.send(self.http.get(url))).await;
        let answer = answer.map_err(|_| silent())??;
        let base = self.base.to_string();
        let pieces = answer
            .bytes_stream()
            .map_err(move |e| ClientError::Unreachable { url: base.clone(), source: e.without_url() });
        let pieces = futures_util::stream::unfold(pieces, |mut pieces| async move {
            match tokio::time::timeout(SILENCE, pieces.next()).await {
                Ok(piece) => Some((piece?, pieces)),
                Err(_) => Some((Err(silent()), pieces)),
            }
        });
        Ok(pieces.boxed())
    }
}

fn silent() -> ClientError {
    ClientError::BadAnswer { what: "the file", why: format!("nothing came for {} s", SILENCE.as_secs()) }
}
