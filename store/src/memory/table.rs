//! The tables, and what several operations do to them.

use std::collections::{BTreeMap, BTreeSet};

use domain::event::{Event, NewEvent};
use domain::steer::{Ask, Nudge};
use domain::{Attempt, NodeId, ObligationId, Task, TaskId, UserId};
use jiff::Timestamp;

use crate::driver::StoreError;
use crate::record::*;
use crate::rule::{self, Woken};

#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) tasks: BTreeMap<TaskId, Row>,
    pub(super) idempotency: BTreeMap<(UserId, String), (String, TaskId)>,
    pub(super) slots: BTreeSet<(Scope, TaskId)>,
    pub(super) sessions: BTreeMap<(TaskId, Attempt), SessionRecord>,
    pub(super) calls: BTreeSet<String>,
    pub(super) usage_days: BTreeMap<super::spending::Key, UsageRow>,
    pub(super) obligations: BTreeMap<ObligationId, Obligation>,
    pub(super) outbox: BTreeMap<i64, OutboxEntry>,
    pub(super) outbox_last: i64,
    pub(super) nudges: Vec<Nudge>,
    pub(super) asks: Vec<Ask>,
    pub(super) pull_requests: BTreeMap<TaskId, PullRequestRecord>,
    pub(super) access: super::access::Tables,
    pub(super) traces: BTreeMap<TaskId, TraceRecord>,
}

/// A task with what the store keeps beside it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) task: Task,
    pub(super) epoch: Epoch,
    pub(super) lease: Option<LeaseRow>,
    pub(super) woken: Woken,
    /// The scope in which it was last refused a slot, with the limit of then.
    pub(super) waits: Option<ScopeLimit>,
    pub(super) events: Vec<Event>,
    pub(super) client_keys: BTreeSet<(Attempt, String)>,
    pub(super) attempt_events: u64,
    pub(super) attempt_cut: bool,
}

#[derive(Debug, Clone)]
pub(super) struct LeaseRow {
    /// For people who look at a dump.
    pub(super) _owner: NodeId,
    pub(super) until: Timestamp,
}

#[derive(Debug, Clone)]
pub(super) struct OutboxEntry {
    pub(super) channel: String,
    pub(super) task: TaskId,
    pub(super) seq: u64,
    pub(super) due_at: Timestamp,
    pub(super) tries: u32,
}

/// Whose event it is.
pub(super) enum By {
    ControlPlane,
    Box,
}

impl Tables {
    pub(super) fn row(&self, id: TaskId) -> Result<&Row, StoreError> {
        self.tasks.get(&id).ok_or(StoreError::NoSuchTask(id))
    }

    pub(super) fn row_mut(&mut self, id: TaskId) -> Result<&mut Row, StoreError> {
        self.tasks.get_mut(&id).ok_or(StoreError::NoSuchTask(id))
    }

    /// Appends events of the control plane; returns the number of the first.
    pub(super) fn append(
        &mut self,
        id: TaskId,
        events: &[NewEvent],
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let row = self.row_mut(id)?;
        let first = row.events.len() as u64 + 1;
        for event in events {
            row.push(event, By::ControlPlane, now);
        }
        Ok(first)
    }

    pub(super) fn event(&self, id: TaskId, seq: u64) -> Result<Event, StoreError> {
        self.row(id)?.events.get(seq as usize - 1).cloned().ok_or_else(|| StoreError::Damaged {
            doing: format!("reading event {seq} of task {id}"),
            reason: "there is no such event".into(),
        })
    }

    pub(super) fn outbox_add(&mut self, task: TaskId, first: u64, rows: Vec<NewOutboxRow>, now: Timestamp) {
        for row in rows {
            self.outbox_last += 1;
            let entry = OutboxEntry {
                channel: row.channel,
                task,
                seq: first + row.event as u64,
                due_at: now,
                tries: 0,
            };
            self.outbox.insert(self.outbox_last, entry);
        }
    }
}

impl Row {
    pub(super) fn new(task: Task) -> Row {
        Row {
            task,
            epoch: Epoch(0),
            lease: None,
            woken: Woken::No,
            waits: None,
            events: Vec::new(),
            client_keys: BTreeSet::new(),
            attempt_events: 0,
            attempt_cut: false,
        }
    }

    pub(super) fn is_free(&self, now: Timestamp) -> bool {
        self.lease.as_ref().is_none_or(|lease| lease.until <= now)
    }

    /// Makes it due; a task that has ended sleeps on.
    pub(super) fn wake(&mut self, now: Timestamp) {
        if !self.task.status().is_terminal() {
            self.task.wake_at = Some(self.task.wake_at.map_or(now, |at| at.min(now)));
            self.woken = Woken::Yes;
        }
    }

    pub(super) fn push(&mut self, event: &NewEvent, by: By, now: Timestamp) {
        let seq = self.events.len() as u64 + 1;
        let id = rule::event_id(self.task.id, seq, self.events.last().map(|e| e.id), now);
        match (by, &event.client_key) {
            (By::Box, Some(key)) => drop(self.client_keys.insert((self.task.attempt, key.clone()))),
            (By::Box, None) | (By::ControlPlane, _) => (),
        }
        let (task, kind, metadata) = (self.task.id, event.kind, event.metadata.clone());
        self.events.push(Event { task, seq, id, kind, at: now, metadata });
    }
}
