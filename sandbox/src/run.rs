//! Building a box and running the worker in it.

use std::os::fd::OwnedFd;

use crate::Plan;

/// What the worker finds in its layer.
#[derive(Debug)]
pub struct Upper {
    /// Stream socket to the tools' first process: see [`crate::tools::ToolBox::connect`].
    pub tools: OwnedFd,
    /// Stream socket on which the monitor tells of limits that were reached.
    pub monitor: OwnedFd,
}

/// Why there is no box.
#[derive(Debug, thiserror::Error)]
#[error("building the box: {doing}")]
pub struct BoxError {
    /// The step and its object.
    pub doing: String,
    /// What went wrong beneath.
    #[source]
    pub source: std::io::Error,
}

/// Builds the box and runs `worker` in its upper layer, in a forked process; returns its exit code when the box is
/// gone. `payload` is called in the monitor once both layers stand, and its bytes are handed to `worker` through a
/// pipe: so a secret that it reads was never in the memory of the tools' layer.
///
/// Call it before the process has other threads.
pub fn run_box(
    plan: &Plan,
    payload: impl FnOnce() -> std::io::Result<Vec<u8>>,
    worker: impl FnOnce(Upper, Vec<u8>) -> u8,
) -> Result<u8, BoxError> {
    let _ = (plan, payload, worker);
    Err(BoxError { doing: "starting".into(), source: std::io::Error::other("not built yet") })
}
