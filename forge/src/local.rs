//! Repositories on this machine, by absolute path: work trees, linked work trees, bare repositories.
//!
//! There is no server and so no pull request: the deliverable is the branch, which lands in the repository itself. The
//! repository belongs to somebody who may be working in it, so nothing here touches its work tree, index, HEAD,
//! configuration or any branch but the task's, and none of its hooks runs.

use std::path::Path;

use async_trait::async_trait;
use domain::{FailureCode, RepoRef, limit};
use git::{Git, Kind, Layout};
use nix::unistd::{AccessFlags, access};

use crate::{
    Forge, ForgeError, PullRequest, PullRequestDraft, PushRequest, Remote, RepoInfo, check, fail, near,
};

/// Whether tasks may name directories of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalAccess {
    /// They may: a server for the people of this machine.
    Allowed,
    /// They may not: a server for people elsewhere.
    Disabled,
}

/// The forge of repositories on this machine.
#[derive(Debug)]
pub struct LocalForge {
    access: LocalAccess,
}

impl LocalForge {
    /// The forge, open or closed.
    pub fn new(access: LocalAccess) -> LocalForge {
        LocalForge { access }
    }

    fn path<'a>(&self, repo: &'a RepoRef) -> Result<&'a Path, ForgeError> {
        match (repo, self.access) {
            (RepoRef::Local(path), LocalAccess::Allowed) => Ok(path),
            (RepoRef::Local(path), LocalAccess::Disabled) => Err(fail::never(
                FailureCode::LocalReposDisabled,
                format!(
                    "{} is a path, and this server takes no repositories of its own disk",
                    path.display()
                ),
            )),
            (RepoRef::GitHub { .. }, _) => Err(fail::other_forge("local", repo)),
        }
    }
}

#[async_trait]
impl Forge for LocalForge {
    fn name(&self) -> &'static str {
        "local"
    }

    async fn inspect(&self, repo: &RepoRef, base: Option<&str>, write: bool) -> Result<RepoInfo, ForgeError> {
        let path = self.path(repo)?;
        let layout = layout(path).await?;
        let base = base_branch(path, base).await?;
        if write {
            writable(path, &layout)?;
        }
        let (work_tree, content) =
            tokio::join!(work_tree_warnings(path, &layout), content_warnings(path, &layout, &base));
        Ok(RepoInfo { default_branch: base, warnings: [work_tree, content].concat() })
    }

    async fn remote(&self, repo: &RepoRef) -> Result<Remote, ForgeError> {
        Ok(Remote { url: self.path(repo)?.display().to_string(), basic_auth: None })
    }

    async fn push(&self, request: &PushRequest<'_>) -> Result<(), ForgeError> {
        let path = self.path(request.repo)?;
        layout(path).await?;
        check::push_request(request).await?;
        let failed = |error| fail::push(error, request.repo, request.branch);
        let there = git::branch_head(path, request.branch).await.map_err(failed)?;
        if there.as_deref() == Some(request.head_sha) {
            return Ok(());
        }
        git::hand_over(request.mirror, path, request.head_sha, request.branch).await.map_err(failed)
    }

    async fn open_pull_request(
        &self,
        repo: &RepoRef,
        draft: &PullRequestDraft,
    ) -> Result<PullRequest, ForgeError> {
        let path = self.path(repo)?;
        let head = git::branch_head(path, &draft.branch).await.map_err(|e| fail::read_local(e, path))?;
        match head {
            Some(_) => {
                let url = format!("local:{}#{}", path.display(), draft.branch);
                Ok(PullRequest { url, number: None, found: false })
            }
            None => Err(fail::never(
                FailureCode::DeliverableLost,
                format!("{} has no branch {}; it was pushed and then removed", path.display(), draft.branch),
            )
            .about(draft.branch.as_str())),
        }
    }
}

/// The repository that `path` is; a folder in one is refused with the path to give instead.
async fn layout(path: &Path) -> Result<Layout, ForgeError> {
    let at = path.display();
    let real = path.canonicalize().map_err(|error| {
        let (code, why) = match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => (
                FailureCode::RepoNotFoundOrNoAccess,
                format!("there is no directory {at} on the server's machine"),
            ),
            _ => (FailureCode::RepoUnreadable, format!("{at} cannot be read: {error}")),
        };
        fail::never(code, why).about(at.to_string()).because(error)
    })?;
    if !real.is_dir() {
        let why = format!("{at} is a file; give the directory of a git repository");
        return Err(fail::never(FailureCode::RepoNotGit, why).about(at.to_string()));
    }
    if let Err(error) = access(&real, AccessFlags::R_OK | AccessFlags::X_OK) {
        let why = format!("{at} cannot be read by the account that runs the server: {error}");
        return Err(fail::never(FailureCode::RepoUnreadable, why).about(at.to_string()).because(error));
    }
    let layout = git::layout(&real).await.map_err(|e| fail::read_local(e, path))?;
    let top = match &layout.kind {
        Kind::WorkTree(top) => top,
        Kind::Bare => &layout.git_dir,
    };
    if top.canonicalize().ok().as_ref() != Some(&real) {
        let why = format!("{at} lies in the git repository {}; give that path", top.display());
        return Err(fail::never(FailureCode::RepoNotGit, why).about(at.to_string()));
    }
    Ok(layout)
}

