//! The control plane is killed with SIGKILL, at every named point and at random moments: every acknowledged task ends,
//! none runs twice, no event is lost or doubled for a watcher that comes back with its cursor, no process is left.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::TaskId;
use orchestrator::fault;
use protocol::client::{EventQuery, Replayed};
use protocol::rest::{CreateTaskRequest, EventRecord, TaskDetail};
use testkit::platform::Platform;
use testkit::repo::TempRepo;
use testkit::rng::Rng;

use crate::BINARY;
use crate::whole::box_home;

/// A task of these tests takes well under a second; the rest is restarts on a busy machine.
const END: Duration = Duration::from_secs(90);

/// A transcript that leaves one line in `$HOME/ran/<branch>` (of its box) each time it runs, and takes a moment for each turn.
fn script(dir: &Path, delay_ms: u64) -> PathBuf {
    let once = r#"mkdir -p "$HOME/ran" && echo ran >> "$HOME/ran/$(git branch --show-current | tr / _)""#;
    let turn = |command: &str| {
        serde_json::json!({
            "delay_ms": delay_ms,
            "content": [{ "type": "tool_use", "name": "Bash", "input": { "command": command } }],
        })
    };
    let transcript = serde_json::json!({
        "version": 1,
        "turns": [
            turn(once), turn("echo one > one.txt"), turn("echo two > two.txt; sh test.sh"),
            { "content": [{ "type": "text", "text": "Add two files\n\nBoth are there." }] },
        ],
    });
    let path = dir.join("crash.json");
    std::fs::write(&path, transcript.to_string()).unwrap();
    path
}

async fn repo() -> TempRepo {
    TempRepo::new(&[("test.sh", "test -f one.txt || true\n"), ("README.md", "# sample\n")]).await.unwrap()
}

fn platform(script: &Path) -> Platform {
    Platform::new(BINARY, script, "crash")
        .unwrap()
        .with("BGAGENT__LIMITS__LEASE_S", 1)
        .with("BGAGENT__LIMITS__SUPERVISE_INTERVAL_S", "0.5")
        .with("BGAGENT__COMPUTE__STOP_GRACE_S", 1)
        // What ran is seen in the box's home.
        .with("BGAGENT__COMPUTE__KEEP_SESSIONS", true)
}

fn request(repo: &Path, description: &str) -> CreateTaskRequest {
    CreateTaskRequest {
        repo: Some(repo.display().to_string()),
        task_description: Some(description.to_owned()),
        build_command: Some("sh test.sh".into()),
        ..CreateTaskRequest::default()
    }
}

/// Everything after the cursor, as far as it can be read now; the cursor goes with it.
async fn read_on(platform: &Platform, task: TaskId, seen: &mut Vec<EventRecord>) -> bool {
    loop {
        let Ok(client) = platform.client() else { return false };
        let after = seen.last().map(|e| e.event_id.clone());
        let query = EventQuery { after, ..EventQuery::default() };
        match client.events(task, &query).await {
            Ok(page) if page.data.is_empty() => return true,
            Ok(page) => seen.extend(page.data),
            Err(_) => return false,
        }
    }
}

/// What must hold of a task that has ended, whatever happened on its way.
async fn check(platform: &Platform, repo: &TempRepo, task: &TaskDetail, seen: &[EventRecord]) {
    let id: TaskId = task.task_id.parse().unwrap();
    let why = format!("{task:#?}\n{}", platform.log());
    assert_eq!(task.status, "COMPLETED", "{why}");
    assert_eq!(task.attempt, 1, "one attempt was enough: {why}");
    let seqs: Vec<u64> = seen.iter().map(|e| e.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "no event is lost or doubled: {why}");
    let ids: BTreeSet<&str> = seen.iter().map(|e| e.event_id.as_str()).collect();
    assert_eq!(ids.len(), seen.len());
    let count = |kind: &str| seen.iter().filter(|e| e.event_type == kind).count();
    for once in ["task_created", "session_started", "task_running", "pr_created", "task_completed"] {
        assert_eq!(count(once), 1, "{once} of {id}: {seen:#?}");
    }
    // What is told of a trace is told after the end.
    let last = seen.iter().rfind(|e| e.metadata["milestone"] != "trajectory_uploaded");
    assert_eq!(last.unwrap().event_type, "task_completed");
    let ran = box_home(platform, id).join("ran").join(task.branch_name.replace('/', "_"));
    let ran = std::fs::read_to_string(&ran).unwrap_or_else(|e| panic!("{}: {e}", ran.display()));
    assert_eq!(ran.lines().count(), 1, "the work of {id} ran once");
    let attempts: Vec<_> =
        std::fs::read_dir(platform.state_dir().join("sessions")).unwrap().flatten().collect();
    let of_it = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(&task.task_id);
    assert_eq!(attempts.iter().filter(|entry| of_it(entry)).count(), 1, "{id} had one box");
    let tip = repo.git(&["log", "--format=%s", &format!("main..{}", task.branch_name)]).await.unwrap();
    assert_eq!(tip, "Add two files", "one commit on its branch");
}

