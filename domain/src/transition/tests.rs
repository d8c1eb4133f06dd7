//! The state machine as a table, and the laws that hold in every cell of it.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::attachment::Content;
use crate::id::UserId;
use crate::leave::Place;
use crate::lost::Lost;
use crate::report::{AgentStatus, GateResult, Report};
use crate::session::SessionHandle;
use crate::task::TaskSpec;

const NOW: i64 = 1_700_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(NOW + second).unwrap()
}

fn session(attempt: Attempt) -> SessionHandle {
    SessionHandle::Fake { task: TaskId::from_bits(1), attempt }
}

fn report() -> Report {
    Report {
        agent: AgentStatus::Success,
        build: GateResult::Passed,
        lint: GateResult::Inert,
        turns_attempted: 3,
        turns_completed: 3,
        head_sha: None,
        commits: 0,
        pr_title: String::new(),
        pr_body: String::new(),
        answer: String::new(),
        failure: None,
    }
}

fn failure() -> Failure {
    Failure::new(FailureCode::SessionLost, "gone")
}

fn attachment() -> AttachmentId {
    AttachmentId::of(TaskId::from_bits(1), 0)
}

fn attachments() -> Attachments {
    let content = Content {
        content_type: "text/plain".into(),
        size_bytes: 3,
        sha256: "ab".into(),
        tokens: 1,
        text_bytes: None,
    };
    Attachments::from([(attachment(), Screened::Passed(content))])
}

fn new_task() -> Task {
    let spec: TaskSpec = serde_json::from_value(serde_json::json!({
        "repo": "octo/cat", "workflow": "coding/new-task-v1", "description": "Fix it",
        "attachments": [{ "kind": "file", "filename": "a.txt", "delivery": "url_fetch", "url": "https://x/a.txt" }],
    }))
    .unwrap();
    Task::new(TaskId::from_bits(1), UserId::new("u"), "api", spec, at(0))
}

/// Every state, each phase of hydration by itself, as attempt 2 of a task.
fn states() -> Vec<(&'static str, Task)> {
    let since = at(0);
    let attempt = Attempt(2);
    let session = session(attempt);
    let dispatch = Hydration::Dispatch { base_branch: "main".into() };
    let hydrating = |phase| State::Hydrating { since, phase };
    let gate =
        State::AwaitingApproval { since, session: session.clone(), request_id: "q1".into(), until: at(900) };
    [
        ("pending_uploads", State::PendingUploads { since, until: at(1_800) }),
        ("queued", State::Queued { since, why: QueueReason::ConcurrencyLimit, not_before: None }),
        ("queued: paused", State::Queued { since, why: QueueReason::Paused, not_before: None }),
        ("queued: box lost", State::Queued { since, why: QueueReason::BoxLost, not_before: Some(at(90)) }),
        ("submitted", State::Submitted { since }),
        ("hydrating: preflight", hydrating(Hydration::Preflight)),
        ("hydrating: dispatch", hydrating(dispatch)),
        ("hydrating: boot", hydrating(Hydration::Boot { session: session.clone() })),
        ("running", State::Running { since, session: session.clone() }),
        ("running: leaving", State::Running { since, session: session.clone() }),
        ("awaiting_approval", gate),
        ("finalizing", State::Finalizing { since, session, report: Box::new(report()) }),
        ("completed", State::Completed { since }),
        ("failed", State::Failed { since, failure: failure() }),
        ("cancelled", State::Cancelled { since, by: "u".into() }),
        ("timed_out", State::TimedOut { since, failure: failure() }),
    ]
    .into_iter()
    .map(|(name, state)| {
        let worked = matches!(
            state.status(),
            Status::Running | Status::AwaitingApproval | Status::Finalizing | Status::Completed
        );
        let started_at = worked.then_some(since);
        let leaving = name.ends_with("leaving").then(|| {
            let order = Order::Pause { by: "p".into() };
            Leaving { order, until: at(900), left_at: Some(since) }
        });
        (name, Task { state, attempt, version: 7, started_at, leaving, ..new_task() })
    })
    .collect()
}

