//! What every backend must do, whatever it runs boxes on: one suite, to be called from each backend's own test.
//!
//! A check asserts (panics with what it saw) and has a world of its own, made by the [`Harness`]. What only some can
//! show (process trees, containers) is in the tests of those.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::{Attempt, IsolationTier, SessionHandle, TaskId};
use secrecy::SecretString;

use crate::{BoxSpec, ComputeBackend, ComputeError, SessionSpec, SessionStatus, StopOutcome};

/// How long a change may take to be seen.
const SEEN: Duration = Duration::from_secs(20);
/// What a well-behaved worker needs to end, with room to spare.
const GRACE: Duration = Duration::from_secs(10);
const STARTS_AT_ONCE: usize = 8;

/// One world with one backend in it.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A new backend object over this world, as a control plane has that was started again.
    fn backend(&self) -> Arc<dyn ComputeBackend>;

    /// A session nobody else has, of a tier that this backend is for.
    fn spec(&self) -> SessionSpec {
        spec()
    }

    /// Makes the worker of `handle` end by itself with `code`.
    async fn end(&self, handle: &SessionHandle, code: i32);
}

/// Runs every check, each in a new world.
pub async fn run<H: Harness>(make: impl Fn() -> H) {
    supported_tiers_are_kept(&make()).await;
    started_twice_is_one_session(&make()).await;
    started_at_once_is_one_session(&make()).await;
    attempts_are_sessions_of_their_own(&make()).await;
    an_end_is_seen_with_its_code(&make()).await;
    an_ended_session_is_not_started_again(&make()).await;
    a_stop_ends_it_and_can_be_repeated(&make()).await;
    stops_at_once_are_harmless(&make()).await;
    looks_at_once_agree(&make()).await;
    a_list_shows_what_lives(&make()).await;
    a_new_backend_object_finds_it_again(&make()).await;
    a_purge_forgets_and_spares_what_lives(&make()).await;
    a_session_of_another_backend_is_refused(&make()).await;
}

/// A session nobody else has: checks of several processes run on one machine.
pub fn spec() -> SessionSpec {
    let random = || u128::from(RandomState::new().hash_one(std::process::id()));
    SessionSpec {
        task: TaskId::from_bits(random() << 64 | random()),
        attempt: Attempt(1),
        gateway: "unix:/nonexistent/gateway.sock".into(),
        bootstrap_token: SecretString::from("the-bootstrap-token"),
        tier: IsolationTier::Process,
        plan: BoxSpec::default(),
    }
}

