//! From a work tree to a pushed branch: commit everything that is not ignored, push, and find the words for it.
//!
//! The agent may have left anything: another branch checked out, a detached HEAD, a stale lock, repositories inside the
//! repository, a file too large for any forge. Work is never thrown away silently: what is left out is named in a note.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use domain::{Failure, FailureCode, TaskId};
use git::{GitError, GitErrorKind};

use crate::client::Pause;
use crate::repo::{self, Checkout, Identity, Remote};
use crate::tree::Tree;

mod words;

pub use words::{Telling, body, subject_of, title};

/// A new file larger than this is left out: GitHub refuses a push that holds one.
const FILE_MAX_BYTES: u64 = 100 * 1024 * 1024;
/// What git may hold of files while it packs them, for each of its threads: a box that is short of memory is to hand over
/// its work, too. Larger files are not compared with others at all, and not read as a whole.
const PACK_MEMORY: &str = "64m";
const WHOLE_FILE: &str = "16m";
/// Repositories inside the repository that are taken in; more than this is not somebody's scaffold.
const EMBEDDED_MAX: usize = 20;
/// Where their metadata goes: within the repository's own, so that it is a move.
const PUT_ASIDE: &str = ".git/embedded";
/// Bytes of a repository's configuration that are looked at.
const CONFIG_MAX_BYTES: u64 = 256 * 1024;

/// What committing came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Committed {
    /// The branch's commit.
    pub head: String,
    /// Commits beyond the base.
    pub commits: u32,
    /// What was left out, in sentences.
    pub notes: Vec<String>,
    /// What is wrong with what was committed, when something is.
    pub trouble: Option<Failure>,
}

/// Brings the task's branch to where the work is and commits what is not committed.
pub async fn commit(
    checkout: &Checkout,
    identity: &Identity,
    task: TaskId,
    subject: Option<&str>,
) -> Result<Committed, Failure> {
    let lost = |e: GitError| repo::failure(&e, FailureCode::DeliverableLost);
    unlock(&checkout.tree);
    follow(checkout).await.map_err(lost)?;
    let mut notes = Vec::new();
    take_in_embedded(checkout, &mut notes).await.map_err(lost)?;
    let leave_out = too_large(checkout, &mut notes).await.map_err(lost)?;
    let trouble = unresolved(checkout).await.map_err(lost)?;
    notes.extend(trouble.iter().map(|failure| failure.detail.clone()));
    stage(checkout, &leave_out, &mut notes).await.map_err(lost)?;
    let clean =
        checkout.git().args(["diff", "--cached", "--quiet", "--ignore-submodules=none"]).exits(&[0, 1]);
    if clean.doing("looking for staged changes").run().await.map_err(lost)?.code == 1 {
        let subject = subject.unwrap_or("chore(agent): save uncommitted work from session end");
        let message = format!("{subject}\n\nTask-Id: {task}\n");
        let commit = checkout
            .git()
            .args(["commit", "--quiet", "--no-verify", "--file=-"])
            .env("GIT_AUTHOR_NAME", &identity.name)
            .env("GIT_AUTHOR_EMAIL", &identity.mail)
            .env("GIT_COMMITTER_NAME", &identity.name)
            .env("GIT_COMMITTER_EMAIL", &identity.mail)
            .stdin(message);
        commit.doing("committing the work").run().await.map_err(lost)?;
    }
    let (head, commits) = count(checkout).await?;
    Ok(Committed { head, commits, notes, trouble })
}

/// Where the task's branch is now, and how many commits it has beyond the base.
pub async fn count(checkout: &Checkout) -> Result<(String, u32), Failure> {
    let lost = |e: GitError| repo::failure(&e, FailureCode::DeliverableLost);
    let name = format!("refs/heads/{}", checkout.branch);
    let head = git::rev_parse(checkout.at(), &name).await.map_err(lost)?.filter(|head| repo::is_sha(head));
    let head = head.ok_or_else(|| {
        Failure::new(
            FailureCode::DeliverableLost,
            format!("the branch {} is gone from the work tree", checkout.branch),
        )
    })?;
    let commits = git::count_commits(checkout.at(), &checkout.base, &head).await.map_err(lost)?;
    Ok((head, u32::try_from(commits).unwrap_or(u32::MAX)))
}

