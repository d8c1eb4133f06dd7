//! A repository of this machine that tries to make the server run something, from the first look to the branch in it.

use std::path::Path;

use domain::{RepoRef, TaskId};
use forge::local::{LocalAccess, LocalForge};
use forge::mirror::Mirrors;
use forge::push::{self, Settings};
use forge::{Forge, PullRequestDraft, PushRequest};

use crate::{repo_at, sh};

/// Every program that git could be made to run here, each of which would leave a mark.
fn make_hostile(repo: &Path, mark: &Path) {
    let run = repo.join("run.sh");
    std::fs::write(&run, format!("#!/bin/sh\necho \"$0 $*\" >> {}\ncat\n", mark.display())).unwrap();
    let (run, at) = (run.display(), repo.display());
    sh(
        repo,
        &format!(
            "chmod +x run.sh; printf '* filter=f diff=d merge=m\\n' > .gitattributes; mkdir -p sub
             printf '[submodule \"s\"]\\n\\tpath = sub\\n\\turl = ext::{run}\\n\\tupdate = !{run}\\n' > .gitmodules
             git add . && git commit -qm trap; mkdir -p .git/info
             cp .gitattributes .git/info/attributes
             for hook in reference-transaction post-index-change pre-push post-checkout pre-receive update \
                post-update post-receive push-to-checkout fsmonitor-watchman pre-auto-gc post-merge; do
                cp run.sh .git/hooks/$hook; done
             cat >> .git/config <<END
[core]
	fsmonitor = {run}
	sshCommand = {run}
	gitProxy = {run}
	pager = {run}
	editor = {run}
	askPass = {run}
	hooksPath = {at}/.git/hooks
	alternateRefsCommand = {run}
	attributesFile = {at}/.gitattributes
[filter \"f\"]
	clean = {run}
	smudge = {run}
	process = {run}
	required = true
[diff]
	external = {run}
[diff \"d\"]
	textconv = {run}
	command = {run}
[merge \"m\"]
	driver = {run}
[uploadpack]
	packObjectsHook = {run}
	allowFilter = true
[receive]
	procReceiveRefs = refs
[credential]
	helper = !{run}
[gpg]
	program = {run}
[log]
	showSignature = true
[gc]
	auto = 1
	recentObjectsHook = {run}
[maintenance]
	auto = true
[fetch]
	bundleURI = ext::{run}
	writeCommitGraph = true
[protocol]
	allow = always
[protocol \"ext\"]
	allow = always
[submodule]
	recurse = true
[submodule \"s\"]
	url = ext::{run}
	update = !{run}
	active = true
[remote \"origin\"]
	url = ext::{run}
	promisor = true
	partialclonefilter = blob:none
	uploadpack = {run}
[remote \"{at}\"]
	uploadpack = {run}
	vcs = evil
[url \"ext::{run} \"]
	insteadOf = https://
[alias]
	rev-parse = !{run}
	fetch = !{run}
	status = !{run}
[include]
	path = more
[hook \"h\"]
	command = {run}
	event = reference-transaction
[trace2]
	eventTarget = {mark}
	normalTarget = {mark}
END
             printf '[core]\\n\\tfsmonitor = {run}\\n' > .git/more
             touch -d 2001-01-01 .gitattributes; echo new > new.txt",
            mark = mark.display()
        ),
    );
}

/// D-074: a repository's configuration was run.
#[tokio::test]
async fn a_hostile_repository_runs_nothing_from_the_first_look_to_the_branch() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let (repo, mark) = (root.join("repo"), root.join("mark"));
    repo_at(&repo);
    make_hostile(&repo, &mark);
    let _ = std::fs::remove_file(&mark);
    let ran = || std::fs::read_to_string(&mark).unwrap_or_default();

    let forge = LocalForge::new(LocalAccess::Allowed);
    let reference = RepoRef::Local(repo.clone());
    let info = forge.inspect(&reference, None, true).await.unwrap();
    let mirrors = Mirrors::new(root.join("mirrors"), root.join("pushes"));
    let (task, branch) = (TaskId::from_bits(7), "bgagent/7/x");
    let remote = forge.remote(&reference).await.unwrap();
    for _ in 0..2 {
        mirrors.refresh(&reference, &remote, &info.default_branch).await.unwrap();
        mirrors.quarantine_open(task, &reference, &info.default_branch).await.unwrap();
    }
    let quarantine = mirrors.quarantine(task);
    let work = "git -c user.name=t -c user.email=t@t commit-tree -p main -m work main^{tree}";
    let head_sha = sh(&quarantine, work);
    sh(&quarantine, &format!("git update-ref refs/heads/{branch} {head_sha}"));
    let work = mirrors.branch_work(task, &reference, branch, "main").await.unwrap().unwrap();
    let range = push::Range { head: &work.head_sha, base: &work.base_sha, seen: None };
    let objections =
        push::look(&quarantine, range, &Settings::default(), &redact::Redactor::default()).await.unwrap();
    assert_eq!(objections, []);
    mirrors.diff(task, &reference, &work).await.unwrap();
    mirrors.diff_stat(task, &reference, &work).await.unwrap();
    let push = PushRequest { repo: &reference, mirror: &quarantine, head_sha: &head_sha, branch };
    forge.push(&push).await.unwrap();
    let draft = PullRequestDraft {
        branch: branch.into(),
        base: "main".into(),
        head_sha: head_sha.clone(),
        title: "t".into(),
        body: String::new(),
    };
    forge.open_pull_request(&reference, &draft).await.unwrap();
    mirrors.quarantine_end(task, &reference, &head_sha).await.unwrap();
    assert_eq!(ran(), "", "nothing of the repository ran");
    assert_eq!(git::branch_head(&repo, branch).await.unwrap(), Some(head_sha));

    // The same traps do spring for an ordinary git: the test can fail.
    let _ = std::process::Command::new("git").current_dir(&repo).arg("status").output().unwrap();
    assert!(ran().contains("run.sh"), "the traps are set");
}
