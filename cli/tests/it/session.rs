//! A new user's whole session with the real program and a real server: submit, watch, nudge, ask, status, cancel, trace,
//! replay. At a terminal of 80 columns, at one that can do little, without colour, in a pipe, and as JSON.
//!
//! What it looks like stands in `docs/guide/session.md`, and is held to it: `BGAGENT_TEST_UPDATE=1` writes the page anew, to
//! be looked at. What differs from run to run is masked; events that two processes write at the same time may change places.

mod mask;
mod page;
mod terminal;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use domain::TaskId;
use regex::Regex;
use serde_json::{Value, json};
use testkit::platform::Platform;
use testkit::poll;
use tokio::process::{Child, Command};

use self::mask::Masks;
use crate::whole::*;

/// A command takes a second or two; the rest is a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// Columns of the terminal.
const COLUMNS: u16 = 80;
/// What the agent runs; it goes on when somebody lets it.
const TESTS: &str = "until [ -e go ]; do sleep 0.1; done\nrm go\necho 3 passed\n";

/// Where the person sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A terminal with colours.
    Terminal,
    /// `TERM=dumb`.
    Dumb,
    /// A terminal of somebody who set `NO_COLOR`.
    NoColour,
    /// A pipe.
    Pipe,
    /// A pipe, and `--output json`.
    Json,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            // They differ in nothing that a page can show.
            Place::Terminal | Place::Dumb | Place::NoColour => "terminal",
            Place::Pipe => "pipe",
            Place::Json => "json",
        }
    }
}

/// A command that was typed, and what was seen of it.
#[derive(Debug)]
struct Typed {
    words: String,
    /// What a person reads: both streams at a terminal, stdout in a pipe.
    seen: String,
    /// In a pipe.
    err: String,
    /// As it came.
    raw: Vec<u8>,
    code: i32,
}

struct Session {
    place: Place,
    platform: Platform,
    home: PathBuf,
    typed: Vec<Typed>,
}

