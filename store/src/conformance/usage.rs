//! What model calls cost.

use domain::money::{MicroUsd, TokenCount};

use super::*;
use crate::StoreError;

/// One call of `task` that used 10 + 1 tokens.
pub(super) fn call(task: &Task, id: &str, cost: Option<i64>) -> UsageRecord {
    UsageRecord {
        call_id: id.into(),
        task: task.id,
        attempt: task.attempt,
        model: "m".into(),
        tokens: TokenCount { input: 10, output: 1, cache_read: 3, cache_write: 2 },
        cost: cost.map(MicroUsd),
        event: NewEvent::new(EventKind::AgentCostUpdate, json!({ "call": id })),
        now: at(50),
    }
}

async fn cost_events(store: &Store, task: &Task) -> usize {
    log(store, task.id).await.iter().filter(|e| e.kind == EventKind::AgentCostUpdate).count()
}

pub(super) async fn a_call_counts_once(store: Store) {
    let task = running(&store, 1, "ann").await;
    let first = store.usage_record(call(&task, "a", Some(7))).await.unwrap();
    assert_eq!((first.cost, first.calls, first.unpriced_calls), (MicroUsd(7), 1, 0));
    assert_eq!(first.tokens, TokenCount { input: 10, output: 1, cache_read: 3, cache_write: 2 });
    assert_eq!(store.usage_record(call(&task, "a", Some(7))).await.unwrap(), first);
    let second = store.usage_record(call(&task, "b", Some(5))).await.unwrap();
    assert_eq!((second.cost, second.calls, second.tokens.input), (MicroUsd(12), 2, 20));
    let now = get(&store, task.id).await;
    assert_eq!((now.spent, now.version), (second, task.version));
    assert_eq!(cost_events(&store, &task).await, 2);
    let ghost = store.usage_record(call(&super::task(9, "ann"), "c", None)).await;
    assert!(matches!(ghost, Err(StoreError::NoSuchTask(_))));
    assert_eq!(
        store.usage_record(call(&task, "c", Some(1))).await.unwrap().calls,
        3,
        "the refused call is not known"
    );
}

pub(super) async fn an_unpriced_call_is_told(store: Store) {
    let task = running(&store, 1, "ann").await;
    let spent = store.usage_record(call(&task, "a", None)).await.unwrap();
    assert_eq!((spent.cost, spent.calls, spent.unpriced_calls, spent.tokens.output), (MicroUsd(0), 1, 1, 1));
}

pub(super) async fn calls_add_up_under_contention(store: Store) {
    let task = running(&store, 1, "ann").await;
    at_once((0..64).map(|n| {
        // Every call is told twice.
        let (store, call) = (store.clone(), call(&task, &format!("c{}", n / 2), Some(3)));
        async move { store.usage_record(call).await.unwrap() }
    }))
    .await;
    let spent = get(&store, task.id).await.spent;
    assert_eq!((spent.cost, spent.calls, spent.tokens.input), (MicroUsd(96), 32, 320));
    assert_eq!(cost_events(&store, &task).await, 32);
}

pub(super) async fn money_counts_after_the_end(store: Store) {
    let task = running(&store, 1, "ann").await;
    apply(&store, &task, cancel(), at(9)).await;
    assert_eq!(store.usage_record(call(&task, "a", Some(7))).await.unwrap().cost, MicroUsd(7));
    assert_eq!(get(&store, task.id).await.spent.cost, MicroUsd(7));
}
