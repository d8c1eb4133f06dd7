//! The two roots, as lists of what they hold, and making them: on a small tmpfs that is read-only in the end.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Component, Path, PathBuf};

use nix::mount::{MsFlags, mount};

use crate::layout::{self, Folders, Layer};
use crate::plan::Bind;
use crate::run::{BoxError, Doing};
use crate::sys::{self, Show};
use crate::toolchain::{SYSTEM, Toolchains};
use crate::{Plan, cover, etc};

/// One thing in a root; `at` is its path in the box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Dir {
        at: PathBuf,
    },
    Link {
        at: PathBuf,
        to: PathBuf,
    },
    Text {
        at: PathBuf,
        text: String,
    },
    Copy {
        at: PathBuf,
        from: PathBuf,
    },
    Bind {
        at: PathBuf,
        from: PathBuf,
        show: Show,
    },
    /// Memory that the tools may fill, bounded.
    Memory {
        at: PathBuf,
        mib: u64,
    },
    /// A private set of pseudo terminals.
    Terminals {
        at: PathBuf,
    },
    /// Nothing, in the place of what is shown there: an empty folder, or an empty file. What is shown below it is said
    /// later in the list.
    Cover {
        at: PathBuf,
    },
}

impl Item {
    pub(crate) fn dir(at: &str) -> Item {
        Item::Dir { at: at.into() }
    }

    fn bind(from: impl Into<PathBuf>, at: impl Into<PathBuf>, show: Show) -> Item {
        Item::Bind { at: at.into(), from: from.into(), show }
    }

    pub(crate) fn at(&self) -> &Path {
        match self {
            Item::Dir { at }
            | Item::Link { at, .. }
            | Item::Text { at, .. }
            | Item::Copy { at, .. }
            | Item::Bind { at, .. }
            | Item::Memory { at, .. }
            | Item::Terminals { at }
            | Item::Cover { at } => at,
        }
    }
}

/// Where the dependency cache comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cache {
    /// An overlay, mounted there.
    Overlay(PathBuf),
    /// A private folder; what is shared is beside it, read-only.
    Beside { private: PathBuf, shared: Option<PathBuf> },
}

/// What the tools see; `hidden` are the server's folders within the system's.
pub(crate) fn of_tools(plan: &Plan, toolchains: &Toolchains, cache: &Cache, hidden: &[PathBuf]) -> Vec<Item> {
    let folders = Folders(&plan.dir);
    let mut items = system(hidden);
    items.extend(etc::items(Layer::Tools, &plan.name, Path::new("/etc")));
    items.extend(devices());
    items.push(Item::Terminals { at: "/dev/pts".into() });
    let memory = if plan.limits.memory_mib == 0 { 2_048 } else { (plan.limits.memory_mib / 2).max(1) };
    items.push(Item::Memory { at: "/dev/shm".into(), mib: memory });
    items.extend(toolchains.folders.iter().map(|f| Item::bind(f, f, Show::ReadOnly)));
    items.extend(cover::settings(toolchains).into_iter().map(|at| Item::Cover { at }));
    items.push(Item::dir("/run"));
    for (from, at) in [
        (folders.tmp(), "/tmp"),
        (folders.var_tmp(), "/var/tmp"),
        (folders.home(), layout::HOME),
        (folders.repo(), layout::REPO),
        (folders.baseline(), layout::BASELINE),
    ] {
        items.push(Item::bind(from, at, Show::Writable));
    }
    match cache {
        Cache::Overlay(merged) => items.push(Item::bind(merged, layout::CACHE, Show::Writable)),
        Cache::Beside { private, shared } => {
            items.push(Item::bind(private, layout::CACHE, Show::Writable));
            items.extend(shared.iter().map(|s| Item::bind(s, layout::CACHE_LOWER, Show::ReadOnly)));
        }
    }
    items.extend(plan.read_only.iter().map(|b| Item::bind(&b.from, &b.to, Show::ReadOnly)));
    items
}

/// What the worker sees.
pub(crate) fn of_worker(plan: &Plan, hidden: &[PathBuf]) -> Vec<Item> {
    let folders = Folders(&plan.dir);
    let mut items = system(hidden);
    items.retain(|i| !i.at().starts_with("/opt"));
    items.extend(etc::items(Layer::Worker, &plan.name, Path::new("/etc")));
    items.extend(devices());
    let own = Bind { from: folders.session(), to: layout::SESSION.into() };
    let told = plan.worker_binds.iter().any(|b| b.to == own.to);
    for bind in plan.worker_binds.iter().chain((!told).then_some(&own)) {
        let show = if bind.to == own.to { Show::Writable } else { Show::ReadOnly };
        items.push(Item::bind(&bind.from, &bind.to, show));
    }
    for (from, at) in [(folders.repo(), layout::REPO), (folders.baseline(), layout::BASELINE)] {
        items.push(Item::bind(from, at, Show::Writable));
    }
    items
}

