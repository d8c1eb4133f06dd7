//! `GET /v1/usage`.

use std::time::Duration;

use domain::event::{EventKind, NewEvent};
use domain::money::{MicroUsd, TokenCount};
use domain::{Attempt, RepoRef, TaskId};
use serde_json::{Value, json};
use store::UsageRecord;

use crate::support::*;

async fn spend(world: &World, task: TaskId, call: &str, cost: Option<i64>, model: &str) {
    let usage = UsageRecord {
        call_id: call.into(),
        task,
        attempt: Attempt(1),
        model: model.into(),
        tokens: TokenCount { input: 100, output: 7, cache_read: 20, cache_write: 3 },
        cost: cost.map(MicroUsd),
        event: NewEvent::bare(EventKind::AgentCostUpdate),
        now: world.orchestrator.now(),
    };
    world.orchestrator.store().usage_record(usage).await.unwrap();
}

/// The owner spends on 2023-11-14 and the day after, somebody else on the day after.
async fn spent() -> World {
    let world = World::with_policy(|policy| {
        policy.budgets.soft_percent = 80;
        policy.budgets.user.month = Some(MicroUsd(10_000_000));
        policy.budgets.repos =
            [("octo/dog".into(), domain::budget::Caps { day: Some(MicroUsd(1)), month: None })].into();
    });
    let mine = world.submitted("a").await;
    let dog: RepoRef = "octo/dog".parse().unwrap();
    let other = world.submitted_by("bob", dog, "b").await;
    spend(&world, mine, "1", Some(1_500_000), "p/m").await;
    world.clock.advance(Duration::from_secs(86_400));
    spend(&world, mine, "2", Some(500_000), "p/n").await;
    spend(&world, mine, "3", None, "p/free").await;
    spend(&world, other, "4", Some(4_000_000), "p/m").await;
    world
}

fn rows(report: &Value) -> Vec<(String, f64, u64)> {
    let row = |r: &Value| {
        (r["key"].as_str().unwrap().to_owned(), r["cost_usd"].as_f64().unwrap(), r["calls"].as_u64().unwrap())
    };
    report["rows"].as_array().unwrap().iter().map(row).collect()
}

#[tokio::test]
async fn the_owner_sees_everybodys_usage_of_this_month() {
    let world = spent().await;
    let report = world.get("/v1/usage").await.data(200);
    insta::assert_json_snapshot!("usage", report);
}

#[tokio::test]
async fn rows_are_by_what_is_asked_and_only_of_what_is_asked() {
    let world = spent().await;
    let row = |key: &str, usd, calls| (key.to_owned(), usd, calls);
    let asked = async |query: &str| rows(&world.get(&format!("/v1/usage?{query}")).await.data(200));
    assert_eq!(asked("by=user").await, [row("bob", 4.0, 1), row("local-owner", 2.0, 3)]);
    assert_eq!(asked("by=repo").await, [row("octo/dog", 4.0, 1), row("octo/cat", 2.0, 3)]);
    assert_eq!(asked("by=workflow").await, [row("coding/new-task-v1", 6.0, 4)]);
    assert_eq!(asked("by=day").await, [row("2023-11-14", 1.5, 1), row("2023-11-15", 4.5, 3)]);
    assert_eq!(asked("by=day&from=2023-11-15&to=2023-11-15").await, [row("2023-11-15", 4.5, 3)]);
    assert_eq!(
        asked("by=model&user=local-owner").await,
        [row("p/m", 1.5, 1), row("p/n", 0.5, 1), row("p/free", 0.0, 1)]
    );
    assert_eq!(asked("repo=octo/dog").await, [row("p/m", 4.0, 1)]);
    assert_eq!(asked("from=2020-01-01&to=2020-12-31").await, []);
}

#[tokio::test]
async fn budgets_are_told_with_what_is_spent_of_them() {
    let world = spent().await;
    let report = world.get("/v1/usage?user=bob&repo=octo/dog").await.data(200);
    let expected = json!([
        { "scope": "user", "name": "bob", "period": "month", "spent_usd": 4.0, "soft_usd": 8.0, "hard_usd": 10.0,
          "renews_at": "2023-12-01T00:00:00.000Z" },
        { "scope": "repo", "name": "octo/dog", "period": "day", "spent_usd": 4.0, "soft_usd": 0.0, "hard_usd": 1e-6,
          "renews_at": "2023-11-16T00:00:00.000Z" },
    ]);
    assert_eq!(report["budgets"], expected);
}

#[tokio::test]
async fn abcas_clients_see_their_own_budget_of_the_month() {
    let world = spent().await;
    let budget = world.get("/v1/tasks?view=budget").await.json();
    let expected = json!({ "data": {
        "period": "2023-11", "resets_at": "2023-12-01T00:00:00.000Z", "configured": true, "spend_usd": 2.0,
        "monthly_limit_usd": 10.0, "remaining_usd": 8.0, "utilization_percent": 20.0,
        "hard_stop": true, "hard_stop_active": false,
    } });
    assert_eq!(budget, expected);

    let mine = world.submitted("more").await;
    spend(&world, mine, "5", Some(9_000_000), "p/m").await;
    let over = world.get("/v1/tasks?view=budget").await.data(200);
    assert_eq!((&over["remaining_usd"], &over["utilization_percent"]), (&json!(0.0), &json!(110.0)));
    assert_eq!(over["hard_stop_active"], true);

    let without = World::new();
    let mine = without.submitted("a").await;
    spend(&without, mine, "1", Some(1_500_000), "p/m").await;
    let free = without.get("/v1/tasks?view=budget").await.data(200);
    assert_eq!((&free["configured"], &free["spend_usd"]), (&json!(false), &json!(1.5)));
    for unknown in ["monthly_limit_usd", "remaining_usd", "utilization_percent"] {
        assert_eq!(free[unknown], Value::Null, "{unknown}");
    }
    let theirs = without.get_as(ANN, "/v1/tasks?view=budget").await.data(200);
    assert_eq!(theirs["spend_usd"], 0.0, "nobody sees what others spent");
    let message = without.get("/v1/tasks?view=tasks").await.error(400, "VALIDATION_ERROR");
    assert!(message.contains("view must be budget"), "{message}");
}

#[tokio::test]
async fn what_cannot_be_asked_is_told_by_its_field() {
    let world = World::new();
    for (query, words) in [
        ("from=yesterday", "from must be a day as YYYY-MM-DD"),
        ("to=2023-02-30", "to must be a day"),
        ("to=2023-2-3", "to must be a day"),
        ("from=2023-11-15&to=2023-11-14", "must not be after"),
        ("from=1900-01-01", "3660 days"),
        ("by=colour", "by must be one of user, repo, workflow, model, day"),
        ("repo=nonsense", "repo: "),
        ("colour=red", "colour"),
    ] {
        let message = world.get(&format!("/v1/usage?{query}")).await.error(400, "VALIDATION_ERROR");
        assert!(message.contains(words), "{query}: {message}");
    }
}
