//! `Task::on`: the only function that changes a task. It is pure and total: every command has an answer in every state.
//!
//! A repeated command changes nothing and causes no second event. A command that comes too late (the task has ended, a
//! newer attempt runs) is refused with the reason, which is an ordinary answer and not an error.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use crate::attachment::{Attachment, Attachments, Screened, total_bytes};
use crate::command::Command;
use crate::event::{EventKind, NewEvent, preview};
use crate::failure::{Failure, FailureCode};
use crate::id::{AttachmentId, Attempt, TaskId};
use crate::leave::{Kept, Leaving, Order};
use crate::limit;
use crate::lost::{Losses, Lost};
use crate::prompt::PromptVersion;
use crate::session::SessionHandle;
use crate::state::{Hydration, QueueReason, State, Status};
use crate::task::{Results, Task};

/// What a transition does to the task's slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slots {
    /// Nothing.
    Keep,
    /// Take one in each scope; already held is fine; none free means that the whole change does not happen.
    Take,
    /// Give back whatever is held.
    Free,
}

/// A box that must be stopped after the transition. The handle is unknown when the answer to `start` was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopSession {
    /// Whose.
    pub task: TaskId,
    /// Which attempt's.
    pub attempt: Attempt,
    /// The box, where it is known.
    pub session: Option<SessionHandle>,
}

/// A change to be stored, whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The task after the change, its version one higher.
    pub task: Task,
    /// The events it causes.
    pub events: Vec<NewEvent>,
    /// What it does to slots.
    pub slots: Slots,
    /// The box to stop.
    pub stop: Option<StopSession>,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Change {
    /// It changed the task.
    Applied(Box<Applied>),
    /// It was so already: no change, no event.
    Nothing,
    /// It does not apply here.
    Refused(Refused),
}

/// Why a command does not apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The task has ended.
    #[error("the task has already ended ({0})")]
    Terminal(Status),
    /// A newer attempt has taken over.
    #[error("attempt {0} was superseded")]
    Superseded(Attempt),
    /// The state is still to come; the same command later will do.
    #[error("too early in state {0}")]
    TooEarly(Status),
    /// The state does not know this command.
    #[error("not possible in state {0}")]
    WrongState(Status),
}

impl Task {
    /// What `command` does to this task at `now`.
    pub fn on(&self, command: Command, now: Timestamp) -> Change {
        let from = self.status();
        if let Some(refused) = self.fenced(&command) {
            return Change::Refused(refused);
        }
        if from.is_terminal() {
            let repeat = matches!(
                (&command, from),
                (Command::Cancel { .. }, Status::Cancelled)
                    | (Command::Complete { .. }, Status::Completed)
                    | (Command::Fail { .. }, Status::Failed)
                    | (Command::TimeOut { .. }, Status::TimedOut)
            );
            return if repeat { Change::Nothing } else { Change::Refused(Refused::Terminal(from)) };
        }
        match command {
            Command::ConfirmUploads { attachments } => self.confirm_uploads(&attachments, now),
            Command::ExpireUploads => self.expire_uploads(now),
            Command::BlockAttachment { attachment, reason } => {
                self.block_attachment(attachment, &reason, now)
            }
            Command::AttachmentsFetched { attachments } => self.attachments_fetched(&attachments, now),
            Command::Enqueue => self.enqueue(now),
            Command::PickUp => self.pick_up(now),
            Command::Admit => self.admit(now),
            Command::PreflightPassed { base_branch, model, warnings } => {
                self.preflight_passed(base_branch, model, &warnings, now)
            }
            Command::SessionStarted { session } => self.session_started(session, now),
            Command::AgentStarted { prompt, .. } => self.agent_started(prompt.clone(), now),
            Command::OpenGate { request_id, until, .. } => self.open_gate(request_id, until, now),
            Command::CloseGate { request_id } => self.close_gate(&request_id, now),
            Command::Leave { order, until } => self.leave(order, until, now),
            Command::Left { .. } => self.left(now),
            Command::Depart { kept } => self.depart(kept, now),
            Command::Resume { by } => self.resume(by.as_deref(), now),
            Command::Park { why, not_before } => self.park(why, not_before, now),
            Command::Lose { lost, .. } => self.lose(*lost, now),
            Command::Report { report, .. } => match &self.state {
                State::Finalizing { .. } => Change::Nothing,
                State::Hydrating { phase: Hydration::Preflight | Hydration::Dispatch { .. }, .. } => {
                    self.too_early()
                }
                state => match state.session().cloned() {
                    Some(session) => {
                        let event = NewEvent::new(
                            EventKind::ResultReceived,
                            json!({
                                "agent_status": report.agent, "build": report.build, "lint": report.lint,
                                "turns_attempted": report.turns_attempted, "head_sha": report.head_sha,
                                "error_code": report.failure.as_ref().map(|f| f.code),
                            }),
                        );
                        self.to(
                            State::Finalizing { since: now, session, report },
                            vec![event],
                            Slots::Keep,
                            now,
                        )
                    }
                    None => self.wrong_state(),
                },
            },
            Command::Complete { results } => self.complete(*results, now),
            Command::Fail { failure, results } => self.fail(failure, results.map(|r| *r), now),
            Command::TimeOut { failure } => self.time_out(failure, now),
            Command::Cancel { by } => {
                let event =
                    NewEvent::new(EventKind::TaskCancelled, json!({ "cancelled_by": by, "from": from }));
                self.end(State::Cancelled { since: now, by }, vec![event], now)
            }
        }
    }

