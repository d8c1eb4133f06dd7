//! What the monitor tells the worker: a limit that was reached, one line of JSON each.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Memory of all processes of the tools.
    Memory,
    /// Their number.
    Processes,
    /// The work tree, the home and `/tmp`, or the file system that they are on.
    Disk,
    /// What was added to the dependency cache.
    Cache,
}

/// What the worker tells whoever keeps its limits, one line each: what is going on now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Commands run, of the agent or of the repository.
    Working,
    /// The worker commits and pushes, and no command runs: then the disk has a reserve.
    Saving,
}

impl Phase {
    /// As it goes over the line, its end included.
    pub fn line(self) -> &'static str {
        match self {
            Phase::Working => "working\n",
            Phase::Saving => "saving\n",
        }
    }

    /// The last whole line of what came, if it is one of these.
    pub(crate) fn last(said: &str) -> Option<Phase> {
        let whole = said.rsplit_once('\n')?.0;
        [Phase::Working, Phase::Saving]
            .into_iter()
            .find(|phase| whole.rsplit('\n').next() == Some(phase.line().trim_end()))
    }
}

/// A limit was reached, and processes were ended for it; or it is near, by no fault of theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Which.
    pub limit: Limit,
    /// How much of how much.
    pub detail: String,
    /// Ending the processes did not help: the task must end.
    #[serde(default)]
    pub fatal: bool,
    /// Nothing was ended: others are to blame, and the box is told what comes.
    #[serde(default)]
    pub spared: bool,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::Memory => "memory",
            Limit::Processes => "process",
            Limit::Disk => "disk",
            Limit::Cache => "cache",
        })
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.spared { "is near" } else { "reached" };
        write!(f, "the box {how} its {} limit: {}", self.limit, self.detail)
    }
}

impl Notice {
    /// As it goes over the line, its end included.
    pub fn line(&self) -> String {
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }

    /// Reads a line; `None` when it is none.
    pub fn parse(line: &str) -> Option<Notice> {
        serde_json::from_str(line.trim_end()).ok()
    }
}
