//! Random commands on both drivers give the same answers and leave the same facts: the memory driver is the model.

#![expect(clippy::unwrap_used, reason = "the lint knows test functions, not what they call")]

use std::time::Duration;

use domain::event::{EventKind, NewEvent};
use domain::money::{MicroUsd, TokenCount};
use domain::state::{Hydration, QueueReason, State};
use domain::task::Workflow;
use domain::{Attempt, Change, Command, NodeId, RepoRef, SessionHandle, Task, TaskId, TaskSpec, UserId};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;
use store::*;

const TASKS: u8 = 7;
/// Stands for whatever attempt is the current one.
const CURRENT: u8 = 9;
const LEASE: Duration = Duration::from_secs(10);

/// One thing that somebody does. Small numbers, so that things meet.
#[derive(Debug, Clone)]
enum Step {
    Create { task: u8, key: Option<u8>, body: u8 },
    Act { task: u8, act: Act, from: From, under: Under, limit: u8 },
    ClaimDue { limit: u8 },
    Claim { task: u8 },
    Renew { task: u8, epoch: u8 },
    Release { task: u8, epoch: u8, behind: bool, wake: Option<u8> },
    Wake { task: u8 },
    Append { task: u8, attempt: u8, keys: Vec<u8>, limit: u8 },
    Usage { task: u8, call: u8, cost: Option<u8> },
    Open { task: u8, attempt: u8 },
    Attach { task: u8, attempt: u8, instance: u8 },
    Heartbeat { task: u8, attempt: u8 },
    Poll { task: u8, attempt: u8, poll: u8 },
    Oblige { limit: u8, then: u8 },
    Deliver { channel: u8, limit: u8, then: u8 },
    Read { task: u8, from: u8, limit: u8 },
    List { user: Option<u8>, ended: bool, limit: u8 },
}

#[derive(Debug, Clone, Copy)]
enum Act {
    /// What its state waits for.
    Next,
    Enqueue,
    PickUp,
    Admit,
    Pass,
    Start,
    Run,
    Ask,
    Answer,
    Pause,
    Cancel,
}

/// Which version of the task it was computed from.
#[derive(Debug, Clone, Copy)]
enum From {
    Current,
    Old,
}

