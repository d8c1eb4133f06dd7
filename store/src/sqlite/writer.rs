//! One thread writes. It takes all operations that wait, runs each in a savepoint of one transaction, commits once and
//! answers all: a sync of the disk is the cost of a commit, and waiting operations share it.
//!
//! An operation that fails or panics is rolled back alone. When the commit fails, or SQLite gives the whole transaction
//! up (a full disk), every operation of the batch is told so and nothing of it is stored. A caller that went away does
//! not stop its operation. A crash before the commit loses the whole batch, none of which was answered.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::fault::Fault;

/// Operations in one commit, at most: bounds what one caller waits for others.
const BATCH: usize = 256;

/// Operations that may wait before callers do.
const QUEUE: usize = 1_024;

/// What the writer has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Commits that reached the disk.
    pub commits: u64,
    /// Operations stored by them.
    pub transactions: u64,
}

/// The way to the writing thread. The thread ends when the last one is dropped and all operations are answered.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn Job>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    commits: AtomicU64,
    transactions: AtomicU64,
}

impl Writer {
    /// Takes over the connection.
    pub(super) fn start(db: Connection) -> Result<Writer, Fault> {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let counts = Arc::new(Counts::default());
        let theirs = counts.clone();
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || serve(&db, waiting, &theirs))
            .map_err(|e| Fault::Unavailable(format!("cannot start the writing thread: {e}")))?;
        Ok(Writer { queue, counts })
    }

    /// Runs `work` as one transaction. When this returns `Ok`, its effect is on the disk.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let gone = || Fault::Unavailable("the writing thread has ended".into());
        self.queue.send(Box::new(Operation::Waiting(work, reply))).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Operations that wait for a turn.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        QUEUE - self.queue.capacity()
    }

    /// What it has done.
    pub(super) fn counters(&self) -> Counters {
        Counters {
            commits: self.counts.commits.load(Ordering::Relaxed),
            transactions: self.counts.transactions.load(Ordering::Relaxed),
        }
    }
}

/// An operation of any type.
trait Job: Send {
    /// Does the work inside a savepoint; `Err` undoes it. Called once.
    fn run(&mut self, db: &Connection) -> Result<(), Fault>;
    /// Tells the caller how it ended, once it is known whether the batch was stored.
    fn answer(self: Box<Self>, batch: Result<(), Fault>);
}

enum Operation<T, F> {
    Waiting(F, oneshot::Sender<Result<T, Fault>>),
    Ran(Result<T, Fault>, oneshot::Sender<Result<T, Fault>>),
    Empty,
}

impl<T, F> Job for Operation<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, Fault> + Send,
{
    fn run(&mut self, db: &Connection) -> Result<(), Fault> {
        match std::mem::replace(self, Operation::Empty) {
            Operation::Waiting(work, reply) => {
                let result = guard(|| work(db));
                let told = result.as_ref().map(|_| ()).map_err(Clone::clone);
                *self = Operation::Ran(result, reply);
                told
            }
            other @ (Operation::Ran(..) | Operation::Empty) => {
                *self = other;
                Ok(())
            }
        }
    }

    fn answer(self: Box<Self>, batch: Result<(), Fault>) {
        // A caller that went away is not an error.
        match *self {
            Operation::Ran(Ok(value), reply) => drop(reply.send(batch.map(|()| value))),
            Operation::Ran(Err(fault), reply) => drop(reply.send(Err(fault))),
            Operation::Waiting(_, reply) => {
                let fault =
                    batch.err().unwrap_or_else(|| Fault::Unavailable("the operation was not run".into()));
                drop(reply.send(Err(fault)));
            }
            Operation::Empty => (),
        }
    }
}

/// Runs `work`; a panic becomes an error that names it.
pub(super) fn guard<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".into());
        tracing::error!(panic.message = text, "an operation of the store panicked; nothing of it was stored");
        Err(Fault::Damaged(format!("the operation panicked (a bug): {text}")))
    })
}

fn serve(db: &Connection, mut waiting: mpsc::Receiver<Box<dyn Job>>, counts: &Counts) {
    let mut batch = Vec::new();
    while waiting.blocking_recv_many(&mut batch, BATCH) > 0 {
        let (stored, outcome) = commit(db, &mut batch);
        if outcome.is_ok() && stored > 0 {
            counts.commits.fetch_add(1, Ordering::Relaxed);
            counts.transactions.fetch_add(stored, Ordering::Relaxed);
        }
        if !db.is_autocommit()
            && let Err(error) = step(db, "ROLLBACK")
        {
            tracing::error!(error = ?error, "cannot roll back; the next batch will fail to begin");
        }
        for job in batch.drain(..) {
            job.answer(outcome.clone());
        }
    }
}

/// Runs a batch; returns how many operations it stores, and whether it was stored.
fn commit(db: &Connection, batch: &mut [Box<dyn Job>]) -> (u64, Result<(), Fault>) {
    let mut stored = 0;
    let outcome = (|| {
        step(db, "BEGIN IMMEDIATE")?;
        for job in batch {
            step(db, "SAVEPOINT operation")?;
            let result = job.run(db);
            if db.is_autocommit() {
                // SQLite gave up the whole transaction, and with it those that ran before.
                return Err(result
                    .err()
                    .unwrap_or_else(|| Fault::Unavailable("the transaction was lost".into())));
            }
            match result {
                Ok(()) => stored += 1,
                Err(_) => step(db, "ROLLBACK TO operation")?,
            }
            step(db, "RELEASE operation")?;
        }
        step(db, "COMMIT")
    })();
    (stored, outcome)
}

fn step(db: &Connection, sql: &str) -> Result<(), Fault> {
    db.prepare_cached(sql)?.execute([])?;
    Ok(())
}
