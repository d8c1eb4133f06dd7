//! Nudges and questions.

use domain::state::QueueReason;
use domain::steer::{AnswerSource, Ask, Nudge};
use domain::{AskId, NudgeId, Status};

use super::*;

fn nudge(task: &Task, n: u32, text: &str) -> NewNudge {
    NewNudge {
        id: NudgeId::from_parts(at(i64::from(n)), u128::from(n)),
        task: task.id,
        by: task.user.clone(),
        text: text.into(),
        per_minute: 10,
        now: at(i64::from(n)),
    }
}

async fn nudged(store: &Store, task: &Task, n: u32, text: &str) -> NudgeId {
    match store.nudge_add(nudge(task, n, text)).await.unwrap() {
        Nudged::Stored(nudge) => nudge.id,
        other => panic!("{other:?}"),
    }
}

async fn take(store: &Store, task: &Task, ids: &[NudgeId], second: i64) -> Option<Vec<Nudge>> {
    let take = NudgeTake { task: task.id, attempt: task.attempt, ids: ids.to_vec(), now: at(second) };
    match store.nudge_take(take).await.unwrap() {
        NudgesTaken::Taken(nudges) => Some(nudges),
        NudgesTaken::Superseded => None,
    }
}

fn texts(nudges: &[Nudge]) -> Vec<&str> {
    nudges.iter().map(|n| n.text.as_str()).collect()
}

async fn acknowledged(store: &Store, task: TaskId) -> Vec<Event> {
    let all = log(store, task).await;
    all.into_iter().filter(|e| e.metadata["milestone"] == "nudge_acknowledged").collect()
}

pub(super) async fn a_nudge_waits_until_it_is_taken_once(store: Store) {
    let task = running(&store, 1, "ann").await;
    let one = nudged(&store, &task, 10, "one").await;
    let two = nudged(&store, &task, 11, "two").await;
    let all = store.nudge_list(task.id).await.unwrap();
    assert_eq!(texts(&all), ["one", "two"]);
    assert!(all.iter().all(|n| n.taken.is_none()));
    assert_eq!(texts(&take(&store, &task, &[one], 12).await.unwrap()), ["one"]);
    // The answer was lost, and the box asks again: the same one, and no second event.
    assert_eq!(texts(&take(&store, &task, &[one, two], 13).await.unwrap()), ["one", "two"]);
    assert_eq!(acknowledged(&store, task.id).await.len(), 2);
    let other = running(&store, 2, "bob").await;
    assert_eq!(take(&store, &other, &[one], 14).await, Some(Vec::new()), "another task's");
    let taken: Vec<_> = store.nudge_list(task.id).await.unwrap().iter().map(|n| n.taken).collect();
    assert_eq!(taken, [Some((A1, at(12))), Some((A1, at(13)))]);
}

/// D-059: a nudge was said again after a restart.
pub(super) async fn a_nudge_is_acknowledged_with_its_event(store: Store) {
    let task = running(&store, 1, "ann").await;
    let ids =
        [nudged(&store, &task, 10, "use tabs").await, nudged(&store, &task, 11, "and no semicolons").await];
    take(&store, &task, &ids, 12).await.unwrap();
    let events = acknowledged(&store, task.id).await;
    assert_eq!(events.len(), 1, "one event for all that were taken together");
    let ends: Vec<String> = ids.iter().map(|id| id.to_string()[18..].to_owned()).collect();
    assert_eq!(events[0].metadata["nudge_ids"], json!(ends));
    assert_eq!(events[0].metadata["preview"], "use tabs | and no semicolons");
}

/// D-060: a minute's rate could be used twice.
pub(super) async fn no_more_nudges_than_fit_a_minute(store: Store) {
    let task = running(&store, 1, "ann").await;
    let few = |n: u32| NewNudge { per_minute: 2, ..nudge(&task, n, "x") };
    for n in [10, 30] {
        assert!(matches!(store.nudge_add(few(n)).await.unwrap(), Nudged::Stored(_)));
    }
    assert_eq!(store.nudge_add(few(40)).await.unwrap(), Nudged::TooMany(Duration::from_secs(30)));
    assert!(
        matches!(store.nudge_add(few(70)).await.unwrap(), Nudged::Stored(_)),
        "the first is a minute old"
    );
    let other = running(&store, 2, "ann").await;
    assert!(matches!(
        store.nudge_add(NewNudge { task: other.id, ..few(71) }).await.unwrap(),
        Nudged::Stored(_)
    ));
}

pub(super) async fn a_task_that_ended_takes_no_nudge(store: Store) {
    let task = accept(&store, super::task(1, "ann")).await;
    nudged(&store, &task, 2, "a task that has not begun takes one").await;
    let task = apply(&store, &task, cancel(), at(3)).await;
    assert_eq!(store.nudge_add(nudge(&task, 4, "too late")).await.unwrap(), Nudged::Ended(Status::Cancelled));
    assert_eq!(store.nudge_list(task.id).await.unwrap().len(), 1);
    let nowhere = NewNudge { task: TaskId::from_bits(77), ..nudge(&task, 5, "x") };
    assert!(store.nudge_add(nowhere).await.is_err());
}

/// D-058: a cancelled task consumed its nudges.
pub(super) async fn a_cancelled_task_consumes_nothing(store: Store) {
    let task = running(&store, 1, "ann").await;
    let id = nudged(&store, &task, 10, "x").await;
    let cancelled = apply(&store, &task, cancel(), at(11)).await;
    assert_eq!(take(&store, &cancelled, &[id], 12).await, None);
    assert_eq!(store.nudge_list(task.id).await.unwrap()[0].taken, None);
    assert!(acknowledged(&store, task.id).await.is_empty());
    // One whose agent is asked to leave, neither.
    let task = running(&store, 20, "ann").await;
    let id = nudged(&store, &task, 21, "x").await;
    let order = domain::leave::Order::Cancel { by: "ann".into() };
    let leaving = apply(&store, &task, Command::Leave { order, until: at(30) }, at(22)).await;
    assert_eq!(
        (get(&store, task.id).await.leaving, leaving.leaving.is_some()),
        (leaving.leaving.clone(), true)
    );
    assert_eq!(take(&store, &leaving, &[id], 23).await, None);
}

