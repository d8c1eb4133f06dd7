//! Slots and the queue for them.

use domain::Status;
use domain::state::QueueReason;

use super::*;

async fn admit(store: &Store, task: &Task, limit: [u32; 3]) -> Changed {
    apply_within(store, task, Command::Admit, at(100), limit).await
}

/// What the orchestrator does with a new task: admit it, or queue it.
async fn admit_or_queue(store: &Store, task: &Task, limit: [u32; 3]) -> Task {
    match admit(store, task, limit).await {
        Changed::Applied(task) => *task,
        Changed::NoSlot(_) => apply(store, task, Command::Enqueue, at(100)).await,
        other @ (Changed::Lost(_) | Changed::Fenced) => panic!("{other:?}"),
    }
}

async fn pick_up(store: &Store, task: &Task, limit: [u32; 3]) -> Changed {
    apply_within(store, task, Command::PickUp, at(200), limit).await
}

async fn is_due(store: &Store, task: &Task, second: i64) -> bool {
    get(store, task.id).await.wake_at.is_some_and(|wake| wake <= at(second))
}

/// D-042: slots leaked and were counted twice.
pub(super) async fn slots_are_taken_once_and_given_back(store: Store) {
    let one = accept(&store, task(1, "ann:cat")).await;
    let taken = stored(admit(&store, &one, [1, 1, 1]).await);
    let expected: Vec<_> = limits(&one, [1, 1, 1]).into_iter().map(|l| (l.scope, one.id)).collect();
    assert_eq!(store.slot_list().await.unwrap(), expected);
    // Back through the queue: what is held already is not counted twice.
    let parked = Command::Park { why: QueueReason::Paused, not_before: None };
    let parked = apply(&store, &taken, parked, at(101)).await;
    assert_eq!(store.slot_list().await.unwrap(), []);
    let picked = stored(pick_up(&store, &parked, [1, 1, 1]).await);
    let admitted = stored(admit(&store, &picked, [1, 1, 1]).await);
    assert_eq!(store.slot_list().await.unwrap(), expected);
    apply(&store, &admitted, cancel(), at(103)).await;
    assert_eq!(store.slot_list().await.unwrap(), []);
}

pub(super) async fn a_full_scope_refuses_and_stores_nothing(store: Store) {
    let one = accept(&store, task(1, "ann:cat")).await;
    stored(admit(&store, &one, [1, 1, 9]).await);
    for (n, of, limit, scope) in [
        (2, "ann:dog", [1, 9, 9], Scope::User(user("ann"))),
        (3, "bob:cat", [9, 1, 9], Scope::Repo(repo("cat"))),
        (4, "bob:dog", [9, 9, 1], Scope::System),
        (5, "bob:dog", [9, 9, 0], Scope::System),
    ] {
        let task = accept(&store, task(n, of)).await;
        let (events, slots) = (log(&store, task.id).await, store.slot_list().await.unwrap());
        let mut refused = change(&task, Command::Admit, at(100));
        refused.scopes = limits(&task, limit);
        refused.outbox = vec![NewOutboxRow { channel: "mail".into(), event: 0 }];
        assert_eq!(store.task_change(refused).await.unwrap(), Changed::NoSlot(scope));
        assert_eq!(get(&store, task.id).await, task);
        assert_eq!((log(&store, task.id).await, store.slot_list().await.unwrap()), (events, slots));
        assert_eq!(store.outbox_claim("mail", at(999), LEASE, 10).await.unwrap(), []);
    }
}

