//! Forgetting.

use domain::{TaskId, UserId};
use jiff::Timestamp;

use super::table::Tables;
use crate::record::{ERASED, Expired, Forgotten};

/// Removes what `over` says yes to; answers how many.
fn drop_from<K: Ord, V>(rows: &mut std::collections::BTreeMap<K, V>, over: impl Fn(&V) -> bool) -> u64 {
    let before = rows.len();
    rows.retain(|_, row| !over(row));
    (before - rows.len()) as u64
}

impl Tables {
    /// See [`crate::Store::tasks_expired`].
    pub(super) fn expired(&self, before: Timestamp, user: Option<&UserId>, limit: u32) -> Vec<TaskId> {
        let mut over: Vec<(Timestamp, TaskId)> = self
            .tasks
            .values()
            .map(|row| &row.task)
            .filter(|task| task.status().is_terminal() && user.is_none_or(|user| *user == task.user))
            .filter(|task| self.obligations.values().all(|o| o.task != task.id))
            .filter_map(|task| Some((task.completed_at.filter(|at| *at < before)?, task.id)))
            .collect();
        over.sort_unstable();
        over.into_iter().map(|(_, id)| id).take(limit as usize).collect()
    }

    /// See [`crate::Store::task_purge`].
    pub(super) fn purge(&mut self, id: TaskId) -> bool {
        let over = self.tasks.get(&id).is_some_and(|row| row.task.status().is_terminal());
        if !over || self.obligations.values().any(|o| o.task == id) {
            return false;
        }
        self.tasks.remove(&id);
        self.idempotency.retain(|_, (_, task)| *task != id);
        self.slots.retain(|(_, task)| *task != id);
        self.sessions.retain(|(task, _), _| *task != id);
        self.outbox.retain(|_, row| row.task != id);
        self.nudges.retain(|nudge| nudge.task != id);
        self.asks.retain(|ask| ask.task != id);
        self.pull_requests.remove(&id);
        self.traces.remove(&id);
        true
    }

    /// See [`crate::Store::forget_expired`].
    pub(super) fn forget(&mut self, expired: &Expired) -> Forgotten {
        let before = self.nudges.len();
        let tasks = &self.tasks;
        self.nudges.retain(|nudge| {
            let ended = tasks.get(&nudge.task).is_some_and(|row| row.task.status().is_terminal());
            !(ended && nudge.submitted_at < expired.nudges_before)
        });
        let nudges = (before - self.nudges.len()) as u64;
        let revoked = |at: Option<Timestamp>| at.is_some_and(|at| at < expired.revoked_before);
        let access = &mut self.access;
        let keys = drop_from(&mut access.keys, |key| revoked(key.revoked_at));
        let webhooks = drop_from(&mut access.webhooks, |webhook| revoked(webhook.revoked_at));
        let left: Vec<_> = access.webhooks.keys().copied().collect();
        access.deliveries.retain(|(webhook, ..)| left.contains(webhook));
        let audit = drop_from(&mut access.audit, |line| line.at < expired.audit_before);
        Forgotten { nudges, keys, webhooks, audit }
    }

    /// See [`crate::Store::user_erase`].
    pub(super) fn erase(&mut self, user: &UserId) -> bool {
        if self.tasks.values().any(|row| row.task.user == *user) {
            return false;
        }
        for (key, row) in std::mem::take(&mut self.usage_days) {
            let (day, of, repo, workflow, model) = key;
            let of = if of == user.as_str() { ERASED.to_owned() } else { of };
            super::spending::take(self.usage_days.entry((day, of, repo, workflow, model)).or_default(), &row);
        }
        let access = &mut self.access;
        access.keys.retain(|_, key| key.user != *user);
        access.webhooks.retain(|_, webhook| webhook.user != *user);
        let left: Vec<_> = access.webhooks.keys().copied().collect();
        access.deliveries.retain(|(webhook, ..)| left.contains(webhook));
        access.audit.values_mut().filter(|line| line.actor == *user).for_each(|line| {
            line.actor = UserId::new(ERASED);
        });
        true
    }
}
