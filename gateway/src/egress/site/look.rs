//! What a registry says about itself: where the files are that its index points to. Asked with the credential that the
//! address holds, if any; with this machine's certificates; and never waited for long.

use std::time::Duration;

use futures_util::StreamExt as _;
use url::Url;

/// One request, to its last byte.
const REQUEST: Duration = Duration::from_secs(5);
/// Longest page that is read; what is beyond is not needed.
const PAGE_MAX: usize = 512 * 1024;

/// The client.
#[derive(Debug)]
pub(super) struct Look(Option<reqwest::Client>);

/// A page.
#[derive(Debug)]
pub(super) struct Page {
    /// Where it was in the end.
    pub url: Url,
    /// Its text, perhaps cut.
    pub text: String,
}

impl Look {
    pub(super) fn new() -> Look {
        let client = reqwest::Client::builder()
            .connect_timeout(REQUEST)
            .timeout(REQUEST)
            .redirect(reqwest::redirect::Policy::limited(3))
            .user_agent(concat!("bgagent/", env!("CARGO_PKG_VERSION")))
            .build();
        Look(client.ok())
    }

    /// Reads a page. An error says what happened, without the address, which may hold a credential.
    pub(super) async fn page(&self, url: Url, accept: &str) -> Result<Page, String> {
        let client = self.0.as_ref().ok_or("no client of HTTP can be made here")?;
        let words = |e: reqwest::Error| {
            let e = e.without_url();
            if e.is_timeout() { format!("no answer within {} s", REQUEST.as_secs()) } else { root(&e) }
        };
        let answer = client.get(url).header("accept", accept).send().await.map_err(words)?;
        if !answer.status().is_success() {
            return Err(format!("the answer was {}", answer.status()));
        }
        let url = answer.url().clone();
        let mut bytes = Vec::new();
        let mut body = answer.bytes_stream();
        while bytes.len() < PAGE_MAX
            && let Some(chunk) = body.next().await
        {
            bytes.extend_from_slice(&chunk.map_err(words)?);
        }
        Ok(Page { url, text: String::from_utf8_lossy(&bytes).into_owned() })
    }
}

/// The innermost cause, which is what a person can act on.
fn root(failure: &dyn std::error::Error) -> String {
    let mut inner = failure;
    while let Some(cause) = inner.source() {
        inner = cause;
    }
    inner.to_string()
}
