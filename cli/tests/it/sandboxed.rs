//! Tasks in the tier `sandbox` through the whole product: what a tool finds, what ends it, and what outlives what.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocol::rest::{CreateTaskRequest, EventRecord};
use serde_json::Value;
use testkit::platform::Platform;
use testkit::poll;

use crate::whole::*;

/// Looks for tokens of boxes wherever a tool can look; the patterns do not find themselves.
const SEARCH: &str = r#"
cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' '\n' > /tmp/seen
env >> /tmp/seen
grep -c 'bg[sb]_0' /tmp/seen
grep -rIls 'bg[sb]_0' /box/repo /box/baseline /box/cache /home /tmp /etc /run /var 2>/dev/null
ls -d /session /gateway 2>/dev/null
head -c 1 /proc/1/environ 2>/dev/null
git config --get-regexp 'extraheader|credential' 
test -s .git/objects/info/alternates && ls .git/objects/pack && git fetch --quiet origin && echo searched
"#;

fn sandboxed(repo: &std::path::Path, words: &str) -> CreateTaskRequest {
    CreateTaskRequest { isolation: Some("sandbox".into()), ..request(repo, words) }
}

async fn appears(platform: &Platform, path: &std::path::Path) {
    let there = async || path.exists().then_some(());
    let found = poll::until(format!("{} to be there", path.display()), END, there).await;
    found.unwrap_or_else(|e| panic!("{e:#}\n{}", platform.log()));
}

/// The previews of what the tools answered.
fn answers(events: &[EventRecord]) -> Vec<&str> {
    let results = events.iter().filter(|event| event.event_type == "agent_tool_result");
    results.filter_map(|event| event.metadata["content_preview"].as_str()).collect()
}

