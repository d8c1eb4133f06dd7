//! Boxes that die or hang, at every step of a task: it gets another box, never two at once, and one pull request.

use std::sync::Arc;

use domain::event::Event;
use domain::{EventKind, FailureCode, Status, limit};
use forge::Retry;
use orchestrator::Policy;
use store::memory::MemoryDriver;
use testkit::forge as code_host;

use crate::invariant::events;
use crate::support::{Ground, policy};
use crate::world::{Manners, World};

fn world<'g>(ground: &'g Ground, policy: Policy) -> World<'g> {
    let mut world = World::with_policy(ground, Arc::new(MemoryDriver::default()), policy);
    world.ask("ann");
    world
}

async fn ended(world: &mut World<'_>) -> (Vec<Event>, Status) {
    let ends = world.watched.check_rest(&world.truth, &world.backend, &world.forge, 1).await;
    (events(&world.truth, world.asked[0].task.unwrap()).await, ends[0])
}

async fn steps(ground: &Ground) -> u64 {
    let mut world = world(ground, policy());
    world.settle(None).await;
    world.steps
}

/// The first step after which the agent is at work.
async fn running_from(ground: &Ground) -> u64 {
    let mut world = world(ground, policy());
    for n in 1.. {
        world.settle(Some(n)).await;
        let Some(id) = world.asked[0].task else { continue };
        match world.truth.task_get(id).await.unwrap().unwrap().status() {
            Status::Running => return n,
            status => assert!(!status.is_terminal(), "it never ran"),
        }
    }
    unreachable!("it runs or ends")
}

fn told(log: &[Event], kind: EventKind) -> Vec<&Event> {
    log.iter().filter(|e| e.kind == kind).collect()
}

/// What is there when `n` steps are done dies or hangs, and everything goes on.
async fn disturbed(world: &mut World<'_>, n: u64, hangs: bool) -> usize {
    world.settle(Some(n)).await;
    let live = world.live();
    for id in &live {
        match hangs {
            true => world.hang(*id),
            false => world.die(*id, 137),
        }
    }
    live.len()
}

/// D-126: a task whose worker was lost was not taken up again.
#[tokio::test]
async fn a_box_that_dies_at_any_step_is_replaced_and_the_work_is_delivered_once() {
    let ground = Ground::new().await;
    let mut replaced = 0;
    for n in 0..steps(&ground).await {
        let mut world = world(&ground, policy());
        let died = disturbed(&mut world, n, false).await;
        world.settle(None).await;
        let (log, end) = ended(&mut world).await;
        assert_eq!(end, Status::Completed, "died at step {n}: {log:#?}");
        let lost = told(&log, EventKind::AttemptLost);
        assert!(lost.len() <= died, "died at step {n}");
        assert_eq!(told(&log, EventKind::HydrationStarted).len(), 1 + lost.len(), "died at step {n}");
        assert_eq!(world.forge.pull_requests().len(), 1, "died at step {n}");
        for event in lost {
            replaced += 1;
            assert_eq!(event.metadata["error_code"], "SESSION_ENDED_WITHOUT_RESULT", "{event:?}");
            assert_eq!((&event.metadata["attempt"], &event.metadata["attempts_max"]), (&1.into(), &2.into()));
        }
    }
    assert!(replaced > 5, "only {replaced} boxes were replaced");
}

#[tokio::test]
async fn host_and_server_die_together_at_any_step_and_it_is_delivered_once() {
    let ground = Ground::new().await;
    let mut replaced = 0;
    for n in (0..steps(&ground).await).step_by(2) {
        let mut world = world(&ground, policy());
        disturbed(&mut world, n, false).await;
        world.crash();
        world.advance(policy().lease).await;
        world.settle(None).await;
        let (log, end) = ended(&mut world).await;
        assert_eq!(end, Status::Completed, "rebooted at step {n}: {log:#?}");
        assert_eq!(world.forge.pull_requests().len(), 1, "rebooted at step {n}");
        replaced += told(&log, EventKind::AttemptLost).len();
    }
    assert!(replaced > 5, "only {replaced} boxes were replaced");
}

/// The control plane dies at each step of the recovery itself.
#[tokio::test]
async fn crashed_at_every_step_of_the_recovery_it_still_ends_as_it_should() {
    let ground = Ground::new().await;
    let at_work = running_from(&ground).await;
    let mut replaced = 0;
    for n in (1..60).step_by(2) {
        let mut world = world(&ground, policy());
        assert_eq!(disturbed(&mut world, at_work, false).await, 1);
        world.settle(Some(at_work + n)).await;
        world.crash();
        world.advance(policy().lease).await;
        world.settle(None).await;
        let (log, end) = ended(&mut world).await;
        assert_eq!(end, Status::Completed, "crashed {n} steps after the loss: {log:#?}");
        let lost = told(&log, EventKind::AttemptLost).len();
        assert_eq!(lost, 1, "crashed {n} steps after the loss");
        assert_eq!(world.forge.pull_requests().len(), 1);
        replaced += lost;
    }
    assert_eq!(replaced, 30);
}

