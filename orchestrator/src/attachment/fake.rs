//! Doubles: a web of a few pages, and looks at bytes in this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use content::{Checked, MediaType, Refusal};
use domain::RepoRef;

use super::{Fetch, FetchError, Fetched, Inspect};

/// Looks at bytes in this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct InProcess;

#[async_trait]
impl Inspect for InProcess {
    async fn inspect(
        &self,
        declared: Option<MediaType>,
        bytes: Vec<u8>,
    ) -> Result<Result<Checked, Refusal>, String> {
        Ok(content::check(declared, &bytes))
    }
}

/// Pages by their addresses; any other address has none.
#[derive(Debug, Clone, Default)]
pub struct Web(Arc<Mutex<BTreeMap<String, Fetched>>>);

impl Web {
    /// Puts a page there.
    pub fn put(&self, url: &str, content_type: Option<&str>, bytes: impl Into<Vec<u8>>) {
        let page = Fetched { bytes: bytes.into(), content_type: content_type.map(str::to_owned) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(url.to_owned(), page);
    }
}

#[async_trait]
impl Fetch for Web {
    async fn fetch(&self, _repo: &RepoRef, url: &str, max: u64) -> Result<Fetched, FetchError> {
        let page = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(url).cloned();
        match page {
            Some(page) if page.bytes.len() as u64 <= max => Ok(page),
            Some(_) => Err(FetchError(format!("it has more than {max} bytes"))),
            None => Err(FetchError("it answered 404 Not Found".into())),
        }
    }
}
