//! A platform in one place: a store, a backend and a forge that outlive any orchestrator, boxes that are played, and
//! work in flight that moves from gate to gate.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use compute::SessionStatus;
use compute::fake::FakeBackend;
use domain::report::AgentStatus;
use domain::{Attempt, Command, NodeId, TaskId, UserId};
use orchestrator::admission::Submission;
use orchestrator::report::{Heard, Work};
use orchestrator::{Clock, Forges, Orchestrator, Parts, Policy, TokenKey};
use secrecy::SecretString;
use store::{Created, Driver, Store, StoreError};
use testkit::FakeForge;

use crate::gate::{Gate, Gated, GatedForge};
use crate::invariant::Watched;
use crate::support::{FakeModels, Ground, clock, policy, repo, report, spec};

pub type BoxId = (TaskId, Attempt);

/// What a piece of work came to.
enum Said {
    Submitted(usize, Result<Created, StoreError>),
    Attached(BoxId, Result<Heard<()>, StoreError>),
    Started(BoxId, Result<Heard<()>, StoreError>),
    Reported(BoxId, Result<Heard<()>, StoreError>),
    Nothing,
}

/// A piece of work in flight.
struct Job {
    what: String,
    run: Pin<Box<dyn Future<Output = Said>>>,
}

/// How far a played box is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Booting,
    Attached,
    Working,
    Reported,
    /// It does nothing any more, and gives no sign of life.
    Hung,
}

#[derive(Debug)]
pub struct Played {
    stage: Stage,
    busy: bool,
    pub agent: AgentStatus,
    pub pushes: bool,
}

#[derive(Debug)]
pub struct Asked {
    pub user: UserId,
    pub task: Option<TaskId>,
    busy: bool,
}

pub struct World<'g> {
    ground: &'g Ground,
    pub truth: Store,
    pub gated: Gated,
    gate: Gate,
    pub backend: FakeBackend,
    pub forge: FakeForge,
    pub clock: Clock,
    orchestrator: Orchestrator,
    nodes: u32,
    jobs: Vec<Job>,
    pub boxes: BTreeMap<BoxId, Played>,
    pub asked: Vec<Asked>,
    pub watched: Watched,
    /// Gates passed by all work so far.
    pub steps: u64,
    /// What a new box will do.
    pub next_box: Box<dyn FnMut() -> (AgentStatus, bool)>,
    pub trace: Vec<String>,
    pub manners: Manners,
    /// A box was told to ask again later.
    put_off: bool,
    policy: Policy,
}

/// What a box does that is told that nobody wants it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    /// It ends by itself.
    Polite,
    /// It lives on: the control plane must end it.
    Deaf,
}

