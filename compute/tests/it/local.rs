//! The local backend with real processes.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use compute::conformance::{self, ended};
use compute::local::{LocalBackend, LocalConfig, environment};
use compute::{ComputeBackend, ComputeError, SessionStatus, StopOutcome};
use domain::SessionHandle;

use crate::toy::{Toy, backend, dir, pid, runs, until, words};

const GRACE: Duration = Duration::from_secs(10);
const NO_GRACE: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms() {
    conformance::run(|| Toy::new("")).await;
}

#[tokio::test]
async fn a_stop_ends_the_whole_tree() {
    let toy = Toy::new("tree");
    let local = toy.local();
    let handle = local.start(&conformance::spec()).await.unwrap();
    let mut tree = vec![pid(&handle)];
    for one in ["stubborn", "daemon", "bare", "forking"] {
        tree.push(words(dir(&handle).join(format!("tree.{one}"))).await.parse().unwrap());
    }
    assert!(tree.iter().all(|pid| runs(*pid)));
    assert_eq!(local.stop(&handle, NO_GRACE).await.unwrap(), StopOutcome::Stopped);
    let left: Vec<i32> = tree.into_iter().filter(|pid| runs(*pid)).collect();
    assert_eq!(left, [] as [i32; 0]);
    assert_eq!(local.list_sessions().await.unwrap(), []);
    assert_eq!(local.stop(&handle, NO_GRACE).await.unwrap(), StopOutcome::AlreadyGone);
}

#[tokio::test]
async fn what_a_dead_worker_left_is_listed_and_stopped() {
    let toy = Toy::new("tree");
    let local = toy.local();
    let spec = conformance::spec();
    let handle = local.start(&spec).await.unwrap();
    let daemon: i32 = words(dir(&handle).join("tree.daemon")).await.parse().unwrap();
    for one in ["stubborn", "bare", "forking"] {
        words(dir(&handle).join(format!("tree.{one}"))).await;
    }
    kill("-KILL", pid(&handle));
    assert_eq!(ended(&local, &handle).await.0, Some(137));
    assert!(runs(daemon));
    assert_eq!(local.list_sessions().await.unwrap(), std::slice::from_ref(&handle));
    assert!(local.purge(&handle).await.is_err());
    assert_eq!(local.stop(&handle, NO_GRACE).await.unwrap(), StopOutcome::Stopped);
    assert!(!runs(daemon));
    local.purge(&handle).await.unwrap();
    assert!(!dir(&handle).exists());
}

#[tokio::test]
async fn a_worker_may_use_its_grace() {
    let toy = Toy::new("graceful");
    let local = toy.local();
    let handle = local.start(&conformance::spec()).await.unwrap();
    words(dir(&handle).join("ready")).await;
    assert_eq!(local.stop(&handle, GRACE).await.unwrap(), StopOutcome::Stopped);
    assert_eq!(words(dir(&handle).join("graceful")).await, "yes");
    assert_eq!(ended(&local, &handle).await.0, Some(0));
}

#[tokio::test]
async fn a_stubborn_worker_is_killed() {
    let toy = Toy::new("stubborn");
    let local = toy.local();
    let handle = local.start(&conformance::spec()).await.unwrap();
    words(dir(&handle).join("ready")).await;
    assert_eq!(local.stop(&handle, NO_GRACE).await.unwrap(), StopOutcome::Stopped);
    assert_eq!(ended(&local, &handle).await.0, Some(137));
}

#[tokio::test]
async fn a_reused_process_id_is_left_alone() {
    let toy = Toy::new("");
    let local = toy.local();
    let spec = conformance::spec();
    let mut other = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
    let other_pid = i32::try_from(other.id()).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{other_pid}/stat")).unwrap();
    let ticks: u64 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
    // Before it by one tick; and, after a reboot, exactly the same numbers without our mark.
    for start_ticks in [ticks - 1, ticks] {
        let handle = SessionHandle::Local {
            task: spec.task,
            attempt: spec.attempt,
            dir: toy.sessions().join(format!("{}-{}", spec.task, spec.attempt)),
            pid: other_pid,
            start_ticks,
            tier: spec.tier,
        };
        let gone = SessionStatus::Ended { code: None, tail: String::new() };
        assert_eq!(local.poll(&handle).await.unwrap(), gone);
        assert_eq!(local.stop(&handle, NO_GRACE).await.unwrap(), StopOutcome::AlreadyGone);
    }
    assert!(runs(other_pid));
    other.kill().unwrap();
    other.wait().unwrap();
}

