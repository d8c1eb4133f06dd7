//! Text in, text out: what stands stored, and the step that follows. Times are seconds; each deadline is looked at one
//! second before, and at it.

use std::collections::BTreeMap;

use domain::leave::{Leaving, Order};
use domain::report::{AgentStatus, GateResult, Report};
use domain::state::QueueReason;
use domain::{Attempt, SessionHandle, TaskId, UserId};
use store::PollCounters;

use super::*;

/// `state key=seconds ... [polled]`. `opened` says that there is a session record; the rest of it is `attached`,
/// `beat`, `errors`, `ended`.
const CASES: &str = "
uploads until=1800 now=1799
uploads until=1800 now=1800

queued now=0
queued now=86399
queued now=86400
queued first=-100 now=86299
queued first=-100 now=86300
queued not_before=60 now=59
queued not_before=60 now=60
queued not_before=90000 now=89999
queued not_before=90000 now=90000
queued paused=1 now=90000
queued lost=1 not_before=60 now=59
queued lost=1 not_before=60 now=60
queued budget=1 not_before=90000 now=89999
queued budget=1 not_before=90000 now=90000

submitted now=0
submitted now=999999

preflight now=0
preflight now=999999
dispatch now=0
dispatch now=1199
dispatch now=1200

boot now=0
boot opened=0 now=0
boot opened=0 now=0 polled
boot opened=0 now=359
boot opened=0 now=359 polled
boot opened=0 now=360
boot opened=0 now=360 polled
boot opened=0 attached=359 now=598
boot opened=0 attached=359 now=599
boot opened=0 attached=10 beat=1190 now=1199
boot opened=0 attached=10 beat=1190 now=1200
boot opened=0 ended=1 now=10 polled
boot opened=0 ended=5 now=10 polled

running now=10
running opened=0 attached=1 beat=10 now=10
running opened=0 attached=1 beat=10 now=10 polled
running opened=0 attached=1 beat=10 now=249
running opened=0 attached=1 beat=10 now=250
running opened=0 attached=1 now=240
running opened=0 attached=1 now=241
running opened=0 attached=1 beat=10 errors=1 now=10 polled
running opened=0 attached=1 beat=10 errors=2 now=10 polled
running opened=0 attached=1 beat=10 errors=3 now=10
running opened=0 attached=1 beat=10 errors=3 now=10 polled
running opened=0 attached=1 beat=10 ended=1 now=10
running opened=0 attached=1 beat=10 ended=1 now=10 polled
running opened=0 attached=1 beat=10 ended=4 now=10 polled
running opened=0 attached=1 beat=10 ended=5 now=10 polled
running opened=0 attached=1 beat=10 ended=5 errors=3 now=10 polled
running leave=60 now=59
running leave=60 now=60
running leave=60 left=20 now=20
running leave=60 opened=0 attached=1 beat=10 ended=5 errors=3 now=30
running started=10 parked=1000 opened=0 attached=1 beat=28900 now=28910
running started=10 parked=1000 opened=0 attached=1 beat=29800 now=29810
running started=10 opened=0 attached=1 beat=28800 now=28809
running started=10 opened=0 attached=1 beat=28800 now=28810
running started=10 now=28810
running started=10 opened=0 attached=1 beat=10 ended=5 errors=3 now=28810

gate until=900 opened=0 attached=1 beat=890 now=899
gate until=900 opened=0 attached=1 beat=890 now=899 polled
gate until=900 opened=0 attached=1 beat=890 now=900
gate until=900 now=10
gate until=900 opened=0 attached=1 beat=10 now=250
gate until=99999 started=10 opened=0 attached=1 beat=28800 now=28810

finalizing now=0
finalizing now=1799
finalizing now=1800
finalizing opened=0 attached=1 beat=1 ended=5 now=1000

completed now=999999
failed now=999999
cancelled now=999999
timed_out now=999999
";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn report() -> Report {
    Report {
        agent: AgentStatus::Success,
        build: GateResult::Passed,
        lint: GateResult::Inert,
        turns_attempted: 1,
        turns_completed: 1,
        head_sha: None,
        commits: 0,
        pr_title: String::new(),
        pr_body: String::new(),
        answer: String::new(),
        failure: None,
    }
}

