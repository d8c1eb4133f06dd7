//! How fast events get from a box to the record, and from the record to those who watch.
//!
//! One task floods: its model asks for 60 small tool calls in each turn, each of which is two events, so what is
//! measured is the whole way of worker, gateway, store and stream. Every watcher is connected before the flood begins
//! and sees all of it. An event's id holds the millisecond in which the server took it.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::{
    Bed, Bench, Figure,
    model::{self, Model},
    server::{self, Server},
    spread::Spread,
    submit::{milliseconds, since_epoch},
};

/// Event rates.
pub const BENCH: Bench = Bench { name: "events", about: "event append rate and watch fan-out", run };

const TURNS: usize = 50;
const CALLS: usize = 60;
const WATCHERS: [usize; 2] = [1, 32];
const TO_RUN: Duration = Duration::from_secs(60);
const COMMAND: &str = "cargo xtask bench events";

fn run(bed: &Bed) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for watchers in WATCHERS {
        let seen = flood(bed, watchers)?;
        let first = seen.iter().map(|s| s.stored).min().context("no events")?;
        let stored = seen.iter().map(|s| s.stored).max().unwrap_or(first) - first;
        let arrived = seen.iter().map(|s| s.arrived).max().unwrap_or(first).saturating_sub(first);
        let events = seen.len() / watchers;
        let delays = Spread::of(seen.iter().map(|s| s.arrived.saturating_sub(s.stored)).collect());
        let mut figure = |what: String, value, unit| {
            let what = format!("{watchers} watching: {what}");
            figures.push(Figure { what, value, unit, command: COMMAND.into() });
        };
        figure(format!("{events} events of one box, stored"), events as f64 / stored.as_secs_f64(), "1/s");
        figure("delivered to watchers".into(), seen.len() as f64 / arrived.as_secs_f64(), "1/s");
        figure("taken to delivered, p50".into(), delays.at(0.5), "ms");
        figure("taken to delivered, p99".into(), delays.at(0.99), "ms");
    }
    Ok(figures)
}

/// One event at one watcher.
struct Seen {
    stored: Duration,
    arrived: Duration,
}

fn flood(bed: &Bed, watchers: usize) -> Result<Vec<Seen>> {
    let model = Model::start(|turn| match turn {
        0..TURNS => (0..CALLS).map(|n| call(turn, n)).collect(),
        _ => vec![model::text("That was all.")],
    })?;
    let server = Server::start(bed, &model.settings())?;
    let repository = server.repository()?;
    model.hold();
    let id = server.person()?.submit(&repository, "Say much.")?;
    wait_until(|| model.waiting() == 1)?;
    let (ready, readies) = mpsc::channel();
    thread::scope(|scope| {
        let mut hands = Vec::new();
        for _ in 0..watchers {
            let (person, ready, id) = (server.person()?, ready.clone(), &id);
            hands.push(scope.spawn(move || watch(person, id, &ready)));
        }
        for _ in 0..watchers {
            readies.recv_timeout(TO_RUN).context("waiting for a watcher's first event")?;
        }
        model.release();
        let seen: Result<Vec<_>> = hands.into_iter().map(|h| h.join().expect("no panic")).collect();
        let seen = seen?;
        if let Some(short) = seen.iter().find(|of| of.len() != seen[0].len() || of.len() < 2 * TURNS * CALLS)
        {
            bail!("a watcher saw {} of {} events", short.len(), seen[0].len());
        }
        Ok(seen.into_iter().flatten().collect())
    })
}

/// Sees everything; of what the box told, remembers when.
fn watch(person: server::Person, id: &str, ready: &mpsc::Sender<()>) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    let mut first = true;
    person.watch(id, |event| {
        let arrived = since_epoch();
        if std::mem::take(&mut first) {
            let _ = ready.send(()); // nobody listens any more after an error
        }
        if let Some(stored) = milliseconds(&event.id).filter(|_| event.name.starts_with("agent_tool")) {
            seen.push(Seen { stored, arrived });
        }
    })?;
    Ok(seen)
}

fn call(turn: usize, number: usize) -> serde_json::Value {
    model::call(&format!("toolu_{turn}_{number}"), "Read", &json!({ "file_path": "file-1.txt", "limit": 1 }))
}

fn wait_until(mut done: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + TO_RUN;
    while !done() {
        if Instant::now() > deadline {
            bail!("the task did not come to its model within {TO_RUN:?}");
        }
        server::pause(Duration::from_millis(10));
    }
    Ok(())
}
