//! Accepting, changing and listing tasks.

use std::collections::BTreeSet;

use domain::failure::{Failure, FailureCode};
use domain::lost::Lost;
use domain::money::{MicroUsd, TokenCount};
use domain::state::{QueueReason, Status};
use domain::task::Results;
use jiff::SignedDuration;

use super::*;
use crate::StoreError;

pub(super) async fn what_is_stored_comes_back(store: Store) {
    let mut rich = task(1, "ann:cat");
    rich.spec.issue_number = Some(7);
    rich.spec.max_budget = Some(MicroUsd(1_500_000));
    rich.spec.description = "naïve \u{1F980} \"quotes\"\n\u{0}".into();
    rich.created_at = at(1) + SignedDuration::from_nanos(123_456_789);
    rich.spec.repo = RepoRef::Local("/srv/git/x".into());
    let back = accept(&store, rich.clone()).await;
    assert_eq!(back, rich);
    assert_eq!(get(&store, rich.id).await, rich);
    assert_eq!(store.task_get(TaskId::from_bits(1)).await.unwrap(), None);

    // Every state keeps its data.
    let mut stages = vec![accept(&store, task(2, "ann")).await];
    let session = SessionHandle::Fake { task: stages[0].id, attempt: A1 };
    let lost = Lost {
        failure: Failure::new(FailureCode::SessionLost, "gone"),
        turns: 4,
        attempts_max: 2,
        not_before: at(40),
        kept: None,
    };
    let path = [
        Command::Enqueue,
        Command::PickUp,
        Command::Admit,
        Command::PreflightPassed {
            base_branch: "main".into(),
            model: "p/m".into(),
            warnings: vec!["slow".into()],
        },
        Command::SessionStarted { session },
        Command::AgentStarted { attempt: A1, prompt: "0123456789ab".parse().ok() },
        Command::OpenGate { attempt: A1, request_id: "r".into(), until: at(99) },
        Command::CloseGate { request_id: "r".into() },
        Command::Lose { attempt: A1, lost: Box::new(lost) },
        Command::Resume { by: None },
        Command::PickUp,
        Command::Admit,
        Command::Park { why: QueueReason::ProviderLimit, not_before: Some(at(50)) },
    ];
    for command in path {
        let before = stages.last().unwrap();
        let expected = applied(before, command.clone(), at(3)).task;
        let after = apply(&store, before, command, at(3)).await;
        // A task that was never refused a slot is woken at once when it queues.
        assert_eq!(Task { wake_at: expected.wake_at, ..after.clone() }, expected);
        assert_eq!(get(&store, after.id).await, after);
        stages.push(after);
    }
    let failure = Failure::new(FailureCode::ALL[0], "why").resource("what");
    let results = Results { answer: Some("so".into()), turns_attempted: Some(3), ..Results::default() };
    let failed = Command::Fail { failure, results: Some(Box::new(results)) };
    let last = stages.last().unwrap();
    let expected = applied(last, failed.clone(), at(4)).task;
    assert_eq!(apply(&store, last, failed, at(4)).await, expected);
    assert_eq!(expected.wake_at, None);
}

/// D-008: the first event of a task was best effort.
pub(super) async fn a_task_is_accepted_with_its_events_and_rows(store: Store) {
    let mut new = new_task(task(1, "ann"));
    new.outbox = vec![NewOutboxRow { channel: "mail".into(), event: 0 }];
    let id = new.task.id;
    store.task_create(new).await.unwrap();
    let events = log(&store, id).await;
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].seq, events[0].kind, events[0].at), (1, EventKind::TaskCreated, at(1)));
    assert_eq!(events[0].metadata, json!({ "channel": "api" }));
    let rows = store.outbox_claim("mail", at(1), LEASE, 10).await.unwrap();
    assert_eq!(rows.iter().map(|r| &r.event).collect::<Vec<_>>(), [&events[0]]);
}

