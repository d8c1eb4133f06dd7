//! The container backend with a real engine.

use compute::conformance;

use crate::engine::{Boxes, engine};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms() {
    let Some(engine) = engine() else { return };
    conformance::run(|| Boxes::new(&engine)).await;
}
