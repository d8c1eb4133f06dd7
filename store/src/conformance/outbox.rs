//! Rows for people.

use super::*;

/// A task with `count` rows for each of the channels, one per event.
async fn rows_for(store: &Store, n: u32, channels: &[&str], count: usize) -> Task {
    let mut new = new_task(task(n, "ann"));
    new.events = (0..count).map(|i| NewEvent::new(EventKind::TaskCreated, json!({ "i": i }))).collect();
    for event in 0..count {
        new.outbox.extend(channels.iter().map(|c| NewOutboxRow { channel: (*c).into(), event }));
    }
    match store.task_create(new).await.unwrap() {
        Created::New(task) => *task,
        other => panic!("{other:?}"),
    }
}

async fn claim(store: &Store, channel: &str, second: i64) -> Vec<OutboxRow> {
    store.outbox_claim(channel, at(second), LEASE, 100).await.unwrap()
}

fn brief(rows: &[OutboxRow]) -> Vec<(TaskId, u64, u32)> {
    rows.iter().map(|r| (r.event.task, r.event.seq, r.tries)).collect()
}

pub(super) async fn rows_come_in_order_one_per_task(store: Store) {
    let one = rows_for(&store, 1, &["mail"], 3).await;
    let two = rows_for(&store, 2, &["mail"], 1).await;
    let first = claim(&store, "mail", 10).await;
    assert_eq!(brief(&first), [(one.id, 1, 1), (two.id, 1, 1)]);
    assert_eq!(first[0].channel, "mail");
    assert_eq!(claim(&store, "mail", 10).await, [], "the second waits for the first");
    store.outbox_done(first[0].id).await.unwrap();
    let second = claim(&store, "mail", 10).await;
    assert_eq!(brief(&second), [(one.id, 2, 1)]);
    store.outbox_done(second[0].id).await.unwrap();
    store.outbox_done(first[1].id).await.unwrap();
    assert_eq!(brief(&claim(&store, "mail", 10).await), [(one.id, 3, 1)]);
}

pub(super) async fn a_failed_row_holds_up_its_task_alone(store: Store) {
    let one = rows_for(&store, 1, &["mail"], 2).await;
    let two = rows_for(&store, 2, &["mail"], 2).await;
    let first = claim(&store, "mail", 10).await;
    store.outbox_retry(first[0].id, at(100), "away").await.unwrap();
    store.outbox_done(first[1].id).await.unwrap();
    assert_eq!(brief(&claim(&store, "mail", 50).await), [(two.id, 2, 1)]);
    assert_eq!(
        brief(&claim(&store, "mail", 100).await),
        [(two.id, 2, 2), (one.id, 1, 2)],
        "a claim that nobody closed returns"
    );
}

pub(super) async fn channels_are_apart(store: Store) {
    let one = rows_for(&store, 1, &["mail", "chat"], 1).await;
    assert_eq!(claim(&store, "fax", 10).await, []);
    assert_eq!(brief(&claim(&store, "mail", 10).await), [(one.id, 1, 1)]);
    assert_eq!(brief(&claim(&store, "chat", 10).await), [(one.id, 1, 1)]);
}

pub(super) async fn one_claimer_has_each_row(store: Store) {
    for n in 0..20 {
        rows_for(&store, n, &["mail"], 2).await;
    }
    let claimed = at_once((0..8).map(|_| {
        let store = store.clone();
        async move { store.outbox_claim("mail", at(60), LEASE, 5).await.unwrap() }
    }))
    .await;
    let mut rows: Vec<_> = claimed.into_iter().flatten().map(|r| (r.event.task, r.event.seq)).collect();
    rows.sort();
    rows.dedup();
    assert_eq!(rows, (0..20).map(|n| (task(n, "ann").id, 1)).collect::<Vec<_>>());
}