impl Session {
    async fn begin(place: Place) -> Session {
        // A path that is as long wherever this runs, so that lines break where they do.
        let scripts = tempfile::tempdir().unwrap();
        let platform = Platform::new_in(Path::new("/tmp"), crate::BINARY, scripts.path(), "claude-haiku-4-5");
        let mut platform = quick(platform.unwrap()).with("TZ", "UTC");
        let home = platform.state_dir().parent().unwrap().to_owned();
        let models = home.join("models");
        std::fs::create_dir(&models).unwrap();
        write_models(&models);
        platform.set("BGAGENT__MODEL__PROVIDERS__DEMO__PATH", models.display());
        platform.set(
            "BGAGENT__MODEL__PROVIDERS__DEMO__MODELS",
            "[\"claude-haiku-4-5\",\"claude-haiku-4-slow\",\"claude-haiku-4-many\"]",
        );
        let (tmp, cat) = (home.join("tmp"), home.join("cat"));
        std::fs::create_dir(&tmp).unwrap();
        platform.set("TMPDIR", tmp.display());
        std::fs::create_dir(&cat).unwrap();
        std::fs::write(cat.join("test.sh"), TESTS).unwrap();
        for words in ["init --quiet --initial-branch=main", "add --all", "commit --quiet --message=Begin"] {
            let mut git = Command::new("git");
            git.args(["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]).args(words.split(' '));
            assert!(git.current_dir(&cat).status().await.unwrap().success(), "{words}");
        }
        platform.start().await.unwrap();
        Session { place, platform, home, typed: vec![] }
    }

    /// Types a command and waits for its end.
    async fn types(&mut self, words: &[&str]) -> String {
        let running = self.starts(words);
        self.ends(running).await
    }

    fn starts(&self, words: &[&str]) -> (String, Running) {
        let mut command = self.platform.command(words);
        if self.place == Place::Json {
            command.args(["--output", "json"]);
        }
        command.current_dir(self.home.join("cat"));
        match self.place {
            Place::Terminal | Place::NoColour => command.env("TERM", "xterm-256color"),
            Place::Dumb => command.env("TERM", "dumb"),
            Place::Pipe | Place::Json => command.env("TERM", "xterm-256color").stdin(Stdio::null()),
        };
        if self.place == Place::NoColour {
            command.env("NO_COLOR", "1");
        }
        let shown: Vec<_> = words.iter().map(|word| quoted(word)).collect();
        let running = match self.place {
            Place::Terminal | Place::Dumb | Place::NoColour => {
                Running::Terminal(terminal::Terminal::run(command, COLUMNS))
            }
            Place::Pipe | Place::Json => {
                let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
                Running::Pipe(Box::new(piped.spawn().unwrap()))
            }
        };
        (format!("bgagent {}", shown.join(" ")), running)
    }

    async fn ends(&mut self, (words, running): (String, Running)) -> String {
        let typed = match running {
            Running::Terminal(terminal) => {
                let (raw, code) =
                    tokio::time::timeout(PATIENCE, terminal.end()).await.expect("the command ends");
                Typed { words, seen: terminal::seen(&raw), err: String::new(), raw, code }
            }
            Running::Pipe(child) => {
                let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
                let output = output.expect("the command ends").unwrap();
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let raw = [output.stdout.clone(), output.stderr.clone()].concat();
                let (seen, err) = (text(&output.stdout), text(&output.stderr));
                Typed { words, seen, err, raw, code: output.status.code().unwrap_or(-1) }
            }
        };
        let seen = typed.seen.clone();
        self.typed.push(typed);
        seen
    }

    /// The newest task.
    async fn task(&self) -> TaskId {
        let newest = self.platform.client().unwrap().list(&Default::default()).await.unwrap();
        newest.data[0].task_id.parse().unwrap()
    }

    async fn heard(&self, task: TaskId, kind: &str, words: &str) {
        let look = async || {
            let events = events(&self.platform, task).await;
            events
                .iter()
                .any(|e| e.event_type == kind && e.metadata.to_string().contains(words))
                .then_some(())
        };
        poll::until(format!("{kind} with {words:?}"), END, look).await.unwrap();
    }

    /// Waits until the worker knows that a nudge and a question wait for its agent.
    async fn both_are_known(&self, task: TaskId) {
        let log = session(&self.platform, task).join("worker.log");
        let known = async || {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            log.lines().any(|l| l.contains("nudges=1") && l.contains("asks=1")).then_some(())
        };
        poll::until("the worker to know of both", END, known).await.unwrap();
    }
}

enum Running {
    Terminal(terminal::Terminal),
    Pipe(Box<Child>),
}

/// As one types it.
fn quoted(word: &str) -> String {
    if word.contains(' ') { format!("\"{word}\"") } else { word.to_owned() }
}

fn write_models(folder: &Path) {
    let mut first = bash("sh test.sh");
    first["content"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!({ "type": "text", "text": "I run the tests first." }));
    let turns = [
        first,
        bash("echo one > one.txt"),
        bash("cat one.txt two.txt"),
        say("Add one.txt\n\nIt holds the word one."),
    ];
    transcript(folder, "claude-haiku-4-5", &turns);
    transcript(folder, "claude-haiku-4-slow", &[bash("echo half > half.txt; sleep 600"), say("Done.")]);
    let mut many = vec![bash("true"); 44];
    many.push(bash("echo half > half.txt; sleep 600"));
    transcript(folder, "claude-haiku-4-many", &many);
}

/// Lets the agent's tests go on, wherever below `folder` they run: once in each repository.
fn let_go(folder: &Path, done: &mut HashSet<PathBuf>) {
    let below = |path: PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path());
    for replay in below(folder.to_owned()) {
        for session in below(replay.join("state/sessions")) {
            let repo = session.join("box/repo");
            if done.contains(&repo) {
                continue;
            }
            // A repository that is being made is let go at the next try.
            if repo.join("test.sh").exists() && std::fs::write(repo.join("go"), "").is_ok() {
                done.insert(repo);
            }
        }
    }
}

/// The whole of it.
async fn whole(place: Place) -> Session {
    let mut session = Session::begin(place).await;
    session.types(&["submit", "--trace", "Add one.txt"]).await;
    let task = session.task().await;
    let id = task.to_string();
    session.heard(task, "agent_tool_call", "test.sh").await;
    session.types(&["status", &id]).await;
    session.types(&["nudge", &id, "End the file with a newline"]).await;
    let asked = session.starts(&["ask", &id, "How far are you?"]);
    session.both_are_known(task).await;
    let repo = crate::whole::session(&session.platform, task).join("box/repo");
    std::fs::write(repo.join("go"), "").unwrap();
    session.ends(asked).await;
    session.types(&["watch", &id]).await;
    session.heard(task, "agent_milestone", "trajectory_uploaded").await;
    session.types(&["status", &id]).await;
    session.types(&["events", &id, "--limit", "4"]).await;

    session.types(&["submit", "--model", "demo/claude-haiku-4-slow", "Go on and on"]).await;
    let second = session.task().await;
    session.heard(second, "agent_tool_call", "half.txt").await;
    session.types(&["list"]).await;
    session.types(&["cancel", &second.to_string()]).await;

    session.types(&["trace", "download", &id, "-o", "trace.jsonl.gz"]).await;
    session.types(&["replay", &id]).await;
    let again = session.starts(&["replay", "run", &id]);
    let folder = session.home.join("tmp");
    let letting = async {
        let mut done = HashSet::new();
        loop {
            let_go(&folder, &mut done);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        _ = session.ends(again) => (),
        () = letting => unreachable!("it goes on until the command has ended"),
    }
    session
}

/// Every command ends as it should, in every place.
fn ends_well(session: &Session) {
    for typed in &session.typed {
        assert_eq!(typed.code, 0, "{typed:?}");
    }
}

/// No line is wider than the terminal, but for what is one word: an address, a branch, a path.
fn fits(session: &Session) {
    for line in session.typed.iter().flat_map(|typed| typed.seen.lines()) {
        let one_word = !line.trim().contains(' ') && line.contains('/');
        assert!(console::measure_text_width(line) <= COLUMNS.into() || one_word, "too wide: {line}");
    }
}

/// Text and line ends, and at a terminal that can go back in a line, that.
fn is_plain(session: &Session) {
    for typed in &session.typed {
        let text = String::from_utf8(typed.raw.clone()).unwrap();
        let back = session.place == Place::NoColour;
        let strange = text
            .replace("\r\n", "\n")
            .chars()
            .find(|&c| c.is_control() && !matches!(c, '\n' | '\t') && !(back && c == '\r'));
        assert_eq!(strange, None, "{:?} printed {text:?}", typed.words);
    }
}

async fn held_to_the_page(session: Session) {
    let page = page::Page::read();
    let masks = Masks::new(&session.home, &session.typed);
    let shown = page::transcript(&session.typed, &masks);
    page.holds(session.place.name(), &shown);
    session.platform.end(Duration::from_secs(30)).await.unwrap();
}

/// D-033: the first event took minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_terminal_of_80_columns() {
    let session = whole(Place::Terminal).await;
    ends_well(&session);
    fits(&session);
    let coloured = session.typed.iter().any(|typed| typed.raw.contains(&0x1b));
    assert!(coloured, "colours are shown where they can be");
    held_to_the_page(session).await;
}

/// D-113: NO_COLOR was not known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_dumb_terminal() {
    let mut session = whole(Place::Dumb).await;
    ends_well(&session);
    fits(&session);
    is_plain(&session);
    // What would pass elsewhere is told once here, and the rest is the same.
    for waiting in ["Waiting for the agent to come to the end of its step (", "The agent saves its work"] {
        let told = session.typed.iter_mut().find(|typed| typed.seen.starts_with(waiting));
        let told = told.unwrap_or_else(|| panic!("nobody was told: {waiting}"));
        told.seen = told.seen.split_once('\n').expect("a line of its own").1.to_owned();
    }
    held_to_the_page(session).await;
}

