//! Limits and intervals of a task's life. The defaults are `domain::limit`'s; tests shorten them.

use std::time::Duration;

use compute::BoxSpec;
use compute::cache::Caches;
use domain::{Budgets, IsolationTier, PerRepo, RepoRef, TaskSpec, UserId, limit};
use forge::push;
use screening::Screens;
use store::{Scope, ScopeLimit};
use telemetry::Traces;

use crate::masks::Masks;
use crate::retention::Retention;

/// Limits and intervals.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Tasks of one user at once.
    pub per_user: u32,
    /// Tasks on one repository at once.
    pub per_repo: u32,
    /// Tasks at once in all.
    pub system: u32,
    /// The tier boxes are started in when the task asks for none.
    pub tier: IsolationTier,
    /// The tiers a task may ask for.
    pub tiers: Vec<IsolationTier>,
    /// Whether a repository may name the image of its containers itself.
    pub devcontainer: bool,
    /// What boxes are made of and may use.
    pub boxes: PerRepo<BoxSpec>,
    /// What a push may bring.
    pub push: PerRepo<push::Settings>,
    /// Knows the secrets that nothing which is stored, shown or pushed may hold.
    pub masks: Masks,
    /// Where spans are given.
    pub traces: Traces,
    /// The dependency caches that boxes are lent.
    pub caches: Option<Caches>,
    /// What is said to agents passes these.
    pub screens: Screens,
    /// How long things are kept.
    pub retention: Retention,
    /// What may be spent.
    pub budgets: Budgets,
    /// How often a live session is looked at.
    pub supervise_interval: Duration,
    /// Seconds between two heartbeats, as told to workers.
    pub heartbeat_interval: Duration,
    /// A session without a heartbeat for this long is lost.
    pub heartbeat_stale: Duration,
    /// A session must attach within this long.
    pub attach_deadline: Duration,
    /// From dispatch to `agent_started`.
    pub hydration_deadline: Duration,
    /// A whole task, from its first session on.
    pub lifetime: PerRepo<Duration>,
    /// Bytes of one tool's output that the model is shown.
    pub tool_output_bytes: PerRepo<usize>,
    /// Finishing, retries included.
    pub finalize_deadline: Duration,
    /// In the queue at most.
    pub queue_backstop: Duration,
    /// One preflight check.
    pub preflight_check: Duration,
    /// The check of a repository of this machine.
    pub local_check: Duration,
    /// Before the next try of a fetch or a start that failed for a passing reason.
    pub retry_pause: Duration,
    /// A lease.
    pub lease: Duration,
    /// Between TERM and KILL.
    pub stop_grace: Duration,
    /// Whether the folders of ended sessions stay.
    pub keep_sessions: KeepSessions,
    /// Attempts at one task when its boxes are lost, the first one included.
    pub attempts_max: PerRepo<u32>,
    /// Wait before the attempt that follows a lost box; doubled for each further one.
    pub lost_backoff: Duration,
    /// Boxes save the work of an agent at work this often; zero is never.
    pub save_interval: Duration,
    /// A cancelled agent has this long to save its work.
    pub cancel_grace: Duration,
    /// An agent whose task is to wait has this long to save its work.
    pub park_grace: Duration,
    /// Build or lint, each.
    pub verify_timeout: Duration,
    /// Author and committer of the work, `Name <mail>`.
    pub git_identity: String,
    /// Harness that boxes run.
    pub harness: String,
}

/// What becomes of the folder of an ended session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepSessions {
    /// Removed after the stop.
    No,
    /// Kept, for a look at the log and the work tree.
    Yes,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            per_user: limit::CONCURRENT_PER_USER_DEFAULT,
            per_repo: limit::CONCURRENT_PER_USER_DEFAULT,
            system: 50,
            tier: IsolationTier::Process,
            tiers: IsolationTier::ALL.to_vec(),
            devcontainer: false,
            boxes: PerRepo::default(),
            push: PerRepo::default(),
            masks: Masks::default(),
            traces: Traces::default(),
            caches: None,
            budgets: Budgets::default(),
            screens: Screens::default(),
            retention: Retention::default(),
            supervise_interval: limit::SUPERVISE_INTERVAL,
            heartbeat_interval: limit::HEARTBEAT_INTERVAL,
            heartbeat_stale: limit::HEARTBEAT_STALE,
            attach_deadline: limit::ATTACH_DEADLINE,
            hydration_deadline: limit::HYDRATION_DEADLINE,
            lifetime: PerRepo::new(limit::TASK_LIFETIME),
            tool_output_bytes: PerRepo::new(limit::TOOL_OUTPUT_MAX_BYTES),
            finalize_deadline: limit::FINALIZE_DEADLINE,
            queue_backstop: limit::QUEUE_BACKSTOP,
            preflight_check: limit::PREFLIGHT_CHECK,
            local_check: limit::LOCAL_CHECK,
            retry_pause: Duration::from_secs(2),
            lease: limit::LEASE,
            stop_grace: Duration::from_secs(5),
            keep_sessions: KeepSessions::No,
            attempts_max: PerRepo::new(limit::ATTEMPTS_DEFAULT),
            lost_backoff: limit::LOST_BACKOFF,
            save_interval: limit::SAVE_INTERVAL,
            cancel_grace: limit::CANCEL_GRACE,
            park_grace: limit::PARK_GRACE,
            verify_timeout: limit::VERIFY_TIMEOUT,
            git_identity: "bgagent <bgagent@localhost>".into(),
            harness: "native".into(),
        }
    }
}

impl Policy {
    /// The tier of a task's box.
    pub fn tier_of(&self, spec: &TaskSpec) -> IsolationTier {
        spec.isolation.unwrap_or(self.tier)
    }

    /// What the next box on `repo` is made of.
    pub fn plan(&self, repo: &RepoRef) -> BoxSpec {
        let plan = self.boxes.of(repo).clone();
        let cache = self.caches.as_ref().and_then(|caches| caches.current(repo));
        BoxSpec { cache: plan.cache.clone().or(cache), ..plan }
    }

    /// The scopes that a task takes a slot in.
    pub fn scopes(&self, user: &UserId, repo: &RepoRef) -> Vec<ScopeLimit> {
        vec![
            ScopeLimit { scope: Scope::User(user.clone()), limit: self.per_user },
            ScopeLimit { scope: Scope::Repo(repo.clone()), limit: self.per_repo },
            ScopeLimit { scope: Scope::System, limit: self.system },
        ]
    }
}
