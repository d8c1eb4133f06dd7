//! The worker's end of the line to the tools' first process: starts commands there, waits for them, signals them.

use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// The tools' layer, as the worker sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ToolBox {}

/// A command to start there. Its environment is exactly `env`.
#[derive(Debug)]
pub struct Command {
    /// Name, looked up in `PATH` of `env`, or a path.
    pub program: OsString,
    /// Arguments after the name.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Where, as the tools see it.
    pub dir: PathBuf,
    /// Its input; nothing when absent.
    pub stdin: Option<OwnedFd>,
    /// Its output.
    pub stdout: OwnedFd,
    /// Its error output.
    pub stderr: OwnedFd,
}

/// A command that was started; it leads its own process group. Dropping this kills the group.
#[derive(Debug)]
pub struct Child {}

/// How a command ended, as shells count: 128 + n for signal n.
pub type Code = i32;

impl ToolBox {
    /// Takes the line over. Gives the listener on `127.0.0.1` that the tools' first process made in its own network
    /// namespace: what connects to it there is accepted here.
    pub async fn connect(line: OwnedFd) -> io::Result<(ToolBox, TcpListener)> {
        drop(line);
        Err(io::Error::other("not built yet"))
    }

    /// The environment that the box decides (`HOME`, `TMPDIR`, `PATH`, the proxy variables …).
    pub fn environment(&self) -> &[(OsString, OsString)] {
        &[]
    }

    /// Whether a released group has members.
    pub fn alive(&self, group: i32) -> bool {
        let _ = group;
        false
    }

    /// Kills a released group.
    pub fn kill_group(&self, group: i32) {
        let _ = group;
    }

    /// Starts a command. An error is that of `execve` (`NotFound`, `PermissionDenied`), or of the line.
    pub async fn spawn(&self, command: Command) -> io::Result<Child> {
        drop(command);
        Err(io::Error::other("not built yet"))
    }
}

impl Child {
    /// Names the command to [`Child::signal`]'s group; unique in the box.
    pub fn group(&self) -> i32 {
        0
    }

    /// Waits until it ended.
    pub async fn wait(&mut self) -> io::Result<Code> {
        Err(io::Error::other("not built yet"))
    }

    /// Sends a signal to its process group.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let _ = signal;
    }

    /// Lets it go on when this is dropped; returns its group.
    pub fn release(self) -> i32 {
        0
    }
}
