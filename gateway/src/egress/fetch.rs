//! Fetches what a person attached by its address. The control plane asks on their behalf, so the address is held to the
//! rules of the proxy: TLS only, every name looked up and every address checked at each step, no address that is not
//! public unless the operator named its host for the repository, and redirects followed by hand, each as the first.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use domain::{RepoRef, limit};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use orchestrator::attachment::{Fetch, FetchError, Fetched};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret, SecretString};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::credential::{BadCredential, client_config};
use super::dial::Cargo;
use super::target::Target;
use super::told::Refusal;
use super::{Egress, EgressParts};

/// Tries of an address whose server is busy or whose connection broke.
const TRIES: u32 = 3;
/// Before the second one; it doubles.
const PAUSE: Duration = Duration::from_millis(500);

/// A credential for the hosts of one code host. It may be good for more than a task is about: it is sent for what belongs
/// to the task's repository, and for what people upload there (`/user-attachments/`, whose names cannot be guessed).
#[derive(Debug, Clone)]
pub struct HostCredential {
    /// Hosts that are given it: each of these and what is below it.
    pub hosts: Vec<String>,
    /// Sent as `Authorization: Bearer`.
    pub token: SecretString,
}

/// Fetches over the egress proxy's own way out.
#[derive(Debug, Clone)]
pub struct Fetcher {
    parts: Arc<EgressParts>,
    tls: Arc<ClientConfig>,
    credentials: Vec<HostCredential>,
}

/// Why one try brought nothing, and whether another may.
struct Failed {
    why: String,
    again: bool,
}

impl Failed {
    fn for_good(why: impl Into<String>) -> Failed {
        Failed { why: why.into(), again: false }
    }

    fn passing(why: impl Into<String>) -> Failed {
        Failed { why: why.into(), again: true }
    }
}

impl Egress {
    /// A fetcher that goes out as this proxy does. `credentials` are for code hosts whose attachments are not public.
    /// `ca_file` certifies hosts beside the authorities that this machine knows.
    pub fn fetcher(
        &self,
        credentials: Vec<HostCredential>,
        ca_file: Option<&Path>,
    ) -> Result<Fetcher, BadCredential> {
        Ok(Fetcher { parts: self.parts.clone(), tls: client_config(ca_file)?, credentials })
    }
}

