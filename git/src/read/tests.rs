use super::*;

fn sh(dir: &Path, script: &str) -> String {
    let ran = std::process::Command::new("sh").current_dir(dir).args(["-ec", script]).output().unwrap();
    assert!(ran.status.success(), "{script}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).trim().to_owned()
}

const INIT: &str = "git init -q -b main . && git config user.name t && git config user.email t@t";

fn repo() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    sh(dir.path(), &format!("{INIT} && echo one > a && git add . && git commit -qm one"));
    dir
}

#[tokio::test]
async fn revisions_branches_and_ancestry() {
    let dir = repo();
    let one = rev_parse(&dir, "main").await.unwrap().unwrap();
    sh(
        dir.path(),
        "git checkout -qb topic/x && echo two >> a && echo b > b && git add . && git commit -qm two",
    );
    assert_eq!(one.len(), 40);
    assert_eq!(rev_parse(&dir, "gone").await.unwrap(), None);
    assert_eq!(rev_parse(&dir, "--all").await.unwrap(), None);
    assert_eq!(branch_head(&dir, "main").await.unwrap().as_ref(), Some(&one));
    for none in ["gone", "main~0", "main@{0}", "main^{commit}", "", "-h", "../heads/main"] {
        assert_eq!(branch_head(&dir, none).await.unwrap(), None, "{none:?} is no branch");
    }
    assert_eq!(current_branch(&dir).await.unwrap().as_deref(), Some("topic/x"));
    assert_eq!(local_branches(&dir).await.unwrap(), ["main", "topic/x"]);
    assert!(is_ancestor(&dir, "main", "topic/x").await.unwrap());
    assert!(!is_ancestor(&dir, "topic/x", "main").await.unwrap());
    assert_eq!(is_ancestor(&dir, "gone", "main").await.unwrap_err().kind, GitErrorKind::NotFound);
    assert_eq!(count_commits(&dir, "main", "topic/x").await.unwrap(), 1);
    assert_eq!(
        diff_stat(&dir, "main", "topic/x").await.unwrap(),
        DiffStat { files: 2, insertions: 2, deletions: 0 }
    );
    let heads = ls_remote_heads(dir.path().to_str().unwrap(), None, &["main"]).await.unwrap();
    assert_eq!(heads, [RemoteHead { branch: "main".into(), sha: one }]);
    sh(dir.path(), "git checkout -q --detach");
    assert_eq!(current_branch(&dir).await.unwrap(), None);
}

#[tokio::test]
async fn an_option_cannot_be_smuggled_in_as_a_revision() {
    let dir = repo();
    let target = dir.path().join("written");
    let option = format!("--output={}", target.display());
    assert!(diff_stat(&dir, &option, "main").await.is_err());
    assert!(count_commits(&dir, &option, "main").await.is_err());
    assert!(is_ancestor(&dir, &option, "main").await.is_err());
    assert!(!target.exists());
}

#[tokio::test]
async fn layouts_of_work_trees_linked_ones_folders_and_bare_repositories() {
    let dir = repo();
    let top = dir.path().canonicalize().unwrap();
    sh(
        &top,
        "mkdir -p sub/deep && git worktree add -q ../$(basename $PWD)-linked -b linked && git clone -q --bare . ../$(basename $PWD).git",
    );
    let linked = PathBuf::from(format!("{}-linked", top.display()));
    let bare = PathBuf::from(format!("{}.git", top.display()));

    assert_eq!(layout(top.join("sub/deep")).await.unwrap().kind, Kind::WorkTree(top.clone()));
    let seen = layout(&linked).await.unwrap();
    assert_eq!(seen.kind, Kind::WorkTree(linked.clone()));
    assert_eq!(seen.common_dir, top.join(".git"));
    assert_ne!(seen.git_dir, seen.common_dir);
    let seen = layout(&bare).await.unwrap();
    assert_eq!((seen.kind, seen.git_dir, seen.shallow), (Kind::Bare, bare.clone(), false));
    let nothing = tempfile::tempdir().unwrap();
    assert_eq!(layout(&nothing).await.unwrap_err().kind, GitErrorKind::NotARepository);
    std::fs::remove_dir_all(linked).unwrap();
    std::fs::remove_dir_all(bare).unwrap();
}

#[tokio::test]
async fn status_tells_changed_and_unknown_files() {
    let dir = repo();
    sh(dir.path(), "echo two >> a && echo 'ä b' > 'ä b'");
    let status = status_porcelain(&dir).await.unwrap();
    assert_eq!(
        status,
        [
            StatusEntry { code: " M".into(), path: "a".into() },
            StatusEntry { code: "??".into(), path: "ä b".into() },
        ]
    );
    assert!(status[1].is_untracked());
}

