//! Saves the work of an agent that is still at it, so that a box that is lost takes a minute of work with it and not all.
//!
//! Every so often the work tree, as it is, becomes a commit on top of the agent's own, and is pushed to a ref beside the
//! task's branch ([`SAVED_REF`]) in the task's repository at the gateway. Neither the agent's index nor its branch nor any of its
//! files are touched: the commit is made from an index of its own. The next attempt begins with the agent's last commit
//! and with the saved files, not committed, as the agent had them.
//!
//! It is best effort: what cannot be saved (too large, a disk that is full, a gateway that is away) is tried again later.

use std::convert::Infallible;
use std::io::{self, Read as _};
use std::time::Duration;

use git::{Git, GitError};
use protocol::box_api::SAVED_REF;

use crate::launch::Launcher;
use crate::repo::{self, Checkout, Identity, Remote};

/// The index that is used for it.
const INDEX: &str = ".git/bgagent-saved-index";
/// Bytes of an index that is copied; the files of a larger one would all be read each time.
const INDEX_MAX_BYTES: u64 = 128 * 1024 * 1024;
/// One try.
const TRY: Duration = Duration::from_secs(60);
/// After tries that failed, the pause is as many times as long, up to this.
const PAUSES_MAX: u32 = 10;

/// What was saved last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Saved {
    tree: String,
    /// The agent's own commit below it.
    head: String,
    commit: String,
}

/// Saves every `pause` until it is dropped. What it meets is told to the log alone.
pub async fn keep_saving(
    checkout: &Checkout,
    remote: &Remote,
    identity: &Identity,
    pause: Duration,
) -> Infallible {
    let mut last = before(checkout).await;
    let mut pauses = 1;
    loop {
        tokio::time::sleep(pause * pauses).await;
        match tokio::time::timeout(TRY, save(checkout, remote, identity, last.as_ref())).await {
            Ok(Ok(saved)) => {
                last = saved.or(last);
                pauses = 1;
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the work so far could not be saved");
                pauses = (pauses * 2).min(PAUSES_MAX);
            }
            Err(_) => {
                tracing::warn!("the work so far could not be saved within {} s", TRY.as_secs());
                pauses = (pauses * 2).min(PAUSES_MAX);
            }
        }
    }
}

/// What an earlier attempt saved last.
async fn before(checkout: &Checkout) -> Option<Saved> {
    let commit = git::rev_parse(checkout.at(), SAVED_REF).await.ok()??;
    let head = git::rev_parse(checkout.at(), &format!("{commit}^1")).await.ok()??;
    let tree = tree_of(checkout, &commit).await.ok()?;
    Some(Saved { tree, head, commit })
}

async fn tree_of(checkout: &Checkout, commit: &str) -> Result<String, GitError> {
    let tree =
        checkout.git().args(["rev-parse", "--verify", "--end-of-options"]).arg(format!("{commit}^{{tree}}"));
    Ok(tree.doing("looking up a tree").run().await?.text().trim().to_owned())
}

/// Saves once. `None`: there is nothing that is not saved or on the base.
async fn save(
    checkout: &Checkout,
    remote: &Remote,
    identity: &Identity,
    last: Option<&Saved>,
) -> Result<Option<Saved>, GitError> {
    let Some(head) = git::rev_parse(checkout.at(), "HEAD").await?.filter(|head| repo::is_sha(head)) else {
        return Ok(None);
    };
    if let Err(error) = copy_index(checkout) {
        tracing::debug!(%error, "the index is not copied; every file is read");
    }
    let beside =
        |args: &[&str], doing: &str| checkout.git().env("GIT_INDEX_FILE", INDEX).args(args).doing(doing);
    beside(&["add", "--all", "--ignore-errors", "--", ":/"], "looking for work to save")
        .config("core.safecrlf", "false")
        .config("advice.addEmbeddedRepo", "false")
        .exits(&[0, 1])
        .run()
        .await?;
    let tree = beside(&["write-tree"], "saving the work tree").run().await?.text().trim().to_owned();
    let of_head = tree_of(checkout, &head).await?;
    let nothing_new = match last {
        Some(last) => last.tree == tree && last.head == head,
        None => head == checkout.start && of_head == tree,
    };
    if nothing_new {
        return Ok(None);
    }
    let mut commit =
        checkout.git().args(["commit-tree", tree.as_str(), "-m", "the work so far", "-p", &head]);
    // Never back: what was saved before is its ancestor, so that no push needs force.
    if let Some(last) = last {
        commit = commit.args(["-p", &last.commit]);
    }
    for (name, value) in [("NAME", &identity.name), ("EMAIL", &identity.mail)] {
        commit = commit.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    let commit = commit.doing("saving the work").run().await?.text().trim().to_owned();
    let push = remote
        .git(checkout.at())
        .args(["push", "--quiet", "--no-follow-tags", "--no-verify", "--", remote.url.as_str()])
        .arg(format!("{commit}:{SAVED_REF}"));
    push.doing("pushing the work so far").run().await?;
    Ok(Some(Saved { tree, head, commit }))
}

/// What the agent's index knows of files saves reading them again.
fn copy_index(checkout: &Checkout) -> io::Result<()> {
    let tree = &checkout.tree;
    let file = tree.file(&tree.root().join(".git/index"))?;
    let mut index = Vec::new();
    file.take(INDEX_MAX_BYTES + 1).read_to_end(&mut index)?;
    if index.len() as u64 > INDEX_MAX_BYTES {
        return Err(io::Error::other("it is too large"));
    }
    tree.replace(&tree.root().join(INDEX), &index)
}

/// Where an attempt begins that finds saved work: the agent's last commit, whose files are then brought to what was saved.
/// `None`: there is none, or what is on the branch is newer.
pub async fn found(
    dir: &std::path::Path,
    launcher: &Launcher,
    start: &str,
) -> Result<Option<(String, String)>, GitError> {
    let at = || launcher.at(dir);
    let Some(saved) = git::rev_parse(at(), SAVED_REF).await? else { return Ok(None) };
    let Some(head) = git::rev_parse(at(), &format!("{saved}^1")).await? else { return Ok(None) };
    let grew = Git::new().at(at()).args(["merge-base", "--is-ancestor", start, &head]).exits(&[0, 1]);
    let grew = grew.doing("comparing what was saved with the branch").run().await?.code == 0;
    Ok(grew.then_some((head, saved)))
}

/// Brings the files to what was saved; index and branch stay.
pub async fn restore(dir: &std::path::Path, launcher: &Launcher, saved: &str) -> Result<(), GitError> {
    let source = format!("--source={saved}");
    let git =
        Git::new().at(launcher.at(dir)).args(["restore", &source, "--worktree", "--no-overlay", "--", ":/"]);
    git.doing("bringing back the saved work").run().await.map(drop)
}

#[cfg(test)]
mod tests;
