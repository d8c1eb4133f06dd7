//! The audit trail: what people did, and what they were not let do, on its way to the store.
//!
//! A line about keys and webhooks is stored before its answer is sent. A line about a task waits for the next of a
//! background writer, so that a submission costs one sync and not two: what was done to a task is in its events
//! anyhow, which are stored with it.

use std::sync::{Mutex, PoisonError};

use domain::{AuditId, RequestId};
use jiff::Timestamp;
use store::{AuditRecord, Store, StoreError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::error;

/// Lines that are kept while the store does not take them.
const PENDING_MAX: usize = 10_000;

/// Lines on their way.
#[derive(Debug, Default)]
pub struct Trail {
    pending: Mutex<Vec<AuditRecord>>,
    /// The last id that was given.
    last: Mutex<u128>,
    more: Notify,
}

impl Trail {
    /// The id of a line about `request`: they rise in the order in which they are given, also within a millisecond.
    pub fn id(&self, request: RequestId, now: Timestamp) -> AuditId {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = AuditId::from_parts(now, request.bits()).bits().max(last.saturating_add(1));
        AuditId::from_bits(*last)
    }

    /// Adds a line, to be stored soon.
    pub fn add(&self, line: AuditRecord) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() >= PENDING_MAX {
            error!(
                audit.actor = %line.actor, audit.action = line.action, audit.object = line.object, audit.status = line.status,
                "the audit log does not take lines; this one is here only"
            );
            return;
        }
        pending.push(line);
        drop(pending);
        self.more.notify_one();
    }

    /// Stores what waits. What could not be stored waits on.
    pub async fn flush(&self, store: &Store) -> Result<(), StoreError> {
        let lines = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        if lines.is_empty() {
            return Ok(());
        }
        let stored = store.audit_append(lines.clone()).await;
        if stored.is_err() {
            // The store takes a line once: what it has after all is not doubled.
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            let newer = std::mem::replace(&mut *pending, lines);
            pending.extend(newer);
        }
        stored
    }

    /// Stores lines as they come, until `stop`; what waits then is stored before this returns.
    pub async fn keep(&self, store: &Store, stop: CancellationToken) {
        loop {
            let over = tokio::select! {
                () = self.more.notified() => false,
                () = stop.cancelled() => true,
            };
            if let Err(failure) = self.flush(store).await {
                error!(error = %failure, "the audit log could not be written; its lines wait");
            }
            if over {
                return;
            }
        }
    }
}

/// What a request does, in two words: `task.cancel`.
pub fn action(method: &str, path: &str) -> String {
    let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
    let noun = match parts.first().copied().unwrap_or_default() {
        "tasks" => "task",
        "api-keys" => "api_key",
        "webhooks" => "webhook",
        other => other,
    };
    let last = parts.last().copied().unwrap_or_default();
    let verb = match (method, last) {
        (_, "asks") => "ask",
        (_, "tasks") if noun == "webhook" => "deliver",
        (_, last) if parts.len() > 2 && !last.starts_with('{') => last,
        ("DELETE", _) if noun == "task" => "cancel",
        ("DELETE", _) => "revoke",
        ("POST", _) => "create",
        ("PUT" | "PATCH", _) => "change",
        _ => "read",
    };
    format!("{noun}.{verb}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_two_words() {
        for (method, path, want) in [
            ("POST", "/v1/tasks", "task.create"),
            ("DELETE", "/v1/tasks/{task_id}", "task.cancel"),
            ("POST", "/v1/tasks/{task_id}/nudge", "task.nudge"),
            ("POST", "/v1/tasks/{task_id}/asks", "task.ask"),
            ("POST", "/v1/api-keys", "api_key.create"),
            ("DELETE", "/v1/api-keys/{key_id}", "api_key.revoke"),
            ("POST", "/v1/webhooks", "webhook.create"),
            ("DELETE", "/v1/webhooks/{webhook_id}", "webhook.revoke"),
            ("POST", "/v1/webhooks/{webhook_id}/rotate", "webhook.rotate"),
            ("POST", "/v1/webhooks/tasks", "webhook.deliver"),
        ] {
            assert_eq!(action(method, path), want, "{method} {path}");
        }
    }
}
