//! The git proxy, asked by real git over TCP.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::extract::Request;
use axum::middleware::{self, Next};
use git::{Git, GitError, GitErrorKind};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::world::*;

mod push;

/// A gateway on a port, and a note of each request: method, path, encodings.
struct Served {
    world: World,
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
    folder: TempDir,
    server: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Served {
    async fn new() -> Served {
        Served::over(World::new().await).await
    }

    async fn over(world: World) -> Served {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let notes = seen.clone();
        let note = middleware::from_fn(move |request: Request, next: Next| {
            let header = |name| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("-");
            let (path, content, transfer) =
                (request.uri(), header("content-encoding"), header("transfer-encoding"));
            notes.lock().unwrap().push(format!("{} {path} {content} {transfer}", request.method()));
            next.run(request)
        });
        let routes = world.router.clone().layer(note);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        #[expect(clippy::disallowed_methods, reason = "the test's own server; aborted when it is dropped")]
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Served { world, url, seen, folder: tempfile::tempdir().unwrap(), server }
    }

    fn remote(&self, task: domain::TaskId) -> String {
        format!("{}/git/{task}.git", self.url)
    }

    /// git with the token of a box.
    fn git(&self, me: &Boxed) -> Git {
        Git::new()
            .config("http.extraHeader", format!("Authorization: Bearer {}", me.token))
            .config("user.name", "A Box")
            .config("user.email", "box@example.org")
    }

    /// A clone of the box's task on its branch.
    async fn clone(&self, me: &Boxed, name: &str, args: &[&str]) -> PathBuf {
        let dir = self.folder.path().join(name);
        let clone = self
            .git(me)
            .args(["clone", "--quiet", "--branch=main"])
            .args(args)
            .arg(self.remote(me.task))
            .arg(&dir);
        clone.run().await.unwrap();
        let branch = self.world.task(me.task).await.branch;
        self.run(me, &dir, &["checkout", "--quiet", "-b", &branch]).await.unwrap();
        dir
    }

    async fn run(&self, me: &Boxed, dir: &Path, args: &[&str]) -> Result<String, GitError> {
        Ok(self.git(me).dir(dir).args(args).run().await?.text())
    }

    async fn commit(&self, me: &Boxed, dir: &Path, name: &str, content: &[u8]) -> String {
        std::fs::write(dir.join(name), content).unwrap();
        self.run(me, dir, &["add", "--all"]).await.unwrap();
        self.run(me, dir, &["commit", "--quiet", "-m", name]).await.unwrap();
        self.run(me, dir, &["rev-parse", "HEAD"]).await.unwrap()
    }

    async fn push(&self, me: &Boxed, dir: &Path, args: &[&str]) -> Result<String, GitError> {
        let args: Vec<&str> = ["push", "origin"].into_iter().chain(args.iter().copied()).collect();
        self.run(me, dir, &args).await
    }

    fn mirror(&self) -> PathBuf {
        self.world.orchestrator.parts().mirrors.path(&repo())
    }

    fn quarantine(&self, task: domain::TaskId) -> PathBuf {
        self.world.orchestrator.parts().mirrors.quarantine(task)
    }

    /// Every ref of the mirror and of the quarantines, as they are on the disk.
    async fn refs(&self) -> String {
        let mirrors = &self.world.orchestrator.parts().mirrors;
        let mut all = vec![self.mirror()];
        all.extend(mirrors.quarantines().unwrap().into_iter().map(|task| mirrors.quarantine(task)));
        all.sort();
        let mut refs = String::new();
        for dir in all {
            refs += &Git::new().dir(dir).args(["for-each-ref"]).run().await.unwrap().text();
        }
        refs
    }

    fn seen(&self, what: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|s| s.contains(what)).count()
    }
}

#[tokio::test]
async fn clones_are_whole_or_shallow_in_either_protocol() {
    let served = Served::new().await;
    served.world.source.commit("second", &[("b.txt", "b\n")]).await.unwrap();
    let me = served.world.boxed().await;
    for version in ["0", "1", "2"] {
        for (depth, commits) in [(None, "2"), (Some("--depth=1"), "1")] {
            let dir = served.folder.path().join(format!("v{version}{}", depth.is_some()));
            let git = served
                .git(&me)
                .config("protocol.version", version)
                .args(["clone", "--quiet", "--branch=main"])
                .args(depth);
            git.arg(served.remote(me.task)).arg(&dir).run().await.unwrap();
            let count = served.run(&me, &dir, &["rev-list", "--count", "HEAD"]).await.unwrap();
            assert_eq!(count, commits, "protocol {version}, {depth:?}");
            assert!(dir.join("b.txt").exists());
        }
    }
}