pub(super) async fn an_id_is_accepted_once(store: Store) {
    let first = accept(&store, task(1, "ann")).await;
    let again = Task { user: user("bob"), ..first.clone() };
    assert!(store.task_create(new_task(again)).await.is_err());
    assert_eq!(get(&store, first.id).await, first);
    assert_eq!(log(&store, first.id).await.len(), 1);
}

fn keyed(n: u32, of: &str, key: &str, hash: &str) -> NewTask {
    let idempotency = Some(IdempotencyClaim { key: key.into(), body_hash: hash.into() });
    NewTask { idempotency, ..new_task(task(n, of)) }
}

pub(super) async fn a_key_makes_one_task(store: Store) {
    assert!(!store.idempotency_known(&UserId::new("ann"), "k").await.unwrap());
    let Created::New(first) = store.task_create(keyed(1, "ann", "k", "h")).await.unwrap() else { panic!() };
    let changed = apply(&store, &first, cancel(), at(5)).await;
    // The answer is the task as it is now.
    assert_eq!(
        store.task_create(keyed(2, "ann", "k", "h")).await.unwrap(),
        Created::Replay(Box::new(changed))
    );
    assert_eq!(store.task_get(task(2, "ann").id).await.unwrap(), None);
}

/// D-005: a key with another body gave the old task.
pub(super) async fn a_key_with_another_body_is_a_conflict(store: Store) {
    store.task_create(keyed(1, "ann", "k", "h")).await.unwrap();
    let conflict = store.task_create(keyed(2, "ann", "k", "other")).await.unwrap();
    assert_eq!(conflict, Created::KeyConflict(task(1, "ann").id));
    assert_eq!(store.task_get(task(2, "ann").id).await.unwrap(), None);
}

/// D-002: a key of another user collided.
pub(super) async fn a_key_is_a_users_own(store: Store) {
    store.task_create(keyed(1, "ann", "k", "h")).await.unwrap();
    let other = store.task_create(keyed(2, "bob", "k", "other")).await.unwrap();
    assert!(matches!(other, Created::New(_)), "{other:?}");
}

/// D-001: two requests at once with one key made two tasks.
pub(super) async fn one_key_at_once_makes_one_task(store: Store) {
    let answers = at_once((0..16).map(|n| {
        let store = store.clone();
        async move { store.task_create(keyed(n, "ann", "k", "h")).await.unwrap() }
    }))
    .await;
    let new: Vec<_> = answers.iter().filter(|c| matches!(c, Created::New(_))).collect();
    let ids: BTreeSet<_> = answers
        .iter()
        .map(|c| match c {
            Created::New(task) | Created::Replay(task) => task.id,
            Created::KeyConflict(id) => panic!("conflict with {id}"),
        })
        .collect();
    assert_eq!((new.len(), ids.len()), (1, 1));
    let all = TaskFilter { limit: 100, ..TaskFilter::default() };
    assert_eq!(store.task_list(all).await.unwrap().len(), 1);
}

/// D-015: pages were short or empty with more to come.
pub(super) async fn lists_are_newest_first_and_pages_are_full(store: Store) {
    for n in 1..=12 {
        let of = ["ann:cat", "ann:dog", "bob:cat"][n as usize % 3];
        let task = accept(&store, task(n, of)).await;
        if n % 2 == 0 {
            apply(&store, &task, cancel(), at(99)).await;
        }
    }
    let list = async |filter: TaskFilter| -> Vec<u64> {
        store.task_list(filter).await.unwrap().iter().map(|t| t.id.millis() / 1000 - 1_700_000_000).collect()
    };
    let all = TaskFilter { limit: 100, ..TaskFilter::default() };
    assert_eq!(list(all.clone()).await, (1..=12).rev().collect::<Vec<_>>());
    assert_eq!(list(TaskFilter { limit: 0, ..all.clone() }).await, Vec::<u64>::new());
    let ann = TaskFilter { user: Some(user("ann")), ..all.clone() };
    assert_eq!(list(ann.clone()).await, [12, 10, 9, 7, 6, 4, 3, 1]);
    let among = TaskFilter { among: vec![user("ann"), user("eve")], ..all.clone() };
    assert_eq!(list(among).await, list(ann.clone()).await);
    let on_dog = TaskFilter { repo: Some(repo("dog")), ..ann.clone() };
    assert_eq!(list(on_dog).await, [10, 7, 4, 1]);
    let ended = TaskFilter { status: vec![Status::Cancelled, Status::Failed], ..ann.clone() };
    assert_eq!(list(ended.clone()).await, [12, 10, 6, 4]);

    // Page by page, no task is missed or shown twice, and only the last page is short.
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = store.task_list(TaskFilter { before, limit: 3, ..ended.clone() }).await.unwrap();
        seen.extend(page.iter().map(|t| t.id));
        before = page.last().map(|t| t.id);
        if page.len() < 3 {
            break;
        }
    }
    let whole: Vec<_> = store.task_list(ended).await.unwrap().iter().map(|t| t.id).collect();
    assert_eq!(seen, whole);
}

