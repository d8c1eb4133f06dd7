//! What the screen knows, and how it changes. Pure.

use std::collections::VecDeque;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use domain::{EventKind, limit};
use protocol::rest::{EventRecord, TaskDetail};

use crate::clean;

/// Events that are kept for looking back; `bgagent events` has them all.
const KEPT_MAX: usize = 5_000;
/// Events of a page of scrolling.
const PAGE: usize = 10;

/// A task as the screen shows it.
#[derive(Debug)]
pub struct Screen {
    /// The task as it was last read, and what events said since.
    pub task: TaskDetail,
    /// Its newest events, the oldest first.
    pub events: VecDeque<EventRecord>,
    /// The tool at work, or the last one.
    pub tool: Option<Tool>,
    /// What keys do.
    pub mode: Mode,
    /// The last word of the server or of ours.
    pub notice: Option<Notice>,
    /// Whether the server is heard.
    pub link: Link,
    /// Events that the timeline is scrolled back; 0 follows the newest.
    pub back: usize,
}

/// A tool call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it was given.
    pub input: String,
    /// What it says, or said.
    pub output: String,
    /// When it began.
    pub since: String,
    /// How it stands.
    pub stands: Stands,
}

/// How a tool call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// At work.
    Running,
    /// Done.
    Done,
    /// Done, with an error.
    Failed,
}

/// What keys do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// They move and choose.
    Watching,
    /// They are words to the agent.
    Writing {
        /// What becomes of them.
        to: Words,
        /// So far.
        text: String,
    },
    /// They answer whether to cancel.
    Cancelling,
}

/// What words to the agent are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// Guidance.
    Nudge,
    /// A question.
    Ask,
}

/// A word beside the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Good or neutral.
    Said(String),
    /// Trouble.
    Trouble(String),
}

/// Whether the server is heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// It is.
    Live,
    /// It is tried again.
    Interrupted,
    /// The task has ended and all was told.
    Over,
}

/// What comes in.
#[derive(Debug)]
pub enum Input {
    /// The next event.
    Event(Box<EventRecord>),
    /// The task, read anew.
    Task(Box<TaskDetail>),
    /// A key.
    Key(KeyEvent),
    /// Text from the clipboard.
    Paste(String),
    /// The connection was cut.
    Interrupted,
    /// The stream has ended by itself.
    Over,
    /// What became of a wish.
    Answered(Notice),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Leave.
    Quit,
    /// Say this to the agent.
    Nudge(String),
    /// Ask this.
    Ask(String),
    /// Cancel the task.
    Cancel,
    /// Read the task anew.
    Look,
}

impl Screen {
    /// The screen of a task of which no event was seen.
    pub fn new(task: TaskDetail) -> Screen {
        Screen {
            task,
            events: VecDeque::new(),
            tool: None,
            mode: Mode::Watching,
            notice: None,
            link: Link::Live,
            back: 0,
        }
    }

    /// Takes in what happened; returns what is to be done.
    pub fn on(&mut self, input: Input) -> Option<Wish> {
        match input {
            Input::Event(event) => return self.event(*event),
            Input::Task(task) => {
                let (cost, turn) = (self.task.cost_usd, self.task.turns_attempted);
                self.task = *task;
                // A read that was under way may know less than an event that came meanwhile.
                if self.task.cost_usd.is_none_or(|new| cost.is_some_and(|old| old > new)) {
                    self.task.cost_usd = cost;
                }
                self.task.turns_attempted = self.task.turns_attempted.max(turn);
            }
            Input::Key(key) => return self.key(key),
            Input::Paste(text) => {
                if let Mode::Writing { text: so_far, .. } = &mut self.mode {
                    text.chars().for_each(|c| push(so_far, c));
                }
            }
            Input::Interrupted => self.link = Link::Interrupted,
            Input::Over => {
                self.link = Link::Over;
                return Some(Wish::Look);
            }
            Input::Answered(notice) => self.notice = Some(notice),
        }
        None
    }

