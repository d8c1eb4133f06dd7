//! The rules that every driver shares: pure, so that two engines cannot disagree about them.

use std::time::Duration;

use domain::event::{EventKind, NewEvent};
use domain::steer::{Answer, AnswerSource, Ask, Nudge};
use domain::{Attempt, EventId, ObligationId, Status, Task, TaskId};
use jiff::Timestamp;
use serde_json::json;

use crate::record::{NewAsk, NudgeTake, PollCounters, PollResult, Scope};

/// The id of a task's next event. It is greater than `last` whatever the clock does, and depends on nothing but its
/// arguments, so that a run can be repeated.
pub(crate) fn event_id(task: TaskId, seq: u64, last: Option<EventId>, now: Timestamp) -> EventId {
    let fresh = EventId::from_parts(now, mix(task, seq));
    match last {
        Some(last) if last.millis() >= fresh.millis() => EventId::from_bits(last.bits().saturating_add(1)),
        Some(_) | None => fresh,
    }
}

/// The id of the obligation to stop a box that a change creates: one change creates at most one.
pub(crate) fn obligation_id(task: TaskId, version: u64, now: Timestamp) -> ObligationId {
    ObligationId::from_parts(now, mix(task, version.rotate_left(32)))
}

/// Whether a change obliges us to put the task's trace together: it ends a task that wants one and had a box.
pub(crate) fn seals_trace(before: Status, after: &Task) -> bool {
    after.spec.trace
        && after.attempt != Attempt::NONE
        && after.status().is_terminal()
        && !before.is_terminal()
}

/// The id of that obligation; never that of [`obligation_id`].
pub(crate) fn seal_id(task: TaskId, version: u64, now: Timestamp) -> ObligationId {
    ObligationId::from_parts(now, mix(task, version.rotate_left(16)))
}

/// The scopes a task is counted in.
pub(crate) fn scopes(task: &Task) -> [Scope; 3] {
    [Scope::User(task.user.clone()), Scope::Repo(task.spec.repo.clone()), Scope::System]
}

/// When a changed task is due: as the change says, but a wake that nobody has looked at yet is kept.
pub(crate) fn wake_after_change(
    changed: &Task,
    stored: Option<Timestamp>,
    woken: Woken,
) -> Option<Timestamp> {
    match woken {
        Woken::Yes if !changed.status().is_terminal() => match (stored, changed.wake_at) {
            (Some(stored), Some(new)) => Some(stored.min(new)),
            (Some(at), None) | (None, Some(at)) => Some(at),
            (None, None) => None,
        },
        Woken::Yes | Woken::No => changed.wake_at,
    }
}

/// Whether somebody woke the task since it was last claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// Yes, and the next look has not happened.
    Yes,
    /// No.
    No,
}

/// The counters after one more poll. "Cannot say" does not break a row of "has ended": it says nothing of the session.
pub(crate) fn polled(counters: PollCounters, poll: PollResult) -> PollCounters {
    match poll {
        PollResult::Running => PollCounters::default(),
        PollResult::Ended => PollCounters { errors: 0, ended: counters.ended.saturating_add(1) },
        PollResult::Error => PollCounters { errors: counters.errors.saturating_add(1), ..counters },
    }
}

/// The event that says, once per attempt, that a box has used up its events.
pub(crate) fn events_dropped(limit: u64) -> NewEvent {
    NewEvent::new(EventKind::EventsDropped, json!({ "reason": "attempt_event_limit", "limit": limit }))
}

/// States from which nothing can follow.
pub(crate) const ENDED: [Status; 4] =
    [Status::Completed, Status::Failed, Status::Cancelled, Status::TimedOut];

/// A minute ago.
pub(crate) fn a_minute_before(now: Timestamp) -> Timestamp {
    now.checked_sub(MINUTE).unwrap_or(Timestamp::MIN)
}

