//! What must be true after every single step, and what must be true in the end.

use std::collections::BTreeMap;

use compute::SessionStatus;
use compute::fake::FakeBackend;
use domain::event::Event;
use domain::{Attempt, EventKind, Status, TaskId};
use orchestrator::Policy;
use store::{EventCursor, EventQuery, Scope, Store, TaskFilter};
use testkit::FakeForge;

/// What was seen of a task when it was looked at last.
#[derive(Debug)]
struct Seen {
    number: usize,
    description: String,
    status: Status,
    attempt: Attempt,
    version: u64,
    events: usize,
}

/// How many boxes of one task may run at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Boxes {
    /// One, whatever happens.
    #[default]
    One,
    /// Parked tasks begin a new attempt while the old one's box is being stopped.
    OnePerAttempt,
}

#[derive(Debug, Default)]
pub struct Watched {
    tasks: BTreeMap<TaskId, Seen>,
    pub boxes: Boxes,
}

impl Watched {
    pub fn add(&mut self, task: TaskId, description: &str) {
        let seen = Seen {
            number: self.tasks.len(),
            description: description.to_owned(),
            status: Status::Submitted,
            attempt: Attempt::NONE,
            version: 0,
            events: 0,
        };
        self.tasks.entry(task).or_insert(seen);
    }

    /// A name that is the same in every run of a seed.
    pub fn name(&self, task: TaskId) -> String {
        self.tasks.get(&task).map_or_else(|| "an unanswered task".into(), |seen| format!("T{}", seen.number))
    }

    pub fn description(&self, task: TaskId) -> String {
        self.tasks.get(&task).map(|seen| seen.description.clone()).unwrap_or_default()
    }

    /// Whether every task in the store has ended.
    pub async fn all_ended(&self, truth: &Store) -> bool {
        let all = truth.task_list(TaskFilter { limit: 1_000, ..TaskFilter::default() }).await.unwrap();
        all.iter().all(|task| task.status().is_terminal())
    }

    pub async fn check(&mut self, truth: &Store, backend: &FakeBackend, policy: &Policy, tasks: &[TaskId]) {
        for id in tasks {
            self.check_task(truth, *id).await;
        }
        let running = backend.sessions().into_iter().filter(|(.., s)| *s == SessionStatus::Running);
        let mut live: BTreeMap<TaskId, u32> = BTreeMap::new();
        running.for_each(|(task, ..)| *live.entry(task).or_default() += 1);
        for (task, count) in live {
            match self.boxes {
                Boxes::One => assert_eq!(count, 1, "{} has {count} boxes that run", self.name(task)),
                Boxes::OnePerAttempt => (),
            }
        }
        let mut held: BTreeMap<Scope, u32> = BTreeMap::new();
        for (scope, holder) in truth.slot_list().await.unwrap() {
            *held.entry(scope).or_default() += 1;
            let status = truth.task_get(holder).await.unwrap().unwrap().status();
            assert!(
                !status.is_terminal() && status != Status::Queued,
                "{} is {status} and holds a slot",
                self.name(holder)
            );
        }
        for (scope, count) in held {
            let limit = match scope {
                Scope::User(_) => policy.per_user,
                Scope::Repo(_) => policy.per_repo,
                Scope::System => policy.system,
            };
            assert!(count <= limit, "{count} slots of {limit} are held in {scope}");
        }
    }

    async fn check_task(&mut self, truth: &Store, id: TaskId) {
        let name = self.name(id);
        let task = truth.task_get(id).await.unwrap().unwrap();
        let events = events(truth, id).await;
        let Some(seen) = self.tasks.get_mut(&id) else { return };
        let (from, to) = (seen.status, task.status());
        assert!(
            task.version >= seen.version,
            "{name}: version fell from {} to {}",
            seen.version,
            task.version
        );
        if task.version == seen.version + 1 {
            assert!(from == to || from.next().contains(&to), "{name}: {from} -> {to} is no edge");
        }
        if from.is_terminal() {
            assert_eq!(to, from, "{name} left its end");
        }
        assert!(task.attempt >= seen.attempt, "{name}: the attempt fell");
        assert!(events.len() >= seen.events, "{name}: events were lost");
        for (n, event) in events.iter().enumerate() {
            assert_eq!(event.seq, n as u64 + 1, "{name}: events have a hole");
        }
        assert!(events.windows(2).all(|pair| pair[0].id < pair[1].id), "{name}: event ids do not rise");
        let ends = events.iter().filter(|e| e.kind.is_terminal()).count();
        assert_eq!(ends, usize::from(to.is_terminal()), "{name} is {to} with {ends} terminal events");
        for once in [EventKind::TaskCreated, EventKind::PrCreated] {
            let count = events.iter().filter(|e| e.kind == once).count();
            assert!(count <= 1, "{name}: {} was told {count} times", once.as_str());
        }
        for per_attempt in [EventKind::SessionStarted, EventKind::SessionAttached, EventKind::ResultReceived]
        {
            let count = events.iter().filter(|e| e.kind == per_attempt).count();
            let attempts = task.attempt.0 as usize;
            assert!(
                count <= attempts,
                "{name}: {} {count} times in {attempts} attempts",
                per_attempt.as_str()
            );
        }
        *seen = Seen {
            status: to,
            attempt: task.attempt,
            version: task.version,
            events: events.len(),
            number: seen.number,
            description: seen.description.clone(),
        };
    }

    /// Everything has ended and nothing is left; answers how each task ended.
    pub async fn check_rest(
        &mut self,
        truth: &Store,
        backend: &FakeBackend,
        forge: &FakeForge,
        asked: usize,
    ) -> Vec<Status> {
        let tasks = truth.task_list(TaskFilter { limit: 1_000, ..TaskFilter::default() }).await.unwrap();
        assert_eq!(tasks.len(), asked, "tasks in the store, and tasks that were asked for");
        assert_eq!(truth.slot_list().await.unwrap(), [], "slots are held though all tasks have ended");
        assert_eq!(truth.obligation_list().await.unwrap(), [], "obligations are open though all is at rest");
        let running = backend.sessions().into_iter().filter(|(.., s)| *s == SessionStatus::Running);
        assert_eq!(running.count(), 0, "boxes run though all tasks have ended");
        for task in &tasks {
            let name = self.name(task.id);
            assert!(task.status().is_terminal(), "{name} is {}", task.status());
            assert!(
                task.completed_at.is_some() && task.wake_at.is_none(),
                "{name}: its books are not closed"
            );
            let pulls: Vec<_> =
                forge.pull_requests().into_iter().filter(|p| p.draft.branch == task.branch).collect();
            assert!(pulls.len() <= 1, "{name} has {} pull requests", pulls.len());
            let record = truth.pull_request_get(task.id).await.unwrap();
            assert_eq!(record.as_ref().map(|r| &r.url), task.results.pr_url.as_ref(), "{name}");
            if let Some(record) = &record {
                assert_eq!(record.number, pulls.first().map(|p| p.number), "{name}");
            }
            if task.status() == Status::Completed {
                assert!(record.is_some(), "{name} is completed without its pull request");
            }
        }
        tasks.iter().map(|task| task.status()).collect()
    }
}

pub async fn events(truth: &Store, task: TaskId) -> Vec<Event> {
    truth.events_read(EventQuery { task, from: EventCursor::Start, limit: 10_000 }).await.unwrap()
}
