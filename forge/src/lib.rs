//! Code hosts. One seam, [`Forge`]; one file for each host; one [`conformance`] suite that every host passes.
//!
//! A forge answers what a task needs before compute is spent, says where its repository is fetched from and with which
//! credential, takes the task's branch, and opens or finds the pull request. It never merges, approves or marks ready.

mod check;
pub mod conformance;
mod fail;
pub mod github;
pub mod local;
pub mod mirror;
mod near;
pub mod push;

use std::fmt;
use std::path::Path;

use async_trait::async_trait;
use domain::{Failure, RepoRef};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// What preflight learns of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoInfo {
    /// Branch that work starts from and pull requests target when the task names none.
    pub default_branch: String,
    /// Things that do not stop the task but that its owner should know (uncommitted changes are not included,
    /// submodules are not fetched, files of git-lfs stay pointers, history is shallow): full sentences.
    pub warnings: Vec<String>,
}

/// Where a repository is fetched from, and the credential for it. The URL holds no credential.
#[derive(Debug, Clone)]
pub struct Remote {
    /// An `https://`, `http://` or absolute-path remote.
    pub url: String,
    /// `user:password` for HTTP basic authentication, added outside argv and logs.
    pub basic_auth: Option<SecretString>,
}

/// A branch to hand to the forge.
#[derive(Debug)]
pub struct PushRequest<'a> {
    /// The repository.
    pub repo: &'a RepoRef,
    /// Bare mirror that holds the commit.
    pub mirror: &'a Path,
    /// Commit the box pushed, 40 hex digits.
    pub head_sha: &'a str,
    /// Branch on the forge (`bgagent/<task>/<slug>`).
    pub branch: &'a str,
}

/// A pull request to open, or to find again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequestDraft {
    /// Head branch; there is at most one pull request of ours per head branch.
    pub branch: String,
    /// Branch it targets.
    pub base: String,
    /// Commit at the head.
    pub head_sha: String,
    /// Title.
    pub title: String,
    /// Body, Markdown.
    pub body: String,
}

/// A pull request as it stands on the forge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequest {
    /// Where a person looks at it: a web address, or `local:<path>#<branch>` of a local repository.
    pub url: String,
    /// Its number, where the forge has numbers.
    pub number: Option<u64>,
    /// Whether it existed before this call (a repeat after a crash finds the first one).
    pub found: bool,
}

/// What a forge could not do: typed for the task's record, with whether the same call may succeed later.
#[derive(Debug, thiserror::Error)]
#[error("{failure}")]
pub struct ForgeError {
    /// Typed reason with detail, ready to be the task's failure.
    pub failure: Failure,
    /// Whether to try again, and when at the earliest (seconds from now), as the host said.
    pub retry: Retry,
    /// What went wrong beneath.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Whether the same call may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// No: someone must change something.
    Never,
    /// Yes, with backoff.
    Backoff,
    /// Yes, after this many seconds (the host's `Retry-After` or rate-limit reset).
    After(u64),
}

/// One code host.
#[async_trait]
pub trait Forge: Send + Sync + fmt::Debug {
    /// The forge's name in configuration and events.
    fn name(&self) -> &'static str;

    /// Checks that the repository exists, can be read and (when `write`) pushed to, and tells its default branch and
    /// anything its owner should be warned of. `base` is the branch the task asked for; it must exist.
    async fn inspect(&self, repo: &RepoRef, base: Option<&str>, write: bool) -> Result<RepoInfo, ForgeError>;

    /// Where and how to fetch it.
    async fn remote(&self, repo: &RepoRef) -> Result<Remote, ForgeError>;

    /// Makes `branch` on the forge point to `head_sha`. Repeating it is harmless. Never forces over a commit that is
    /// not an ancestor, never touches another ref.
    async fn push(&self, request: &PushRequest<'_>) -> Result<(), ForgeError>;

    /// Opens a draft pull request for the head branch, or finds the one that is there.
    async fn open_pull_request(
        &self,
        repo: &RepoRef,
        draft: &PullRequestDraft,
    ) -> Result<PullRequest, ForgeError>;
}
