//! Another engine that takes work in durably, beside our submissions and reads: Temporal's dev server, when it is there
//! (`cargo xtask peers temporal`). It says its figures itself; see testkit/peers/temporal.py.
//!
//! A peer that fails is said and left out: the figures of ours are worth no less.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context, Result};
use serde::Deserialize;
use tempfile::TempDir;

use super::{figure, hammer::CLIENTS};
use crate::{bench::Figure, peers::Peer, place, step};

/// What it printed.
#[derive(Deserialize)]
struct Said {
    server: String,
    start: Rate,
    describe: Rate,
}

/// One kind of call.
#[derive(Deserialize)]
struct Rate {
    /// A second.
    rate: f64,
    /// Milliseconds, like all the others.
    p50: f64,
    p99: f64,
    server_cpu: f64,
    client_cpu: f64,
}

/// Its rates; none where it is not installed or does not run.
pub fn figures(each: Duration) -> Vec<Figure> {
    match measured(each) {
        Ok(Some(said)) => told(&said),
        Ok(None) => {
            eprintln!("api: no Temporal to compare with: cargo xtask peers {}", Peer::Temporal.name());
            Vec::new()
        }
        Err(error) => {
            eprintln!("api: Temporal is left out: {error:#}");
            Vec::new()
        }
    }
}

fn measured(each: Duration) -> Result<Option<Said>> {
    let python = place::peers()?.join(Peer::Temporal.name()).join("venv/bin/python");
    if !python.is_file() {
        return Ok(None);
    }
    let home = TempDir::with_prefix("bgagent-bench-").context("making a home for Temporal")?;
    let said = step::read(&mut command(&python, home.path(), each))?;
    serde_json::from_str(&said).with_context(|| format!("reading what it said: {said}")).map(Some)
}

fn command(python: &Path, home: &Path, each: Duration) -> Command {
    let mut command = Command::new(python);
    command.arg(place::checkout().join("testkit/peers/temporal.py")).arg(home);
    command.args([CLIENTS.to_string(), each.as_secs_f64().to_string()]);
    command
}

fn told(said: &Said) -> Vec<Figure> {
    let name = name(&said.server);
    let kinds = [("start a workflow", &said.start), ("describe a workflow", &said.describe)];
    let told = |(what, rate): (&str, &Rate)| {
        let what = format!("{name}: {what}, {CLIENTS} clients");
        [
            figure(&what, rate.rate, "1/s"),
            figure(format!("  {what}, p50"), rate.p50, "ms"),
            figure(format!("  {what}, p99"), rate.p99, "ms"),
            figure(format!("  {what}, server CPU of one"), rate.server_cpu, "ms"),
            figure(format!("  {what}, client CPU of one"), rate.client_cpu, "ms"),
        ]
    };
    kinds.into_iter().flat_map(told).collect()
}

/// From `temporal version 1.9.1 (Server 1.32.0, UI 2.54.1)`.
fn name(version: &str) -> String {
    match version.split_whitespace().nth(2) {
        Some(number) => format!("Temporal dev server {number}"),
        None => "Temporal dev server".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_peer_said_becomes_rows_that_name_it() {
        let rate = r#"{"rate": 41.5, "p50": 1500.0, "p99": 3000.0, "server_cpu": 24.0, "client_cpu": 2.0}"#;
        let version = "temporal version 1.9.1 (Server 1.32.0, UI 2.54.1)";
        let said = format!(r#"{{"server": "{version}", "start": {rate}, "describe": {rate}}}"#);
        let figures = told(&serde_json::from_str(&said).unwrap());
        let rows: Vec<_> = figures.iter().map(|f| (f.what.as_str(), f.value, f.unit)).collect();
        assert_eq!(rows.len(), 10);
        assert_eq!(rows[0], ("Temporal dev server 1.9.1: start a workflow, 64 clients", 41.5, "1/s"));
        assert_eq!(
            rows[7],
            ("  Temporal dev server 1.9.1: describe a workflow, 64 clients, p99", 3000.0, "ms")
        );
        assert_eq!(name("odd"), "Temporal dev server");
    }
}
