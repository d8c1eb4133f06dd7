//! The people's API under many clients: reads, submissions and webhook deliveries by 64 at once, beside another engine
//! that takes work in durably; thousands who watch; and a task whose record is so long that anything that grows with it
//! would show.
//!
//! The clients share the machine with the server: what is told is what both together do. Watchers are sockets that one
//! thread looks through in turn, so an arrival is known to within one sweep, which is told beside it.

mod hammer;
mod temporal;
mod webhook;

use std::{
    fs,
    io::{ErrorKind, Read},
    net::TcpStream,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::json;
use tempfile::TempDir;

use self::hammer::{CLIENTS, hammer};
use super::{
    Bed, Bench, Figure, Scale,
    model::{self, Model},
    process,
    server::{self, Person, Server},
    spread::Spread,
    submit::{milliseconds, since_epoch},
};

/// The API's rates.
pub const BENCH: Bench =
    Bench { name: "api", about: "reads, submissions, deliveries, watchers and a long record", run };

const COMMAND: &str = "cargo xtask bench api";
/// Descriptors that are not watchers.
const SPARE_DESCRIPTORS: usize = 200;
const TO_ARRIVE: Duration = Duration::from_secs(120);

struct Size {
    /// How long each rate is measured.
    each: Duration,
    watchers: usize,
    watched: usize,
    record: usize,
    pages: usize,
}

fn size(scale: Scale) -> Size {
    match scale {
        Scale::Full => Size {
            each: Duration::from_secs(10),
            watchers: 10_000,
            watched: 1_000,
            record: 1_000_000,
            pages: 500,
        },
        Scale::Small => {
            Size { each: Duration::from_secs(1), watchers: 200, watched: 20, record: 10_000, pages: 50 }
        }
    }
}

fn run(bed: &Bed) -> Result<Vec<Figure>> {
    let size = size(bed.scale);
    let mut figures = rates(bed, &size)?;
    figures.extend(temporal::figures(size.each));
    figures.extend(webhook::figures(bed, size.each)?);
    figures.extend(watching(bed, &size)?);
    figures.extend(long_record(bed, &size)?);
    Ok(figures)
}

fn figure(what: impl Into<String>, value: f64, unit: &'static str) -> Figure {
    Figure { what: what.into(), value, unit, command: COMMAND.into() }
}

/// A server whose first task holds its only slot: all others wait, and cost nothing but their record.
fn crowded(bed: &Bed, model: &Model) -> Result<Server> {
    crowded_with(bed, model, [])
}

/// The same with more settings.
fn crowded_with<const N: usize>(bed: &Bed, model: &Model, more: [(String, String); N]) -> Result<Server> {
    let mut settings = model.settings();
    settings.push(("BGAGENT__LIMITS__PER_USER".into(), "1".into()));
    settings.extend(more);
    Server::start(bed, &settings)
}

fn rates(bed: &Bed, size: &Size) -> Result<Vec<Figure>> {
    let model = Model::start(|_| vec![model::text("Nothing to do.")])?;
    model.hold();
    let server = crowded(bed, &model)?;
    let repository = server.repository()?;
    let id = server.person()?.submit(&repository, "Holds the slot.")?;
    running(&model)?;
    let mut figures = Vec::new();
    let task = format!("/v1/tasks/{id}");
    let events = format!("{task}/events?limit=50");
    let owner = || server.person();
    for (what, path) in [("one task", &task), ("a page of events", &events)] {
        let took = hammer(&server, size.each, owner, |person| person.call("GET", path).map(drop))?;
        figures.extend(took.told(&format!("read {what}, {CLIENTS} clients")));
    }
    let body = json!({ "repo": repository, "task_description": "Waits for ever." });
    let took = hammer(&server, size.each, owner, |person| person.give(&body).map(drop))?;
    figures.extend(took.told(&format!("submit, {CLIENTS} clients")));
    Ok(figures)
}

/// Waits until the task that holds the slot waits for the model: from then on it does nothing.
fn running(model: &Model) -> Result<()> {
    let deadline = Instant::now() + TO_ARRIVE;
    while model.waiting() == 0 {
        if Instant::now() > deadline {
            bail!("the task that holds the slot did not ask the model within {TO_ARRIVE:?}");
        }
        server::pause(Duration::from_millis(5));
    }
    Ok(())
}

/// A watcher's socket and what it has heard.
struct Watching {
    socket: TcpStream,
    heard: Vec<u8>,
    delay: Option<Duration>,
}

fn watching(bed: &Bed, size: &Size) -> Result<Vec<Figure>> {
    let model = Model::start(|_| vec![model::text("Nothing to do.")])?;
    model.hold();
    let mut server = crowded(bed, &model)?;
    let repository = server.repository()?;
    let mut person = server.person()?;
    let room = descriptors()?.saturating_sub(SPARE_DESCRIPTORS);
    let watchers = size.watchers.min(room);
    person.submit(&repository, "Holds the slot.")?;
    let tasks: Vec<String> =
        (0..size.watched).map(|_| person.submit(&repository, "Waits.")).collect::<Result<_>>()?;
    let lasts: Vec<String> = tasks.iter().map(|id| settled(&mut person, id)).collect::<Result<_>>()?;
    let before = server.settled()?;
    let mut all = Vec::with_capacity(watchers);
    for n in 0..watchers {
        let (id, last) = (&tasks[n % tasks.len()], &lasts[n % tasks.len()]);
        let socket = server.person()?.stream(&format!("/v1/tasks/{id}/stream"), Some(last))?;
        socket.set_nonblocking(true).context("not waiting for a watcher")?;
        all.push(Watching { socket, heard: Vec::new(), delay: None });
    }
    let after = server.settled()?;
    let pid = server.pid();
    let cancels = {
        let (mut person, tasks) = (server.person()?, tasks.clone());
        thread::spawn(move || -> Result<()> {
            tasks.iter().try_for_each(|id| person.call("DELETE", &format!("/v1/tasks/{id}")).map(drop))
        })
    };
    let sweeps = sweep(&mut all)?;
    cancels.join().expect("no panic")?;
    let peak = process::status(pid, "VmHWM")?;
    let delays = Spread::of(all.iter().filter_map(|w| w.delay).collect());
    let crowd = format!("{watchers} watching {} tasks", tasks.len());
    let per_watcher = |kib: u64| (kib.saturating_sub(before)) as f64 / watchers as f64;
    Ok(vec![
        figure(format!("{crowd}: event to watcher, p50"), delays.at(0.5), "ms"),
        figure(format!("{crowd}: event to watcher, p99"), delays.at(0.99), "ms"),
        figure("  of that, one sweep of the client, p50", sweeps.at(0.5), "ms"),
        figure(format!("{crowd}: memory of a watcher"), per_watcher(after), "KiB"),
        figure(format!("{crowd}: the same at its peak"), per_watcher(peak), "KiB"),
    ])
}

/// The last event of a task that waits in the queue.
fn settled(person: &mut Person, id: &str) -> Result<String> {
    let deadline = Instant::now() + TO_ARRIVE;
    loop {
        let events = person.events(id)?;
        if let Some(last) = events.last().filter(|e| e["event_type"] == "admission_queued") {
            return Ok(last["event_id"].as_str().unwrap_or_default().to_owned());
        }
        if Instant::now() > deadline {
            bail!("task {id} was not queued within {TO_ARRIVE:?}; {}", person.last_words(id));
        }
        server::pause(Duration::from_millis(5));
    }
}

/// Looks through the sockets until each has heard an event; what each sweep took.
fn sweep(all: &mut [Watching]) -> Result<Spread> {
    let deadline = Instant::now() + TO_ARRIVE;
    let mut sweeps = Vec::new();
    while all.iter().any(|w| w.delay.is_none()) {
        let begun = Instant::now();
        for watching in all.iter_mut().filter(|w| w.delay.is_none()) {
            let mut buffer = [0; 4096];
            match watching.socket.read(&mut buffer) {
                Ok(0) => bail!("the server closed a stream before its event"),
                Ok(read) => {
                    watching.heard.extend_from_slice(&buffer[..read]);
                    let at = since_epoch();
                    watching.delay = stored(&watching.heard).map(|stored| at.saturating_sub(stored));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("reading a stream"),
            }
        }
        sweeps.push(begun.elapsed());
        if Instant::now() > deadline {
            let deaf = all.iter().filter(|w| w.delay.is_none()).count();
            bail!("{deaf} of {} watchers heard nothing within {TO_ARRIVE:?}", all.len());
        }
    }
    Ok(Spread::of(sweeps))
}

/// When the event was stored whose id is in this text.
fn stored(heard: &[u8]) -> Option<Duration> {
    let text = String::from_utf8_lossy(heard);
    let (_, id) = text.split_once("id: ")?;
    milliseconds(id.get(..26)?)
}

/// Files this process may have open.
fn descriptors() -> Result<usize> {
    let limits = fs::read_to_string("/proc/self/limits").context("reading this process's limits")?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)).context("no limit of open files")?;
    Ok(soft.parse().unwrap_or(usize::MAX))
}