/// Polls until the session has ended; panics after a while.
pub async fn ended(backend: &dyn ComputeBackend, handle: &SessionHandle) -> (Option<i32>, String) {
    let poll = async {
        loop {
            match backend.poll(handle).await.expect("poll") {
                SessionStatus::Ended { code, tail } => return (code, tail),
                SessionStatus::Running => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(SEEN, poll).await.expect("the session ends in time")
}

async fn supported_tiers_are_kept(world: &impl Harness) {
    let backend = world.backend();
    let spec = world.spec();
    assert_eq!(backend.supports(spec.tier), Ok(()));
    let handle = start(&*backend, &spec).await;
    assert_eq!(handle.tier(), spec.tier);
    assert_eq!((handle.task(), handle.attempt()), (spec.task, spec.attempt));
    assert_eq!(handle.backend(), backend.name());
    clear(&*backend, &[handle]).await;
}

async fn started_twice_is_one_session(world: &impl Harness) {
    let backend = world.backend();
    let spec = world.spec();
    let first = start(&*backend, &spec).await;
    let again = start(&*backend, &spec).await;
    assert_eq!(first, again);
    let elsewhere = SessionSpec { bootstrap_token: SecretString::from("another"), ..spec.clone() };
    assert_eq!(first, start(&*world.backend(), &elsewhere).await);
    assert_eq!(listed(&*backend).await, set(std::slice::from_ref(&first)));
    clear(&*backend, &[first]).await;
}

async fn started_at_once_is_one_session(world: &impl Harness) {
    let spec = world.spec();
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..STARTS_AT_ONCE {
        let (backend, spec) = (world.backend(), spec.clone());
        starts.spawn(async move { backend.start(&spec).await });
    }
    let handles: HashSet<String> =
        starts.join_all().await.into_iter().map(|handle| key(&handle.expect("start"))).collect();
    assert_eq!(handles.len(), 1, "{handles:?}");
    let backend = world.backend();
    assert_eq!(listed(&*backend).await, handles);
    clear(&*backend, &[start(&*backend, &spec).await]).await;
}

async fn attempts_are_sessions_of_their_own(world: &impl Harness) {
    let backend = world.backend();
    let first = world.spec();
    let second = SessionSpec { attempt: first.attempt.next(), ..first.clone() };
    let (a, b) = (start(&*backend, &first).await, start(&*backend, &second).await);
    assert_ne!(a, b);
    assert_eq!(backend.stop(&a, GRACE).await.expect("stop"), StopOutcome::Stopped);
    assert_eq!(backend.poll(&b).await.expect("poll"), SessionStatus::Running);
    clear(&*backend, &[b]).await;
}

async fn an_end_is_seen_with_its_code(world: &impl Harness) {
    let backend = world.backend();
    for code in [0, 7] {
        let handle = start(&*backend, &world.spec()).await;
        assert_eq!(backend.poll(&handle).await.expect("poll"), SessionStatus::Running);
        world.end(&handle, code).await;
        assert_eq!(ended(&*backend, &handle).await.0, Some(code));
        assert_eq!(ended(&*world.backend(), &handle).await.0, Some(code), "seen by another object");
    }
}

async fn an_ended_session_is_not_started_again(world: &impl Harness) {
    let backend = world.backend();
    let spec = world.spec();
    let handle = start(&*backend, &spec).await;
    world.end(&handle, 3).await;
    ended(&*backend, &handle).await;
    assert_eq!(start(&*backend, &spec).await, handle);
    assert_eq!(ended(&*backend, &handle).await.0, Some(3));
    assert_eq!(listed(&*backend).await, set(&[]));
}

async fn a_stop_ends_it_and_can_be_repeated(world: &impl Harness) {
    let backend = world.backend();
    let handle = start(&*backend, &world.spec()).await;
    assert_eq!(backend.stop(&handle, GRACE).await.expect("stop"), StopOutcome::Stopped);
    ended(&*backend, &handle).await;
    assert_eq!(backend.stop(&handle, GRACE).await.expect("stop"), StopOutcome::AlreadyGone);
    let handle = start(&*backend, &world.spec()).await;
    world.end(&handle, 0).await;
    ended(&*backend, &handle).await;
    assert_eq!(backend.stop(&handle, GRACE).await.expect("stop"), StopOutcome::AlreadyGone);
}

async fn stops_at_once_are_harmless(world: &impl Harness) {
    let handle = start(&*world.backend(), &world.spec()).await;
    let mut stops = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (backend, handle) = (world.backend(), handle.clone());
        stops.spawn(async move { backend.stop(&handle, GRACE).await });
    }
    let outcomes: Vec<StopOutcome> =
        stops.join_all().await.into_iter().map(|outcome| outcome.expect("stop")).collect();
    assert!(outcomes.contains(&StopOutcome::Stopped), "{outcomes:?}");
    assert_eq!(listed(&*world.backend()).await, set(&[]));
}

/// Whoever looks while others look hears how it ended.
async fn looks_at_once_agree(world: &impl Harness) {
    let handle = start(&*world.backend(), &world.spec()).await;
    world.end(&handle, 5).await;
    let mut looks = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let (backend, handle) = (world.backend(), handle.clone());
        looks.spawn(async move { ended(&*backend, &handle).await.0 });
    }
    assert_eq!(looks.join_all().await, [Some(5); 5]);
    world.backend().purge(&handle).await.expect("purge");
}

async fn a_list_shows_what_lives(world: &impl Harness) {
    let backend = world.backend();
    assert_eq!(listed(&*backend).await, set(&[]));
    let (a, b) = (start(&*backend, &world.spec()).await, start(&*backend, &world.spec()).await);
    let c = start(&*backend, &world.spec()).await;
    assert_eq!(listed(&*backend).await, set(&[a.clone(), b.clone(), c.clone()]));
    world.end(&a, 0).await;
    ended(&*backend, &a).await;
    backend.stop(&b, GRACE).await.expect("stop");
    assert_eq!(listed(&*backend).await, set(std::slice::from_ref(&c)));
    clear(&*backend, &[c]).await;
}

async fn a_new_backend_object_finds_it_again(world: &impl Harness) {
    let spec = world.spec();
    let handle = start(&*world.backend(), &spec).await;
    let text = serde_json::to_string(&handle).expect("a handle is stored as JSON");
    let stored: SessionHandle = serde_json::from_str(&text).expect("a stored handle is read back");
    assert_eq!(stored, handle);
    let later = world.backend();
    assert_eq!(listed(&*later).await, set(std::slice::from_ref(&handle)));
    assert_eq!(start(&*later, &spec).await, handle);
    assert_eq!(later.poll(&stored).await.expect("poll"), SessionStatus::Running);
    assert_eq!(later.stop(&stored, GRACE).await.expect("stop"), StopOutcome::Stopped);
}

async fn a_purge_forgets_and_spares_what_lives(world: &impl Harness) {
    let backend = world.backend();
    let spec = world.spec();
    let handle = start(&*backend, &spec).await;
    let refused = backend.purge(&handle).await.expect_err("a live session is not purged");
    assert!(matches!(refused, ComputeError::Unavailable { .. }), "{refused:?}");
    assert_eq!(backend.poll(&handle).await.expect("poll"), SessionStatus::Running);
    backend.stop(&handle, GRACE).await.expect("stop");
    backend.purge(&handle).await.expect("purge");
    backend.purge(&handle).await.expect("a purge can be repeated");
    let gone = SessionStatus::Ended { code: None, tail: String::new() };
    assert_eq!(backend.poll(&handle).await.expect("poll"), gone);
    assert_eq!(backend.stop(&handle, GRACE).await.expect("stop"), StopOutcome::AlreadyGone);
    let anew = start(&*backend, &spec).await;
    assert_eq!(backend.poll(&anew).await.expect("poll"), SessionStatus::Running);
    clear(&*backend, &[anew]).await;
}

async fn a_session_of_another_backend_is_refused(world: &impl Harness) {
    let backend = world.backend();
    let spec = world.spec();
    let handle = start(&*backend, &spec).await;
    let (task, attempt, tier) = (spec.task, spec.attempt, spec.tier);
    let foreign = match &handle {
        SessionHandle::Fake { .. } => {
            SessionHandle::Local { task, attempt, dir: "/nonexistent".into(), pid: 1, start_ticks: 1, tier }
        }
        SessionHandle::Local { .. } | SessionHandle::Container { .. } => {
            SessionHandle::Fake { task, attempt }
        }
    };
    let refused = |error: &ComputeError| matches!(error, ComputeError::Unsupported { .. });
    assert!(refused(&backend.poll(&foreign).await.expect_err("poll")));
    assert!(refused(&backend.stop(&foreign, GRACE).await.expect_err("stop")));
    assert!(refused(&backend.purge(&foreign).await.expect_err("purge")));
    clear(&*backend, &[handle]).await;
}

async fn start(backend: &dyn ComputeBackend, spec: &SessionSpec) -> SessionHandle {
    backend.start(spec).await.expect("start")
}

async fn listed(backend: &dyn ComputeBackend) -> HashSet<String> {
    let handles = backend.list_sessions().await.expect("list_sessions");
    let keys = set(&handles);
    assert_eq!(keys.len(), handles.len(), "listed twice: {handles:?}");
    keys
}

async fn clear(backend: &dyn ComputeBackend, handles: &[SessionHandle]) {
    for handle in handles {
        backend.stop(handle, GRACE).await.expect("stop");
    }
}

fn set(handles: &[SessionHandle]) -> HashSet<String> {
    handles.iter().map(key).collect()
}

/// Everything that is in a handle, comparable.
fn key(handle: &SessionHandle) -> String {
    format!("{handle:?}")
}
