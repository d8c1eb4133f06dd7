//! Claiming, fencing, and when the next look is due.

use domain::Status;

use super::*;

async fn due(store: &Store, second: i64) -> Vec<TaskId> {
    let claimed = store.task_claim_due(&node("n"), at(second), LEASE, 100).await.unwrap();
    claimed.iter().map(|c| c.task.id).collect()
}

async fn claim(store: &Store, task: TaskId, second: i64) -> Claimed {
    store.task_claim(task, &node("n"), at(second), LEASE).await.unwrap().unwrap()
}

fn release(claimed: &Claimed, wake_at: Option<i64>) -> LeaseRelease {
    let Claimed { task, epoch } = claimed;
    LeaseRelease { task: task.id, epoch: *epoch, seen_version: task.version, wake_at: wake_at.map(at) }
}

fn under(claimed: &Claimed, command: Command, now: i64) -> TaskChange {
    TaskChange { epoch: Some(claimed.epoch), ..change(&claimed.task, command, at(now)) }
}

pub(super) async fn a_due_task_is_claimed_once(store: Store) {
    let task = accept(&store, task(10, "ann")).await;
    assert_eq!(due(&store, 9).await, []);
    assert_eq!(due(&store, 10).await, [task.id]);
    assert_eq!(due(&store, 10).await, []);
    assert_eq!(store.task_claim(task.id, &node("m"), at(10), LEASE).await.unwrap(), None);
    assert_eq!(store.task_claim(TaskId::from_bits(5), &node("m"), at(10), LEASE).await.unwrap(), None);
}

pub(super) async fn the_longest_due_come_first(store: Store) {
    for n in [3, 1, 2] {
        accept(&store, task(n, "ann")).await;
    }
    let first = store.task_claim_due(&node("n"), at(9), LEASE, 2).await.unwrap();
    assert_eq!(first.iter().map(|c| c.task.id).collect::<Vec<_>>(), [task(1, "ann").id, task(2, "ann").id]);
    assert_eq!(due(&store, 9).await, [task(3, "ann").id]);
    // A lease that ran out takes its old place.
    accept(&store, task(4, "ann")).await;
    assert_eq!(due(&store, 50).await, [1, 2, 3, 4].map(|n| task(n, "ann").id));
}

pub(super) async fn two_claimers_never_share_a_task(store: Store) {
    for n in 0..40 {
        accept(&store, task(n, "ann")).await;
    }
    let claimed = at_once((0..8).map(|n| {
        let store = store.clone();
        async move {
            let mut mine = Vec::new();
            loop {
                let some = store.task_claim_due(&node(&format!("n{n}")), at(99), LEASE, 3).await.unwrap();
                if some.is_empty() {
                    return mine;
                }
                mine.extend(some.into_iter().map(|c| c.task.id));
            }
        }
    }))
    .await;
    let mut all: Vec<_> = claimed.into_iter().flatten().collect();
    all.sort();
    assert_eq!(all, (0..40).map(|n| task(n, "ann").id).collect::<Vec<_>>());
}

pub(super) async fn what_is_not_due_can_be_claimed_by_name(store: Store) {
    let task = accept(&store, task(10, "ann")).await;
    let claimed = claim(&store, task.id, 1).await;
    assert_eq!((claimed.task, claimed.epoch), (task, Epoch(1)));
}

/// D-037: a running task was lost with its orchestrator.
pub(super) async fn a_lease_ends(store: Store) {
    let task = accept(&store, task(0, "ann")).await;
    assert_eq!(claim(&store, task.id, 0).await.epoch, Epoch(1));
    assert_eq!(due(&store, 29).await, []);
    assert_eq!(due(&store, 30).await, [task.id]);
    assert_eq!(claim(&store, task.id, 60).await.epoch, Epoch(3));
}

pub(super) async fn a_late_write_is_fenced(store: Store) {
    let task = accept(&store, task(0, "ann")).await;
    let dead = claim(&store, task.id, 0).await;
    let alive = claim(&store, task.id, 40).await;
    let events = log(&store, task.id).await;
    assert_eq!(store.task_change(under(&dead, Command::Admit, 41)).await.unwrap(), Changed::Fenced);
    assert!(!store.lease_renew(task.id, dead.epoch, at(500)).await.unwrap());
    store.lease_release(release(&dead, Some(400))).await.unwrap();
    assert_eq!(store.task_claim(task.id, &node("x"), at(41), LEASE).await.unwrap(), None, "it is still held");
    assert_eq!(get(&store, task.id).await, task);
    assert_eq!((log(&store, task.id).await, store.slot_list().await.unwrap()), (events, vec![]));
    // The one who holds it writes; whoever names no lease is guarded by the version alone.
    let admitted = stored(store.task_change(under(&alive, Command::Admit, 41)).await.unwrap());
    assert_eq!(apply(&store, &admitted, cancel(), at(42)).await.status(), Status::Cancelled);
}

pub(super) async fn a_released_lease_is_no_longer_ours(store: Store) {
    let task = accept(&store, task(0, "ann")).await;
    let held = claim(&store, task.id, 0).await;
    store.lease_release(release(&held, None)).await.unwrap();
    assert_eq!(store.task_change(under(&held, Command::Admit, 1)).await.unwrap(), Changed::Fenced);
    assert!(!store.lease_renew(task.id, held.epoch, at(500)).await.unwrap());
    assert_eq!(due(&store, 1).await, [task.id]);
}

