//! What comes next for a task: one pure, total function of what is stored and the time.

use std::time::Duration;

use domain::state::{Hydration, QueueReason};
use domain::transition::after;
use domain::{Command, Failure, FailureCode, State, Task, limit};
use jiff::Timestamp;
use store::SessionRecord;

use crate::config::Policy;

/// The next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing more, ever.
    Rest,
    /// Nothing before this time.
    Wait(Timestamp),
    /// A transition, without anything done outside.
    Apply(Box<Command>),
    /// Take a slot, or queue.
    Admit,
    /// Leave the queue if there is a slot.
    PickUp,
    /// Run the cheap checks.
    Preflight,
    /// Start the box (or find the one that was started).
    Dispatch,
    /// Ask the backend about the box.
    Poll,
    /// End a box that is gone; give the task its next attempt, or its end.
    Lose(Failure),
    /// Keep the work of an agent that left, and carry out the order it left by.
    Leave,
    /// Push, open the pull request, decide.
    Finish,
}

/// Whether the backend was asked in this look already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polled {
    /// Not yet.
    NotYet,
    /// Just now.
    JustNow,
}

/// What comes next for `task`. `session` is the record of its current attempt, where there is one.
pub fn next_step(
    task: &Task,
    session: Option<&SessionRecord>,
    polled: Polled,
    now: Timestamp,
    policy: &Policy,
) -> Step {
    if let Some(leaving) = &task.leaving {
        // Its box is about to end, which is no accident.
        return match leaving.due_at() <= now {
            true => Step::Leave,
            false => Step::Wait(leaving.due_at()),
        };
    }
    match &task.state {
        State::Completed { .. } | State::Failed { .. } | State::Cancelled { .. } | State::TimedOut { .. } => {
            Step::Rest
        }
        State::PendingUploads { until, .. } => {
            if *until <= now {
                Step::Apply(Box::new(Command::ExpireUploads))
            } else {
                Step::Wait(*until)
            }
        }
        State::Queued { since, why, not_before } => {
            if let Some(at) = not_before
                && *at > now
            {
                return Step::Wait(*at);
            }
            match why {
                QueueReason::ConcurrencyLimit => {
                    if after(task.queued_at.unwrap_or(*since), policy.queue_backstop) <= now {
                        let waited = policy.queue_backstop.as_secs();
                        return fail(
                            FailureCode::QueueTimeout,
                            format!("no slot became free within {waited} s"),
                        );
                    }
                    Step::PickUp
                }
                // Only a person's `resume` ends this.
                QueueReason::Paused => Step::Wait(after(now, policy.queue_backstop)),
                QueueReason::ProviderLimit | QueueReason::BoxLost | QueueReason::Budget { .. } => {
                    Step::Apply(Box::new(Command::Resume { by: None }))
                }
            }
        }
        State::Submitted { .. } => Step::Admit,
        State::Hydrating { since, phase } => match phase {
            Hydration::Preflight => Step::Preflight,
            Hydration::Dispatch { .. } => late_start(*since, now, policy).unwrap_or(Step::Dispatch),
            Hydration::Boot { .. } => late_start(*since, now, policy)
                .unwrap_or_else(|| supervise(task, session, polled, now, policy)),
        },
        State::Running { .. } => supervise(task, session, polled, now, policy),
        State::AwaitingApproval { request_id, until, .. } => {
            if *until <= now {
                return Step::Apply(Box::new(Command::CloseGate { request_id: request_id.clone() }));
            }
            supervise(task, session, polled, now, policy)
        }
        // At least one try in each look: its deadline is looked at after a try that failed.
        State::Finalizing { .. } => Step::Finish,
    }
}

/// A live box: deadlines first, then the backend's word, then patience.
fn supervise(
    task: &Task,
    session: Option<&SessionRecord>,
    polled: Polled,
    now: Timestamp,
    policy: &Policy,
) -> Step {
    let lifetime = *policy.lifetime.of(&task.spec.repo);
    if let Some(started) = task.started_at
        && after(started, lifetime + Duration::from_secs(task.parked_s)) <= now
    {
        let detail = format!("the task ran longer than {} s", lifetime.as_secs());
        return Step::Apply(Box::new(Command::TimeOut {
            failure: Failure::new(FailureCode::TaskLifetimeExceeded, detail),
        }));
    }
    let Some(session) = session else {
        return fail(FailureCode::SessionLost, "there is no record of the session of this attempt");
    };
    if session.polls.errors >= limit::POLL_ERRORS_MAX {
        let detail = format!("the backend could not be asked {} times in a row", session.polls.errors);
        return lost(FailureCode::SessionPollFailed, detail);
    }
    if session.polls.ended >= limit::POLL_ENDED_MAX {
        let detail = match session.attached_at {
            Some(_) => "the worker's process ended without a result",
            None => "the worker's process ended before it attached",
        };
        return lost(FailureCode::SessionEndedWithoutResult, detail);
    }
    match (session.attached_at, session.heartbeat_at) {
        (None, _) if after(session.opened_at, policy.attach_deadline) <= now => {
            let detail = format!("the worker did not attach within {} s", policy.attach_deadline.as_secs());
            return lost(FailureCode::SessionNeverStarted, detail);
        }
        (Some(attached), beat) if after(beat.unwrap_or(attached), policy.heartbeat_stale) <= now => {
            let detail = format!("no heartbeat of the worker for {} s", policy.heartbeat_stale.as_secs());
            return lost(FailureCode::SessionLost, detail);
        }
        _ => (),
    }
    match polled {
        Polled::NotYet => Step::Poll,
        Polled::JustNow => Step::Wait(after(now, pace(session, policy))),
    }
}

/// A session that seems to have ended is looked at again soon, so that its task ends soon.
fn pace(session: &SessionRecord, policy: &Policy) -> Duration {
    match session.polls.ended {
        0 => policy.supervise_interval,
        _ => policy.supervise_interval / 10,
    }
}

fn late_start(since: Timestamp, now: Timestamp, policy: &Policy) -> Option<Step> {
    (after(since, policy.hydration_deadline) <= now).then(|| {
        let detail = format!("the agent did not start within {} s", policy.hydration_deadline.as_secs());
        fail(FailureCode::HydrationTimedOut, detail)
    })
}

/// A box that ended, fell silent or never said anything.
fn lost(code: FailureCode, detail: impl Into<String>) -> Step {
    Step::Lose(Failure::new(code, detail))
}

fn fail(code: FailureCode, detail: impl Into<String>) -> Step {
    Step::Apply(Box::new(Command::Fail { failure: Failure::new(code, detail), results: None }))
}

#[cfg(test)]
mod tests;
