use std::path::{Path, PathBuf};

use domain::{FailureCode, RepoRef};
use forge::conformance::{self, GitSide, Pulls, Subject};
use forge::local::{LocalAccess, LocalForge};
use forge::{Forge, ForgeError, PushRequest, RepoInfo};

use crate::{repo_at, sh};

struct Bench {
    _dir: tempfile::TempDir,
    root: PathBuf,
    repo: PathBuf,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let repo = root.join("repo");
    repo_at(&repo);
    Bench { _dir: dir, root, repo }
}

async fn inspect(path: &Path, base: Option<&str>) -> Result<RepoInfo, ForgeError> {
    LocalForge::new(LocalAccess::Allowed).inspect(&RepoRef::Local(path.to_owned()), base, true).await
}

/// What `inspect` says: `ok BRANCH | WARNING | …`, or `CODE: …`.
async fn said(path: &Path, base: Option<&str>) -> String {
    match inspect(path, base).await {
        Ok(info) => [vec![format!("ok {}", info.default_branch)], info.warnings].concat().join(" | "),
        Err(error) => error.to_string(),
    }
}

async fn conforms(root: &Path, path: PathBuf, default_branch: &str) {
    let scratch = root.join("scratch");
    std::fs::create_dir_all(&scratch).unwrap();
    let subject = Subject {
        forge: Box::new(LocalForge::new(LocalAccess::Allowed)),
        repo: RepoRef::Local(path.clone()),
        missing: RepoRef::Local(root.join("missing")),
        default_branch: default_branch.into(),
        git: GitSide::OnDisk(path),
        pulls: Pulls::BranchOnly,
    };
    conformance::check(&subject, &scratch).await;
}

#[tokio::test]
async fn a_work_tree_conforms() {
    let b = bench();
    conforms(&b.root, b.repo.clone(), "main").await;
}

#[tokio::test]
async fn a_bare_repository_conforms() {
    let b = bench();
    sh(&b.root, "git clone -q --bare repo bare.git");
    conforms(&b.root, b.root.join("bare.git"), "main").await;
}

#[tokio::test]
async fn a_linked_work_tree_conforms() {
    let b = bench();
    sh(&b.repo, "git worktree add -q ../linked -b other");
    // Its own branch is what work starts from; `main` is what a wrong name is near to.
    assert_eq!(said(&b.root.join("linked"), None).await, "ok other");
    conforms(&b.root, b.root.join("linked"), "other").await;
}

#[tokio::test]
async fn a_shallow_clone_conforms_and_warns() {
    let b = bench();
    sh(&b.root, "git clone -q --depth 1 file://$PWD/repo shallow");
    let shallow = b.root.join("shallow");
    assert!(said(&shallow, None).await.contains("shallow clone"));
    conforms(&b.root, shallow, "main").await;
}

#[tokio::test]
async fn what_cannot_be_worked_on_says_why_and_what_to_do() {
    let b = bench();
    sh(&b.repo, "mkdir -p sub/deep && git branch develop");
    sh(
        &b.root,
        "mkdir plain && git init -q -b main empty && git clone -q repo detached && git -C detached checkout -q --detach && touch file",
    );
    let at = |p: &str| b.root.join(p);
    let root = b.root.display();
    for (path, base, expected) in [
        (at("gone"), None, format!("REPO_NOT_FOUND_OR_NO_ACCESS: there is no directory {root}/gone")),
        (at("file/x"), None, format!("REPO_NOT_FOUND_OR_NO_ACCESS: there is no directory {root}/file/x")),
        (at("file"), None, format!("REPO_NOT_GIT: {root}/file is a file")),
        (at("plain"), None, format!("REPO_NOT_GIT: {root}/plain is not a git repository; run `git init`")),
        (
            at("repo/sub/deep"),
            None,
            format!(
                "REPO_NOT_GIT: {root}/repo/sub/deep lies in the git repository {root}/repo; give that path"
            ),
        ),
        (
            at("repo/.git"),
            None,
            format!("REPO_NOT_GIT: {root}/repo/.git lies in the git repository {root}/repo; give that path"),
        ),
        (at("empty"), None, format!("REPO_EMPTY: {root}/empty has no commit")),
        (at("empty"), Some("main"), format!("REPO_EMPTY: {root}/empty has no commit")),
        (
            at("detached"),
            None,
            format!(
                "REPO_DETACHED_HEAD: {root}/detached is on no branch (detached HEAD); check out a branch there, or pass --base"
            ),
        ),
        (at("detached"), Some("main"), "ok main".into()),
        (
            at("repo"),
            Some("develp"),
            format!("BASE_BRANCH_NOT_FOUND: {root}/repo has no branch develp; there is develop, main"),
        ),
    ] {
        let said = said(&path, base).await;
        assert!(said.starts_with(&expected), "{}: {said}", path.display());
    }
}