#[tokio::test]
async fn the_worker_leads_its_own_session_and_sees_only_what_was_allowed() {
    let toy = Toy::new("environment");
    let local = toy.local();
    let spec = conformance::spec();
    let handle = local.start(&spec).await.unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid(&handle))).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!((fields[2], fields[3]), (&*pid(&handle).to_string(), &*pid(&handle).to_string()));
    let environment = words(dir(&handle).join("environment")).await;
    let mut names: Vec<&str> = environment.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    // `TOY*` is the toy's own; PWD, OLDPWD, SHLVL and _ are the shell's.
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_", "TOY", "TOY_DETACHED"].contains(name));
    assert_eq!(names, ["BGAGENT_SESSION", "PATH"]);
    assert!(environment.contains(&format!("BGAGENT_SESSION={}-{}", spec.task, spec.attempt)));
    let command = std::fs::read_to_string(format!("/proc/{}/cmdline", pid(&handle))).unwrap();
    assert!(!command.contains("the-bootstrap-token") && !environment.contains("the-bootstrap-token"));
    assert!(!dir(&handle).join("bootstrap").exists(), "the worker has taken the token");
    let session = std::fs::read_to_string(dir(&handle).join("session.json")).unwrap();
    assert!(session.contains(&spec.gateway) && !session.contains("the-bootstrap-token"), "{session}");
    assert_eq!(dir(&handle).metadata().unwrap().permissions().mode() & 0o777, 0o700);
    local.stop(&handle, GRACE).await.unwrap();
    assert!(matches!(
        local.poll(&handle).await.unwrap(),
        SessionStatus::Ended { tail, .. } if tail.contains("token of 19 characters")
    ));
}

#[tokio::test]
async fn a_worker_that_does_not_come_up_is_told_with_its_words_and_can_be_tried_again() {
    let toy = Toy::new("broken");
    let spec = conformance::spec();
    let error = toy.local().start(&spec).await.unwrap_err();
    let ComputeError::Unavailable { source, .. } = &error else { panic!("{error:?}") };
    let text = source.to_string();
    assert!(text.contains("code 7") && text.contains("toy: cannot come up"), "{text}");
    let folder = toy.sessions().join(format!("{}-{}", spec.task, spec.attempt));
    assert!(!folder.join("bootstrap").exists(), "a token that nobody took does not stay");
    let repaired = backend(&toy.sessions(), "");
    let handle = repaired.start(&spec).await.unwrap();
    assert_eq!(repaired.poll(&handle).await.unwrap(), SessionStatus::Running);
    repaired.stop(&handle, GRACE).await.unwrap();
}

#[tokio::test]
async fn a_crash_before_the_spawn_is_taken_up() {
    let toy = Toy::new("");
    let spec = conformance::spec();
    let folder = toy.sessions().join(format!("{}-{}", spec.task, spec.attempt));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(".bootstrap.new"), "torn").unwrap();
    std::fs::write(folder.join("session.json"), "torn").unwrap();
    let local = toy.local();
    let handle = local.start(&spec).await.unwrap();
    assert_eq!(local.poll(&handle).await.unwrap(), SessionStatus::Running);
    local.stop(&handle, GRACE).await.unwrap();
}

#[tokio::test]
async fn a_worker_that_is_just_coming_up_is_waited_for() {
    let toy = Toy::new("");
    let spec = conformance::spec();
    let folder = toy.sessions().join(format!("{}-{}", spec.task, spec.attempt));
    std::fs::create_dir_all(&folder).unwrap();
    // The worker of a control plane that died: it has the lock, and says who it is a moment later.
    let script = "exec 9>>lock; flock 9; echo >locked; while [ ! -e go ]; do sleep 0.01; done; \
                  printf '{\"pid\":%d,\"start_ticks\":%s}' $$ $(cut -d ' ' -f 22 /proc/$$/stat) >p; mv p pid; \
                  exec sleep 60";
    let mut worker = Command::new("sh").arg("-c").arg(script).current_dir(&folder).spawn().unwrap();
    until(|| folder.join("locked").exists().then_some(())).await;
    let local = toy.local();
    let (handle, ()) = tokio::join!(local.start(&spec), async {
        // `start` holds its turn when it looks at the lock.
        until(|| folder.join("turn").exists().then_some(())).await;
        std::fs::write(folder.join("go"), "").unwrap();
    });
    assert_eq!(pid(&handle.unwrap()), i32::try_from(worker.id()).unwrap());
    assert!(!folder.join("bootstrap").exists(), "nothing was spawned");
    worker.kill().unwrap();
    worker.wait().unwrap();
}

