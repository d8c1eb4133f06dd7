//! One bare mirror for each repository, kept by the control plane: boxes clone from it, push to it, and never see the
//! forge. A mirror is a cache: it can be thrown away whenever no task runs, but for branches that were pushed by a box
//! and not yet delivered.
//!
//! The forge's branches are under `refs/heads/` as on the forge, refreshed and pruned before each attempt;
//! `refs/heads/bgagent/` belongs to boxes, and no refresh touches it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::{Failure, FailureCode, RepoRef, limit};
use git::harden::UPLOAD_PACK;
use git::{Git, GitError, GitErrorKind};

use crate::{ForgeError, Remote, Retry};

/// A first fetch of a large repository may take this long.
const FETCH_TIMEOUT: Duration = Duration::from_secs(1_800);
/// Bytes of a diff that are kept for people.
const DIFF_MAX_BYTES: usize = 1024 * 1024;

/// The mirrors, in one folder.
#[derive(Debug, Clone)]
pub struct Mirrors {
    dir: PathBuf,
    locks: Arc<Mutex<HashMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>>,
}

/// What a branch brings beyond its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchWork {
    /// Commit at its head.
    pub head_sha: String,
    /// Commit it started from.
    pub base_sha: String,
    /// Commits beyond that.
    pub commits: u32,
}

impl Mirrors {
    /// Mirrors below `dir`, which is created as needed.
    pub fn new(dir: PathBuf) -> Mirrors {
        Mirrors { dir, locks: Arc::default() }
    }

