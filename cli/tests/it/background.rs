//! The server that a command starts when there is none.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::person::Person;

fn pid_of_server(state: &Path) -> i32 {
    let text = std::fs::read_to_string(state.join("server.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["pid"].as_i64().unwrap().try_into().unwrap()
}

fn gone_in_time(what: &str, gone: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !gone() {
        assert!(Instant::now() < deadline, "{what} is still there");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn commands_at_the_same_time_start_one_server_that_outlives_them() {
    let person = Person::new();
    let state = person.home.path().join(".local/state/bgagent");
    let ends: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| person.types(&["list"]))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for (code, out, err) in &ends {
        assert_eq!((*code, out.trim()), (0, "No tasks found."), "{err}");
    }
    let pid = pid_of_server(&state);
    let (code, out, _) = person.types(&["doctor"]);
    assert!(out.contains(&format!("(process {pid})")), "{code} {out}");
    let (_, key, _) = person.types(&["config", "owner-key"]);
    assert!(key.starts_with("bgak_"), "{key}");

    let (code, _, err) = person.types(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(code == 1 && err.contains(&format!("process {pid}")), "{err}");

    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    gone_in_time("server.json", || !state.join("server.json").exists());
    let (code, _, err) = person.types(&["list"]);
    assert_eq!(code, 0, "{err}");
    let next = pid_of_server(&state);
    assert_ne!(next, pid);
    kill(Pid::from_raw(next), Signal::SIGTERM).unwrap();
    gone_in_time("server.json", || !state.join("server.json").exists());
}

#[test]
fn a_server_that_cannot_start_is_told_with_its_log() {
    let person = Person::new();
    let bad = [("BGAGENT__SERVER__GATEWAY_LISTEN", "unix:/no/such/folder/gateway.sock")];
    let (code, _, err) = person.types_with(&["list"], &bad);
    assert_eq!(code, 1);
    assert!(err.contains("starting the server failed") && err.contains("/no/such/folder"), "{err}");
    assert!(err.contains("\nHint: "), "{err}");
}

#[test]
fn the_demo_opens_a_pull_request_and_leaves_nothing_behind() {
    let person = Person::new();
    let folder = person.home.path().to_str().unwrap();
    // Keys and settings of the person are not the demo's.
    let env = [("TMPDIR", folder), ("ANTHROPIC_API_KEY", "k"), ("BGAGENT__LIMITS__PER_USER", "many")];
    let (code, out, err) = person.types_with(&["demo"], &env);
    assert_eq!(code, 0, "{out}{err}");
    for part in [
        "Keep the sign of the second number",
        "-b=${2#-}\n+b=$2",
        "Timeline:",
        "pr created",
        "cost $0.0",
        "ANTHROPIC_API_KEY",
    ] {
        assert!(out.contains(part), "{part} is missing: {out}");
    }
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0, "something is left in {folder}");

    let (code, out, err) = person.types_with(&["demo", "--keep", "--output", "json"], &[("TMPDIR", folder)]);
    assert_eq!(code, 0, "{err}");
    let kinds: BTreeSet<_> = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter_map(|line| line["event_type"].as_str().map(str::to_owned))
        .collect();
    assert!(kinds.contains("task_created") && kinds.contains("task_completed"), "{kinds:?}");
    let kept = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    assert!(kept.join("repo/.git").exists() && !kept.join("state/server.json").exists());
    assert!(err.contains(kept.to_str().unwrap()), "{err}");
}

#[tokio::test]
async fn an_idle_server_of_a_command_is_replaced_when_the_settings_have_changed() {
    let repo = testkit::TempRepo::new(&[("a.txt", "one\n")]).await.unwrap();
    let person = Person::new();
    let state = person.home.path().join(".local/state/bgagent");
    let script = person.home.path().join("answer.json");
    let turns = r#"{"version":1,"turns":[
        {"content":[{"type":"tool_use","name":"Bash","input":{"command":"echo two > a.txt"}}]},
        {"content":[{"type":"text","text":"Count on"}]}]}"#;
    std::fs::write(&script, turns).unwrap();
    let (path, repo) = (script.to_str().unwrap(), repo.path().to_str().unwrap());
    let submit = ["submit", "--wait", "--repo", repo, "Count on"];

    let (code, out, err) = person.types(&submit);
    assert!(code == 1 && format!("{out}{err}").contains("MODEL_NOT_CONFIGURED"), "{out}{err}");
    let first = pid_of_server(&state);
    let model = [
        ("BGAGENT__MODEL__PROVIDERS__DEMO__KIND", "script"),
        ("BGAGENT__MODEL__PROVIDERS__DEMO__PATH", path),
        ("BGAGENT__MODEL__DEFAULT", "demo/x"),
    ];
    let (code, out, err) = person.types_with(&submit, &model);
    assert_eq!(code, 0, "{out}{err}");
    let second = pid_of_server(&state);
    assert_ne!(first, second, "the settings are the new ones");
    let (code, out, err) = person.types_with(&submit, &model);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(pid_of_server(&state), second, "equal settings, the same server");
    kill(Pid::from_raw(second), Signal::SIGTERM).unwrap();
    gone_in_time("server.json", || !state.join("server.json").exists());
}
