//! Budgets beyond the single task: users, repositories, the system; by day and month; calls that run at once.

use std::sync::Arc;
use std::time::Duration;

use axum::response::IntoResponse as _;
use domain::budget::{Caps, WhenExhausted};
use domain::event::{Event, EventKind};
use domain::money::Price;
use domain::state::QueueReason;
use domain::{
    Attachment, AttachmentKind, AttachmentSource, Budgets, MicroUsd, State, Status, TaskId, UserId,
};
use gateway::model::Kind;
use serde_json::{Value, json};
use store::{EventCursor, EventQuery};
use tokio::sync::Notify;

use crate::model::fake::{self, Fake};
use crate::world::*;

/// A call costs 1 dollar: 1,000,000 input tokens at a dollar a million. Output is free but for what is asked at most.
const DOLLAR: MicroUsd = MicroUsd(1_000_000);

fn price(output: f64) -> Price {
    Price {
        model: "*".into(),
        as_of: "2026-11-01".into(),
        input: 1.0,
        output,
        cache_read: None,
        cache_write: None,
    }
}

fn message() -> Value {
    json!({
        "id": "m", "type": "message", "role": "assistant", "model": "x", "stop_reason": "end_turn",
        "content": [{ "type": "text", "text": "ok" }],
        "usage": { "input_tokens": 1_000_000, "output_tokens": 0 },
    })
}

fn cap(day: i64, month: i64) -> Caps {
    let some = |n: i64| (n > 0).then_some(MicroUsd(n * DOLLAR.0));
    Caps { day: some(day), month: some(month) }
}

async fn world(budgets: Budgets, upstream: &Fake, output: f64) -> World {
    let provider = fake::provider(Kind::Anthropic, &upstream.url(""));
    World::priced(move |policy| policy.budgets = budgets, provider, price(output)).await
}

async fn ask(world: &World, me: &Boxed) -> Answer {
    let body = json!({ "max_tokens": 10, "messages": [{ "role": "user", "content": "hi" }] });
    world.call("POST", "/model/v1/messages", Some(&me.token), Some(body)).await
}

async fn events(world: &World, task: TaskId, kind: EventKind) -> Vec<Event> {
    let query = EventQuery { task, from: EventCursor::Start, limit: 1000 };
    let all = world.orchestrator.store().events_read(query).await.unwrap();
    all.into_iter().filter(|e| e.kind == kind).collect()
}

#[tokio::test]
async fn a_users_day_is_bounded_across_tasks_and_renews() {
    let upstream = Fake::start(|_, _| axum::Json(message()).into_response()).await;
    let budgets = Budgets { soft_percent: 50, user: cap(2, 0), ..Budgets::default() };
    let world = world(budgets, &upstream, 0.0).await;
    let (first, second) = (world.boxed().await, world.boxed().await);
    ask(&world, &first).await.json(200);
    ask(&world, &second).await.json(200);
    let refused = ask(&world, &first).await.json(402);
    assert_eq!(refused["error"]["type"], "budget_exceeded");
    let words = refused["error"]["message"].as_str().unwrap();
    assert!(words.contains("the budget of user ann for this day is used up: $2.0000 of $2.0000"), "{words}");
    assert!(words.contains("renews at 2023-11-15T00:00:00Z"), "{words}");

    // Told once each, in the task whose call saw it.
    let warned = events(&world, second.task, EventKind::BudgetWarning).await;
    assert_eq!(warned.len(), 1, "half of it was spent when the second task asked");
    let told = json!({
        "cost_usd": 1.0, "budget_usd": 2.0, "scope": "user", "name": "ann", "period": "day",
        "renews_at": "2023-11-15T00:00:00Z",
    });
    assert_eq!(warned[0].metadata, told);
    ask(&world, &first).await.json(402);
    assert_eq!(events(&world, first.task, EventKind::BudgetExceeded).await.len(), 1);
    assert_eq!(world.task(first.task).await.spent.calls, 1, "a refused call is not made");

    // A task that could not make one call is not given a box: it waits, and can be cancelled. What it names by address is
    // not fetched before (there is nothing at this one).
    let third = world.submitted().await;
    let attached = Attachment {
        kind: AttachmentKind::Url,
        filename: "build.log".into(),
        content_type: None,
        source: AttachmentSource::UrlFetch { url: "https://ci.example.com/build.log".into() },
    };
    let fourth = world.submitted_with(|spec| spec.attachments.push(attached)).await;
    for task in [third, fourth] {
        world.drive(task).await;
        let State::Queued { why: QueueReason::Budget { detail }, not_before, .. } =
            world.task(task).await.state
        else {
            panic!("{:?}", world.task(task).await)
        };
        assert!(detail.contains("user ann for this day is used up: $2.0000 of $2.0000"), "{detail}");
        assert_eq!(not_before.unwrap().to_string(), "2023-11-15T00:00:00Z");
    }
    let parked = events(&world, third, EventKind::TaskParked).await;
    assert_eq!((parked.len(), &parked[0].metadata["why"]), (1, &json!("budget")));
    assert!(parked[0].metadata["detail"].as_str().unwrap().contains("user ann"), "{parked:?}");
    world.cancel(fourth).await;
    assert_eq!(world.task(fourth).await.status(), Status::Cancelled);
    // While nothing is left, no look at it helps.
    world.orchestrator.budgets_raised().await;
    assert_eq!(world.task(third).await.status(), Status::Queued);
    world.clock.advance(Duration::from_secs(86_400));
    world.drive(third).await;
    assert_eq!(world.task(third).await.status(), Status::Hydrating, "{:?}", world.task(third).await);
    ask(&world, &first).await.json(200);
}