/// A box that lives but says nothing is ended for certain before another is started: the invariant of one box at a time
/// is looked at after every step.
#[tokio::test]
async fn a_box_that_hangs_is_ended_before_another_is_started() {
    let ground = Ground::new().await;
    let mut silent = 0;
    for n in (0..steps(&ground).await).step_by(3) {
        let mut world = world(&ground, policy());
        world.manners = Manners::Deaf;
        disturbed(&mut world, n, true).await;
        world.settle(None).await;
        let (log, end) = ended(&mut world).await;
        assert_eq!(end, Status::Completed, "hung at step {n}: {log:#?}");
        let lost = told(&log, EventKind::AttemptLost);
        silent += lost
            .iter()
            .filter(|e| {
                e.metadata["error_code"] == "SESSION_LOST"
                    || e.metadata["error_code"] == "SESSION_NEVER_STARTED"
            })
            .count();
    }
    assert!(silent > 5, "only {silent} boxes fell silent");
}

#[tokio::test]
async fn boxes_that_die_again_and_again_use_up_the_attempts_and_no_more() {
    let ground = Ground::new().await;
    for attempts_max in [1, 2, 4] {
        let mut policy = policy();
        policy.attempts_max.default = attempts_max;
        let mut world = world(&ground, policy);
        let began = world.clock.now();
        for _ in 0..200 {
            let asked = world.asked[0].task;
            if asked.is_some() && world.watched.all_ended(&world.truth).await {
                break;
            }
            for id in world.live() {
                world.die(id, 1);
            }
            world.settle(Some(world.steps + 5)).await;
        }
        world.settle(None).await;
        let (log, end) = ended(&mut world).await;
        assert_eq!(end, Status::Failed, "{attempts_max} attempts: {log:#?}");
        let failed = told(&log, EventKind::TaskFailed);
        assert_eq!(failed[0].metadata["error_code"], FailureCode::SessionEndedWithoutResult.as_str());
        assert_eq!(told(&log, EventKind::AttemptLost).len() as u32, attempts_max - 1);
        assert_eq!(told(&log, EventKind::SessionStarted).len() as u32, attempts_max);
        // The waits between them: 5 s, 10 s, 20 s.
        let waited = world.clock.now().as_second() - began.as_second();
        let least = limit::LOST_BACKOFF.as_secs() as i64 * ((1 << (attempts_max - 1)) - 1);
        assert!(waited >= least, "{attempts_max} attempts took {waited} s, and had to wait {least} s");
    }
}

/// A machine that is started again is up before its network is.
#[tokio::test]
async fn what_may_pass_is_waited_out_by_an_attempt_that_follows_a_lost_box() {
    let ground = Ground::new().await;
    let at_work = running_from(&ground).await;
    let mut world = world(&ground, policy());
    disturbed(&mut world, at_work, false).await;
    for _ in 0..3 {
        let down = code_host::Fault::Refused(FailureCode::GithubUnreachable, Retry::Never);
        world.forge.fail_next(code_host::Operation::Inspect, down);
    }
    world.settle(None).await;
    let (log, end) = ended(&mut world).await;
    assert_eq!(end, Status::Completed, "{log:#?}");
    assert_eq!(told(&log, EventKind::PreflightFailed).len(), 0, "{log:#?}");
}

/// An attempt that follows a lost box and cannot begin delivers what the lost one had pushed.
#[tokio::test]
async fn what_was_pushed_before_the_loss_is_delivered_when_no_other_box_comes_to_be() {
    let ground = Ground::new().await;
    let at_work = running_from(&ground).await;
    let mut world = world(&ground, policy());
    world.settle(Some(at_work)).await;
    let live = world.live();
    world.push(live[0].0);
    world.die(live[0], 137);
    let gone = code_host::Fault::Refused(FailureCode::RepoNotGit, Retry::Never);
    world.forge.fail_next(code_host::Operation::Inspect, gone);
    world.settle(None).await;
    let (log, end) = ended(&mut world).await;
    assert_eq!(end, Status::Failed, "{log:#?}");
    assert_eq!(told(&log, EventKind::TaskFailed)[0].metadata["error_code"], "REPO_NOT_GIT");
    assert_eq!(world.forge.pull_requests().len(), 1, "{log:#?}");
}