/// The system's folders, without what is hidden of them; a link stays a link.
fn system(hidden: &[PathBuf]) -> Vec<Item> {
    let mut items = Vec::new();
    for name in SYSTEM {
        let at = Path::new("/").join(name);
        let Ok(found) = fs::symlink_metadata(&at) else { continue };
        if found.is_symlink() {
            items.extend(fs::read_link(&at).map(|to| Item::Link { at: at.clone(), to }));
        } else if found.is_dir() {
            items.push(Item::bind(&at, &at, Show::ReadOnly));
        }
    }
    items.extend(hidden.iter().map(|at| Item::Cover { at: at.clone() }));
    items
}

fn devices() -> Vec<Item> {
    let mut items = Vec::new();
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let at = Path::new("/dev").join(name);
        items.push(Item::bind(&at, &at, Show::Device));
    }
    for (at, to) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/dev/ptmx", "pts/ptmx"),
    ] {
        items.push(Item::Link { at: at.into(), to: to.into() });
    }
    items
}

/// Makes a root at `folder`, which exists.
pub(crate) fn build(folder: &Path, items: &[Item]) -> Result<(), BoxError> {
    let at = || folder.display().to_string();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("box"), folder, Some("tmpfs"), flags, Some("mode=0755,size=16m"))
        .doing(|| format!("mounting a root at {}", at()))?;
    fs::create_dir(folder.join("proc")).doing(|| "making /proc".into())?;
    let mut made = HashSet::new();
    for item in items {
        make(folder, item, &mut made).doing(|| format!("making {} in the box", item.at().display()))?;
    }
    let covers = items.iter().filter(|item| matches!(item, Item::Cover { .. }));
    let covers = covers.map(|item| folder.join(item.at().strip_prefix("/").unwrap_or(item.at())));
    let flags = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    for path in covers.filter(|path| path.is_dir()).chain([folder.to_owned()]) {
        mount(None::<&str>, &path, None::<&str>, flags, None::<&str>)
            .doing(|| format!("making {} read-only", path.display()))?;
    }
    Ok(())
}

fn make(root: &Path, item: &Item, made: &mut HashSet<PathBuf>) -> io::Result<()> {
    let inside =
        item.at().strip_prefix("/").map_err(|_| io::Error::other("its path in the box is not absolute"))?;
    let path = way(root, inside, made)?;
    match item {
        Item::Dir { .. } => folder(&path),
        Item::Link { to, .. } => symlink(to, &path),
        Item::Text { text, .. } => fs::File::create_new(&path)?.write_all(text.as_bytes()),
        Item::Copy { from, .. } => {
            io::copy(&mut fs::File::open(from)?, &mut fs::File::create_new(&path)?).map(drop)
        }
        Item::Bind { from, show, .. } => {
            if fs::metadata(from)?.is_dir() {
                folder(&path)?;
            } else if fs::symlink_metadata(&path).is_err() {
                fs::File::create_new(&path)?;
            }
            sys::bind(from, &path, *show)
        }
        Item::Memory { mib, .. } => {
            folder(&path)?;
            let size = format!("mode=1777,size={mib}m");
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            Ok(mount(Some("box"), &path, Some("tmpfs"), flags, Some(size.as_str()))?)
        }
        Item::Terminals { .. } => {
            folder(&path)?;
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
            let options = "newinstance,ptmxmode=0666,mode=620";
            Ok(mount(Some("box"), &path, Some("devpts"), flags, Some(options))?)
        }
        Item::Cover { .. } => cover(&path),
    }
}

fn cover(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            Ok(mount(Some("box"), path, Some("tmpfs"), flags, Some("mode=0755,size=1m"))?)
        }
        Ok(_) => sys::bind(Path::new("/dev/null"), path, Show::Device),
        // Covered with a folder above it, or removed meanwhile.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// The path of `inside` below `root`, its parents made. No part of it may be a link: followed here, outside the box, a
/// link would lead to the host's files.
///
/// `made` are folders that were made or looked at before.
fn way(root: &Path, inside: &Path, made: &mut HashSet<PathBuf>) -> io::Result<PathBuf> {
    let mut path = root.to_owned();
    let mut parts = inside.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(part) = part else {
            return Err(io::Error::other("its path in the box is not plain"));
        };
        path.push(part);
        if parts.peek().is_some() && !made.insert(path.clone()) {
            continue;
        }
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => return Err(io::Error::other("a part of its path is a link")),
            Ok(_) => (),
            Err(_) if parts.peek().is_some() => folder(&path)?,
            Err(_) => (),
        }
    }
    Ok(path)
}

fn folder(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o755).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}
