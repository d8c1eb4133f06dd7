//! What must still happen.

use super::*;

async fn ended_with_a_box(store: &Store, n: u32) -> Task {
    let task = running(store, n, "ann").await;
    apply(store, &task, cancel(), at(50)).await
}

async fn claim(store: &Store, second: i64) -> Vec<Obligation> {
    store.obligation_claim_due(at(second), LEASE, 100).await.unwrap()
}

/// D-053: a cancel left its compute running.
pub(super) async fn an_end_with_a_box_must_stop_it(store: Store) {
    let task = ended_with_a_box(&store, 1).await;
    let boxless = accept(&store, super::task(2, "ann")).await;
    apply(&store, &boxless, cancel(), at(51)).await;
    let open = store.obligation_list().await.unwrap();
    assert_eq!(open.len(), 1);
    let session = Some(SessionHandle::Fake { task: task.id, attempt: A1 });
    assert_eq!((open[0].task, &open[0].duty), (task.id, &Duty::StopSession { attempt: A1, session }));
    assert_eq!((open[0].created_at, open[0].due_at), (at(50), at(50)));
    assert_eq!((open[0].tries, &open[0].last_error, open[0].alarm), (0, &None, Alarm::Off));
    store.obligation_done(open[0].id).await.unwrap();
    store.obligation_done(open[0].id).await.unwrap();
    assert_eq!(store.obligation_list().await.unwrap(), []);
}

pub(super) async fn a_claim_hides_it_for_a_while(store: Store) {
    ended_with_a_box(&store, 1).await;
    assert_eq!(claim(&store, 49).await, []);
    let first = claim(&store, 50).await;
    assert_eq!((first.len(), first[0].tries, first[0].due_at), (1, 1, at(80)));
    assert_eq!(claim(&store, 79).await, []);
    assert_eq!(claim(&store, 80).await[0].tries, 2, "whoever had it is gone");
}

pub(super) async fn one_claimer_has_it(store: Store) {
    for n in 0..20 {
        ended_with_a_box(&store, n).await;
    }
    let claimed = at_once((0..8).map(|_| {
        let store = store.clone();
        async move { store.obligation_claim_due(at(60), LEASE, 5).await.unwrap() }
    }))
    .await;
    let mut ids: Vec<_> = claimed.into_iter().flatten().map(|o| o.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
    assert_eq!(claim(&store, 60).await, []);
}

/// D-054: a stop that failed was not tried again.
pub(super) async fn a_retry_is_remembered(store: Store) {
    ended_with_a_box(&store, 1).await;
    let claimed = claim(&store, 50).await;
    store.obligation_retry(claimed[0].id, at(200), "throttled", Alarm::Off).await.unwrap();
    assert_eq!(claim(&store, 199).await, []);
    assert_eq!(claim(&store, 200).await[0].last_error.as_deref(), Some("throttled"));
    store.obligation_retry(claimed[0].id, at(900), "denied", Alarm::On).await.unwrap();
    let open = store.obligation_list().await.unwrap();
    assert_eq!((open[0].alarm, open[0].tries, open[0].due_at), (Alarm::On, 2, at(900)));
    assert_eq!(store.next_due().await.unwrap(), Some(at(900)));
}
