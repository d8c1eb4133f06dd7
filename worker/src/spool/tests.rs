use super::*;

fn add(spool: &Spool, kind: EventKind, bytes: usize) {
    spool.append(kind, json!({ "text": "x".repeat(bytes) }));
}

/// Takes everything as a gateway would; the keys in order.
fn take_all(spool: &Spool) -> Vec<BoxEvent> {
    let mut taken = Vec::new();
    loop {
        let batch = spool.lock().read().unwrap();
        let Some(batch) = batch else { return taken };
        taken.extend(batch.events.clone());
        spool.taken(&batch);
    }
}

/// D-029: a short outage ended the record.
#[test]
fn events_come_out_in_order_and_a_new_spool_goes_on_after_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path()).unwrap();
    for _ in 0..1_200 {
        add(&spool, EventKind::AgentTurn, 10);
    }
    let first = spool.lock().read().unwrap().unwrap();
    assert_eq!(first.events.len(), limit::EVENT_BATCH_MAX);
    spool.taken(&first);
    drop(spool);

    let again = Spool::open(dir.path()).unwrap();
    add(&again, EventKind::AgentTurn, 10);
    let rest = take_all(&again);
    let keys: Vec<String> = rest.iter().map(|e| e.key.clone()).collect();
    let expected: Vec<String> = (501..=1_201).map(key).collect();
    assert_eq!(keys, expected);
}

#[test]
fn a_line_that_a_crash_cut_is_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    add(&Spool::open(dir.path()).unwrap(), EventKind::AgentTurn, 10);
    let mut file = OpenOptions::new().append(true).open(dir.path().join("spool.ndjson")).unwrap();
    file.write_all(b"{\"key\":\"e0000").unwrap();
    let spool = Spool::open(dir.path()).unwrap();
    add(&spool, EventKind::AgentError, 10);
    let kinds: Vec<String> = take_all(&spool).into_iter().map(|e| e.event_type).collect();
    assert_eq!(kinds, ["agent_turn", "agent_error"]);
}

#[test]
fn a_full_spool_drops_old_tool_results_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::bounded(dir.path(), 100_000).unwrap();
    spool.milestone("repo_setup_complete", json!({}));
    for _ in 0..200 {
        add(&spool, EventKind::AgentToolResult, 1_000);
        add(&spool, EventKind::AgentTurn, 10);
    }
    assert!(dir.path().join("spool.ndjson").metadata().unwrap().len() <= 102_000);
    let left = take_all(&spool);
    let count = |kind: &str| left.iter().filter(|e| e.event_type == kind).count();
    assert_eq!((count("agent_turn"), count("agent_milestone")), (200, 1), "only results are dropped");
    let dropped: u64 = left.iter().filter_map(|e| e.metadata["events_dropped"].as_u64()).sum();
    assert_eq!(dropped, 200 - count("agent_tool_result") as u64, "every dropped event is counted");
    assert!(count("agent_error") >= 1);
}

#[test]
fn without_tool_results_the_oldest_others_go_but_milestones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::bounded(dir.path(), 50_000).unwrap();
    spool.milestone("first", json!({}));
    for _ in 0..100 {
        add(&spool, EventKind::AgentTurn, 1_000);
    }
    let left = take_all(&spool);
    assert_eq!(left[0].metadata["milestone"], "first");
    assert_eq!(left.last().unwrap().event_type, "agent_turn", "the newest is there");
}

#[test]
fn an_answer_to_a_batch_of_before_a_rewrite_takes_nothing_away() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::bounded(dir.path(), 20_000).unwrap();
    add(&spool, EventKind::AgentTurn, 1_000);
    let batch = spool.lock().read().unwrap().unwrap();
    for _ in 0..30 {
        add(&spool, EventKind::AgentToolResult, 1_000);
    }
    let before = spool.lock().waiting();
    spool.taken(&batch);
    assert_eq!(spool.lock().waiting(), before);
}

#[test]
fn a_long_spool_that_was_taken_is_emptied() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path()).unwrap();
    for _ in 0..1_100 {
        add(&spool, EventKind::AgentToolResult, 1_000);
    }
    assert_eq!(take_all(&spool).len(), 1_100);
    assert_eq!(dir.path().join("spool.ndjson").metadata().unwrap().len(), 0);
    add(&spool, EventKind::AgentTurn, 1);
    assert_eq!(take_all(&spool)[0].key, key(1_101));
}
