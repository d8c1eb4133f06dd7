//! A task's life: admission, preflight, dispatch, supervision, finish.
//!
//! ```text
//! submit ─▶ admission ─▶ store ◀─▶ engine ─▶ next_step (pure) ─▶ preflight · dispatch · supervise · finish
//!                                    ▲                                          │
//!            gateway ─▶ report ──────┴────────────── change (the only writer) ◀─┘
//! ```
//!
//! The engine claims what is due, asks [`next::next_step`] what comes next, does it, and commits the outcome as one
//! transition. No step is replayed as code: the record is the program counter, so a control plane that dies anywhere
//! carries on from what is stored. Every step is idempotent under (task, attempt).

pub mod admission;
pub mod attachment;
pub mod budget;
pub mod change;
pub mod clock;
pub mod config;
pub mod dispatch;
pub mod engine;
pub mod fault;
pub mod finish;
pub mod history;
mod image;
pub mod leave;
mod lost;
pub mod masks;
pub mod model;
pub mod next;
pub mod obligation;
pub mod preflight;
pub mod report;
pub mod retention;
pub mod screen;
pub mod steer;
pub mod supervise;
pub mod sweep;
pub mod tasks;
pub mod telling;
pub mod token;
pub mod trace;

use std::fmt;
use std::sync::{Arc, Mutex};

use compute::ComputeBackend;
use domain::{NodeId, RepoRef};
use forge::Forge;
use forge::mirror::Mirrors;
use jiff::Timestamp;
use objects::ObjectStore;
use store::Store;
use tokio::sync::Notify;

pub use change::Done;
pub use clock::Clock;
pub use config::Policy;
pub use masks::Masks;
pub use model::ModelCatalog;
pub use tasks::Tasks;
pub use token::TokenKey;

/// The forges that repositories are found on.
#[derive(Debug, Clone)]
pub struct Forges {
    /// `OWNER/NAME`.
    pub github: Arc<dyn Forge>,
    /// Paths of this machine.
    pub local: Arc<dyn Forge>,
}

impl Forges {
    /// The forge of a repository.
    pub fn of(&self, repo: &RepoRef) -> &Arc<dyn Forge> {
        match repo {
            RepoRef::GitHub { .. } => &self.github,
            RepoRef::Local(_) => &self.local,
        }
    }
}

/// What an orchestrator is made of.
pub struct Parts {
    /// The facts.
    pub store: Store,
    /// Code hosts.
    pub forges: Forges,
    /// Bare mirrors, one for each repository.
    pub mirrors: Mirrors,
    /// Large things: traces, artifacts.
    pub objects: Arc<dyn ObjectStore>,
    /// Gets attachments from their addresses.
    pub fetch: Arc<dyn attachment::Fetch>,
    /// Looks at the bytes of attachments.
    pub inspector: Arc<dyn attachment::Inspect>,
    /// Where boxes run.
    pub compute: Arc<dyn ComputeBackend>,
    /// Models and their prices.
    pub models: Arc<dyn ModelCatalog>,
    /// Signs the tokens of boxes.
    pub token_key: TokenKey,
    /// Limits and intervals.
    pub policy: Policy,
    /// The time.
    pub clock: Clock,
    /// This process.
    pub node: NodeId,
    /// Address of the gateway, as boxes see it.
    pub gateway: String,
}

/// The orchestrator: cheap to clone, all of it shared.
#[derive(Clone)]
pub struct Orchestrator {
    parts: Arc<Parts>,
    bell: Arc<Notify>,
    duty_bell: Arc<Notify>,
    awake_since: Arc<Mutex<Timestamp>>,
}

impl fmt::Debug for Orchestrator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orchestrator").field("node", &self.parts.node).finish_non_exhaustive()
    }
}

impl Orchestrator {
    /// Puts one together. Nothing runs until [`Orchestrator::run`].
    pub fn new(parts: Parts) -> Orchestrator {
        Orchestrator {
            parts: Arc::new(parts),
            bell: Arc::default(),
            duty_bell: Arc::default(),
            awake_since: Arc::default(),
        }
    }

    /// What it is made of.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The facts.
    pub fn store(&self) -> &Store {
        &self.parts.store
    }

    /// The time.
    pub fn now(&self) -> jiff::Timestamp {
        self.parts.clock.now()
    }

    /// Tells the engine that something may be due. It only shortens its wait.
    pub fn ring(&self) {
        self.bell.notify_one();
        self.duty_bell.notify_one();
    }

    fn duty_bell(&self) -> &Notify {
        &self.duty_bell
    }
}