/// Pushes the branch, never forced. Asks again while the gateway is away; the stage bounds how long.
pub async fn push(checkout: &Checkout, remote: &Remote) -> Result<(), Failure> {
    let branch = &checkout.branch;
    let mut pause = Pause::default();
    loop {
        let push = remote
            .git(checkout.at())
            .args(["push", "--quiet", "--no-follow-tags", "--no-verify", "--", remote.url.as_str()])
            .arg(format!("refs/heads/{branch}:refs/heads/{branch}"))
            .config("pack.windowMemory", PACK_MEMORY)
            .config("core.bigFileThreshold", WHOLE_FILE)
            .doing(format!("pushing {branch}"));
        match push.run().await {
            Ok(_) => return Ok(()),
            Err(error) if repo::may_pass(&error) => {
                tracing::warn!(%error, "the branch cannot be pushed yet");
                tokio::time::sleep(pause.next()).await;
            }
            Err(error) => return Err(push_failure(&error).resource(branch)),
        }
    }
}

fn push_failure(error: &GitError) -> Failure {
    if repo::http_status(error) == Some(413) {
        let why = format!("{error}; the push is larger than {} bytes", domain::limit::PUSH_MAX_BYTES);
        return Failure::new(FailureCode::PushRejected, why);
    }
    match error.kind {
        GitErrorKind::Rejected | GitErrorKind::Auth => {
            Failure::new(FailureCode::PushRejected, error.to_string())
        }
        GitErrorKind::NotFound
        | GitErrorKind::Network
        | GitErrorKind::NotARepository
        | GitErrorKind::DiskFull
        | GitErrorKind::Permission
        | GitErrorKind::Timeout
        | GitErrorKind::OutputTooLarge
        | GitErrorKind::NotInstalled
        | GitErrorKind::Other => repo::failure(error, FailureCode::PushFailed),
    }
}