/// Which lease it names.
#[derive(Debug, Clone, Copy)]
enum Under {
    None,
    Epoch(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let task = || 0..TASKS;
    let attempt = || prop_oneof![3 => Just(CURRENT), 1 => 0..3_u8];
    let act = prop_oneof![
        20 => Just(Act::Next),
        1 => Just(Act::Enqueue),
        1 => Just(Act::PickUp),
        3 => Just(Act::Admit),
        2 => Just(Act::Pass),
        2 => Just(Act::Start),
        2 => Just(Act::Run),
        1 => Just(Act::Ask),
        1 => Just(Act::Answer),
        1 => Just(Act::Pause),
        1 => Just(Act::Cancel),
    ];
    let from = prop_oneof![9 => Just(From::Current), 1 => Just(From::Old)];
    let under = prop_oneof![6 => Just(Under::None), 1 => (0..4_u8).prop_map(Under::Epoch)];
    prop_oneof![
        4 => (task(), proptest::option::of(0..3_u8), 0..2_u8).prop_map(|(task, key, body)| Step::Create { task, key, body }),
        24 => (task(), act, from, under, prop_oneof![1 => Just(0), 9 => 1..4_u8])
            .prop_map(|(task, act, from, under, limit)| Step::Act { task, act, from, under, limit }),
        2 => (0..4_u8).prop_map(|limit| Step::ClaimDue { limit }),
        2 => task().prop_map(|task| Step::Claim { task }),
        1 => (task(), 0..4_u8).prop_map(|(task, epoch)| Step::Renew { task, epoch }),
        2 => (task(), 0..4_u8, any::<bool>(), proptest::option::of(0..60_u8))
            .prop_map(|(task, epoch, behind, wake)| Step::Release { task, epoch, behind, wake }),
        2 => task().prop_map(|task| Step::Wake { task }),
        3 => (task(), attempt(), proptest::collection::vec(0..6_u8, 0..4), 2..8_u8)
            .prop_map(|(task, attempt, keys, limit)| Step::Append { task, attempt, keys, limit }),
        2 => (task(), 0..8_u8, proptest::option::of(0..9_u8)).prop_map(|(task, call, cost)| Step::Usage { task, call, cost }),
        1 => (task(), attempt()).prop_map(|(task, attempt)| Step::Open { task, attempt }),
        1 => (task(), attempt(), 0..2_u8).prop_map(|(task, attempt, instance)| Step::Attach { task, attempt, instance }),
        1 => (task(), attempt()).prop_map(|(task, attempt)| Step::Heartbeat { task, attempt }),
        1 => (task(), attempt(), 0..3_u8).prop_map(|(task, attempt, poll)| Step::Poll { task, attempt, poll }),
        2 => (0..3_u8, 0..3_u8).prop_map(|(limit, then)| Step::Oblige { limit, then }),
        2 => (0..2_u8, 0..3_u8, 0..3_u8).prop_map(|(channel, limit, then)| Step::Deliver { channel, limit, then }),
        1 => (task(), 0..30_u8, 0..9_u8).prop_map(|(task, from, limit)| Step::Read { task, from, limit }),
        1 => (proptest::option::of(0..2_u8), any::<bool>(), 0..5_u8)
            .prop_map(|(user, ended, limit)| Step::List { user, ended, limit }),
    ]
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap()
}

fn id(task: u8) -> TaskId {
    TaskId::from_parts(at(i64::from(task)), u128::from(task))
}

fn user(n: u8) -> UserId {
    UserId::new(["ann", "bob"][n as usize % 2])
}

/// The user and the repository of a task follow from its number; all are created at almost the same time.
fn new_task(n: u8, now: Timestamp) -> Task {
    let spec = TaskSpec {
        repo: RepoRef::GitHub { owner: "octo".into(), name: ["a", "b"][n as usize / 2 % 2].into() },
        workflow: Workflow::NewTask,
        issue_number: None,
        description: "Do it".into(),
        max_turns: None,
        max_budget: None,
        trace: false,
        model: None,
        base_branch: None,
        build_command: None,
        lint_command: None,
        isolation: None,
        attachments: Vec::new(),
    };
    Task::new(id(n), user(n), "api", spec, now)
}

/// What brings a task on from its state.
fn next(state: &State) -> Act {
    match state {
        State::Queued { .. } => Act::PickUp,
        State::PendingUploads { .. } | State::Submitted { .. } => Act::Admit,
        State::Hydrating { phase: Hydration::Preflight, .. } => Act::Pass,
        State::Hydrating { phase: Hydration::Dispatch { .. }, .. } => Act::Start,
        State::Hydrating { phase: Hydration::Boot { .. }, .. } => Act::Run,
        State::AwaitingApproval { .. } => Act::Answer,
        State::Running { .. } => Act::Pause,
        State::Finalizing { .. }
        | State::Completed { .. }
        | State::Failed { .. }
        | State::Cancelled { .. }
        | State::TimedOut { .. } => Act::Cancel,
    }
}

/// Drives one store and writes down what it answers.
struct Run {
    store: Store,
    now: Timestamp,
    old: Vec<Task>,
    seen: Vec<String>,
}

impl Run {
    async fn all(store: Store, steps: &[(Step, i16)]) -> Vec<String> {
        let mut run = Run { store, now: at(0), old: Vec::new(), seen: Vec::new() };
        let mut clock = 0;
        for task in 0..4 {
            run.step(Step::Create { task, key: None, body: 0 }).await;
        }
        for (step, pause) in steps {
            // The clock falls back now and then.
            clock += i64::from(*pause);
            run.now = at(clock);
            let answer = run.step(step.clone()).await;
            run.seen.push(format!("{step:?} at {clock}: {answer}"));
            let due = run.store.next_due().await;
            run.seen.push(format!("next due {due:?}; slots {:?}", run.store.slot_list().await));
        }
        run.facts().await;
        run.seen
    }

