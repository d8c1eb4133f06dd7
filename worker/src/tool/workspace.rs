//! The work tree with what the tools remember of it: files seen, the list of steps, processes left running.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::process::Background;
use super::todo::Todo;
use super::{Environment, ToolError, path};
use crate::launch::Launcher;
use crate::tree::Tree;

/// Shared by the tools of one task. Locks are held for a look-up only, never across I/O or an await.
#[derive(Debug)]
pub struct Workspace {
    tree: Tree,
    beside: Option<Tree>,
    environment: Environment,
    launcher: Launcher,
    seen: Mutex<HashMap<PathBuf, Stamp>>,
    todos: Mutex<Vec<Todo>>,
    background: Background,
    output_max: usize,
}

/// A file as it was when the model last saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
}

/// What the model knows of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// There is no such file.
    Absent,
    /// It has never seen it.
    Unseen,
    /// It saw it, and it changed since.
    Stale,
    /// It saw it as it is.
    Current,
}

impl Workspace {
    /// The work tree at `root`, whose commands run with `environment`.
    pub fn open(root: &Path, environment: Environment) -> io::Result<Self> {
        Ok(Self {
            tree: Tree::open(root)?,
            beside: None,
            environment,
            launcher: Launcher::Direct,
            seen: Mutex::default(),
            todos: Mutex::default(),
            background: Background::of(Launcher::Direct),
            output_max: domain::limit::TOOL_OUTPUT_MAX_BYTES,
        })
    }

    /// The same, whose tools show the model so many bytes of their output.
    #[must_use]
    pub fn showing_at_most(self, output_max: usize) -> Self {
        Self { output_max, ..self }
    }

    /// The same, whose commands that launcher starts.
    #[must_use]
    pub fn launching(self, launcher: Launcher) -> Self {
        Self { background: Background::of(launcher.clone()), launcher, ..self }
    }

    /// The same, with a folder beside the work tree whose files may be read. One that cannot be opened is none.
    #[must_use]
    pub fn beside(self, folder: Option<&Path>) -> Self {
        Self { beside: folder.and_then(|folder| Tree::open(folder).ok()), ..self }
    }

    /// Its folder, canonical.
    pub fn root(&self) -> &Path {
        self.tree.root()
    }

    /// Its files.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Who starts commands.
    pub fn launcher(&self) -> &Launcher {
        &self.launcher
    }

    /// What commands run with.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Bytes of one tool's output that the model is shown.
    pub fn output_max(&self) -> usize {
        self.output_max
    }

    /// Processes that commands left running.
    pub fn background(&self) -> &Background {
        &self.background
    }

    /// A file or folder to look at.
    pub fn resolve(&self, asked: &str) -> Result<PathBuf, ToolError> {
        path::resolve(self.root(), asked)
    }

    /// A file to read, and the tree it is in: the work tree, or what is beside it.
    pub fn resolve_readable(&self, asked: &str) -> Result<(&Tree, PathBuf), ToolError> {
        if let Some(beside) = self.beside.as_ref().filter(|b| Path::new(asked).starts_with(b.root())) {
            return Ok((beside, path::resolve(beside.root(), asked)?));
        }
        Ok((&self.tree, self.resolve(asked)?))
    }

    /// A file to write.
    pub fn resolve_writable(&self, asked: &str) -> Result<PathBuf, ToolError> {
        path::resolve_writable(self.root(), asked)
    }

    /// The path as shown to the model.
    pub fn shown(&self, path: &Path) -> String {
        path::shown(self.root(), path)
    }

    /// Remembers that the model now knows the file as it is on disk.
    pub fn mark_seen(&self, file: &Path) {
        if let Ok(meta) = self.tree.look(file) {
            let stamp = Stamp::of(&meta);
            lock(&self.seen).insert(file.to_owned(), stamp);
        }
    }

    /// What the model knows of the file.
    pub fn known(&self, file: &Path) -> Known {
        let Ok(meta) = self.tree.look(file) else { return Known::Absent };
        let now = Stamp::of(&meta);
        match lock(&self.seen).get(file) {
            None => Known::Unseen,
            Some(then) if *then == now => Known::Current,
            Some(_) => Known::Stale,
        }
    }

    /// The list of steps.
    pub fn todos(&self) -> Vec<Todo> {
        lock(&self.todos).clone()
    }

    /// Replaces the list of steps.
    pub fn set_todos(&self, todos: Vec<Todo>) {
        *lock(&self.todos) = todos;
    }
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Stamp { modified: meta.modified().ok(), bytes: meta.len() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
