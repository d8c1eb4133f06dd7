//! `long_record DATABASE COUNT`: writes one task with that many events, for `cargo xtask bench api`, and prints the
//! task's id, the ids of three events that have at least a hundred behind them (the first, the middle, a late one), and
//! the seconds that the writing took.

use std::path::PathBuf;
use std::time::Instant;

use domain::event::{EventKind, NewEvent};
use domain::{Attempt, Task, TaskId, TaskSpec, UserId};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use store::{EventAppend, EventCursor, EventQuery, NewTask, Store};

/// Events of one batch.
const BATCH: u64 = 500;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let (Some(database), Some(count)) = (words.next().map(PathBuf::from), words.next()) else {
        anyhow::bail!("long_record DATABASE COUNT");
    };
    let count: u64 = count.parse()?;
    let store = Store::open_sqlite(&database).await?;
    let begun: Timestamp = "2026-01-01T00:00:00Z".parse()?;
    let id = TaskId::from_parts(begun, 7);
    // A task that nobody will look at for a long time: it is not due.
    let task = Task {
        wake_at: Some(begun + SignedDuration::from_hours(24 * 365 * 100)),
        ..Task::new(id, UserId::new("local-owner"), "api", spec()?, begun)
    };
    let events = vec![NewEvent::bare(EventKind::TaskCreated)];
    store.task_create(NewTask { task, events, outbox: Vec::new(), idempotency: None }).await?;
    let writing = Instant::now();
    let mut written = 1;
    while written < count {
        let upto = count.min(written + BATCH);
        let events = (written..upto).map(event).collect();
        let now = begun + SignedDuration::from_millis(i64::try_from(written)?);
        let append =
            EventAppend { task: id, attempt: Attempt::NONE, events, attempt_limit: u64::MAX >> 1, now };
        let appended = store.events_append(append).await?;
        anyhow::ensure!(matches!(appended, store::Appended::Stored { .. }), "{appended:?}");
        written = upto;
    }
    let took = writing.elapsed();
    anyhow::ensure!(count > 200, "a record that short has no middle");
    print!("{id}");
    for after in [0, count / 2, count - 101] {
        let query = EventQuery { task: id, from: EventCursor::AfterSeq(after), limit: 1 };
        let found = store.events_read(query).await?;
        let found = found.first().ok_or_else(|| anyhow::anyhow!("no event after {after}"))?;
        print!(" {}", found.id);
    }
    println!(" {}", took.as_secs_f64());
    Ok(())
}

fn event(number: u64) -> NewEvent {
    let data =
        json!({ "turn": number / 4, "tool_name": "Bash", "content_preview": "test result: ok. 12 passed" });
    NewEvent { client_key: Some(number.to_string()), ..NewEvent::new(EventKind::AgentToolResult, data) }
}

fn spec() -> anyhow::Result<TaskSpec> {
    let spec =
        json!({ "repo": "octo/cat", "workflow": "coding/new-task-v1", "description": "A long record." });
    Ok(serde_json::from_value(spec)?)
}