#[expect(clippy::disallowed_methods, reason = "a failing seed is repeated by naming it here")]
fn seed() -> u64 {
    std::env::var("SIM_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_121)
}

/// D-009: a task nobody was told of waited for 20 minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_named_point_every_task_ends_once() {
    let dir = tempfile::tempdir().unwrap();
    let script = script(dir.path(), 0);
    for point in fault::POINTS {
        let repo = repo().await;
        let mut platform = platform(&script).with("BGAGENT_FAULT_POINT", point);
        platform.start().await.unwrap();
        let traced = point.starts_with("trace.").then_some(true);
        let request =
            CreateTaskRequest { trace: traced, ..request(repo.path(), &format!("killed at {point}")) };
        // The answer may be lost with the server; the key makes asking again safe.
        let first = platform.client().unwrap().create_task(&request, Some("the-key")).await;
        platform.died(END).await.unwrap_or_else(|e| panic!("{point}: {e}\n{}", platform.log()));
        platform.unset("BGAGENT_FAULT_POINT");
        platform.start().await.unwrap();
        let (task, replayed) =
            platform.client().unwrap().create_task(&request, Some("the-key")).await.unwrap();
        if let Ok((first, _)) = &first {
            assert_eq!(replayed, Replayed::Yes, "{point}: an acknowledged task is still there");
            assert_eq!(first.task_id, task.task_id, "{point}");
        }
        let id: TaskId = task.task_id.parse().unwrap();
        let task = platform.ended(id, END).await.unwrap_or_else(|e| panic!("{point}: {e:#}"));
        if traced.is_some() {
            let address = async || platform.client().unwrap().trace(id).await.ok();
            testkit::poll::until("the trace", END, address)
                .await
                .unwrap_or_else(|e| panic!("{point}: {e:#}"));
        }
        let mut seen = Vec::new();
        assert!(read_on(&platform, id, &mut seen).await);
        let told = seen.iter().filter(|e| e.metadata["milestone"] == "trajectory_uploaded").count();
        assert_eq!(told, usize::from(traced.is_some()), "{point}: {seen:#?}");
        check(&platform, &repo, &task, &seen).await;
        platform.end(END).await.unwrap_or_else(|e| panic!("{point}: {e:#}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_fifty_random_moments_under_twenty_tasks() {
    const TASKS: usize = 20;
    const KILLS: u32 = 50;
    let seed = seed();
    eprintln!("seed {seed} (set SIM_SEED to repeat)");
    let mut rng = Rng::new(seed);
    let dir = tempfile::tempdir().unwrap();
    let script = script(dir.path(), 400);
    let repo = repo().await;
    let mut platform = platform(&script);
    platform.start().await.unwrap();
    let mut acknowledged = BTreeMap::new();
    let mut watched: BTreeMap<TaskId, Vec<EventRecord>> = BTreeMap::new();
    for kill in 0..KILLS {
        // A few new tasks now and then, so that every state is about when the server dies.
        for n in 0..TASKS {
            let due = n as u32 * KILLS / (2 * TASKS as u32) <= kill;
            if due && !acknowledged.contains_key(&n) {
                let request = request(repo.path(), &format!("random {n}"));
                let answer =
                    platform.client().unwrap().create_task(&request, Some(&format!("key-{n}"))).await;
                if let Ok((task, _)) = answer {
                    let id: TaskId = task.task_id.parse().unwrap();
                    acknowledged.insert(n, id);
                    watched.insert(id, Vec::new());
                }
            }
        }
        let moment = Duration::from_millis(rng.below(250) as u64);
        let reading = async {
            for (id, seen) in &mut watched {
                let _ = read_on(&platform, *id, seen).await;
            }
            std::future::pending::<()>().await;
        };
        // The moment itself is what is random here: this is the fault, not a wait for something.
        let _ = tokio::time::timeout(moment, reading).await;
        platform.kill().await.unwrap();
        platform.start().await.unwrap();
    }
    assert_eq!(acknowledged.len(), TASKS);
    for (id, seen) in &mut watched {
        let task = platform.ended(*id, END).await.unwrap_or_else(|e| panic!("{e:#}"));
        assert!(read_on(&platform, *id, seen).await);
        check(&platform, &repo, &task, seen).await;
    }
    platform.end(END).await.unwrap();
}
