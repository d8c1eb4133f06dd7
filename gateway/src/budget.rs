//! Budgets of calls that run at once: each call holds what it may cost at most until what it did cost is recorded, so
//! that many calls at once cannot spend the same dollar. A call that would need what others hold waits for them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::{Bound, MicroUsd, Payer, TaskId};
use tokio::sync::Notify;

/// Warnings that are remembered as told. Beyond, the store drops repeats.
const TOLD_MAX: usize = 10_000;

/// Whose money a call holds. A task's own bound is of that task.
type Key = (Payer, Option<TaskId>);

/// What the calls that run may still cost.
#[derive(Debug, Default)]
pub(crate) struct Running {
    held: Mutex<HashMap<Key, MicroUsd>>,
    /// One call at a time looks at what is spent and takes hold.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// A call has ended.
    pub(crate) ended: Notify,
    told: Mutex<HashSet<(TaskId, String)>>,
}

/// Money held by one call; given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    running: Arc<Running>,
    keys: Vec<Key>,
    most: MicroUsd,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(task: TaskId, bound: &Bound) -> Key {
    let own = matches!(bound.payer, Payer::Task).then_some(task);
    (bound.payer.clone(), own)
}

impl Running {
    /// What calls of this bound's payer hold now.
    pub(crate) fn held(&self, task: TaskId, bound: &Bound) -> MicroUsd {
        lock(&self.held).get(&key(task, bound)).copied().unwrap_or_default()
    }

    /// Takes hold of `most` for each payer of `bounds`.
    pub(crate) fn hold<'a>(
        self: &Arc<Self>,
        task: TaskId,
        bounds: impl Iterator<Item = &'a Bound>,
        most: MicroUsd,
    ) -> Held {
        // A payer has a bound for a day and one for a month: the money is held once.
        let keys: HashSet<Key> = bounds.map(|bound| key(task, bound)).collect();
        let keys: Vec<Key> = keys.into_iter().collect();
        let mut held = lock(&self.held);
        for key in &keys {
            let sum = held.entry(key.clone()).or_default();
            *sum = *sum + most;
        }
        Held { running: Arc::clone(self), keys, most }
    }

    /// Whether this warning is the first of its kind for the task.
    pub(crate) fn first(&self, task: TaskId, warning: &str) -> bool {
        let mut told = lock(&self.told);
        if told.len() >= TOLD_MAX {
            told.clear();
        }
        told.insert((task, warning.to_owned()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = lock(&self.running.held);
        for key in &self.keys {
            if let Some(sum) = held.get_mut(key) {
                *sum = MicroUsd(sum.0.saturating_sub(self.most.0));
                if *sum == MicroUsd::ZERO {
                    held.remove(key);
                }
            }
        }
        drop(held);
        self.running.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use domain::{Period, UserId};

    use super::*;

    #[test]
    fn money_is_held_once_for_a_payer_and_given_back() {
        let bound =
            |payer: Payer, period| Bound { payer, period, soft: Some(MicroUsd(8)), hard: MicroUsd(10) };
        let ann = Payer::User(UserId::new("ann"));
        let bounds =
            [bound(Payer::Task, Period::Task), bound(ann.clone(), Period::Day), bound(ann, Period::Month)];
        let running = Arc::new(Running::default());
        let (one, two) = (TaskId::from_bits(1), TaskId::from_bits(2));
        let first = running.hold(one, bounds.iter(), MicroUsd(3));
        let second = running.hold(two, bounds.iter(), MicroUsd(4));
        let held = |task| [0, 1, 2].map(|n| running.held(task, &bounds[n]).0);
        assert_eq!(
            (held(one), held(two)),
            ([3, 7, 7], [4, 7, 7]),
            "tasks hold their own, a user's tasks share"
        );
        drop(first);
        assert_eq!((held(one), held(two)), ([0, 4, 4], [4, 4, 4]));
        drop(second);
        assert!(lock(&running.held).is_empty());
        assert!(running.first(one, "x") && !running.first(one, "x") && running.first(two, "x"));
    }
}
