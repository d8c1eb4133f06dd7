//! What is SQLite's alone: files, crashes, full disks, other processes, shared commits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::channel;

use domain::event::{EventKind, NewEvent};
use domain::task::Workflow;
use domain::{Change, Command, RepoRef, TaskSpec};
use tokio::task::JoinSet;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn new_task(n: u32) -> NewTask {
    let spec = TaskSpec {
        repo: RepoRef::GitHub { owner: "octo".into(), name: "cat".into() },
        workflow: Workflow::NewTask,
        issue_number: None,
        description: format!("Task {n}"),
        max_turns: None,
        max_budget: None,
        trace: false,
        model: None,
        base_branch: None,
        build_command: None,
        lint_command: None,
        isolation: None,
        attachments: Vec::new(),
    };
    let now = at(i64::from(n));
    let task = Task::new(TaskId::from_parts(now, u128::from(n)), UserId::new("ann"), "api", spec, now);
    NewTask {
        task,
        events: vec![NewEvent::bare(EventKind::TaskCreated)],
        outbox: Vec::new(),
        idempotency: None,
    }
}

fn cancel(task: &Task, by: &str) -> TaskChange {
    match task.on(Command::Cancel { by: by.into() }, at(1_000)) {
        Change::Applied(applied) => TaskChange {
            applied: *applied,
            epoch: None,
            scopes: Vec::new(),
            outbox: Vec::new(),
            pull_request: None,
            now: at(1_000),
        },
        other => panic!("{other:?}"),
    }
}

async fn accept(driver: &SqliteDriver, n: u32) -> Result<Task, StoreError> {
    match driver.task_create(new_task(n)).await? {
        Created::New(task) => Ok(*task),
        other => panic!("{other:?}"),
    }
}

async fn open(path: &Path) -> SqliteDriver {
    SqliteDriver::open(path).await.unwrap()
}

async fn all(driver: &SqliteDriver) -> Vec<Task> {
    driver.task_list(TaskFilter { limit: 10_000, ..TaskFilter::default() }).await.unwrap()
}

fn file(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("bgagent.db")
}

#[tokio::test]
async fn what_was_answered_survives_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let driver = open(&file(&dir)).await;
    let task = accept(&driver, 1).await.unwrap();
    // A copy of the files while they are open is what a crash leaves behind.
    let crashed = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        // The shared-memory file does not survive a machine, and must not be needed.
        if !entry.file_name().to_string_lossy().ends_with("-shm") {
            std::fs::copy(entry.path(), crashed.path().join(entry.file_name())).unwrap();
        }
    }
    assert_eq!(all(&open(&file(&crashed)).await).await, std::slice::from_ref(&task));
    // Dropped without a word, and opened again at once.
    drop(driver);
    let again = open(&file(&dir)).await;
    assert_eq!(all(&again).await, [task]);
    accept(&again, 2).await.unwrap();
}

#[tokio::test]
async fn a_torn_write_ahead_log_loses_only_what_was_not_answered() {
    let dir = tempfile::tempdir().unwrap();
    let driver = open(&file(&dir)).await;
    accept(&driver, 1).await.unwrap();
    let wal = dir.path().join("bgagent.db-wal");
    let answered = std::fs::metadata(&wal).unwrap().len();
    accept(&driver, 2).await.unwrap();
    let crashed = tempfile::tempdir().unwrap();
    std::fs::copy(file(&dir), file(&crashed)).unwrap();
    let bytes = std::fs::read(&wal).unwrap();
    // The power went while the second commit was written.
    let torn = (answered as usize + bytes.len()) / 2;
    std::fs::write(crashed.path().join("bgagent.db-wal"), &bytes[..torn]).unwrap();
    let ids: Vec<_> = all(&open(&file(&crashed)).await).await.iter().map(|t| t.id).collect();
    assert_eq!(ids, [new_task(1).task.id]);
}

#[tokio::test]
async fn a_newer_file_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&file(&dir)).await);
    let db = Connection::open(file(&dir)).unwrap();
    db.execute("INSERT INTO schema_version VALUES (99, '0099_future', 'x', 0)", []).unwrap();
    match SqliteDriver::open(&file(&dir)).await.unwrap_err() {
        StoreError::Newer { found: 99, known, .. } => assert!(known < 99),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn an_edited_migration_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&file(&dir)).await);
    let db = Connection::open(file(&dir)).unwrap();
    db.execute("UPDATE schema_version SET checksum = 'x'", []).unwrap();
    let error = SqliteDriver::open(&file(&dir)).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("0001_init"), "{error}");
}