/// D-055: a cancel that could not write its event was a 500.
pub(super) async fn a_change_is_stored_whole(store: Store) {
    let before = running(&store, 1, "ann").await;
    let mut change = change(&before, cancel(), at(9));
    change.outbox = vec![NewOutboxRow { channel: "mail".into(), event: 0 }];
    let after = stored(store.task_change(change).await.unwrap());
    assert_eq!((after.status(), after.version), (Status::Cancelled, before.version + 1));
    assert_eq!(get(&store, after.id).await, after);
    let events = log(&store, after.id).await;
    assert_eq!(events.last().unwrap().kind, EventKind::TaskCancelled);
    assert_eq!(events.last().unwrap().at, at(9));
    assert_eq!(store.slot_list().await.unwrap(), []);
    assert_eq!(store.obligation_list().await.unwrap().len(), 1);
    let rows = store.outbox_claim("mail", at(9), LEASE, 10).await.unwrap();
    assert_eq!(rows[0].event, *events.last().unwrap());
}

pub(super) async fn a_change_from_an_old_version_is_lost(store: Store) {
    let old = accept(&store, task(1, "ann")).await;
    let current = apply(&store, &old, Command::Admit, at(2)).await;
    let events = log(&store, old.id).await;
    let changed = store.task_change(change(&old, cancel(), at(3))).await.unwrap();
    assert_eq!(changed, Changed::Lost(Box::new(current.clone())));
    // A version from the future is as lost as an old one.
    let future = Task { version: 99, ..current.clone() };
    assert!(matches!(store.task_change(change(&future, cancel(), at(3))).await.unwrap(), Changed::Lost(_)));
    assert_eq!(get(&store, old.id).await, current);
    assert_eq!(log(&store, old.id).await, events);
}

pub(super) async fn one_of_many_racing_changes_wins(store: Store) {
    let before = accept(&store, task(1, "ann")).await;
    let answers = at_once((0..32).map(|n| {
        let (store, change) =
            (store.clone(), change(&before, Command::Cancel { by: format!("p{n}") }, at(2)));
        async move { store.task_change(change).await.unwrap() }
    }))
    .await;
    let won: Vec<_> = answers.iter().filter(|a| matches!(a, Changed::Applied(_))).collect();
    let lost = answers.iter().filter(|a| matches!(a, Changed::Lost(now) if now.version == 2)).count();
    assert_eq!((won.len(), lost), (1, 31));
    assert_eq!(log(&store, before.id).await.len(), 2);
}

pub(super) async fn a_change_of_nothing_is_an_error(store: Store) {
    let ghost = task(1, "ann");
    let error = store.task_change(change(&ghost, cancel(), at(1))).await.unwrap_err();
    assert!(matches!(error, StoreError::NoSuchTask(id) if id == ghost.id), "{error}");
    assert!(matches!(store.task_wake(ghost.id, at(1)).await, Err(StoreError::NoSuchTask(_))));
    assert!(matches!(store.session_open(ghost.id, A1, at(1)).await, Err(StoreError::NoSuchTask(_))));
    assert_eq!(log(&store, ghost.id).await, []);
}

