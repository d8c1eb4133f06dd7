//! What was spent, by day.

use domain::money::{MicroUsd, TokenCount};
use domain::{Day, RepoRef};

use super::usage::call;
use super::*;

const DAY_S: i64 = 86_400;

fn all(from: i32, to: i32) -> Spending {
    Spending { from: Day(from), to: Day(to), user: None, repo: None }
}

fn on(task: &Task, id: &str, cost: Option<i64>, day: i64, model: &str) -> UsageRecord {
    let now = Timestamp::from_second(day * DAY_S + 17).unwrap();
    UsageRecord { now, model: model.into(), ..call(task, id, cost) }
}

/// Two users' calls on three days; one call is told twice, one has no price.
async fn fill(store: &Store) -> (Task, Task) {
    let ann = running(store, 1, "ann").await;
    let bob = running(store, 2, "bob").await;
    for usage in [
        on(&ann, "a", Some(5), 10, "m"),
        on(&ann, "a", Some(5), 10, "m"),
        on(&ann, "b", Some(7), 11, "n"),
        on(&ann, "c", None, 11, "m"),
        on(&bob, "d", Some(11), 11, "m"),
        on(&bob, "e", Some(13), 12, "m"),
    ] {
        store.usage_record(usage).await.unwrap();
    }
    (ann, bob)
}

pub(super) async fn days_add_up(store: Store) {
    let (ann, _) = fill(&store).await;
    let of_ann = Spending { user: Some(ann.user.clone()), ..all(10, 11) };
    let of_repo = Spending { repo: Some(ann.spec.repo.clone()), ..all(0, 99) };
    let elsewhere: RepoRef = "nobody/nothing".parse().unwrap();
    let of_none = Spending { repo: Some(elsewhere), ..all(0, 99) };
    let asked = vec![all(10, 12), all(11, 11), all(13, 99), of_ann, of_repo, of_none];
    let spent: Vec<i64> = store.spent(asked).await.unwrap().into_iter().map(|m| m.0).collect();
    assert_eq!(spent, [36, 18, 0, 12, 36, 0]);
    assert_eq!(store.spent(Vec::new()).await.unwrap(), Vec::<MicroUsd>::new());
}

pub(super) async fn reports_are_by_what_is_asked(store: Store) {
    let (_, bob) = fill(&store).await;
    let keys = |rows: Vec<UsageRow>| rows.into_iter().map(|r| (r.key, r.cost.0, r.calls)).collect::<Vec<_>>();
    let report = async |of: Spending, by| store.usage_report(of, by).await.unwrap();
    let row = |key: &str, cost, calls| (key.to_owned(), cost, calls);
    assert_eq!(keys(report(all(10, 12), UsageBy::User).await), [row("ann", 12, 3), row("bob", 24, 2)]);
    assert_eq!(keys(report(all(10, 12), UsageBy::Model).await), [row("m", 29, 4), row("n", 7, 1)]);
    assert_eq!(
        keys(report(all(11, 12), UsageBy::Day).await),
        [row("1970-01-12", 18, 3), row("1970-01-13", 13, 1)]
    );
    let of_bob = Spending { user: Some(bob.user.clone()), ..all(0, 99) };
    assert_eq!(keys(report(of_bob.clone(), UsageBy::Workflow).await), [row("coding/new-task-v1", 24, 2)]);
    assert_eq!(keys(report(of_bob, UsageBy::Repo).await), [row(&bob.spec.repo.to_string(), 24, 2)]);
    let whole = report(all(11, 11), UsageBy::Workflow).await;
    assert_eq!((whole[0].unpriced_calls, whole[0].calls), (1, 3));
    assert_eq!(whole[0].tokens, TokenCount { input: 30, output: 3, cache_read: 9, cache_write: 6 });
    assert_eq!(report(all(50, 60), UsageBy::User).await, Vec::<UsageRow>::new());
}
