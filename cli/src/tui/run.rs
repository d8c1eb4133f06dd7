//! The terminal, the stream and the calls of a screen.

use std::io::IsTerminal as _;
use std::time::Duration;

use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste, Event, EventStream, KeyEventKind};
use domain::TaskId;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use protocol::client::Client;
use protocol::client::stream::{Item, Watch};
use protocol::rest::TaskDetail;
use ratatui::DefaultTerminal;

use super::draw::draw;
use super::screen::{Input, Notice, Screen, Wish};
use crate::args::Output;
use crate::commands::watch::Followed;
use crate::context::Context;
use crate::failure::Failure;

/// The clock on the screen moves this often.
const TICK: Duration = Duration::from_secs(1);
/// The task is read anew at most this often.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// An answer is waited for in looks of this length.
const ANSWER_LOOK: Duration = Duration::from_secs(20);
/// Looks at an answer before it is left to `bgagent ask`.
const ANSWER_LOOKS: u32 = 30;
/// Things that are taken in before the screen is drawn again.
const BURST: usize = 500;

/// Whether a screen can be had: told before a server is asked for anything.
pub fn check(cx: &Context, id: TaskId) -> Result<(), Failure> {
    if cx.output == Output::Json {
        return Err(Failure::usage("--tui and --output json exclude each other")
            .hint("Without --tui, --output json prints one event a line."));
    }
    let dumb = cx.env.get("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
    if dumb || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Failure::usage("--tui needs a terminal that can place its cursor")
            .hint(format!("Without it, this works anywhere: bgagent watch {id}")));
    }
    Ok(())
}

/// Shows a task until the person leaves.
pub async fn watch(cx: &Context, client: &Client, id: TaskId, task: TaskDetail) -> Result<Followed, Failure> {
    let mut terminal = Terminal::enter()?;
    let ended = follow(cx, client, id, task, &mut terminal.0).await;
    drop(terminal);
    ended
}

/// The terminal in our hands; given back when this is dropped, and by a panic.
struct Terminal(DefaultTerminal);

impl Terminal {
    fn enter() -> Result<Terminal, Failure> {
        let terminal = ratatui::try_init().map_err(|e| Failure::new(format!("taking the terminal: {e}")))?;
        let _ = crossterm::execute!(std::io::stdout(), EnableBracketedPaste);
        Ok(Terminal(terminal))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = crossterm::execute!(std::io::stdout(), DisableBracketedPaste);
        let _ = ratatui::try_restore();
    }
}

type Pending = FuturesUnordered<BoxFuture<'static, Option<Input>>>;

async fn follow(
    cx: &Context,
    client: &Client,
    id: TaskId,
    task: TaskDetail,
    terminal: &mut DefaultTerminal,
) -> Result<Followed, Failure> {
    let mut screen = Screen::new(task);
    let mut keys = EventStream::new();
    // For as long as the person looks: a server that is away for long comes back, or the person leaves.
    let watch = Watch { give_up_after: Duration::MAX, ..Watch::default() };
    let mut stream = client.stream(id, watch).fuse();
    let mut over = false;
    let mut tick = tokio::time::interval(TICK);
    let mut pending: Pending = FuturesUnordered::new();
    let mut looking = Look::Idle;
    loop {
        let view = cx.view();
        terminal
            .draw(|frame| draw(&screen, &view, frame))
            .map_err(|e| Failure::new(format!("drawing: {e}")))?;
        for turn in 0..BURST {
            let next = async {
                tokio::select! {
                    biased;
                    key = keys.next() => from_terminal(key),
                    Some(input) = pending.next(), if !pending.is_empty() => Ok(input),
                    item = stream.next(), if !over => from_stream(item),
                    _ = tick.tick(), if turn == 0 => Ok(None),
                }
            };
            // The first is waited for; those that are there already come along.
            let input = match turn {
                0 => next.await?,
                _ => match next.now_or_never() {
                    Some(input) => input?,
                    None => break,
                },
            };
            let Some(input) = input else { continue };
            over |= matches!(input, Input::Over);
            if matches!(input, Input::Task(_)) || matches!(input, Input::Answered(_)) {
                looking = match looking {
                    Look::Again => {
                        pending.push(look(client.clone(), id));
                        Look::UnderWay
                    }
                    Look::UnderWay | Look::Idle => Look::Idle,
                };
            }
            match screen.on(input) {
                None => {}
                Some(Wish::Quit) if screen.task.is_terminal() => {
                    return Ok(Followed::Ended(Box::new(screen.task)));
                }
                Some(Wish::Quit) => return Ok(Followed::Interrupted),
                Some(Wish::Look) => match looking {
                    Look::Idle => {
                        pending.push(look(client.clone(), id));
                        looking = Look::UnderWay;
                    }
                    Look::UnderWay | Look::Again => looking = Look::Again,
                },
                Some(Wish::Nudge(text)) => pending.push(nudge(client.clone(), id, text)),
                Some(Wish::Ask(text)) => pending.push(ask(client.clone(), id, text)),
                Some(Wish::Cancel) => pending.push(cancel(client.clone(), id)),
            }
        }
    }
}

