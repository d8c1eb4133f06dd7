//! Names: of the folders below [`Plan::dir`](crate::Plan) on the host, and of the places in the box that show them.

use std::path::{Path, PathBuf};

/// The work tree, in the box.
pub const REPO: &str = "/box/repo";
/// The tree of the base commit, in the box.
pub const BASELINE: &str = "/box/baseline";
/// The dependency cache, in the tools' layer.
pub const CACHE: &str = "/box/cache";
/// The cache that other tasks share, read-only, in the tools' layer where no overlay could be had.
pub const CACHE_LOWER: &str = "/box/cache-shared";
/// What the box added to the cache, read-only, in the tools' container where an engine made the overlay.
pub const CACHE_UPPER: &str = "/box/cache-upper";
/// The mirror's objects, read-only, in the tools' layer.
pub const OBJECTS: &str = "/box/objects";
/// The tools' home.
pub const HOME: &str = "/home/agent";
/// The worker's private folder, in its layer only.
pub const SESSION: &str = "/session";

/// The tools' name.
pub const USER: &str = "agent";
/// User and group of both layers, as seen in the box.
pub const INNER_ID: u32 = 1_000;
/// User and group of both layers on the host when the server runs as root: it has no name, owns nothing and lies above
/// the ranges that containers are given. An ordinary user's box runs as that user.
pub const OUTER_ID: u32 = 1_900_000_000;

/// Where the tools find the way out, on loopback of their own network namespace.
pub const PROXY_PORT: u16 = 3_128;

/// The folders of one box on the host.
#[derive(Debug, Clone, Copy)]
pub struct Folders<'a>(pub &'a Path);

impl Folders<'_> {
    /// Shown at [`REPO`].
    pub fn repo(self) -> PathBuf {
        self.0.join("repo")
    }

    /// Shown at [`BASELINE`].
    pub fn baseline(self) -> PathBuf {
        self.0.join("baseline")
    }

    /// Shown at [`HOME`].
    pub fn home(self) -> PathBuf {
        self.0.join("home")
    }

    /// Shown at `/tmp`.
    pub fn tmp(self) -> PathBuf {
        self.0.join("tmp")
    }

    /// Shown at `/var/tmp`.
    pub fn var_tmp(self) -> PathBuf {
        self.0.join("var-tmp")
    }

    /// Shown at [`SESSION`], to the worker alone.
    pub fn session(self) -> PathBuf {
        self.0.join("session")
    }

    /// What the box added to the dependency cache.
    pub fn cache_upper(self) -> PathBuf {
        self.0.join("cache/upper")
    }

    pub(crate) fn cache_work(self) -> PathBuf {
        self.0.join("cache/work")
    }

    pub(crate) fn cache_merged(self) -> PathBuf {
        self.0.join("cache/merged")
    }

    pub(crate) fn root(self, layer: Layer) -> PathBuf {
        self.0.join(match layer {
            Layer::Worker => "root/worker",
            Layer::Tools => "root/tools",
        })
    }

    /// Those that both layers, or the tools alone, can fill; the dependency cache is bounded apart.
    pub fn tree(self) -> [PathBuf; 5] {
        [self.repo(), self.baseline(), self.home(), self.tmp(), self.var_tmp()]
    }
}

/// Bytes that saving the work of a box may take beyond what its tools have filled, given the bound of its disk: git
/// keeps changed files once more.
pub fn saving_reserve(bound: u64) -> u64 {
    (bound / 2).max(256 * 1024 * 1024)
}

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    Worker,
    Tools,
}

impl Layer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Layer::Worker => "worker's layer",
            Layer::Tools => "tools' layer",
        }
    }
}
