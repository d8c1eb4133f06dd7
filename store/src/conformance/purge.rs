//! Forgetting.

use domain::steer::Nudge;
use domain::{ApiKeyId, NudgeId, Role};

use super::usage::call;
use super::*;

/// A task of `user` that ended at `ended`, with everything that a task can have.
async fn ended(store: &Store, n: u32, user: &str, ended: i64) -> Task {
    let task = running(store, n, user).await;
    store.usage_record(call(&task, &format!("c{n}"), Some(5))).await.unwrap();
    store.nudge_add(nudge(&task, n, at(3))).await.unwrap();
    apply(store, &task, cancel(), at(ended)).await;
    // What it owes is met.
    for owed in store.obligation_list().await.unwrap() {
        store.obligation_done(owed.id).await.unwrap();
    }
    get(store, task.id).await
}

fn nudge(task: &Task, n: u32, now: Timestamp) -> NewNudge {
    NewNudge {
        id: NudgeId::from_bits(n.into()),
        task: task.id,
        by: task.user.clone(),
        text: "x".into(),
        per_minute: 10,
        now,
    }
}

/// D-041: what was stranded never expired.
pub(super) async fn only_what_is_over_is_purged(store: Store) {
    let old = ended(&store, 1, "ann", 10).await;
    let newer = ended(&store, 2, "bob", 20).await;
    let live = running(&store, 3, "ann").await;
    let owing = running(&store, 4, "ann").await;
    apply(&store, &owing, cancel(), at(5)).await;
    assert!(!store.obligation_list().await.unwrap().is_empty(), "its box is still to be stopped");

    let expired = async |before: i64, user: Option<&str>, limit| {
        let user = user.map(UserId::new);
        store.tasks_expired(at(before), user.as_ref(), limit).await.unwrap()
    };
    assert_eq!(expired(10, None, 9).await, []);
    assert_eq!(expired(11, None, 9).await, [old.id]);
    assert_eq!(expired(99, None, 9).await, [old.id, newer.id], "the longest over come first");
    assert_eq!(expired(99, None, 1).await, [old.id]);
    assert_eq!(expired(99, Some("bob"), 9).await, [newer.id]);
    for (task, purged) in [(old.id, true), (old.id, false), (live.id, false), (owing.id, false)] {
        assert_eq!(store.task_purge(task).await.unwrap(), purged, "{task}");
    }
    assert_eq!(store.task_get(old.id).await.unwrap(), None);
    assert_eq!(store.nudge_list(old.id).await.unwrap(), Vec::<Nudge>::new());
    assert_eq!(store.nudge_list(newer.id).await.unwrap().len(), 1);
    assert!(store.task_get(live.id).await.unwrap().is_some());
    let day = domain::Day::of(at(50));
    let of = Spending { from: day, to: day, user: None, repo: None };
    assert_eq!(store.spent(vec![of]).await.unwrap()[0].0, 10, "sums outlive their tasks");
}

fn key(n: u32, user: &str, revoked: Option<i64>) -> ApiKeyRecord {
    ApiKeyRecord {
        id: ApiKeyId::from_bits(n.into()),
        user: UserId::new(user),
        role: Role::Member,
        revoked_at: revoked.map(at),
        ..super::access::key(n, user)
    }
}

pub(super) async fn what_is_kept_for_less_is_forgotten_earlier(store: Store) {
    let over = ended(&store, 1, "ann", 10).await;
    let live = running(&store, 2, "ann").await;
    store.nudge_add(nudge(&live, 7, at(3))).await.unwrap();
    for (n, revoked) in [(1, None), (2, Some(10)), (3, Some(30))] {
        store.api_key_create(key(n, "ann", revoked)).await.unwrap();
    }
    let expired =
        Expired { nudges_before: at(20), revoked_before: at(20), audit_before: Timestamp::UNIX_EPOCH };
    let forgotten = store.forget_expired(expired.clone()).await.unwrap();
    assert_eq!((forgotten.nudges, forgotten.keys, forgotten.webhooks), (1, 1, 0));
    assert_eq!(store.forget_expired(expired).await.unwrap(), Forgotten::default());
    assert!(store.nudge_list(over.id).await.unwrap().is_empty());
    assert_eq!(store.nudge_list(live.id).await.unwrap().len(), 1, "a task that lives keeps its own");
}

pub(super) async fn a_user_is_erased_after_their_tasks(store: Store) {
    let task = ended(&store, 1, "ann", 10).await;
    let other = ended(&store, 2, "bob", 10).await;
    store.api_key_create(key(1, "ann", None)).await.unwrap();
    let ann = UserId::new("ann");
    assert!(!store.user_erase(&ann).await.unwrap(), "she has a task");
    assert!(store.task_purge(task.id).await.unwrap());
    assert!(store.user_erase(&ann).await.unwrap());
    assert!(store.api_key_get(ApiKeyId::from_bits(1)).await.unwrap().is_none());
    let day = domain::Day::of(at(50));
    let of = Spending { from: day, to: day, user: None, repo: None };
    let rows = store.usage_report(of, UsageBy::User).await.unwrap();
    let keys: Vec<_> = rows.iter().map(|row| (row.key.as_str(), row.calls)).collect();
    assert_eq!(keys, [(ERASED, 1), ("bob", 1)]);
    assert!(store.task_get(other.id).await.unwrap().is_some());
    assert!(store.user_erase(&UserId::new("nobody")).await.unwrap(), "nothing to erase is no error");
}
