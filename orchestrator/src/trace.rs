//! Traces: the parts that the gateway records while a task runs, and the one object that is made of them when it has
//! ended.
//!
//! ```text
//! model call ─▶ gateway ─▶ parts/<task>/<time>-<call>     each durable by itself: a crash loses what was not said yet
//! task ends ─▶ obligation ─▶ parts + events + work + outcome ─▶ traces/<user>/<task>.jsonl.gz ─▶ record in the store
//! ```
//!
//! Putting it together may be repeated: the object is replaced whole, the record in the store is made once, and the parts
//! are removed after it. Nothing here can fail a task.

mod seal;

use domain::{Status, TaskId};
use jiff::Timestamp;
use objects::{Key, ObjectError};
use store::{Alarm, StoreError};
use tracing::{info, warn};

use crate::Orchestrator;

/// Where parts are.
const PARTS: &str = "parts";
/// Where whole traces are.
const TRACES: &str = "traces";

/// Which half of a model call a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// What was asked.
    Request,
    /// What was answered.
    Response,
}

/// The parts of a task, as a prefix of keys.
pub fn parts_of(task: TaskId) -> String {
    format!("{PARTS}/{task}/")
}

/// The key of a part. In the order of the keys, parts are in the order of time.
pub fn part_key(task: TaskId, at: Timestamp, call_id: &str, half: Half) -> Result<Key, objects::BadKey> {
    let half = match half {
        Half::Request => "q",
        Half::Response => "r",
    };
    format!("{PARTS}/{task}/{:020}-{}-{half}", at.as_microsecond(), objects::segment(call_id)).parse()
}

/// The time that a part's key names.
pub fn part_time(key: &Key) -> Option<Timestamp> {
    let (time, _) = key.name().split_once('-')?;
    Timestamp::from_microsecond(time.parse().ok()?).ok()
}

/// Why a trace could not be put together yet.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The store did not answer.
    #[error("putting a trace together: {0}")]
    Store(#[from] StoreError),
    /// The objects could not be read or written.
    #[error("putting a trace together: {0}")]
    Object(#[from] ObjectError),
    /// The key of a trace is none.
    #[error("putting a trace together: {0}")]
    Key(#[from] objects::BadKey),
}

impl SealError {
    /// Whether a person must look.
    pub(crate) fn alarm(&self) -> Alarm {
        match self {
            SealError::Object(ObjectError::NotWritable { .. } | ObjectError::Refused { .. })
            | SealError::Key(_) => Alarm::On,
            SealError::Store(_)
            | SealError::Object(ObjectError::Unavailable { .. } | ObjectError::Body { .. }) => Alarm::Off,
        }
    }
}

impl Orchestrator {
    /// Removes traces that are older than they are kept, and parts that no task will need; answers how many objects.
    /// Public so that tests can single-step.
    pub async fn sweep_traces(&self) -> usize {
        let objects = &self.parts().objects;
        let mut gone = Vec::new();
        match objects.list(&format!("{TRACES}/")).await {
            Ok(traces) => {
                let kept = self.parts().policy.retention.traces;
                let old = traces.into_iter().filter(|t| self.is_over(t.modified, kept));
                gone.extend(old.map(|trace| trace.key));
            }
            Err(failure) => warn!(error = %failure, "the traces could not be listed"),
        }
        match objects.list(&format!("{PARTS}/")).await {
            Ok(parts) => gone.extend(self.needless(parts.into_iter().map(|part| part.key)).await),
            Err(failure) => warn!(error = %failure, "the parts of traces could not be listed"),
        }
        let mut removed = 0;
        for key in gone {
            match objects.delete(&key).await {
                Ok(()) => removed += 1,
                Err(failure) => warn!(error = %failure, "an object could not be removed"),
            }
        }
        if removed > 0 {
            info!(removed, "old traces were removed");
        }
        removed
    }

    /// The parts of tasks that are unknown, and those that came after the trace was made (the answer of a call that was
    /// under way when its task was cancelled, say).
    async fn needless(&self, parts: impl Iterator<Item = Key>) -> Vec<Key> {
        let mut needless = Vec::new();
        let mut last: Option<(String, bool)> = None;
        for key in parts {
            let Some(name) = key.as_str().split('/').nth(1).map(str::to_owned) else { continue };
            let goes = match &last {
                Some((of, goes)) if *of == name => *goes,
                Some(_) | None => self.has_no_use(&name).await,
            };
            if goes {
                needless.push(key);
            }
            last = Some((name, goes));
        }
        needless
    }

    async fn has_no_use(&self, task: &str) -> bool {
        let Ok(id) = task.parse::<TaskId>() else { return true };
        match (self.store().task_get(id).await, self.store().trace_get(id).await) {
            (Ok(None), _) => true,
            (Ok(Some(task)), Ok(trace)) => ended(task.status()) && trace.is_some(),
            (Err(_), _) | (_, Err(_)) => false,
        }
    }
}

fn ended(status: Status) -> bool {
    status.is_terminal()
}
