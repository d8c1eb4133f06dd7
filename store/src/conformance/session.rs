//! The session record.

use super::*;

pub(super) async fn the_first_instance_is_the_worker(store: Store) {
    let task = running(&store, 1, "ann").await;
    let attach =
        async |name: &str, second| store.session_attach(task.id, A1, name, at(second)).await.unwrap();
    assert_eq!(attach("w1", 10).await, Attach::Attached);
    assert_eq!(attach("w2", 11).await, Attach::Taken);
    assert_eq!(attach("w1", 12).await, Attach::Attached);
    // Opening again changes nothing.
    store.session_open(task.id, A1, at(13)).await.unwrap();
    let session = store.session_get(task.id, A1).await.unwrap().unwrap();
    assert_eq!((session.opened_at, session.instance.as_deref()), (at(1), Some("w1")));
    assert_eq!((session.attached_at, session.heartbeat_at), (Some(at(10)), Some(at(12))));
}

/// D-038: two sessions worked on one task.
pub(super) async fn one_of_many_racing_instances_attaches(store: Store) {
    let task = running(&store, 1, "ann").await;
    let answers = at_once((0..16).map(|n| {
        let (store, id) = (store.clone(), task.id);
        async move { store.session_attach(id, A1, &format!("w{n}"), at(2)).await.unwrap() }
    }))
    .await;
    assert_eq!(answers.iter().filter(|a| **a == Attach::Attached).count(), 1);
    assert_eq!(answers.iter().filter(|a| **a == Attach::Taken).count(), 15);
}

pub(super) async fn only_the_current_attempt_attaches(store: Store) {
    let task = running(&store, 1, "ann").await;
    let attach = async |attempt| store.session_attach(task.id, attempt, "w", at(2)).await.unwrap();
    assert_eq!(attach(Attempt(2)).await, Attach::Superseded);
    store.session_open(task.id, Attempt(2), at(2)).await.unwrap();
    assert_eq!(attach(Attempt(2)).await, Attach::Superseded, "it is open, but not current");
    apply(&store, &task, cancel(), at(3)).await;
    assert_eq!(attach(A1).await, Attach::Superseded, "the task has ended");
    let unopened = accept(&store, super::task(5, "ann")).await;
    let unopened = apply(&store, &unopened, Command::Admit, at(5)).await;
    assert_eq!(store.session_attach(unopened.id, A1, "w", at(6)).await.unwrap(), Attach::Superseded);
}

/// D-044: signs of life were looked at while running only.
pub(super) async fn signs_of_life_are_kept(store: Store) {
    let task = running(&store, 1, "ann").await;
    store.session_heartbeat(task.id, A1, "clone", at(5)).await.unwrap();
    store.session_heartbeat(task.id, A1, "agent", at(6)).await.unwrap();
    store.session_heartbeat(task.id, Attempt(7), "ghost", at(6)).await.unwrap();
    let session = store.session_get(task.id, A1).await.unwrap().unwrap();
    assert_eq!((session.heartbeat_at, session.stage.as_deref()), (Some(at(6)), Some("agent")));
    assert_eq!((session.instance, session.attached_at), (None, None));
    assert_eq!(store.session_get(task.id, Attempt(7)).await.unwrap(), None);
    let silent = running(&store, 2, "ann").await;
    let asked = vec![(silent.id, A1), (task.id, Attempt(7)), (task.id, A1)];
    assert_eq!(
        store.session_beats(asked).await.unwrap(),
        [None, None, Some(at(6))],
        "in the order they were asked"
    );
    assert_eq!(store.session_beats(Vec::new()).await.unwrap(), []);
}

pub(super) async fn polls_are_counted_in_a_row(store: Store) {
    let task = running(&store, 1, "ann").await;
    let poll = async |poll| {
        let PollCounters { errors, ended } = store.session_polled(task.id, A1, poll).await.unwrap();
        (errors, ended)
    };
    assert_eq!(poll(PollResult::Error).await, (1, 0));
    assert_eq!(poll(PollResult::Error).await, (2, 0));
    assert_eq!(poll(PollResult::Running).await, (0, 0));
    assert_eq!(poll(PollResult::Ended).await, (0, 1));
    assert_eq!(poll(PollResult::Error).await, (1, 1), "an error says nothing of the session");
    assert_eq!(poll(PollResult::Ended).await, (0, 2));
    let session = store.session_get(task.id, A1).await.unwrap().unwrap();
    assert_eq!(session.polls, PollCounters { errors: 0, ended: 2 });
}
