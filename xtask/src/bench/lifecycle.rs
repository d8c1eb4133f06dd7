//! Whole tasks per second: accepted, dispatched, a worker each, cloned, one model turn of text, reported, ended.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Context, Result};
use serde_json::json;

use super::{Bed, Bench, Figure, process, server::Server, spread::Spread};

/// The rate of whole lifecycles.
pub const BENCH: Bench =
    Bench { name: "lifecycle", about: "whole tasks with a no-op transcript, by tasks in flight", run };

/// Tasks in flight, and how many are run so.
const ROUNDS: [(usize, usize); 3] = [(1, 30), (8, 120), (32, 200)];
const COMMAND: &str = "cargo xtask bench lifecycle";

fn run(bed: &Bed) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir().context("making a folder for the transcript")?;
    let transcript = folder.path().join("no-op.json");
    let turns =
        json!({ "version": 1, "turns": [{ "content": [{ "type": "text", "text": "Nothing to do." }] }] });
    fs::write(&transcript, turns.to_string()).context("writing the transcript")?;
    let mut settings: Vec<(String, String)> = [
        ("BGAGENT__MODEL__PROVIDERS__BENCH__KIND", "script"),
        ("BGAGENT__MODEL__PROVIDERS__BENCH__PATH", &transcript.to_string_lossy()),
        ("BGAGENT__MODEL__DEFAULT", "bench/no-op"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    for limit in ["PER_USER", "PER_REPO", "SYSTEM"] {
        settings.push((format!("BGAGENT__LIMITS__{limit}"), "64".into()));
    }
    let server = Server::start(bed, &settings)?;
    let repository = server.repository()?;
    one(&server, &repository, 0)?;
    let mut figures = Vec::new();
    for (in_flight, tasks) in ROUNDS {
        let (began, cpu) = (Instant::now(), process::cpu_seconds(server.pid())?);
        let times = many(&server, &repository, in_flight, tasks)?;
        let wall = began.elapsed().as_secs_f64();
        let cpu = process::cpu_seconds(server.pid())? - cpu;
        let mut figure = |what: &str, value, unit| {
            let what = format!("{in_flight} in flight: {what}");
            figures.push(Figure { what, value, unit, command: COMMAND.into() });
        };
        figure("tasks per second", tasks as f64 / wall, "1/s");
        figure("submit to end, p50", times.at(0.5), "ms");
        figure("CPU per task, server, worker, git", cpu / tasks as f64 * 1e3, "ms");
    }
    Ok(figures)
}

fn many(server: &Server, repository: &Path, in_flight: usize, tasks: usize) -> Result<Spread> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut times = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= tasks {
                return Ok(times);
            }
            let began = Instant::now();
            one(server, repository, number)?;
            times.push(began.elapsed());
        }
    };
    let all: Result<Vec<_>> = thread::scope(|scope| {
        let hands: Vec<_> = (0..in_flight).map(|_| scope.spawn(work)).collect();
        hands.into_iter().map(|hand| hand.join().expect("a hand does not panic")).collect()
    });
    Ok(Spread::of(all?.concat()))
}

fn one(server: &Server, repository: &Path, number: usize) -> Result<()> {
    let mut person = server.person()?;
    let id = person.submit(repository, &format!("Do nothing, number {number}."))?;
    person.finish(&id)
}
