//! Every driver keeps every promise.

use store::Store;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory() {
    store::conformance::run(async || Store::in_memory()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    store::conformance::run(async || {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Store::open_sqlite(&dir.path().join(format!("{n}.db"))).await.unwrap()
    })
    .await;
}
