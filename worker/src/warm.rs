//! Filling a dependency cache: the owner's commands in a box of the repository, without an agent and without a gateway.
//!
//! Whoever starts this has made a folder with `warm.json`, and takes connections at the socket that it names: each is a
//! tool's, as it comes. What the commands leave in the cache is in the box's folder when this ends.

use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use nix::sys::signal::Signal;
use sandbox::{Upper, layout};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::boxed::{self, Seat};
use crate::claim::SessionFile;
use crate::client::Address;
use crate::job::{Job, Way};
use crate::launch::{Launcher, Start};

/// The file that says what to do, in the folder.
pub const FILE: &str = "warm.json";
/// Connections at once; the next ones wait until one ends.
const CONNECTIONS_MAX: usize = 128;
/// Fills the work tree from the mirror's objects, which are lent.
const CHECK_OUT: &str =
    "git init --quiet . && echo \"$1\" > .git/objects/info/alternates && git reset --quiet --hard \"$2\"";

/// What to do.
#[derive(Debug, Deserialize)]
struct Warm {
    /// What the box is made of. Its task is nobody's.
    session: SessionFile,
    work: Work,
}

/// What is done in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Work {
    /// Commit of the work tree.
    commit: String,
    /// Lines for a shell, one after the other; the first that fails ends it.
    commands: Vec<String>,
}

/// Builds the box in `dir` and runs the commands in it. Ends with the code of the one that failed. Call it before the
/// process has other threads.
pub fn warm(dir: &Path) -> ExitCode {
    match build(dir) {
        Ok(code) => ExitCode::from(code),
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn build(dir: &Path) -> Result<u8, String> {
    let file = dir.join(FILE);
    let told = std::fs::read(&file).map_err(|e| format!("reading {}: {e}", file.display()))?;
    let Warm { session, work } =
        serde_json::from_slice(&told).map_err(|e| format!("reading {}: {e}", file.display()))?;
    let plan = boxed::plan(&session, dir, std::env::vars_os())?;
    let seat = Seat::without_task(&session)?;
    let payload = || Ok(serde_json::to_vec(&work)?);
    sandbox::run_box(&plan, payload, |upper, work| in_the_box(upper, seat, &work))
        .map_err(|e| format!("{e}: {}", e.source))
}

/// In the worker's layer.
fn in_the_box(upper: Upper, seat: Seat, work: &[u8]) -> u8 {
    let worked = serde_json::from_slice(work).map_err(io::Error::from).and_then(|work: Work| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let code = runtime.block_on(run(upper, seat, work));
        runtime.shutdown_background();
        code
    });
    worked.unwrap_or_else(|failure| {
        eprintln!("the commands cannot be run in the box: {failure}");
        1
    })
}

async fn run(upper: Upper, seat: Seat, work: Work) -> io::Result<u8> {
    let gateway: Address = seat.gateway.parse().map_err(io::Error::other)?;
    let Address::Unix(socket) = gateway else { return Err(io::Error::other("the way out must be a socket")) };
    let job = Job::boxed(seat, upper.tools, None).await?;
    let Way::Tunnelled(listener) = job.way else { return Err(io::Error::other("the box has no way out")) };
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let commands = async {
        let check_out = [CHECK_OUT, "sh", layout::OBJECTS, work.commit.as_str()];
        let code = shell(&job.launcher, &check_out).await?;
        if code != 0 {
            return Ok(code);
        }
        for command in &work.commands {
            eprintln!("$ {command}");
            let code = shell(&job.launcher, &[command, "sh"]).await?;
            if code != 0 {
                return Ok(code);
            }
        }
        Ok(0)
    };
    tokio::select! {
        code = commands => code,
        () = carry(listener, socket) => unreachable!("it goes on for ever"),
    }
}

/// One line, with this process's output as its own.
async fn shell(launcher: &Launcher, words: &[&str]) -> io::Result<u8> {
    let start = Start {
        program: "/bin/sh".into(),
        args: ["-c"].iter().chain(words).map(Into::into).collect(),
        env: launcher.environment().variables().to_vec(),
        dir: layout::REPO.into(),
        stdin: None,
        stdout: io::stdout().as_fd().try_clone_to_owned()?,
        stderr: io::stderr().as_fd().try_clone_to_owned()?,
    };
    let mut running = launcher.start(start).await?;
    let code = running.wait().await?;
    running.signal(Signal::SIGKILL);
    Ok(u8::try_from(code).unwrap_or(1))
}

/// Carries every connection of a tool to the socket.
async fn carry(listener: TcpListener, socket: PathBuf) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut pipes = JoinSet::new();
    loop {
        // Never closed, so there is always a permit to come.
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Ok((mut near, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        while pipes.try_join_next().is_some() {}
        let socket = socket.clone();
        pipes.spawn(async move {
            if let Ok(mut far) = UnixStream::connect(&socket).await {
                // Either side may break off: that is the tool's to tell.
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            }
            drop(permit);
        });
    }
}