fn milestone<'e>(events: &'e [EventRecord], name: &str) -> Option<&'e Value> {
    events.iter().map(|event| &event.metadata).find(|data| data["milestone"] == name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_goes_all_the_way_and_its_tools_find_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let turns = [bash(SEARCH), bash("echo two > two.txt"), say("Add a file")];
    let script = transcript(dir.path(), "look", &turns);
    let repo = sample().await;
    let before = belongings(repo.path()).await;
    let mut platform = platform(&script, "look");
    platform.start().await.unwrap();
    let mut request = sandboxed(repo.path(), "Looks around");
    request.build_command = Some("test -e README.md".into());
    let task = run(&platform, &request).await;
    assert_eq!(task.status, "COMPLETED", "{task:#?}\n{}", platform.log());
    assert_eq!(task.isolation.as_deref(), Some("sandbox"));
    assert_eq!(repo.git(&["show", &format!("{}:two.txt", task.branch_name)]).await.unwrap(), "two");
    assert_eq!(belongings(repo.path()).await, before);
    let events = events(&platform, task.task_id.parse().unwrap()).await;
    let ready = milestone(&events, "box_ready").and_then(|data| data["enforced"].as_str());
    assert!(ready.is_some_and(|walls| walls.contains("namespaces")), "{ready:?}");
    assert_eq!(answers(&events)[0].split_whitespace().collect::<Vec<_>>(), ["0", "searched"]);
    let verified = milestone(&events, "verification_complete").unwrap();
    assert_eq!(verified["build"], "passed", "{verified}");
    platform.end(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_takes_too_much_memory_is_ended_and_told_why() {
    let dir = tempfile::tempdir().unwrap();
    // A line without an end, of which it keeps all.
    let turns =
        [bash("timeout 60 tail /dev/zero"), bash("echo two > two.txt; echo alive"), say("Add a file")];
    let script = transcript(dir.path(), "hog", &turns);
    let repo = sample().await;
    let mut platform = platform(&script, "hog").with("BGAGENT__COMPUTE__LIMITS__MEMORY_MIB", 256);
    platform.start().await.unwrap();
    let task = run(&platform, &sandboxed(repo.path(), "Takes too much")).await;
    assert_eq!(task.status, "COMPLETED", "{task:#?}\n{}", platform.log());
    let events = events(&platform, task.task_id.parse().unwrap()).await;
    let told = answers(&events);
    assert!(told[0].contains("the box reached its memory limit"), "{told:?}");
    assert!(told[1].contains("alive"), "the box stays: {told:?}");
    let limit = events.iter().find(|event| event.event_type == "limit_reached").unwrap();
    assert_eq!(limit.metadata["limit"], "memory");
    platform.end(END).await.unwrap();
}

/// The limit ends the agent's commands; git, which needs as much room again for what they made, goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_work_of_a_box_that_filled_its_disk_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    let turns = [
        bash("head -c 50000000 /dev/urandom > work.bin"),
        bash("head -c 200000000 /dev/zero > /tmp/full; sleep 100"),
        bash("head -c 300000000 /dev/zero > /tmp/fuller; sleep 100"),
        say("Not reached"),
    ];
    let script = transcript(dir.path(), "full", &turns);
    let repo = sample().await;
    let mut platform = platform(&script, "full").with("BGAGENT__COMPUTE__LIMITS__DISK_MIB", 60);
    platform.start().await.unwrap();
    let task = run(&platform, &sandboxed(repo.path(), "Fills the disk")).await;
    let events = events(&platform, task.task_id.parse().unwrap()).await;
    let told = answers(&events);
    assert!(told[1].contains("the box reached its disk limit: "), "{told:?}");
    let end = events.last().unwrap();
    let warning = end.metadata["warning"].as_str().unwrap_or_default();
    assert!(warning.contains("DISK_FULL") && warning.contains("disk limit"), "{end:#?}\n{}", platform.log());
    let saved = repo.git(&["cat-file", "-s", &format!("{}:work.bin", task.branch_name)]).await.unwrap();
    assert_eq!(saved, "50000000");
    platform.end(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_box_dies_with_its_monitor() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = "(setsid env -i sleep 300 > /dev/null 2>&1 &); touch ~/there; sleep 300";
    let script = transcript(dir.path(), "wait", &[bash(daemon), say("Nothing")]);
    let repo = sample().await;
    let mut platform = platform(&script, "wait").with("BGAGENT__LIMITS__ATTEMPTS_MAX", 1);
    platform.start().await.unwrap();
    let id = submit(&platform, &sandboxed(repo.path(), "Is killed")).await;
    let home = box_home(&platform, id);
    appears(&platform, &home.join("there")).await;
    let monitor = monitor(&platform, id).await;
    let below = below(monitor);
    assert!(below.len() >= 4, "worker, tools, shell and sleep: {below:?}");
    kill(Pid::from_raw(monitor), Signal::SIGKILL).unwrap();
    gone(&below).await;
    let task = platform.ended(id, END).await.unwrap();
    assert_eq!((task.status.as_str(), code(&task)), ("FAILED", "SESSION_ENDED_WITHOUT_RESULT"), "{task:#?}");
    platform.end(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_box_finds_the_gateway_of_a_server_that_was_killed_and_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let wait = "touch ~/there; while [ ! -e ~/go ]; do sleep 0.05; done; echo two > two.txt";
    let script = transcript(dir.path(), "wait", &[bash(wait), say("Add a file")]);
    let repo = sample().await;
    let mut platform = platform(&script, "wait");
    platform.start().await.unwrap();
    let id = submit(&platform, &sandboxed(repo.path(), "Outlives its server")).await;
    let home = box_home(&platform, id);
    appears(&platform, &home.join("there")).await;
    platform.kill().await.unwrap();
    platform.start().await.unwrap();
    std::fs::write(home.join("go"), "").unwrap();
    let task = platform.ended(id, END).await.unwrap_or_else(|e| panic!("{e:#}"));
    assert_eq!(task.status, "COMPLETED", "{task:#?}\n{}", platform.log());
    assert_eq!(repo.git(&["show", &format!("{}:two.txt", task.branch_name)]).await.unwrap(), "two");
    platform.end(END).await.unwrap();
}
