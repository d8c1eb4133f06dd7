//! One suite for every driver: each promise that [`crate::Store`] makes, as a case.
//!
//! A driver's test calls [`run`] with a function that makes a new, empty store. Cases need no clock: time is an argument.

#![expect(clippy::unwrap_used, reason = "a suite of tests, compiled here so that every driver can use it")]

mod access;
mod event;
mod lease;
mod obligation;
mod outbox;
mod purge;
mod queue;
mod session;
mod spending;
mod steer;
mod task;
mod trace;
mod usage;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use domain::event::{Event, EventKind, NewEvent};
use domain::task::Workflow;
use domain::{
    Applied, Attempt, Change, Command, NodeId, RepoRef, SessionHandle, Task, TaskId, TaskSpec, UserId,
};
use jiff::Timestamp;
use serde_json::json;
use tokio::task::JoinSet;

use crate::Store;
use crate::record::*;

/// One promise.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name, a sentence.
    pub name: &'static str,
    run: fn(Store) -> Pin<Box<dyn Future<Output = ()> + Send>>,
}

macro_rules! cases {
    ($($module:ident: $($name:ident)+;)+) => {
        /// Every case.
        pub const CASES: &[Case] = &[$($(Case {
            name: concat!(stringify!($module), "::", stringify!($name)),
            run: |store| Box::pin($module::$name(store)),
        },)+)+];
    };
}

cases! {
    task:
        what_is_stored_comes_back
        a_task_is_accepted_with_its_events_and_rows
        an_id_is_accepted_once
        a_key_makes_one_task
        a_key_with_another_body_is_a_conflict
        a_key_is_a_users_own
        one_key_at_once_makes_one_task
        lists_are_newest_first_and_pages_are_full
        a_change_is_stored_whole
        a_change_from_an_old_version_is_lost
        one_of_many_racing_changes_wins
        a_change_of_nothing_is_an_error
        a_change_does_not_touch_what_was_spent
        a_pull_request_is_kept_and_replaced
        counts_tell_states_apart
        durations_are_averaged
        readiness_is_told;
    lease:
        a_due_task_is_claimed_once
        the_longest_due_come_first
        two_claimers_never_share_a_task
        what_is_not_due_can_be_claimed_by_name
        a_lease_ends
        a_late_write_is_fenced
        a_released_lease_is_no_longer_ours
        renewing_keeps_it
        a_release_sets_the_next_look
        a_release_does_not_undo_a_change
        a_wake_during_a_lease_is_not_lost
        a_wake_outlives_the_holders_own_change
        a_task_that_ended_is_not_woken
        the_next_due_time_is_exact;
    queue:
        slots_are_taken_once_and_given_back
        a_full_scope_refuses_and_stores_nothing
        slots_never_exceed_their_limit
        the_young_do_not_overtake
        a_scope_holds_up_only_its_own
        a_user_at_the_limit_does_not_stop_others
        paused_tasks_hold_nobody_up
        a_freed_slot_wakes_the_oldest
        the_queue_drains_as_a_chain
        a_slot_freed_before_queueing_is_not_lost
        leaving_the_queue_wakes_the_next
        whoever_turns_out_to_wait_elsewhere_lets_the_next_look
        everybody_gets_a_turn
        places_count_the_users_own_queue;
    event:
        numbers_have_no_holes
        concurrent_appends_are_numbered_without_holes
        ids_rise_even_when_the_clock_falls
        a_resend_is_dropped
        keys_are_of_an_attempt
        only_the_current_attempt_speaks
        a_flood_is_cut_off_once
        a_new_attempt_may_speak_again
        every_cursor_reads_on;
    session:
        the_first_instance_is_the_worker
        one_of_many_racing_instances_attaches
        only_the_current_attempt_attaches
        signs_of_life_are_kept
        polls_are_counted_in_a_row;
    usage:
        a_call_counts_once
        an_unpriced_call_is_told
        calls_add_up_under_contention
        money_counts_after_the_end;
    purge:
        only_what_is_over_is_purged
        what_is_kept_for_less_is_forgotten_earlier
        a_user_is_erased_after_their_tasks;
    spending:
        days_add_up
        reports_are_by_what_is_asked;
    trace:
        an_end_obliges_to_put_it_together
        it_is_recorded_once_with_its_events;
    obligation:
        an_end_with_a_box_must_stop_it
        a_claim_hides_it_for_a_while
        one_claimer_has_it
        a_retry_is_remembered;
    steer:
        a_nudge_waits_until_it_is_taken_once
        a_nudge_is_acknowledged_with_its_event
        no_more_nudges_than_fit_a_minute
        a_task_that_ended_takes_no_nudge
        a_cancelled_task_consumes_nothing
        a_nudge_outlives_its_attempt
        one_question_of_a_person_is_open
        the_first_answer_stays
        only_the_current_attempt_answers
        a_task_that_ended_is_asked_without_an_event;
    outbox:
        rows_come_in_order_one_per_task
        a_failed_row_holds_up_its_task_alone
        channels_are_apart
        one_claimer_has_each_row;
    access:
        a_key_comes_back_as_it_was
        a_key_is_revoked_once_by_its_user
        the_last_use_never_goes_back
        keys_and_webhooks_are_listed_newest_first_in_full_pages
        a_webhook_is_rotated_until_it_is_revoked
        rotations_at_once_are_all_counted
        a_delivery_is_taken_in_once
        the_audit_log_is_read_newest_first_by_who_what_and_of_what;
}