impl<'g> World<'g> {
    pub fn new(ground: &'g Ground, driver: Arc<dyn Driver>) -> World<'g> {
        World::with_policy(ground, driver, policy())
    }

    pub fn with_policy(ground: &'g Ground, driver: Arc<dyn Driver>, policy: Policy) -> World<'g> {
        let gate = Gate::default();
        let gated = Gated::new(driver.clone(), gate.clone());
        let (backend, forge, clock) = (FakeBackend::new(), FakeForge::new(), clock());
        forge.add_repo(repo(), ground.source.path());
        let orchestrator = node(ground, &gated, &gate, &backend, &forge, &clock, 0, &policy);
        World {
            ground,
            truth: Store::new(driver),
            gated,
            gate,
            backend,
            forge,
            clock,
            orchestrator,
            nodes: 0,
            jobs: Vec::new(),
            boxes: BTreeMap::new(),
            asked: Vec::new(),
            watched: Watched::default(),
            steps: 0,
            next_box: Box::new(|| (AgentStatus::Success, true)),
            trace: Vec::new(),
            manners: Manners::Polite,
            put_off: false,
            policy,
        }
    }

    pub fn note(&mut self, what: impl Into<String>) {
        self.trace.push(what.into());
    }

    fn start(&mut self, what: impl Into<String>, run: impl Future<Output = Said> + 'static) {
        self.jobs.push(Job { what: what.into(), run: Box::pin(run) });
    }

    pub fn in_flight(&self) -> usize {
        self.jobs.len()
    }

    /// The control plane dies: all it was doing is gone. Another one starts on what is stored.
    pub fn crash(&mut self) {
        let lost: Vec<_> = self.jobs.drain(..).map(|job| job.what).collect();
        self.note(format!("CRASH, lost {lost:?}"));
        self.boxes.values_mut().for_each(|b| b.busy = false);
        self.asked.iter_mut().for_each(|a| a.busy = false);
        self.nodes += 1;
        self.orchestrator = node(
            self.ground,
            &self.gated,
            &self.gate,
            &self.backend,
            &self.forge,
            &self.clock,
            self.nodes,
            &self.policy,
        );
    }

    /// Moves one piece of work to its next gate, and looks whether all is still as it must be.
    pub async fn step(&mut self, n: usize) {
        self.steps += 1;
        let Some(job) = self.jobs.get_mut(n) else { return };
        let said = self.gate.step(&mut job.run).await;
        if let Some(said) = said {
            let job = self.jobs.remove(n);
            self.trace.push(format!("done: {}", job.what));
            self.heard(said);
        }
        self.check().await;
    }

    pub async fn check(&mut self) {
        let tasks: Vec<_> = self.asked.iter().filter_map(|a| a.task).collect();
        self.watched.check(&self.truth, &self.backend, &policy(), &tasks).await;
    }

    /// Moves the time; boxes that live give their signs of life meanwhile.
    pub async fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
        let now = self.clock.now();
        for ((task, attempt), played) in &self.boxes {
            if !matches!(played.stage, Stage::Booting | Stage::Hung) {
                self.truth.session_heartbeat(*task, *attempt, "work", now).await.unwrap();
            }
        }
        self.note(format!("clock +{} s", by.as_secs_f32()));
    }

    // --- work

    pub fn ask(&mut self, user: &str) {
        self.asked.push(Asked { user: UserId::new(user), task: None, busy: false });
    }

    /// Submits what was asked and not answered yet, under the same key as before.
    pub async fn submit(&mut self) -> usize {
        let open: Vec<_> =
            (0..self.asked.len()).filter(|n| self.asked[*n].task.is_none() && !self.asked[*n].busy).collect();
        for n in &open {
            // Ids begin with the millisecond: tasks of different milliseconds sort the same in every run of a seed.
            self.clock.advance(Duration::from_millis(2));
            self.asked[*n].busy = true;
            let submission = Submission {
                user: self.asked[*n].user.clone(),
                channel: "api".into(),
                spec: spec(&format!("task {n}")),
                idempotency_key: Some(format!("key-{n}")),
            };
            let (orchestrator, n) = (self.orchestrator.clone(), *n);
            self.start(format!("submit {n}"), async move {
                Said::Submitted(n, orchestrator.submit(submission).await)
            });
        }
        open.len()
    }

    pub async fn claim(&mut self, limit: u32) -> usize {
        let (node, now) = (self.orchestrator.parts().node.clone(), self.clock.now());
        let claimed = self.truth.task_claim_due(&node, now, policy().lease, limit).await.unwrap();
        let count = claimed.len();
        for claimed in claimed {
            let orchestrator = self.orchestrator.clone();
            let what = format!("drive {} from {}", self.name(claimed.task.id), claimed.task.status());
            self.start(what, async move {
                orchestrator.drive(claimed).await;
                Said::Nothing
            });
        }
        count
    }

    pub async fn duties(&mut self) -> usize {
        let due =
            self.truth.obligation_claim_due(self.clock.now(), Duration::from_secs(60), 10).await.unwrap();
        let count = due.len();
        for obligation in due {
            let orchestrator = self.orchestrator.clone();
            self.start(format!("stop the box of {}", self.name(obligation.task)), async move {
                orchestrator.meet(obligation).await;
                Said::Nothing
            });
        }
        count
    }

    pub fn sweep(&mut self) {
        let orchestrator = self.orchestrator.clone();
        self.start("sweep", async move {
            orchestrator.sweep().await;
            Said::Nothing
        });
    }

    pub fn person(&mut self, task: TaskId, command: Command) {
        let orchestrator = self.orchestrator.clone();
        self.start(format!("{} {}", command.name(), self.name(task)), async move {
            // A person whose request failed sees the error and asks again, or does not.
            let _ = orchestrator.command(task, command).await;
            Said::Nothing
        });
    }

    /// What is due to be stopped is stopped between two steps of whatever is in flight.
    pub async fn duties_now(&mut self) {
        let others = self.jobs.len();
        self.duties().await;
        while self.jobs.len() > others {
            self.step(others).await;
        }
    }

    /// A person cancels between two steps of whatever is in flight.
    pub async fn cancel_now(&mut self, task: TaskId) {
        self.person(task, Command::Cancel { by: "ann".into() });
        let others = self.jobs.len() - 1;
        while self.jobs.len() > others {
            self.step(others).await;
        }
    }

    // --- boxes

    /// Boxes that run.
    pub fn live(&mut self) -> Vec<BoxId> {
        let live: Vec<BoxId> = self
            .backend
            .sessions()
            .into_iter()
            .filter(|(.., status)| *status == SessionStatus::Running)
            .map(|(task, attempt, _)| (task, attempt))
            .collect();
        self.boxes.retain(|id, _| live.contains(id));
        for id in &live {
            let next_box = &mut self.next_box;
            self.boxes.entry(*id).or_insert_with(|| {
                let (agent, pushes) = next_box();
                Played { stage: Stage::Booting, busy: false, agent, pushes }
            });
        }
        live
    }

    /// The box does the next thing that a box does; answers whether it did anything.
    pub fn play(&mut self, id: BoxId) -> bool {
        let name = self.name(id.0);
        let Some(played) = self.boxes.get_mut(&id).filter(|b| !b.busy) else { return false };
        let (task, attempt) = id;
        let o = self.orchestrator.clone();
        played.busy = true;
        match played.stage {
            Stage::Booting => self.start(format!("attach {name}"), async move {
                Said::Attached(
                    id,
                    o.box_attached(task, attempt, "worker").await.map(|heard| without_work(&heard)),
                )
            }),
            Stage::Attached => self.start(format!("agent started {name}"), async move {
                Said::Started(id, o.box_started(task, attempt, None).await)
            }),
            Stage::Working => {
                let report = report(played.agent);
                if played.pushes {
                    self.push(task);
                }
                self.start(format!("report {name}"), async move {
                    Said::Reported(id, o.box_reported(task, attempt, report).await)
                });
            }
            Stage::Reported => self.die(id, 0),
            Stage::Hung => {
                played.busy = false;
                return false;
            }
        }
        true
    }

    pub fn hang(&mut self, id: BoxId) {
        if let Some(played) = self.boxes.get_mut(&id) {
            played.stage = Stage::Hung;
            self.trace.push(format!("box of {} hangs", self.watched.name(id.0)));
        }
    }

    pub fn die(&mut self, (task, attempt): BoxId, code: i32) {
        self.backend.end(task, attempt, Some(code));
        self.note(format!("box of {} ends with {code}", self.name(task)));
    }

    /// What the git proxy does when a box pushes: its branch in the quarantine points to the work.
    pub fn push(&self, task: TaskId) {
        let branch = domain::task::branch_name(task, &self.watched.description(task));
        let quarantine = self.ground.mirrors().quarantine(task);
        let file = quarantine.join("refs/heads").join(branch);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, format!("{}\n", self.ground.donor)).unwrap();
    }

