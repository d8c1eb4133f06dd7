//! What the tests of the whole product share: transcripts, commands of a person beside a running server, and what must
//! stay as it was.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::TaskId;
use protocol::client::EventQuery;
use protocol::rest::{CreateTaskRequest, EventRecord, TaskDetail};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::platform::Platform;
use testkit::repo::TempRepo;

use crate::BINARY;

/// A task of these tests takes a second or two; the rest is a busy machine.
pub const END: Duration = Duration::from_secs(90);

/// Somebody who is not root, and whose nothing is.
pub const NOBODY: u32 = 65_534;

/// A folder that everybody may enter, with a copy of the program in it: the folder of a build may be closed to others.
/// Not below /tmp, which a box has one of its own of. Only root can make it.
pub fn open_folder(binary: &Path) -> (TempDir, PathBuf) {
    let open = Permissions::from_mode(0o755);
    let mut folder = tempfile::Builder::new();
    let folder = folder.prefix("bgagent-open-").permissions(open.clone()).tempdir_in("/var/lib").unwrap();
    let program = folder.path().join("bgagent");
    if fs::hard_link(binary, &program).is_err() {
        fs::copy(binary, &program).unwrap();
    }
    fs::set_permissions(&program, open).unwrap();
    let said = std::process::Command::new(&program).arg("--version").uid(NOBODY).gid(NOBODY).output();
    let runs = said.as_ref().is_ok_and(|said| said.status.success());
    assert!(runs, "user {NOBODY} cannot run {}: {said:?}", program.display());
    (folder, program)
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// One turn: this command in a shell.
pub fn bash(command: &str) -> Value {
    json!({ "content": [{ "type": "tool_use", "name": "Bash", "input": { "command": command } }] })
}

/// The last turn.
pub fn say(text: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": text }] })
}

/// Writes a transcript; its folder is a provider's `path`, its name a model.
pub fn transcript(dir: &Path, name: &str, turns: &[Value]) -> PathBuf {
    let path = dir.join(format!("{name}.json"));
    std::fs::write(&path, json!({ "version": 1, "turns": turns }).to_string()).unwrap();
    path
}

/// The smallest work there is.
pub fn small_work(dir: &Path) -> PathBuf {
    transcript(dir, "small", &[bash("echo one > one.txt"), say("Add a file\n\nIt is there.")])
}

/// A platform that looks at its boxes often.
pub fn platform(script: &Path, model: &str) -> Platform {
    quick(Platform::new(BINARY, script, model).unwrap())
}

/// The same, of one that is made already.
pub fn quick(platform: Platform) -> Platform {
    platform.with("BGAGENT__LIMITS__SUPERVISE_INTERVAL_S", "0.2").with("BGAGENT__COMPUTE__STOP_GRACE_S", 1)
}

pub async fn sample() -> TempRepo {
    TempRepo::new(&[("README.md", "# sample\n")]).await.unwrap()
}

/// A request with nothing but the necessary.
pub fn request(repo: &Path, description: &str) -> CreateTaskRequest {
    CreateTaskRequest {
        repo: Some(repo.display().to_string()),
        task_description: Some(description.to_owned()),
        ..CreateTaskRequest::default()
    }
}

pub async fn submit(platform: &Platform, request: &CreateTaskRequest) -> TaskId {
    let (task, _) = platform.client().unwrap().create_task(request, None).await.unwrap();
    task.task_id.parse().unwrap()
}

/// Submits, and waits for the end.
pub async fn run(platform: &Platform, request: &CreateTaskRequest) -> TaskDetail {
    let task = submit(platform, request).await;
    platform.ended(task, END).await.unwrap_or_else(|e| panic!("{e:#}"))
}

/// The code that a failed task is classified by.
pub fn code(task: &TaskDetail) -> &str {
    task.error_classification.as_ref().map_or("", |c| c.code.as_str())
}

/// All events of a task.
pub async fn events(platform: &Platform, task: TaskId) -> Vec<EventRecord> {
    let mut seen: Vec<EventRecord> = Vec::new();
    loop {
        let after = seen.last().map(|e| e.event_id.clone());
        let query = EventQuery { after, ..EventQuery::default() };
        let page = platform.client().unwrap().events(task, &query).await.unwrap();
        if page.data.is_empty() {
            return seen;
        }
        seen.extend(page.data);
    }
}

/// A person types a command while the platform runs (or not).
pub async fn types(platform: &Platform, words: &[&str]) -> Said {
    let output = platform.command(words).output();
    let output = tokio::time::timeout(Duration::from_secs(300), output).await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

/// The folder of a task's first session.
pub fn session(platform: &Platform, task: TaskId) -> PathBuf {
    platform.state_dir().join("sessions").join(format!("{task}-1"))
}

/// The home in the box of a task's first session, as the host sees it in the tier `sandbox`.
pub fn box_home(platform: &Platform, task: TaskId) -> PathBuf {
    session(platform, task).join("box/home")
}

/// The process that is the box of a task's first session, seen from outside.
pub async fn monitor(platform: &Platform, task: TaskId) -> i32 {
    let file = session(platform, task).join("pid");
    let pid = async || serde_json::from_slice::<Value>(&std::fs::read(&file).ok()?).ok()?["pid"].as_i64();
    let pid = testkit::poll::until("the box's process", END, pid).await;
    i32::try_from(pid.unwrap_or_else(|e| panic!("{e:#}\n{}", platform.log()))).unwrap()
}

/// All processes below this one.
pub fn below(top: i32) -> Vec<i32> {
    let parent = |pid: i32| -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let all: Vec<i32> = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let mut found = vec![top];
    loop {
        let more: Vec<i32> = all
            .iter()
            .copied()
            .filter(|pid| !found.contains(pid) && parent(*pid).is_some_and(|above| found.contains(&above)))
            .collect();
        if more.is_empty() {
            found.remove(0);
            return found;
        }
        found.extend(more);
    }
}

/// Waits until none of these processes lives.
pub async fn gone(pids: &[i32]) {
    let none = async || {
        let live = |pid: &&i32| Path::new("/proc").join(pid.to_string()).exists();
        pids.iter().find(live).is_none().then_some(())
    };
    testkit::poll::until("all of the box to be gone", Duration::from_secs(20), none).await.unwrap();
}

/// All of a person's repository that a task must leave alone: HEAD, branches that are not ours, index, work tree.
pub async fn belongings(repo: &Path) -> String {
    let mut all = String::new();
    for args in [
        &["symbolic-ref", "-q", "HEAD"][..],
        &["rev-parse", "HEAD"],
        &["for-each-ref", "--exclude=refs/heads/bgagent/", "--format=%(refname) %(objectname)"],
        &["status", "--porcelain", "--ignored"],
        &["diff", "HEAD"],
        &["stash", "list"],
        &["config", "--local", "--list"],
    ] {
        let git = git::Git::new().dir(repo).args(args).exits(&[0, 1, 128]).run().await.unwrap();
        all.push_str(&format!("{args:?}\n{}\n", git.text()));
    }
    all
}

/// The branches that tasks made in a person's repository.
pub async fn branches(repo: &Path) -> Vec<String> {
    let args = ["for-each-ref", "--format=%(refname:short)", "refs/heads/bgagent/"];
    let found = git::Git::new().dir(repo).args(args).run().await.unwrap().text();
    found.lines().map(str::to_owned).collect()
}
