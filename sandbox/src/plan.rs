//! What a box is made of, as data.

use std::ffi::OsString;
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
    /// of the box below it. See [`crate::run`] for its layout.
    pub dir: PathBuf,
    /// Host name in the box.
    pub name: String,
    /// Shown to the worker, writable. The gateway's socket folder is one of them.
    pub worker_binds: Vec<Bind>,
    /// Shown to the tools, read-only, beside the system's folders (toolchains, the mirror's objects).
    pub read_only: Vec<Bind>,
    /// Lower folder of the dependency cache, shown at `/box/cache` below a private upper one.
    pub cache: Option<PathBuf>,
    /// Environment of the tools; the monitor adds what the box itself decides (`HOME`, `TMPDIR`, the proxy).
    pub env: Vec<(OsString, OsString)>,
    /// Bounds.
    pub limits: BoxLimits,
}