#[tokio::test]
async fn what_is_not_ours_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(file(&dir), "These are my notes. ".repeat(500)).unwrap();
    let error = SqliteDriver::open(&file(&dir)).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("bgagent.db"), "{error}");
    assert!(std::fs::read_to_string(file(&dir)).unwrap().starts_with("These are my notes."));

    let other = dir.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let before = std::fs::read(&other).unwrap();
    let error = SqliteDriver::open(&other).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert_eq!(std::fs::read(&other).unwrap(), before);
}

#[tokio::test]
async fn a_damaged_row_is_told_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let driver = open(&file(&dir)).await;
    let task = accept(&driver, 1).await.unwrap();
    Connection::open(file(&dir)).unwrap().execute("UPDATE task SET body = '{'", []).unwrap();
    let error = driver.task_get(task.id).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains(&format!("reading task {}", task.id)), "{error}");
    assert!(driver.task_change(cancel(&task, "x")).await.is_err());
    driver.check().await.unwrap();
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_told_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let blocker = dir.path().join("file");
    std::fs::write(&blocker, "").unwrap();
    // A folder that is a file, a folder that is not there, a file that is a folder, and one that even root cannot make.
    let not_there = dir.path().join("no/such/folder/x.db");
    for path in [blocker.join("x.db"), not_there, dir.path().to_owned(), PathBuf::from("/proc/self/x.db")] {
        let error = SqliteDriver::open(&path).await.unwrap_err();
        assert!(matches!(error, StoreError::NotWritable { .. }), "{}: {error}", path.display());
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

/// What a full disk is to SQLite: the file may not grow beyond so many pages.
async fn pages(driver: &SqliteDriver, most: i64) {
    let set = driver
        .write("limiting pages".into(), move |db| Ok(db.pragma_update(None, "max_page_count", most)?));
    set.await.unwrap();
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let driver = open(&file(&dir)).await;
    pages(&driver, 110).await;
    let mut n = 10;
    let error = loop {
        match accept(&driver, n).await {
            Ok(_) => n += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::NotWritable { .. }), "{error}");
    let kept = all(&driver).await;
    assert_eq!(kept.len() as u32, n - 10, "what was answered is there, what was refused is not");
    assert!(n > 15, "the test never got going");
    // Many at once: each is stored or refused, and the answer says which.
    let driver = Arc::new(driver);
    let mut set = JoinSet::new();
    for n in 0..64 {
        let driver = driver.clone();
        set.spawn(async move { (n, accept(&driver, 10_000 + n).await) });
    }
    let mut stored = Vec::new();
    for (n, result) in set.join_all().await {
        match result {
            Ok(task) => stored.push(task.id),
            Err(error) => {
                assert!(matches!(error, StoreError::NotWritable { .. }), "{error}");
                assert_eq!(driver.task_get(new_task(10_000 + n).task.id).await.unwrap(), None);
            }
        }
    }
    assert!(stored.len() < 64);
    assert_eq!(all(&driver).await.len(), kept.len() + stored.len());
    // Space again.
    pages(&driver, 1_000_000).await;
    accept(&driver, 20_000).await.unwrap();
}

#[tokio::test]
async fn a_panic_is_undone_alone() {
    let dir = tempfile::tempdir().unwrap();
    let driver = open(&file(&dir)).await;
    let panics = driver.write("testing".into(), |tx| -> Result<(), Fault> {
        task::create(tx, &new_task(7))?;
        panic!("number {}", 7)
    });
    let (bad, good) = tokio::join!(panics, accept(&driver, 1));
    let error = bad.unwrap_err().to_string();
    assert!(error.contains("panicked") && error.contains("number 7"), "{error}");
    assert_eq!(all(&driver).await, [good.unwrap()]);
    for _ in 0..READERS * 2 {
        let bad = driver.read("testing".into(), |_| -> Result<(), Fault> { panic!("reading") }).await;
        assert!(bad.unwrap_err().to_string().contains("reading"));
    }
    driver.check().await.unwrap();
    assert_eq!(all(&driver).await.len(), 1);
}

#[tokio::test]
async fn a_reader_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let driver = open(&file(&dir)).await;
    let error = driver.read("testing".into(), |db| task::create(db, &new_task(7))).await.unwrap_err();
    assert!(matches!(error, StoreError::NotWritable { .. }), "{error}");
}

