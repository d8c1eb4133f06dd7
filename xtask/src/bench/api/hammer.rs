//! The same call by many clients at once: how many a second, how long one takes, and what it costs both sides.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::figure;
use crate::bench::{
    Figure, process,
    server::{self, Person, Server},
    spread::Spread,
};

/// How many clients call at once.
pub const CLIENTS: usize = 64;
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// A server that used no processor time between so many looks is idle.
const IDLE_LOOKS: usize = 4;
const TO_END: Duration = Duration::from_secs(120);

/// The calls of all clients.
#[derive(Default)]
pub struct Hammered {
    took: Vec<Duration>,
    /// From the first call to the end of the last.
    within: Duration,
    /// Processor seconds of the server, until it had nothing left to do.
    server: f64,
    /// Processor seconds of the clients, which are all in this process.
    clients: f64,
}

impl Hammered {
    /// These too.
    pub fn add(&mut self, other: Hammered) {
        self.took.extend(other.took);
        self.within += other.within;
        self.server += other.server;
        self.clients += other.clients;
    }

    /// Their rate, and what one took.
    pub fn told(self, what: &str) -> [Figure; 5] {
        let calls = self.took.len() as f64;
        let spread = Spread::of(self.took);
        [
            figure(what, calls / self.within.as_secs_f64(), "1/s"),
            figure(format!("  {what}, p50"), spread.at(0.5), "ms"),
            figure(format!("  {what}, p99"), spread.at(0.99), "ms"),
            figure(format!("  {what}, server CPU of one"), self.server * 1e3 / calls, "ms"),
            figure(format!("  {what}, client CPU of one"), self.clients * 1e3 / calls, "ms"),
        ]
    }
}

/// Lets all clients call, each on a connection of its own, for as long as told.
pub fn hammer(
    server: &Server,
    each: Duration,
    connect: impl Fn() -> Result<Person>,
    call: impl Fn(&mut Person) -> Result<()> + Sync,
) -> Result<Hammered> {
    let people: Vec<Person> = (0..CLIENTS).map(|_| connect()).collect::<Result<_>>()?;
    let own = std::process::id();
    let (server_before, own_before) = (process::cpu_seconds(server.pid())?, process::cpu_seconds(own)?);
    let begun = Instant::now();
    let until = begun + each;
    let all: Result<Vec<Vec<Duration>>> = thread::scope(|scope| {
        let call = &call;
        let hands: Vec<_> = people
            .into_iter()
            .map(|mut person| {
                scope.spawn(move || {
                    let mut took = Vec::new();
                    while Instant::now() < until {
                        let begun = Instant::now();
                        call(&mut person)?;
                        took.push(begun.elapsed());
                    }
                    Ok(took)
                })
            })
            .collect();
        hands.into_iter().map(|hand| hand.join().expect("no panic")).collect()
    });
    let (took, within) = (all?.into_iter().flatten().collect(), begun.elapsed());
    let clients = process::cpu_seconds(own)? - own_before;
    Ok(Hammered { took, within, server: idle(server)? - server_before, clients })
}

/// Waits until the server has nothing left to do: what one kind of call leaves behind is not for the next to pay.
/// Its processor seconds then.
fn idle(server: &Server) -> Result<f64> {
    let deadline = Instant::now() + TO_END;
    let mut looks = vec![process::cpu_seconds(server.pid())?];
    loop {
        server::pause(BETWEEN_LOOKS);
        looks.push(process::cpu_seconds(server.pid())?);
        let last = &looks[looks.len().saturating_sub(IDLE_LOOKS)..];
        if last.len() == IDLE_LOOKS && last[0] == last[IDLE_LOOKS - 1] {
            return Ok(last[0]);
        }
        if Instant::now() > deadline {
            bail!("the server was still at work {TO_END:?} after the last call");
        }
    }
}