/// One task with a million events: a page at its beginning, its middle and its end, and coming back to each.
fn long_record(bed: &Bed, size: &Size) -> Result<Vec<Figure>> {
    let home = TempDir::with_prefix("bgagent-bench-").context("making a home for the server")?;
    let state = home.path().join("bgagent");
    fs::create_dir_all(&state).context("making the state folder")?;
    let Record { id, places, took } = written(bed, &state.join("bgagent.db"), size.record)?;
    let server = Server::start_in(bed, home, &[])?;
    let mut person = server.person()?;
    let count = size.record;
    let mut figures =
        vec![figure(format!("{count} events of one task, written"), count as f64 / took, "1/s")];
    for (place, token) in places {
        let path = format!("/v1/tasks/{id}/events?limit=100&after={token}");
        let mut pages = Vec::new();
        for _ in 0..size.pages {
            let begun = Instant::now();
            let page = person.call("GET", &path)?;
            pages.push(begun.elapsed());
            let rows = page["data"].as_array().map_or(0, Vec::len);
            if rows < 100 {
                bail!("a page at the {place} has {rows} rows");
            }
        }
        let mut resumes = Vec::new();
        for _ in 0..size.pages / 10 {
            let client = server.person()?;
            let begun = Instant::now();
            let mut socket = client.stream(&format!("/v1/tasks/{id}/stream"), Some(&token))?;
            socket.read_exact(&mut [0; 64]).context("resuming a stream")?;
            resumes.push(begun.elapsed());
        }
        let (pages, resumes) = (Spread::of(pages), Spread::of(resumes));
        figures.push(figure(format!("page at the {place} of {count}, p50"), pages.at(0.5), "ms"));
        figures.push(figure(format!("page at the {place} of {count}, p99"), pages.at(0.99), "ms"));
        figures.push(figure(format!("resume at the {place} of {count}, p50"), resumes.at(0.5), "ms"));
    }
    Ok(figures)
}

