//! From what is known to a screen. Pure: time, zone and colour come with the view.

use std::collections::VecDeque;

use domain::EventKind;
use protocol::rest::EventRecord;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph};

use super::screen::{Link, Mode, Notice, Screen, Stands, Words};
use crate::clean;
use crate::render::{self, MISSING, Paint, View, time, wrap};

/// Lines of the tool's part, with its border.
const TOOL_LINES: u16 = 6;
/// Below this many lines the tool's part is left out.
const SMALL: u16 = 16;

/// Draws the whole screen.
pub fn draw(screen: &Screen, view: &View, frame: &mut Frame<'_>) {
    let tool = if frame.area().height < SMALL { 0 } else { TOOL_LINES };
    let parts = [Constraint::Length(3), Constraint::Min(1), Constraint::Length(tool), Constraint::Length(1)];
    let [head, timeline, tool_area, foot] = Layout::vertical(parts).areas(frame.area());
    let ink = Ink(view.paint);
    frame.render_widget(Paragraph::new(self::head(screen, view, ink)), head);
    self::timeline(screen, view, ink, frame, timeline);
    if tool > 0 {
        self::tool(screen, view, ink, frame, tool_area);
    }
    frame.render_widget(Paragraph::new(self::foot(screen, ink, foot.width)), foot);
}

/// Colours, where they are wanted.
#[derive(Clone, Copy)]
struct Ink(Paint);

impl Ink {
    fn of(self, color: Color) -> Style {
        match self.0 {
            Paint::Colour => Style::new().fg(color),
            Paint::Plain => Style::new(),
        }
    }

    fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn status(self, status: &str) -> Style {
        self.of(match status {
            "COMPLETED" => Color::Green,
            "FAILED" | "TIMED_OUT" => Color::Red,
            "CANCELLED" => Color::Yellow,
            _other => Color::Cyan,
        })
    }
}

fn head(screen: &Screen, view: &View, ink: Ink) -> Vec<Line<'static>> {
    let task = &screen.task;
    let status = clean::line(&task.status);
    let word = if task.is_terminal() { "total" } else { "elapsed" };
    let took = render::status::elapsed(task, view).map_or_else(|| MISSING.into(), time::duration);
    let link = match screen.link {
        Link::Live => Span::raw(""),
        Link::Interrupted => Span::styled("  (connection interrupted, trying again)", ink.of(Color::Yellow)),
        Link::Over => Span::styled("  (all told)", ink.dim()),
    };
    let first = Line::from(vec![
        Span::styled(format!("Task {} ", clean::line(&task.task_id)), ink.bold()),
        Span::styled(status.clone(), ink.status(&status)),
        Span::raw(format!(" {took} {word}")),
        link,
    ]);
    let turns = task.max_turns.unwrap_or(domain::limit::TURNS_DEFAULT);
    let turn = task.turns_attempted.map_or_else(|| MISSING.into(), |t| format!("{t} / ~{turns}"));
    let mut facts = vec![format!("Turn {turn}"), format!("Cost {}", render::status::cost(task))];
    if let Some(place) = task.queue_position {
        facts.push(format!("Queue position {place}"));
    }
    if let Some(request) = &task.awaiting_approval_request_id {
        facts.push(format!("Waits for approval {}", clean::line(request)));
    }
    facts.push(task.repo.as_deref().map_or_else(|| "(repo-less)".into(), clean::line));
    let third = match (render::status::reason(task), &task.pr_url, &task.task_description) {
        (Some(reason), ..) => Line::styled(reason, ink.of(Color::Red)),
        (None, Some(url), _) => {
            Line::styled(format!("Pull request {}", clean::line(url)), ink.of(Color::Green))
        }
        (None, None, words) => Line::styled(words.as_deref().map(clean::line).unwrap_or_default(), ink.dim()),
    };
    vec![first, Line::raw(facts.join(" · ")), third]
}

fn timeline(screen: &Screen, view: &View, ink: Ink, frame: &mut Frame<'_>, area: Rect) {
    let block = Block::new().borders(Borders::TOP).title(match screen.back {
        0 => " Timeline ".to_owned(),
        _ => " Timeline (scrolled back; End follows) ".to_owned(),
    });
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let height = usize::from(inner.height);
    let plain = View { paint: Paint::Plain, width: Some(usize::from(inner.width.max(20))), ..view.clone() };
    // From the last one that is seen backwards, no more than fits: a long record costs no more than a short one.
    let split = screen.events.len() - screen.back.min(screen.events.len());
    let told = |event: &EventRecord| {
        let style = style(event, ink);
        let text = render::event::event(event, &plain);
        text.lines().map(|line| Line::styled(line.to_owned(), style)).collect::<Vec<_>>()
    };
    let mut shown: VecDeque<Line<'static>> = VecDeque::new();
    for event in screen.events.range(..split).rev() {
        for line in told(event).into_iter().rev() {
            shown.push_front(line);
        }
        if shown.len() >= height {
            break;
        }
    }
    let older = shown.len();
    // At the beginning there is room for what came later.
    for event in screen.events.range(split..) {
        if shown.len() >= height {
            break;
        }
        shown.extend(told(event));
    }
    let above = older.saturating_sub(height);
    let mut shown: Vec<_> = shown.into_iter().skip(above).take(height).collect();
    if shown.is_empty() {
        shown.push(Line::styled("Nothing has happened yet.", ink.dim()));
    }
    frame.render_widget(Paragraph::new(shown), inner);
}