    /// Commands of a box carry its attempt; only the current one counts.
    fn fenced(&self, command: &Command) -> Option<Refused> {
        match command {
            Command::AgentStarted { attempt, .. }
            | Command::OpenGate { attempt, .. }
            | Command::Left { attempt }
            | Command::Lose { attempt, .. }
            | Command::Report { attempt, .. } => {
                (*attempt != self.attempt).then_some(Refused::Superseded(*attempt))
            }
            Command::ConfirmUploads { .. }
            | Command::ExpireUploads
            | Command::BlockAttachment { .. }
            | Command::AttachmentsFetched { .. }
            | Command::Enqueue
            | Command::PickUp
            | Command::Admit
            | Command::PreflightPassed { .. }
            | Command::SessionStarted { .. }
            | Command::CloseGate { .. }
            | Command::Leave { .. }
            | Command::Depart { .. }
            | Command::Resume { .. }
            | Command::Park { .. }
            | Command::Complete { .. }
            | Command::Fail { .. }
            | Command::TimeOut { .. }
            | Command::Cancel { .. } => None,
        }
    }

    fn wrong_state(&self) -> Change {
        Change::Refused(Refused::WrongState(self.status()))
    }

    fn too_early(&self) -> Change {
        Change::Refused(Refused::TooEarly(self.status()))
    }

    /// Moves to `state`, checking the one table of edges (staying in a state is a change of its data).
    fn to(&self, state: State, events: Vec<NewEvent>, slots: Slots, now: Timestamp) -> Change {
        let (from, into) = (self.status(), state.status());
        if from != into && !from.next().contains(&into) {
            return self.wrong_state();
        }
        // An order holds as long as there is an agent that can follow it.
        let works = matches!(into, Status::Running | Status::AwaitingApproval);
        let leaving = self.leaving.clone().filter(|_| works);
        let wake_at = wake_after(&state, now);
        let task = Task {
            wake_at: leaving.as_ref().map_or(wake_at, |l| Some(l.due_at().max(now))),
            leaving,
            state,
            updated_at: now,
            version: self.version + 1,
            ..self.clone()
        };
        Change::Applied(Box::new(Applied { task, events, slots, stop: None }))
    }

    /// Moves to a terminal state: frees slots, stops the box, closes the books.
    fn end(&self, state: State, events: Vec<NewEvent>, now: Timestamp) -> Change {
        let stop = self.box_to_stop();
        match self.to(state, events, Slots::Free, now) {
            Change::Applied(mut applied) => {
                applied.task.completed_at = Some(now);
                applied.stop = stop;
                Change::Applied(applied)
            }
            other => other,
        }
    }

    /// A box that exists or may exist (started, but the answer was lost).
    fn box_to_stop(&self) -> Option<StopSession> {
        let may_exist = matches!(self.state, State::Hydrating { phase: Hydration::Dispatch { .. }, .. });
        let session = self.state.session().cloned();
        (may_exist || session.is_some()).then_some(StopSession {
            task: self.id,
            attempt: self.attempt,
            session,
        })
    }

