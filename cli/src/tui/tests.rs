use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use protocol::rest::TaskDetail;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};

use super::draw::draw;
use super::screen::{Input, Link, Mode, Notice, Screen, Stands, Wish, Words};
use crate::render::{Paint, View, sample};

fn key(code: KeyCode) -> Input {
    Input::Key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn says(screen: &mut Screen, seq: u64, kind: &str, metadata: Value) -> Option<Wish> {
    screen.on(Input::Event(Box::new(sample::event(seq, kind, metadata))))
}

fn types(screen: &mut Screen, text: &str) {
    for c in text.chars() {
        assert_eq!(screen.on(key(KeyCode::Char(c))), None);
    }
}

/// A task in its eighth turn, with a tool at work.
fn busy(task: TaskDetail) -> Screen {
    let mut screen = Screen::new(task);
    let s = &mut screen;
    says(s, 1, "task_created", json!({ "repo": "octo/cat" }));
    says(s, 2, "session_started", json!({ "isolation": "sandbox" }));
    says(s, 3, "task_running", json!({ "attempt": 1 }));
    let turn =
        json!({ "turn": 8, "model": "claude", "tool_calls_count": 1, "text_preview": "I run the tests." });
    says(s, 4, "agent_turn", turn);
    says(
        s,
        5,
        "agent_cost_update",
        json!({ "cost_usd": 0.2512, "input_tokens": 900, "output_tokens": 40, "turn": 8 }),
    );
    let call = json!({ "turn": 8, "tool_name": "Bash", "tool_input_preview": "{\"command\":\"cargo test --workspace \\u001b[2J\"}" });
    says(s, 6, "agent_tool_call", call);
    let lines: Vec<String> = (1..=9).map(|n| format!("test number {n} ... ok")).collect();
    says(s, 7, "agent_milestone", json!({ "milestone": "tool_running", "details": lines.join("\n") }));
    screen
}

fn drawn(screen: &Screen, width: u16, height: u16) -> String {
    drawn_in(screen, width, height, &View { paint: Paint::Plain, ..sample::view() }).backend().to_string()
}

fn drawn_in(screen: &Screen, width: u16, height: u16, view: &View) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(screen, view, frame)).unwrap();
    terminal
}

#[test]
fn a_running_task_at_80_columns() {
    insta::assert_snapshot!(drawn(&busy(sample::running()), 80, 24));
}

#[test]
fn a_failed_task_says_why() {
    let mut screen = busy(sample::failed());
    says(
        &mut screen,
        8,
        "task_failed",
        json!({ "title": "Exceeded max turns", "error_message": "MAX_TURNS: 100" }),
    );
    assert_eq!(screen.on(Input::Over), Some(Wish::Look));
    insta::assert_snapshot!(drawn(&screen, 80, 24));
}

#[test]
fn writing_a_nudge_and_a_small_terminal() {
    let mut screen = busy(sample::running());
    screen.on(key(KeyCode::Char('n')));
    types(&mut screen, "Leave the docs alone");
    insta::assert_snapshot!(drawn(&screen, 60, 12));
}

#[test]
fn any_size_can_be_drawn() {
    let screen = busy(sample::running());
    for (width, height) in [(1, 1), (3, 2), (10, 5), (20, 40), (200, 3)] {
        drawn(&screen, width, height);
    }
}

#[test]
fn without_colour_there_is_none_and_no_escape_reaches_the_screen() {
    let screen = busy(sample::running());
    for (paint, coloured) in [(Paint::Plain, false), (Paint::Colour, true)] {
        let terminal = drawn_in(&screen, 80, 24, &View { paint, ..sample::view() });
        let cells = terminal.backend().buffer().content();
        let any = cells.iter().any(|cell| cell.fg != ratatui::style::Color::Reset);
        assert_eq!(any, coloured);
        assert!(cells.iter().all(|cell| !cell.symbol().contains('\u{1b}')));
    }
}

