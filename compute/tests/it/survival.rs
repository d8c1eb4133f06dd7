//! A session outlives the control plane that started it, and the next one finds it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use compute::conformance::{self, Harness, ended};
use compute::{ComputeBackend, SessionStatus, StopOutcome};
use domain::SessionHandle;

use crate::toy::{Toy, backend, pid, runs};

const PLACE: &str = "COMPUTE_SURVIVAL_PLACE";
const MARK: &str = "session-started ";

/// Not a test of its own: the control plane that dies in the others. Starts a session, says so, and waits.
#[tokio::test]
#[ignore = "run by the tests beside it, in a process of its own"]
async fn a_control_plane_that_dies() {
    let Some(place) = std::env::var_os(PLACE) else { return };
    let handle = backend(place.as_ref(), "").start(&conformance::spec()).await.unwrap();
    println!("\n{MARK}{}", serde_json::to_string(&handle).unwrap());
    std::future::pending::<()>().await;
}

async fn orphaned(toy: &Toy) -> SessionHandle {
    let mut control_plane = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "survival::a_control_plane_that_dies", "--nocapture"])
        .env(PLACE, toy.sessions())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(control_plane.stdout.take().unwrap()).lines().map(Result::unwrap);
    let told = lines.find_map(|line| Some(line.strip_prefix(MARK)?.to_owned())).expect("it starts a session");
    // KILL: it gets no chance to do anything about it.
    control_plane.kill().unwrap();
    control_plane.wait().unwrap();
    serde_json::from_str(&told).unwrap()
}

#[tokio::test]
async fn a_session_outlives_its_control_plane() {
    let toy = Toy::new("");
    let handle = orphaned(&toy).await;
    assert!(runs(pid(&handle)));
    let local = toy.local();
    assert_eq!(local.poll(&handle).await.unwrap(), SessionStatus::Running);
    assert_eq!(local.list_sessions().await.unwrap(), std::slice::from_ref(&handle));
    assert_eq!(local.stop(&handle, Duration::from_secs(10)).await.unwrap(), StopOutcome::Stopped);
    assert!(!runs(pid(&handle)));
    assert_eq!(local.list_sessions().await.unwrap(), []);
}

#[tokio::test]
async fn an_end_that_nobody_reaped_has_no_code() {
    let toy = Toy::new("");
    let handle = orphaned(&toy).await;
    toy.end(&handle, 5).await;
    // The toy writes no `exit`; the real worker does.
    let (code, tail) = ended(&toy.local(), &handle).await;
    assert_eq!(code, None);
    assert!(tail.contains("toy: took the session"), "{tail}");
}
