//! One bare mirror for each repository, kept by the control plane, and one [quarantine](quarantine) for each task that
//! borrows from it: boxes fetch from theirs, push into it, and never see the forge. A mirror is a cache: it can be
//! thrown away whenever no task runs. A quarantine is not: it may hold work that is not delivered yet.
//!
//! A mirror holds what is on the forge and nothing else, since its objects are lent to boxes. The forge's branches are
//! under `refs/heads/` as on the forge, refreshed and pruned before each attempt; branches of earlier tasks
//! (`refs/heads/bgagent/`) only where work goes on from one; delivered work under `refs/bgagent/`. No object is ever
//! removed from it: a box may be using it.

pub mod change;
pub mod incoming;
pub mod quarantine;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::{Failure, FailureCode, RepoRef, TaskId, limit};
use git::harden::{ONLY_FILES, UPLOAD_PACK};
use git::{Git, GitError, GitErrorKind};

use crate::{ForgeError, Remote, Retry};

/// A first fetch of a large repository may take this long.
const FETCH_TIMEOUT: Duration = Duration::from_secs(1_800);
/// Bytes of a diff that are kept for people.
const DIFF_MAX_BYTES: usize = 1024 * 1024;

/// Names no tree: attributes are read from nowhere.
pub(crate) const NO_TREE: &str = "refs/none";

/// The mirrors in one folder, the quarantines in another.
#[derive(Debug, Clone)]
pub struct Mirrors {
    dir: PathBuf,
    pushes: PathBuf,
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
    /// Mirrors below `dir`, quarantines below `pushes`; both are created as needed.
    pub fn new(dir: PathBuf, pushes: PathBuf) -> Mirrors {
        Mirrors { dir, pushes, locks: Arc::default() }
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

    /// Makes the mirror when there is none: empty, so that its objects can be lent before they have arrived. Answers
    /// whether there was none.
    pub async fn make(&self, repo: &RepoRef) -> Result<bool, ForgeError> {
        let path = self.path(repo);
        let lock = self.lock(&path);
        let _one_at_a_time = lock.lock().await;
        let there = path.join("HEAD").exists();
        self.init(&path).await.map_err(|e| failed(repo, e))?;
        Ok(!there)
    }

    /// Brings the mirror up to date with the forge. Two callers of one repository wait for each other.
    ///
    /// `base` is the branch that is needed; when it is a branch of an earlier task, it is fetched too.
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
        if Path::new(&remote.url).is_absolute() {
            fetch = fetch.env(ONLY_FILES.0, ONLY_FILES.1);
        }
        if let Some(basic) = &remote.basic_auth {
            fetch = fetch.auth(&remote.url, basic);
        }
        fetch.run().await.map(drop).map_err(|e| failed(repo, e))?;
        if !base.starts_with("bgagent/") {
            return Ok(());
        }
        let auth = remote.basic_auth.as_ref().map(git::BasicAuth);
        let refspec = format!("+refs/heads/{base}:refs/heads/{base}");
        git::fetch(&path, &remote.url, auth.as_ref(), &[&refspec]).await.map_err(|e| failed(repo, e))
    }

    async fn init(&self, path: &Path) -> Result<(), GitError> {
        if path.join("HEAD").exists() {
            return Ok(());
        }
        if let Err(error) = tokio::fs::create_dir_all(path).await {
            return Err(refused_by_disk(path, &error));
        }
        Git::new()
            .dir(path)
            .args(["init", "--bare", "--quiet", "--template=", "."])
            .doing(format!("creating the mirror {}", path.display()))
            .run()
            .await
            .map(drop)
    }

    /// What a task's `branch` brings beyond `base`; `None` when its box has not pushed it.
    pub async fn branch_work(
        &self,
        task: TaskId,
        repo: &RepoRef,
        branch: &str,
        base: &str,
    ) -> Result<Option<BranchWork>, ForgeError> {
        let path = self.quarantine(task);
        let work = async {
            let Some(head_sha) = self.pushed(task, branch).await? else { return Ok(None) };
            let Some(tip) = self.pushed(task, base).await? else {
                let doing = format!("finding where {branch} left {base}");
                let stderr = format!(
                    "{base} is not on the forge any more; the work is kept on {branch} in {}",
                    path.display()
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
    pub async fn diff_stat(
        &self,
        task: TaskId,
        repo: &RepoRef,
        work: &BranchWork,
    ) -> Result<String, ForgeError> {
        let out = self.diff_of(task, repo, work, &["--stat=100"], DIFF_MAX_BYTES).await?;
        Ok(domain::event::preview(&out, limit::PR_BODY_MAX_CHARS))
    }

    /// The diff of a branch's work, cut at 1 MiB; the second value tells whether it was cut. Binary files are named
    /// only. Text conversion and external diff programs of the repository are never run.
    pub async fn diff(
        &self,
        task: TaskId,
        repo: &RepoRef,
        work: &BranchWork,
    ) -> Result<(String, bool), ForgeError> {
        let out = self.diff_of(task, repo, work, &[], 64 * DIFF_MAX_BYTES).await;
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

    /// Where a task's work is: in the quarantine while there is one, later in the mirror.
    fn place_of(&self, task: TaskId, repo: &RepoRef) -> PathBuf {
        let quarantine = self.quarantine(task);
        if quarantine.join("HEAD").exists() { quarantine } else { self.path(repo) }
    }

    async fn diff_of(
        &self,
        task: TaskId,
        repo: &RepoRef,
        work: &BranchWork,
        how: &[&str],
        max: usize,
    ) -> Result<String, ForgeError> {
        let out = Git::new()
            .dir(self.place_of(task, repo))
            // Nothing that the repository's attributes say hides a change.
            .config("attr.tree", NO_TREE)
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

/// What the file system refused, as git would have said it.
fn refused_by_disk(path: &Path, error: &io::Error) -> GitError {
    let doing = format!("writing to {}", path.display());
    GitError { doing, code: None, stderr: error.to_string(), kind: quarantine::disk_kind(error) }
}

/// What a failure of git on a mirror or a quarantine means.
pub fn failed(repo: &RepoRef, error: GitError) -> ForgeError {
    let code = match error.kind {
        GitErrorKind::NotFound | GitErrorKind::NotARepository => FailureCode::RepoNotFoundOrNoAccess,
        GitErrorKind::Auth => FailureCode::RepoNotFoundOrNoAccess,
        GitErrorKind::Network => FailureCode::GithubUnreachable,
        GitErrorKind::Timeout => match repo {
            RepoRef::GitHub { .. } => FailureCode::GithubUnreachable,
            RepoRef::Local(_) => FailureCode::RepoTimeout,
        },
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
