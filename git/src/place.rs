//! Where a command is started: beside this process, or in a place that has programs and files of its own (a box).
//!
//! In another place nothing of this process's environment is passed on, and no credential should be: whoever rules
//! there can read it.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

/// Starts git in another place.
#[async_trait]
pub trait Spawn: Send + Sync + fmt::Debug {
    /// The environment of that place; a command gets of it what [`harden::PASSED_ON`](crate::harden::PASSED_ON) names.
    fn environment(&self) -> Vec<(OsString, OsString)>;

    /// Starts it. An error is that of `execve`, or of the way there.
    async fn spawn(&self, start: Start) -> io::Result<Box<dyn Running>>;
}

/// A command that runs in another place. Dropping it ends the command and all that it started.
#[async_trait]
pub trait Running: Send {
    /// Waits until it ended; 128 + n for signal n.
    async fn wait(&mut self) -> io::Result<i32>;
}

/// What is to be started there.
#[derive(Debug)]
pub struct Start {
    /// Name, to be looked up in `PATH` of `env`.
    pub program: OsString,
    /// Arguments after the name.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Where, as that place names it; its root when absent.
    pub dir: Option<PathBuf>,
    /// Its input.
    pub stdin: OwnedFd,
    /// Its output.
    pub stdout: OwnedFd,
    /// Its error output.
    pub stderr: OwnedFd,
}

/// A folder, and the place that its commands are started in.
#[derive(Debug, Clone)]
pub struct At {
    pub(crate) dir: PathBuf,
    pub(crate) via: Option<Arc<dyn Spawn>>,
}

impl At {
    /// A folder of that place; of this machine when there is none.
    pub fn new(dir: impl AsRef<Path>, via: Option<Arc<dyn Spawn>>) -> At {
        At { dir: dir.as_ref().to_owned(), via }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl<P: AsRef<Path>> From<P> for At {
    fn from(dir: P) -> At {
        At::new(dir, None)
    }
}
