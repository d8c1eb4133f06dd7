//! One bare repository for each task, between its box and the mirror: a box fetches from it and pushes into it, and sees
//! no other task's work. It borrows the mirror's objects and holds what the box pushed, the base branch and the task's.
//!
//! The mirror's objects are lent to boxes, so nothing that a box pushed gets into the mirror before it was delivered: a
//! delivered branch is on the forge, and is taken over from here when the task is over ([`Mirrors::quarantine_end`]).
//!
//! Everything here may be repeated after a crash: making it again writes the same files, ending it again finds it gone.

use std::io;
use std::path::{Path, PathBuf};

use domain::{RepoRef, TaskId};
use git::{Git, GitError, GitErrorKind};
use serde::{Deserialize, Serialize};

use super::{Mirrors, failed, refused_by_disk};
use crate::ForgeError;

/// Configuration of a repository whose whole configuration is ours.
pub(super) const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n";
/// Where pushes lie while they are looked at.
pub(super) const INCOMING: &str = "incoming";
/// What the last push was refused for, until one is accepted.
const REFUSED: &str = "refused.json";

/// A push that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedPush {
    /// The commit that was pushed.
    pub head_sha: String,
    /// Why, for people.
    pub reason: String,
}

impl Mirrors {
    /// Where a task's quarantine is.
    pub fn quarantine(&self, task: TaskId) -> PathBuf {
        self.pushes.join(format!("{task}.git"))
    }

    /// The objects of a repository's mirror, which may be lent to boxes read-only: nothing that a box pushed is in there
    /// before it was delivered.
    pub fn objects(&self, repo: &RepoRef) -> PathBuf {
        self.path(repo).join("objects")
    }

    /// Makes a task's quarantine, or brings its base branch to where the mirror has it. What was pushed stays.
    pub async fn quarantine_open(&self, task: TaskId, repo: &RepoRef, base: &str) -> Result<(), ForgeError> {
        let (path, mirror) = (self.quarantine(task), self.path(repo));
        let base_ref = format!("refs/heads/{base}");
        let work = async {
            let tip = git::rev_parse(&mirror, &base_ref).await?;
            lay_out(&path, &mirror, &base_ref).map_err(|e| refused_by_disk(&path, &e))?;
            let Some(tip) = tip else { return Ok(()) };
            Git::new()
                .dir(&path)
                .args(["update-ref", "--no-deref", &base_ref, &tip])
                .doing(format!("lending {base} to {task}"))
                .run()
                .await
                .map(drop)
        };
        work.await.map_err(|e| failed(repo, e))
    }

    /// The tasks that have a quarantine.
    pub fn quarantines(&self) -> io::Result<Vec<TaskId>> {
        let entries = match std::fs::read_dir(&self.pushes) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
        Ok(names.filter_map(|name| name.strip_suffix(".git")?.parse().ok()).collect())
    }

    /// Whether a branch was pushed into a task's quarantine.
    pub async fn was_pushed(&self, task: TaskId, branch: &str) -> Result<bool, GitError> {
        Ok(self.pushed(task, branch).await?.is_some())
    }

    /// The commit of `branch` in a task's quarantine.
    pub(super) async fn pushed(&self, task: TaskId, branch: &str) -> Result<Option<String>, GitError> {
        let path = self.quarantine(task);
        if !path.join("HEAD").exists() {
            return Ok(None);
        }
        git::rev_parse(&path, &format!("refs/heads/{branch}")).await
    }

    /// Ends the quarantine of a task whose commit `head_sha` is on the forge: the mirror takes the commit over, so that it
    /// can be shown later.
    pub async fn quarantine_end(
        &self,
        task: TaskId,
        repo: &RepoRef,
        head_sha: &str,
    ) -> Result<(), ForgeError> {
        let (path, mirror) = (self.quarantine(task), self.path(repo));
        // A mirror is a cache: where it is gone, so is what was borrowed from it.
        if path.join("HEAD").exists() && mirror.join("HEAD").exists() {
            let lock = self.lock(&mirror);
            let _one_at_a_time = lock.lock().await;
            let take = async {
                if git::rev_parse(&mirror, head_sha).await?.is_none() {
                    let refspec = format!("+{head_sha}:refs/bgagent/{task}");
                    git::fetch(&mirror, &path.display().to_string(), None, &[&refspec]).await?;
                }
                Ok(())
            };
            take.await.map_err(|e| failed(repo, e))?;
        }
        self.quarantine_drop(task).map_err(|e| failed(repo, refused_by_disk(&path, &e)))
    }

    /// Throws a task's quarantine away, with what was pushed.
    pub fn quarantine_drop(&self, task: TaskId) -> io::Result<()> {
        gone(std::fs::remove_dir_all(self.quarantine(task)))
    }

    /// Notes what a push was refused for; `None` when one was accepted.
    pub fn note_refused(&self, task: TaskId, refused: Option<&RefusedPush>) -> io::Result<()> {
        let file = self.quarantine(task).join(REFUSED);
        match refused {
            None => gone(std::fs::remove_file(file)),
            Some(refused) => put(&file, &serde_json::to_string(refused)?),
        }
    }

    /// What the last push was refused for, when none was accepted after it.
    pub fn last_refused(&self, task: TaskId) -> Option<RefusedPush> {
        let text = std::fs::read_to_string(self.quarantine(task).join(REFUSED)).ok()?;
        serde_json::from_str(&text).ok()
    }
}

/// The files of a repository that borrows from `lender`. `HEAD`, written last, says that the rest is there.
fn lay_out(path: &Path, lender: &Path, head: &str) -> io::Result<()> {
    gone(std::fs::remove_dir_all(path.join(INCOMING)))?;
    for folder in ["objects/info", "objects/pack", "refs/heads"] {
        std::fs::create_dir_all(path.join(folder))?;
    }
    let objects = std::path::absolute(lender.join("objects"))?;
    put(&path.join("objects/info/alternates"), &format!("{}\n", objects.display()))?;
    share_bounds(lender, path)?;
    put(&path.join("config"), CONFIG)?;
    put(&path.join("HEAD"), &format!("ref: {head}\n"))
}

/// Where history is cut off in one repository, it is in the one that borrows from it.
pub(super) fn share_bounds(lender: &Path, borrower: &Path) -> io::Result<()> {
    match std::fs::read_to_string(lender.join("shallow")) {
        Ok(bounds) => put(&borrower.join("shallow"), &bounds),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            gone(std::fs::remove_file(borrower.join("shallow")))
        }
        Err(error) => Err(error),
    }
}

/// Writes a file whole or not at all.
pub(super) fn put(file: &Path, text: &str) -> io::Result<()> {
    if std::fs::read_to_string(file).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let new = file.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, file)
}

/// Removing what is not there is done.
pub(super) fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The kind of a file system's refusal.
pub(super) fn disk_kind(error: &io::Error) -> GitErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => GitErrorKind::DiskFull,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => GitErrorKind::Permission,
        _ => GitErrorKind::Other,
    }
}