/// How long to wait until one more fits, when `recent` (times within the last minute, the oldest first) are too many
/// already. The window slides: there is no edge at which twice as many fit.
pub(crate) fn too_many(recent: &[Timestamp], per_minute: u32, now: Timestamp) -> Option<Duration> {
    let most = per_minute as usize;
    if recent.len() < most {
        return None;
    }
    let frees = recent.get(recent.len() - most.max(1))?.checked_add(MINUTE).unwrap_or(Timestamp::MAX);
    let wait = Duration::try_from(frees.duration_since(now)).unwrap_or_default();
    Some(wait.max(Duration::from_secs(1)))
}

/// Whether an attempt may take nudges: cancel comes first.
pub(crate) fn may_take(task: &Task, attempt: Attempt) -> bool {
    let works = matches!(task.status(), Status::Hydrating | Status::Running | Status::AwaitingApproval);
    works && task.attempt == attempt && task.leaving.is_none()
}

/// Of a task's nudges: those this attempt has already, and those it may take now.
pub(crate) fn takeable(all: Vec<Nudge>, take: &NudgeTake) -> (Vec<Nudge>, Vec<Nudge>) {
    let wanted = all.into_iter().filter(|n| take.ids.contains(&n.id));
    let (taken, fresh): (Vec<Nudge>, Vec<Nudge>) = wanted.partition(|n| n.taken.is_some());
    let ours = |n: &Nudge| n.taken.is_some_and(|(attempt, _)| attempt == take.attempt);
    let fresh = fresh.into_iter().map(|n| Nudge { taken: Some((take.attempt, take.now)), ..n });
    (taken.into_iter().filter(ours).collect(), fresh.collect())
}

/// The question as it is stored.
pub(crate) fn ask_of(new: &NewAsk) -> Ask {
    let answer = new.answer.clone().map(|text| Answer { text, source: AnswerSource::Record, at: new.now });
    Ask {
        id: new.id,
        task: new.task,
        by: new.by.clone(),
        question: new.question.clone(),
        opened_at: new.now,
        answer,
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// Spreads a task's id and a number over 128 bits (SplitMix64, twice).
fn mix(task: TaskId, n: u64) -> u128 {
    let bits = task.bits();
    let low = splitmix((bits as u64) ^ splitmix(n));
    let high = splitmix(((bits >> 64) as u64) ^ low);
    (u128::from(high) << 64) | u128::from(low)
}

fn splitmix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_ids_rise_even_when_the_clock_falls() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let task = TaskId::from_bits(9);
        let mut last = None;
        for (seq, second) in [(1, 100), (2, 100), (3, 50), (4, 101), (5, 0), (6, 101)] {
            let id = event_id(task, seq, last, at(second));
            assert!(last < Some(id), "{seq}");
            last = Some(id);
        }
        assert_eq!(last.unwrap().millis(), 101_000);
    }

    #[test]
    fn the_window_of_a_minute_slides() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let wait = |recent: &[i64], now| {
            let recent: Vec<_> = recent.iter().map(|s| at(*s)).collect();
            too_many(&recent, 2, at(now)).map(|d| d.as_secs())
        };
        assert_eq!(wait(&[], 100), None);
        assert_eq!(wait(&[99], 100), None);
        assert_eq!(wait(&[41, 99], 100), Some(1));
        assert_eq!(wait(&[90, 99], 100), Some(50));
        assert_eq!(wait(&[90, 95, 99], 100), Some(55), "more than fit: the second newest must go");
    }

    #[test]
    fn ended_means_terminal() {
        for status in Status::ALL {
            assert_eq!(ENDED.contains(&status), status.is_terminal(), "{status}");
        }
    }

    #[test]
    fn a_poll_that_cannot_say_does_not_break_a_row_of_ended() {
        let one = polled(PollCounters::default(), PollResult::Ended);
        let two = polled(polled(one, PollResult::Error), PollResult::Ended);
        assert_eq!(two, PollCounters { errors: 0, ended: 2 });
        assert_eq!(polled(two, PollResult::Running), PollCounters::default());
    }
}
