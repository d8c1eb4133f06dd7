//! Spawns workers and reaps them.
//!
//! Each worker has one small thread of its own, which spawns it and then does nothing but wait for it. It needs no
//! runtime, so no zombie is left while one shuts down, and it never holds a process up from ending: a control plane
//! that ends leaves its workers running, and the system's first process inherits them.

use std::io;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::sync::{oneshot, watch};

/// Enough for `waitpid` and for writing one small file.
const STACK_BYTES: usize = 256 * 1024;

/// What the reaper knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChildState {
    Running,
    /// Ended and reaped; without a code when somebody else had reaped it.
    Ended(Option<i32>),
}

/// A worker that this process started.
#[derive(Debug, Clone)]
pub(super) struct Child {
    pub(super) pid: i32,
    state: watch::Receiver<ChildState>,
}

impl Child {
    pub(super) fn state(&self) -> ChildState {
        *self.state.borrow()
    }

    /// Waits until it is reaped.
    pub(super) async fn ended(&self) -> Option<i32> {
        let mut state = self.state.clone();
        let last = match state.wait_for(|s| matches!(s, ChildState::Ended(_))).await {
            Ok(seen) => *seen,
            Err(_reaper_gone) => ChildState::Ended(None),
        };
        match last {
            ChildState::Ended(code) => code,
            ChildState::Running => None,
        }
    }
}

/// Spawns `command`; `on_exit(pid, code)` runs on the reaper's thread as soon as it has ended and before it is reaped:
/// who sees its process gone sees all that `on_exit` did.
pub(super) async fn spawn(
    mut command: Command,
    on_exit: impl FnOnce(i32, i32) + Send + 'static,
) -> io::Result<Child> {
    let (tell, told) = oneshot::channel();
    let (state_in, state) = watch::channel(ChildState::Running);
    std::thread::Builder::new().name("worker-reaper".into()).stack_size(STACK_BYTES).spawn(move || {
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                // The caller may have gone away meanwhile; nothing was started, so nothing is lost.
                drop(tell.send(Err(error)));
                return;
            }
        };
        // Closes our copy of the log file.
        drop(command);
        let pid = child.id().cast_signed();
        // A caller that went away does not stop the worker: the next `start` finds it.
        drop(tell.send(Ok(pid)));
        let code = await_end(pid);
        if let Some(code) = code {
            on_exit(pid, code);
        }
        if let Err(error) = child.wait() {
            tracing::warn!(%error, process.pid = pid, "a worker could not be reaped");
        }
        state_in.send_replace(ChildState::Ended(code));
    })?;
    let pid = told.await.map_err(|_| io::Error::other("the thread that spawns the worker died"))??;
    Ok(Child { pid, state })
}

/// Waits until the child has ended and leaves it to be reaped; its code as shells count it (128 + signal for one that
/// was killed), `None` when somebody else reaped it.
fn await_end(pid: i32) -> Option<i32> {
    let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    loop {
        match waitid(Id::Pid(Pid::from_raw(pid)), ended) {
            Ok(WaitStatus::Exited(_, code)) => return Some(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Some(128 + signal as i32),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => {
                tracing::warn!(%error, process.pid = pid, "a worker's end could not be waited for");
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn code(script: &str) -> Option<i32> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        spawn(command, |_, _| ()).await.unwrap().ended().await
    }

    #[tokio::test]
    async fn codes_are_counted_as_shells_do() {
        assert_eq!(code("exit 7").await, Some(7));
        assert_eq!(code("kill -KILL $$").await, Some(137));
    }

    #[tokio::test]
    async fn its_code_is_told_while_its_process_is_still_there() {
        let (tell, told) = std::sync::mpsc::channel();
        let child = spawn(Command::new("true"), move |pid, code| {
            tell.send((code, super::super::proc::read(pid).unwrap().map(|p| p.life))).unwrap();
        });
        child.await.unwrap().ended().await;
        assert_eq!(told.recv(), Ok((0, Some(super::super::proc::Life::Ended))));
    }

    #[tokio::test]
    async fn a_missing_program_is_an_error_and_no_child() {
        let error = spawn(Command::new("/no/such/program"), |_, _| ()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn an_ended_child_leaves_no_zombie() {
        let child = spawn(Command::new("true"), |_, _| ()).await.unwrap();
        child.ended().await;
        let left = super::super::proc::read(child.pid).unwrap();
        assert!(left.is_none_or(|p| p.ppid.cast_unsigned() != std::process::id()));
    }
}