/// Every command, for attempt `a`; the boxes' commands also as an older attempt would say them.
fn commands(a: Attempt) -> Vec<(String, Command)> {
    let old = Attempt(a.0.saturating_sub(1));
    let results = Box::new(Results { pr_url: Some("https://pr/1".into()), ..Results::default() });
    let failed = |results| Command::Fail { failure: failure(), results };
    let passed = Command::PreflightPassed {
        base_branch: "main".into(),
        model: "p/m".into(),
        warnings: vec!["shallow".into()],
    };
    let park = Command::Park { why: QueueReason::ProviderLimit, not_before: Some(at(3_600)) };
    let budget = QueueReason::Budget { detail: "of ann".into() };
    let open = |id: &str, attempt| Command::OpenGate { attempt, request_id: id.into(), until: at(900) };
    let lose = |attempt| {
        let (not_before, kept) = (at(65), None);
        let lost = Lost { failure: failure(), turns: 4, attempts_max: 2, not_before, kept };
        Command::Lose { attempt, lost: Box::new(lost) }
    };
    let named = |suffix: &str, command: Command| (format!("{}{suffix}", command.name()), command);
    vec![
        named("", Command::ConfirmUploads { attachments: attachments() }),
        named("", Command::ExpireUploads),
        named("", Command::BlockAttachment { attachment: attachment(), reason: "a bomb".into() }),
        named(
            " (other)",
            Command::BlockAttachment { attachment: AttachmentId::from_bits(9), reason: "x".into() },
        ),
        named("", Command::AttachmentsFetched { attachments: attachments() }),
        named("", Command::Enqueue),
        named("", Command::PickUp),
        named("", Command::Admit),
        named("", passed),
        named("", Command::SessionStarted { session: session(a) }),
        named(" (old)", Command::SessionStarted { session: session(old) }),
        named("", Command::AgentStarted { attempt: a, prompt: None }),
        named(" (old)", Command::AgentStarted { attempt: old, prompt: None }),
        named("", open("q1", a)),
        named(" (other)", open("q2", a)),
        named(" (old)", open("q1", old)),
        named("", Command::CloseGate { request_id: "q1".into() }),
        named(" (other)", Command::CloseGate { request_id: "q2".into() }),
        named("", park),
        named(" (pause)", Command::Park { why: QueueReason::Paused, not_before: None }),
        named(" (budget)", Command::Park { why: budget, not_before: Some(at(3_600)) }),
        named("", Command::Leave { order: Order::Cancel { by: "u".into() }, until: at(900) }),
        named("", Command::Left { attempt: a }),
        named(" (old)", Command::Left { attempt: old }),
        named("", Command::Depart { kept: None }),
        named("", Command::Resume { by: Some("u".into()) }),
        named("", lose(a)),
        named(" (old)", lose(old)),
        named("", Command::Report { attempt: a, report: Box::new(report()) }),
        named(" (old)", Command::Report { attempt: old, report: Box::new(report()) }),
        named("", Command::Complete { results: results.clone() }),
        named("", failed(None)),
        named(" (with PR)", failed(Some(results))),
        named("", Command::TimeOut { failure: failure() }),
        named("", Command::Cancel { by: "u".into() }),
    ]
}

/// Every cell of the table: the state's name, the task, the command's name and the command.
fn cells() -> impl Iterator<Item = (&'static str, Task, String, Command)> {
    states().into_iter().flat_map(|(state, task)| {
        commands(task.attempt).into_iter().map(move |(name, command)| (state, task.clone(), name, command))
    })
}

/// Every cell that changes something.
fn changes() -> impl Iterator<Item = (String, Task, Command, Applied)> {
    cells().filter_map(|(state, task, name, command)| match task.on(command.clone(), at(60)) {
        Change::Applied(applied) => Some((format!("{state} x {name}"), task, command, *applied)),
        Change::Nothing | Change::Refused(_) => None,
    })
}

fn place(task: &Task) -> String {
    match &task.state {
        State::Hydrating { phase, .. } => {
            let phase = match phase {
                Hydration::Preflight => "preflight",
                Hydration::Dispatch { .. } => "dispatch",
                Hydration::Boot { .. } => "boot",
            };
            format!("HYDRATING: {phase}")
        }
        state => state.status().to_string(),
    }
}

fn cell(change: &Change) -> String {
    match change {
        Change::Nothing => "-".into(),
        Change::Refused(why) => format!("refused: {why}"),
        Change::Applied(applied) => {
            let events: Vec<_> = applied.events.iter().map(|e| e.kind.as_str()).collect();
            let mut text = format!("=> {:<22} {}", place(&applied.task), events.join(" + "));
            match applied.slots {
                Slots::Keep => (),
                Slots::Take => text.push_str(", takes slots"),
                Slots::Free => text.push_str(", frees slots"),
            }
            if let Some(stop) = &applied.stop {
                let which = if stop.session.is_some() { "the box" } else { "a box that may exist" };
                let _ = write!(text, ", stops {which}");
            }
            text
        }
    }
}