pub(super) async fn slots_never_exceed_their_limit(store: Store) {
    let mut tasks = Vec::new();
    for n in 0..24 {
        tasks.push(accept(&store, task(n, ["ann:a", "bob:b", "cid:c"][n as usize % 3])).await);
    }
    let answers = at_once(tasks.into_iter().map(|task| {
        let store = store.clone();
        async move { apply_within(&store, &task, Command::Admit, at(100), [2, 9, 5]).await }
    }))
    .await;
    assert_eq!(answers.iter().filter(|a| matches!(a, Changed::Applied(_))).count(), 5);
    let slots = store.slot_list().await.unwrap();
    for name in ["ann", "bob", "cid"] {
        assert!(slots.iter().filter(|(scope, _)| *scope == Scope::User(user(name))).count() <= 2);
    }
    assert_eq!(slots.iter().filter(|(scope, _)| *scope == Scope::System).count(), 5);
}

/// D-043: new tasks overtook queued ones.
pub(super) async fn the_young_do_not_overtake(store: Store) {
    let limit = [1, 9, 9];
    let one = accept(&store, task(1, "ann")).await;
    let one = stored(admit(&store, &one, limit).await);
    let two = accept(&store, task(2, "ann")).await;
    let two = admit_or_queue(&store, &two, limit).await;
    assert_eq!(two.status(), Status::Queued);
    apply(&store, &one, cancel(), at(150)).await;
    // The slot is free, and it is the older one's.
    let three = accept(&store, task(3, "ann")).await;
    assert_eq!(admit(&store, &three, limit).await, Changed::NoSlot(Scope::User(user("ann"))));
    let three = apply(&store, &three, Command::Enqueue, at(151)).await;
    assert_eq!(pick_up(&store, &three, limit).await, Changed::NoSlot(Scope::User(user("ann"))));
    stored(pick_up(&store, &two, limit).await);
    assert_eq!(pick_up(&store, &three, limit).await, Changed::NoSlot(Scope::User(user("ann"))));
}

pub(super) async fn a_scope_holds_up_only_its_own(store: Store) {
    let waits = accept(&store, task(1, "ann:cat")).await;
    apply(&store, &waits, Command::Enqueue, at(50)).await;
    let scope_of = async |n: u32, of: &str| {
        let task = accept(&store, task(n, of)).await;
        let mut scopes = limits(&task, [9, 9, 9]);
        scopes.truncate(2);
        let change = TaskChange { scopes, ..change(&task, Command::Admit, at(100)) };
        store.task_change(change).await.unwrap()
    };
    // It was never refused, so it waits in all its scopes, and in no others.
    assert_eq!(scope_of(2, "ann:dog").await, Changed::NoSlot(Scope::User(user("ann"))));
    assert_eq!(scope_of(3, "bob:cat").await, Changed::NoSlot(Scope::Repo(repo("cat"))));
    stored(scope_of(4, "bob:dog").await);
    // An older one passes.
    let older = accept(&store, task(0, "ann:cat")).await;
    stored(admit(&store, &older, [9, 9, 9]).await);
}

pub(super) async fn a_user_at_the_limit_does_not_stop_others(store: Store) {
    let limit = [1, 9, 2];
    for n in [1, 2, 3] {
        let task = accept(&store, task(n, "ann")).await;
        admit_or_queue(&store, &task, limit).await;
    }
    // Two older tasks of ann wait for her own limit; the system has room, and bob may have it.
    let bob = accept(&store, task(4, "bob")).await;
    stored(admit(&store, &bob, limit).await);
    let late = accept(&store, task(5, "bob")).await;
    assert_eq!(admit(&store, &late, [9, 9, 2]).await, Changed::NoSlot(Scope::System));
}

pub(super) async fn paused_tasks_hold_nobody_up(store: Store) {
    for (n, why) in [(1, QueueReason::Paused), (2, QueueReason::ProviderLimit)] {
        let task = accept(&store, task(n, "ann")).await;
        let task = stored(admit(&store, &task, [9, 9, 9]).await);
        apply(&store, &task, Command::Park { why, not_before: None }, at(50)).await;
    }
    let three = accept(&store, task(3, "ann")).await;
    stored(admit(&store, &three, [1, 1, 1]).await);
}