// On one thread, so that what holds a place in the queue is in the queue.
#[tokio::test]
async fn waiting_writers_share_a_commit() {
    let dir = tempfile::tempdir().unwrap();
    let driver = Arc::new(open(&file(&dir)).await);
    assert_eq!(driver.counters(), Counters { commits: 0, transactions: 0 });
    accept(&driver, 1).await.unwrap();
    assert_eq!(driver.counters(), Counters { commits: 1, transactions: 1 });

    // The writer is held until all have queued behind it.
    let (let_go, held) = channel::<()>();
    let (entered, at_work) = tokio::sync::oneshot::channel();
    let mut set = JoinSet::new();
    let holder = driver.clone();
    set.spawn(async move {
        let hold = move |_: &Connection| {
            let _ = entered.send(());
            let _ = held.recv();
            Ok(())
        };
        holder.write("holding".into(), hold).await.unwrap();
    });
    at_work.await.unwrap();
    for n in 100..200 {
        let driver = driver.clone();
        set.spawn(async move { drop(accept(&driver, n).await.unwrap()) });
    }
    let all_wait = async {
        while driver.writer.waiting() < 100 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all_wait).await.unwrap();
    let_go.send(()).unwrap();
    set.join_all().await;
    assert_eq!(driver.counters(), Counters { commits: 3, transactions: 102 });
    assert_eq!(all(&driver).await.len(), 101);
}

/// Two handles stand for two processes: they share nothing but the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_handles_on_one_file_keep_every_promise() {
    let dir = tempfile::tempdir().unwrap();
    let handles = [Arc::new(open(&file(&dir)).await), Arc::new(open(&file(&dir)).await)];
    let each = |n: u32| handles[n as usize % 2].clone();

    // One idempotency key, many creates.
    let mut set = JoinSet::new();
    for n in 0..16 {
        let (driver, mut new) = (each(n), new_task(n));
        new.idempotency = Some(IdempotencyClaim { key: "k".into(), body_hash: "h".into() });
        set.spawn(async move { driver.task_create(new).await.unwrap() });
    }
    let new = set.join_all().await.into_iter().filter(|c| matches!(c, Created::New(_))).count();
    assert_eq!((new, all(&handles[0]).await.len()), (1, 1));

    // One version, many changes; what one handle answered, the other reads.
    let task = all(&handles[1]).await.remove(0);
    let mut set = JoinSet::new();
    for n in 0..16 {
        let (driver, change) = (each(n), cancel(&task, "x"));
        set.spawn(async move { driver.task_change(change).await.unwrap() });
    }
    let won = set.join_all().await.into_iter().filter(|c| matches!(c, Changed::Applied(_))).count();
    assert_eq!(won, 1);

    // Many tasks, many claimers, three slots.
    let mut set = JoinSet::new();
    for n in 100..140 {
        let driver = each(n);
        set.spawn(async move { accept(&driver, n).await.unwrap() });
    }
    set.join_all().await;
    let mut set = JoinSet::new();
    for n in 0..8 {
        let driver = each(n);
        set.spawn(async move {
            let (mut claimed, mut admitted) = (Vec::new(), 0);
            loop {
                let by = NodeId::new(format!("n{n}"));
                let some = driver.task_claim_due(&by, at(900), Duration::from_secs(30), 3).await.unwrap();
                if some.is_empty() {
                    return (claimed, admitted);
                }
                for Claimed { task, epoch } in some {
                    claimed.push(task.id);
                    let Change::Applied(applied) = task.on(Command::Admit, at(900)) else { panic!() };
                    let scopes = vec![ScopeLimit { scope: Scope::System, limit: 3 }];
                    let change =
                        TaskChange { applied: *applied, epoch: Some(epoch), scopes, ..cancel(&task, "") };
                    match driver.task_change(change).await.unwrap() {
                        Changed::Applied(_) => admitted += 1,
                        Changed::NoSlot(Scope::System) => (),
                        other => panic!("{other:?}"),
                    }
                }
            }
        });
    }
    let (claimed, admitted): (Vec<_>, Vec<_>) = set.join_all().await.into_iter().unzip();
    let claimed: Vec<_> = claimed.into_iter().flatten().collect();
    assert_eq!((claimed.len(), claimed.iter().collect::<BTreeSet<_>>().len()), (40, 40));
    assert_eq!(admitted.into_iter().sum::<i32>(), 3);
    assert_eq!(handles[0].slot_list().await.unwrap().len(), 3);
}

