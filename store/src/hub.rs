//! Tells watchers of this process that a task has something new. It only shortens waits: whoever is told reads the
//! store, and whoever is not told (another process wrote) finds out at the next look.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::TaskId;
use tokio::sync::watch;

/// One counter per watched task.
#[derive(Debug, Clone, Default)]
pub struct Hub {
    tasks: Arc<Mutex<HashMap<TaskId, watch::Sender<u64>>>>,
}

/// A place in the crowd that waits for one task.
#[derive(Debug)]
pub struct Watch {
    hub: Hub,
    task: TaskId,
    receiver: Option<watch::Receiver<u64>>,
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, watch::Sender<u64>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is new for `task`. Costs a look-up; nothing is kept for tasks nobody watches.
    pub fn publish(&self, task: TaskId) {
        if let Some(sender) = self.lock().get(&task) {
            sender.send_modify(|n| *n += 1);
        }
    }

    /// Watches a task. Subscribe first, read the store then: what is written in between is told.
    pub fn watch(&self, task: TaskId) -> Watch {
        let receiver = self.lock().entry(task).or_insert_with(|| watch::channel(0).0).subscribe();
        Watch { hub: self.clone(), task, receiver: Some(receiver) }
    }
}

impl Watch {
    /// How often something was new for the task since somebody watches it. [`Watch::changed`] then tells of what comes
    /// after this call.
    pub fn version(&mut self) -> u64 {
        self.receiver.as_mut().map_or(0, |receiver| *receiver.borrow_and_update())
    }

    /// Returns when something is new since the last call, or after `at_most`.
    pub async fn changed(&mut self, at_most: Duration) {
        if let Some(receiver) = &mut self.receiver {
            // A closed channel cannot happen while the hub lives; a timeout is an ordinary answer.
            let _ = tokio::time::timeout(at_most, receiver.changed()).await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.receiver = None;
        let mut tasks = self.hub.lock();
        if tasks.get(&self.task).is_some_and(|sender| sender.receiver_count() == 0) {
            tasks.remove(&self.task);
        }
    }
}