#[test]
fn words_become_wishes_when_they_are_sent_and_nothing_when_they_are_dropped() {
    for (open, to) in [('n', Words::Nudge), ('a', Words::Ask)] {
        let mut screen = busy(sample::running());
        screen.on(key(KeyCode::Char(open)));
        types(&mut screen, "quick, cancelX");
        screen.on(key(KeyCode::Backspace));
        screen.on(Input::Paste(" now\nplease\u{1b}".into()));
        let text = "quick, cancel now please".to_owned();
        assert_eq!(screen.mode, Mode::Writing { to, text: text.clone() });
        let wish = match to {
            Words::Nudge => Wish::Nudge(text),
            Words::Ask => Wish::Ask(text),
        };
        assert_eq!(screen.on(key(KeyCode::Enter)), Some(wish));
        assert_eq!(screen.mode, Mode::Watching);
        for drop in [KeyCode::Esc, KeyCode::Enter] {
            screen.on(key(KeyCode::Char(open)));
            types(&mut screen, "  ");
            assert_eq!(screen.on(key(drop)), None);
            assert_eq!(screen.mode, Mode::Watching);
        }
    }
    let mut screen = busy(sample::running());
    screen.on(key(KeyCode::Char('n')));
    screen.on(Input::Paste("x".repeat(5_000)));
    assert!(
        matches!(&screen.mode, Mode::Writing { text, .. } if text.len() == domain::limit::NUDGE_MAX_CHARS)
    );
}

#[test]
fn cancelling_is_asked_for_twice() {
    let mut screen = busy(sample::running());
    assert_eq!(screen.on(key(KeyCode::Char('c'))), None);
    assert_eq!(screen.on(key(KeyCode::Char('n'))), None, "any other key does not");
    assert_eq!(screen.mode, Mode::Watching);
    screen.on(key(KeyCode::Char('c')));
    assert_eq!(screen.on(key(KeyCode::Char('y'))), Some(Wish::Cancel));
}

#[test]
fn what_has_ended_cannot_be_steered_and_can_be_left() {
    let mut screen = busy(sample::completed());
    for k in ['n', 'a', 'c'] {
        assert_eq!(screen.on(key(KeyCode::Char(k))), None);
        assert!(matches!(screen.notice, Some(Notice::Trouble(_))));
        assert_eq!(screen.mode, Mode::Watching);
    }
    assert_eq!(screen.on(key(KeyCode::Char('q'))), Some(Wish::Quit));
    let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(screen.on(Input::Key(ctrl_c)), Some(Wish::Quit));
}

#[test]
fn scrolled_back_the_view_stays_where_it_is_and_end_follows() {
    let mut screen = Screen::new(sample::running());
    for n in 1..=50 {
        says(
            &mut screen,
            n,
            "agent_error",
            json!({ "error_type": "e", "message_preview": format!("number {n}.") }),
        );
    }
    let has = |screen: &Screen, n: u64| drawn(screen, 80, 24).contains(&format!("number {n}."));
    assert!(has(&screen, 50) && !has(&screen, 1));
    screen.on(key(KeyCode::PageUp));
    let before = drawn(&screen, 80, 24);
    assert!(!has(&screen, 50) && has(&screen, 40));
    says(&mut screen, 51, "agent_error", json!({ "error_type": "e", "message_preview": "number 51." }));
    assert_eq!(drawn(&screen, 80, 24), before);
    screen.on(key(KeyCode::Home));
    assert!(has(&screen, 1) && has(&screen, 10), "the beginning fills the screen");
    screen.on(key(KeyCode::Down));
    assert_eq!(screen.back, 49, "each key is seen to move");
    screen.on(key(KeyCode::End));
    assert!(has(&screen, 51));
}

#[test]
fn events_and_reads_of_the_task_do_not_undo_each_other() {
    let mut screen = busy(sample::running());
    assert_eq!(screen.task.cost_usd, Some(0.2512));
    screen.on(Input::Task(Box::new(sample::running())));
    assert_eq!((screen.task.cost_usd, screen.task.turns_attempted), (Some(0.2512), Some(8)));
    assert_eq!(
        says(&mut screen, 9, "agent_turn", json!({ "turn": 9 })),
        None,
        "an agent's word costs no read"
    );
    assert_eq!(says(&mut screen, 10, "result_received", json!({})), Some(Wish::Look));
    screen.on(Input::Interrupted);
    assert_eq!(screen.link, Link::Interrupted);
    let done = json!({ "tool_name": "Bash", "is_error": true, "content_preview": "no\nway" });
    says(&mut screen, 11, "agent_tool_result", done);
    assert_eq!(screen.link, Link::Live);
    let tool = screen.tool.unwrap();
    assert_eq!((tool.stands, tool.output.as_str()), (Stands::Failed, "no\nway"));
}
