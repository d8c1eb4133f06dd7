//! Fetching and pushing, by URL or directory: never by a remote's name, whose configuration could name programs.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::error::{GitError, GitErrorKind, redact};
use crate::harden::{ONLY_FILES, UPLOAD_PACK};
use crate::read::overrides;
use crate::run::Git;

/// `user:password` for HTTP basic authentication.
#[derive(Debug, Clone, Copy)]
pub struct BasicAuth<'a>(pub &'a SecretString);

/// Fetches `refspecs` from `url` into the repository `dir`: no tags, no submodules, no `FETCH_HEAD`, nothing pruned,
/// and nothing forced but what a refspec forces. Shallow history of the source is taken over as it is.
pub async fn fetch(
    dir: impl AsRef<Path>,
    url: &str,
    auth: Option<&BasicAuth<'_>>,
    refspecs: &[&str],
) -> Result<(), GitError> {
    let mut git = Git::new()
        .dir(dir)
        .args(["fetch", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"])
        .args(["--no-auto-maintenance", "--update-shallow", "--upload-pack", UPLOAD_PACK, "--", url])
        .args(refspecs)
        .doing(format!("fetching from {}", redact(url, &[])));
    if Path::new(url).is_absolute() {
        git = git.env(ONLY_FILES.0, ONLY_FILES.1);
    }
    if let Some(auth) = auth {
        git = git.auth(url, auth.0);
    }
    git.run().await.map(drop)
}

/// Pushes `refspec` from the repository `dir` to an HTTP `url`, never forced. To a directory, [`fetch`] from the other
/// side instead: a push would run its hooks.
pub async fn push(
    dir: impl AsRef<Path>,
    url: &str,
    auth: Option<&BasicAuth<'_>>,
    refspec: &str,
) -> Result<(), GitError> {
    let mut git = Git::new()
        .dir(dir)
        .args(["push", "--no-follow-tags", "--no-verify", "--", url])
        .arg(refspec.trim_start_matches('+'))
        .doing(format!("pushing to {}", redact(url, &[])));
    if let Some(auth) = auth {
        git = git.auth(url, auth.0);
    }
    git.run().await.map(drop)
}

/// Makes `branch` of the repository `target` on this disk point to `sha`, a commit of the repository `from`. Nothing is
/// forced, no branch that is checked out is moved, no hook of `target` runs, and the shallow bounds of `from` are not
/// taken over. A branch that is a name for something else, or whose folder lies elsewhere, is refused.
pub async fn hand_over(
    from: impl AsRef<Path>,
    target: impl AsRef<Path>,
    sha: &str,
    branch: &str,
) -> Result<(), GitError> {
    let doing = format!("making branch {branch} in {}", target.as_ref().display());
    let overrides = overrides(&target).await?;
    is_its_own(target.as_ref(), branch, &doing).await?;
    Git::new()
        .dir(&target)
        .configs(overrides)
        .env(ONLY_FILES.0, ONLY_FILES.1)
        .args([
            "fetch",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
        ])
        .args(["--upload-pack", UPLOAD_PACK, "--"])
        .arg(from.as_ref())
        .arg(format!("{sha}:refs/heads/{branch}"))
        .doing(doing)
        .run()
        .await
        .map(drop)
}

/// Whether writing the branch writes that branch: not what a symbolic ref or a linked folder puts in its place.
async fn is_its_own(target: &Path, branch: &str, doing: &str) -> Result<(), GitError> {
    let name = format!("refs/heads/{branch}");
    let ask = |args: &[&str]| Git::new().dir(target).args(args).exits(&[0, 1]).doing(doing).run();
    let (alias, common) = tokio::try_join!(
        ask(&["symbolic-ref", "--quiet", &name]),
        ask(&["rev-parse", "--path-format=absolute", "--git-common-dir"])
    )?;
    if alias.code == 0 {
        let why = format!("{name} is a symbolic ref to {}; remove it", alias.text());
        return Err(GitError::said(doing, GitErrorKind::Rejected, why));
    }
    let mut at = PathBuf::from(common.text()).join("refs/heads");
    for part in branch.split('/') {
        at.push(part);
        if at.is_symlink() {
            let why = format!("{} is a symbolic link; remove it", at.display());
            return Err(GitError::said(doing, GitErrorKind::Rejected, why));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