/// A git of the agent that was ended in the middle leaves its lock; nobody else works here any more.
fn unlock(tree: &Tree) {
    for lock in ["index.lock", "HEAD.lock", "config.lock"] {
        match tree.remove(&tree.root().join(".git").join(lock)) {
            Ok(()) => tracing::info!(lock, "a stale lock of git was removed"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => tracing::warn!(%error, lock, "a lock of git cannot be removed"),
        }
    }
}

/// When the agent works on another branch, or on none, the task's branch comes to where HEAD is. Index and files stay.
async fn follow(checkout: &Checkout) -> Result<(), GitError> {
    let current = git::current_branch(checkout.at()).await?;
    if current.as_deref() == Some(checkout.branch.as_str()) {
        return Ok(());
    }
    let name = format!("refs/heads/{}", checkout.branch);
    tracing::info!(branch = current, "the agent left another branch checked out");
    let doing = format!("bringing {} to HEAD", checkout.branch);
    if let Some(head) = git::rev_parse(checkout.at(), "HEAD").await?.filter(|head| repo::is_sha(head)) {
        checkout.git().args(["update-ref", &name, &head]).doing(&doing).run().await?;
    }
    checkout.git().args(["symbolic-ref", "HEAD", &name]).doing(&doing).run().await.map(drop)
}

/// New folders that are repositories of their own would be committed as empty links. One without a remote was made
/// here (a scaffold): its files are work and are taken in. A clone is somebody else's: it is left out.
async fn take_in_embedded(checkout: &Checkout, notes: &mut Vec<String>) -> Result<(), GitError> {
    let tree = &checkout.tree;
    for number in 0..EMBEDDED_MAX {
        let mine = untracked(checkout).await?.into_iter().filter(|path| path.ends_with('/'));
        let Some(path) = mine.map(PathBuf::from).find(|path| !is_clone(tree, path)) else { break };
        let metadata = tree.root().join(&path).join(".git");
        let moved = tree.rename(&metadata, &tree.root().join(PUT_ASIDE).join(number.to_string()));
        let name = path.display();
        match moved {
            Ok(()) => notes.push(format!(
                "`{name}` was a new repository of its own; its files are part of this branch."
            )),
            Err(error) => {
                tracing::warn!(%error, path = %name, "an embedded repository cannot be taken in");
                break;
            }
        }
    }
    Ok(())
}

/// Whether a folder is a clone of something, or linked to a repository elsewhere.
fn is_clone(tree: &Tree, folder: &Path) -> bool {
    let metadata = tree.root().join(folder).join(".git");
    match tree.look(&metadata) {
        Ok(meta) if meta.is_dir() => {
            let mut text = String::new();
            let config = tree.file(&metadata.join("config"));
            let read = config.and_then(|file| file.take(CONFIG_MAX_BYTES).read_to_string(&mut text));
            read.is_ok() && text.contains("[remote \"")
        }
        Ok(_) | Err(_) => true,
    }
}

async fn too_large(checkout: &Checkout, notes: &mut Vec<String>) -> Result<Vec<String>, GitError> {
    let list = checkout.git().args(["ls-files", "--others", "--modified", "--exclude-standard", "-z"]);
    let out = list.doing("looking for large files").run().await?;
    let text = String::from_utf8_lossy(&out.stdout);
    let tree = &checkout.tree;
    let mut large: Vec<String> = Vec::new();
    for path in text.split('\0').filter(|path| !path.is_empty() && !path.ends_with('/')) {
        let looked = tree.look(&tree.root().join(path));
        let size = looked.map_or(0, |meta| if meta.is_file() { meta.len() } else { 0 });
        if size > FILE_MAX_BYTES && !large.iter().any(|known| known == path) {
            let mebibytes = size / (1024 * 1024);
            notes.push(format!("`{path}` ({mebibytes} MiB) is larger than forges take and was left out."));
            large.push(path.to_owned());
        }
    }
    Ok(large)
}

async fn stage(checkout: &Checkout, leave_out: &[String], notes: &mut Vec<String>) -> Result<(), GitError> {
    let clones: Vec<String> =
        untracked(checkout).await?.into_iter().filter(|path| path.ends_with('/')).collect();
    for clone in &clones {
        notes.push(format!("`{clone}` is a repository of its own (a clone) and was left out."));
    }
    let excluded = leave_out
        .iter()
        .chain(&clones)
        .map(|path| format!(":(top,exclude,literal){}", path.trim_end_matches('/')));
    // Path by path from stdin: there may be more than a command line holds.
    let paths: Vec<String> = std::iter::once(":(top)".to_owned()).chain(excluded).collect();
    let add = checkout
        .git()
        .args(["add", "--all", "--pathspec-from-file=-", "--pathspec-file-nul"])
        .stdin(paths.join("\0"))
        .config("core.safecrlf", "false")
        .config("core.bigFileThreshold", WHOLE_FILE);
    add.doing("staging the work").run().await.map(drop)
}

/// A merge that the agent left half done: its files are committed as they are, conflict markers included, and that is
/// said wherever the work is shown.
async fn unresolved(checkout: &Checkout) -> Result<Option<Failure>, GitError> {
    let list = checkout.git().args(["diff", "--name-only", "--diff-filter=U", "-z"]);
    let out = list.doing("looking for unresolved conflicts").run().await?;
    let text = String::from_utf8_lossy(&out.stdout);
    let files: Vec<&str> = text.split('\0').filter(|p| !p.is_empty()).collect();
    if files.is_empty() {
        return Ok(None);
    }
    let shown = files.iter().take(5).map(|f| format!("`{f}`")).collect::<Vec<_>>().join(", ");
    let detail = format!("a merge was left with unresolved conflicts in {} files: {shown}", files.len());
    Ok(Some(Failure::new(FailureCode::TaskNotSucceeded, detail)))
}

/// Paths git does not know and does not ignore; a folder that is a repository ends with `/`.
async fn untracked(checkout: &Checkout) -> Result<Vec<String>, GitError> {
    let list = checkout.git().args(["ls-files", "--others", "--exclude-standard", "-z"]);
    let out = list.doing("listing new files").run().await?;
    Ok(String::from_utf8_lossy(&out.stdout)
        .split('\0')
        .filter(|p| !p.is_empty())
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests;