    async fn step(&mut self, step: Step) -> String {
        let (store, now) = (&self.store, self.now);
        match step {
            Step::Create { task, key, body } => {
                let idempotency =
                    key.map(|key| IdempotencyClaim { key: key.to_string(), body_hash: body.to_string() });
                let events = vec![NewEvent::new(EventKind::TaskCreated, json!({ "n": task }))];
                let outbox = vec![NewOutboxRow { channel: format!("c{}", task % 2), event: 0 }];
                let made = store
                    .task_create(NewTask { task: new_task(task, now), events, outbox, idempotency })
                    .await;
                match made {
                    Ok(made) => format!("{made:?}"),
                    // The words are each driver's own.
                    Err(_) => "refused".into(),
                }
            }
            Step::Act { task, act, from, under, limit } => self.act(task, act, from, under, limit).await,
            Step::ClaimDue { limit } => {
                format!("{:?}", store.task_claim_due(&NodeId::new("n"), now, LEASE, u32::from(limit)).await)
            }
            Step::Claim { task } => {
                format!("{:?}", store.task_claim(id(task), &NodeId::new("m"), now, LEASE).await)
            }
            Step::Renew { task, epoch } => {
                let until = domain::transition::after(now, LEASE);
                format!("{:?}", store.lease_renew(id(task), Epoch(u64::from(epoch)), until).await)
            }
            Step::Release { task, epoch, behind, wake } => {
                let version = store.task_get(id(task)).await.unwrap().map_or(1, |t| t.version);
                let release = LeaseRelease {
                    task: id(task),
                    epoch: Epoch(u64::from(epoch)),
                    seen_version: version - u64::from(behind),
                    wake_at: wake.map(|s| domain::transition::after(now, Duration::from_secs(s.into()))),
                };
                format!("{:?}", store.lease_release(release).await)
            }
            Step::Wake { task } => format!("{:?}", store.task_wake(id(task), now).await),
            Step::Append { task, attempt, keys, limit } => {
                let events = keys.iter().map(|key| NewEvent {
                    client_key: (*key > 0).then(|| key.to_string()),
                    ..NewEvent::new(EventKind::AgentMilestone, json!({ "key": key }))
                });
                let append = EventAppend {
                    task: id(task),
                    attempt: self.attempt(task, attempt).await,
                    events: events.collect(),
                    attempt_limit: limit.into(),
                    now,
                };
                format!("{:?}", store.events_append(append).await)
            }
            Step::Usage { task, call, cost } => {
                let usage = UsageRecord {
                    call_id: call.to_string(),
                    task: id(task),
                    attempt: Attempt(1),
                    model: "m".into(),
                    tokens: TokenCount { input: 3, output: call.into(), cache_read: 2, cache_write: 1 },
                    cost: cost.map(|c| MicroUsd(c.into())),
                    event: NewEvent::new(EventKind::AgentCostUpdate, json!({ "call": call })),
                    now,
                };
                format!("{:?}", store.usage_record(usage).await)
            }
            Step::Open { task, attempt } => {
                format!("{:?}", store.session_open(id(task), self.attempt(task, attempt).await, now).await)
            }
            Step::Attach { task, attempt, instance } => {
                let instance = instance.to_string();
                format!(
                    "{:?}",
                    store.session_attach(id(task), self.attempt(task, attempt).await, &instance, now).await
                )
            }
            Step::Heartbeat { task, attempt } => {
                format!(
                    "{:?}",
                    store.session_heartbeat(id(task), self.attempt(task, attempt).await, "agent", now).await
                )
            }
            Step::Poll { task, attempt, poll } => {
                let poll = [PollResult::Running, PollResult::Ended, PollResult::Error][poll as usize];
                format!("{:?}", store.session_polled(id(task), self.attempt(task, attempt).await, poll).await)
            }
            Step::Oblige { limit, then } => {
                let claimed = store.obligation_claim_due(now, LEASE, limit.into()).await.unwrap();
                for obligation in &claimed {
                    match then {
                        0 => store.obligation_done(obligation.id).await.unwrap(),
                        1 => store.obligation_retry(obligation.id, now, "again", Alarm::On).await.unwrap(),
                        _ => (),
                    }
                }
                format!("{claimed:?}")
            }
            Step::Deliver { channel, limit, then } => {
                let claimed =
                    store.outbox_claim(&format!("c{channel}"), now, LEASE, limit.into()).await.unwrap();
                for row in &claimed {
                    match then {
                        0 => store.outbox_done(row.id).await.unwrap(),
                        1 => store.outbox_retry(row.id, now, "again").await.unwrap(),
                        _ => (),
                    }
                }
                format!("{claimed:?}")
            }
            Step::Read { task, from, limit } => {
                let from = match from {
                    0 => EventCursor::Newest,
                    1..15 => EventCursor::AfterSeq(from.into()),
                    _ => EventCursor::AfterId(domain::EventId::from_parts(at(i64::from(from) * 50), 1 << 79)),
                };
                format!(
                    "{:?}",
                    store.events_read(EventQuery { task: id(task), from, limit: limit.into() }).await
                )
            }
            Step::List { user: of, ended, limit } => {
                let status = if ended { domain::Status::ALL[7..].to_vec() } else { Vec::new() };
                let filter =
                    TaskFilter { user: of.map(user), status, limit: limit.into(), ..TaskFilter::default() };
                format!("{:?}", store.task_list(filter).await)
            }
        }
    }

