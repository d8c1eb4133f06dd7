//! One box for one attempt: how compute backends name it, and what is recorded of it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::id::{Attempt, TaskId};

/// What a box is kept in. Recorded on every session and in its first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IsolationTier {
    /// An ordinary process of the same user: isolates NOTHING. The agent can read what the server's user can read.
    Process,
    /// Linux namespaces, Landlock and seccomp; two layers; no network but the gateway.
    Sandbox,
    /// Containers of Docker or Podman; two layers; no network but the gateway.
    Container,
    /// A virtual machine of its own for each box. Named, not built: no backend offers it.
    Microvm,
}

impl std::str::FromStr for IsolationTier {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = IsolationTier::ALL.map(IsolationTier::as_str).join(", ");
        let tier = IsolationTier::ALL.into_iter().find(|tier| tier.as_str() == text);
        tier.ok_or_else(|| format!("isolation must be one of {names}; got {text:?}"))
    }
}

impl IsolationTier {
    /// Every tier, the weakest first.
    pub const ALL: [IsolationTier; 4] =
        [IsolationTier::Process, IsolationTier::Sandbox, IsolationTier::Container, IsolationTier::Microvm];

    /// The name used in configuration, events and output.
    pub fn as_str(self) -> &'static str {
        match self {
            IsolationTier::Process => "process",
            IsolationTier::Sandbox => "sandbox",
            IsolationTier::Container => "container",
            IsolationTier::Microvm => "microvm",
        }
    }

    /// What this tier keeps apart, in a sentence for people.
    pub fn explain(self) -> &'static str {
        match self {
            IsolationTier::Process => {
                "no isolation: the agent runs as an ordinary process of this user and can reach its files and network"
            }
            IsolationTier::Sandbox => {
                "namespaces, Landlock and seccomp: the agent sees the work tree, the system's programs read-only, and no network \
                 but what the gateway allows"
            }
            IsolationTier::Container => {
                "containers without network: the agent sees the work tree and its image, and no network but what the gateway allows"
            }
            IsolationTier::Microvm => "a virtual machine of its own",
        }
    }
}

/// Names a session so that `stop` needs nothing else. A tagged union, one variant per backend, stored as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "backend", rename_all = "snake_case")]
pub enum SessionHandle {
    /// A process tree of this machine.
    Local {
        /// The task it works at.
        task: TaskId,
        /// The attempt it is for.
        attempt: Attempt,
        /// The session's own folder; its name is `<task>-<attempt>`.
        dir: PathBuf,
        /// Process id of the worker, which leads its process group and session.
        pid: i32,
        /// Start time of that process in clock ticks since boot (`/proc/<pid>/stat` field 22), so that a reused
        /// process id is not mistaken for it.
        start_ticks: u64,
        /// The tier it was started in.
        tier: IsolationTier,
    },
    /// Two containers of a Docker-compatible engine: the worker's and the tools'.
    Container {
        /// The task it works at.
        task: TaskId,
        /// The attempt it is for.
        attempt: Attempt,
        /// The session's own folder on the host.
        dir: PathBuf,
        /// The engine's id of the worker's container.
        worker: String,
        /// The engine's id of the tools' container.
        tools: String,
    },
    /// A session of the test double.
    Fake {
        /// The task it works at.
        task: TaskId,
        /// The attempt it is for.
        attempt: Attempt,
    },
}

impl SessionHandle {
    /// The task this session works at.
    pub fn task(&self) -> TaskId {
        match self {
            SessionHandle::Local { task, .. }
            | SessionHandle::Container { task, .. }
            | SessionHandle::Fake { task, .. } => *task,
        }
    }

    /// The attempt this session is for.
    pub fn attempt(&self) -> Attempt {
        match self {
            SessionHandle::Local { attempt, .. }
            | SessionHandle::Container { attempt, .. }
            | SessionHandle::Fake { attempt, .. } => *attempt,
        }
    }

    /// The tier the box was started in.
    pub fn tier(&self) -> IsolationTier {
        match self {
            SessionHandle::Local { tier, .. } => *tier,
            SessionHandle::Container { .. } => IsolationTier::Container,
            SessionHandle::Fake { .. } => IsolationTier::Process,
        }
    }

    /// The backend's name.
    pub fn backend(&self) -> &'static str {
        match self {
            SessionHandle::Local { .. } => "local",
            SessionHandle::Container { .. } => "container",
            SessionHandle::Fake { .. } => "fake",
        }
    }

    /// The session's id as shown to people and clients (`session_id` of the wire).
    pub fn session_id(&self) -> String {
        format!("{}-{}-{}", self.backend(), self.task(), self.attempt())
    }
}
