//! GitHub, and GitHub Enterprise Server: REST for everything but one question, git over HTTPS for the branch.
//!
//! | module | holds |
//! |---|---|
//! | `client` | requests: time limits, retries, redirects, rate limits, and what a refusal means |
//! | `repo` | is the repository there, readable, writable, and what should its owner know |
//! | `pull` | find the pull request, or open it |
//!
//! The token is in the `Authorization` header of API requests and, for git, in the environment of the one git process.

mod client;
mod pull;
mod repo;

use std::fmt;

use async_trait::async_trait;
use domain::{FailureCode, RepoRef};
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use crate::{Forge, ForgeError, PullRequest, PullRequestDraft, PushRequest, Remote, RepoInfo, check, fail};
use client::Client;

/// Where GitHub is, and as whom we speak to it.
#[derive(Debug, Clone)]
pub struct Config {
    /// The REST API: `https://api.github.com`, or `https://HOST/api/v3` of an Enterprise Server.
    pub api_url: String,
    /// Where repositories are cloned from: `https://github.com`, or `https://HOST`.
    pub server_url: String,
    /// A token with Contents and Pull requests: read and write. Without one, only public repositories can be read.
    pub token: Option<SecretString>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            api_url: "https://api.github.com".into(),
            server_url: "https://github.com".into(),
            token: None,
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not a URL we can speak to.
    #[error(
        "{setting} must be an https:// URL (http:// only of this machine) without user or password: {why}"
    )]
    Url {
        /// Which setting.
        setting: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The HTTP client could not be made.
    #[error("the HTTP client for GitHub could not be made")]
    Client(#[source] reqwest::Error),
}

/// GitHub as a forge.
#[derive(Debug)]
pub struct GitHub {
    client: Client,
    server: Url,
    token: Option<SecretString>,
}

/// `owner/name`, borrowed.
#[derive(Debug, Clone, Copy)]
struct Name<'a> {
    owner: &'a str,
    name: &'a str,
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

impl GitHub {
    /// A forge for this configuration. Sends nothing yet.
    pub fn new(config: Config) -> Result<GitHub, ConfigError> {
        let api = checked_url("github.api_url", &config.api_url)?;
        let server = checked_url("github.server_url", &config.server_url)?;
        let client = Client::new(api, config.token.clone()).map_err(ConfigError::Client)?;
        Ok(GitHub { client, server, token: config.token })
    }

    fn clone_url(&self, repo: Name<'_>) -> String {
        format!("{}/{}/{}.git", self.server.as_str().trim_end_matches('/'), repo.owner, repo.name)
    }

    fn basic_auth(&self) -> Option<SecretString> {
        let token = self.token.as_ref()?;
        Some(SecretString::from(format!("x-access-token:{}", token.expose_secret())))
    }

    fn token_needed(&self, repo: &RepoRef) -> Result<(), ForgeError> {
        match self.token {
            Some(_) => Ok(()),
            None => {
                let why =
                    format!("{repo} cannot be written to without a GitHub token, and none is configured");
                Err(fail::never(FailureCode::GithubTokenMissing, why).about(repo.to_string()))
            }
        }
    }
}

fn name(repo: &RepoRef) -> Result<Name<'_>, ForgeError> {
    match repo {
        RepoRef::GitHub { owner, name } => Ok(Name { owner, name }),
        RepoRef::Local(_) => Err(fail::other_forge("github", repo)),
    }
}

#[async_trait]
impl Forge for GitHub {
    fn name(&self) -> &'static str {
        "github"
    }

    async fn inspect(&self, repo: &RepoRef, base: Option<&str>, write: bool) -> Result<RepoInfo, ForgeError> {
        if write {
            self.token_needed(repo)?;
        }
        let wanted = if write { repo::Wanted::Write } else { repo::Wanted::Read };
        repo::inspect(&self.client, name(repo)?, base, wanted).await
    }

    async fn remote(&self, repo: &RepoRef) -> Result<Remote, ForgeError> {
        Ok(Remote { url: self.clone_url(name(repo)?), basic_auth: self.basic_auth() })
    }

    async fn push(&self, request: &PushRequest<'_>) -> Result<(), ForgeError> {
        self.token_needed(request.repo)?;
        check::push_request(request).await?;
        let url = self.clone_url(name(request.repo)?);
        let basic = self.basic_auth();
        let auth = basic.as_ref().map(git::BasicAuth);
        let refspec = format!("{}:refs/heads/{}", request.head_sha, request.branch);
        git::push(request.mirror, &url, auth.as_ref(), &refspec)
            .await
            .map_err(|e| fail::push(e, request.repo, request.branch))
    }

    async fn open_pull_request(
        &self,
        repo: &RepoRef,
        draft: &PullRequestDraft,
    ) -> Result<PullRequest, ForgeError> {
        self.token_needed(repo)?;
        pull::open_or_find(&self.client, name(repo)?, draft).await
    }
}

/// A URL that a token may be sent to.
fn checked_url(setting: &'static str, text: &str) -> Result<Url, ConfigError> {
    let bad = |why: &str| ConfigError::Url { setting, why: why.to_owned() };
    let url = Url::parse(text).map_err(|e| bad(&e.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("it holds a user or password"));
    }
    let this_machine = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => return Err(bad("it names no host")),
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if this_machine => Ok(url),
        other => Err(bad(&format!("{other}:// would show the token to the network"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_only_sent_where_nobody_listens() {
        for (url, ok) in [
            ("https://api.github.com", true),
            ("https://ghe.example/api/v3/", true),
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("http://localhost", true),
            ("http://ghe.example/api/v3", false),
            ("https://me:secret@ghe.example", false),
            ("ftp://ghe.example", false),
            ("ghe.example", false),
        ] {
            assert_eq!(checked_url("x", url).is_ok(), ok, "{url}");
        }
        assert!(
            !checked_url("x", "https://me:secret@ghe.example").unwrap_err().to_string().contains("secret")
        );
    }

    #[test]
    fn debug_shows_no_token() {
        let config = Config { token: Some("ghs_verysecret".into()), ..Config::default() };
        let forge = GitHub::new(config.clone()).unwrap();
        assert!(!format!("{config:?} {forge:?}").contains("verysecret"));
        let repo = Name { owner: "octo", name: "cat" };
        assert_eq!(forge.clone_url(repo), "https://github.com/octo/cat.git");
    }
}
