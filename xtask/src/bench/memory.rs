//! How much memory an idle server keeps, what each running task adds to it, and what a worker needs.
//!
//! The running tasks wait for a model that holds its first answer back: their boxes are up, their repositories cloned.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{
    Bed, Bench, Figure,
    model::{self, Model},
    process,
    server::{self, Server},
};

/// Resident memory of server and worker.
pub const BENCH: Bench = Bench {
    name: "memory",
    about: "resident memory of an idle server, of each running task, of a worker",
    run,
};

const KIB_PER_MIB: f64 = 1024.0;
const TASKS: usize = 20;
const IDLE: Duration = Duration::from_secs(5);
const TO_RUN: Duration = Duration::from_secs(120);
const COMMAND: &str = "cargo xtask bench memory";

fn run(bed: &Bed) -> Result<Vec<Figure>> {
    let model = Model::start(|_| vec![model::text("Nothing to do.")])?;
    let mut settings = model.settings();
    for limit in ["PER_USER", "PER_REPO", "SYSTEM"] {
        settings.push((format!("BGAGENT__LIMITS__{limit}"), (2 * TASKS).to_string()));
    }
    let mut server = Server::start(bed, &settings)?;
    server::pause(IDLE);
    let idle = server.settled()?;
    let own = process::status(server.pid(), "RssAnon")?;

    let repository = server.repository()?;
    // The first task makes the mirror and fills what the server keeps for the next ones: it is no part of their price.
    let mut person = server.person()?;
    let first = person.submit(&repository, "the first")?;
    server.person()?.finish(&first)?;
    let before = server.settled()?;
    model.hold();
    for number in 0..TASKS {
        person.submit(&repository, &format!("wait, number {number}"))?;
    }
    all_wait(&model)?;
    let with = server.settled()?;

    let workers = process::workers_below(server.home())?;
    anyhow::ensure!(workers.len() >= TASKS, "{} workers run, expected {TASKS}", workers.len());
    let mean = |read: &dyn Fn(u32) -> Result<u64>| -> Result<f64> {
        let mut sum = 0;
        for pid in &workers {
            sum += read(*pid)?;
        }
        Ok(sum as f64 / workers.len() as f64)
    };
    let rss = mean(&|pid| process::status(pid, "VmRSS"))?;
    let anonymous = mean(&|pid| process::status(pid, "RssAnon"))?;
    let pss = mean(&|pid| process::smaps(pid, "Pss"))?;
    let peak = mean(&|pid| process::status(pid, "VmHWM"))?;
    let figure = |what: &str, kib: f64, command: &str| Figure {
        what: what.into(),
        value: kib / KIB_PER_MIB,
        unit: "MiB",
        command: command.into(),
    };
    let grown = with.saturating_sub(before) as f64 / TASKS as f64;
    let served = "bgagent serve & sleep 5; grep VmRSS /proc/$!/status";
    Ok(vec![
        figure("idle server, resident", idle as f64, served),
        figure("of that, not shared with other processes", own as f64, "RssAnon of the same file"),
        figure("server after its first task, resident", before as f64, COMMAND),
        figure(&format!("server with {TASKS} running tasks, resident"), with as f64, COMMAND),
        figure("growth of the server per running task", grown, COMMAND),
        figure("worker that waits for its model, resident", rss, COMMAND),
        figure("of that, not shared with other processes", anonymous, COMMAND),
        figure(&format!("worker, its share among {TASKS} (PSS)"), pss, COMMAND),
        figure("worker, resident peak", peak, COMMAND),
    ])
}

fn all_wait(model: &Model) -> Result<()> {
    let deadline = Instant::now() + TO_RUN;
    while model.waiting() < TASKS {
        if Instant::now() > deadline {
            bail!("{} of {TASKS} tasks came to their model within {TO_RUN:?}", model.waiting());
        }
        server::pause(Duration::from_millis(50));
    }
    Ok(())
}
