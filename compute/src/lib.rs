//! Places that can run a box. One seam, [`ComputeBackend`]; one file for each backend; one [`conformance`] suite that
//! every backend passes.
//!
//! A backend starts `bgagent worker` somewhere, says what it sees, stops it, and interprets nothing: what an ended
//! process means for a task is the orchestrator's to decide.

pub mod cache;
pub mod conformance;
pub mod container;
pub mod fake;
pub mod local;
pub mod router;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use domain::{Attempt, BoxLimits, IsolationTier, SessionHandle, TaskId};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// What a box is started with: where the gateway is, whose box it is, and the one-time token it attaches with.
#[derive(Debug, Clone)]
pub struct SessionSpec {
    /// The task to work at.
    pub task: TaskId,
    /// The attempt; with `task` it makes `start` idempotent.
    pub attempt: Attempt,
    /// Address of the gateway: `unix:/path/to/socket` or `http://host:port`.
    pub gateway: String,
    /// Exchanged for a session token at attach. Handed over in a file or an API field, never in argv or environment.
    pub bootstrap_token: SecretString,
    /// The tier asked for.
    pub tier: IsolationTier,
    /// What the box is made of.
    pub plan: BoxSpec,
}

/// What a box is made of and may use, beside what every box gets. Holds no secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BoxSpec {
    /// Bounds.
    pub limits: BoxLimits,
    /// Folders of the host that tools may read, beside the system's and the toolchains'.
    pub read: Vec<PathBuf>,
    /// Objects of the repository's mirror, lent to the work tree read-only instead of being copied.
    pub objects: Option<PathBuf>,
    /// The repository's dependency cache: the lower, read-only layer.
    pub cache: Option<PathBuf>,
    /// Image of the box's containers, as the operator names it; the backend's own when absent.
    pub image: Option<String>,
    /// Image that the repository names itself, for the tools alone: the worker, which has the token, never runs in it.
    pub tools_image: Option<String>,
    /// Environment of the tools: where package managers find this site's registries. Never a secret.
    pub env: Vec<(String, String)>,
    /// The package managers whose registries the box may reach, by the name of their group in `egress.allow`.
    pub registries: Vec<String>,
    /// Files that the tools find at their start: absolute path in the box, below the home or the cache, and text.
    /// They belong to the tools, which may change them. Never a secret.
    pub files: Vec<(PathBuf, String)>,
    /// Certificates that the tools trust: a file of the host, shown at [`CA_FILE`].
    pub ca: Option<PathBuf>,
}

/// Where a box has its certificates.
pub const CA_FILE: &str = "/box/ca.pem";

/// What a backend sees of a session, in words that fit every backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionStatus {
    /// It runs.
    Running,
    /// It has ended (or is gone); with the exit code where one is known.
    Ended {
        /// Exit code; 128 + signal for a killed process; `None` when nobody saw it end.
        code: Option<i32>,
        /// The end of what it wrote to its error output, cut at 4 KiB, control characters removed.
        tail: String,
    },
}

/// How a stop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopOutcome {
    /// It ran and was stopped; nothing of its process tree is left.
    Stopped,
    /// There was nothing left to stop.
    AlreadyGone,
}

/// What a backend could not do. The variants are what a caller branches on.
#[derive(Debug, thiserror::Error)]
pub enum ComputeError {
    /// The same request may succeed later: throttled, briefly unavailable, no capacity.
    #[error("{doing}: temporarily unavailable")]
    Unavailable {
        /// The operation and its object, e.g. `starting the session of 01H… attempt 1`.
        doing: String,
        /// What went wrong beneath.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The backend refused: a person must change a permission or a setting.
    #[error("{doing}: denied")]
    Denied {
        /// The operation and its object.
        doing: String,
        /// What went wrong beneath.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The request cannot work as it is (the tier is not to be had here, the program is missing).
    #[error("{doing}: {reason}")]
    Unsupported {
        /// The operation and its object.
        doing: String,
        /// Why, and what to do.
        reason: String,
    },
}

/// One place that can run boxes.
#[async_trait]
pub trait ComputeBackend: Send + Sync + fmt::Debug {
    /// The backend's name in configuration, handles and events.
    fn name(&self) -> &'static str;

    /// Whether `tier` can be enforced here; `Err` says why not and what to install or change.
    fn supports(&self, tier: IsolationTier) -> Result<(), String>;

    /// Starts the box of (task, attempt), or finds the one that was started before: a caller that crashed between
    /// `start` and its own commit calls again and gets the same session, never a second one.
    async fn start(&self, spec: &SessionSpec) -> Result<SessionHandle, ComputeError>;

    /// What the backend sees now.
    async fn poll(&self, handle: &SessionHandle) -> Result<SessionStatus, ComputeError>;

    /// Ends the whole process tree: asks first (TERM), waits up to `grace`, then forces (KILL). Safe to repeat.
    async fn stop(&self, handle: &SessionHandle, grace: Duration) -> Result<StopOutcome, ComputeError>;

    /// Every session of this backend that may still hold compute, whoever started it.
    async fn list_sessions(&self) -> Result<Vec<SessionHandle>, ComputeError>;

    /// Removes what an ended session left behind (folders, logs). Never called for a session that runs.
    async fn purge(&self, handle: &SessionHandle) -> Result<(), ComputeError>;
}
