//! Traces: whether one is owed, and that it is recorded once.

use super::*;
use crate::StoreError;

pub(super) async fn an_end_obliges_to_put_it_together(store: Store) {
    let mut wanted = super::task(1, "ann");
    wanted.spec.trace = true;
    let wanted = run_to_box(&store, wanted).await;
    let other = running(&store, 2, "bob").await;
    let seals = async || -> Vec<TaskId> {
        let open = store.obligation_list().await.unwrap();
        open.iter().filter(|o| o.duty == Duty::SealTrace).map(|o| o.task).collect()
    };
    assert_eq!(seals().await, []);
    apply(&store, &wanted, cancel(), at(50)).await;
    apply(&store, &other, cancel(), at(50)).await;
    assert_eq!(seals().await, [wanted.id], "the box of each is stopped, one trace is owed");
    assert_eq!(store.obligation_list().await.unwrap().len(), 3);
    // Without a box there is nothing to trace.
    let mut boxless = super::task(3, "cat");
    boxless.spec.trace = true;
    let boxless = accept(&store, boxless).await;
    apply(&store, &boxless, cancel(), at(51)).await;
    assert_eq!(seals().await, [wanted.id]);
}

pub(super) async fn it_is_recorded_once_with_its_events(store: Store) {
    let task = running(&store, 1, "ann").await;
    let ended = apply(&store, &task, cancel(), at(50)).await;
    assert_eq!(store.trace_get(task.id).await.unwrap(), None);
    let record = |bytes| TraceRecord {
        task: task.id,
        key: "traces/ann/1.jsonl.gz".into(),
        uri: "file:///o/traces/ann/1.jsonl.gz".into(),
        bytes,
        sealed_at: at(51),
    };
    let event =
        || vec![NewEvent::new(EventKind::AgentMilestone, json!({ "milestone": "trajectory_uploaded" }))];
    let before = log(&store, task.id).await.len();
    assert_eq!(store.trace_record(record(7), event(), at(51)).await.unwrap(), record(7));
    assert_eq!(store.trace_record(record(8), event(), at(52)).await.unwrap(), record(7), "the first stays");
    assert_eq!(store.trace_get(task.id).await.unwrap(), Some(record(7)));
    let told = log(&store, task.id).await;
    assert_eq!(told.len(), before + 1);
    assert_eq!((told[before].kind, told[before].at), (EventKind::AgentMilestone, at(51)));
    assert_eq!(get(&store, task.id).await.version, ended.version, "the task is as it was");
    let ghost = TraceRecord { task: TaskId::from_bits(99), ..record(7) };
    assert!(matches!(store.trace_record(ghost, vec![], at(51)).await, Err(StoreError::NoSuchTask(_))));
}
