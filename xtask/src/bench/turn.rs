//! What a tool turn costs beside the model and the tool: from the model's answer to its next request.
//!
//! 200 turns, each one `echo` in a shell, with a model that answers at once. In that time lie the gateway both ways, the
//! worker, the events of the turn, and the shell itself, whose bare cost is measured beside it. In the tiers that this
//! machine has without more.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{
    Bed, Bench, Figure,
    model::{self, Model},
    server::Server,
    spread::Spread,
};

/// The own time of a turn.
pub const BENCH: Bench =
    Bench { name: "worker_turn", about: "own time per tool turn at a zero-latency model", run };

const TURNS: usize = 200;
/// Without a box, and in one.
const TIERS: [&str; 2] = ["process", "sandbox"];
const TO_ASK: Duration = Duration::from_secs(60);
const COMMAND: &str = "cargo xtask bench worker_turn";

fn run(bed: &Bed) -> Result<Vec<Figure>> {
    let bare = bare_shell()?;
    let mut figures = Vec::new();
    for tier in TIERS {
        let shell = measure(bed, tier, "Bash", &json!({ "command": "echo" }))?;
        let read = measure(bed, tier, "Read", &json!({ "file_path": "file-1.txt" }))?;
        for (name, times) in [("bash `echo`", shell), ("read of a small file", read)] {
            for (which, value) in [("mean", times.mean()), ("p50", times.at(0.5)), ("p99", times.at(0.99))] {
                let what = format!("{tier}: turn with {name}, {which}");
                figures.push(Figure { what, value, unit: "ms", command: COMMAND.into() });
            }
        }
    }
    figures.push(Figure {
        what: "bare `bash -c echo`, p50".into(),
        value: bare.at(0.5),
        unit: "ms",
        command: COMMAND.into(),
    });
    Ok(figures)
}

/// Runs one task of 200 calls and returns the times between an answer and the request that follows it.
fn measure(bed: &Bed, tier: &str, tool: &'static str, input: &Value) -> Result<Spread> {
    let input = input.clone();
    let model = Model::start(move |turn| match turn {
        0..TURNS => vec![model::call(&format!("toolu_{turn}"), tool, &input)],
        _ => vec![model::text("That was all.")],
    })?;
    let mut settings = model.settings();
    settings.push(("BGAGENT__COMPUTE__ISOLATION".into(), tier.into()));
    let server = Server::start(bed, &settings)?;
    let repository = server.repository()?;
    let mut person = server.person()?;
    let id = person
        .give(&json!({ "repo": repository, "task_description": "Take many turns.", "max_turns": 500 }))?;
    let mut times = Vec::new();
    let mut last: Option<Instant> = None;
    for turn in 0..=TURNS {
        let asked = model.asked.recv_timeout(TO_ASK);
        let asked = asked.with_context(|| format!("waiting for turn {turn}; {}", person.last_words(&id)))?;
        anyhow::ensure!(asked.turn == turn, "the model was asked for turn {}, expected {turn}", asked.turn);
        if let Some(answered) = last {
            times.push(asked.at.saturating_duration_since(answered));
        }
        last = Some(asked.answered);
    }
    server.person()?.finish(&id)?;
    let results = person.events(&id)?;
    let mut results = results.iter().filter(|event| event["event_type"] == "agent_tool_result").peekable();
    anyhow::ensure!(results.peek().is_some(), "no tool was called");
    if let Some(bad) = results.find(|event| event["metadata"]["is_error"] == true) {
        bail!("a call of {tool} failed, which is not what is measured: {bad}");
    }
    Ok(Spread::of(times))
}

fn bare_shell() -> Result<Spread> {
    let mut times = Vec::new();
    for _ in 0..TURNS {
        let began = Instant::now();
        Command::new("bash").args(["-c", "echo"]).output().context("starting bash")?;
        times.push(began.elapsed());
    }
    Ok(Spread::of(times))
}