/// Every key by which a repository can name a program that one of our questions would run.
fn make_hostile(dir: &Path, marker: &Path) {
    let evil = dir.join("evil.sh");
    let line = format!("echo \"$0 $*\" >> {}", marker.display());
    std::fs::write(&evil, format!("#!/bin/sh\n{line}\ncat\n")).unwrap();
    let (evil, at) = (evil.display(), dir.display());
    sh(
        dir,
        &format!(
            "{INIT}; chmod +x evil.sh; echo '*.txt filter=f diff=d' > .gitattributes; echo x > a.txt; echo x > b
             git add . && git commit -qm one; git branch topic; cp evil.sh .git/hooks/reference-transaction
             cp evil.sh .git/hooks/post-index-change; cp evil.sh .git/hooks/pre-push; cp evil.sh .git/hooks/post-checkout
             git config core.fsmonitor {evil}; git config core.sshCommand {evil}; git config core.pager {evil}
             git config filter.f.clean {evil}; git config filter.f.smudge {evil}; git config filter.f.required true
             git config diff.external {evil}; git config diff.d.textconv {evil}; git config diff.d.command {evil}
             git config core.askPass {evil}; git config credential.helper '!{evil}'; git config gpg.program {evil}
             git config log.showSignature true; git config core.alternateRefsCommand {evil}
             git config alias.status '!{evil}'; git config uploadpack.packObjectsHook {evil}
             git config remote.origin.url 'ext::{evil}'; git config remote.origin.promisor true
             git config 'url.ext::{evil} .insteadOf' 'https://'
             git config filter.a.b.process {evil}; git config hook.h.command {evil}
             git config hook.h.event reference-transaction; git config remote.{at}.uploadpack {evil}
             git config core.gitProxy {evil}; git config fetch.bundleURI ext::{evil}
             git config trace2.normalTarget {evil}.trace; git config include.path {evil}.config
             git config core.worktree {at}; git config interactive.diffFilter {evil}
             git config pager.log {evil}; git config sequence.editor {evil}; git config core.editor {evil}
             git config protocol.ext.allow always; git config protocol.allow always
             git config remote.{at}.vcs evil; git config url.ext::{evil}.insteadOf {at}/
             touch -d '2001-01-01' a.txt; echo y > new.txt"
        ),
    );
}

#[tokio::test]
async fn a_hostile_repository_runs_nothing() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let marker = state.path().join("ran");
    make_hostile(dir.path(), &marker);
    let ran = || std::fs::read_to_string(&marker).unwrap_or_default();
    let _ = std::fs::remove_file(&marker);

    layout(&dir).await.unwrap();
    status_porcelain(&dir).await.unwrap();
    current_branch(&dir).await.unwrap();
    local_branches(&dir).await.unwrap();
    rev_parse(&dir, "main").await.unwrap();
    is_ancestor(&dir, "main", "topic").await.unwrap();
    count_commits(&dir, "main", "topic").await.unwrap();
    diff_stat(&dir, "main~0", "topic").await.unwrap();
    ls_remote_heads(dir.path().to_str().unwrap(), None, &[]).await.unwrap();
    rev_parse(&dir, "0123456789012345678901234567890123456789").await.unwrap();
    Git::new().dir(&dir).args(["log", "-1", "-p", "--no-ext-diff", "--no-textconv"]).run().await.unwrap();
    let sha = rev_parse(&dir, "main").await.unwrap().unwrap();
    let mirror = state.path().join("mirror.git");
    sh(state.path(), "git init -q --bare mirror.git");
    crate::fetch(&mirror, dir.path().to_str().unwrap(), None, &["main:main"]).await.unwrap();
    sh(
        dir.path(),
        &format!(
            "git config remote.{0}.uploadpack ./evil.sh; git config url.ext::./evil.sh.insteadOf x{0}",
            mirror.display()
        ),
    );
    crate::hand_over(&mirror, &dir, &sha, "handed").await.unwrap();
    crate::fetch(&dir, dir.path().to_str().unwrap(), None, &["main:refs/heads/copy"]).await.unwrap();
    let refused = crate::fetch(&dir, "https://forge.example/x.git", None, &["main"]).await.unwrap_err();
    assert!(refused.stderr.contains("transport 'ext' not allowed"), "{refused}");
    assert_eq!(ran(), "", "nothing of the repository ran");

    // The same traps do spring for an ordinary git: the test can fail.
    let _ = std::process::Command::new("git").current_dir(&dir).arg("status").output().unwrap();
    assert!(ran().contains("evil.sh"), "the traps are set");
}

#[tokio::test]
async fn somebody_elses_repository_can_be_read() {
    if !nix::unistd::Uid::effective().is_root() {
        eprintln!("skipped: needs root, to give a repository to another user");
        return;
    }
    let dir = repo();
    sh(dir.path(), "chown -R 12345 .");
    assert!(rev_parse(&dir, "main").await.unwrap().is_some());
    assert_eq!(ls_remote_heads(dir.path().to_str().unwrap(), None, &[]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn history_is_what_the_commits_say() {
    let dir = repo();
    let root = rev_parse(&dir, "main").await.unwrap().unwrap();
    sh(dir.path(), "echo two > a && git commit -qam two && echo three > a && git commit -qam three");
    let head = rev_parse(&dir, "main").await.unwrap().unwrap();
    let honest = count_commits(&dir, &root, &head).await.unwrap();
    sh(
        dir.path(),
        &format!(
            "git replace {head} {root}; mkdir -p .git/info; echo {head} {root} > .git/info/grafts
             git commit-graph write --reachable; test \"$(git rev-list --count {root}..{head} 2>/dev/null)\" != {honest}"
        ),
    );
    assert_eq!(count_commits(&dir, &root, &head).await.unwrap(), honest);
    let diff = diff_stat(&dir, &root, &head).await.unwrap();
    assert_eq!(diff, DiffStat { files: 1, insertions: 1, deletions: 1 });
}