    fn confirm_uploads(&self, attachments: &Attachments, now: Timestamp) -> Change {
        match self.state {
            State::PendingUploads { .. } => {
                let event = told_of(EventKind::UploadsConfirmed, attachments);
                self.with(attachments).to(State::Submitted { since: now }, vec![event], Slots::Keep, now)
            }
            _ => Change::Nothing,
        }
    }

    fn expire_uploads(&self, now: Timestamp) -> Change {
        let State::PendingUploads { since, until } = self.state else { return self.wrong_state() };
        if until > now {
            return self.too_early();
        }
        let expired = NewEvent::new(
            EventKind::PendingUploadExpired,
            json!({ "age_seconds": seconds(since, now), "timeout_seconds": seconds(since, until) }),
        );
        let failure = Failure::new(FailureCode::UploadsExpired, "the attachments were not confirmed in time");
        self.fail_after(expired, failure, now)
    }

    fn block_attachment(&self, attachment: AttachmentId, reason: &str, now: Timestamp) -> Change {
        let (State::PendingUploads { .. } | State::Hydrating { phase: Hydration::Preflight, .. }) =
            self.state
        else {
            return self.wrong_state();
        };
        let asked = self.attached().find(|(id, ..)| *id == attachment);
        let Some((_, Attachment { filename, .. }, _)) = asked else { return self.wrong_state() };
        let reason = preview(reason, limit::ERROR_MESSAGE_MAX_CHARS);
        let blocked =
            NewEvent::new(EventKind::AttachmentBlocked, json!({ "filename": filename, "reason": reason }));
        let failure = Failure::new(FailureCode::AttachmentBlocked, format!("{filename}: {reason}"));
        let found = Attachments::from([(attachment, Screened::Blocked)]);
        self.with(&found).fail_after(blocked, failure, now)
    }

    fn attachments_fetched(&self, attachments: &Attachments, now: Timestamp) -> Change {
        match &self.state {
            State::Hydrating { phase: Hydration::Preflight, .. } => {
                if self.with(attachments).attachments == self.attachments {
                    return Change::Nothing;
                }
                let event = told_of(EventKind::AttachmentsFetched, attachments);
                self.with(attachments).to(self.state.clone(), vec![event], Slots::Keep, now)
            }
            _ => self.wrong_state(),
        }
    }

    /// With what became known of attachments.
    fn with(&self, found: &Attachments) -> Task {
        let mut task = self.clone();
        task.attachments.extend(found.iter().map(|(id, screened)| (*id, screened.clone())));
        task
    }

    /// Fails, and tells of what led to it first.
    fn fail_after(&self, first: NewEvent, failure: Failure, now: Timestamp) -> Change {
        match self.fail(failure, None, now) {
            Change::Applied(mut applied) => {
                applied.events.insert(0, first);
                Change::Applied(applied)
            }
            other => other,
        }
    }

    fn enqueue(&self, now: Timestamp) -> Change {
        match self.state {
            State::Submitted { .. } => {
                let attempts = self.admission_attempts + 1;
                let event = NewEvent::new(
                    EventKind::AdmissionQueued,
                    json!({ "reason": "concurrency_limit", "admission_attempts": attempts }),
                );
                let state =
                    State::Queued { since: now, why: QueueReason::ConcurrencyLimit, not_before: None };
                match self.to(state, vec![event], Slots::Keep, now) {
                    Change::Applied(mut applied) => {
                        applied.task.admission_attempts = attempts;
                        applied.task.queued_at = self.queued_at.or(Some(now));
                        Change::Applied(applied)
                    }
                    other => other,
                }
            }
            State::Queued { .. } => Change::Nothing,
            _ => self.wrong_state(),
        }
    }

    fn pick_up(&self, now: Timestamp) -> Change {
        match self.state {
            State::Queued { since, .. } => {
                let event = NewEvent::new(
                    EventKind::QueuePickup,
                    json!({ "queued_for_s": seconds(since, now), "admission_attempts": self.admission_attempts }),
                );
                self.to(State::Submitted { since: now }, vec![event], Slots::Take, now)
            }
            State::Submitted { .. } => Change::Nothing,
            _ => self.wrong_state(),
        }
    }