#[tokio::test]
async fn two_can_open_a_new_file_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut set = JoinSet::new();
    for _ in 0..8 {
        let path = file(&dir);
        set.spawn(async move { SqliteDriver::open(&path).await });
    }
    for opened in set.join_all().await {
        opened.unwrap().check().await.unwrap();
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let driver = open(&file(&dir)).await;
    let task = accept(&driver, 1).await.unwrap();
    let hold = Connection::open(file(&dir)).unwrap();
    hold.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Polled once, so that it is in the queue, and dropped.
    let mut change = Box::pin(driver.task_change(cancel(&task, "gone")));
    assert!(futures_now(&mut change).is_none());
    drop(change);
    hold.execute_batch("ROLLBACK").unwrap();
    driver.check().await.unwrap();
    assert!(matches!(driver.task_change(cancel(&task, "late")).await.unwrap(), Changed::Lost(_)));
}

/// Polls a future once.
fn futures_now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn a_purge_knows_every_table_that_belongs_to_a_task() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&file(&dir)).await);
    let db = Connection::open(file(&dir)).unwrap();
    let sql = "SELECT m.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c
               WHERE m.type = 'table' AND c.name = 'task_id' ORDER BY 1";
    let mut statement = db.prepare(sql).unwrap();
    let tables: Vec<String> =
        statement.query_map([], |r| r.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    let mut known = super::purge::OF_A_TASK.to_vec();
    known.sort_unstable();
    assert_eq!(tables, known, "store/src/sqlite/purge.rs");
}

#[tokio::test]
async fn a_copy_of_a_database_in_use_is_sound_and_whole() {
    let dir = tempfile::tempdir().unwrap();
    let driver = open(&file(&dir)).await;
    accept(&driver, 1).await.unwrap();
    let copy = dir.path().join("copy.db");
    super::snapshot::copy(&file(&dir), &copy).unwrap();
    accept(&driver, 2).await.unwrap();
    assert_eq!(super::snapshot::problems(&copy).unwrap(), Vec::<String>::new());
    assert_eq!(super::snapshot::problems(&file(&dir)).unwrap(), Vec::<String>::new());
    let ids: Vec<_> = all(&open(&copy).await).await.iter().map(|t| t.id).collect();
    assert_eq!(ids, [new_task(1).task.id]);
    // A file that is there already is not written over.
    assert!(super::snapshot::copy(&file(&dir), &copy).is_err());
}

#[tokio::test]
async fn what_breaks_an_invariant_is_found() {
    let breaks = [
        ("DELETE FROM event WHERE seq = 1", "the events of a task have a hole"),
        (
            "INSERT INTO slot SELECT 'system', id FROM task; UPDATE task SET status = 'FAILED', completed_at = 1",
            "a task that has ended holds a slot",
        ),
        ("UPDATE task SET status = 'COMPLETED'", "a task has ended at no time"),
        ("UPDATE task SET cost_micro = 7", "not the sum of its calls"),
        (
            "PRAGMA foreign_keys = OFF; INSERT INTO slot VALUES ('system', x'00000000000000000000000000000009')",
            "a row refers to one that is not there",
        ),
    ];
    for (sql, words) in breaks {
        let dir = tempfile::tempdir().unwrap();
        let driver = open(&file(&dir)).await;
        accept(&driver, 1).await.unwrap();
        drop(driver);
        Connection::open(file(&dir)).unwrap().execute_batch(sql).unwrap();
        let problems = super::snapshot::problems(&file(&dir)).unwrap();
        assert!(problems.iter().any(|p| p.contains(words)), "{sql}: {problems:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(file(&dir), "no database at all, but long enough to be one".repeat(100)).unwrap();
    assert!(matches!(super::snapshot::problems(&file(&dir)), Err(StoreError::Damaged { .. })));
}
