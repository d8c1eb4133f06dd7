//! Named places at which a test kills the control plane, to prove that a restart carries on.
//!
//! `BGAGENT_FAULT_POINT=dispatch.started` (or `dispatch.started:3` for its third pass) makes the process kill itself
//! with SIGKILL there. Whoever can set a server's environment can stop it anyway, so the points are in every build.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Every point, in the order a task passes them.
pub const POINTS: [&str; 16] = [
    "submit.before",
    "submit.committed",
    "admit.before",
    "admit.committed",
    "preflight.passed",
    "dispatch.opened",
    "dispatch.started",
    "dispatch.committed",
    "running.committed",
    "report.committed",
    "finish.pushed",
    "finish.opened",
    "finish.committed",
    "stop.done",
    "trace.stored",
    "trace.sealed",
];

struct Armed {
    point: String,
    passes_left: AtomicU32,
}

static ARMED: OnceLock<Armed> = OnceLock::new();

/// Arms one point, once in a process's life. `Err` names the points there are.
pub fn arm(spec: &str) -> Result<(), String> {
    let (point, pass) = spec.split_once(':').unwrap_or((spec, "1"));
    let pass: u32 = pass.parse().map_err(|_| format!("fault point {spec:?}: the pass must be a number"))?;
    if !POINTS.contains(&point) {
        return Err(format!("there is no fault point {point:?}; there are: {}", POINTS.join(", ")));
    }
    let _ = ARMED.set(Armed { point: point.to_owned(), passes_left: AtomicU32::new(pass.max(1)) });
    Ok(())
}

/// Passes a point: dies there when it is armed.
pub fn point(name: &'static str) {
    debug_assert!(POINTS.contains(&name), "unlisted fault point {name}");
    if let Some(armed) = ARMED.get()
        && armed.point == name
        && armed.passes_left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    }
}