    fn admit(&self, now: Timestamp) -> Change {
        match self.state {
            State::Submitted { .. } => {
                let event =
                    NewEvent::new(EventKind::HydrationStarted, json!({ "attempt": self.attempt.next() }));
                let state = State::Hydrating { since: now, phase: Hydration::Preflight };
                match self.to(state, vec![event], Slots::Take, now) {
                    Change::Applied(mut applied) => {
                        applied.task.attempt = self.attempt.next();
                        Change::Applied(applied)
                    }
                    other => other,
                }
            }
            State::Hydrating { .. } => Change::Nothing,
            State::Queued { .. } | State::PendingUploads { .. } => self.too_early(),
            _ => self.wrong_state(),
        }
    }

    fn preflight_passed(
        &self,
        base_branch: String,
        model: String,
        warnings: &[String],
        now: Timestamp,
    ) -> Change {
        match self.state {
            State::Hydrating { since, phase: Hydration::Preflight } => {
                let mut events: Vec<NewEvent> = warnings
                    .iter()
                    .map(|w| NewEvent::new(EventKind::PreflightWarning, json!({ "detail": w })))
                    .collect();
                events.push(NewEvent::new(
                    EventKind::PreflightPassed,
                    json!({ "base_branch": base_branch, "model": model }),
                ));
                let phase = Hydration::Dispatch { base_branch: base_branch.clone() };
                match self.to(State::Hydrating { since, phase }, events, Slots::Keep, now) {
                    Change::Applied(mut applied) => {
                        applied.task.results.base_branch = Some(base_branch);
                        applied.task.results.model = Some(model);
                        applied.task.results.notes = warnings.to_vec();
                        Change::Applied(applied)
                    }
                    other => other,
                }
            }
            State::Hydrating { .. } => Change::Nothing,
            _ => self.wrong_state(),
        }
    }

    fn session_started(&self, session: SessionHandle, now: Timestamp) -> Change {
        if session.attempt() != self.attempt {
            return Change::Refused(Refused::Superseded(session.attempt()));
        }
        match &self.state {
            State::Hydrating { since, phase: Hydration::Dispatch { .. } } => {
                let event = NewEvent::new(
                    EventKind::SessionStarted,
                    json!({
                        "session_id": session.session_id(), "strategy_type": session.backend(),
                        "attempt": self.attempt, "isolation": session.tier(),
                        "isolation_note": session.tier().explain(),
                    }),
                );
                let (id, tier) = (session.session_id(), session.tier());
                let phase = Hydration::Boot { session };
                match self.to(State::Hydrating { since: *since, phase }, vec![event], Slots::Keep, now) {
                    Change::Applied(mut applied) => {
                        applied.task.results.session_id = Some(id);
                        applied.task.results.isolation = Some(tier);
                        Change::Applied(applied)
                    }
                    other => other,
                }
            }
            State::Hydrating { phase: Hydration::Boot { .. }, .. } => Change::Nothing,
            _ => self.wrong_state(),
        }
    }

    fn agent_started(&self, prompt: Option<PromptVersion>, now: Timestamp) -> Change {
        match &self.state {
            State::Hydrating { phase: Hydration::Boot { session }, .. } => {
                let session = session.clone();
                let event = NewEvent::new(EventKind::TaskRunning, json!({ "attempt": self.attempt }));
                match self.to(State::Running { since: now, session }, vec![event], Slots::Keep, now) {
                    Change::Applied(mut applied) => {
                        applied.task.started_at = self.started_at.or(Some(now));
                        applied.task.results.prompt_version = prompt;
                        Change::Applied(applied)
                    }
                    other => other,
                }
            }
            State::Hydrating { .. } => self.too_early(),
            State::Running { .. } | State::AwaitingApproval { .. } | State::Finalizing { .. } => {
                Change::Nothing
            }
            _ => self.wrong_state(),
        }
    }

