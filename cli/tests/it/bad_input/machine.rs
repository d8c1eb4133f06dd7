//! A port that is taken, a second server, a database of a newer version, disks that are full or cannot be written.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use protocol::client::ClientError;
use testkit::platform::Platform;

use super::{printed, snapshot};
use crate::whole::*;

fn fresh() -> (tempfile::TempDir, Platform) {
    let dir = tempfile::tempdir().unwrap();
    let platform = platform(&small_work(dir.path()), "small");
    (dir, platform)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_and_a_second_server_are_told() {
    let (_dir, mut platform) = fresh();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = types(&platform, &["serve", "--listen", &address]).await;
    assert_eq!(said.code, 1, "{said:?}");
    let mut text = printed("port in use", &said);
    let said = types(&platform, &["serve", "--listen", "0.0.0.0:0"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    text.push_str(&printed("an address for everybody", &said));

    platform.start().await.unwrap();
    let said = types(&platform, &["serve"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains(&format!("process {}", platform.pid().unwrap())), "{said:?}");
    text.push_str(&printed("two servers", &said));
    snapshot("serve", &text, &platform);
    let repo = sample().await;
    let task = run(&platform, &request(repo.path(), "The first server works on")).await;
    assert_eq!(task.status, "COMPLETED");
    platform.end(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_a_newer_version_is_left_alone() {
    let (_dir, mut platform) = fresh();
    platform.start().await.unwrap();
    platform.stop(END).await.unwrap();
    let database = platform.state_dir().join("bgagent.db");
    let newer = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); \
                 db.execute(\"INSERT INTO schema_version VALUES (99, '0099_future', 'x', 0)\"); db.commit()";
    let python = Command::new("python3").args(["-c", newer]).arg(&database).status();
    if !python.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no python3 with sqlite3 is here to write a newer version into the database");
        return;
    }
    let before = std::fs::read(&database).unwrap();
    let said = types(&platform, &["serve"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    snapshot("newer_database", &printed("newer database", &said), &platform);
    assert!(std::fs::read(&database).unwrap() == before, "not a byte of it was written");
}

/// A small file system of its own, unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    /// `None` where this user may not mount; the reason is printed.
    fn new(at: &Path, options: &str) -> Option<Mount> {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).output();
        match mount {
            Ok(output) if output.status.success() => Some(Mount(at.to_owned())),
            Ok(output) => {
                eprintln!("skipped: mounting a tmpfs: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                eprintln!("skipped: running mount: {error}");
                None
            }
        }
    }

    fn remount(&self, options: &str) {
        let output =
            Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

/// Writes until nothing more fits.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for size in [64 * 1024, 4096, 512, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_and_loses_nothing_and_goes_on_when_there_is_space() {
    let (_dir, mut platform) = fresh();
    let Some(_mount) = Mount::new(&platform.state_dir(), "size=24m") else { return };
    platform.start().await.unwrap();
    let repo = sample().await;
    let before = belongings(repo.path()).await;
    let kept = run(&platform, &request(repo.path(), "Before the disk was full")).await;
    assert_eq!(kept.status, "COMPLETED");

    let filler = platform.state_dir().join("filler");
    fill(&filler);
    let client = platform.client().unwrap();
    let asked = request(repo.path(), "While the disk is full");
    // The database's log has room that was allocated before; at the latest when that is used up, the answer is no.
    let mut accepted = Vec::new();
    let mut refused = None;
    for n in 0..200 {
        match client.create_task(&asked, Some(&format!("full-{n}"))).await {
            Ok((task, _)) => accepted.push(task.task_id),
            Err(error) => {
                refused = Some((n, error));
                break;
            }
        }
    }
    let (n, error) = refused.expect("a full disk refuses at some point");
    let ClientError::Api { status, code, message, .. } = &error else { panic!("{error:?}") };
    assert_eq!((*status, code.as_str()), (503, "SERVICE_UNAVAILABLE"), "{message}");
    assert!(message.contains("space") || message.contains("disk"), "{message}");
    let detail = client.task(kept.task_id.parse().unwrap()).await.unwrap();
    assert_eq!(detail.status, "COMPLETED", "what there was can still be read");

    std::fs::remove_file(&filler).unwrap();
    let (task, _) = client.create_task(&asked, Some(&format!("full-{n}"))).await.unwrap();
    accepted.push(task.task_id.clone());
    for id in &accepted {
        let ended = platform.ended(id.parse().unwrap(), END).await.unwrap_or_else(|e| panic!("{e:#}"));
        let full = ended.error_classification.as_ref().is_some_and(|c| c.code == "DISK_FULL");
        assert!(ended.status == "COMPLETED" || full, "{ended:#?}\n{}", platform.log());
    }
    let last = client.task(task.task_id.parse().unwrap()).await.unwrap();
    assert_eq!(last.status, "COMPLETED", "with space again, everything works: {last:#?}");
    assert_eq!(belongings(repo.path()).await, before);
    platform.boxes_gone(END).await.unwrap();
    platform.stop(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_fills_the_disk_of_the_server_fails_its_task_once_there_is_space_to_write_it_down() {
    let dir = tempfile::tempdir().unwrap();
    let fill = "head -c 100000000 /dev/zero > big.bin";
    let mut platform = platform(&transcript(dir.path(), "fill", &[bash(fill), say("Fill the disk")]), "fill")
        .with("BGAGENT__LIMITS__LEASE_S", 1);
    let Some(_mount) = Mount::new(&platform.state_dir(), "size=24m") else { return };
    platform.start().await.unwrap();
    let repo = sample().await;
    let task = submit(&platform, &request(repo.path(), "Fill the disk")).await;
    let big = session(&platform, task).join("box/repo/big.bin");
    // The worker keeps what it has to say until the server can write again.
    let refused = async || platform.log().contains("disk is full").then_some(());
    let found = testkit::poll::until("the server to find the disk full", END, refused).await;
    found.unwrap_or_else(|e| panic!("{e:#}\n{}", platform.log()));
    std::fs::remove_file(&big).unwrap();
    let task = platform.ended(task, END).await.unwrap_or_else(|e| panic!("{e:#}"));
    let why = format!("{task:#?}\n{}", platform.log());
    // Whether the commit still met a full disk is a race; what must not be is a task that hangs, or one that is lost.
    let known = ["DISK_FULL", "DELIVERABLE_LOST"].contains(&code(&task));
    assert!(task.status == "COMPLETED" || task.status == "FAILED" && known, "{why}");
    platform.boxes_gone(END).await.unwrap();
    platform.stop(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_folder_that_cannot_be_written_is_told() {
    let (_dir, mut platform) = fresh();
    let Some(mount) = Mount::new(&platform.state_dir(), "size=24m") else { return };
    mount.remount("ro");
    let said = types(&platform, &["serve"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    snapshot("read_only", &printed("read-only state folder", &said), &platform);
    mount.remount("rw");
    platform.start().await.unwrap();
    platform.stop(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_log_cannot_be_written_works_on() {
    let (_dir, platform) = fresh();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut server = platform.command(&["serve"]);
    let mut server = server.stdout(std::process::Stdio::null()).stderr(full).spawn().unwrap();
    let address = platform.state_dir().join("server.json");
    testkit::poll::until("the server", END, async || address.exists().then_some(())).await.unwrap();
    let repo = sample().await;
    let said = types(&platform, &["run", "--repo", repo.path().to_str().unwrap(), "Add a file"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    platform.boxes_gone(END).await.unwrap();
    server.kill().await.unwrap();
}
