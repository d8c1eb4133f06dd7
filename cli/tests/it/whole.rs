//! What the tests of the whole product share: transcripts, commands of a person beside a running server, and what must
//! stay as it was.

use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::TaskId;
use protocol::client::EventQuery;
use protocol::rest::{CreateTaskRequest, EventRecord, TaskDetail};
use serde_json::{Value, json};
use testkit::platform::Platform;
use testkit::repo::TempRepo;

use crate::BINARY;

/// A task of these tests takes a second or two; the rest is a busy machine.
pub const END: Duration = Duration::from_secs(90);

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