/// Whether the task is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Idle,
    UnderWay,
    /// And something happened since that began.
    Again,
}

fn from_terminal(event: Option<std::io::Result<Event>>) -> Result<Option<Input>, Failure> {
    match event {
        Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => Ok(Some(Input::Key(key))),
        Some(Ok(Event::Paste(text))) => Ok(Some(Input::Paste(text))),
        Some(Ok(_other)) => Ok(None),
        Some(Err(e)) => Err(Failure::new(format!("reading the keyboard: {e}"))),
        None => Err(Failure::new("the keyboard is gone")),
    }
}

fn from_stream(item: Option<Result<Item, protocol::client::ClientError>>) -> Result<Option<Input>, Failure> {
    match item {
        Some(Ok(Item::Event(event))) => Ok(Some(Input::Event(event))),
        Some(Ok(Item::Interrupted { .. })) => Ok(Some(Input::Interrupted)),
        Some(Err(error)) => Err(error.into()),
        None => Ok(Some(Input::Over)),
    }
}

fn look(client: Client, id: TaskId) -> BoxFuture<'static, Option<Input>> {
    async move {
        tokio::time::sleep(LOOK_PAUSE).await;
        match client.task(id).await {
            Ok(task) => Some(Input::Task(Box::new(task))),
            Err(error) => Some(Input::Answered(Notice::Trouble(format!("The task cannot be read: {error}")))),
        }
    }
    .boxed()
}

fn nudge(client: Client, id: TaskId, text: String) -> BoxFuture<'static, Option<Input>> {
    async move {
        let notice = match client.nudge(id, &text).await {
            Ok(_accepted) => {
                Notice::Said("The nudge is on its way; the timeline says when the agent has it".into())
            }
            Err(error) => Notice::Trouble(format!("The nudge was not taken: {error}")),
        };
        Some(Input::Answered(notice))
    }
    .boxed()
}

fn ask(client: Client, id: TaskId, question: String) -> BoxFuture<'static, Option<Input>> {
    async move {
        let asked = async {
            let mut asked = client.ask(id, &question).await?;
            let Ok(ask) = asked.ask_id.parse() else { return Ok(asked) };
            for _ in 0..ANSWER_LOOKS {
                if asked.answer.is_some() {
                    break;
                }
                asked = client.answer(id, ask, ANSWER_LOOK).await?;
            }
            Ok::<_, protocol::client::ClientError>(asked)
        };
        let notice = match asked.await {
            Ok(asked) => match asked.answer {
                Some(answer) => Notice::Said(format!("Answer: {answer}")),
                None => Notice::Said("There is no answer yet; it will be among the events".into()),
            },
            Err(error) => Notice::Trouble(format!("The question was not taken: {error}")),
        };
        Some(Input::Answered(notice))
    }
    .boxed()
}

fn cancel(client: Client, id: TaskId) -> BoxFuture<'static, Option<Input>> {
    async move {
        let notice = match client.cancel(id).await {
            Ok(done) => Notice::Said(format!("Cancelled at {}", done.cancelled_at)),
            Err(error) => Notice::Trouble(format!("The task was not cancelled: {error}")),
        };
        Some(Input::Answered(notice))
    }
    .boxed()
}