async fn base_branch(path: &Path, wanted: Option<&str>) -> Result<String, ForgeError> {
    let at = path.display();
    let unreadable = |e| fail::read_local(e, path);
    let name = match wanted {
        Some(name) => name.to_owned(),
        None => match git::current_branch(path).await.map_err(unreadable)? {
            Some(name) => name,
            None => {
                let why =
                    format!("{at} is on no branch (detached HEAD); check out a branch there, or pass --base");
                return Err(fail::never(FailureCode::RepoDetachedHead, why).about(at.to_string()));
            }
        },
    };
    if git::branch_head(path, &name).await.map_err(unreadable)?.is_some() {
        return Ok(name);
    }
    let branches = git::local_branches(path).await.map_err(unreadable)?;
    if branches.is_empty() {
        let why = format!("{at} has no commit on any branch; make a first one");
        return Err(fail::never(FailureCode::RepoEmpty, why).about(at.to_string()));
    }
    let why = format!("{at} has no branch {name}{}", near::offer(&name, &branches));
    Err(fail::never(FailureCode::BaseBranchNotFound, why).about(name))
}

fn writable(path: &Path, layout: &Layout) -> Result<(), ForgeError> {
    for part in ["objects", "refs"] {
        let part = layout.common_dir.join(part);
        if let Err(error) = access(&part, AccessFlags::W_OK | AccessFlags::X_OK) {
            let why = format!(
                "the account that runs the server may not write to {} ({error}), so the branch could not be put there",
                part.display()
            );
            return Err(fail::never(FailureCode::PushRejected, why)
                .about(path.display().to_string())
                .because(error));
        }
    }
    Ok(())
}

/// What is going on in the work tree and will not be part of the task.
async fn work_tree_warnings(path: &Path, layout: &Layout) -> Vec<String> {
    let mut warnings = Vec::new();
    match &layout.kind {
        Kind::Bare => return warnings,
        Kind::WorkTree(_) => {}
    }
    let in_progress = [
        ("MERGE_HEAD", "merge"),
        ("rebase-merge", "rebase"),
        ("rebase-apply", "rebase"),
        ("CHERRY_PICK_HEAD", "cherry-pick"),
        ("REVERT_HEAD", "revert"),
        ("BISECT_LOG", "bisection"),
    ];
    if let Some((_, what)) = in_progress.iter().find(|(file, _)| layout.git_dir.join(file).exists()) {
        warnings.push(format!(
            "A {what} is in progress in {}; the task starts from the last commit.",
            path.display()
        ));
    }
    // A slow or broken status must not fail a task that does not need it.
    match tokio::time::timeout(limit::PREFLIGHT_CHECK, git::status_porcelain(path)).await {
        Ok(Ok(changed)) if changed.is_empty() => {}
        Ok(Ok(changed)) => {
            let (n, files) = (changed.len(), if changed.len() == 1 { "file has" } else { "files have" });
            warnings.push(format!(
                "{n} {files} uncommitted changes, which are not part of the task; commit them first if they should be."
            ));
        }
        Ok(Err(error)) => {
            warnings.push(format!("Whether there are uncommitted changes is not known: {error}."))
        }
        Err(_) => warnings
            .push("Whether there are uncommitted changes is not known: git took too long to tell.".into()),
    }
    warnings
}

/// What the repository holds that a clone of it will not.
async fn content_warnings(path: &Path, layout: &Layout, base: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if layout.shallow {
        warnings
            .push("The repository is a shallow clone: the agent sees no history before its bounds.".into());
    }
    let rev = format!("refs/heads/{base}");
    let ask =
        |args: &[&str]| Git::new().dir(path).args(args).exits(&[0, 1]).timeout(limit::PREFLIGHT_CHECK).run();
    let promisors = ["config", "--get-regexp", r"^(extensions\.partialclone|remote\..*\.promisor)$"];
    let modules = ["ls-tree", "--name-only", &rev, ".gitmodules"];
    let large = ["grep", "-l", "-e", "filter=lfs", &rev, "--", ":(glob)**/.gitattributes"];
    let said_something = async |args: &[&str]| ask(args).await.is_ok_and(|out| !out.stdout.is_empty());
    let (partial, submodules, lfs) =
        tokio::join!(said_something(&promisors), said_something(&modules), said_something(&large));
    if partial {
        warnings.push(
            "The repository is a partial clone: if objects of the base branch were never fetched, it cannot be \
             cloned; `git fetch --refetch --no-filter` completes it."
                .into(),
        );
    }
    if submodules {
        warnings
            .push("The repository has submodules; they are not fetched, their folders stay empty.".into());
    }
    if lfs {
        warnings.push("The repository uses git-lfs; its large files stay pointers.".into());
    }
    warnings
}