fn state(word: &str, times: &BTreeMap<&str, i64>) -> State {
    let task = TaskId::from_bits(1);
    let since = at(0);
    let session = SessionHandle::Fake { task, attempt: Attempt(1) };
    let failure = Failure::new(FailureCode::SessionLost, "gone");
    let until = at(times.get("until").copied().unwrap_or(0));
    match word {
        "uploads" => State::PendingUploads { since, until },
        "queued" => {
            let not_before = times.get("not_before").map(|s| at(*s));
            let why = match (times.contains_key("paused"), times.contains_key("lost"), not_before) {
                (true, ..) => QueueReason::Paused,
                (false, true, _) => QueueReason::BoxLost,
                (false, false, _) if times.contains_key("budget") => {
                    QueueReason::Budget { detail: "d".into() }
                }
                (false, false, Some(_)) => QueueReason::ProviderLimit,
                (false, false, None) => QueueReason::ConcurrencyLimit,
            };
            State::Queued { since, why, not_before }
        }
        "submitted" => State::Submitted { since },
        "preflight" => State::Hydrating { since, phase: Hydration::Preflight },
        "dispatch" => State::Hydrating { since, phase: Hydration::Dispatch { base_branch: "main".into() } },
        "boot" => State::Hydrating { since, phase: Hydration::Boot { session } },
        "running" => State::Running { since, session },
        "gate" => State::AwaitingApproval { since, session, request_id: "q1".into(), until },
        "finalizing" => State::Finalizing { since, session, report: Box::new(report()) },
        "completed" => State::Completed { since },
        "failed" => State::Failed { since, failure },
        "cancelled" => State::Cancelled { since, by: "u".into() },
        "timed_out" => State::TimedOut { since, failure },
        other => panic!("no state is called {other}"),
    }
}

fn case(line: &str) -> String {
    let mut words = line.split_whitespace();
    let word = words.next().unwrap();
    let (mut times, mut polled) = (BTreeMap::new(), Polled::NotYet);
    for word in words {
        match word.split_once('=') {
            Some((key, value)) => drop(times.insert(key, value.parse::<i64>().unwrap())),
            None => polled = if word == "polled" { Polled::JustNow } else { panic!("{word}?") },
        }
    }
    let time = |key: &str| times.get(key).map(|s| at(*s));
    let count = |key: &str| times.get(key).map_or(0, |n| u32::try_from(*n).unwrap());
    let spec = serde_json::json!({ "repo": "o/n", "workflow": "coding/new-task-v1", "description": "x" });
    let spec = serde_json::from_value(spec).unwrap();
    let task = Task {
        state: state(word, &times),
        attempt: Attempt(1),
        started_at: time("started"),
        queued_at: time("first"),
        parked_s: times.get("parked").map_or(0, |s| s.unsigned_abs()),
        leaving: time("leave").map(|until| Leaving {
            order: Order::Pause { by: "p".into() },
            until,
            left_at: time("left"),
        }),
        ..Task::new(TaskId::from_bits(1), UserId::new("u"), "api", spec, at(0))
    };
    let session = time("opened").map(|opened_at| SessionRecord {
        task: task.id,
        attempt: task.attempt,
        opened_at,
        instance: time("attached").map(|_| "i".into()),
        attached_at: time("attached"),
        heartbeat_at: time("beat"),
        stage: None,
        polls: PollCounters { errors: count("errors"), ended: count("ended") },
    });
    let now = time("now").unwrap();
    let step = next_step(&task, session.as_ref(), polled, now, &Policy::default());
    if let Step::Apply(command) = &step {
        let change = task.on((**command).clone(), now);
        assert!(matches!(change, domain::Change::Applied(_)), "{line}: the domain answers {change:?}");
    }
    told(&step)
}

fn told(step: &Step) -> String {
    match step {
        Step::Wait(until) => {
            format!("wait until {}", (until.as_millisecond() - at(0).as_millisecond()) as f64 / 1e3)
        }
        Step::Apply(command) => match &**command {
            Command::Fail { failure, .. } => format!("fail: {failure}"),
            Command::TimeOut { failure } => format!("time out: {failure}"),
            other => format!("apply {}", other.name()),
        },
        Step::Rest => "rest".into(),
        Step::Admit => "admit".into(),
        Step::PickUp => "pick up".into(),
        Step::Preflight => "preflight".into(),
        Step::Dispatch => "dispatch".into(),
        Step::Poll => "poll".into(),
        Step::Lose(failure) => format!("lose the box: {failure}"),
        Step::Leave => "carry out the order it left by".into(),
        Step::Finish => "finish".into(),
    }
}

/// D-039: time was counted in polls.
/// D-044: signs of life were looked at while running only.
/// D-045: nothing bounded the whole time.
#[test]
fn the_step_that_follows() {
    let table: Vec<String> = CASES
        .trim()
        .lines()
        .map(|line| match line {
            "" => String::new(),
            line => format!("{line:<66} -> {}", case(line)),
        })
        .collect();
    insta::assert_snapshot!("steps", table.join("\n"));
}

/// A step that does not wait and changes nothing would be asked for again at once, for ever.
#[test]
fn a_wait_is_always_for_later() {
    for line in CASES.lines().filter(|line| !line.is_empty()) {
        let now: f64 = line.split("now=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        if let Some(until) = case(line).strip_prefix("wait until ") {
            assert!(until.parse::<f64>().unwrap() > now, "{line}");
        }
    }
}
