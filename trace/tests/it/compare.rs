//! The same behaviour is no difference; each changed part is one, and is named.

use serde_json::json;
use trace::compare;

use crate::sample::Sample;

const OTHER: &str = "01BX5ZZKBKACTAV9WEVGEMMVRZ";

/// The differences in a line each: subject, turn, name, and both sides.
fn told(replayed: &Sample) -> String {
    let found = compare(&Sample::default().read(), 1, &replayed.read());
    let line = |d: &compare::Difference| {
        let subject = serde_json::to_value(d.subject).unwrap();
        let side = |side: &Option<String>| side.clone().unwrap_or("nothing".into()).replace('\n', "|");
        let turn = d.turn.map(|t| format!("@{t}")).unwrap_or_default();
        let (a, b) = (side(&d.recorded), side(&d.replayed));
        format!("{}{turn} {}: {a} -> {b}", subject.as_str().unwrap(), d.name)
    };
    found.differences.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn replay() -> Sample {
    Sample { task: OTHER, ..Sample::default() }
}

#[test]
fn another_task_with_other_times_behaves_the_same() {
    let replayed = Sample { result: "4 passed in 3.5s".into(), ..replay() }.read();
    let found = compare(&Sample::default().read(), 1, &replayed);
    assert_eq!((found.turns, found.tool_results, found.files), (2, 1, 1));
    assert_eq!(found.differences, []);
}

/// D-080: a changed prompt kept its version.
#[test]
fn each_change_is_named() {
    let table = [
        (
            Sample { result: "3 passed, 1 failed in 1s".into(), ..replay() },
            "tool_result@1 Bash (call 1 of turn 1): 4 passed in <took> -> 3 passed, 1 failed in <took>",
        ),
        (
            Sample { system: "You are an agent. Work fast.".into(), ..replay() },
            "system_prompt system prompt: You are an agent. Work well. -> You are an agent. Work fast.",
        ),
        (
            Sample {
                tools: json!([
                    { "name": "Bash", "description": "Runs it.", "input_schema": { "type": "object" } },
                    { "name": "Read" },
                ]),
                ..replay()
            },
            "tool Bash.description: Runs a command. -> Runs it.\ntool Read: nothing -> offered to the model",
        ),
        (Sample { build: "failed", ..replay() }, "verification build: passed -> failed"),
        (
            Sample { blob: "2222222222222222222222222222222222222222", tree: "t2", ..replay() },
            "file add.sh: M 100644 1111111111111111111111111111111111111111 -> M 100644 2222222222222222222222222222222222222222",
        ),
        (
            Sample { tree: "t2", ..replay() },
            "file (all files): tree aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1 -> tree t2",
        ),
        (Sample { turns: 1, ..replay() }, "turns turns: 2 -> 1"),
    ];
    for (sample, expected) in table {
        assert_eq!(told(&sample), expected);
    }
}

#[test]
fn a_long_text_is_shown_from_where_it_differs() {
    let long = |last: &str| (0..500).map(|n| format!("line {n}\n")).collect::<String>() + last;
    let recorded = Sample { result: long("good"), ..Sample::default() }.read();
    let replayed = Sample { result: long("bad"), ..replay() }.read();
    let found = compare(&recorded, 1, &replayed);
    let [only] = found.differences.as_slice() else { panic!("{found:?}") };
    assert_eq!(only.recorded.as_deref(), Some("...\nline 499\ngood"));
    assert_eq!(only.replayed.as_deref(), Some("...\nline 499\nbad"));
}