pub(super) async fn renewing_keeps_it(store: Store) {
    let task = accept(&store, task(0, "ann")).await;
    let held = claim(&store, task.id, 0).await;
    assert!(store.lease_renew(task.id, held.epoch, at(100)).await.unwrap());
    assert_eq!(due(&store, 99).await, []);
    assert_eq!(due(&store, 100).await, [task.id]);
    assert!(!store.lease_renew(TaskId::from_bits(5), Epoch(1), at(1)).await.unwrap());
}

pub(super) async fn a_release_sets_the_next_look(store: Store) {
    let task = accept(&store, task(0, "ann")).await;
    let held = claim(&store, task.id, 0).await;
    store.lease_release(release(&held, Some(70))).await.unwrap();
    assert_eq!(get(&store, task.id).await.wake_at, Some(at(70)));
    assert_eq!(due(&store, 69).await, []);
    let held = claim(&store, task.id, 69).await;
    store.lease_release(release(&held, None)).await.unwrap();
    assert_eq!(get(&store, task.id).await.wake_at, Some(at(70)));
}

pub(super) async fn a_release_does_not_undo_a_change(store: Store) {
    let task = running(&store, 0, "ann").await;
    let held = claim(&store, task.id, 0).await;
    let gate = Command::OpenGate { attempt: A1, request_id: "r".into(), until: at(9) };
    let changed = apply(&store, &held.task, gate, at(1)).await;
    store.lease_release(release(&held, Some(1_000))).await.unwrap();
    assert_eq!(get(&store, task.id).await, changed);
}

pub(super) async fn a_wake_during_a_lease_is_not_lost(store: Store) {
    let task = accept(&store, task(0, "ann")).await;
    let held = claim(&store, task.id, 0).await;
    store.task_wake(task.id, at(5)).await.unwrap();
    assert_eq!(due(&store, 5).await, [], "it is held");
    store.lease_release(release(&held, Some(1_000))).await.unwrap();
    assert_eq!(due(&store, 5).await, [task.id]);
    // The look that the wake asked for has happened: the next release counts again.
    let seen = get(&store, task.id).await;
    let again = Claimed { task: seen, epoch: Epoch(held.epoch.0 + 1) };
    store.lease_release(release(&again, Some(1_000))).await.unwrap();
    assert_eq!(get(&store, task.id).await.wake_at, Some(at(1_000)));
    // A wake while nobody holds it is simply a new time.
    store.task_wake(task.id, at(50)).await.unwrap();
    assert_eq!(get(&store, task.id).await.wake_at, Some(at(50)));
    assert_eq!(due(&store, 50).await, [task.id]);
}

pub(super) async fn a_wake_outlives_the_holders_own_change(store: Store) {
    let task = running(&store, 0, "ann").await;
    let held = claim(&store, task.id, 1).await;
    store.task_wake(task.id, at(2)).await.unwrap();
    let gate = Command::OpenGate { attempt: A1, request_id: "r".into(), until: at(99) };
    let changed = stored(store.task_change(under(&held, gate, 3)).await.unwrap());
    store.lease_release(release(&Claimed { task: changed, ..held }, Some(1_000))).await.unwrap();
    assert_eq!(due(&store, 3).await, [task.id]);
}

pub(super) async fn a_task_that_ended_is_not_woken(store: Store) {
    let task = accept(&store, task(0, "ann")).await;
    let held = claim(&store, task.id, 0).await;
    let ended = stored(store.task_change(under(&held, cancel(), 1)).await.unwrap());
    store.task_wake(task.id, at(2)).await.unwrap();
    store.lease_release(release(&Claimed { task: ended, ..held }, Some(3))).await.unwrap();
    assert_eq!(get(&store, task.id).await.wake_at, None);
    assert_eq!(due(&store, 1_000).await, []);
    assert_eq!(store.next_due().await.unwrap(), None);
}

pub(super) async fn the_next_due_time_is_exact(store: Store) {
    let next = async || store.next_due().await.unwrap();
    assert_eq!(next().await, None);
    let first = accept(&store, task(10, "ann")).await;
    accept(&store, task(20, "ann")).await;
    assert_eq!(next().await, Some(at(10)));
    // While it is held, it is due when the lease ends, and not before its own time.
    let held = claim(&store, first.id, 10).await;
    assert_eq!(next().await, Some(at(20)));
    let second = claim(&store, task(20, "ann").id, 20).await;
    assert_eq!(next().await, Some(at(40)));
    assert_eq!(due(&store, 39).await, []);
    assert_eq!(due(&store, 40).await, [first.id]);
    store
        .lease_release(LeaseRelease { epoch: Epoch(held.epoch.0 + 1), ..release(&held, Some(300)) })
        .await
        .unwrap();
    assert_eq!(next().await, Some(at(50)));
    store.lease_release(release(&second, Some(200))).await.unwrap();
    assert_eq!(next().await, Some(at(200)));
    claim(&store, first.id, 60).await;
    claim(&store, second.task.id, 70).await;
    assert_eq!(next().await, Some(at(200)), "a lease that ends before the task is due wakes nobody");
    // Obligations count too.
    let box_of = running(&store, 150, "bob").await;
    apply(&store, &box_of, cancel(), at(160)).await;
    assert_eq!(next().await, Some(at(160)));
}