pub(super) async fn a_freed_slot_wakes_the_oldest(store: Store) {
    let limit = [1, 9, 9];
    let one = accept(&store, task(1, "ann")).await;
    let one = stored(admit(&store, &one, limit).await);
    let mut queued = Vec::new();
    for n in [3, 2, 4] {
        let task = accept(&store, task(n, "ann")).await;
        queued.push(admit_or_queue(&store, &task, limit).await);
    }
    for task in &queued {
        assert!(!is_due(&store, task, 500).await, "nothing is free yet");
    }
    let parked = Command::Park { why: QueueReason::Paused, not_before: None };
    apply(&store, &one, parked, at(300)).await;
    assert!(is_due(&store, &queued[1], 300).await);
    assert!(!is_due(&store, &queued[0], 500).await && !is_due(&store, &queued[2], 500).await);
}

pub(super) async fn the_queue_drains_as_a_chain(store: Store) {
    let limit = [9, 9, 2];
    let mut running = Vec::new();
    for n in [1, 2] {
        let task = accept(&store, task(n, "ann")).await;
        running.push(stored(admit(&store, &task, limit).await));
    }
    let mut queued = Vec::new();
    for n in [3, 4, 5] {
        let task = accept(&store, task(n, "bob")).await;
        queued.push(admit_or_queue(&store, &task, limit).await);
    }
    for task in &running {
        apply(&store, task, cancel(), at(300)).await;
    }
    // Both ends woke the head; that one takes its slot and wakes the next, because another is left.
    assert!(is_due(&store, &queued[0], 300).await && !is_due(&store, &queued[1], 500).await);
    stored(pick_up(&store, &queued[0], limit).await);
    assert!(is_due(&store, &queued[1], 300).await && !is_due(&store, &queued[2], 500).await);
    stored(pick_up(&store, &queued[1], limit).await);
    assert!(!is_due(&store, &queued[2], 500).await, "nothing is left");
}

pub(super) async fn a_slot_freed_before_queueing_is_not_lost(store: Store) {
    let limit = [1, 9, 9];
    let one = accept(&store, task(1, "ann")).await;
    let one = stored(admit(&store, &one, limit).await);
    let two = accept(&store, task(2, "ann")).await;
    assert!(matches!(admit(&store, &two, limit).await, Changed::NoSlot(_)));
    // Nobody is in the queue to be woken.
    apply(&store, &one, cancel(), at(150)).await;
    let two = apply(&store, &two, Command::Enqueue, at(151)).await;
    assert!(is_due(&store, &two, 151).await);
    stored(pick_up(&store, &two, limit).await);
}

pub(super) async fn leaving_the_queue_wakes_the_next(store: Store) {
    let limit = [1, 9, 9];
    let one = accept(&store, task(1, "ann")).await;
    let one = stored(admit(&store, &one, limit).await);
    let mut queued = Vec::new();
    for n in [2, 3] {
        let task = accept(&store, task(n, "ann")).await;
        queued.push(admit_or_queue(&store, &task, limit).await);
    }
    apply(&store, &one, cancel(), at(300)).await;
    // The head was woken and is cancelled before it looks.
    let head = get(&store, queued[0].id).await;
    apply(&store, &head, cancel(), at(301)).await;
    assert!(is_due(&store, &queued[1], 301).await);
    stored(pick_up(&store, &queued[1], limit).await);
}

pub(super) async fn whoever_turns_out_to_wait_elsewhere_lets_the_next_look(store: Store) {
    let limit = [1, 1, 9];
    let holds = accept(&store, task(1, "ann:c")).await;
    let holds = stored(admit(&store, &holds, limit).await);
    let bob = accept(&store, task(2, "bob:a")).await;
    stored(admit(&store, &bob, limit).await);
    let mut queued = Vec::new();
    for (n, of) in [(3, "ann:a"), (4, "ann:b")] {
        let task = accept(&store, task(n, of)).await;
        queued.push(admit_or_queue(&store, &task, limit).await);
    }
    apply(&store, &holds, cancel(), at(300)).await;
    assert!(is_due(&store, &queued[0], 300).await && !is_due(&store, &queued[1], 500).await);
    // The head finds its user's slot free and its repository full; the next may have the user's slot.
    assert_eq!(pick_up(&store, &queued[0], limit).await, Changed::NoSlot(Scope::Repo(repo("a"))));
    assert!(is_due(&store, &queued[1], 300).await);
    stored(pick_up(&store, &queued[1], limit).await);
}