    /// Where a repository's mirror is: a readable name and a hash that tells equal names apart.
    pub fn path(&self, repo: &RepoRef) -> PathBuf {
        let full = repo.to_string();
        // FNV-1a: a name for a folder, not a secret; two repositories that collide would share a cache, so 64 bits.
        let hash = full
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        let name: String = repo
            .short_name()
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c))
            .take(40)
            .collect();
        self.dir.join(format!("{name}-{hash:016x}.git"))
    }

    fn lock(&self, path: &Path) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.entry(path.to_path_buf()).or_default().clone()
    }

    /// Brings the mirror up to date with the forge. Two callers of one repository wait for each other.
    ///
    /// `base` is the branch that is needed; when it is a branch of an earlier task, it is fetched too (never forced: what a
    /// box pushed and nobody has delivered yet is not overwritten).
    pub async fn refresh(&self, repo: &RepoRef, remote: &Remote, base: &str) -> Result<(), ForgeError> {
        let path = self.path(repo);
        let lock = self.lock(&path);
        let _one_at_a_time = lock.lock().await;
        self.init(&path).await.map_err(|e| failed(repo, e))?;
        let mut fetch = Git::new()
            .dir(&path)
            .args([
                "fetch",
                "--prune",
                "--no-tags",
                "--no-recurse-submodules",
                "--no-write-fetch-head",
                "--quiet",
            ])
            .args(["--no-auto-maintenance", "--update-shallow", "--upload-pack", UPLOAD_PACK, "--"])
            .args([remote.url.as_str(), "+refs/heads/*:refs/heads/*", "^refs/heads/bgagent/*"])
            .timeout(FETCH_TIMEOUT)
            .doing(format!("fetching {repo}"));
        if let Some(basic) = &remote.basic_auth {
            fetch = fetch.auth(&remote.url, basic);
        }
        fetch.run().await.map(drop).map_err(|e| failed(repo, e))?;
        if !base.starts_with("bgagent/") {
            return Ok(());
        }
        let auth = remote.basic_auth.as_ref().map(git::BasicAuth);
        let refspec = format!("refs/heads/{base}:refs/heads/{base}");
        git::fetch(&path, &remote.url, auth.as_ref(), &[&refspec]).await.map_err(|e| failed(repo, e))
    }

    async fn init(&self, path: &Path) -> Result<(), GitError> {
        if path.join("HEAD").exists() {
            return Ok(());
        }
        if let Err(error) = tokio::fs::create_dir_all(path).await {
            let kind = match error.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => GitErrorKind::DiskFull,
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                    GitErrorKind::Permission
                }
                _ => GitErrorKind::Other,
            };
            let doing = format!("creating {}", path.display());
            return Err(GitError { doing, code: None, stderr: error.to_string(), kind });
        }
        Git::new()
            .dir(path)
            .args(["init", "--bare", "--quiet", "--template=", "."])
            .doing(format!("creating the mirror {}", path.display()))
            .run()
            .await
            .map(drop)
    }

    /// What `branch` brings beyond `base`; `None` when no box has pushed it.
    pub async fn branch_work(
        &self,
        repo: &RepoRef,
        branch: &str,
        base: &str,
    ) -> Result<Option<BranchWork>, ForgeError> {
        let path = self.path(repo);
        let of = |rev: &str| format!("refs/heads/{rev}");
        let work = async {
            let Some(head_sha) = git::rev_parse(&path, &of(branch)).await? else { return Ok(None) };
            let Some(tip) = git::rev_parse(&path, &of(base)).await? else {
                let doing = format!("finding where {branch} left {base}");
                let stderr = format!(
                    "{base} is not on the forge any more; the work is kept on {branch} in the mirror"
                );
                return Err(GitError { doing, code: None, stderr, kind: GitErrorKind::NotFound });
            };
            let merge_base = Git::new()
                .dir(&path)
                .args(["merge-base", &tip, &head_sha])
                .exits(&[0, 1])
                .doing(format!("finding where {branch} left {base}"))
                .run()
                .await?;
            let base_sha = if merge_base.code == 0 { merge_base.text() } else { tip };
            let commits = git::count_commits(&path, &base_sha, &head_sha).await?;
            let commits = u32::try_from(commits).unwrap_or(u32::MAX);
            Ok(Some(BranchWork { head_sha, base_sha, commits }))
        };
        work.await.map_err(|e| failed(repo, e))
    }

    /// `git diff --stat` of a branch's work, for people.
    pub async fn diff_stat(&self, repo: &RepoRef, work: &BranchWork) -> Result<String, ForgeError> {
        let out = self.diff_of(repo, work, &["--stat=100"], DIFF_MAX_BYTES).await?;
        Ok(domain::event::preview(&out, limit::PR_BODY_MAX_CHARS))
    }

    /// The diff of a branch's work, cut at 1 MiB; the second value tells whether it was cut. Binary files are named
    /// only. Text conversion and external diff programs of the repository are never run.
    pub async fn diff(&self, repo: &RepoRef, work: &BranchWork) -> Result<(String, bool), ForgeError> {
        let out = self.diff_of(repo, work, &[], 64 * DIFF_MAX_BYTES).await;
        let text = match out {
            Ok(text) => text,
            Err(e) if e.failure.detail.contains("printed more than") => {
                return Ok(("(the diff is larger than 64 MiB; look at the branch)\n".into(), true));
            }
            Err(e) => return Err(e),
        };
        if text.len() <= DIFF_MAX_BYTES {
            return Ok((text, false));
        }
        let end = (0..=DIFF_MAX_BYTES).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0);
        Ok((text[..end].to_owned(), true))
    }

    async fn diff_of(
        &self,
        repo: &RepoRef,
        work: &BranchWork,
        how: &[&str],
        max: usize,
    ) -> Result<String, ForgeError> {
        let out = Git::new()
            .dir(self.path(repo))
            .args(["diff", "--no-ext-diff", "--no-textconv", "--no-color"])
            .args(how)
            .args([work.base_sha.as_str(), work.head_sha.as_str(), "--"])
            .stdout_max(max)
            .doing(format!("comparing the work on {repo} with its base"))
            .run()
            .await
            .map_err(|e| failed(repo, e))?;
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }
}

fn failed(repo: &RepoRef, error: GitError) -> ForgeError {
    let code = match error.kind {
        GitErrorKind::NotFound | GitErrorKind::NotARepository => FailureCode::RepoNotFoundOrNoAccess,
        GitErrorKind::Auth => FailureCode::RepoNotFoundOrNoAccess,
        GitErrorKind::Network | GitErrorKind::Timeout => FailureCode::GithubUnreachable,
        GitErrorKind::DiskFull => FailureCode::DiskFull,
        GitErrorKind::Permission => FailureCode::RepoUnreadable,
        GitErrorKind::Rejected
        | GitErrorKind::OutputTooLarge
        | GitErrorKind::NotInstalled
        | GitErrorKind::Other => FailureCode::RepoSetupFailed,
    };
    // Another git that is about to end (of a control plane that was killed, say) holds the ref.
    let held = ["cannot lock ref", ".lock"].iter().any(|words| error.stderr.contains(words));
    let retry = if error.kind.is_transient() || held { Retry::Backoff } else { Retry::Never };
    let failure = Failure::new(code, error.to_string()).resource(repo.to_string());
    ForgeError { failure, retry, source: Some(Box::new(error)) }
}