    async fn attempt(&self, task: u8, attempt: u8) -> Attempt {
        match attempt {
            CURRENT => self.store.task_get(id(task)).await.unwrap().map_or(Attempt(1), |t| t.attempt),
            other => Attempt(other.into()),
        }
    }

    async fn act(&mut self, n: u8, act: Act, from: From, under: Under, limit: u8) -> String {
        let Some(current) = self.store.task_get(id(n)).await.unwrap() else { return "no task".into() };
        let task = match from {
            From::Current => current.clone(),
            From::Old => self.old.iter().find(|t| t.id == current.id).cloned().unwrap_or(current.clone()),
        };
        self.old.push(current);
        let attempt = task.attempt;
        let act = match act {
            Act::Next => next(&task.state),
            other => other,
        };
        let command = match act {
            Act::Next | Act::Enqueue => Command::Enqueue,
            Act::PickUp => Command::PickUp,
            Act::Admit => Command::Admit,
            Act::Pass => Command::PreflightPassed {
                base_branch: "main".into(),
                model: "p/m".into(),
                warnings: vec!["w".into()],
            },
            Act::Start => Command::SessionStarted { session: SessionHandle::Fake { task: task.id, attempt } },
            Act::Run => Command::AgentStarted { attempt, prompt: None },
            Act::Ask => Command::OpenGate { attempt, request_id: "r".into(), until: self.now },
            Act::Answer => Command::CloseGate { request_id: "r".into() },
            Act::Pause => Command::Park { why: QueueReason::Paused, not_before: None },
            Act::Cancel => Command::Cancel { by: "p".into() },
        };
        let Change::Applied(applied) = task.on(command, self.now) else { return "nothing".into() };
        let limit = u32::from(limit);
        let scope = |scope, limit| ScopeLimit { scope, limit };
        let change = TaskChange {
            epoch: match under {
                Under::None => None,
                Under::Epoch(n) => Some(Epoch(n.into())),
            },
            scopes: vec![
                scope(Scope::User(task.user.clone()), limit),
                scope(Scope::Repo(task.spec.repo.clone()), 2),
                scope(Scope::System, 3),
            ],
            outbox: vec![NewOutboxRow { channel: "c0".into(), event: applied.events.len() - 1 }],
            pull_request: None,
            now: self.now,
            applied: *applied,
        };
        format!("{:?}", self.store.task_change(change).await)
    }

    /// Everything that can be asked at the end.
    async fn facts(&mut self) {
        let store = &self.store;
        for n in 0..TASKS {
            let all = EventQuery { task: id(n), from: EventCursor::Start, limit: 1_000 };
            self.seen.push(format!("{:?}", store.events_read(all).await));
            self.seen.push(format!("{:?}", store.queue_position(id(n)).await));
            for attempt in 0..3 {
                self.seen.push(format!("{:?}", store.session_get(id(n), Attempt(attempt)).await));
            }
        }
        let all = TaskFilter { limit: 100, ..TaskFilter::default() };
        self.seen.push(format!("{:?}", store.task_list(all).await));
        self.seen.push(format!("{:?}", store.obligation_list().await));
        self.seen.push(format!("{:?}", store.task_counts(None).await));
        self.seen.push(format!("{:?}", store.task_counts(Some(&user(0))).await));
        let mean = store.mean_duration_s().await.unwrap();
        self.seen.push(format!("{:?}", mean.map(|s| (s * 1e6).round())));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_drivers_answer_alike(steps in proptest::collection::vec((step(), -300..2_000_i16), 20..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (model, sqlite) = runtime.block_on(async {
            let sqlite = Store::open_sqlite(&dir.path().join("x.db")).await.unwrap();
            (Run::all(Store::in_memory(), &steps).await, Run::all(sqlite, &steps).await)
        });
        for (index, (model, sqlite)) in model.iter().zip(&sqlite).enumerate() {
            prop_assert_eq!(model, sqlite, "line {} of {:#?}", index, steps);
        }
    }
}
