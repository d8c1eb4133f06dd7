//! Those who watch one task share one reader of the store, and lose nothing by it.

use std::time::Duration;

use domain::TaskId;
use domain::event::{EventKind, NewEvent};
use serde_json::json;
use server::feed::{Feeds, LOOK_EVERY, Next, Watcher};
use store::{EventAppend, Store};
use tokio::time::Instant;

use crate::support::*;

/// Appends events of its box in one batch.
async fn says(world: &World, task: TaskId, keys: std::ops::Range<usize>, weight: usize) {
    let event = |n: usize| NewEvent {
        client_key: Some(n.to_string()),
        ..NewEvent::new(EventKind::AgentTurn, json!({ "turn": n, "text_preview": "x".repeat(weight) }))
    };
    let attempt = world.task(task).await.attempt;
    let now = world.orchestrator.now();
    let events = keys.map(event).collect();
    let append = EventAppend { task, attempt, events, attempt_limit: 1_000_000, now };
    let appended = world.orchestrator.store().events_append(append).await.unwrap();
    assert!(matches!(appended, store::Appended::Stored { .. }), "{appended:?}");
}

async fn to_the_end(mut watcher: Watcher, most: usize) -> Vec<u64> {
    let mut seen = Vec::new();
    loop {
        match watcher.next(most, None).await.unwrap() {
            Next::Events(told) => {
                assert!(!told.is_empty() && told.len() <= most);
                seen.extend(told.iter().map(|t| t.event.seq));
            }
            Next::Nothing => panic!("there is no deadline"),
            Next::Ended => return seen,
        }
        tokio::task::yield_now().await;
    }
}

fn counted(seen: &[u64]) -> bool {
    seen.iter().copied().eq(1..=seen.len() as u64)
}

/// D-027: each watcher cost reads.
#[tokio::test]
async fn a_hundred_watchers_cost_the_store_as_many_reads_as_one() {
    let world = World::new();
    let store = world.orchestrator.store();
    let id = world.submitted("x").await;
    let feeds = Feeds::new(store.clone());
    let mut watchers: Vec<_> = (0..100).map(|_| feeds.watch(id, 0)).collect();
    let soon = || Some(Instant::now() + Duration::from_secs(30));
    let before = store.event_reads();
    for watcher in &mut watchers {
        assert!(matches!(watcher.next(100, soon()).await.unwrap(), Next::Events(told) if told.len() == 1));
    }
    assert_eq!(store.event_reads() - before, 1, "who joins is told from the feed");
    const WAKES: usize = 20;
    let before = store.event_reads();
    for wake in 0..WAKES {
        // All of them wait when the event comes.
        let all = futures_util::future::join_all(watchers.iter_mut().map(|w| w.next(100, soon())));
        let (told, ()) = tokio::join!(all, async {
            tokio::task::yield_now().await;
            says(&world, id, wake..wake + 1, 1).await;
        });
        for next in told {
            assert!(matches!(next.unwrap(), Next::Events(told) if told.len() == 1));
        }
    }
    let reads = store.event_reads() - before;
    assert!(reads <= 2 * WAKES as u64, "{reads} reads for {WAKES} wakes of 100 watchers");
    world.cancel(id).await;
    let ends = watchers.into_iter().map(|w| to_the_end(w, 100));
    let ends = within(futures_util::future::join_all(ends)).await;
    assert!(ends.iter().all(|seen| *seen == [22]), "each sees the end, once");
    assert!(feeds.is_empty(), "nothing is kept for tasks that nobody watches");
}

#[tokio::test]
async fn slow_late_and_fast_watchers_see_every_event_once() {
    let dir = tempfile::tempdir().unwrap();
    for store in [Store::in_memory(), Store::open_sqlite(&dir.path().join("t.db")).await.unwrap()] {
        let world = World::on(store);
        let id = world.submitted("x").await;
        let feeds = Feeds::new(world.orchestrator.store().clone());
        // More than a feed keeps, of both kinds: many events, and heavy ones.
        let write = async {
            for batch in 0..20 {
                let weight = if batch % 5 == 0 { 20_000 } else { 10 };
                says(&world, id, batch * 50..(batch + 1) * 50, weight).await;
                tokio::task::yield_now().await;
            }
            world.cancel(id).await;
        };
        let late = async {
            while world.task(id).await.status().as_str() != "CANCELLED" {
                tokio::task::yield_now().await;
            }
            to_the_end(feeds.watch(id, 0), 100).await
        };
        let resumed = to_the_end(feeds.watch(id, 0), 7);
        let work = async {
            tokio::join!(
                write,
                to_the_end(feeds.watch(id, 0), 100),
                to_the_end(feeds.watch(id, 0), 3),
                late,
                resumed
            )
        };
        let ((), fast, slow, late, resumed) = within(work).await;
        for seen in [fast, slow, late, resumed] {
            assert!(counted(&seen) && seen.len() == 1_002, "{} events", seen.len());
        }
        assert_eq!(to_the_end(feeds.watch(id, 1_000), 100).await, [1_001, 1_002]);
        assert_eq!(to_the_end(feeds.watch(id, 1_002), 100).await, [0; 0], "at the end there is nothing");
    }
}

#[tokio::test]
async fn a_watcher_that_goes_away_while_it_reads_for_all_leaves_it_to_the_next() {
    let world = World::new();
    let id = world.submitted("x").await;
    let feeds = Feeds::new(world.orchestrator.store().clone());
    let mut stays = feeds.watch(id, 0);
    for n in 0..50 {
        let mut goes = feeds.watch(id, 0);
        // Polled once, then dropped, wherever that was.
        let _ = futures_util::poll!(std::pin::pin!(goes.next(100, None)));
        drop(goes);
        says(&world, id, n..n + 1, 1).await;
    }
    world.cancel(id).await;
    let mut seen = Vec::new();
    while let Next::Events(told) = within(stays.next(9, None)).await.unwrap() {
        seen.extend(told.iter().map(|t| t.event.seq));
    }
    assert!(counted(&seen) && seen.len() == 52);
}

#[tokio::test(start_paused = true)]
async fn what_another_process_wrote_is_found_by_one_look_for_all() {
    // Two stores of one database: what one writes, the other is not told.
    let database: std::sync::Arc<dyn store::Driver> =
        std::sync::Arc::new(store::memory::MemoryDriver::default());
    let world = World::on(Store::new(database.clone()));
    let other = Store::new(database);
    let id = world.submitted("x").await;
    let feeds = Feeds::new(other.clone());
    let mut watchers: Vec<_> = (0..10).map(|_| feeds.watch(id, 1)).collect();
    let all = watchers.iter_mut().map(|w| w.next(100, Some(Instant::now() + 4 * LOOK_EVERY)));
    let before = other.event_reads();
    let (told, ()) = tokio::join!(futures_util::future::join_all(all), says(&world, id, 0..1, 1));
    for next in told {
        assert!(matches!(next.unwrap(), Next::Events(told) if told[0].event.seq == 2));
    }
    assert!(other.event_reads() - before <= 10, "{} reads", other.event_reads() - before);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_without_news_is_an_answer() {
    let world = World::new();
    let id = world.submitted("x").await;
    let feeds = Feeds::new(world.orchestrator.store().clone());
    let mut watcher = feeds.watch(id, 1);
    let begun = Instant::now();
    let next = watcher.next(100, Some(begun + Duration::from_secs(12))).await.unwrap();
    assert!(matches!(next, Next::Nothing));
    assert_eq!(begun.elapsed().as_secs(), 12);
}
