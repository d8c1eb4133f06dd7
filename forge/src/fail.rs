//! Making a [`ForgeError`]: one short way for each answer to "may it be tried again".

use domain::{Failure, FailureCode, RepoRef};
use git::{GitError, GitErrorKind};

use crate::{ForgeError, Retry};

/// Someone must change something first.
pub(crate) fn never(code: FailureCode, detail: impl Into<String>) -> ForgeError {
    ForgeError { failure: Failure::new(code, detail), retry: Retry::Never, source: None }
}

/// The same call may succeed later.
pub(crate) fn later(code: FailureCode, retry: Retry, detail: impl Into<String>) -> ForgeError {
    ForgeError { failure: Failure::new(code, detail), retry, source: None }
}

impl ForgeError {
    /// Names what it was about, for the remedy.
    pub(crate) fn about(mut self, resource: impl Into<String>) -> ForgeError {
        self.failure = self.failure.resource(resource);
        self
    }

    /// Keeps what went wrong beneath.
    pub(crate) fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> ForgeError {
        self.source = Some(Box::new(source));
        self
    }
}

/// A repository of another forge than the one asked.
pub(crate) fn other_forge(name: &str, repo: &RepoRef) -> ForgeError {
    never(
        FailureCode::InternalError,
        format!("the forge {name} was asked for {repo}, which is not one of its repositories"),
    )
}

/// What a failed read of a repository on this disk means.
pub(crate) fn read_local(error: GitError, path: &std::path::Path) -> ForgeError {
    let at = path.display();
    let code = match error.kind {
        GitErrorKind::NotARepository => FailureCode::RepoNotGit,
        GitErrorKind::NotFound => FailureCode::RepoNotFoundOrNoAccess,
        GitErrorKind::DiskFull => FailureCode::DiskFull,
        GitErrorKind::Timeout => FailureCode::RepoTimeout,
        GitErrorKind::Permission
        | GitErrorKind::Auth
        | GitErrorKind::Network
        | GitErrorKind::Rejected
        | GitErrorKind::OutputTooLarge
        | GitErrorKind::NotInstalled
        | GitErrorKind::Other => FailureCode::RepoUnreadable,
    };
    let detail = if code == FailureCode::RepoNotGit {
        format!("{at} is not a git repository; run `git init` there and commit, or give another path")
    } else {
        format!("{at} cannot be read: {error}")
    };
    let retry = if error.kind.is_transient() { Retry::Backoff } else { Retry::Never };
    later(code, retry, detail).about(at.to_string()).because(error)
}

/// What a failed push means.
pub(crate) fn push(error: GitError, repo: &RepoRef, branch: &str) -> ForgeError {
    let said = format!("branch {branch} could not be pushed to {repo}: {error}");
    let made = match error.kind {
        GitErrorKind::Rejected => never(FailureCode::PushRejected, said).about(branch),
        GitErrorKind::Auth => never(FailureCode::GithubTokenScopes, said).about(repo.to_string()),
        GitErrorKind::Permission => never(FailureCode::PushRejected, said).about(branch),
        GitErrorKind::NotFound | GitErrorKind::NotARepository => {
            never(FailureCode::RepoNotFoundOrNoAccess, said).about(repo.to_string())
        }
        GitErrorKind::DiskFull => {
            never(FailureCode::DiskFull, said).about("the disk that holds the repository")
        }
        // What is not understood may pass; the caller bounds how often it tries.
        GitErrorKind::Network | GitErrorKind::Timeout | GitErrorKind::Other => {
            later(FailureCode::PushFailed, Retry::Backoff, said).about(repo.to_string())
        }
        GitErrorKind::OutputTooLarge | GitErrorKind::NotInstalled => {
            never(FailureCode::PushFailed, said).about(repo.to_string())
        }
    };
    made.because(error)
}