    fn heard(&mut self, said: Said) {
        match said {
            Said::Submitted(n, result) => {
                self.asked[n].busy = false;
                match result {
                    Ok(Created::New(task) | Created::Replay(task)) => {
                        assert!(
                            self.asked[n].task.is_none_or(|known| known == task.id),
                            "one key, two tasks"
                        );
                        self.asked[n].task = Some(task.id);
                        self.watched.add(task.id, &task.spec.description);
                    }
                    Ok(Created::KeyConflict(other)) => {
                        panic!("the same request is told to differ from {other}")
                    }
                    Err(_) => (),
                }
            }
            Said::Attached(id, result) => self.answered(id, Stage::Attached, result),
            Said::Started(id, result) => self.answered(id, Stage::Working, result),
            Said::Reported(id, result) => self.answered(id, Stage::Reported, result),
            Said::Nothing => (),
        }
    }

    /// An error or "too early" is asked again; "superseded" makes a box stop itself.
    fn answered(&mut self, id: BoxId, then: Stage, answer: Result<Heard<()>, StoreError>) {
        let Some(played) = self.boxes.get_mut(&id) else { return };
        played.busy = false;
        match answer {
            Ok(Heard::Yes(())) if played.stage != Stage::Hung => played.stage = then,
            Ok(Heard::Superseded) => match self.manners {
                Manners::Polite => self.die(id, 0),
                Manners::Deaf => played.stage = Stage::Hung,
            },
            Ok(Heard::TooEarly) | Err(_) => self.put_off = true,
            Ok(Heard::Yes(())) => (),
        }
    }

