//! The process that is the box is killed with SIGKILL at every stage of its work. With one attempt its task fails soon and
//! says why, and what it had pushed is still on its branch; with two, another box carries on and the work is delivered once.
//! Nothing of a box lives on. The same when the server dies with the box, as when their machine is restarted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::TaskId;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocol::rest::CreateTaskRequest;
use serde_json::json;
use testkit::platform::Platform;
use testkit::poll;

use crate::whole::*;

/// Where in its work the worker dies.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// As soon as there is a process.
    Boot,
    /// While it waits for the model.
    Agent,
    /// While a command of the model runs.
    Tool,
    /// While the build runs before or beside the work.
    Baseline,
    /// While the build runs after the push.
    Verify,
}

/// Sleeps in the first box alone.
const SLOW_BUILD: &str =
    "case \"$BGAGENT_SESSION\" in *-1) touch \"$HOME/builds-$$\"; sleep 300;; *-2) exit 0;; esac; exit 1";
/// Quick at the first run, the baseline, and never ready at the next, in the first box.
const SLOW_VERIFY: &str =
    "test -e one.txt || exit 0; case \"$BGAGENT_SESSION\" in *-1) touch \"$HOME/verifies\"; sleep 300;; esac";

/// What dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dies {
    /// The box.
    Box,
    /// The server first, then the box.
    Both,
}

macro_rules! killed {
    ($($name:ident: $stage:expr;)*) => {
        mod one_attempt {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                check($stage).await;
            })*
        }

        mod two_attempts {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                recovers($stage, Dies::Box).await;
            })*
        }

        mod with_the_server {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                recovers($stage, Dies::Both).await;
            })*
        }
    };
}

killed! {
    killed_when_it_boots: Stage::Boot;
    killed_while_the_model_answers: Stage::Agent;
    killed_while_a_command_runs: Stage::Tool;
    killed_in_the_baseline: Stage::Baseline;
    killed_after_the_push: Stage::Verify;
}

/// With two attempts it completes: one branch, one pull request, and the log says what happened.
async fn recovers(stage: Stage, dies: Dies) {
    let dir = tempfile::tempdir().unwrap();
    let repo = sample().await;
    let before = belongings(repo.path()).await;
    let mut platform = platform(&script(dir.path(), stage), "kill")
        .with("BGAGENT__LIMITS__LEASE_S", 5)
        .with("BGAGENT__LIMITS__LOST_BACKOFF_S", 1);
    platform.start().await.unwrap();
    let id = submit(&platform, &task(repo.path(), stage)).await;
    reached(&platform, id, stage).await;
    let monitor = monitor(&platform, id).await;
    let below = below(monitor);
    if dies == Dies::Both {
        platform.kill().await.unwrap();
    }
    // The next agent is not held up any more.
    script(dir.path(), Stage::Verify);
    kill(Pid::from_raw(monitor), Signal::SIGKILL).unwrap();
    gone(&below).await;
    if dies == Dies::Both {
        platform.start().await.unwrap();
    }

    let task = platform.ended(id, END).await.unwrap_or_else(|e| panic!("{stage:?}: {e:#}"));
    let why = format!("{stage:?}: {task:#?}\n{}", platform.log());
    assert_eq!((task.status.as_str(), task.attempt), ("COMPLETED", 2), "{why}");
    let lost = task.lost.as_ref().unwrap_or_else(|| panic!("{why}"));
    assert_eq!((lost.boxes, lost.attempts_max), (1, 2), "{why}");
    assert_eq!(lost.error_code, "SESSION_ENDED_WITHOUT_RESULT", "{why}");
    let log = events(&platform, id).await;
    let count = |kind: &str| log.iter().filter(|e| e.event_type == kind).count();
    for (kind, times) in
        [("attempt_lost", 1), ("session_started", 2), ("pr_created", 1), ("task_completed", 1)]
    {
        assert_eq!(count(kind), times, "{kind}: {log:#?}");
    }
    // Nothing is told of the lost box after it was lost but by the control plane.
    let order: Vec<&str> = log.iter().map(|e| e.event_type.as_str()).collect();
    let from = order.iter().position(|kind| *kind == "attempt_lost").unwrap();
    assert_eq!(
        &order[from + 1..from + 4],
        ["task_resumed", "queue_pickup", "hydration_started"],
        "{order:?}"
    );
    assert_eq!(branches(repo.path()).await, [task.branch_name.as_str()], "{why}");
    let commits = repo.git(&["log", "--format=%s", &format!("main..{}", task.branch_name)]).await.unwrap();
    assert_eq!(commits, "Add a file", "one commit: {why}");
    assert_eq!(repo.git(&["show", &format!("{}:one.txt", task.branch_name)]).await.unwrap(), "one");
    let pushed = matches!(stage, Stage::Verify);
    let kept = log[from].metadata["head_sha"].as_str();
    assert_eq!(kept.is_some(), pushed, "what was pushed is told: {:?}", log[from]);
    let said = types(&platform, &["status", &task.task_id]).await;
    assert!(
        said.out.contains("2 of 2; the box before was lost: SESSION_ENDED_WITHOUT_RESULT"),
        "{}",
        said.out
    );
    platform.boxes_gone(END).await.unwrap_or_else(|e| panic!("{stage:?}: {e:#}"));
    assert_eq!(belongings(repo.path()).await, before, "{stage:?}");
    platform.end(END).await.unwrap();
}