/// D-113: NO_COLOR was not known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_no_colour() {
    let session = whole(Place::NoColour).await;
    ends_well(&session);
    fits(&session);
    is_plain(&session);
    held_to_the_page(session).await;
}

/// D-032: the cost was told at the end only.
/// D-105: what waited had another layout.
/// D-106: milestones that were 20 events back were gone.
/// D-108: a task that had ended showed its first hundred events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_has_ended_is_shown_whole() {
    let mut session = Session::begin(Place::Pipe).await;
    session.types(&["submit", "--model", "demo/claude-haiku-4-many", "Look often"]).await;
    let task = session.task().await;
    let id = task.to_string();
    session.heard(task, "agent_tool_call", "sleep 600").await;
    // The newest page of events is full of turns: the milestone is before it.
    let status = session.types(&["status", &id]).await;
    assert!(status.contains("Last milestone: stage agent ("), "{status}");
    assert!(status.contains("Cost:          $"), "what was spent is told while it runs: {status}");
    session.types(&["cancel", &id]).await;

    let ago = Regex::new(r"\([^)]* ago\)").unwrap();
    let once = session.types(&["status", &id]).await;
    let waited = session.types(&["status", "--wait", &id]).await;
    assert_eq!(ago.replace_all(&once, ""), ago.replace_all(&waited, ""), "one layout");
    let watched = session.types(&["watch", &id]).await;
    let all = events(&session.platform, task).await;
    assert!(all.len() > 150, "more than a page or two: {}", all.len());
    assert!(watched.contains("Task created for") && watched.contains("Turn #45 "), "from its beginning");
    let last = watched.lines().last().unwrap();
    assert!(last.contains("Cancelled by"), "to its end: {last}");
    session.platform.end(Duration::from_secs(30)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_pipe() {
    let session = whole(Place::Pipe).await;
    ends_well(&session);
    is_plain(&session);
    held_to_the_page(session).await;
}

/// D-098: output for programs was not one object a line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_json() {
    let session = whole(Place::Json).await;
    ends_well(&session);
    is_plain(&session);
    for typed in &session.typed {
        let lines: Vec<Value> = typed
            .seen
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{}: {e}: {line}", typed.words)))
            .collect();
        assert!(
            lines.iter().all(Value::is_object) && !lines.is_empty(),
            "{}: one object a line",
            typed.words
        );
    }
    held_to_the_page(session).await;
}