    fn open_gate(&self, request_id: String, until: Timestamp, now: Timestamp) -> Change {
        match &self.state {
            State::AwaitingApproval { request_id: open, .. } if *open == request_id => Change::Nothing,
            State::Running { session, .. } | State::Hydrating { phase: Hydration::Boot { session }, .. } => {
                let event = NewEvent::new(
                    EventKind::ApprovalOpened,
                    json!({ "request_id": request_id, "until": until }),
                );
                let session = session.clone();
                let state = State::AwaitingApproval { since: now, session, request_id, until };
                match self.to(state, vec![event], Slots::Keep, now) {
                    // A question asked before `agent_started` starts the task's lifetime as well.
                    Change::Applied(mut applied) => {
                        applied.task.started_at = self.started_at.or(Some(now));
                        Change::Applied(applied)
                    }
                    other => other,
                }
            }
            _ => self.wrong_state(),
        }
    }

    fn close_gate(&self, request_id: &str, now: Timestamp) -> Change {
        match &self.state {
            State::AwaitingApproval { session, request_id: open, .. } if open == request_id => {
                let event = NewEvent::new(EventKind::ApprovalClosed, json!({ "request_id": request_id }));
                self.to(
                    State::Running { since: now, session: session.clone() },
                    vec![event],
                    Slots::Keep,
                    now,
                )
            }
            State::Running { .. } => Change::Nothing,
            _ => self.wrong_state(),
        }
    }

    /// The order is given where an agent works; it stays until the box has left or its time is over.
    fn leave(&self, order: Order, until: Timestamp, now: Timestamp) -> Change {
        let (State::Running { .. } | State::AwaitingApproval { .. }) = self.state else {
            return self.wrong_state();
        };
        // The time that is running already is not made longer.
        let (until, left_at) = match &self.leaving {
            Some(before) if !order.replaces(&before.order) => return Change::Nothing,
            Some(before) => (before.until.min(until), before.left_at),
            None => (until, None),
        };
        let by = match &order {
            Order::Cancel { by } | Order::Pause { by } => Some(by),
            Order::UsageLimit { .. } => None,
        };
        let event = NewEvent::new(
            EventKind::LeaveRequested,
            json!({ "order": order.as_str(), "by": by, "until": until }),
        );
        let leaving = Some(Leaving { order, until, left_at });
        Task { leaving, ..self.clone() }.to(self.state.clone(), vec![event], Slots::Keep, now)
    }

    fn left(&self, now: Timestamp) -> Change {
        match &self.leaving {
            Some(leaving) if leaving.left_at.is_none() => {
                let leaving = Some(Leaving { left_at: Some(now), ..leaving.clone() });
                Task { leaving, ..self.clone() }.to(self.state.clone(), Vec::new(), Slots::Keep, now)
            }
            Some(_) => Change::Nothing,
            None => self.wrong_state(),
        }
    }

    /// What was ordered, once the work is saved or nobody waits for it any more.
    fn depart(&self, kept: Option<Kept>, now: Timestamp) -> Change {
        let Some(leaving) = &self.leaving else { return self.wrong_state() };
        if leaving.due_at() > now {
            return self.too_early();
        }
        let from = self.status();
        let tell = |kind, data| self.tell_kept(kind, data, kept.as_ref());
        let change = match &leaving.order {
            Order::Cancel { by } => {
                let events = tell(EventKind::TaskCancelled, json!({ "cancelled_by": by, "from": from }));
                self.end(State::Cancelled { since: now, by: by.clone() }, events, now)
            }
            Order::Pause { by } => {
                let data = json!({ "why": QueueReason::Paused.as_str(), "by": by });
                self.park_with(QueueReason::Paused, None, tell(EventKind::TaskParked, data), now)
            }
            Order::UsageLimit { until } => {
                let data = json!({ "why": QueueReason::ProviderLimit.as_str(), "not_before": until });
                let events = tell(EventKind::TaskParked, data);
                self.park_with(QueueReason::ProviderLimit, Some(*until), events, now)
            }
        };
        match change {
            Change::Applied(mut applied) => {
                if let Some(kept) = kept {
                    applied.task.results.head_sha = Some(kept.head_sha);
                }
                Change::Applied(applied)
            }
            other => other,
        }
    }

    /// An event, with what is kept of the work.
    fn tell_kept(&self, kind: EventKind, mut data: serde_json::Value, kept: Option<&Kept>) -> Vec<NewEvent> {
        let work = json!({
            "branch": kept.map(|_| &self.branch), "head_sha": kept.map(|k| &k.head_sha),
            "commits": kept.map(|k| k.commits), "kept_on": kept.map(|k| k.place),
        });
        if let (Some(all), Some(work)) = (data.as_object_mut(), work.as_object()) {
            all.extend(work.clone());
        }
        vec![NewEvent::new(kind, data)]
    }

