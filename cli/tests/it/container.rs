//! Whole tasks in the tier `container`, with a real engine.

use std::path::Path;

use protocol::rest::CreateTaskRequest;
use serde_json::{Value, json};
use testkit::peers::{Engine, engine};
use testkit::platform::Platform;
use testkit::poll;
use testkit::repo::TempRepo;

use crate::whole::{self, END, bash, branches, say, transcript};

fn platform(scripts: &Path, engine: &Engine) -> Platform {
    whole::platform(scripts, "work")
        .with("DOCKER_HOST", &engine.address)
        .with("BGAGENT__COMPUTE__ISOLATION", "container")
}

fn request(repo: &TempRepo) -> CreateTaskRequest {
    CreateTaskRequest {
        build_command: Some("test -s seen.txt".into()),
        ..whole::request(repo.path(), "Look around")
    }
}

/// What the task's branch has in a file.
async fn delivered(repo: &TempRepo, file: &str) -> String {
    let branch = branches(repo.path()).await.remove(0);
    repo.git(&["show", &format!("{branch}:{file}")]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_done_in_containers_and_sees_no_secret() {
    let Some(engine) = engine() else { return };
    let scripts = tempfile::tempdir().unwrap();
    let look = "(env; cat /proc/[0-9]*/environ | tr '\\0' '\\n'; cat /proc/[0-9]*/cmdline | tr '\\0' ' '; echo
        ls -d /session /gateway /box; id -u; tail -n +3 /proc/net/dev | cut -d: -f1; cat /run/bgagent/* 2>/dev/null
        grep -rhI 'bgbt_\\|bgst_\\|HIDDEN' /proc/[0-9]*/environ /home /tmp /run 2>/dev/null) >seen.txt 2>&1";
    let work =
        [bash(look), bash("gcc --version >>seen.txt && git log --oneline >>seen.txt"), say("Look\n\nSeen.")];
    transcript(scripts.path(), "work", &work);
    let mut platform = platform(scripts.path(), &engine)
        .with("BGAGENT__COMPUTE__IMAGE", &engine.image)
        .with("BGAGENT_HIDDEN", "HIDDEN-FROM-BOXES");
    platform.start().await.unwrap();
    let repo = whole::sample().await;
    let task = whole::run(&platform, &request(&repo)).await;
    assert_eq!(
        (task.status.as_str(), task.isolation.as_deref()),
        ("COMPLETED", Some("container")),
        "{task:#?}"
    );
    let seen = delivered(&repo, "seen.txt").await;
    assert!(
        seen.contains("HOME=/home/agent") && seen.contains("box-tools") && seen.contains("gcc"),
        "{seen}"
    );
    let events = whole::events(&platform, task.task_id.parse().unwrap()).await;
    let ready = events.iter().find(|e| e.metadata["milestone"] == "box_ready");
    let walls = ready.and_then(|e| e.metadata["enforced"].as_str());
    assert!(walls.is_some_and(|walls| walls.contains("no capabilities, no network")), "{walls:?}");
    let key = std::fs::read_to_string(platform.state_dir().join("token-key")).unwrap();
    let state = platform.state_dir().display().to_string();
    for hidden in ["HIDDEN-FROM-BOXES", "worker --session", key.trim(), state.as_str()] {
        assert!(!seen.contains(hidden), "{hidden} is seen: {seen}");
    }
    assert!(seen.lines().any(|line| line.contains("cannot access '/session'")), "{seen}");
    // Ended sessions are taken away, by the state folder and by the engine.
    let gone = async || {
        let left = std::fs::read_dir(platform.state_dir().join("containers")).map_or(0, Iterator::count);
        (left == 0).then_some(())
    };
    poll::until("the session to be taken away", END, gone).await.unwrap();
    platform.end(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_box_of_containers_outlives_its_control_plane() {
    let Some(engine) = engine() else { return };
    let scripts = tempfile::tempdir().unwrap();
    let work =
        [bash("echo begun >seen.txt"), bash("sleep 4"), bash("echo after >>seen.txt"), say("Last\n\nDone.")];
    transcript(scripts.path(), "work", &work);
    let mut platform = platform(scripts.path(), &engine).with("BGAGENT__COMPUTE__IMAGE", &engine.image);
    platform.start().await.unwrap();
    let repo = whole::sample().await;
    let id = whole::submit(&platform, &request(&repo)).await;
    let containers = platform.state_dir().join("containers").join(format!("{id}-1"));
    let begun = async || containers.join("box/repo/seen.txt").exists().then_some(());
    poll::until("the work to begin", END, begun).await.unwrap();
    platform.kill().await.unwrap();
    platform.start().await.unwrap();
    let task = platform.ended(id, END).await.unwrap_or_else(|e| panic!("{e:#}"));
    assert_eq!((task.status.as_str(), task.attempt), ("COMPLETED", 1), "{task:#?}");
    assert_eq!(delivered(&repo, "seen.txt").await, "begun\nafter");
    platform.end(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_names_its_image() {
    let Some(engine) = engine() else { return };
    let scripts = tempfile::tempdir().unwrap();
    transcript(scripts.path(), "work", &[bash("echo there >seen.txt"), say("Add\n\nIt is there.")]);
    let mut platform = platform(scripts.path(), &engine)
        .with("BGAGENT__COMPUTE__IMAGE", &engine.image)
        .with("BGAGENT__COMPUTE__DEVCONTAINER", true);
    platform.start().await.unwrap();
    let with = async |file: Value| {
        let text = format!("// for editors\n{file}");
        TempRepo::new(&[("README.md", "# x\n"), (".devcontainer/devcontainer.json", &text)]).await.unwrap()
    };
    let named = with(json!({ "image": engine.image, "runArgs": ["--privileged"] })).await;
    let task = whole::run(&platform, &request(&named)).await;
    assert_eq!(task.status, "COMPLETED", "{task:#?}");
    let built = with(json!({ "build": { "dockerfile": "Dockerfile" } })).await;
    let task = whole::run(&platform, &request(&built)).await;
    assert_eq!((task.status.as_str(), whole::code(&task)), ("FAILED", "ISOLATION_UNAVAILABLE"), "{task:#?}");
    let elsewhere = with(json!({ "image": "localhost/no-such" })).await;
    let task = whole::run(&platform, &request(&elsewhere)).await;
    assert!(task.error_message.as_deref().unwrap_or_default().contains("localhost/no-such"), "{task:#?}");
    let nameless = whole::sample().await;
    let task = whole::run(&platform, &request(&nameless)).await;
    assert_eq!(task.status, "COMPLETED", "{task:#?}");
    platform.end(END).await.unwrap();
}
