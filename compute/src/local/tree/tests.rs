//! Who belongs to session `s`, whose worker is process 100 started at 10.

use super::*;

/// One process a line: `pid ppid sid start state mark`; mark `?` unknown, `-` absent, else the session.
fn machine(text: &str) -> Vec<Process> {
    let number = |field: Option<&str>| field.unwrap().parse::<i32>().unwrap();
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            let mut f = line.split_whitespace();
            Process {
                pid: number(f.next()),
                ppid: number(f.next()),
                sid: number(f.next()),
                start_ticks: number(f.next()).try_into().unwrap(),
                life: match f.next().unwrap() {
                    "run" => Life::Alive,
                    "frozen" => Life::Frozen,
                    "zombie" => Life::Ended,
                    other => panic!("{other}"),
                },
                mark: match f.next().unwrap() {
                    "?" => Mark::Unknown,
                    "-" => Mark::Absent,
                    name => Mark::Session(name.into()),
                },
            }
        })
        .collect()
}

#[track_caller]
fn check(text: &str, expected: &[i32]) {
    let target = Target { name: "s".into(), worker: Some(Identity { pid: 100, start_ticks: 10 }) };
    let mut found: Vec<i32> =
        members(&machine(text), &target, &HashSet::new()).iter().map(|p| p.pid).collect();
    found.sort_unstable();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn the_tree_is_found_by_descent_session_and_mark() {
    check(
        "1 0 1 0 run -
         50 1 50 5 run -
         100 50 100 10 run s
         101 100 100 11 run s
         102 101 102 12 run -
         103 1 100 13 run -
         104 1 104 14 run s
         105 104 105 15 run -
         200 50 50 20 run other",
        &[100, 101, 102, 103, 104, 105],
    );
}

#[test]
fn a_reused_worker_id_is_somebody_else() {
    check(
        "100 1 100 99 run -
         101 100 100 100 run -",
        &[],
    );
    check("100 1 100 99 run ?", &[]);
    check("100 1 100 10 run -", &[]);
    check("100 1 100 10 run other", &[]);
    check("100 1 100 10 run ?", &[100]);
}

#[test]
fn a_reused_worker_id_does_not_hide_what_is_left() {
    check(
        "100 1 100 99 run -
         101 100 100 100 run -
         104 1 104 14 run s",
        &[104],
    );
}

#[test]
fn without_its_leader_a_session_needs_a_marked_member() {
    check("103 1 100 13 run -", &[]);
    check(
        "103 1 100 13 run -
         104 1 100 14 run s",
        &[103, 104],
    );
    check(
        "103 1 100 13 run -
         104 1 104 14 run s",
        &[104],
    );
}

#[test]
fn zombies_have_ended_but_vouch_for_their_session() {
    check("100 1 100 10 zombie ?", &[]);
    check(
        "100 1 100 10 zombie ?
         103 1 100 13 frozen -",
        &[103],
    );
}

#[test]
fn a_parent_younger_than_its_child_is_not_its_parent() {
    check(
        "100 1 100 10 run s
         300 100 7 5 run -",
        &[100],
    );
}

#[test]
fn we_never_end_ourselves() {
    let me = std::process::id();
    check(
        &format!(
            "100 1 100 10 run s
             {me} 100 100 11 run s"
        ),
        &[100],
    );
}

#[test]
fn what_was_known_stays_known() {
    let all = machine(
        "103 1 100 13 run -
         105 103 100 15 run -
         106 1 100 16 run -",
    );
    let target = Target { name: "s".into(), worker: Some(Identity { pid: 100, start_ticks: 10 }) };
    let known = HashSet::from([Identity { pid: 103, start_ticks: 13 }]);
    assert_eq!(members(&all, &target, &known).len(), 3);
    let reused = HashSet::from([Identity { pid: 103, start_ticks: 12 }]);
    assert_eq!(members(&all, &target, &reused), []);
}