    fn event(&mut self, event: EventRecord) -> Option<Wish> {
        self.link = Link::Live;
        let kind = EventKind::from_wire(&event.event_type);
        let text = |name: &str| event.metadata[name].as_str().map(clean::line).unwrap_or_default();
        if let Some(turn) = event.metadata["turn"].as_u64().and_then(|t| u32::try_from(t).ok()) {
            self.task.turns_attempted = self.task.turns_attempted.max(Some(turn));
        }
        match kind {
            Some(EventKind::AgentToolCall) => {
                self.tool = Some(Tool {
                    name: text("tool_name"),
                    input: input(event.metadata["tool_input_preview"].as_str().unwrap_or_default()),
                    output: String::new(),
                    since: event.timestamp.clone(),
                    stands: Stands::Running,
                });
            }
            Some(EventKind::AgentToolResult) => {
                let failed = event.metadata["is_error"].as_bool().unwrap_or(false);
                let stands = if failed { Stands::Failed } else { Stands::Done };
                let output = event.metadata["content_preview"].as_str().map(clean::block).unwrap_or_default();
                let name = text("tool_name");
                match self.tool.as_mut().filter(|tool| tool.name == name) {
                    Some(tool) => (tool.output, tool.stands) = (output, stands),
                    None => {
                        let since = event.timestamp.clone();
                        self.tool = Some(Tool { name, input: String::new(), output, since, stands });
                    }
                }
            }
            Some(EventKind::AgentMilestone) if text("milestone") == "tool_running" => {
                let details = event.metadata["details"].as_str().map(clean::block).unwrap_or_default();
                if let Some(tool) = self.tool.as_mut().filter(|tool| tool.stands == Stands::Running) {
                    tool.output = details;
                }
            }
            Some(EventKind::AgentCostUpdate) => {
                self.task.cost_usd = event.metadata["cost_usd"].as_f64().or(self.task.cost_usd);
            }
            _other => {}
        }
        // What the control plane says may have changed the task; what an agent says does not.
        let look = kind.is_none_or(|kind| !kind.from_box() && kind != EventKind::AgentCostUpdate);
        if self.back > 0 {
            // The view stays where the person looks.
            self.back += 1;
        }
        self.events.push_back(event);
        if self.events.len() > KEPT_MAX {
            self.events.pop_front();
            self.back = self.back.min(self.events.len() - 1);
        }
        look.then_some(Wish::Look)
    }

    fn key(&mut self, key: KeyEvent) -> Option<Wish> {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Some(Wish::Quit);
        }
        match std::mem::replace(&mut self.mode, Mode::Watching) {
            Mode::Watching => self.choose(key.code),
            Mode::Writing { to, mut text } => match key.code {
                KeyCode::Esc => None,
                KeyCode::Enter if text.trim().is_empty() => None,
                KeyCode::Enter => {
                    let text = text.trim().to_owned();
                    self.notice = Some(Notice::Said("Sending...".into()));
                    Some(match to {
                        Words::Nudge => Wish::Nudge(text),
                        Words::Ask => Wish::Ask(text),
                    })
                }
                code => {
                    match code {
                        KeyCode::Backspace => {
                            text.pop();
                        }
                        KeyCode::Char(c) => push(&mut text, c),
                        _other => {}
                    }
                    self.mode = Mode::Writing { to, text };
                    None
                }
            },
            Mode::Cancelling => match key.code {
                KeyCode::Char('y' | 'Y') => {
                    self.notice = Some(Notice::Said("Cancelling...".into()));
                    Some(Wish::Cancel)
                }
                _other => None,
            },
        }
    }

    fn choose(&mut self, code: KeyCode) -> Option<Wish> {
        self.notice = None;
        match code {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Wish::Quit),
            KeyCode::Char('n' | 'a' | 'c') if self.task.is_terminal() => {
                self.notice = Some(Notice::Trouble("The task has ended; q leaves".into()));
            }
            KeyCode::Char('n') => self.mode = Mode::Writing { to: Words::Nudge, text: String::new() },
            KeyCode::Char('a') => self.mode = Mode::Writing { to: Words::Ask, text: String::new() },
            KeyCode::Char('c') => self.mode = Mode::Cancelling,
            KeyCode::Up | KeyCode::Char('k') => self.back += 1,
            KeyCode::Down | KeyCode::Char('j') => self.back = self.back.saturating_sub(1),
            KeyCode::PageUp => self.back += PAGE,
            KeyCode::PageDown => self.back = self.back.saturating_sub(PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.back = self.events.len(),
            KeyCode::End | KeyCode::Char('G') => self.back = 0,
            _other => {}
        }
        self.back = self.back.min(self.events.len().saturating_sub(1));
        None
    }
}

/// What a tool was given, the command or the path alone where it is one.
fn input(preview: &str) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_str(preview).ok();
    let known = ["command", "file_path", "path", "pattern"];
    let word = parsed.as_ref().and_then(|value| known.iter().find_map(|name| value[*name].as_str()));
    clean::line(word.unwrap_or(preview))
}

/// One character more, as far as the server takes it; lines become one.
fn push(text: &mut String, c: char) {
    let c = if matches!(c, '\n' | '\r' | '\t') { ' ' } else { c };
    if !domain::text::is_dangerous(c) && text.chars().count() < limit::NUDGE_MAX_CHARS {
        text.push(c);
    }
}
