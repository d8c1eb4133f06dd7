//! Forgetting what is over: tasks and everything of them after a while, some things earlier, a user's data on demand.

use std::time::Duration;

use domain::transition::after;
use domain::{TaskId, UserId, limit};
use jiff::Timestamp;
use objects::{Key, ObjectError};
use store::{Expired, Forgotten, StoreError};
use tracing::{info, warn};

use crate::Orchestrator;

/// Tasks that are looked up in one go.
const AT_ONCE: u32 = 100;

/// How long things are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Tasks with all that belongs to them, from their end on.
    pub records: Duration,
    /// Traces, from when they were made.
    pub traces: Duration,
    /// Nudges of tasks that have ended, from when they were sent.
    pub nudges: Duration,
    /// Keys and webhooks, from when they were revoked.
    pub revoked: Duration,
    /// Lines of the audit log.
    pub audit: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Retention {
            records: limit::RECORD_RETENTION,
            traces: limit::TRACE_RETENTION,
            nudges: limit::REVOKED_RETENTION,
            revoked: limit::REVOKED_RETENTION,
            audit: limit::AUDIT_RETENTION,
        }
    }
}

/// What to purge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    /// Tasks that ended before this.
    pub ended_before: Timestamp,
    /// Only this user's.
    pub user: Option<UserId>,
    /// Whether anything is removed, or only counted.
    pub mode: Mode,
}

/// Whether a purge removes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    Remove,
    /// It counts.
    Count,
}

/// What was purged, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purged {
    /// Tasks.
    pub tasks: u64,
    /// Objects of theirs: traces, artifacts.
    pub objects: u64,
}

/// Why a purge ended early. What was purged before stays purged; it can be repeated.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// The store did not answer.
    #[error("removing what is over: {0}")]
    Store(#[from] StoreError),
    /// An object could not be listed or removed.
    #[error("removing what is over: {0}")]
    Object(#[from] ObjectError),
    /// What was pushed for a task could not be removed.
    #[error("removing what was pushed for task {task}: {source}")]
    Push {
        /// The task.
        task: TaskId,
        /// Why.
        source: std::io::Error,
    },
}

impl Orchestrator {
    /// Removes what is kept no longer, as the configuration says. Public so that tests can single-step.
    pub async fn sweep_expired(&self) {
        let kept = &self.parts().policy.retention;
        let ago = |kept: Duration| self.now().checked_sub(kept).unwrap_or(Timestamp::MIN);
        let purge = Purge { ended_before: ago(kept.records), user: None, mode: Mode::Remove };
        match self.purge(purge).await {
            Ok(Purged { tasks: 0, .. }) => (),
            Ok(Purged { tasks, objects }) => info!(tasks, objects, "tasks that ended long ago were removed"),
            Err(failure) => warn!(error = %failure, "tasks that ended long ago could not be removed"),
        }
        let expired = Expired {
            nudges_before: ago(kept.nudges),
            revoked_before: ago(kept.revoked),
            audit_before: ago(kept.audit),
        };
        match self.store().forget_expired(expired).await {
            Ok(none) if none == Forgotten::default() => (),
            Ok(Forgotten { nudges, keys, webhooks, audit }) => {
                info!(nudges, keys, webhooks, audit, "what is kept no longer was removed");
            }
            Err(failure) => warn!(error = %failure, "what is kept no longer could not be removed"),
        }
    }

    /// Removes tasks that have ended, with their objects, what they pushed, and their rows, in this order: a purge that was
    /// cut off is taken up by the next. What they spent stays in the sums of its days.
    pub async fn purge(&self, purge: Purge) -> Result<Purged, PurgeError> {
        let mut purged = Purged::default();
        let limit = match purge.mode {
            Mode::Remove => AT_ONCE,
            Mode::Count => u32::MAX,
        };
        loop {
            let over = self.store().tasks_expired(purge.ended_before, purge.user.as_ref(), limit).await?;
            let before = purged.tasks;
            for &task in &over {
                let keys = self.objects_of(task).await?;
                purged.objects += keys.len() as u64;
                if purge.mode == Mode::Count {
                    purged.tasks += 1;
                    continue;
                }
                for key in &keys {
                    self.parts().objects.delete(key).await?;
                }
                let pushed = self.parts().mirrors.quarantine_drop(task);
                pushed.map_err(|source| PurgeError::Push { task, source })?;
                purged.tasks += u64::from(self.store().task_purge(task).await?);
            }
            // Nothing moved: what is left cannot be purged now (somebody else did, or it owes something since).
            if purge.mode == Mode::Count || over.len() < AT_ONCE as usize || purged.tasks == before {
                return Ok(purged);
            }
        }
    }

    async fn objects_of(&self, task: TaskId) -> Result<Vec<Key>, PurgeError> {
        let objects = &self.parts().objects;
        let mut keys = Vec::new();
        if let Some(trace) = self.store().trace_get(task).await?
            && let Ok(key) = trace.key.parse()
            && objects.stat(&key).await?.is_some()
        {
            keys.push(key);
        }
        let prefixes = [crate::trace::parts_of(task), format!("artifacts/{task}-")];
        for prefix in prefixes.into_iter().chain(crate::attachment::prefixes(task)) {
            keys.extend(objects.list(&prefix).await?.into_iter().map(|meta| meta.key));
        }
        Ok(keys)
    }

    /// Whether something stored at `at` is kept no longer.
    pub(crate) fn is_over(&self, at: Timestamp, kept: Duration) -> bool {
        after(at, kept) < self.now()
    }
}
