//! Slots and the queue; the rules are told in `sqlite/slot.rs`.

use domain::state::QueueReason;
use domain::transition::Slots;
use domain::{State, Task};
use jiff::Timestamp;

use super::table::{Row, Tables};
use crate::driver::StoreError;
use crate::record::{Scope, ScopeLimit};
use crate::rule;

impl Tables {
    /// The first scope in which `task` cannot have a slot now.
    pub(super) fn lacking(&self, task: &Task, scopes: &[ScopeLimit], now: Timestamp) -> Option<ScopeLimit> {
        let has = |wanted: &ScopeLimit| {
            self.slots.contains(&(wanted.scope.clone(), task.id)) || self.free(task, wanted, now)
        };
        scopes.iter().find(|wanted| !has(wanted)).cloned()
    }

    /// Remembers where a task was refused. The task it no longer stands before may go on.
    pub(super) fn refuse(&mut self, stored: &Row, lacking: &ScopeLimit, now: Timestamp) {
        if stored.waits.as_ref() == Some(lacking) {
            return;
        }
        if let Some(row) = self.tasks.get_mut(&stored.task.id) {
            row.waits = Some(lacking.clone());
        }
        if waits_for_slot(&stored.task) {
            for scope in rule::scopes(&stored.task) {
                let stood_here = stored.waits.as_ref().is_none_or(|before| before.scope == scope);
                if stood_here && scope != lacking.scope {
                    self.wake_head(&scope, now);
                }
            }
        }
    }

    /// Takes or gives back slots, and wakes whoever may have one now.
    pub(super) fn change_slots(
        &mut self,
        slots: Slots,
        task: &Task,
        stored: &Row,
        scopes: &[ScopeLimit],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        match slots {
            Slots::Keep => {
                if waits_for_slot(task)
                    && !waits_for_slot(&stored.task)
                    && stored.waits.as_ref().is_none_or(|waits| self.free(task, waits, now))
                {
                    self.row_mut(task.id)?.wake(now);
                }
            }
            Slots::Take => {
                self.slots.extend(scopes.iter().map(|wanted| (wanted.scope.clone(), task.id)));
                self.row_mut(task.id)?.waits = None;
                for wanted in scopes {
                    if self.held(&wanted.scope) < wanted.limit {
                        self.wake_head(&wanted.scope, now);
                    }
                }
            }
            Slots::Free => {
                self.slots.retain(|(_, holder)| *holder != task.id);
                self.row_mut(task.id)?.waits = None;
                for scope in rule::scopes(&stored.task) {
                    self.wake_head(&scope, now);
                }
            }
        }
        Ok(())
    }

    /// Whether a slot is free for `task`: room, and no older task that waits for it.
    fn free(&self, task: &Task, wanted: &ScopeLimit, now: Timestamp) -> bool {
        let older = self.waiting(&wanted.scope, now).any(|row| age(&row.task) < age(task));
        self.held(&wanted.scope) < wanted.limit && !older
    }

    fn held(&self, scope: &Scope) -> u32 {
        self.slots.iter().filter(|(of, _)| of == scope).count() as u32
    }

    fn wake_head(&mut self, scope: &Scope, now: Timestamp) {
        let head = self.waiting(scope, now).min_by_key(|row| age(&row.task)).map(|row| row.task.id);
        if let Some(row) = head.and_then(|id| self.tasks.get_mut(&id)) {
            row.wake(now);
        }
    }

    /// The tasks that wait in a scope.
    fn waiting<'a>(&'a self, scope: &'a Scope, now: Timestamp) -> impl Iterator<Item = &'a Row> {
        self.tasks.values().filter(move |row| {
            let here = match &row.waits {
                Some(waits) => waits.scope == *scope,
                None => rule::scopes(&row.task).contains(scope),
            };
            let ripe = match &row.task.state {
                State::Queued { not_before, .. } => not_before.is_none_or(|at| at <= now),
                _ => false,
            };
            here && ripe && waits_for_slot(&row.task)
        })
    }
}

fn age(task: &Task) -> (Timestamp, domain::TaskId) {
    (task.created_at, task.id)
}

fn waits_for_slot(task: &Task) -> bool {
    matches!(task.state, State::Queued { why: QueueReason::ConcurrencyLimit, .. })
}