#[tokio::test]
async fn a_task_that_waits_for_a_budget_goes_on_when_a_server_starts_that_allows_more() {
    let upstream = Fake::start(|_, _| axum::Json(message()).into_response()).await;
    let world = world(Budgets { repo: cap(1, 0), ..Budgets::default() }, &upstream, 0.0).await;
    let first = world.boxed().await;
    ask(&world, &first).await.json(200);
    let waits = world.submitted().await;
    world.drive(waits).await;
    assert_eq!(world.task(waits).await.status(), Status::Queued);

    let richer = world.restarted(|policy| policy.budgets.repo = cap(2, 0));
    richer.budgets_raised().await;
    let task = world.task(waits).await;
    assert!(matches!(task.state, State::Queued { why: QueueReason::ConcurrencyLimit, .. }), "{task:?}");
    assert_eq!(events(&world, waits, EventKind::TaskResumed).await.len(), 1);
}

#[tokio::test]
async fn a_task_is_refused_where_that_is_wanted_or_where_its_own_budget_is_none() {
    let upstream = Fake::start(|_, _| axum::Json(message()).into_response()).await;
    let budgets = Budgets { user: cap(1, 0), when_exhausted: WhenExhausted::Refuse, ..Budgets::default() };
    let world = world(budgets, &upstream, 0.0).await;
    let first = world.boxed().await;
    ask(&world, &first).await.json(200);
    let second = world.submitted().await;
    world.drive(second).await;
    match world.task(second).await.state {
        State::Failed { failure, .. } => {
            assert_eq!(failure.code, domain::FailureCode::MaxBudget);
            assert!(failure.detail.contains("user ann"), "{}", failure.detail);
        }
        other => panic!("{other:?}"),
    }
}

/// D-082: there was no budget but of a task.
#[tokio::test]
async fn each_bound_stops_and_names_itself() {
    let named = |name: &str, caps: Caps| [(name.to_owned(), caps)].into();
    let cases = [
        (Budgets { task: Some(DOLLAR), ..Budgets::default() }, "the task's budget is used up"),
        (Budgets { user: cap(0, 1), ..Budgets::default() }, "user ann for this month"),
        (
            Budgets { user: cap(9, 9), users: named("ann", cap(1, 0)), ..Budgets::default() },
            "user ann for this day",
        ),
        (Budgets { repo: cap(1, 9), ..Budgets::default() }, "repository octo/cat for this day"),
        (
            Budgets { repos: named("octo/cat", cap(0, 1)), ..Budgets::default() },
            "repository octo/cat for this month",
        ),
        (Budgets { system: cap(1, 9), ..Budgets::default() }, "this server for this day"),
        (Budgets { system: cap(0, 1), ..Budgets::default() }, "this server for this month"),
    ];
    for (budgets, words) in cases {
        let upstream = Fake::start(|_, _| axum::Json(message()).into_response()).await;
        let world = world(budgets, &upstream, 0.0).await;
        let me = world.boxed().await;
        ask(&world, &me).await.json(200);
        let refused = ask(&world, &me).await.json(402);
        let said = refused["error"]["message"].as_str().unwrap();
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[tokio::test]
async fn the_money_of_other_users_and_repositories_is_not_counted() {
    let upstream = Fake::start(|_, _| axum::Json(message()).into_response()).await;
    let named = |name: &str, caps: Caps| [(name.to_owned(), caps)].into();
    let budgets =
        Budgets { users: named("bob", cap(1, 1)), repos: named("octo/dog", cap(1, 1)), ..Budgets::default() };
    let world = world(budgets, &upstream, 0.0).await;
    let me = world.boxed().await;
    for _ in 0..3 {
        ask(&world, &me).await.json(200);
    }
    let shared = world.orchestrator.budgets_shared(&UserId::new("bob"), None).await.unwrap();
    assert!(!shared.is_empty() && shared.iter().all(|row| row.spent == MicroUsd::ZERO), "{shared:?}");
}

/// D-082: there was no budget but of a task.
#[tokio::test]
async fn calls_at_once_do_not_spend_the_same_dollar() {
    // Each may cost 10 output tokens at 100,000 dollars a million: a dollar, half of what there is.
    let gate = Arc::new(Notify::new());
    let open = gate.clone();
    let upstream = Fake::start(move |_, _| fake::gated_json(message(), open.clone())).await;
    let budgets = Budgets { task: Some(MicroUsd(2 * DOLLAR.0)), ..Budgets::default() };
    let world = Arc::new(world(budgets, &upstream, 100_000.0).await);
    let me = world.boxed().await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (world, me) = (world.clone(), me.clone());
        calls.spawn(async move { ask(&world, &me).await.status.as_u16() });
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let begun = |n: usize| upstream.requests().iter().filter(|r| r.path.ends_with("/messages")).count() >= n;
    let mut answered = Vec::new();
    while answered.len() < 8 {
        assert!(tokio::time::Instant::now() < deadline, "{answered:?}");
        tokio::select! {
            Some(status) = calls.join_next() => answered.push(status.unwrap()),
            () = tokio::time::sleep(Duration::from_millis(5)) => {
                if begun(answered.len() + 1) {
                    gate.notify_one();
                }
            }
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, [200, 200, 402, 402, 402, 402, 402, 402], "two dollars are two calls");
    assert_eq!(world.task(me.task).await.spent.cost, MicroUsd(2 * DOLLAR.0));
}
