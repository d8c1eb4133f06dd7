//! The server is replaced by another program file while tasks run: their boxes go on with the program they were started
//! with, the new server finds them, and each task completes in its first box.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use domain::TaskId;
use testkit::platform::Platform;
use testkit::poll;

use crate::whole::*;

/// Waits in the box until it is told to go on, then works.
const WAIT: &str = "touch ~/there; while [ ! -e ~/go ]; do sleep 0.05; done; echo one > one.txt";

/// A platform whose program is a copy, which can be replaced.
fn replaceable(dir: &Path) -> Platform {
    let script = transcript(dir, "wait", &[bash(WAIT), say("Add a file")]);
    let platform = platform(&script, "wait").with("BGAGENT__LIMITS__LEASE_S", 5);
    let copy = dir.join("bin/bgagent");
    std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
    std::fs::copy(platform.binary(), &copy).unwrap();
    platform.run_by(&copy)
}

/// As a package manager does it: the new file gets the name in one step, the old one has none any more.
fn replace(program: &Path) {
    let new = program.with_extension("new");
    std::fs::copy(program, &new).unwrap();
    std::fs::rename(&new, program).unwrap();
}

/// What a process runs: the file, as the kernel names it, and its number.
fn runs(pid: i32) -> (String, u64) {
    let exe = PathBuf::from(format!("/proc/{pid}/exe"));
    (std::fs::read_link(&exe).unwrap().display().to_string(), std::fs::metadata(&exe).unwrap().ino())
}

async fn waiting(platform: &Platform, repo: &Path, description: &str) -> TaskId {
    let id = submit(platform, &request(repo, description)).await;
    let there = box_home(platform, id).join("there");
    let seen = async || there.exists().then_some(());
    poll::until("the agent to be at work", END, seen)
        .await
        .unwrap_or_else(|e| panic!("{e:#}\n{}", platform.log()));
    id
}

async fn completes(platform: &Platform, id: TaskId) {
    std::fs::write(box_home(platform, id).join("go"), "").unwrap();
    let task = platform.ended(id, END).await.unwrap_or_else(|e| panic!("{e:#}"));
    let why = format!("{task:#?}\n{}", platform.log());
    assert_eq!((task.status.as_str(), task.attempt, &task.lost), ("COMPLETED", 1, &None), "{why}");
    let log = events(platform, id).await;
    for kind in ["session_started", "session_attached", "pr_created", "task_completed"] {
        assert_eq!(log.iter().filter(|e| e.event_type == kind).count(), 1, "{kind}: {log:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_replaced_under_a_task_that_runs() {
    let dir = tempfile::tempdir().unwrap();
    let repo = sample().await;
    let mut platform = replaceable(dir.path());
    platform.start().await.unwrap();
    let old_server = runs(i32::try_from(platform.pid().unwrap()).unwrap());
    let before = waiting(&platform, repo.path(), "Began before the upgrade").await;
    replace(platform.binary());

    // The old server still runs: what it starts now is its own program, not the new one.
    let between = waiting(&platform, repo.path(), "Began while the file was replaced").await;
    for id in [before, between] {
        let of_box = runs(monitor(&platform, id).await);
        assert_eq!(of_box.1, old_server.1, "{of_box:?}");
        assert!(of_box.0.ends_with(" (deleted)"), "{of_box:?}");
    }

    platform.stop(END).await.unwrap();
    platform.start().await.unwrap();
    let new_server = runs(i32::try_from(platform.pid().unwrap()).unwrap());
    assert_ne!(new_server.1, old_server.1);
    completes(&platform, before).await;
    completes(&platform, between).await;
    let after = waiting(&platform, repo.path(), "Began after the upgrade").await;
    assert_eq!(runs(monitor(&platform, after).await).1, new_server.1);
    completes(&platform, after).await;
    platform.end(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_file_is_gone_still_starts_boxes() {
    let dir = tempfile::tempdir().unwrap();
    let repo = sample().await;
    let mut platform = replaceable(dir.path());
    platform.start().await.unwrap();
    std::fs::remove_file(platform.binary()).unwrap();
    let id = waiting(&platform, repo.path(), "Began without a file").await;
    completes(&platform, id).await;
    platform.end(END).await.unwrap();
}
