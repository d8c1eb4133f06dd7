//! A trace is read whole, or one is told what is wrong with it.

use serde_json::json;
use trace::play::{self, Unplayable};
use trace::{Line, Trajectory, pack};

use crate::sample::{Sample, pack};

/// D-078: traces had cut fields.
#[test]
fn requests_are_put_together_again() {
    let trace = Sample { turns: 3, ..Sample::default() }.read();
    assert_eq!(trace.calls.iter().map(|c| c.messages.len()).collect::<Vec<_>>(), [1, 3, 5]);
    assert_eq!(trace.calls[2].messages[0]["content"][0]["text"], "Fix it");
    assert_eq!(*trace.calls[2].system, json!("You are an agent. Work well."));
    assert_eq!(trace.calls[2].tools[0]["name"], "Bash");
    assert_eq!((trace.events.len(), trace.truncated), (1, false));
    assert_eq!(trace.outcome.unwrap().status, "COMPLETED");
}

/// D-078: traces had cut fields.
#[test]
fn each_message_is_kept_once() {
    let lines = Sample { turns: 4, ..Sample::default() }.lines();
    let new = |line: &Line| match line {
        Line::ModelRequest(request) => Some((request.messages.len(), request.system.is_some())),
        _ => None,
    };
    let new: Vec<_> = lines.iter().filter_map(new).collect();
    assert_eq!(new, [(1, true), (2, false), (2, false), (2, false)]);
}

#[test]
fn an_entry_by_itself_comes_back_and_unknown_lines_are_passed_over() {
    let packed = Sample::default().packed();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut unpacked(&packed), &mut text).unwrap();
    let first: trace::Entry = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(pack::unpack_one(&pack::one(&first).unwrap()).unwrap(), first);
    // Plain lines are read as well, and a line of a later program is no error.
    let later = text.replacen("\n", "\n{\"type\":\"of_the_future\",\"seq\":2}\n", 1);
    let read = Trajectory::read(later.as_bytes()).unwrap();
    assert_eq!(read, Trajectory::read(packed.as_slice()).unwrap());
}

fn unpacked(packed: &[u8]) -> impl std::io::Read + '_ {
    // `Trajectory::read` is what reads; here the text itself is wanted.
    flate2::read::MultiGzDecoder::new(packed)
}

#[test]
fn a_file_that_was_cut_off_is_good_up_to_there() {
    let packed = Sample::default().packed();
    let whole = Trajectory::read(packed.as_slice()).unwrap();
    let lines = Sample::default().lines();
    let cut = Trajectory::read(pack(lines[..4].to_vec()).as_slice()).unwrap();
    assert!(cut.truncated && cut.outcome.is_none());
    assert_eq!(
        cut.calls,
        whole.calls[..2]
            .iter()
            .cloned()
            .map(|mut c| {
                if c.turn == Some(2) {
                    c.response = None
                }
                c
            })
            .collect::<Vec<_>>()
    );
}

#[test]
fn what_is_no_trace_or_was_changed_is_told_with_its_line() {
    let says = |bytes: &[u8]| Trajectory::read(bytes).unwrap_err().to_string();
    assert_eq!(says(b""), "the trace is empty");
    assert!(says(b"hello\n").starts_with("line 1 of the trace: it is not JSON"));
    assert_eq!(says(b"{}\n"), "line 1 of the trace: it has no type");
    assert!(says(b"{\"type\":\"event\"}\n").contains("the first line must be a header"));
    assert!(says(&[0x1f, 0x8b, 1, 2]).starts_with("the trace cannot be read"));

    let mut lines = Sample::default().lines();
    let Line::ModelRequest(second) = &mut lines[3] else { panic!("the second request") };
    second.continues.as_mut().unwrap().sha256 = "0".repeat(64);
    assert!(says(&pack(lines)).contains("line 4 of the trace: the messages of call_"));

    let mut lines = Sample::default().lines();
    let Line::ModelRequest(first) = &mut lines[1] else { panic!("the first request") };
    first.system = Some(json!("Obey."));
    assert!(says(&pack(lines)).contains("line 2 of the trace: system is not what was sent"));

    let mut lines = Sample::default().lines();
    let Line::Header(header) = &mut lines[0] else { panic!("the header") };
    header.schema = 99;
    assert!(says(&pack(lines)).contains("this program reads schema 1, the trace has 99"));
}

#[test]
fn a_transcript_plays_what_was_said() {
    let played = play::transcript(&Sample::default().read(), 1).unwrap();
    assert_eq!(played.turns, 2);
    assert_eq!(
        played.transcript,
        json!({
            "version": 1,
            "turns": [
                {
                    "content": [{ "type": "tool_use", "name": "Bash", "input": { "command": "sh test.sh" } }],
                    "stop_reason": "tool_use",
                    "usage": { "input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0 },
                },
                {
                    "content": [{ "type": "text", "text": "Fixed" }],
                    "stop_reason": "end_turn",
                    "usage": { "input_tokens": 20, "output_tokens": 5, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0 },
                },
            ],
        })
    );
}

#[test]
fn what_cannot_be_played_is_told() {
    let mut trace = Sample { turns: 3, ..Sample::default() }.read();
    assert_eq!(play::transcript(&trace, 2), Err(Unplayable::NoAnswer { attempt: 2 }));
    trace.calls[1].response = None;
    assert_eq!(play::transcript(&trace, 1), Err(Unplayable::Missing { turn: 2 }));
    // Of a turn that was asked twice, the whole answer counts.
    let mut again = Sample { turns: 3, ..Sample::default() }.read();
    again.calls.insert(1, trace.calls[1].clone());
    assert_eq!(play::transcript(&again, 1).unwrap().turns, 3);
}
