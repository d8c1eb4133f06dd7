//! One task, from submission to its pull request, disturbed at every place where it can be: crashed at each await and
//! carried on, with each operation of the store failing in both ways, cancelled at each step.

use std::sync::Arc;

use domain::{EventKind, Status};
use store::memory::MemoryDriver;

use crate::gate::Faults;
use crate::invariant::events;
use crate::support::{Ground, policy};
use crate::world::{Manners, World};

fn world(ground: &Ground) -> World<'_> {
    let mut world = World::new(ground, Arc::new(MemoryDriver::default()));
    world.ask("ann");
    world
}

/// Everything is over: what was told of the task, and how it ended.
async fn ended(world: &mut World<'_>) -> (Vec<EventKind>, Status) {
    let ends = world.watched.check_rest(&world.truth, &world.backend, &world.forge, 1).await;
    let id = world.asked[0].task.unwrap();
    let told = events(&world.truth, id).await.into_iter().map(|e| e.kind).collect();
    (told, ends[0])
}

/// The task as it goes when nothing happens to it; answers its steps and operations of the store, too.
async fn undisturbed(ground: &Ground) -> (Vec<EventKind>, u64, u64) {
    let mut world = world(ground);
    world.gated.set_faults(Faults::None);
    world.settle(None).await;
    let (told, end) = ended(&mut world).await;
    assert_eq!(end, Status::Completed);
    (told, world.steps, world.gated.operations())
}

#[tokio::test]
async fn a_task_goes_its_way() {
    use EventKind::*;
    let (told, steps, operations) = undisturbed(&Ground::new().await).await;
    let way = [
        TaskCreated,
        HydrationStarted,
        PreflightPassed,
        SessionStarted,
        SessionAttached,
        TaskRunning,
        ResultReceived,
        PrCreated,
        TaskCompleted,
    ];
    assert_eq!(told, way);
    assert!(
        steps > 40 && operations > 20,
        "{steps} steps, {operations} operations: the gates are not where they were"
    );
}

/// D-009: a task nobody was told of waited for 20 minutes.
#[tokio::test]
async fn crashed_at_every_await_it_ends_as_if_nothing_had_happened() {
    let ground = Ground::new().await;
    let (way, steps, _) = undisturbed(&ground).await;
    for n in 0..steps {
        let mut world = world(&ground);
        world.settle(Some(n)).await;
        world.crash();
        world.advance(policy().lease).await;
        world.settle(None).await;
        let (told, end) = ended(&mut world).await;
        assert_eq!(end, Status::Completed, "crashed at step {n}");
        assert_eq!(told, way, "crashed at step {n}");
        let pulls = world.forge.pull_requests();
        assert_eq!(pulls.len(), 1, "crashed at step {n}");
    }
}

#[tokio::test]
async fn crashed_twice_in_a_row_it_still_gets_there() {
    let ground = Ground::new().await;
    let (way, steps, _) = undisturbed(&ground).await;
    for n in (0..steps).step_by(3) {
        let mut world = world(&ground);
        for again in [n, n + 2, n + 5] {
            world.settle(Some(again)).await;
            world.crash();
            world.advance(policy().lease).await;
        }
        world.settle(None).await;
        assert_eq!(ended(&mut world).await, (way.clone(), Status::Completed), "crashed from step {n} on");
    }
}

/// D-055: a cancel that could not write its event was a 500.
#[tokio::test]
async fn with_each_operation_of_the_store_failing_it_ends_as_if_nothing_had_happened() {
    let ground = Ground::new().await;
    let (way, _, operations) = undisturbed(&ground).await;
    for n in 0..operations {
        for fault in [Faults::Before(n), Faults::After(n)] {
            let mut world = world(&ground);
            world.gated.set_faults(fault.clone());
            world.settle(None).await;
            let (told, end) = ended(&mut world).await;
            assert_eq!(end, Status::Completed, "{fault:?}");
            assert_eq!(box_first(told), box_first(way.clone()), "{fault:?}");
        }
    }
}

/// A box may attach before the start of its session could be recorded: told in one order, whichever it was.
fn box_first(mut told: Vec<EventKind>) -> Vec<EventKind> {
    use EventKind::{SessionAttached, SessionStarted};
    if let Some(n) = told.windows(2).position(|pair| pair == [SessionStarted, SessionAttached]) {
        told.swap(n, n + 1);
    }
    told
}

/// D-053: a cancel left its compute running.
#[tokio::test]
async fn cancelled_at_every_step_it_is_cancelled_or_was_done_and_nothing_is_left() {
    let ground = Ground::new().await;
    let (_, steps, _) = undisturbed(&ground).await;
    let (mut cancelled, mut completed) = (0, 0);
    for n in 0..steps {
        let mut world = world(&ground);
        world.settle(Some(n)).await;
        let Some(task) = world.asked[0].task else { continue };
        world.cancel_now(task).await;
        world.settle(None).await;
        match ended(&mut world).await {
            (_, Status::Cancelled) => cancelled += 1,
            (_, Status::Completed) => completed += 1,
            (told, other) => panic!("cancelled at step {n}, it is {other}: {told:?}"),
        }
    }
    assert!(cancelled > 20 && completed > 0, "{cancelled} cancelled, {completed} completed");
}

/// The box is told to stop before it was there: it comes to be after the stop was done, and its starter dies.
#[tokio::test]
async fn a_box_that_is_started_after_its_stop_is_found() {
    let ground = Ground::new().await;
    let (_, steps, _) = undisturbed(&ground).await;
    for n in 0..steps {
        for later in [1, 2, 3, 4] {
            let mut world = world(&ground);
            world.manners = Manners::Deaf;
            world.settle(Some(n)).await;
            let Some(task) = world.asked[0].task else { continue };
            world.cancel_now(task).await;
            world.duties_now().await;
            world.settle(Some(world.steps + later)).await;
            world.crash();
            world.settle(None).await;
            let (told, end) = ended(&mut world).await;
            assert!(matches!(end, Status::Cancelled | Status::Completed), "step {n}: {end} after {told:?}");
        }
    }
}

#[tokio::test]
async fn cancelled_and_crashed_at_every_step_nothing_is_left() {
    let ground = Ground::new().await;
    let (_, steps, _) = undisturbed(&ground).await;
    for n in 0..steps {
        let mut world = world(&ground);
        world.settle(Some(n)).await;
        let Some(task) = world.asked[0].task else { continue };
        world.cancel_now(task).await;
        world.crash();
        world.settle(None).await;
        let (told, end) = ended(&mut world).await;
        assert!(matches!(end, Status::Cancelled | Status::Completed), "step {n}: {end} after {told:?}");
    }
}