/// D-035: edges that happened were not in the table.
#[test]
fn the_whole_table() {
    let mut table = String::new();
    let mut last = "";
    for (state, task, name, command) in cells() {
        if last != state {
            let _ = writeln!(table, "\n{state}");
            last = state;
        }
        let _ = writeln!(table, "  {name:<22} {}", cell(&task.on(command, at(60))));
    }
    insta::assert_snapshot!("table", table);
}

#[test]
fn a_repeated_command_changes_nothing_and_says_nothing_twice() {
    for (what, before, command, applied) in changes() {
        // What a repeat after the change may answer: it is so already, or (a parked attempt, say) it is too late.
        if let Change::Applied(again) = applied.task.on(command, at(61)) {
            panic!("{what} from {before:?}: the repeat was applied again: {again:?}");
        }
    }
}

#[test]
fn every_change_follows_an_edge_and_raises_the_version_by_one() {
    for (what, before, _, applied) in changes() {
        let (from, to) = (before.status(), applied.task.status());
        assert!(from == to || from.next().contains(&to), "{what}: {from} -> {to} is no edge");
        assert_eq!(applied.task.version, before.version + 1, "{what}");
        assert_eq!(applied.task.updated_at, at(60), "{what}");
        assert!(!applied.events.is_empty(), "{what}: a change that nobody is told of");
    }
}

/// D-035: edges that happened were not in the table.
#[test]
fn every_edge_is_used_by_some_command() {
    let used: Vec<_> =
        changes().map(|(_, before, _, after)| (before.status(), after.task.status())).collect();
    for from in Status::ALL {
        for to in from.next() {
            assert!(used.contains(&(from, *to)), "no command goes {from} -> {to}");
        }
    }
}

/// D-056: a cancel overwrote an end.
#[test]
fn an_ended_task_refuses_all_but_the_repeat_of_its_end() {
    for (state, task, name, command) in cells().filter(|(_, task, ..)| task.status().is_terminal()) {
        let repeat = matches!(
            (task.status(), &command),
            (Status::Completed, Command::Complete { .. })
                | (Status::Failed, Command::Fail { .. })
                | (Status::Cancelled, Command::Cancel { .. })
                | (Status::TimedOut, Command::TimeOut { .. })
        );
        match task.on(command, at(60)) {
            Change::Nothing => assert!(repeat, "{state} x {name}"),
            Change::Refused(_) => assert!(!repeat, "{state} x {name}"),
            Change::Applied(_) => panic!("{state} x {name}: an ended task changed"),
        }
    }
}

#[test]
fn a_superseded_attempt_is_told_so_in_every_state_it_could_still_speak_in() {
    for (state, task, name, command) in cells().filter(|(_, _, name, _)| name.ends_with("(old)")) {
        match task.on(command, at(60)) {
            Change::Refused(Refused::Superseded(old)) => assert_eq!(old, Attempt(1), "{state} x {name}"),
            // The control plane's own late word, to a task that has ended.
            Change::Refused(Refused::Terminal(_)) => assert!(name.starts_with("session_started"), "{state}"),
            other => panic!("{state} x {name}: {other:?}"),
        }
    }
}

/// D-042: slots leaked and were counted twice.
#[test]
fn whatever_ends_or_parks_a_task_frees_its_slots_and_stops_its_box() {
    for (what, before, _, applied) in changes() {
        // What goes from one reason to wait to another holds nothing.
        let waited = before.status() == Status::Queued;
        let leaves =
            applied.task.status().is_terminal() || (applied.task.status() == Status::Queued && !waited);
        let may_have_box = matches!(
            before.state,
            State::Hydrating { phase: Hydration::Dispatch { .. } | Hydration::Boot { .. }, .. }
                | State::Running { .. }
                | State::AwaitingApproval { .. }
                | State::Finalizing { .. }
        );
        assert_eq!(applied.stop.is_some(), leaves && may_have_box, "{what}: {:?}", applied.stop);
        if let Some(stop) = &applied.stop {
            assert_eq!((stop.task, stop.attempt), (before.id, before.attempt), "{what}");
            assert_eq!(stop.session.as_ref(), before.state.session(), "{what}");
        }
        let held = !matches!(before.status(), Status::PendingUploads | Status::Submitted);
        if applied.task.status().is_terminal() || (leaves && held) {
            assert_eq!(applied.slots, Slots::Free, "{what}");
        }
    }
}

