//! The fake conforms, and fails as it is told to.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use compute::conformance::{self, Harness};
use compute::fake::{Call, FakeBackend, Fault, Operation};
use compute::{ComputeBackend, ComputeError, SessionStatus, StopOutcome};
use domain::SessionHandle;

struct World(FakeBackend);

#[async_trait]
impl Harness for World {
    fn backend(&self) -> Arc<dyn ComputeBackend> {
        Arc::new(self.0.clone())
    }

    async fn end(&self, handle: &SessionHandle, code: i32) {
        assert!(self.0.end(handle.task(), handle.attempt(), Some(code)));
    }
}

#[tokio::test]
async fn it_conforms() {
    conformance::run(|| World(FakeBackend::new())).await;
}

#[tokio::test]
async fn faults_are_taken_in_order_and_once() {
    let fake = FakeBackend::new();
    let spec = conformance::spec();
    fake.fail_next(Operation::Start, Fault::Unavailable);
    fake.fail_next(Operation::Start, Fault::Denied);
    assert!(matches!(fake.start(&spec).await, Err(ComputeError::Unavailable { .. })));
    assert!(matches!(fake.start(&spec).await, Err(ComputeError::Denied { .. })));
    assert_eq!(fake.sessions(), []);
    let handle = fake.start(&spec).await.unwrap();
    assert_eq!(fake.poll(&handle).await.unwrap(), SessionStatus::Running);
    let start = Call::Start(spec.task, spec.attempt);
    assert_eq!(fake.calls(), [start.clone(), start.clone(), start, Call::Poll(spec.task, spec.attempt)]);
}

#[tokio::test]
async fn a_lost_answer_has_been_carried_out() {
    let fake = FakeBackend::new();
    let spec = conformance::spec();
    fake.fail_next(Operation::Start, Fault::LostAnswer);
    assert!(fake.start(&spec).await.is_err());
    let found = fake.list_sessions().await.unwrap();
    assert_eq!(found, [fake.start(&spec).await.unwrap()]);
    fake.fail_next(Operation::Stop, Fault::LostAnswer);
    assert!(fake.stop(&found[0], Duration::ZERO).await.is_err());
    assert_eq!(fake.stop(&found[0], Duration::ZERO).await.unwrap(), StopOutcome::AlreadyGone);
}

#[tokio::test]
async fn a_test_that_plays_the_box_waits_for_its_start() {
    let fake = FakeBackend::new();
    let spec = conformance::spec();
    let (seen, started) = tokio::join!(fake.started(spec.task, spec.attempt), fake.start(&spec));
    assert_eq!(seen.gateway, spec.gateway);
    started.unwrap();
    fake.vanish(spec.task, spec.attempt);
    assert_eq!(fake.sessions(), []);
}