/// Runs every case, each on a new store.
pub async fn run<F, S>(make: F)
where
    F: Fn() -> S,
    S: Future<Output = Store>,
{
    for case in CASES {
        eprintln!("case {}", case.name);
        case.run(make().await).await;
    }
}

impl Case {
    /// Runs this case on an empty store; panics when the promise is broken.
    pub async fn run(&self, store: Store) {
        (self.run)(store).await;
    }
}

/// Seconds after an arbitrary beginning.
fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

const LEASE: Duration = Duration::from_secs(30);
const A1: Attempt = Attempt(1);

fn node(name: &str) -> NodeId {
    NodeId::new(name)
}

fn user(name: &str) -> UserId {
    UserId::new(name)
}

fn repo(name: &str) -> RepoRef {
    RepoRef::GitHub { owner: "octo".into(), name: name.into() }
}

/// A task of `user:repo`, accepted at second `n`.
fn task(n: u32, of: &str) -> Task {
    let (user, repository) = of.split_once(':').unwrap_or((of, "cat"));
    let now = at(i64::from(n));
    let spec = TaskSpec {
        repo: repo(repository),
        workflow: Workflow::NewTask,
        issue_number: None,
        description: format!("Task {n}"),
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
    Task::new(TaskId::from_parts(now, u128::from(n)), UserId::new(user), "api", spec, now)
}

fn new_task(task: Task) -> NewTask {
    let events = vec![NewEvent::new(EventKind::TaskCreated, json!({ "channel": task.channel }))];
    NewTask { task, events, outbox: Vec::new(), idempotency: None }
}

async fn accept(store: &Store, task: Task) -> Task {
    match store.task_create(new_task(task)).await.unwrap() {
        Created::New(task) => *task,
        other => panic!("{other:?}"),
    }
}

fn applied(task: &Task, command: Command, now: Timestamp) -> Applied {
    match task.on(command.clone(), now) {
        Change::Applied(applied) => *applied,
        other => panic!("{command:?} on {}: {other:?}", task.status()),
    }
}

fn change(task: &Task, command: Command, now: Timestamp) -> TaskChange {
    let applied = applied(task, command, now);
    TaskChange {
        applied,
        epoch: None,
        scopes: limits(task, [9, 9, 9]),
        outbox: Vec::new(),
        pull_request: None,
        now,
    }
}

/// The three scopes of a task with limits for user, repository and all.
fn limits(task: &Task, [user, repo, system]: [u32; 3]) -> Vec<ScopeLimit> {
    vec![
        ScopeLimit { scope: Scope::User(task.user.clone()), limit: user },
        ScopeLimit { scope: Scope::Repo(task.spec.repo.clone()), limit: repo },
        ScopeLimit { scope: Scope::System, limit: system },
    ]
}

async fn apply(store: &Store, task: &Task, command: Command, now: Timestamp) -> Task {
    stored(store.task_change(change(task, command, now)).await.unwrap())
}

async fn apply_within(
    store: &Store,
    task: &Task,
    command: Command,
    now: Timestamp,
    limit: [u32; 3],
) -> Changed {
    let change = TaskChange { scopes: limits(task, limit), ..change(task, command, now) };
    store.task_change(change).await.unwrap()
}

fn stored(changed: Changed) -> Task {
    match changed {
        Changed::Applied(task) => *task,
        other => panic!("{other:?}"),
    }
}

fn cancel() -> Command {
    Command::Cancel { by: "tester".into() }
}

/// Accepts a task and brings it to RUNNING, with its first attempt's session open.
async fn running(store: &Store, n: u32, of: &str) -> Task {
    run_to_box(store, task(n, of)).await
}

/// Accepts this task and brings it to RUNNING.
async fn run_to_box(store: &Store, task: Task) -> Task {
    let now = task.created_at;
    let task = accept(store, task).await;
    let task = apply(store, &task, Command::Admit, now).await;
    store.session_open(task.id, task.attempt, now).await.unwrap();
    let passed =
        Command::PreflightPassed { base_branch: "main".into(), model: "p/m".into(), warnings: Vec::new() };
    let task = apply(store, &task, passed, now).await;
    let session = SessionHandle::Fake { task: task.id, attempt: task.attempt };
    let task = apply(store, &task, Command::SessionStarted { session }, now).await;
    apply(store, &task, Command::AgentStarted { attempt: task.attempt, prompt: None }, now).await
}

/// Events of a box with these client keys.
fn said(keys: impl IntoIterator<Item = String>) -> Vec<NewEvent> {
    keys.into_iter()
        .map(|key| NewEvent {
            client_key: Some(key.clone()),
            ..NewEvent::new(EventKind::AgentMilestone, json!({ "key": key }))
        })
        .collect()
}

fn keys<const N: usize>(keys: [&str; N]) -> Vec<NewEvent> {
    said(keys.map(str::to_owned))
}

async fn log(store: &Store, task: TaskId) -> Vec<Event> {
    store.events_read(EventQuery { task, from: EventCursor::Start, limit: 10_000 }).await.unwrap()
}

async fn get(store: &Store, task: TaskId) -> Task {
    store.task_get(task).await.unwrap().unwrap()
}

/// Runs the futures at once and collects what they answer.
async fn at_once<T: Send + 'static>(
    futures: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let mut set = JoinSet::new();
    for future in futures {
        set.spawn(future);
    }
    set.join_all().await
}
