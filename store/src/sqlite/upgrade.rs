//! Databases of every schema there was, each with a task that runs, opened by this version.
//!
//! A database of a schema is made as its version made it: the migrations up to it, and the rows in `recorded/`, each file
//! as a version wrote it that knew that migration and no later one. They are never edited. A new migration whose tables
//! tasks that run have rows in brings a file of its own.

use domain::event::{EventKind, NewEvent};
use domain::lost::Lost;
use domain::money::TokenCount;
use domain::state::State;
use domain::steer::AnswerSource;
use domain::transition::Slots;
use domain::{AskId, Change, Command, Day, Failure, FailureCode, NudgeId};

use super::*;

/// What a version had stored, by the last migration it knew.
const ROWS: &[(&str, &str)] = &[
    ("0001_init", include_str!("recorded/0001_init.sql")),
    ("0010_steer", include_str!("recorded/0010_steer.sql")),
    ("0020_access", include_str!("recorded/0020_access.sql")),
    ("0030_trace", include_str!("recorded/0030_trace.sql")),
    ("0060_usage_day", include_str!("recorded/0060_usage_day.sql")),
];

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn task(n: u128) -> TaskId {
    TaskId::from_bits(0x018b_cfe5_6800_0000_0000_0000_0000_0000 + n)
}

/// A database as the version left it that knew the first `count` migrations.
fn recorded(path: &Path, count: usize) {
    schema::make_as_of(path, count).unwrap();
    let db = Connection::open(path).unwrap();
    for (name, _) in &schema::MIGRATIONS[..count] {
        if let Some((_, rows)) = ROWS.iter().find(|(of, _)| of == name) {
            db.execute_batch(&format!("BEGIN; {rows} COMMIT;")).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
}

#[test]
fn every_recorded_file_is_of_a_migration() {
    for (name, rows) in ROWS {
        assert!(schema::MIGRATIONS.iter().any(|(of, _)| of == name), "{name}");
        assert!(rows.starts_with("-- "), "{name} says what it is");
    }
}

#[tokio::test]
async fn a_database_of_every_schema_is_carried_on_with_its_tasks_running() {
    for count in 1..=schema::MIGRATIONS.len() {
        let name = schema::MIGRATIONS[count - 1].0;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bgagent.db");
        recorded(&path, count);
        let driver = SqliteDriver::open(&path).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(snapshot::problems(&path).unwrap(), Vec::<String>::new(), "{name}");
        what_was_stored_is_there(&driver, name, count).await;
        it_goes_on(&driver, name).await;
        drop(driver);
        assert_eq!(snapshot::problems(&path).unwrap(), Vec::<String>::new(), "{name}, after all of it");
        SqliteDriver::open(&path).await.unwrap_or_else(|e| panic!("{name}, once more: {e}"));
    }
}

async fn what_was_stored_is_there(driver: &SqliteDriver, name: &str, count: usize) {
    let running = driver.task_get(task(1)).await.unwrap().unwrap();
    assert_eq!(
        (running.status(), running.attempt, running.version),
        (Status::Running, Attempt(1), 6),
        "{name}"
    );
    let State::Running { session, .. } = &running.state else { panic!("{name}: {running:?}") };
    assert_eq!((session.task(), session.attempt()), (task(1), Attempt(1)), "{name}");
    assert_eq!((running.spent.cost, running.spent.calls), (MicroUsd(1_500), 2), "{name}");
    assert_eq!((running.losses.boxes, running.parked_s, running.leaving), (0, 0, None), "{name}");
    let log =
        driver.events_read(EventQuery { task: task(1), from: EventCursor::Start, limit: 99 }).await.unwrap();
    assert_eq!(log.len(), 7, "{name}");
    assert_eq!(log.last().unwrap().kind, EventKind::AgentTurn, "{name}");
    let record = driver.session_get(task(1), Attempt(1)).await.unwrap().unwrap();
    assert_eq!(
        (record.instance.as_deref(), record.stage.as_deref()),
        (Some("worker1"), Some("agent")),
        "{name}"
    );
    let pull = driver.pull_request_get(task(2)).await.unwrap().unwrap();
    assert_eq!(pull.url, "https://github.com/octo/cat/pull/1", "{name}");
    assert!(driver.idempotency_known(&UserId::new("ann"), "the-key").await.unwrap(), "{name}");
    assert_eq!(driver.slot_list().await.unwrap().len(), 3, "{name}");
    assert_eq!(driver.queue_position(task(3)).await.unwrap(), Some(1), "{name}");
    assert_eq!(driver.obligation_list().await.unwrap().len(), 1, "{name}");
    let all = Spending { from: Day(0), to: Day(99_999), user: None, repo: None };
    assert_eq!(driver.spent(vec![all.clone()]).await.unwrap(), [MicroUsd(1_500)], "{name}: summed up once");
    for by in UsageBy::ALL {
        let rows = driver.usage_report(all.clone(), *by).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.calls).sum::<u64>(), 2, "{name} by {}", by.as_str());
    }
    let since = |migration: &str| schema::MIGRATIONS[..count].iter().any(|(name, _)| *name == migration);
    let nudges = driver.nudge_list(task(1)).await.unwrap();
    assert_eq!(nudges.len(), if since("0010_steer") { 2 } else { 0 }, "{name}");
    if since("0010_steer") {
        let paused = driver.task_get(task(4)).await.unwrap().unwrap();
        assert_eq!((paused.parked_s, paused.retry_of), (120, Some(task(2))), "{name}");
    }
    let keys = OwnedFilter { user: None, revoked: Revoked::Shown, before: None, limit: 9 };
    assert_eq!(
        driver.access().api_key_list(keys).await.unwrap().len(),
        usize::from(since("0020_access")),
        "{name}"
    );
    assert_eq!(driver.trace_get(task(2)).await.unwrap().is_some(), since("0030_trace"), "{name}");
    assert_eq!(
        driver.task_counts(None).await.unwrap().iter().map(|(_, n)| n).sum::<u64>(),
        3 + u64::from(since("0010_steer")),
        "{name}"
    );
}