async fn check(stage: Stage) {
    let dir = tempfile::tempdir().unwrap();
    let repo = sample().await;
    let before = belongings(repo.path()).await;
    let mut platform = platform(&script(dir.path(), stage), "kill").with("BGAGENT__LIMITS__ATTEMPTS_MAX", 1);
    platform.start().await.unwrap();
    let id = submit(&platform, &task(repo.path(), stage)).await;
    reached(&platform, id, stage).await;
    let monitor = monitor(&platform, id).await;
    let below = below(monitor);
    kill(Pid::from_raw(monitor), Signal::SIGKILL).unwrap();
    gone(&below).await;

    let task =
        platform.ended(id, Duration::from_secs(30)).await.unwrap_or_else(|e| panic!("{stage:?}: {e:#}"));
    let why = format!("{stage:?}: {task:#?}\n{}", platform.log());
    assert_eq!((task.status.as_str(), code(&task)), ("FAILED", "SESSION_ENDED_WITHOUT_RESULT"), "{why}");
    let classification = task.error_classification.as_ref().unwrap();
    assert!(classification.retryable && !classification.remedy.is_empty(), "{why}");
    platform.boxes_gone(Duration::from_secs(30)).await.unwrap_or_else(|e| panic!("{stage:?}: {e:#}"));
    let last = events(&platform, id).await.pop().unwrap();
    assert_eq!(last.event_type, "task_failed");
    assert_eq!(belongings(repo.path()).await, before, "{stage:?}");

    let pushed = matches!(stage, Stage::Verify);
    if pushed {
        assert_eq!(repo.git(&["show", &format!("{}:one.txt", task.branch_name)]).await.unwrap(), "one");
    } else {
        assert_eq!(in_quarantine(&platform, &task.branch_name).await, None, "{why}");
        assert!(branches(repo.path()).await.is_empty(), "{why}");
    }
    platform.end(END).await.unwrap();
}

fn script(dir: &Path, stage: Stage) -> PathBuf {
    let mut first = match stage {
        Stage::Tool => bash("touch \"$HOME/tools\"; sleep 300"),
        Stage::Boot | Stage::Agent | Stage::Baseline | Stage::Verify => bash("echo one > one.txt"),
    };
    first["delay_ms"] = json!(match stage {
        Stage::Agent | Stage::Baseline => 120_000,
        Stage::Boot | Stage::Tool | Stage::Verify => 0,
    });
    transcript(dir, "kill", &[first, say("Add a file")])
}

fn task(repo: &Path, stage: Stage) -> CreateTaskRequest {
    let build_command = match stage {
        Stage::Baseline => Some(SLOW_BUILD.to_owned()),
        Stage::Verify => Some(SLOW_VERIFY.to_owned()),
        Stage::Boot | Stage::Agent | Stage::Tool => None,
    };
    CreateTaskRequest { build_command, ..request(repo, "Is killed on its way") }
}

