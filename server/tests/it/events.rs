//! `GET /v1/tasks/{id}/events`.

use std::time::Duration;

use serde_json::{Value, json};
use store::Store;
use tokio::time::Instant;

use crate::support::*;

/// A task with `n` events of its box after those of its making.
async fn task_with(world: &World, n: usize) -> String {
    let id = world.submitted("fix it").await;
    for number in 0..n {
        world.says(id, &format!("e{number}")).await;
    }
    format!("/v1/tasks/{id}/events")
}

#[tokio::test]
async fn the_record_of_a_task_from_start_to_end() {
    let world = World::new();
    let source = source().await;
    let id = world.running(&source, "fix it").await;
    world.completed(&source, id).await;
    let events = world.get(&format!("/v1/tasks/{id}/events")).await.data(200);
    insta::with_settings!({ filters => vec![
        (r"[0-9A-HJKMNP-TV-Z]{26}", "[id]"), (r"\b[0-9a-f]{40}\b", "[commit]"), (r#"/[^" ]*\.git"#, "[mirror]"),
    ]}, {
        insta::assert_json_snapshot!("events", events);
    });
    let numbers: Vec<u64> = events.as_array().unwrap().iter().map(|e| e["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "numbers have no holes");
}

/// D-024: a cursor in lower case found nothing.
#[tokio::test]
async fn defect_11_a_cursor_reads_on_in_either_case_and_stops_at_the_end() {
    let world = World::new();
    let path = task_with(&world, 5).await;
    let all = world.get(&path).await;
    let ids: Vec<Value> = all.column("event_id");
    for (n, id) in ids.iter().enumerate() {
        let id = id.as_str().unwrap();
        for id in [id.to_owned(), id.to_lowercase()] {
            let rest = world.get(&format!("{path}?after={id}")).await;
            assert_eq!(rest.column("event_id"), ids[n + 1..], "after {id}");
            assert_eq!(rest.json()["pagination"], json!({ "next_token": null, "has_more": false }));
        }
    }
    assert_eq!(world.get(&format!("{path}?after=")).await.column("event_id"), ids, "empty is absent");
}

/// D-023: an event could land behind a cursor.
#[tokio::test]
async fn defect_11_an_event_never_lands_behind_a_cursor() {
    let world = World::new();
    let path = task_with(&world, 1).await;
    let id = path.split('/').nth(3).unwrap().parse().unwrap();
    let mut last = world.get(&path).await.column("event_id").pop().unwrap();
    for round in 0..50 {
        // The clock stands still, as two writers in one millisecond.
        world.says(id, &format!("r{round}")).await;
        let new = world.get(&format!("{path}?after={}", last.as_str().unwrap())).await.column("event_id");
        assert_eq!(new.len(), 1, "round {round}");
        assert!(new[0].as_str() > last.as_str());
        last = new[0].clone();
    }
}

#[tokio::test]
async fn cursors_of_another_task_and_nonsense_are_told() {
    let world = World::new();
    let path = task_with(&world, 3).await;
    let other = task_with(&world, 3).await;
    let strange = world.get(&other).await.column("event_id")[1].as_str().unwrap().to_owned();
    for after in [
        strange.as_str(),
        "x",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "00000000000000000000000000",
        "7ZZZZZZZZZZZZZZZZZZZZZZZZZ",
    ] {
        let message = world.get(&format!("{path}?after={after}")).await.error(400, "VALIDATION_ERROR");
        assert!(message.contains("after"), "{message}");
    }
    let token = world.get(&format!("{other}?limit=1")).await.next_token().unwrap();
    for token in [token.as_str(), "1", "x.y", "99.00000000000000000000000000000000"] {
        let message = world.get(&format!("{path}?next_token={token}")).await.error(400, "VALIDATION_ERROR");
        assert!(message.contains("next_token"), "{message}");
    }
    let mine = world.get(&path).await.column("event_id")[0].as_str().unwrap().to_owned();
    for bad in [
        format!("desc=1&after={mine}"),
        format!("desc=true&after={mine}"),
        "wait=x".into(),
        "wait=99999999999999999999999".into(),
        "wait=-1".into(),
        "wait=1.5".into(),
        "since=1".into(),
    ] {
        world.get(&format!("{path}?{bad}")).await.error(400, "VALIDATION_ERROR");
    }
}

#[tokio::test]
async fn pages_follow_each_other_and_the_newest_come_first_when_asked() {
    let world = World::new();
    let path = task_with(&world, 130).await;
    let mut all = Vec::new();
    let mut next = format!("{path}?limit=7");
    loop {
        let page = world.get(&next).await;
        all.extend(page.column("seq"));
        let Some(token) = page.next_token() else { break };
        assert_eq!(page.column("seq").len(), 7);
        next = format!("{path}?limit=7&next_token={token}");
    }
    let count = all.len() as u64;
    assert_eq!(all, (1..=count).map(Value::from).collect::<Vec<_>>());
    for (query, rows) in [
        ("", 50),
        ("?limit=0", 50),
        ("?limit=x", 50),
        ("?limit=1", 1),
        ("?limit=100", 100),
        ("?limit=1000", 100),
    ] {
        assert_eq!(world.get(&format!("{path}{query}")).await.column("seq").len(), rows, "{query}");
    }
    for newest in ["desc=1", "desc=true"] {
        let page = world.get(&format!("{path}?{newest}&limit=3")).await;
        assert_eq!(page.column("seq"), [count, count - 1, count - 2].map(Value::from));
        assert_eq!(page.next_token(), None, "a token does not carry the direction");
    }
    assert_eq!(world.get(&format!("{path}?desc=0&limit=1")).await.column("seq"), [Value::from(1)]);
    // after wins over next_token.
    let first = world.get(&format!("{path}?limit=2")).await;
    let (id, token) = (first.column("event_id")[0].clone(), first.next_token().unwrap());
    let page = world.get(&format!("{path}?after={}&next_token={token}&limit=1", id.as_str().unwrap())).await;
    assert_eq!(page.column("seq"), [Value::from(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_answers_when_an_event_comes_and_not_before() {
    let world = World::new();
    let path = task_with(&world, 1).await;
    let id = path.split('/').nth(3).unwrap().parse().unwrap();
    let last = world.get(&path).await.column("event_id").pop().unwrap();
    let poll = format!("{path}?after={}&wait=30", last.as_str().unwrap());
    let begin = Instant::now();
    let (answer, ()) = tokio::join!(world.get(&poll), async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        world.says(id, "news").await;
    });
    assert_eq!(answer.column("metadata")[0]["text"], "news");
    assert_eq!(begin.elapsed().as_secs(), 7, "it answered at the moment of the event");
    let begin = Instant::now();
    let last = answer.column("event_id").pop().unwrap();
    let empty = world.get(&format!("{path}?after={}&wait=3", last.as_str().unwrap())).await;
    assert_eq!((empty.column("seq").len(), empty.next_token()), (0, None));
    assert_eq!(begin.elapsed().as_secs(), 3);
    // More than the most is the most; the end of the task ends the wait.
    let begin = Instant::now();
    let most = format!("{path}?after={}&wait=4000", last.as_str().unwrap());
    world.get(&most).await.data(200);
    assert_eq!(begin.elapsed().as_secs(), 30);
    let begin = Instant::now();
    let (answer, ()) = tokio::join!(world.get(&most), world.cancel(id));
    assert_eq!(answer.column("event_type"), ["task_cancelled"]);
    let last = answer.column("event_id").pop().unwrap();
    assert_eq!(
        world.get(&format!("{path}?after={}&wait=30", last.as_str().unwrap())).await.column("seq").len(),
        0
    );
    assert_eq!(begin.elapsed(), Duration::ZERO, "nothing can come after the end, so nobody waits for it");
}

/// D-025: a poller lost events.
#[tokio::test]
async fn a_poller_loses_and_doubles_nothing_while_events_are_appended() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::on(Store::open_sqlite(&dir.path().join("t.db")).await.unwrap());
    let id = world.submitted("x").await;
    let path = format!("/v1/tasks/{id}/events");
    let write = async {
        for n in 0..100 {
            world.says(id, &format!("e{n}")).await;
        }
        world.cancel(id).await;
    };
    let read = async {
        let (mut seen, mut query) = (Vec::new(), "wait=30&limit=3".to_owned());
        loop {
            let page = world.get(&format!("{path}?{query}")).await;
            seen.extend(page.column("seq"));
            if page.column("event_type").last().is_some_and(|t| t == "task_cancelled") {
                return seen;
            }
            if let Some(last) = page.column("event_id").last() {
                query = format!("wait=30&limit=3&after={}", last.as_str().unwrap());
            }
        }
    };
    let (seen, ()) = within(async { tokio::join!(read, write) }).await;
    assert_eq!(seen, (1..=seen.len() as u64).map(Value::from).collect::<Vec<_>>());
    assert!(seen.len() > 100);
}