#[tokio::test]
async fn the_branch_of_the_task_is_pushed_created_and_moved() {
    let served = Served::new().await;
    let me = served.world.boxed().await;
    let branch = served.world.task(me.task).await.branch;
    for (name, args) in [("whole", &[][..]), ("shallow", &["--depth=1"][..])] {
        let dir = served.clone(&me, name, args).await;
        if name == "shallow" {
            served.run(&me, &dir, &["fetch", "--quiet", "origin", &branch]).await.unwrap();
            served.run(&me, &dir, &["reset", "--quiet", "--hard", "FETCH_HEAD"]).await.unwrap();
        }
        for round in 0..2 {
            let head = served.commit(&me, &dir, &format!("{name}{round}"), b"x").await;
            served.push(&me, &dir, &[&branch]).await.unwrap();
            let there =
                git::rev_parse(&served.quarantine(me.task), &format!("refs/heads/{branch}")).await.unwrap();
            assert_eq!(there.as_deref(), Some(head.as_str()), "{name}");
        }
        // Nothing new is nothing to do.
        served.push(&me, &dir, &[&branch]).await.unwrap();
    }
}

#[tokio::test]
async fn every_other_push_is_refused_with_words_and_changes_nothing() {
    let served = Served::new().await;
    let me = served.world.boxed().await;
    let other = served.world.boxed().await;
    let mine = served.world.task(me.task).await.branch;
    let others = served.world.task(other.task).await.branch;
    let dir = served.clone(&me, "mine", &[]).await;
    served.commit(&me, &dir, "a", b"a").await;
    served.push(&me, &dir, &[&mine]).await.unwrap();
    let theirs = served.clone(&other, "theirs", &[]).await;
    served.commit(&other, &theirs, "b", b"b").await;
    served.push(&other, &theirs, &[&others]).await.unwrap();
    served.commit(&me, &dir, "c", b"c").await;
    served.run(&me, &dir, &["tag", "v1"]).await.unwrap();
    served.run(&me, &dir, &["branch", "rewritten", "HEAD~2"]).await.unwrap();
    let before = served.refs().await;
    let to = |name: &str| format!("HEAD:refs/heads/{name}");
    let inside = format!("{mine}/x");
    for (what, args) in [
        ("another branch", vec![to("main")]),
        ("a new branch", vec![to("mine")]),
        ("another task's branch", vec![to(&others)]),
        ("another task's branch, forced", vec!["--force".into(), to(&others)]),
        ("a branch below its own", vec![to(&inside)]),
        ("a tag", vec!["v1".into()]),
        ("its own and another", vec![to(&mine), to("main")]),
        ("its own and a tag", vec![to(&mine), "v1".into()]),
        ("both at once or none", vec!["--atomic".into(), to(&mine), to("main")]),
        ("a namespace", vec!["HEAD:refs/for/main".into()]),
        ("deleting its own", vec!["--delete".into(), mine.clone()]),
        ("deleting another", vec!["--delete".into(), "main".into()]),
        ("everything", vec!["--mirror".into()]),
    ] {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let failed = served.push(&me, &dir, &args).await.expect_err(what);
        assert_eq!(failed.kind, GitErrorKind::Rejected, "{what}: {failed}");
        let words = ["this task may push refs/heads/bgagent/", "may not be deleted"];
        assert!(words.iter().any(|w| failed.stderr.contains(w)), "{what}: {failed}");
        assert_eq!(served.refs().await, before, "{what}");
    }
    // git itself refuses a rewrite, however it is asked for.
    let rewrite = format!("+rewritten:refs/heads/{mine}");
    let failed = served.push(&me, &dir, &["--force", &rewrite]).await.unwrap_err();
    assert_eq!(failed.kind, GitErrorKind::Rejected, "{failed}");
    assert!(failed.stderr.contains("non-fast-forward"), "{failed}");
    assert_eq!(served.refs().await, before);
    served.push(&me, &dir, &[&mine]).await.unwrap();
}