/// D-034: an end was told twice.
#[test]
fn an_end_is_told_once_closes_the_books_and_wakes_nobody() {
    for (what, _, _, applied) in changes() {
        let ended = applied.task.status().is_terminal();
        let told = applied.events.iter().filter(|e| e.kind.is_terminal()).count();
        assert_eq!(told, usize::from(ended), "{what}");
        assert_eq!(applied.task.completed_at.is_some(), ended, "{what}");
        assert_eq!(applied.task.wake_at.is_none(), ended, "{what}: {:?}", applied.task.wake_at);
    }
}

#[test]
fn only_admission_begins_an_attempt_and_only_into_hydration() {
    for (what, before, command, applied) in changes() {
        let begins = matches!(command, Command::Admit);
        let expected = if begins { before.attempt.next() } else { before.attempt };
        assert_eq!(applied.task.attempt, expected, "{what}");
        assert_eq!(applied.slots == Slots::Take, begins || matches!(command, Command::PickUp), "{what}");
    }
}

#[test]
fn whoever_works_or_waits_for_a_decision_has_a_start_that_stays() {
    for (what, before, _, applied) in changes() {
        if let Status::Running | Status::AwaitingApproval = applied.task.status() {
            assert_eq!(applied.task.started_at, before.started_at.or(Some(at(60))), "{what}");
            assert_eq!(before.started_at.is_none(), before.status() == Status::Hydrating, "{what}");
        }
    }
}

#[test]
fn a_pull_request_is_told_once() {
    let results = |url: &str| Box::new(Results { pr_url: Some(url.into()), ..Results::default() });
    let finalizing = states().into_iter().find(|(name, _)| *name == "finalizing").unwrap().1;
    let told = |task: &Task| match task.on(Command::Complete { results: results("https://pr/1") }, at(60)) {
        Change::Applied(applied) => applied.events.iter().filter(|e| e.kind == EventKind::PrCreated).count(),
        other => panic!("{other:?}"),
    };
    assert_eq!(told(&finalizing), 1);
    let known = Task { results: *results("https://pr/1"), ..finalizing };
    assert_eq!(told(&known), 0);
}

/// A command picked by number, as somebody who does not know the state would send it.
fn blind(choice: usize, attempt_back: u32, task: &Task) -> Command {
    let attempt = Attempt(task.attempt.0.saturating_sub(attempt_back));
    let mut all = commands(attempt);
    let n = choice % all.len();
    all.swap_remove(n).1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_sequence_of_commands_leaves_the_table(
        script in prop::collection::vec((any::<usize>(), 0u32..2, 0i64..600), 1..60)
    ) {
        let mut task = new_task();
        let mut clock = 0;
        let mut ends = 0;
        for (choice, back, seconds) in script {
            clock += seconds;
            let command = blind(choice, back, &task);
            let was_over = task.status().is_terminal();
            match task.on(command, at(clock)) {
                Change::Applied(applied) => {
                    let (from, to) = (task.status(), applied.task.status());
                    prop_assert!(!was_over, "{} changed after its end", from);
                    prop_assert!(from == to || from.next().contains(&to), "{} -> {}", from, to);
                    prop_assert!(applied.task.attempt >= task.attempt);
                    prop_assert_eq!(applied.task.version, task.version + 1);
                    prop_assert!(applied.task.state.session().is_none_or(|s| s.attempt() == applied.task.attempt));
                    ends += applied.events.iter().filter(|e| e.kind.is_terminal()).count();
                    task = applied.task;
                }
                Change::Nothing | Change::Refused(_) => (),
            }
            prop_assert_eq!(ends, usize::from(task.status().is_terminal()));
            prop_assert_eq!(task.wake_at.is_none(), task.status().is_terminal());
        }
    }
}

fn working() -> Task {
    let (_, task) = states().into_iter().find(|(name, _)| *name == "running").unwrap();
    task
}