    /// A lost box gives its slot back, and the next attempt waits its time in the queue.
    fn lose(&self, lost: Lost, now: Timestamp) -> Change {
        match &self.state {
            // It was asked to leave: its order says what follows.
            _ if self.leaving.is_some() => return self.wrong_state(),
            State::Hydrating { phase: Hydration::Boot { .. }, .. }
            | State::Running { .. }
            | State::AwaitingApproval { .. } => (),
            State::Queued { why: QueueReason::BoxLost, .. } => return Change::Nothing,
            State::Hydrating { .. } => return self.too_early(),
            _ => return self.wrong_state(),
        }
        let losses = Losses {
            boxes: self.losses.boxes.saturating_add(1),
            turns: self.losses.turns.saturating_add(lost.turns),
            last: Some(lost.failure.clone()),
        };
        let data = json!({
            "attempt": self.attempt, "boxes_lost": losses.boxes, "attempts_max": lost.attempts_max,
            "error_code": lost.failure.code,
            "detail": preview(&lost.failure.detail, limit::ERROR_MESSAGE_MAX_CHARS),
            "turns": lost.turns, "not_before": lost.not_before,
        });
        let events = self.tell_kept(EventKind::AttemptLost, data, lost.kept.as_ref());
        match self.park_with(QueueReason::BoxLost, Some(lost.not_before), events, now) {
            Change::Applied(mut applied) => {
                applied.task.losses = losses;
                if let Some(kept) = lost.kept {
                    applied.task.results.head_sha = Some(kept.head_sha);
                }
                Change::Applied(applied)
            }
            other => other,
        }
    }

    /// From waiting for a person or a time into the queue, as one that came just now.
    fn resume(&self, by: Option<&str>, now: Timestamp) -> Change {
        match &self.state {
            State::Queued { why: QueueReason::ConcurrencyLimit, .. } => Change::Nothing,
            State::Queued { since, why, .. } => {
                let waited = seconds(*since, now);
                // Boxes that die buy their task no time.
                let free = if *why == QueueReason::BoxLost { 0 } else { waited.unsigned_abs() };
                let event = NewEvent::new(
                    EventKind::TaskResumed,
                    json!({ "by": by, "after": why.as_str(), "parked_for_s": waited }),
                );
                let state =
                    State::Queued { since: now, why: QueueReason::ConcurrencyLimit, not_before: None };
                match self.to(state, vec![event], Slots::Keep, now) {
                    Change::Applied(mut applied) => {
                        applied.task.queued_at = Some(now);
                        applied.task.parked_s = self.parked_s.saturating_add(free);
                        applied.task.wake_at = Some(now);
                        Change::Applied(applied)
                    }
                    other => other,
                }
            }
            _ => self.wrong_state(),
        }
    }

    fn park(&self, why: QueueReason, not_before: Option<Timestamp>, now: Timestamp) -> Change {
        let data = json!({ "why": why.as_str(), "not_before": not_before, "detail": why.detail() });
        let events = vec![NewEvent::new(EventKind::TaskParked, data)];
        match &self.state {
            State::Queued { why: now, .. } if *now == why => Change::Nothing,
            // What a person wants to wait does so, whatever it waited for before; nothing else changes the reason.
            State::Queued { .. } if why != QueueReason::Paused => Change::Nothing,
            _ => self.park_with(why, not_before, events, now),
        }
    }

    fn park_with(
        &self,
        why: QueueReason,
        not_before: Option<Timestamp>,
        events: Vec<NewEvent>,
        now: Timestamp,
    ) -> Change {
        let stop = self.box_to_stop();
        match self.to(State::Queued { since: now, why, not_before }, events, Slots::Free, now) {
            Change::Applied(mut applied) => {
                applied.task.queued_at = self.queued_at.or(Some(now));
                applied.stop = stop;
                Change::Applied(applied)
            }
            other => other,
        }
    }