#[tokio::test]
async fn a_large_push_is_streamed_and_a_refused_one_is_told() {
    let served = Served::new().await;
    let me = served.world.boxed().await;
    let branch = served.world.task(me.task).await.branch;
    let dir = served.clone(&me, "large", &[]).await;
    let mut rng = testkit::Rng::new(1);
    let noise: Vec<u8> =
        std::iter::repeat_with(|| rng.next_u64().to_le_bytes()).take(500_000).flatten().collect();
    let head = served.commit(&me, &dir, "noise", &noise).await;
    let refused = served.push(&me, &dir, &["HEAD:refs/heads/main"]).await.unwrap_err();
    assert!(refused.stderr.contains("remote: this task may push"), "{refused}");
    served.push(&me, &dir, &[&branch]).await.unwrap();
    let there = git::rev_parse(&served.quarantine(me.task), &format!("refs/heads/{branch}")).await.unwrap();
    assert_eq!(there.as_deref(), Some(head.as_str()));
    assert!(served.seen("git-receive-pack - chunked") >= 2, "{:?}", served.seen.lock().unwrap());
}

#[tokio::test]
async fn a_compressed_fetch_is_understood() {
    let served = Served::new().await;
    let me = served.world.boxed().await;
    let dir = served.clone(&me, "zip", &[]).await;
    // Enough commits of its own to ask about that git compresses the question.
    for n in 0..80 {
        // git asks about the youngest first.
        let commit =
            served.git(&me).dir(&dir).env("GIT_COMMITTER_DATE", format!("{} +0000", 4_000_000_000_u64 + n));
        commit.args(["commit", "--quiet", "--allow-empty", "-m", "mine"]).run().await.unwrap();
    }
    let new = served.world.source.commit("more", &[("more", "x")]).await.unwrap();
    // Its next dispatch brings its quarantine up to date.
    let (mirrors, base) = (&served.world.orchestrator.parts().mirrors, "main");
    served.world.boxed().await;
    mirrors.quarantine_open(me.task, &repo(), base).await.unwrap();
    let fetch = served.git(&me).dir(&dir).config("protocol.version", "0");
    fetch.args(["fetch", "--quiet", "origin", "main"]).run().await.unwrap();
    assert_eq!(served.run(&me, &dir, &["rev-parse", "FETCH_HEAD"]).await.unwrap(), new);
    assert!(served.seen("git-upload-pack gzip") > 0, "{:?}", served.seen.lock().unwrap());
    let path = format!("/git/{}.git/git-upload-pack", me.task);
    let mut bomb = request("POST", &path, Some(&me.token), Some("not compressed at all"));
    bomb.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    assert_eq!(served.world.send(bomb).await.status, 400);
}

#[tokio::test]
async fn other_tasks_branches_are_hidden() {
    let served = Served::new().await;
    let (me, other) = (served.world.boxed().await, served.world.boxed().await);
    for (boxed, name) in [(&me, "one"), (&other, "two")] {
        let dir = served.clone(boxed, name, &[]).await;
        served.commit(boxed, &dir, name, b"x").await;
        let branch = served.world.task(boxed.task).await.branch;
        served.push(boxed, &dir, &[&branch]).await.unwrap();
    }
    let mine = served.world.task(me.task).await.branch;
    for version in ["0", "2"] {
        let list =
            served.git(&me).config("protocol.version", version).args(["ls-remote", &served.remote(me.task)]);
        let said = list.run().await.unwrap().text();
        assert!(said.contains(&mine) && said.contains("refs/heads/main"), "{said}");
        assert!(!said.contains(&other.task.to_string()), "{said}");
    }
}

#[tokio::test]
async fn a_token_is_for_its_own_task_and_time() {
    let served = Served::new().await;
    let (me, other) = (served.world.boxed().await, served.world.boxed().await);
    let list = async |me: &Boxed, url: String| served.git(me).args(["ls-remote", &url]).run().await;
    let strange = list(&me, served.remote(other.task)).await.unwrap_err();
    assert!(strange.stderr.contains("remote: this token is for the repository of its own task"), "{strange}");
    assert!(strange.stderr.contains("403"), "{strange}");
    for path in ["../x.git", "x.git", "nothing"] {
        list(&me, format!("{}/git/{path}", served.url)).await.unwrap_err();
    }
    let nobody = Git::new().args(["ls-remote", &served.remote(me.task)]).run().await.unwrap_err();
    assert_eq!(nobody.kind, GitErrorKind::Auth, "{nobody}");
    let branch = served.world.task(me.task).await.branch;
    let dir = served.clone(&me, "old", &[]).await;
    served.commit(&me, &dir, "a", b"a").await;
    let (behind, twin) = (served.world.signed(me.task, 0, "i1"), served.world.signed(me.task, 1, "i2"));
    for stranger in [&behind, &twin] {
        let late = list(stranger, served.remote(me.task)).await.unwrap_err();
        assert!(late.stderr.contains("remote: this attempt is over"), "{late}");
    }
    served.world.cancel(me.task).await;
    let before = served.refs().await;
    let late = served.push(&me, &dir, &[&branch]).await.unwrap_err();
    assert!(late.stderr.contains("remote: this attempt is over") && late.stderr.contains("409"), "{late}");
    let late = list(&me, served.remote(me.task)).await.unwrap_err();
    assert!(late.stderr.contains("remote: this attempt is over"), "{late}");
    assert_eq!(served.refs().await, before);
}