#[async_trait]
impl Fetch for Fetcher {
    async fn fetch(&self, repo: &RepoRef, url: &str, max: u64) -> Result<Fetched, FetchError> {
        let url = Url::parse(url).map_err(|e| FetchError(format!("it is no URL: {e}")))?;
        let mut pause = PAUSE;
        for tried in 1.. {
            let within = tokio::time::timeout(limit::ATTACHMENT_FETCH, self.follow(repo, url.clone(), max));
            let failed = match within.await {
                Ok(Ok(fetched)) => return Ok(fetched),
                Ok(Err(failed)) => failed,
                Err(_) => {
                    let seconds = limit::ATTACHMENT_FETCH.as_secs();
                    Failed::for_good(format!("it was not there within {seconds} s"))
                }
            };
            if !failed.again || tried == TRIES {
                return Err(FetchError(failed.why));
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(FetchError("it was not tried".into()))
    }
}

impl Fetcher {
    async fn follow(&self, repo: &RepoRef, mut url: Url, max: u64) -> Result<Fetched, Failed> {
        for _ in 0..=limit::ATTACHMENT_REDIRECTS_MAX {
            let (answer, _connection) = self.get(repo, &url).await?;
            let status = answer.status();
            if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
                let to = answer.headers().get(header::LOCATION).and_then(|v| v.to_str().ok());
                let to =
                    to.ok_or_else(|| Failed::for_good(format!("it answered {status} without a place")))?;
                url = url.join(to).map_err(|e| Failed::for_good(format!("it leads to no URL: {e}")))?;
                continue;
            }
            if !status.is_success() {
                let busy = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
                return Err(Failed { why: format!("it answered {status}"), again: busy });
            }
            return read(answer, max).await;
        }
        let most = limit::ATTACHMENT_REDIRECTS_MAX;
        Err(Failed::for_good(format!("it leads on more than {most} times")))
    }

    /// One request, on a connection of its own that lives as long as what is returned.
    async fn get(
        &self,
        repo: &RepoRef,
        url: &Url,
    ) -> Result<(Response<Incoming>, AbortOnDropHandle<()>), Failed> {
        if url.scheme() != "https" {
            return Err(Failed::for_good(format!("{}:// is not fetched, only https://", url.scheme())));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Failed::for_good("an address with a user name or password is not fetched"));
        }
        let authority = url.authority();
        let target = Target::parse(authority, Some(443))
            .map_err(|bad| Failed::for_good(format!("{authority} is no host to go to: {bad}")))?;
        let policy = self.parts.policies.of(repo);
        let reach = policy.reach(&target, &Default::default());
        let dialed = self.parts.dial(policy, &target, reach, Cargo::Bytes).await;
        let io = dialed.map_err(|refusal| Failed { again: !refusal.is_denial(), why: told(&refusal) })?.io;
        let name = target.host.to_string();
        let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned())
            .map_err(|e| Failed::for_good(e.to_string()))?;
        let io = TlsConnector::from(self.tls.clone()).connect(name, io).await;
        let io = io.map_err(|e| Failed::for_good(format!("the certificate of {target} is not good: {e}")))?;
        let shaken = hyper::client::conn::http1::Builder::new()
            .max_headers(limit::EGRESS_HEADERS_MAX)
            .handshake::<_, Body>(TokioIo::new(io))
            .await;
        let broke = |e: hyper::Error| Failed::passing(format!("{target} broke off: {e}"));
        let (mut sender, connection) = shaken.map_err(broke)?;
        #[expect(clippy::disallowed_methods, reason = "ends with its handle, which is returned")]
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            let _ = connection.await;
        }));
        let request = self.request(repo, url, &target).map_err(|e| Failed::for_good(e.to_string()))?;
        let answer = sender.send_request(request).await.map_err(broke)?;
        Ok((answer, connection))
    }

    fn request(&self, repo: &RepoRef, url: &Url, target: &Target) -> Result<Request<Body>, http::Error> {
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let mut request = Request::get(path)
            .header(header::HOST, target.host_header(443))
            .header(header::USER_AGENT, concat!("bgagent/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "*/*")
            .header(header::ACCEPT_ENCODING, "identity");
        let host = target.host.to_string();
        let given = self
            .credentials
            .iter()
            .find(|credential| target.port == 443 && credential.has(&host) && belongs(url.path(), repo));
        if let Some(credential) = given
            && let Ok(mut value) =
                HeaderValue::from_str(&format!("Bearer {}", credential.token.expose_secret()))
        {
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        request.body(Body::empty())
    }
}

/// Why no connection was made. What boxes may not reach is told in their words.
fn told(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Special(target, special) => {
            format!("{target} has a {special} address; attachments are fetched from public ones only")
        }
        Refusal::LocalName(target) => {
            format!("{target} is a name of the local network; attachments are fetched from public ones only")
        }
        other => other.to_string(),
    }
}

impl HostCredential {
    /// Whether `host` is one of its own.
    fn has(&self, host: &str) -> bool {
        self.hosts.iter().any(|own| {
            host.strip_suffix(own.as_str()).is_some_and(|below| below.is_empty() || below.ends_with('.'))
        })
    }
}

/// What stands before the name of a repository in a path: of its pages, of the interface of github.com and of an Enterprise
/// server, of raw files on the latter.
const BEFORE_REPO: [&[&str]; 4] = [&[], &["repos"], &["api", "v3", "repos"], &["raw"]];

/// Whether what is at this path of a code host belongs to this repository, or was uploaded by a person.
fn belongs(path: &str, repo: &RepoRef) -> bool {
    // `Url` has resolved dots. What a server might still take for a step out of the repository has an escape.
    let lower = path.to_ascii_lowercase();
    if ["%2e", "%2f", "%5c"].iter().any(|escape| lower.contains(escape)) {
        return false;
    }
    let steps: Vec<&str> = path.split('/').skip(1).collect();
    if matches!(steps[..], ["user-attachments", _, ..]) {
        return true;
    }
    let RepoRef::GitHub { owner, name } = repo else { return false };
    let of_it = |steps: &[&str]| matches!(steps, [o, n, _, ..] if o.eq_ignore_ascii_case(owner) && n.eq_ignore_ascii_case(name));
    BEFORE_REPO.iter().any(|before| steps.strip_prefix(*before).is_some_and(of_it))
}

async fn read(answer: Response<Incoming>, max: u64) -> Result<Fetched, Failed> {
    let too_large =
        || Failed::for_good(format!("it has more than {max} bytes, which is the most of an attachment"));
    let encoded = answer.headers().get(header::CONTENT_ENCODING).is_some_and(|e| e != "identity");
    if encoded {
        return Err(Failed::for_good("it is sent packed, although it was asked for as it is"));
    }
    let length = answer.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok());
    if length.and_then(|l| l.parse::<u64>().ok()).is_some_and(|length| length > max) {
        return Err(too_large());
    }
    let content_type = answer.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let content_type = content_type.map(str::to_owned);
    let max_bytes = usize::try_from(max).unwrap_or(usize::MAX);
    let body = Limited::new(answer.into_body(), max_bytes).collect().await;
    let body = body.map_err(|e| match e.is::<http_body_util::LengthLimitError>() {
        true => too_large(),
        false => Failed::passing(format!("it broke off: {e}")),
    })?;
    Ok(Fetched { bytes: body.to_bytes().to_vec(), content_type })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_for_its_hosts_and_nobody_elses() {
        let credential = HostCredential { hosts: vec!["github.com".into()], token: "t".to_owned().into() };
        for (host, own) in [
            ("github.com", true),
            ("raw.github.com", true),
            ("evilgithub.com", false),
            ("github.com.evil.example", false),
            ("github.co", false),
        ] {
            assert_eq!(credential.has(host), own, "{host}");
        }
    }

    #[test]
    fn a_credential_is_for_what_belongs_to_the_tasks_repository() {
        let repo: RepoRef = "Octo/cat".parse().unwrap();
        for (url, own) in [
            ("https://github.com/octo/cat/raw/main/a.txt", true),
            ("https://github.com/octo/cat/issues/1", true),
            ("https://raw.githubusercontent.com/Octo/Cat/main/a.txt", true),
            ("https://api.github.com/repos/octo/cat/contents/a.txt", true),
            ("https://ghe.example/api/v3/repos/octo/cat/contents/a.txt", true),
            ("https://ghe.example/raw/octo/cat/main/a.txt", true),
            ("https://github.com/user-attachments/assets/0b8e1c52", true),
            ("https://api.github.com/repos/octo/secret/contents/a.txt", false),
            ("https://api.github.com/repos/other/cat/contents/a.txt", false),
            ("https://api.github.com/user", false),
            ("https://api.github.com/repos/octo/cat", false),
            ("https://raw.githubusercontent.com/octo/secret/main/a.txt", false),
            ("https://github.com/octo/cat/../secret/a.txt", false),
            ("https://github.com/octo/cat/%2e%2e/secret/a.txt", false),
            ("https://github.com/octo/cat/..%2Fsecret/a.txt", false),
            ("https://github.com/octo/cat/..%5Csecret/a.txt", false),
            ("https://github.com/octo/cat\\..\\secret/a.txt", false),
            ("https://github.com//octo/cat/a.txt", false),
            ("https://github.com/user-attachments/../octo/secret/a.txt", false),
            ("https://github.com/search?q=/octo/cat/", false),
        ] {
            assert_eq!(belongs(Url::parse(url).unwrap().path(), &repo), own, "{url}");
        }
        let local = RepoRef::Local("/srv/octo/cat".into());
        assert!(
            !belongs("/srv/octo/cat/a.txt", &local) && belongs("/user-attachments/files/1/a.txt", &local)
        );
    }
}