pub(super) async fn a_change_does_not_touch_what_was_spent(store: Store) {
    let before = running(&store, 1, "ann").await;
    let spent = store.usage_record(usage::call(&before, "c", Some(5))).await.unwrap();
    // The change was computed from a task that did not know of the call.
    assert_eq!(before.spent.calls, 0);
    let after = apply(&store, &before, cancel(), at(9)).await;
    assert_eq!(after.spent, spent);
    let forged = TokenCount { input: 1, ..TokenCount::default() };
    let mut new = task(2, "ann");
    new.spent.tokens = forged;
    assert_eq!(accept(&store, new).await.spent.tokens, TokenCount::default());
}

pub(super) async fn a_pull_request_is_kept_and_replaced(store: Store) {
    let before = running(&store, 1, "ann").await;
    assert_eq!(store.pull_request_get(before.id).await.unwrap(), None);
    let record = |title: &str| PullRequestRecord {
        task: before.id,
        repo: before.spec.repo.clone(),
        url: "https://forge/1".into(),
        number: Some(1),
        title: title.into(),
        body: "b".into(),
        branch: before.branch.clone(),
        base_branch: "main".into(),
        head_sha: "h".into(),
        base_sha: "b".into(),
        diff_stat: "1 file changed".into(),
        created_at: at(2),
    };
    let gate = Command::OpenGate { attempt: A1, request_id: "r".into(), until: at(99) };
    let with = TaskChange { pull_request: Some(record("one")), ..change(&before, gate, at(2)) };
    let after = stored(store.task_change(with).await.unwrap());
    assert_eq!(store.pull_request_get(before.id).await.unwrap(), Some(record("one")));
    let with = TaskChange { pull_request: Some(record("two")), ..change(&after, cancel(), at(3)) };
    stored(store.task_change(with).await.unwrap());
    assert_eq!(store.pull_request_get(before.id).await.unwrap(), Some(record("two")));
}

pub(super) async fn counts_tell_states_apart(store: Store) {
    assert_eq!(store.task_counts(None).await.unwrap(), []);
    for (n, of) in [(1, "ann"), (2, "ann"), (3, "bob")] {
        accept(&store, task(n, of)).await;
    }
    let cancelled = accept(&store, task(4, "bob")).await;
    apply(&store, &cancelled, cancel(), at(5)).await;
    assert_eq!(store.task_counts(None).await.unwrap(), [(Status::Submitted, 3), (Status::Cancelled, 1)]);
    let bob = user("bob");
    assert_eq!(
        store.task_counts(Some(&bob)).await.unwrap(),
        [(Status::Submitted, 1), (Status::Cancelled, 1)]
    );
}

/// D-021: the wait was estimated by a constant.
pub(super) async fn durations_are_averaged(store: Store) {
    assert_eq!(store.mean_duration_s().await.unwrap(), None);
    let never_started = accept(&store, task(1, "ann")).await;
    apply(&store, &never_started, cancel(), at(500)).await;
    assert_eq!(store.mean_duration_s().await.unwrap(), None);
    for (n, seconds) in [(2, 10), (3, 20)] {
        let task = running(&store, n, "ann").await;
        apply(&store, &task, cancel(), at(i64::from(n) + seconds)).await;
    }
    running(&store, 4, "ann").await;
    assert_eq!(store.mean_duration_s().await.unwrap(), Some(15.0));
    // Only the last fifty count.
    for n in 100..150 {
        let task = running(&store, n, "ann").await;
        apply(&store, &task, cancel(), at(i64::from(n) + 4)).await;
    }
    assert_eq!(store.mean_duration_s().await.unwrap(), Some(4.0));
}

pub(super) async fn readiness_is_told(store: Store) {
    store.check().await.unwrap();
    store.check().await.unwrap();
}