#[tokio::test]
async fn strange_things_among_the_sessions_hide_nothing() {
    let toy = Toy::new("");
    let local = toy.local();
    let handle = local.start(&conformance::spec()).await.unwrap();
    std::fs::create_dir(toy.sessions().join("lost+found")).unwrap();
    std::fs::write(toy.sessions().join("note"), "").unwrap();
    let broken = toy.sessions().join("00000000000000000000000007-1");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("pid"), "{").unwrap();
    assert_eq!(local.list_sessions().await.unwrap(), std::slice::from_ref(&handle));
    // Its own pid file lost: its processes still stand for it.
    std::fs::remove_file(dir(&handle).join("pid")).unwrap();
    let found = local.list_sessions().await.unwrap();
    assert_eq!(found.iter().map(SessionHandle::session_id).collect::<Vec<_>>(), [handle.session_id()]);
    assert_eq!(local.stop(&found[0], GRACE).await.unwrap(), StopOutcome::Stopped);
    assert!(!runs(pid(&handle)));
}

#[tokio::test]
async fn a_purge_removes_nothing_that_is_elsewhere() {
    let (toy, other) = (Toy::new(""), Toy::new(""));
    let local = toy.local();
    let handle = local.start(&conformance::spec()).await.unwrap();
    local.stop(&handle, GRACE).await.unwrap();
    let error = other.local().purge(&handle).await.unwrap_err();
    assert!(matches!(&error, ComputeError::Unsupported { .. }), "{error:?}");
    assert!(dir(&handle).exists());
}

#[tokio::test]
async fn what_cannot_work_is_told_with_what_to_do() {
    let toy = Toy::new("");
    let config = |sessions: &Path, program: &Path| LocalConfig {
        sessions_dir: sessions.to_owned(),
        program: program.to_owned(),
        env: Vec::new(),
        gateway: "unix:/nonexistent/gateway.sock".into(),
    };
    let told = async |config| {
        let error = LocalBackend::new(config).start(&conformance::spec()).await.unwrap_err();
        match error {
            ComputeError::Unsupported { reason, .. } => format!("unsupported: {reason}"),
            ComputeError::Denied { source, .. } => format!("denied: {source}"),
            ComputeError::Unavailable { source, .. } => format!("unavailable: {source}"),
        }
    };
    let check = |text: String, kind: &str, names: &str| {
        assert!(text.starts_with(kind) && text.contains(names), "{text}");
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/toy_worker.sh");
    let missing = told(config(&toy.sessions(), Path::new("/no/such/bgagent"))).await;
    check(missing, "unsupported", "/no/such/bgagent");
    let no_program = told(config(&toy.sessions(), Path::new("/etc/passwd"))).await;
    check(no_program, "unsupported", "check its permissions");
    // Also root may make no folder in /sys.
    let read_only = told(config(Path::new("/sys/bgagent-sessions"), &script)).await;
    check(read_only, "denied", "/sys/bgagent-sessions");
    let below_a_file = told(config(Path::new("/etc/passwd/sessions"), &script)).await;
    check(below_a_file, "unsupported", "not a folder");
    let long = toy.sessions().join("x".repeat(200)).join("y".repeat(300));
    check(told(config(&long, &script)).await, "unsupported", "shorter path");
}

#[test]
fn only_what_is_named_gets_into_the_environment() {
    let from = ["PATH", "HOME", "AWS_SECRET_ACCESS_KEY", "ANTHROPIC_API_KEY", "MY_TOOL", "PATHX"];
    let from = from.map(|name| (name.into(), "value".into()));
    let names: Vec<_> = environment(from, &["MY_TOOL".into()]).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["PATH", "HOME", "MY_TOOL"]);
}

fn kill(signal: &str, pid: i32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}
