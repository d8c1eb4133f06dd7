//! From `POST /v1/tasks` to the first request at the model: what a person waits for before anything happens.
//!
//! One task after another against a warm mirror of a small repository. The steps between are read from the task's own
//! events, whose ids carry milliseconds; the first and the last step are on this process's clock.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    Bed, Bench, Figure,
    model::{self, Model},
    server::Server,
    spread::Spread,
};

/// The latency of a submission.
pub const BENCH: Bench =
    Bench { name: "submit", about: "submit to first model request, warm mirror, small repo", run };

const TASKS: usize = 100;
const WARM_UP: usize = 3;
const TO_ASK: Duration = Duration::from_secs(60);
const COMMAND: &str = "cargo xtask bench submit";

fn run(bed: &Bed) -> Result<Vec<Figure>> {
    let model = Model::start(|_| vec![model::text("Nothing to do.")])?;
    let server = Server::start(bed, &model.settings())?;
    let repository = server.repository()?;
    let mut person = server.person()?;
    let (mut whole, mut accepted) = (Vec::new(), Vec::new());
    let mut steps = BTreeMap::<String, Vec<Duration>>::new();
    for number in 0..WARM_UP + TASKS {
        let (began, began_at) = (Instant::now(), since_epoch());
        let id = person.submit(&repository, &format!("Say hello, number {number}."))?;
        let answered = began.elapsed();
        let asked = model.asked.recv_timeout(TO_ASK);
        let asked = asked.with_context(|| format!("waiting for the model; {}", person.last_words(&id)))?;
        server.person()?.finish(&id)?;
        if number < WARM_UP {
            continue;
        }
        let took = asked.at - began;
        whole.push(took);
        accepted.push(answered);
        for event in person.events(&id)? {
            let at =
                milliseconds(event["event_id"].as_str().unwrap_or_default()).context("an odd event id")?;
            // Events of the box are stamped when they arrive; from the first answer on it is another matter.
            if at > began_at + took || event["event_type"] == "agent_cost_update" {
                break;
            }
            steps.entry(name(&event)).or_default().push(at.saturating_sub(began_at));
        }
    }
    let ms = |what: String, value: f64| Figure { what, value, unit: "ms", command: COMMAND.into() };
    let (whole, accepted) = (Spread::of(whole), Spread::of(accepted));
    let mut figures = vec![
        ms("submit to first model request, p50".into(), whole.at(0.5)),
        ms("submit to first model request, p99".into(), whole.at(0.99)),
        ms("submit to the API's answer, p50".into(), accepted.at(0.5)),
        ms("submit to the API's answer, p99".into(), accepted.at(0.99)),
    ];
    let mut steps: Vec<_> =
        steps.into_iter().map(|(name, times)| (name, Spread::of(times).at(0.5))).collect();
    steps.sort_by(|a, b| a.1.total_cmp(&b.1));
    figures.extend(steps.into_iter().map(|(name, at)| ms(format!("  of that, until {name}, p50"), at)));
    Ok(figures)
}

/// Its kind, or the milestone's name.
fn name(event: &Value) -> String {
    let milestone = event["metadata"]["milestone"].as_str();
    milestone.or(event["event_type"].as_str()).unwrap_or_default().to_owned()
}

/// Now, on the clock of the events.
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The time in a ULID: its first ten digits, base 32.
pub fn milliseconds(ulid: &str) -> Option<Duration> {
    const DIGITS: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let mut ms = 0_u64;
    for digit in ulid.get(..10)?.chars() {
        ms = ms * 32 + DIGITS.find(digit.to_ascii_uppercase())? as u64;
    }
    Some(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ulid_holds_its_time() {
        assert_eq!(
            milliseconds("01ARYZ6S41TSV4RRFFQ69G5FAV"),
            Some(Duration::from_millis(1_469_918_176_385))
        );
        assert_eq!(milliseconds("short"), None);
    }
}