#[tokio::test]
async fn what_its_owner_should_know_is_said() {
    let b = bench();
    assert_eq!(said(&b.repo, None).await, "ok main");
    sh(&b.repo, "echo changed > file && echo new > new");
    assert_eq!(
        said(&b.repo, None).await,
        "ok main | 2 files have uncommitted changes, which are not part of the task; commit them first if they should be."
    );
    sh(
        &b.repo,
        "git checkout -q . && rm new && mkdir assets && echo '*.bin filter=lfs diff=lfs' > assets/.gitattributes
         echo '[submodule \"x\"]' > .gitmodules && git add . && git commit -qm more
         git checkout -qb side HEAD~1 && echo side > file && git commit -qam side && git checkout -q main
         echo main > file && git commit -qam main && ! git merge side >/dev/null",
    );
    let said = said(&b.repo, None).await;
    for expected in ["A merge is in progress", "submodules", "git-lfs", "1 file has uncommitted"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[tokio::test]
async fn a_server_for_others_takes_no_paths() {
    let b = bench();
    let forge = LocalForge::new(LocalAccess::Disabled);
    let repo = RepoRef::Local(b.repo.clone());
    let refused = forge.inspect(&repo, None, true).await.unwrap_err();
    assert_eq!(refused.failure.code, FailureCode::LocalReposDisabled);
    assert!(forge.remote(&repo).await.is_err(), "nor is it told where to fetch");
}

#[tokio::test]
async fn a_push_runs_no_hook_of_the_repository_and_moves_no_checked_out_branch() {
    let b = bench();
    sh(&b.root, "git init -q --bare mirror.git && git -C mirror.git fetch -q ../repo main:main");
    let mirror = b.root.join("mirror.git");
    let commit = "git -c user.name=t -c user.email=t@t commit-tree -p main -m more 'main^{tree}'";
    let head_sha = sh(&mirror, commit);
    sh(
        &b.repo,
        "git worktree add -q ../linked -b taken
         for h in reference-transaction pre-receive update post-receive post-update post-checkout; do
           printf '#!/bin/sh\\ntouch %s/../ran-%s\\nexit 1\\n' \"$PWD\" $h > .git/hooks/$h; chmod +x .git/hooks/$h
         done",
    );
    let forge = LocalForge::new(LocalAccess::Allowed);
    let repo = RepoRef::Local(b.repo.clone());
    let push = async |branch: &str| {
        forge.push(&PushRequest { repo: &repo, mirror: &mirror, head_sha: &head_sha, branch }).await
    };
    push("bgagent/t/x").await.unwrap();
    assert_eq!(sh(&b.repo, "git rev-parse bgagent/t/x"), head_sha);
    for checked_out in ["main", "taken"] {
        let refused = push(checked_out).await.unwrap_err();
        assert_eq!(refused.failure.code, FailureCode::PushRejected, "{refused}");
    }
    assert_eq!(sh(&b.repo, "git status --porcelain; cat file; ls .. | grep ran- || true"), "2");
}

#[tokio::test]
async fn a_repository_of_which_nothing_can_be_written_is_refused_before_work_starts() {
    let b = bench();
    sh(&b.repo, "chmod -R a-w .git/objects .git/refs");
    if nix_is_root() {
        // Root may write anywhere; that a read-only file system is seen is left to the check by `access`.
        eprintln!("skipped: run as an ordinary user to see it");
    } else {
        assert_eq!(inspect(&b.repo, None).await.unwrap_err().failure.code, FailureCode::PushRejected);
    }
    sh(&b.repo, "chmod -R u+w .git/objects .git/refs");
}

fn nix_is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}