/// The life of the task that runs, in the hands of this version: its box speaks, is spoken to, is lost and replaced; the
/// next one reports, and the task ends. One that waits gets the slot.
async fn it_goes_on(driver: &SqliteDriver, name: &str) {
    let (id, ann, node) = (task(1), UserId::new("ann"), NodeId::new("new-node"));
    driver.check().await.unwrap();
    // The lease of the server that was replaced holds until its end, and no longer.
    let lease = Duration::from_secs(30);
    let early = driver.task_claim_due(&node, at(30), lease, 9).await.unwrap();
    assert!(early.iter().all(|c| c.task.id != id), "{name}");
    let claimed = driver.task_claim_due(&node, at(60), lease, 9).await.unwrap();
    let epoch =
        claimed.iter().find(|c| c.task.id == id).unwrap_or_else(|| panic!("{name}: {claimed:?}")).epoch;
    assert!(driver.lease_renew(id, epoch, at(95)).await.unwrap());
    driver.session_heartbeat(id, Attempt(1), "agent", at(61)).await.unwrap();
    assert_eq!(
        driver.session_attach(id, Attempt(1), "worker1", at(61)).await.unwrap(),
        Attach::Attached,
        "{name}"
    );
    let polls = driver.session_polled(id, Attempt(1), PollResult::Ended).await.unwrap();
    assert_eq!(polls.ended, 1, "{name}");
    let known = NewEvent { client_key: Some("box-2".into()), ..NewEvent::bare(EventKind::AgentTurn) };
    let fresh = NewEvent { client_key: Some("box-3".into()), ..NewEvent::bare(EventKind::AgentTurn) };
    let append = EventAppend {
        task: id,
        attempt: Attempt(1),
        events: vec![known, fresh],
        attempt_limit: 99,
        now: at(62),
    };
    let appended = driver.events_append(append).await.unwrap();
    assert_eq!(
        appended,
        Appended::Stored { stored: 1, duplicates: 1 },
        "{name}: what the old server took is known"
    );
    let usage = UsageRecord {
        call_id: "call-3".into(),
        task: id,
        attempt: Attempt(1),
        model: "x".into(),
        tokens: TokenCount { input: 1, output: 1, ..TokenCount::default() },
        cost: Some(MicroUsd(500)),
        event: NewEvent::bare(EventKind::AgentCostUpdate),
        now: at(63),
    };
    assert_eq!(driver.usage_record(usage).await.unwrap().cost, MicroUsd(2_000), "{name}");
    let nudge = NewNudge {
        id: NudgeId::from_bits(1),
        task: id,
        by: ann.clone(),
        text: "x".into(),
        per_minute: 9,
        now: at(64),
    };
    assert!(matches!(driver.nudge_add(nudge).await.unwrap(), Nudged::Stored(_)), "{name}");
    let take = NudgeTake { task: id, attempt: Attempt(1), ids: vec![NudgeId::from_bits(1)], now: at(65) };
    assert!(
        matches!(driver.nudge_take(take).await.unwrap(), NudgesTaken::Taken(taken) if taken.len() == 1),
        "{name}"
    );
    let ask = NewAsk {
        id: AskId::from_bits(1),
        task: id,
        by: UserId::new("bob"),
        question: "?".into(),
        answer: None,
        per_minute: 9,
        now: at(66),
    };
    assert!(matches!(driver.ask_open(ask).await.unwrap(), Asked::Opened(_)), "{name}");
    let answer = NewAnswer {
        task: id,
        ask: AskId::from_bits(1),
        attempt: Some(Attempt(1)),
        source: AnswerSource::Agent,
        text: "!".into(),
        now: at(67),
    };
    assert!(matches!(driver.ask_answer(answer).await.unwrap(), Answered::Settled(_)), "{name}");
    assert!(!driver.ask_list(id).await.unwrap().is_empty(), "{name}");

    let failure = Failure::new(FailureCode::SessionLost, "gone");
    let lost = Lost { failure, turns: 2, attempts_max: 2, not_before: at(70), kept: None };
    change(driver, name, Command::Lose { attempt: Attempt(1), lost: Box::new(lost) }, Some(epoch)).await;
    assert!(driver.slot_list().await.unwrap().is_empty(), "{name}");
    driver.lease_release(LeaseRelease { task: id, epoch, seen_version: 0, wake_at: None }).await.unwrap();
    let session = domain::SessionHandle::Fake { task: id, attempt: Attempt(2) };
    for command in [
        Command::Resume { by: None },
        Command::PickUp,
        Command::Admit,
        Command::PreflightPassed { base_branch: "main".into(), model: "demo/x".into(), warnings: Vec::new() },
        Command::SessionStarted { session },
        Command::AgentStarted { attempt: Attempt(2), prompt: None },
        Command::Report {
            attempt: Attempt(2),
            report: Box::new(domain::report::Report::lost(Failure::new(FailureCode::MaxTurns, "x"))),
        },
        Command::Fail { failure: Failure::new(FailureCode::MaxTurns, "x"), results: None },
    ] {
        driver.session_open(id, Attempt(2), at(71)).await.unwrap();
        change(driver, name, command, None).await;
    }
    let ended = driver.task_get(id).await.unwrap().unwrap();
    assert_eq!(
        (ended.status(), ended.attempt, ended.losses.turns),
        (Status::Failed, Attempt(2), 2),
        "{name}"
    );
    for obligation in driver.obligation_claim_due(at(99), lease, 9).await.unwrap() {
        driver.obligation_retry(obligation.id, at(99), "not yet", Alarm::Off).await.unwrap();
        driver.obligation_done(obligation.id).await.unwrap();
    }
    assert_eq!(driver.obligation_list().await.unwrap(), [], "{name}");
    let rows = driver.outbox_claim("github", at(99), lease, 9).await.unwrap();
    assert_eq!(rows.len(), 1, "{name}");
    driver.outbox_retry(rows[0].id, at(99), "not yet").await.unwrap();
    driver.outbox_done(rows[0].id).await.unwrap();
    let line = AuditFilter { actor: None, action: None, object: None, before: None, limit: 9 };
    driver.access().audit_list(line).await.unwrap();
    // The one that waited gets its slot, and what is over is removed.
    driver.task_wake(task(3), at(99)).await.unwrap();
    assert!(driver.task_claim(task(3), &node, at(200), lease).await.unwrap().is_some(), "{name}");
    assert!(driver.mean_duration_s().await.unwrap().is_some(), "{name}");
    driver.next_due().await.unwrap();
    let over = driver.tasks_expired(at(999), None, 9).await.unwrap();
    assert!(over.contains(&id) && over.contains(&task(2)), "{name}: {over:?}");
    for id in over {
        assert!(driver.task_purge(id).await.unwrap(), "{name}");
    }
    assert!(driver.task_get(id).await.unwrap().is_none(), "{name}");
}

async fn change(driver: &SqliteDriver, name: &str, command: Command, epoch: Option<Epoch>) {
    let before = driver.task_get(task(1)).await.unwrap().unwrap();
    let what = command.name();
    let Change::Applied(applied) = before.on(command, at(72)) else { panic!("{name}: {what} on {before:?}") };
    let limit = |scope| ScopeLimit { scope, limit: 9 };
    let scopes = match applied.slots {
        Slots::Take => vec![limit(Scope::User(before.user.clone())), limit(Scope::System)],
        Slots::Keep | Slots::Free => Vec::new(),
    };
    let change =
        TaskChange { applied: *applied, epoch, scopes, outbox: Vec::new(), pull_request: None, now: at(72) };
    let done = driver.task_change(change).await.unwrap();
    assert!(matches!(done, Changed::Applied(_)), "{name}: {what}: {done:?}");
}