fn style(event: &EventRecord, ink: Ink) -> Style {
    match EventKind::from_wire(&event.event_type) {
        Some(EventKind::AgentTurn) => ink.bold(),
        Some(EventKind::AgentToolCall) => ink.of(Color::Cyan),
        Some(EventKind::AgentToolResult) if event.metadata["is_error"] == true => ink.of(Color::Red),
        Some(EventKind::AgentError | EventKind::AgentBlocked | EventKind::PreflightFailed) => {
            ink.of(Color::Red)
        }
        Some(EventKind::TaskFailed | EventKind::TaskTimedOut) => ink.of(Color::Red),
        Some(EventKind::TaskCompleted | EventKind::PrCreated) => ink.of(Color::Green),
        Some(EventKind::TaskCancelled | EventKind::LimitReached | EventKind::ModelWaiting) => {
            ink.of(Color::Yellow)
        }
        Some(EventKind::EgressDenied | EventKind::PushRefused | EventKind::BudgetExceeded) => {
            ink.of(Color::Yellow)
        }
        Some(EventKind::AgentCostUpdate) => ink.dim(),
        _other => Style::new(),
    }
}

fn tool(screen: &Screen, view: &View, ink: Ink, frame: &mut Frame<'_>, area: Rect) {
    let block = Block::new().borders(Borders::TOP).title(" Tool ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let Some(tool) = &screen.tool else {
        frame.render_widget(Paragraph::new(Line::styled("No tool was called yet.", ink.dim())), inner);
        return;
    };
    let (mark, style) = match tool.stands {
        Stands::Running => ("▶", ink.of(Color::Cyan)),
        Stands::Done => ("◀", ink.of(Color::Green)),
        Stands::Failed => ("◀", ink.of(Color::Red)),
    };
    let age = match tool.stands {
        Stands::Running => time::seconds_since(&tool.since, view.now).map(time::duration),
        Stands::Done | Stands::Failed => None,
    };
    let age = age.map(|age| format!(" ({age})")).unwrap_or_default();
    let first = format!("{mark} {}{age}: {}", tool.name, tool.input);
    let mut lines = vec![Line::styled(first, style)];
    let width = usize::from(inner.width.max(20)).saturating_sub(2);
    let output: Vec<String> = tool.output.lines().flat_map(|line| wrap::words(line, width)).collect();
    // The end of what it says is what is new.
    let room = usize::from(inner.height).saturating_sub(1);
    let end = &output[output.len().saturating_sub(room)..];
    lines.extend(end.iter().map(|line| Line::raw(format!("  {line}"))));
    frame.render_widget(Paragraph::new(lines), inner);
}

fn foot(screen: &Screen, ink: Ink, width: u16) -> Line<'static> {
    match (&screen.mode, &screen.notice) {
        (Mode::Writing { to, text }, _) => {
            let label = match to {
                Words::Nudge => "Nudge: ",
                Words::Ask => "Ask: ",
            };
            let help = "  (Enter sends, Esc drops)";
            let room = usize::from(width).saturating_sub(label.len() + help.len() + 1);
            // The end of a long text is where the person writes.
            let all: Vec<char> = text.chars().collect();
            let seen: String = all[all.len().saturating_sub(room)..].iter().collect();
            Line::from(vec![
                Span::styled(label, ink.bold()),
                Span::raw(format!("{seen}▏")),
                Span::styled(help, ink.dim()),
            ])
        }
        (Mode::Cancelling, _) => {
            Line::styled("Cancel this task? y cancels it, any other key does not", ink.of(Color::Yellow))
        }
        (Mode::Watching, Some(Notice::Said(text))) => Line::styled(clean::line(text), ink.of(Color::Green)),
        (Mode::Watching, Some(Notice::Trouble(text))) => Line::styled(clean::line(text), ink.of(Color::Red)),
        (Mode::Watching, None) if screen.task.is_terminal() => {
            Line::styled("↑↓ scroll   End newest   q quit", ink.dim())
        }
        (Mode::Watching, None) => Line::styled(
            "n nudge   a ask   c cancel   ↑↓ scroll   End newest   q quit (the task goes on)",
            ink.dim(),
        ),
    }
}
