use super::*;
use crate::{GitErrorKind, rev_parse};

fn sh(dir: &Path, script: &str) -> String {
    let ran = std::process::Command::new("sh").current_dir(dir).args(["-ec", script]).output().unwrap();
    assert!(ran.status.success(), "{script}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).trim().to_owned()
}

fn pair() -> (tempfile::TempDir, String, String) {
    let dir = tempfile::tempdir().unwrap();
    sh(
        dir.path(),
        "git init -q -b main src && cd src && git config user.name t && git config user.email t@t
         for i in 1 2 3; do echo $i > f; git add f; git commit -qm $i; done
         cd .. && git init -q --bare mirror.git",
    );
    let src = dir.path().join("src").display().to_string();
    let mirror = dir.path().join("mirror.git").display().to_string();
    (dir, src, mirror)
}

#[tokio::test]
async fn a_fetch_takes_the_named_refs_and_no_more() {
    let (_dir, src, mirror) = pair();
    sh(Path::new(&src), "git tag v1 && git branch other");
    fetch(&mirror, &src, None, &["refs/heads/main:refs/heads/main"]).await.unwrap();
    assert_eq!(sh(Path::new(&mirror), "git for-each-ref --format='%(refname)'"), "refs/heads/main");
    let missing = fetch(&mirror, &src, None, &["refs/heads/gone"]).await.unwrap_err();
    assert_eq!(missing.kind, GitErrorKind::NotFound, "{missing}");
}

#[tokio::test]
async fn a_fetch_by_commit_that_no_ref_names_works_and_never_forces() {
    let (_dir, src, mirror) = pair();
    let second = rev_parse(&src, "main~1").await.unwrap().unwrap();
    fetch(&mirror, &src, None, &[&format!("{second}:refs/heads/x")]).await.unwrap();
    assert_eq!(rev_parse(&mirror, "x").await.unwrap(), Some(second));
    let back = rev_parse(&src, "main~2").await.unwrap().unwrap();
    let error = fetch(&mirror, &src, None, &[&format!("{back}:refs/heads/x")]).await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::Rejected, "{error}");
}

#[tokio::test]
async fn shallow_history_is_taken_over() {
    let (dir, src, mirror) = pair();
    sh(dir.path(), &format!("git clone -q --depth 1 file://{src} shallow"));
    let shallow = dir.path().join("shallow").display().to_string();
    fetch(&mirror, &shallow, None, &["refs/heads/main:refs/heads/main"]).await.unwrap();
    assert_eq!(sh(Path::new(&mirror), "git rev-list --count main"), "1");
}

#[tokio::test]
async fn a_remote_that_is_not_there_is_a_network_failure_and_a_folder_no_repository() {
    let (dir, _src, mirror) = pair();
    let error = fetch(&mirror, "http://127.0.0.1:1/x.git", None, &["main"]).await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::Network, "{error}");
    assert!(error.kind.is_transient());
    let nothing = dir.path().join("nothing").display().to_string();
    std::fs::create_dir(&nothing).unwrap();
    let error = fetch(&mirror, &nothing, None, &["main"]).await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::NotARepository, "{error}");
}

#[tokio::test]
async fn a_commit_is_handed_to_a_shallow_clone_whose_bounds_the_mirror_shares() {
    let (dir, src, mirror) = pair();
    sh(dir.path(), &format!("git clone -q --depth 1 file://{src} shallow"));
    let shallow = dir.path().join("shallow");
    fetch(&mirror, shallow.to_str().unwrap(), None, &["refs/heads/main:refs/heads/main"]).await.unwrap();
    let work = "-c user.name=t -c user.email=t@t";
    let sha = sh(Path::new(&mirror), &format!("git {work} commit-tree -p main -m more main^{{tree}}"));
    hand_over(&mirror, &shallow, &sha, "topic").await.unwrap();
    assert_eq!(rev_parse(&shallow, "topic").await.unwrap().as_deref(), Some(sha.as_str()));
}

#[tokio::test]
async fn a_checked_out_branch_is_not_moved() {
    let (_dir, src, mirror) = pair();
    fetch(&mirror, &src, None, &["refs/heads/main:refs/heads/main"]).await.unwrap();
    let work = "-c user.name=t -c user.email=t@t";
    let sha = sh(Path::new(&mirror), &format!("git {work} commit-tree -p main -m more main^{{tree}}"));
    let error = hand_over(&mirror, &src, &sha, "main").await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::Rejected, "{error}");
}

#[tokio::test]
async fn a_branch_that_stands_for_something_else_is_not_written_through() {
    let (dir, src, mirror) = pair();
    fetch(&mirror, &src, None, &["refs/heads/main:refs/heads/main"]).await.unwrap();
    let first = rev_parse(&src, "main~2").await.unwrap().unwrap();
    sh(
        dir.path(),
        "cd src && git branch victim main~2 && git symbolic-ref refs/heads/topic/alias refs/heads/victim
         mkdir ../elsewhere && ln -s ../../../../elsewhere .git/refs/heads/linked",
    );
    let sha = rev_parse(&mirror, "main").await.unwrap().unwrap();
    let error = hand_over(&mirror, &src, &sha, "topic/alias").await.unwrap_err();
    assert!(error.stderr.contains("symbolic ref"), "{error}");
    assert_eq!(rev_parse(&src, "victim").await.unwrap(), Some(first), "the branch behind it stays");
    let error = hand_over(&mirror, &src, &sha, "linked/x").await.unwrap_err();
    assert!(error.stderr.contains("symbolic link"), "{error}");
    assert_eq!(
        std::fs::read_dir(dir.path().join("elsewhere")).unwrap().count(),
        0,
        "nothing is written there"
    );
    hand_over(&mirror, &src, &sha, "topic/own").await.unwrap();
}

#[tokio::test]
async fn between_folders_nothing_is_asked_over_the_network() {
    let (_dir, src, mirror) = pair();
    fetch(&mirror, &src, None, &["refs/heads/main:refs/heads/main"]).await.unwrap();
    let sha = rev_parse(&mirror, "main").await.unwrap().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let web = format!("http://{}/", listener.local_addr().unwrap());
    sh(
        Path::new(&src),
        &format!("git config fetch.bundleURI {web}bundle && git config transfer.bundleURI true"),
    );
    hand_over(&mirror, &src, &sha, "one").await.unwrap();
    sh(Path::new(&src), &format!("git config url.{web}.insteadOf /"));
    let error = hand_over(&mirror, &src, &sha, "two").await.unwrap_err();
    assert!(error.stderr.contains("transport 'http' not allowed"), "{error}");
    let asked = listener.accept().map(drop).unwrap_err();
    assert_eq!(asked.kind(), std::io::ErrorKind::WouldBlock, "somebody asked");
}
