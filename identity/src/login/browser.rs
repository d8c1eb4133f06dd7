//! Signing in with a browser on this machine: authorization code with PKCE (RFC 7636), back to this machine's loopback
//! (RFC 8252). The listener takes one answer, and only one that carries this login's `state`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;
use url::form_urlencoded;

use super::{Answer, Client, LoginError, NotGranted, Tokens, random};
use crate::discovery;

/// Nobody is waited for longer.
const WAIT: Duration = Duration::from_secs(300);
/// A browser sends its request within this.
const REQUEST: Duration = Duration::from_secs(5);
/// A request is no longer.
const REQUEST_MAX_BYTES: usize = 16 * 1024;

/// A login that waits for its browser.
pub struct Browser {
    /// Where to send the browser.
    pub url: Url,
    listener: TcpListener,
    redirect: Url,
    state: String,
    nonce: String,
    verifier: String,
}

impl std::fmt::Debug for Browser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Browser").field("redirect", &self.redirect.as_str()).finish_non_exhaustive()
    }
}

/// What a request of the browser is.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Code(String),
    Refused(NotGranted),
    /// Not this login's answer: an icon, another page, somebody who guesses.
    Other,
}

impl Client {
    /// Begins a login: the browser is to be sent to [`Browser::url`].
    pub async fn browser(&self) -> Result<Browser, LoginError> {
        let none = || LoginError::Unsupported {
            issuer: self.provider.issuer.clone(),
            what: "it names no address for browsers",
            instead: "Use `bgagent login --device`.",
        };
        let mut url = self.metadata.authorization.clone().ok_or_else(none)?;
        let (listener, redirect) = self.listen().await?;
        let (state, nonce, verifier) = (random()?, random()?, random()?);
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.provider.client_id)
            .append_pair("redirect_uri", redirect.as_str())
            .append_pair("scope", &self.provider.scopes.join(" "))
            .append_pair("state", &state)
            .append_pair("nonce", &nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .extend_pairs(self.parameters());
        // OpenID Connect Core, 11: providers give a refresh token only after a consent.
        if self.provider.scopes.iter().any(|scope| scope == "offline_access") {
            url.query_pairs_mut().append_pair("prompt", "consent");
        }
        Ok(Browser { url, listener, redirect, state, nonce, verifier })
    }

    async fn listen(&self) -> Result<(TcpListener, Url), LoginError> {
        let failed = |e: std::io::Error| LoginError::Machine(format!("listening for the browser: {e}"));
        let bad =
            |why: &str| LoginError::Provider { issuer: self.provider.issuer.clone(), why: why.to_owned() };
        let (port, mut redirect) = match &self.provider.redirect_url {
            Some(url) => {
                let url = discovery::redirect(url).map_err(bad)?;
                (url.port().unwrap_or(0), url)
            }
            None => (0, Url::parse("http://127.0.0.1/callback").map_err(|e| bad(&e.to_string()))?),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let _ = redirect.set_port(Some(port));
        Ok((listener, redirect))
    }

    /// Waits until the browser comes back, and takes the tokens. `now` is asked when it has.
    pub async fn returned(
        &self,
        browser: Browser,
        now: impl Fn() -> Timestamp,
    ) -> Result<Tokens, LoginError> {
        let code = browser.code(&self.provider.issuer).await?.map_err(|refused| self.refused(refused))?;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", browser.redirect.as_str()),
            ("code_verifier", browser.verifier.as_str()),
        ];
        match self.post_token(&form).await? {
            Answer::Granted(body) => self.tokens(&body, Some(&browser.nonce), now()),
            Answer::NotGranted(refused) => Err(self.refused(refused)),
        }
    }
}