    fn name(&self, task: TaskId) -> String {
        self.watched.name(task)
    }

    // --- to rest

    /// Lets everything go on without faults until nothing is left to do. `stop_at` ends it after so many steps in all.
    pub async fn settle(&mut self, stop_at: Option<u64>) {
        for _ in 0..5_000 {
            while !self.jobs.is_empty() {
                if stop_at.is_some_and(|at| self.steps >= at) {
                    return;
                }
                self.step(0).await;
            }
            let mut done = self.submit().await + self.claim(10).await + self.duties().await;
            if done > 0 {
                continue;
            }
            // A box that is told "too early" asks again when some time has passed.
            if !std::mem::take(&mut self.put_off) {
                for id in self.live() {
                    done += usize::from(self.play(id));
                }
            }
            if done > 0 {
                continue;
            }
            if self.watched.all_ended(&self.truth).await
                && self.truth.obligation_list().await.unwrap().is_empty()
                && self.live().is_empty()
            {
                return;
            }
            self.sweep();
            let due = self.truth.next_due().await.unwrap();
            let wait = due.map_or(0, |at| at.as_millisecond() - self.clock.now().as_millisecond());
            self.advance(Duration::from_millis(u64::try_from(wait).unwrap_or(0).max(1_000))).await;
        }
        let last = self.trace.len().saturating_sub(12);
        panic!(
            "it does not come to rest: {:?}; {:?}; {:?}",
            self.backend.sessions(),
            self.truth.obligation_list().await,
            &self.trace[last..]
        );
    }
}

#[expect(clippy::too_many_arguments, reason = "the parts of one world")]
fn node(
    ground: &Ground,
    gated: &Gated,
    gate: &Gate,
    backend: &FakeBackend,
    forge: &FakeForge,
    clock: &Clock,
    number: u32,
    policy: &Policy,
) -> Orchestrator {
    let forge: Arc<dyn forge::Forge> = Arc::new(GatedForge { inner: forge.clone(), gate: gate.clone() });
    Orchestrator::new(Parts {
        store: Store::new(Arc::new(gated.clone())),
        forges: Forges { github: forge.clone(), local: forge },
        mirrors: ground.mirrors(),
        objects: Arc::new(objects::MemoryObjects::default()),
        fetch: Arc::new(orchestrator::attachment::fake::Web::default()),
        inspector: Arc::new(orchestrator::attachment::fake::InProcess),
        compute: Arc::new(backend.clone()),
        models: Arc::new(FakeModels),
        token_key: TokenKey::new(SecretString::from("k".to_owned())),
        policy: policy.clone(),
        clock: clock.clone(),
        node: NodeId::new(format!("node-{number}")),
        gateway: "unix:/nowhere".into(),
    })
}

fn without_work(heard: &Heard<Work>) -> Heard<()> {
    match heard {
        Heard::Yes(_) => Heard::Yes(()),
        Heard::TooEarly => Heard::TooEarly,
        Heard::Superseded => Heard::Superseded,
    }
}
