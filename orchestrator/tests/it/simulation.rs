//! Many lives of the control plane, each drawn from a seed: people submit and cancel, boxes work, hang and die, the
//! store, the backend and the forge fail, the time jumps, and the control plane crashes between any two operations.
//!
//! A seed that fails is printed with what happened; `SIM_SEED=<n>` runs that one alone, `SIM_SEEDS=<n>` runs so many (a tenth
//! of them in SQLite).

use std::sync::Arc;
use std::time::Duration;

use compute::fake::{Fault, Operation};
use domain::report::AgentStatus;
use domain::state::QueueReason;
use domain::transition::after;
use domain::{Command, FailureCode, Status};
use forge::Retry;
use store::Driver;
use store::memory::MemoryDriver;
use store::sqlite::SqliteDriver;
use testkit::{Rng, forge as code_host};

use crate::gate::Faults;
use crate::invariant::Boxes;
use crate::support::Ground;
use crate::world::{Manners, World};

/// Things that happen in one life, before it may come to rest.
const HAPPENINGS: usize = 400;
/// Tasks of one life.
const TASKS: usize = 6;

/// Prints the seed and the last happenings when the life it is part of panics.
struct Life<'g> {
    seed: u64,
    world: World<'g>,
}

impl Drop for Life<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let from = self.world.trace.len().saturating_sub(80);
            eprintln!("--- SIM_SEED={} ended after:\n{}", self.seed, self.world.trace[from..].join("\n"));
        }
    }
}

async fn live(seed: u64, ground: &Ground, driver: Arc<dyn Driver>) -> Vec<Status> {
    let mut rng = Rng::new(seed);
    let mut life = Life { seed, world: World::new(ground, driver) };
    let world = &mut life.world;
    if seed.is_multiple_of(3) {
        world.watched.boxes = Boxes::OnePerAttempt;
    }
    if seed.is_multiple_of(2) {
        world.gated.set_faults(Faults::Percent(3, Rng::new(seed ^ 0xfa)));
    }
    if seed % 4 < 2 {
        world.manners = Manners::Deaf;
    }
    let mut draw = Rng::new(seed ^ 0xb0);
    world.next_box = Box::new(move || {
        let agents = [AgentStatus::Success, AgentStatus::Success, AgentStatus::Error, AgentStatus::Unknown];
        (*draw.pick(&agents).unwrap(), draw.chance(75))
    });
    for _ in 0..HAPPENINGS {
        happen(world, &mut rng).await;
        world.check().await;
    }
    world.note("--- all faults end");
    world.gated.set_faults(Faults::None);
    world.forge.mend();
    world.settle(None).await;
    let asked = world.asked.len();
    world.watched.check_rest(&world.truth, &world.backend, &world.forge, asked).await
}

async fn happen(world: &mut World<'_>, rng: &mut Rng) {
    let tasks: Vec<_> = world.asked.iter().filter_map(|a| a.task).collect();
    match rng.below(100) {
        0..45 if world.in_flight() > 0 => {
            let n = rng.below(world.in_flight());
            world.step(n).await;
        }
        0..55 => drop(world.claim(1 + rng.below(3) as u32).await),
        55..60 => drop(world.duties().await),
        60..64 => {
            if world.asked.len() < TASKS {
                world.ask(if rng.chance(60) { "ann" } else { "bob" });
            }
            world.submit().await;
        }
        64..84 => {
            let live = world.live();
            if let Some(id) = rng.pick(&live).copied() {
                match rng.below(100) {
                    0..94 => drop(world.play(id)),
                    94..97 => world.hang(id),
                    _ => world.die(id, 137),
                }
            }
        }
        84..92 => {
            let seconds = match rng.below(20) {
                0 => 400,
                1..4 => 35,
                _ => 1 + rng.below(6) as u64,
            };
            world.advance(Duration::from_secs(seconds)).await;
        }
        92..94 => {
            if let Some(task) = rng.pick(&tasks) {
                world.person(*task, Command::Cancel { by: "ann".into() });
            }
        }
        94..95 => {
            if let (Some(task), Boxes::OnePerAttempt) = (rng.pick(&tasks), world.watched.boxes) {
                let not_before = Some(after(world.clock.now(), Duration::from_secs(20)));
                world.person(*task, Command::Park { why: QueueReason::ProviderLimit, not_before });
            }
        }
        95..97 => world.crash(),
        97..98 => world.sweep(),
        98..99 => {
            use Operation::{List, Poll, Purge, Start, Stop};
            let operation = *rng.pick(&[Start, Poll, Stop, List, Purge]).unwrap();
            let fault = *rng.pick(&[Fault::Unavailable, Fault::LostAnswer, Fault::Denied]).unwrap();
            world.backend.fail_next(operation, fault);
            world.note(format!("the next {operation:?} of the backend: {fault:?}"));
        }
        _ => {
            use code_host::Operation::{Inspect, Open, Push, Remote};
            let operation = *rng.pick(&[Inspect, Remote, Push, Open]).unwrap();
            let down = |retry| code_host::Fault::Refused(FailureCode::GithubUnreachable, retry);
            let faults = [
                code_host::Fault::LostAnswer,
                down(Retry::Backoff),
                down(Retry::After(40)),
                down(Retry::Never),
            ];
            let fault = *rng.pick(&faults).unwrap();
            world.forge.fail_next(operation, fault);
            world.note(format!("the next {operation:?} of the forge: {fault:?}"));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a failing seed is handed back in through the environment")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The one seed that was asked for, or so many.
fn seeds(count: u64) -> Vec<u64> {
    match number("SIM_SEED") {
        Some(seed) => vec![seed],
        None => (1..=count).collect(),
    }
}

/// The lives must not all have been the same one.
fn assert_varied(ends: &[Status]) {
    for status in [Status::Completed, Status::Failed, Status::Cancelled] {
        assert!(ends.contains(&status), "no task of {} became {status}", ends.len());
    }
}

#[tokio::test]
async fn every_life_ends_as_it_must_in_memory() {
    let ground = Ground::new().await;
    let mut ends = Vec::new();
    for seed in seeds(number("SIM_SEEDS").unwrap_or(60)) {
        ends.extend(live(seed, &ground, Arc::new(MemoryDriver::default())).await);
    }
    if number("SIM_SEED").is_none() {
        assert_varied(&ends);
    }
}

/// D-037: a running task was lost with its orchestrator.
#[tokio::test]
async fn every_life_ends_as_it_must_in_sqlite() {
    let ground = Ground::new().await;
    let mut ends = Vec::new();
    for seed in seeds(number("SIM_SEEDS").map_or(8, |n| n.div_ceil(10))) {
        let folder = tempfile::tempdir().unwrap();
        let driver = SqliteDriver::open(&folder.path().join("sim.db")).await.unwrap();
        ends.extend(live(seed, &ground, Arc::new(driver)).await);
    }
    assert!(!ends.is_empty());
}

/// A seed is only worth printing when it gives the same life again.
#[tokio::test]
async fn a_seed_gives_the_same_life_again() {
    let ground = Ground::new().await;
    let trace = async || {
        let mut rng = Rng::new(7);
        let mut world = World::new(&ground, Arc::new(MemoryDriver::default()));
        for _ in 0..HAPPENINGS {
            happen(&mut world, &mut rng).await;
        }
        world.trace
    };
    assert_eq!(trace().await, trace().await);
}
