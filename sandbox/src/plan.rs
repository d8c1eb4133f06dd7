//! What a box is made of, as data.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use domain::BoxLimits;

/// A folder or file of the host that is shown in the box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// On the host.
    pub from: PathBuf,
    /// In the box; absolute.
    pub to: PathBuf,
}

/// One box. Paths `from` are the host's, paths `to` the box's.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Folder of the host that belongs to this box alone (0700): the monitor makes the roots and the writable folders
    /// of the box below it. See [`crate::layout`] for its layout.
    pub dir: PathBuf,
    /// The server's folder of state, which no layer is shown, wherever it lies.
    pub state: Option<PathBuf>,
    /// Host name in the box.
    pub name: String,
    /// Shown to the worker, read-only: the gateway's socket folder is one of them (a socket can be connected to on a
    /// read-only mount, but not replaced). Only what is shown at [`crate::layout::SESSION`] is writable; without such a
    /// bind the folder `session` of [`Plan::dir`] is shown there.
    pub worker_binds: Vec<Bind>,
    /// Shown to the tools, read-only, beside the system's folders and the toolchains found on `PATH` (the mirror's
    /// objects).
    pub read_only: Vec<Bind>,
    /// Lower folder of the dependency cache, shown at `/box/cache` below a private upper one.
    pub cache: Option<PathBuf>,
    /// Environment of the tools; the monitor adds what the box itself decides (`HOME`, `TMPDIR`, the proxy).
    pub env: Vec<(OsString, OsString)>,
    /// Bounds.
    pub limits: BoxLimits,
}

impl Plan {
    /// A variable of the tools' environment.
    pub fn env_of(&self, name: &str) -> Option<&OsStr> {
        self.env.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_os_str())
    }
}