#[tokio::test]
async fn only_the_smart_protocol_is_served() {
    let served = Served::new().await;
    let me = served.world.boxed().await;
    let get = async |path: &str| {
        served
            .world
            .call("GET", &format!("/git/{}.git{path}", me.task), Some(&me.token), None)
            .await
            .status
            .as_u16()
    };
    for service in
        ["", "?service=git-upload-archive", "?service=git-upload-pack%20--x", "?service=", "?service=x"]
    {
        assert_eq!(get(&format!("/info/refs{service}")).await, 403, "{service}");
    }
    for path in ["/HEAD", "/config", "/objects/info/packs", "/../../x", "/git-upload-archive", ""] {
        assert_eq!(get(path).await, 404, "{path}");
    }
    for body in ["", "0000", "zzzz", "0001", "ffff", "000ahello\n"] {
        let path = format!("/git/{}.git/git-receive-pack", me.task);
        let answer = served.world.send(request("POST", &path, Some(&me.token), Some(body))).await;
        assert!(answer.status.as_u16() < 500, "{body}: {} {}", answer.status, answer.text());
    }
}

#[tokio::test]
async fn a_hostile_mirror_runs_nothing() {
    let served = Served::new().await;
    let me = served.world.boxed().await;
    let branch = served.world.task(me.task).await.branch;
    let proof = served.folder.path().join("proof");
    let script = format!("touch {}", proof.display());
    for repository in [served.mirror(), served.quarantine(me.task)] {
        make_hostile(&repository, &script);
    }
    let dir = served.clone(&me, "hostile", &[]).await;
    served.commit(&me, &dir, "a", b"a").await;
    served.push(&me, &dir, &[&branch]).await.unwrap();
    assert!(!proof.exists(), "a program of the mirror's configuration ran");
}

/// Gives a bare repository every program that git could run in it.
fn make_hostile(mirror: &Path, script: &str) {
    let mut config = std::fs::read_to_string(mirror.join("config")).unwrap();
    config += &format!(
        "[core]\n\tfsmonitor = {script}\n\thooksPath = {hooks}\n\talternateRefsCommand = {script}\n\
         [uploadpack]\n\tpackObjectsHook = {script}\n\
         [filter \"x\"]\n\tclean = {script}\n[gc]\n\tauto = 1\n",
        hooks = mirror.join("evil").display()
    );
    std::fs::write(mirror.join("config"), config).unwrap();
    for folder in ["evil", "hooks"] {
        std::fs::create_dir_all(mirror.join(folder)).unwrap();
        for hook in
            ["pre-receive", "update", "post-receive", "post-update", "proc-receive", "reference-transaction"]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let file = mirror.join(folder).join(hook);
            std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
}

#[tokio::test]
async fn a_broken_object_is_not_taken() {
    let served = Served::new().await;
    let me = served.world.boxed().await;
    let branch = served.world.task(me.task).await.branch;
    let dir = served.clone(&me, "broken", &[]).await;
    // A tree with an entry `.git` would write into the repository of whoever checks it out.
    let blob = served
        .git(&me)
        .dir(&dir)
        .args(["hash-object", "-w", "--stdin"])
        .stdin("x")
        .run()
        .await
        .unwrap()
        .text();
    let tree =
        [b"40000 .git\0".as_slice(), &hex(&served.run(&me, &dir, &["write-tree"]).await.unwrap())].concat();
    let hash = served.git(&me).dir(&dir).args(["hash-object", "-w", "-t", "tree", "--literally", "--stdin"]);
    let tree = hash.stdin(tree).run().await.unwrap().text();
    let commit = served.run(&me, &dir, &["commit-tree", &tree, "-p", "HEAD", "-m", "evil"]).await.unwrap();
    let before = served.refs().await;
    let failed = served.push(&me, &dir, &[&format!("{commit}:refs/heads/{branch}")]).await.unwrap_err();
    assert!(failed.stderr.contains("hasDotgit") || failed.stderr.contains("fsck"), "{blob} {failed}");
    assert_eq!(served.refs().await, before);
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|n| u8::from_str_radix(&text[n..n + 2], 16).unwrap()).collect()
}
