//! The event log.

use super::*;
use crate::StoreError;

fn append(task: &Task, events: Vec<NewEvent>) -> EventAppend {
    EventAppend { task: task.id, attempt: task.attempt, events, attempt_limit: 1_000, now: at(50) }
}

const fn new(stored: u32, duplicates: u32) -> Appended {
    Appended::Stored { stored, duplicates }
}

async fn sound(store: &Store, task: TaskId) -> Vec<Event> {
    let events = log(store, task).await;
    for (index, event) in events.iter().enumerate() {
        assert_eq!((event.seq, event.task), (index as u64 + 1, task));
    }
    assert!(events.windows(2).all(|two| two[0].id < two[1].id), "ids rise");
    events
}

pub(super) async fn numbers_have_no_holes(store: Store) {
    let task = running(&store, 1, "ann").await;
    let before = sound(&store, task.id).await.len();
    assert_eq!(store.events_append(append(&task, keys(["a", "b"]))).await.unwrap(), new(2, 0));
    // A refused batch, a resend and a lost change leave no hole.
    assert_eq!(store.events_append(append(&task, keys(["b", "c", "c"]))).await.unwrap(), new(1, 2));
    let old = Task { version: task.version - 1, ..task.clone() };
    assert!(matches!(store.task_change(change(&old, cancel(), at(51))).await.unwrap(), Changed::Lost(_)));
    apply(&store, &task, cancel(), at(52)).await;
    let events = sound(&store, task.id).await;
    let said: Vec<_> = events[before..].iter().filter_map(|e| e.metadata["key"].as_str()).collect();
    assert_eq!(said, ["a", "b", "c"]);
    assert_eq!(events.len(), before + 4);
    assert_eq!(events[before].at, at(50));
}

/// D-023: an event could land behind a cursor.
pub(super) async fn concurrent_appends_are_numbered_without_holes(store: Store) {
    let task = running(&store, 1, "ann").await;
    let before = log(&store, task.id).await.len();
    let answers = at_once((0..16).map(|n| {
        let store = store.clone();
        let batches: Vec<_> =
            (0..5).map(|k| append(&task, said((0..3).map(|i| format!("{n}-{k}-{i}"))))).collect();
        async move {
            for batch in batches {
                assert_eq!(store.events_append(batch.clone()).await.unwrap(), new(3, 0));
                assert_eq!(store.events_append(batch).await.unwrap(), new(0, 3));
            }
        }
    }))
    .await;
    assert_eq!(answers.len(), 16);
    let events = sound(&store, task.id).await;
    assert_eq!(events.len(), before + 16 * 5 * 3);
    // A batch stays together and in order.
    for three in events[before..].chunks(3) {
        let key = |i: usize| three[i].metadata["key"].as_str().unwrap().to_owned();
        let stem = key(0).trim_end_matches('0').to_owned();
        assert_eq!((key(1), key(2)), (format!("{stem}1"), format!("{stem}2")));
    }
}

/// D-023: an event could land behind a cursor.
pub(super) async fn ids_rise_even_when_the_clock_falls(store: Store) {
    let task = running(&store, 1, "ann").await;
    for (n, second) in [50, 40, 40, 50, 51, 0].into_iter().enumerate() {
        let batch =
            EventAppend { now: at(second), ..append(&task, said([format!("a{n}"), format!("b{n}")])) };
        assert_eq!(store.events_append(batch).await.unwrap(), new(2, 0));
    }
    let events = sound(&store, task.id).await;
    let last = events.last().unwrap();
    assert_eq!(last.at, at(0), "the time is the clock's, the order is the log's");
    assert!(last.id.millis() >= 1_700_000_051_000);
}

pub(super) async fn a_resend_is_dropped(store: Store) {
    let task = running(&store, 1, "ann").await;
    let batch = append(&task, keys(["a", "b"]));
    assert_eq!(store.events_append(batch.clone()).await.unwrap(), new(2, 0));
    let events = log(&store, task.id).await;
    assert_eq!(store.events_append(batch).await.unwrap(), new(0, 2));
    assert_eq!(store.events_append(append(&task, Vec::new())).await.unwrap(), new(0, 0));
    assert_eq!(log(&store, task.id).await, events);
    // Without a key nothing can be known again.
    let bare = || append(&task, vec![NewEvent::bare(EventKind::AgentMilestone)]);
    assert_eq!(store.events_append(bare()).await.unwrap(), new(1, 0));
    assert_eq!(store.events_append(bare()).await.unwrap(), new(1, 0));
}

/// Parks a running task and admits it again: its next attempt.
async fn next_attempt(store: &Store, task: &Task) -> Task {
    let parked = Command::Park { why: domain::state::QueueReason::Paused, not_before: None };
    let task = apply(store, task, parked, at(60)).await;
    let task = apply(store, &task, Command::PickUp, at(61)).await;
    apply(store, &task, Command::Admit, at(62)).await
}

