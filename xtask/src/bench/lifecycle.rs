//! Whole tasks per second: accepted, dispatched, a worker each, cloned, one model turn of text, reported, ended.
//!
//! Beside the task that does nothing stands one that writes a file: committed, pushed, and given a pull request.

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

/// The transcript, tasks in flight, and how many are run so.
const ROUNDS: [(&str, usize, usize); 4] =
    [("no-op", 1, 30), ("no-op", 8, 120), ("no-op", 32, 200), ("change", 8, 60)];
const COMMAND: &str = "cargo xtask bench lifecycle";

fn run(bed: &Bed) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir().context("making a folder for the transcript")?;
    let done = json!({ "content": [{ "type": "text", "text": "Nothing is left to do." }] });
    let write =
        json!({ "type": "tool_use", "name": "Write", "input": { "file_path": "new.txt", "content": "new" } });
    for (name, turns) in [("no-op", json!([done])), ("change", json!([{ "content": [write] }, done]))] {
        let transcript = json!({ "version": 1, "turns": turns });
        let file = folder.path().join(format!("{name}.json"));
        fs::write(file, transcript.to_string()).context("writing a transcript")?;
    }
    let mut settings: Vec<(String, String)> = [
        ("BGAGENT__MODEL__PROVIDERS__BENCH__KIND", "script"),
        ("BGAGENT__MODEL__PROVIDERS__BENCH__PATH", &folder.path().to_string_lossy()),
        ("BGAGENT__MODEL__DEFAULT", "bench/no-op"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    for limit in ["PER_USER", "PER_REPO", "SYSTEM"] {
        settings.push((format!("BGAGENT__LIMITS__{limit}"), "64".into()));
    }
    let server = Server::start(bed, &settings)?;
    let repository = server.repository()?;
    one(&server, &repository, "no-op", 0)?;
    let mut figures = Vec::new();
    for (transcript, in_flight, tasks) in ROUNDS {
        let (began, cpu) = (Instant::now(), process::cpu_seconds(server.pid())?);
        let times = many(&server, &repository, transcript, in_flight, tasks)?;
        let wall = began.elapsed().as_secs_f64();
        let cpu = process::cpu_seconds(server.pid())? - cpu;
        let mut figure = |what: &str, value, unit| {
            let what = format!("{transcript}, {in_flight} in flight: {what}");
            figures.push(Figure { what, value, unit, command: COMMAND.into() });
        };
        figure("tasks per second", tasks as f64 / wall, "1/s");
        figure("submit to end, p50", times.at(0.5), "ms");
        figure("CPU per task", cpu / tasks as f64 * 1e3, "ms");
    }
    Ok(figures)
}

fn many(
    server: &Server,
    repository: &Path,
    transcript: &str,
    in_flight: usize,
    tasks: usize,
) -> Result<Spread> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut times = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= tasks {
                return Ok(times);
            }
            let began = Instant::now();
            one(server, repository, transcript, number)?;
            times.push(began.elapsed());
        }
    };
    let all: Result<Vec<_>> = thread::scope(|scope| {
        let hands: Vec<_> = (0..in_flight).map(|_| scope.spawn(work)).collect();
        hands.into_iter().map(|hand| hand.join().expect("a hand does not panic")).collect()
    });
    Ok(Spread::of(all?.concat()))
}

fn one(server: &Server, repository: &Path, transcript: &str, number: usize) -> Result<()> {
    let mut person = server.person()?;
    let task = json!({
        "repo": repository, "task_description": format!("Play {transcript}, number {number}."),
        "model": format!("bench/{transcript}"),
    });
    let id = person.give(&task)?;
    person.finish(&id)
}