fn done(change: Change) -> Applied {
    match change {
        Change::Applied(applied) => *applied,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_order_waits_for_the_work_to_be_saved_and_not_for_ever() {
    let pause = Command::Leave { order: Order::Pause { by: "p".into() }, until: at(60) };
    let leaving = done(working().on(pause.clone(), at(10)));
    assert_eq!((leaving.task.status(), leaving.task.wake_at), (Status::Running, Some(at(60))));
    assert_eq!((leaving.slots, &leaving.stop), (Slots::Keep, &None), "the box saves its work");
    let task = leaving.task;
    assert_eq!(task.on(pause, at(11)), Change::Nothing);
    assert_eq!(
        task.on(Command::Depart { kept: None }, at(59)),
        Change::Refused(Refused::TooEarly(Status::Running))
    );
    let late = done(task.on(Command::Depart { kept: None }, at(60)));
    assert_eq!(late.task.status(), Status::Queued);
    let left = done(task.on(Command::Left { attempt: task.attempt }, at(20)));
    assert!(left.events.is_empty());
    assert_eq!(left.task.wake_at, Some(at(20)));
    let kept = Kept { head_sha: "abc".into(), commits: 2, place: Place::Server };
    let parked = done(left.task.on(Command::Depart { kept: Some(kept) }, at(21)));
    assert_eq!((parked.slots, parked.stop.is_some()), (Slots::Free, true));
    assert_eq!(parked.events[0].metadata["why"], "paused");
    assert_eq!(parked.events[0].metadata["head_sha"], "abc");
    assert_eq!((parked.task.leaving, parked.task.results.head_sha.as_deref()), (None, Some("abc")));
}

#[test]
fn a_cancel_replaces_a_pause_and_a_pause_a_limit_but_never_the_reverse() {
    let order = |order| Command::Leave { order, until: at(60) };
    let cancel = || order(Order::Cancel { by: "u".into() });
    let pause = || order(Order::Pause { by: "p".into() });
    let limit = || order(Order::UsageLimit { until: at(9_000) });
    let limited = done(working().on(limit(), at(1))).task;
    let paused = done(limited.on(pause(), at(2))).task;
    assert_eq!(paused.on(limit(), at(3)), Change::Nothing);
    let cancelled = done(paused.on(cancel(), at(4))).task;
    assert_eq!(cancelled.on(pause(), at(5)), Change::Nothing);
    let ended = done(cancelled.on(Command::Depart { kept: None }, at(60)));
    assert_eq!(ended.task.status(), Status::Cancelled);
    assert_eq!(ended.events[0].metadata, json!({ "cancelled_by": "u", "from": "RUNNING" }));
}

#[test]
fn what_was_parked_comes_back_as_one_that_came_just_now() {
    let park = Command::Park { why: QueueReason::Paused, not_before: None };
    let parked = done(working().on(park, at(100))).task;
    let resumed = done(parked.on(Command::Resume { by: Some("p".into()) }, at(90_100))).task;
    assert_eq!(
        (resumed.queued_at, resumed.parked_s, resumed.wake_at),
        (Some(at(90_100)), 90_000, Some(at(90_100)))
    );
    assert_eq!(resumed.on(Command::Resume { by: None }, at(90_101)), Change::Nothing);
    let again = done(done(resumed.on(Command::PickUp, at(90_102))).task.on(Command::Admit, at(90_103))).task;
    assert_eq!(again.attempt, working().attempt.next());
}

#[test]
fn what_the_agents_of_lost_boxes_took_is_counted_and_their_waits_are_no_gift() {
    let lost = |task: &Task, turns, second: i64| {
        let kept = Kept { head_sha: "abc".into(), commits: 1, place: Place::Server };
        let (failure, not_before) = (failure(), at(second + 5));
        let lost = Lost { failure, turns, attempts_max: 3, not_before, kept: Some(kept) };
        Command::Lose { attempt: task.attempt, lost: Box::new(lost) }
    };
    let task = working();
    let first = done(task.on(lost(&task, 4, 10), at(10)));
    assert_eq!((first.task.wake_at, first.slots, first.stop.is_some()), (Some(at(15)), Slots::Free, true));
    assert_eq!(first.events[0].metadata["boxes_lost"], 1);
    assert_eq!(first.events[0].metadata["head_sha"], "abc");
    assert_eq!(first.task.results.head_sha.as_deref(), Some("abc"));
    let resumed = done(first.task.on(Command::Resume { by: None }, at(15))).task;
    assert_eq!((resumed.parked_s, resumed.started_at), (0, task.started_at));
    let admitted = done(done(resumed.on(Command::PickUp, at(16))).task.on(Command::Admit, at(17))).task;
    assert_eq!(admitted.attempt, task.attempt.next());
    let (attempt, running) = (admitted.attempt, session(admitted.attempt));
    let working = Task { state: State::Running { since: at(20), session: running }, ..admitted };
    let late = Command::Report { attempt: task.attempt, report: Box::new(report()) };
    assert_eq!(working.on(late, at(21)), Change::Refused(Refused::Superseded(task.attempt)));
    let second = done(working.on(lost(&working, 2, 30), at(30))).task;
    assert_eq!((second.losses.boxes, second.losses.turns, second.attempt), (2, 6, attempt));
    assert_eq!(second.losses.last.map(|f| f.code), Some(FailureCode::SessionLost));
}