pub(super) async fn keys_are_of_an_attempt(store: Store) {
    let first = running(&store, 1, "ann").await;
    let other = running(&store, 2, "ann").await;
    assert_eq!(store.events_append(append(&first, keys(["a"]))).await.unwrap(), new(1, 0));
    assert_eq!(store.events_append(append(&other, keys(["a"]))).await.unwrap(), new(1, 0));
    let second = next_attempt(&store, &first).await;
    assert_eq!(store.events_append(append(&second, keys(["a"]))).await.unwrap(), new(1, 0));
}

pub(super) async fn only_the_current_attempt_speaks(store: Store) {
    let first = running(&store, 1, "ann").await;
    let second = next_attempt(&store, &first).await;
    let events = log(&store, first.id).await;
    for attempt in [Attempt(0), Attempt(1), Attempt(3)] {
        let late = EventAppend { attempt, ..append(&first, keys(["x"])) };
        assert_eq!(store.events_append(late).await.unwrap(), Appended::Superseded);
    }
    apply(&store, &second, cancel(), at(70)).await;
    assert_eq!(store.events_append(append(&second, keys(["y"]))).await.unwrap(), Appended::Superseded);
    assert_eq!(log(&store, first.id).await.len(), events.len() + 1);
    let ghost = store.events_append(append(&super::task(9, "ann"), keys(["z"]))).await;
    assert!(matches!(ghost, Err(StoreError::NoSuchTask(_))));
}

pub(super) async fn a_flood_is_cut_off_once(store: Store) {
    let task = running(&store, 1, "ann").await;
    let before = log(&store, task.id).await.len();
    let limited = |keys| EventAppend { attempt_limit: 3, ..append(&task, keys) };
    assert_eq!(store.events_append(limited(keys(["a", "b"]))).await.unwrap(), new(2, 0));
    assert_eq!(store.events_append(limited(keys(["c", "d", "e"]))).await.unwrap(), Appended::LimitReached);
    assert_eq!(store.events_append(limited(keys(["f"]))).await.unwrap(), Appended::LimitReached);
    // What was stored is still known.
    assert_eq!(store.events_append(limited(keys(["a", "c"]))).await.unwrap(), new(0, 2));
    let events = sound(&store, task.id).await;
    let kinds: Vec<_> = events[before..].iter().map(|e| e.kind).collect();
    use EventKind::{AgentMilestone, EventsDropped};
    assert_eq!(kinds, [AgentMilestone, AgentMilestone, AgentMilestone, EventsDropped]);
    assert_eq!(events.last().unwrap().metadata["limit"], 3);
}

pub(super) async fn a_new_attempt_may_speak_again(store: Store) {
    let first = running(&store, 1, "ann").await;
    let limited = |task: &Task, keys| EventAppend { attempt_limit: 1, ..append(task, keys) };
    assert_eq!(store.events_append(limited(&first, keys(["a", "b"]))).await.unwrap(), Appended::LimitReached);
    let second = next_attempt(&store, &first).await;
    assert_eq!(store.events_append(limited(&second, keys(["a"]))).await.unwrap(), new(1, 0));
    assert_eq!(store.events_append(limited(&second, keys(["b"]))).await.unwrap(), Appended::LimitReached);
    let dropped = log(&store, first.id).await.iter().filter(|e| e.kind == EventKind::EventsDropped).count();
    assert_eq!(dropped, 2);
}

pub(super) async fn every_cursor_reads_on(store: Store) {
    let task = running(&store, 1, "ann").await;
    store.events_append(append(&task, said((0..20).map(|n| n.to_string())))).await.unwrap();
    let all = log(&store, task.id).await;
    let read = async |from, limit| {
        let events = store.events_read(EventQuery { task: task.id, from, limit }).await.unwrap();
        events.iter().map(|e| e.seq).collect::<Vec<_>>()
    };
    let last = all.len() as u64;
    assert_eq!(read(EventCursor::Start, 3).await, [1, 2, 3]);
    assert_eq!(read(EventCursor::Newest, 2).await, [last, last - 1]);
    assert_eq!(read(EventCursor::AfterSeq(last), 9).await, [0_u64; 0]);
    assert_eq!(read(EventCursor::AfterSeq(u64::MAX), 9).await, [0_u64; 0]);
    for event in &all {
        let rest: Vec<_> = (event.seq + 1..=last).collect();
        assert_eq!(read(EventCursor::AfterSeq(event.seq), 100).await, rest);
        assert_eq!(read(EventCursor::AfterId(event.id), 100).await, rest);
        // An id that is nobody's stands between its neighbours.
        let just_before = domain::EventId::from_bits(event.id.bits() - 1);
        let before = all.iter().filter(|e| e.id <= just_before).count() as u64;
        assert_eq!(read(EventCursor::AfterId(just_before), 1).await, [before + 1]);
    }
    assert_eq!(read(EventCursor::AfterId(domain::EventId::from_bits(0)), 1).await, [1]);
    assert_eq!(read(EventCursor::AfterId(domain::EventId::from_bits(u128::MAX)), 1).await, [0_u64; 0]);
    let ghost = EventQuery { task: TaskId::from_bits(1), from: EventCursor::AfterId(all[0].id), limit: 9 };
    assert_eq!(store.events_read(ghost).await.unwrap(), []);
}