impl Browser {
    async fn code(&self, issuer: &str) -> Result<Result<String, NotGranted>, LoginError> {
        let deadline = Instant::now() + WAIT;
        loop {
            let late = |_| LoginError::TooLate { minutes: WAIT.as_secs() / 60 };
            // A connection that breaks off is not the browser's last.
            let Ok((mut stream, _)) = timeout_at(deadline, self.listener.accept()).await.map_err(late)?
            else {
                continue;
            };
            let Ok(Some(target)) = timeout(REQUEST, target(&mut stream)).await else { continue };
            let (status, words, came) = match came(&target, self.redirect.path(), &self.state, issuer) {
                Came::Code(code) => ("200 OK", "You are signed in. You can close this page.", Some(Ok(code))),
                Came::Refused(why) => {
                    ("200 OK", "You are not signed in. The terminal says why.", Some(Err(why)))
                }
                Came::Other => ("404 Not Found", "There is nothing here.", None),
            };
            let _ = timeout(REQUEST, answer(&mut stream, status, words)).await;
            if let Some(came) = came {
                return Ok(came);
            }
        }
    }
}

/// The target of a GET, read to the end of its headers.
async fn target(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > REQUEST_MAX_BYTES || stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let line = String::from_utf8(head.split(|byte| *byte == b'\r').next()?.to_vec()).ok()?;
    let mut words = line.split(' ');
    (words.next()? == "GET").then(|| words.next().map(str::to_owned))?
}

async fn answer(stream: &mut TcpStream, status: &str, words: &str) -> std::io::Result<()> {
    let page = format!("<!doctype html><meta charset=utf-8><title>bgagent</title><p>{words}</p>");
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Referrer-Policy: no-referrer\r\nContent-Security-Policy: default-src 'none'\r\nConnection: close\r\n\r\n",
        page.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(page.as_bytes()).await?;
    stream.shutdown().await
}

fn came(target: &str, path: &str, state: &str, issuer: &str) -> Came {
    let (at, query) = target.split_once('?').unwrap_or((target, ""));
    let mut pairs = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        // RFC 6749, 3.1: no parameter comes twice.
        if pairs.insert(name.into_owned(), value.into_owned()).is_some() {
            return Came::Other;
        }
    }
    let ours = pairs.get("state").is_some_and(|told| bool::from(told.as_bytes().ct_eq(state.as_bytes())));
    // RFC 9207: a provider that says who it is must be the one that was asked.
    let theirs = pairs.get("iss").is_none_or(|told| told == issuer);
    if at != path || !ours || !theirs {
        return Came::Other;
    }
    match (pairs.remove("code"), pairs.remove("error")) {
        (Some(code), None) => Came::Code(code),
        (_, Some(error)) => {
            Came::Refused(NotGranted { error, error_description: pairs.remove("error_description") })
        }
        (None, None) => Came::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_logins_answer_is_taken() {
        let refused = |error: &str, words: Option<&str>| {
            Came::Refused(NotGranted { error: error.into(), error_description: words.map(str::to_owned) })
        };
        for (target, want) in [
            ("/callback?code=c1&state=s1", Came::Code("c1".into())),
            ("/callback?state=s1&code=a%2Fb+c&session_state=x", Came::Code("a/b c".into())),
            ("/callback?code=c1&state=s1&iss=https%3A%2F%2Fid.example", Came::Code("c1".into())),
            ("/callback?error=access_denied&state=s1", refused("access_denied", None)),
            ("/callback?error=x&error_description=no+way&state=s1", refused("x", Some("no way"))),
            ("/callback?error=x&code=c1&state=s1", refused("x", None)),
            ("/callback?code=c1&state=s1&iss=https%3A%2F%2Fevil.example", Came::Other),
            ("/callback?code=c1&state=s2", Came::Other),
            ("/callback?code=c1", Came::Other),
            ("/callback?code=c1&state=", Came::Other),
            ("/callback?code=c1&code=c2&state=s1", Came::Other),
            ("/callback?error=access_denied", Came::Other),
            ("/callback?state=s1", Came::Other),
            ("/other?code=c1&state=s1", Came::Other),
            ("/favicon.ico", Came::Other),
            ("", Came::Other),
        ] {
            assert_eq!(came(target, "/callback", "s1", "https://id.example"), want, "{target}");
        }
    }
}
