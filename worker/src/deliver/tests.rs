use std::process::Command;

use super::*;

struct Place {
    _place: tempfile::TempDir,
    checkout: Checkout,
}

fn git(dir: &Path, args: &[&str]) -> String {
    let out = Command::new("git")
        .current_dir(dir)
        .args(["-c", "user.name=T", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

impl Place {
    fn new() -> Place {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("repo");
        std::fs::create_dir(&dir).unwrap();
        git(&dir, &["init", "-q"]);
        std::fs::write(dir.join(".gitignore"), "ignored/\n*.log\n").unwrap();
        std::fs::write(dir.join("a"), "1\n").unwrap();
        git(&dir, &["add", "-A"]);
        git(&dir, &["commit", "-qm", "base"]);
        git(&dir, &["checkout", "-qb", "work"]);
        let base = git(&dir, &["rev-parse", "HEAD"]);
        let (tree, launcher) = (Tree::open(&dir).unwrap(), crate::launch::Launcher::Direct);
        let checkout = Checkout {
            dir,
            base: base.clone(),
            start: base,
            saved: None,
            branch: "work".into(),
            tree,
            launcher,
        };
        Place { _place: place, checkout }
    }

    fn dir(&self) -> &Path {
        &self.checkout.dir
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    async fn commit(&self) -> Committed {
        let identity = Identity::parse("Bot <bot@x>");
        let task = TaskId::from_bits(7);
        super::commit(&self.checkout, &identity, task, Some("feat: it")).await.unwrap()
    }

    /// Paths in the branch's last commit.
    fn tree(&self) -> Vec<String> {
        git(self.dir(), &["ls-tree", "-r", "--name-only", "work"]).lines().map(str::to_owned).collect()
    }
}

/// D-048: untracked files were lost at the end.
#[tokio::test]
async fn everything_that_is_not_ignored_is_committed_with_the_task_in_a_trailer() {
    let p = Place::new();
    p.write("new/deep/file", "x");
    p.write("ignored/secret", "x");
    p.write("b.log", "x");
    p.write("ü -x\n", "odd name");
    std::fs::remove_file(p.dir().join("a")).unwrap();
    let done = p.commit().await;
    assert_eq!(done.commits, 1);
    assert_eq!(git(p.dir(), &["ls-tree", "-r", "-z", "--name-only", "work"]).split('\0').count(), 4);
    assert!(p.tree().contains(&"new/deep/file".to_owned()));
    assert!(!p.tree().iter().any(|f| f == "a" || f.starts_with("ignored") || f.ends_with(".log")));
    let log = git(p.dir(), &["log", "-1", "--format=%an <%ae>|%cn|%s|%(trailers:key=Task-Id)"]);
    assert_eq!(log, format!("Bot <bot@x>|Bot|feat: it|Task-Id: {}", TaskId::from_bits(7)));
}

#[tokio::test]
async fn nothing_changed_is_no_commit_and_doing_it_twice_is_one() {
    let p = Place::new();
    p.write("b.log", "ignored");
    let done = p.commit().await;
    assert_eq!((done.commits, done.head.as_str()), (0, p.checkout.base.as_str()));
    p.write("n", "x");
    assert_eq!(p.commit().await.commits, 1);
    assert_eq!(p.commit().await.commits, 1);
}

#[tokio::test]
async fn a_merge_left_half_done_is_committed_and_told() {
    let p = Place::new();
    p.write("same", "base\n");
    git(p.dir(), &["add", "-A"]);
    git(p.dir(), &["commit", "-qm", "base"]);
    git(p.dir(), &["checkout", "-qb", "other"]);
    p.write("same", "theirs\n");
    git(p.dir(), &["commit", "-qam", "theirs"]);
    git(p.dir(), &["checkout", "-q", "work"]);
    p.write("same", "ours\n");
    git(p.dir(), &["commit", "-qam", "ours"]);
    let merge =
        std::process::Command::new("git").current_dir(p.dir()).args(["merge", "-q", "other"]).output();
    assert!(!merge.unwrap().status.success(), "the merge conflicts");
    let done = p.commit().await;
    let trouble = done.trouble.unwrap();
    assert!(trouble.detail.contains("`same`"), "{trouble}");
    assert!(done.notes.contains(&trouble.detail));
    assert_eq!(p.commit().await.trouble, None, "it is told once");
}

#[tokio::test]
async fn work_on_another_branch_or_on_none_comes_to_the_tasks_branch() {
    for away in
        [&["checkout", "-qb", "mine"][..], &["checkout", "-q", "--detach"], &["branch", "-m", "renamed"]]
    {
        let p = Place::new();
        git(p.dir(), away);
        p.write("committed", "x");
        git(p.dir(), &["add", "-A"]);
        git(p.dir(), &["commit", "-qm", "own"]);
        p.write("not-committed", "x");
        let done = p.commit().await;
        assert_eq!(done.commits, 2, "{away:?}");
        assert!(
            p.tree().contains(&"committed".into()) && p.tree().contains(&"not-committed".into()),
            "{away:?}"
        );
        assert_eq!(git(p.dir(), &["symbolic-ref", "--short", "HEAD"]), "work");
    }
}

/// D-074: a repository's configuration was run.
#[tokio::test]
async fn hooks_of_the_repository_do_not_run_and_a_stale_lock_does_not_stop() {
    let p = Place::new();
    let hook = p.dir().join(".git/hooks/pre-commit");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    p.write(".git/index.lock", "");
    p.write("n", "x");
    assert_eq!(p.commit().await.commits, 1);
}

#[tokio::test]
async fn a_scaffold_is_taken_in_and_a_clone_is_left_out_and_both_are_said() {
    let p = Place::new();
    p.write("app/src/main", "x");
    git(&p.dir().join("app"), &["init", "-q"]);
    p.write("other/file", "x");
    git(&p.dir().join("other"), &["init", "-q"]);
    git(&p.dir().join("other"), &["add", "-A"]);
    git(&p.dir().join("other"), &["commit", "-qm", "theirs"]);
    git(&p.dir().join("other"), &["remote", "add", "origin", "https://x/y"]);
    p.write("empty-clone/x", "x");
    git(&p.dir().join("empty-clone"), &["init", "-q"]);
    git(&p.dir().join("empty-clone"), &["remote", "add", "origin", "https://x/y"]);
    let done = p.commit().await;
    assert_eq!(p.tree(), [".gitignore", "a", "app/src/main"]);
    let notes = done.notes.join(" ");
    assert!(notes.contains("`app/` was a new repository"), "{notes}");
    assert!(notes.contains("`other/` is a repository of its own"), "{notes}");
}

#[tokio::test]
async fn a_huge_file_is_left_out_and_said_and_the_rest_is_kept() {
    let p = Place::new();
    let huge = std::fs::File::create(p.dir().join("core.dump")).unwrap();
    huge.set_len(FILE_MAX_BYTES + 1).unwrap();
    p.write("n", "x");
    let done = p.commit().await;
    assert_eq!(p.tree(), [".gitignore", "a", "n"]);
    assert!(done.notes.join(" ").contains("`core.dump` (100 MiB)"), "{:?}", done.notes);
}

#[tokio::test]
async fn a_repository_that_the_agent_removed_is_a_typed_failure() {
    let p = Place::new();
    std::fs::remove_dir_all(p.dir().join(".git")).unwrap();
    let identity = Identity::parse("");
    let failed = super::commit(&p.checkout, &identity, TaskId::from_bits(7), None).await;
    assert_eq!(failed.unwrap_err().code, FailureCode::DeliverableLost);
}
