//! A few threads read, each with its own read-only connection. Readers neither wait for the writer nor hold it up.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::fault::Fault;
use super::writer::guard;

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// The way to the reading threads. They end when the last one is dropped.
#[derive(Debug, Clone)]
pub(super) struct Readers {
    queue: Sender<Job>,
}

impl Readers {
    /// Starts one thread per connection.
    pub(super) fn start(connections: Vec<Connection>) -> Result<Readers, Fault> {
        let (queue, waiting) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for db in connections {
            let waiting = waiting.clone();
            std::thread::Builder::new()
                .name("store-reader".into())
                .spawn(move || serve(&db, &waiting))
                .map_err(|e| Fault::Unavailable(format!("cannot start a reading thread: {e}")))?;
        }
        Ok(Readers { queue })
    }

    /// Runs `work` on a connection that cannot write; it sees everything that was answered before.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let gone = || Fault::Unavailable("the reading threads have ended".into());
        let job: Job = Box::new(move |db| drop(reply.send(guard(|| work(db)))));
        self.queue.send(job).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn serve(db: &Connection, waiting: &Mutex<Receiver<Job>>) {
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(db),
            Err(_) => return,
        }
    }
}