/// A small orchestrator: whatever is due is looked at, in an unlucky order; every task gets through without waiting for
/// a backstop, though limits of three kinds cross each other.
/// D-043: new tasks overtook queued ones.
pub(super) async fn everybody_gets_a_turn(store: Store) {
    let limit = [2, 2, 3];
    let of = ["ann:a", "ann:b", "bob:a", "bob:b", "ann:a", "cid:c"];
    let all: Vec<_> = (0..30).map(|n| task(n, of[n as usize % of.len()])).collect();
    for task in &all {
        accept(&store, task.clone()).await;
    }
    let (mut now, mut started) = (1_000, Vec::new());
    while let Some(next) = store.next_due().await.unwrap() {
        assert!(next < at(50_000), "the queue waits for its backstop: {started:?}");
        now = now.max(next.as_second() - 1_700_000_000) + 1;
        // Two at a time, the younger one first.
        let mut claimed = store.task_claim_due(&node("n"), at(now), LEASE, 2).await.unwrap();
        claimed.reverse();
        for Claimed { task, epoch } in claimed {
            let looked = match task.status() {
                Status::Submitted => {
                    match apply_within(&store, &task, Command::Admit, at(now), limit).await {
                        Changed::Applied(task) => {
                            started.push(task.id);
                            *task
                        }
                        _ => apply(&store, &task, Command::Enqueue, at(now)).await,
                    }
                }
                Status::Queued => match apply_within(&store, &task, Command::PickUp, at(now), limit).await {
                    Changed::Applied(task) => *task,
                    _ => {
                        let wake_at = Some(at(90_000));
                        let release =
                            LeaseRelease { task: task.id, epoch, seen_version: task.version, wake_at };
                        store.lease_release(release).await.unwrap();
                        continue;
                    }
                },
                _ => apply(&store, &task, cancel(), at(now)).await,
            };
            let release =
                LeaseRelease { task: looked.id, epoch, seen_version: looked.version, wake_at: None };
            store.lease_release(release).await.unwrap();
        }
        let slots = store.slot_list().await.unwrap();
        for wanted in all.iter().flat_map(|task| limits(task, limit)) {
            assert!(slots.iter().filter(|(scope, _)| *scope == wanted.scope).count() as u32 <= wanted.limit);
        }
        if started.len() == all.len() && slots.is_empty() {
            return;
        }
    }
    panic!("nothing is due any more, and only {} of {} tasks ran", started.len(), all.len());
}

pub(super) async fn places_count_the_users_own_queue(store: Store) {
    let mut queued = Vec::new();
    for (n, of) in [(1, "ann"), (2, "bob"), (3, "ann"), (4, "ann")] {
        let task = accept(&store, task(n, of)).await;
        assert_eq!(store.queue_position(task.id).await.unwrap(), None);
        queued.push(apply(&store, &task, Command::Enqueue, at(9)).await);
    }
    let mut places = Vec::new();
    for task in &queued {
        places.push(store.queue_position(task.id).await.unwrap());
    }
    assert_eq!(places, [Some(1), Some(1), Some(2), Some(3)]);
    apply(&store, &queued[0], cancel(), at(10)).await;
    assert_eq!(store.queue_position(queued[3].id).await.unwrap(), Some(2));
    assert_eq!(store.queue_position(queued[0].id).await.unwrap(), None);
    assert_eq!(store.queue_position(TaskId::from_bits(1)).await.unwrap(), None);
}