/// A record that was written: its task, events at its beginning, its middle and its end, and the seconds it took.
struct Record {
    id: String,
    places: [(&'static str, String); 3],
    took: f64,
}

/// Writes the record through the store itself.
fn written(bed: &Bed, database: &Path, count: usize) -> Result<Record> {
    let count = count.to_string();
    let said = bed.example("store", "long_record", &[database.as_ref(), count.as_ref()])?;
    let words: Vec<String> = said.split_whitespace().map(str::to_owned).collect();
    let [id, first, middle, late, took] = <[String; 5]>::try_from(words)
        .map_err(|words| anyhow::anyhow!("the record was written, but this was said: {words:?}"))?;
    let took = took.parse().context("the time the writing took")?;
    Ok(Record { id, places: [("beginning", first), ("middle", middle), ("end", late)], took })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_found_in_what_was_heard_so_far() {
        assert_eq!(stored(b": keep\n\n"), None);
        assert_eq!(stored(b"12\r\nid: 01ARYZ6S41TSV4"), None);
        let whole = b"12\r\nid: 01ARYZ6S41TSV4RRFFQ69G5FAV\nevent: x\n";
        assert_eq!(stored(whole), Some(Duration::from_millis(1_469_918_176_385)));
    }

    #[test]
    fn this_process_may_open_some_files() {
        assert!(descriptors().unwrap() > 10);
    }
}