    fn complete(&self, results: Results, now: Timestamp) -> Change {
        let State::Finalizing { .. } = self.state else { return self.wrong_state() };
        let mut events = self.pr_event(&results);
        events.push(NewEvent::new(
            EventKind::TaskCompleted,
            json!({
                "final_status": Status::Completed, "pr_url": results.pr_url, "warning": results.warning,
                "cost_usd": (self.spent.calls > self.spent.unpriced_calls).then(|| self.spent.cost.usd()),
                "turns": results.turns_attempted,
            }),
        ));
        match self.end(State::Completed { since: now }, events, now) {
            Change::Applied(mut applied) => {
                applied.task.results = results;
                Change::Applied(applied)
            }
            other => other,
        }
    }

    fn fail(&self, failure: Failure, results: Option<Results>, now: Timestamp) -> Change {
        let mut events = results.as_ref().map(|r| self.pr_event(r)).unwrap_or_default();
        let data = failure_metadata(&failure, Status::Failed);
        if let State::Hydrating { phase: Hydration::Preflight, .. } = self.state {
            events.push(NewEvent::new(
                EventKind::PreflightFailed,
                json!({ "reason": failure.code, "detail": preview(&failure.detail, limit::ERROR_MESSAGE_MAX_CHARS) }),
            ));
        }
        events.push(NewEvent::new(EventKind::TaskFailed, data));
        match self.end(State::Failed { since: now, failure }, events, now) {
            Change::Applied(mut applied) => {
                if let Some(results) = results {
                    applied.task.results = results;
                }
                Change::Applied(applied)
            }
            other => other,
        }
    }

    fn time_out(&self, failure: Failure, now: Timestamp) -> Change {
        let event = NewEvent::new(EventKind::TaskTimedOut, failure_metadata(&failure, Status::TimedOut));
        self.end(State::TimedOut { since: now, failure }, vec![event], now)
    }

    /// `pr_created`, once: when the results bring a pull request that the task did not have.
    fn pr_event(&self, results: &Results) -> Vec<NewEvent> {
        match &results.pr_url {
            Some(url) if self.results.pr_url.is_none() => vec![NewEvent::new(
                EventKind::PrCreated,
                json!({ "pr_url": url, "branch": self.branch, "head_sha": results.head_sha }),
            )],
            _ => Vec::new(),
        }
    }
}

fn told_of(kind: EventKind, attachments: &Attachments) -> NewEvent {
    let data = json!({ "attachment_count": attachments.len(), "total_size_bytes": total_bytes(attachments) });
    NewEvent::new(kind, data)
}

fn failure_metadata(failure: &Failure, status: Status) -> serde_json::Value {
    let class = failure.classify();
    json!({
        "final_status": status, "error_code": failure.code, "error_message": failure.to_string(),
        "category": class.category, "title": class.title, "remedy": class.remedy, "retryable": class.retryable,
    })
}

fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    (to.as_second() - from.as_second()).max(0)
}

/// `at + duration`, at the end of time at the latest.
pub fn after(at: Timestamp, duration: Duration) -> Timestamp {
    at.saturating_add(jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX))
        .unwrap_or(Timestamp::MAX)
}

/// When the orchestrator must look at a task that just entered `state`.
pub(crate) fn wake_after(state: &State, now: Timestamp) -> Option<Timestamp> {
    match state {
        State::PendingUploads { until, .. } => Some(*until),
        State::Queued { since, why, not_before } => Some(match (why, not_before) {
            (_, Some(at)) => *at,
            (
                QueueReason::ConcurrencyLimit
                | QueueReason::Paused
                | QueueReason::ProviderLimit
                | QueueReason::BoxLost
                | QueueReason::Budget { .. },
                None,
            ) => after(*since, limit::QUEUE_BACKSTOP),
        }),
        State::Submitted { .. } | State::Finalizing { .. } => Some(now),
        State::Hydrating { phase: Hydration::Preflight | Hydration::Dispatch { .. }, .. } => Some(now),
        State::Hydrating { phase: Hydration::Boot { .. }, .. }
        | State::Running { .. }
        | State::AwaitingApproval { .. } => Some(after(now, limit::SUPERVISE_INTERVAL)),
        State::Completed { .. } | State::Failed { .. } | State::Cancelled { .. } | State::TimedOut { .. } => {
            None
        }
    }
}

#[cfg(test)]
mod tests;