pub(super) async fn a_nudge_outlives_its_attempt(store: Store) {
    let task = running(&store, 1, "ann").await;
    let one = nudged(&store, &task, 10, "one").await;
    let two = nudged(&store, &task, 11, "two").await;
    take(&store, &task, &[one], 12).await.unwrap();
    let park = Command::Park { why: QueueReason::Paused, not_before: None };
    let parked = apply(&store, &task, park, at(13)).await;
    assert_eq!(take(&store, &parked, &[two], 13).await, None, "a parked task has no agent");
    let next = Task { attempt: Attempt(2), ..parked };
    assert_eq!(take(&store, &next, &[one, two], 14).await, None, "the attempt has not begun");
    let waiting: Vec<_> =
        store.nudge_list(task.id).await.unwrap().into_iter().filter(|n| n.taken.is_none()).collect();
    assert_eq!(texts(&waiting), ["two"]);
}

fn ask(task: &Task, n: u32, by: &str) -> NewAsk {
    NewAsk {
        id: AskId::from_parts(at(i64::from(n)), u128::from(n)),
        task: task.id,
        by: user(by),
        question: format!("question {n}"),
        answer: None,
        per_minute: 10,
        now: at(i64::from(n)),
    }
}

async fn asked(store: &Store, new: NewAsk) -> Ask {
    match store.ask_open(new).await.unwrap() {
        Asked::Opened(ask) => ask,
        other => panic!("{other:?}"),
    }
}

fn answer(ask: &Ask, attempt: Option<Attempt>, text: &str, second: i64) -> NewAnswer {
    NewAnswer {
        task: ask.task,
        ask: ask.id,
        attempt,
        source: AnswerSource::Agent,
        text: text.into(),
        now: at(second),
    }
}

pub(super) async fn one_question_of_a_person_is_open(store: Store) {
    let task = running(&store, 1, "ann").await;
    let first = asked(&store, ask(&task, 10, "ann")).await;
    assert_eq!(store.ask_open(ask(&task, 11, "ann")).await.unwrap(), Asked::AlreadyOpen(first.id));
    asked(&store, ask(&task, 12, "bob")).await;
    let other = running(&store, 2, "ann").await;
    asked(&store, ask(&other, 13, "ann")).await;
    store.ask_answer(answer(&first, Some(A1), "so", 14)).await.unwrap();
    asked(&store, ask(&task, 15, "ann")).await;
    let questions: Vec<_> = store.ask_list(task.id).await.unwrap().into_iter().map(|a| a.question).collect();
    assert_eq!(questions, ["question 10", "question 12", "question 15"]);
    let crowd = NewAsk { per_minute: 3, ..ask(&task, 16, "eve") };
    assert_eq!(store.ask_open(crowd).await.unwrap(), Asked::TooMany(Duration::from_secs(54)));
}

pub(super) async fn the_first_answer_stays(store: Store) {
    let task = running(&store, 1, "ann").await;
    let open = asked(&store, ask(&task, 10, "ann")).await;
    for text in ["first", "second"] {
        let Answered::Settled(settled) = store.ask_answer(answer(&open, Some(A1), text, 11)).await.unwrap()
        else {
            panic!("it is the current attempt");
        };
        assert_eq!(settled.answer.map(|a| a.text).as_deref(), Some("first"));
    }
    let kinds: Vec<_> = log(&store, task.id).await.into_iter().map(|e| e.kind).collect();
    let count = |kind| kinds.iter().filter(|k| **k == kind).count();
    assert_eq!((count(EventKind::AskOpened), count(EventKind::AskAnswered)), (1, 1));
    let unknown = NewAnswer { ask: AskId::from_bits(3), ..answer(&open, None, "x", 12) };
    assert_eq!(store.ask_answer(unknown).await.unwrap(), Answered::NoSuchAsk);
}

pub(super) async fn only_the_current_attempt_answers(store: Store) {
    let task = running(&store, 1, "ann").await;
    let open = asked(&store, ask(&task, 10, "ann")).await;
    assert_eq!(
        store.ask_answer(answer(&open, Some(Attempt(2)), "x", 11)).await.unwrap(),
        Answered::Superseded
    );
    apply(&store, &task, cancel(), at(12)).await;
    assert_eq!(store.ask_answer(answer(&open, Some(A1), "x", 13)).await.unwrap(), Answered::Superseded);
    assert!(matches!(store.ask_answer(answer(&open, None, "x", 14)).await.unwrap(), Answered::Settled(_)));
    assert_eq!(
        log(&store, task.id).await.last().unwrap().kind,
        EventKind::TaskCancelled,
        "the log is closed"
    );
}

pub(super) async fn a_task_that_ended_is_asked_without_an_event(store: Store) {
    let task = running(&store, 1, "ann").await;
    let task = apply(&store, &task, cancel(), at(2)).await;
    let new = NewAsk { answer: Some("it was cancelled".into()), ..ask(&task, 3, "ann") };
    let settled = asked(&store, new).await;
    assert_eq!(settled.answer.as_ref().map(|a| a.source), Some(AnswerSource::Record));
    assert_eq!(store.ask_list(task.id).await.unwrap(), [settled]);
    assert_eq!(log(&store, task.id).await.last().unwrap().kind, EventKind::TaskCancelled);
}
