//! The product in the hands of somebody who is not root.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use testkit::platform::{Platform, give};

use crate::whole::{NOBODY, Said, bash, events, open_folder, quick, request, run, sample, say, transcript};

/// Somebody with an empty home, and a program that they can run.
struct Somebody {
    home: PathBuf,
    program: PathBuf,
    user: Option<u32>,
    _folder: TempDir,
}

impl Somebody {
    fn new() -> Somebody {
        let root = nix::unistd::geteuid().is_root();
        let (folder, program) = match root {
            true => open_folder(crate::BINARY.as_ref()),
            false => (tempfile::tempdir().unwrap(), crate::BINARY.into()),
        };
        let home = folder.path().join("home");
        std::fs::create_dir(&home).unwrap();
        let user = root.then_some(NOBODY);
        let this = Somebody { home, program, user, _folder: folder };
        this.give(&this.home);
        this
    }

    fn give(&self, path: &Path) {
        if let Some(id) = self.user {
            give(path, id).unwrap();
        }
    }

    /// The one that a command started.
    fn stops_the_server(&self) {
        let Ok(text) = std::fs::read(self.home.join(".local/state/bgagent/server.json")) else { return };
        let server: Value = serde_json::from_slice(&text).unwrap();
        let pid = i32::try_from(server["pid"].as_i64().unwrap()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    }

    fn types(&self, words: &[&str]) -> Said {
        self.types_with(words, &[])
    }

    fn types_with(&self, words: &[&str], env: &[(&str, &OsStr)]) -> Said {
        let mut command = Command::new(&self.program);
        if let Some(id) = self.user {
            command.uid(id).gid(id);
        }
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", &self.home);
        command.envs(env.iter().copied()).current_dir(&self.home);
        let said = command.args(words).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { code: said.status.code().unwrap_or(-1), out: text(&said.stdout), err: text(&said.stderr) }
    }
}

fn lines(said: &Said) -> Vec<Value> {
    said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The tier that the record says the task was kept in, once it ended well.
fn tier_of_completed(said: &Said) -> String {
    assert_eq!(said.code, 0, "{said:?}");
    let lines = lines(said);
    let kind = |name: &str| lines.iter().find(|line| line["event_type"] == name);
    assert!(kind("task_completed").is_some() && kind("pr_created").is_some(), "{said:?}");
    let started = kind("session_started").unwrap_or_else(|| panic!("{said:?}"));
    started["metadata"]["isolation"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn the_demo_completes_in_a_sandbox() {
    let demo = Somebody::new().types(&["demo", "--output", "json"]);
    assert_eq!(tier_of_completed(&demo), "sandbox");
}

#[tokio::test]
async fn a_task_completes_in_a_sandbox() {
    let somebody = Somebody::new();
    let repo = sample().await;
    somebody.give(repo.path().parent().unwrap());
    let script = crate::whole::small_work(&somebody.home);
    let env = [
        ("BGAGENT__MODEL__PROVIDERS__DEMO__KIND", OsStr::new("script")),
        ("BGAGENT__MODEL__PROVIDERS__DEMO__PATH", script.as_os_str()),
        ("BGAGENT__MODEL__DEFAULT", OsStr::new("demo/small")),
    ];
    somebody.give(&somebody.home);
    let words = ["run", "--output", "json", "--repo", repo.path().to_str().unwrap(), "Add a file"];
    let run = somebody.types_with(&words, &env);
    somebody.stops_the_server();
    assert_eq!(tier_of_completed(&run), "sandbox");
    let last = lines(&run).pop().unwrap();
    assert_eq!((&last["status"], &last["isolation"]), (&"COMPLETED".into(), &"sandbox".into()), "{last:#}");
}

#[test]
fn doctor_says_that_a_sandbox_can_be_had() {
    let doctor = Somebody::new().types(&["doctor", "--output", "json"]);
    let said: Value = serde_json::from_str(&doctor.out).unwrap_or_else(|e| panic!("{e}: {doctor:?}"));
    let checks = said["checks"].as_array().unwrap();
    let sandbox = checks.iter().find(|check| check["id"] == "sandbox");
    assert_eq!(sandbox.unwrap_or_else(|| panic!("{said:#}"))["status"], "ok", "{said:#}");
}

/// A service's user may have its home there; the tools of its boxes are that user, and are shown /opt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_below_opt_shows_nothing_of_itself() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can make a folder in /opt");
        return;
    }
    let scripts = tempfile::tempdir().unwrap();
    let platform = Platform::new_in(Path::new("/opt"), crate::BINARY, scripts.path(), "look").unwrap();
    let (_open, program) = open_folder(platform.binary());
    let state = platform.state_dir().display().to_string();
    let look =
        format!("cat {state}/owner-key 2>/dev/null | wc -c; ls -A {state} | wc -l; echo one > one.txt");
    transcript(scripts.path(), "look", &[bash(&look), say("Add a file")]);
    let repo = sample().await;
    for folder in [scripts.path(), repo.path().parent().unwrap()] {
        give(folder, NOBODY).unwrap();
    }
    let mut platform = quick(platform.run_by(&program)).as_user(NOBODY).unwrap();
    platform.start().await.unwrap();
    let task = run(&platform, &request(repo.path(), "Looks around")).await;
    assert_eq!(
        (task.status.as_str(), task.isolation.as_deref()),
        ("COMPLETED", Some("sandbox")),
        "{task:#?}"
    );
    let events = events(&platform, task.task_id.parse().unwrap()).await;
    let said = events.iter().find(|event| event.event_type == "agent_tool_result").unwrap();
    assert_eq!(said.metadata["content_preview"].as_str().unwrap().trim(), "0\n0", "{:#}", said.metadata);
    platform.end(std::time::Duration::from_secs(20)).await.unwrap();
}