/// Waits until the box is where it is to die.
async fn reached(platform: &Platform, id: TaskId, stage: Stage) {
    let home = box_home(platform, id);
    let marked = |prefix: &'static str| {
        let home = home.clone();
        move || {
            let names = std::fs::read_dir(&home).into_iter().flatten().flatten().map(|e| e.file_name());
            let found = names.into_iter().any(|name| name.to_string_lossy().starts_with(prefix));
            async move { found.then_some(()) }
        }
    };
    let what = format!("{stage:?}");
    let there = match stage {
        Stage::Boot => Ok(()),
        Stage::Agent => {
            let running = platform.wait_for(id, &["RUNNING"], END).await;
            running.map(drop)
        }
        Stage::Tool => poll::until(what, END, marked("tools")).await,
        Stage::Baseline => poll::until(what, END, marked("builds-")).await,
        Stage::Verify => poll::until(what, END, marked("verifies")).await,
    };
    there.unwrap_or_else(|e| panic!("{e:#}\n{}", platform.log()));
}

/// The commit of a branch in the one quarantine there is.
async fn in_quarantine(platform: &Platform, branch: &str) -> Option<String> {
    let quarantines = std::fs::read_dir(platform.state_dir().join("pushes")).ok()?;
    let quarantine = quarantines.flatten().next()?.path();
    git::branch_head(&quarantine, branch).await.unwrap()
}

/// What an agent had done and not pushed is there for the next one: its commits, and its files as it had them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_was_saved_on_the_way_survives_the_box() {
    let dir = tempfile::tempdir().unwrap();
    let first = "echo one > one.txt && git add one.txt && git commit -qm 'Step one' && echo two > two.txt; \
                 case \"$BGAGENT_SESSION\" in *-1) touch ~/done; sleep 300;; esac";
    let again = "git log --format=%s > log.txt; git status --porcelain > status.txt; echo three > three.txt";
    transcript(dir.path(), "kill", &[bash(first), say("Never said")]);
    let repo = sample().await;
    let mut platform = platform(&dir.path().join("kill.json"), "kill")
        .with("BGAGENT__LIMITS__LOST_BACKOFF_S", 1)
        .with("BGAGENT__LIMITS__SAVE_INTERVAL_S", 1);
    platform.start().await.unwrap();
    let id = submit(&platform, &request(repo.path(), "Is saved on its way")).await;
    let done = box_home(&platform, id).join("done");
    let there = async || done.exists().then_some(());
    poll::until("the agent's first work", END, there)
        .await
        .unwrap_or_else(|e| panic!("{e:#}\n{}", platform.log()));
    let quarantine = platform.state_dir().join("pushes").join(format!("{id}.git"));
    let saved = async || {
        let names = git::Git::new().dir(&quarantine).args(["ls-tree", "--name-only", "refs/bgagent/saved"]);
        let names = names.exits(&[0, 128]).run().await.ok()?.text();
        names.lines().any(|name| name == "two.txt").then_some(())
    };
    poll::until("the work to be saved", END, saved)
        .await
        .unwrap_or_else(|e| panic!("{e:#}\n{}", platform.log()));
    assert!(branches(repo.path()).await.is_empty(), "what is saved goes to no forge");
    transcript(dir.path(), "kill", &[bash(again), say("Add the files")]);
    kill(Pid::from_raw(monitor(&platform, id).await), Signal::SIGKILL).unwrap();
    let task = platform.ended(id, END).await.unwrap_or_else(|e| panic!("{e:#}"));
    let why = format!("{task:#?}\n{}", platform.log());
    assert_eq!((task.status.as_str(), task.attempt), ("COMPLETED", 2), "{why}");
    let show = async |path: &str| repo.git(&["show", &format!("{}:{path}", task.branch_name)]).await.unwrap();
    assert!(show("log.txt").await.starts_with("Step one\n"), "the agent's own commit: {why}");
    assert!(show("status.txt").await.contains("?? two.txt"), "what was not committed is not: {why}");
    assert_eq!((show("two.txt").await.as_str(), show("three.txt").await.as_str()), ("two", "three"));
    let asked = events(&platform, id).await;
    assert!(
        asked
            .iter()
            .any(|e| e.metadata["milestone"] == "repo_setup_complete" && e.metadata["resumed"] == true)
    );
    platform.end(END).await.unwrap();
}
