//! What a repository tells agents: `AGENTS.md` and `CLAUDE.md`, of its root and of the folders work touches.
//!
//! It is text of the repository, so it is marked as such: it says how to work here, and cannot change what the task is
//! or what the platform allows. Imports (`@path` on a line of a `CLAUDE.md`) stay inside the work tree.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::tool::path;
use crate::tool::text::prefix;
use crate::tree::Tree;

const NAMES: [&str; 2] = ["AGENTS.md", "CLAUDE.md"];
const FILE_MAX_BYTES: u64 = 32 * 1024;
const ROOT_MAX_BYTES: usize = 64 * 1024;
const FOLDER_MAX_BYTES: usize = 16 * 1024;
const IMPORT_DEPTH_MAX: u32 = 5;
const TAG: &str = "repository-guidance";

/// The guidance of one work tree. Each file is told once.
#[derive(Debug)]
pub struct Guidance {
    tree: Tree,
    told: Mutex<HashSet<PathBuf>>,
}

impl Guidance {
    /// Of that work tree.
    pub fn of(tree: &Tree) -> Self {
        Self { tree: tree.clone(), told: Mutex::default() }
    }

    /// The guidance of the root, marked as text of the repository; `None` when there is none.
    pub fn for_root(&self) -> Option<String> {
        lock(&self.told).clear();
        self.collect(self.tree.root(), ROOT_MAX_BYTES)
    }

    /// Folders are told of again when they are next touched: what was said of them is no longer in the transcript.
    pub fn forget_folders(&self) {
        let _already_said = self.for_root();
    }

    /// The guidance of the folders between the root and `file` that was not told yet.
    pub fn note_for(&self, file: &Path) -> Option<String> {
        let inside = file.parent()?.strip_prefix(self.tree.root()).ok()?;
        let mut folder = self.tree.root().to_owned();
        let mut notes = String::new();
        for name in inside.components() {
            folder.push(name);
            if let Some(note) = self.collect(&folder, FOLDER_MAX_BYTES) {
                notes.push_str(&note);
            }
        }
        (!notes.is_empty()).then_some(notes)
    }

    fn collect(&self, folder: &Path, max: usize) -> Option<String> {
        let mut out = String::new();
        for name in NAMES {
            self.append(&folder.join(name), max, 0, &mut out);
        }
        (!out.is_empty()).then_some(out)
    }

    /// Appends one file and, after it, what it imports. Missing files, cycles and what leads outside are passed over.
    fn append(&self, file: &Path, max: usize, depth: u32, out: &mut String) {
        let Ok(real) = file.canonicalize() else { return };
        if !real.starts_with(self.tree.root()) || out.len() >= max || !lock(&self.told).insert(real.clone()) {
            return;
        }
        let Some(text) = self.tree.file(&real).ok().and_then(read_capped) else { return };
        let shown = path::shown(self.tree.root(), &real);
        let kept = prefix(text.trim(), max - out.len());
        if kept.is_empty() {
            return;
        }
        let cut = if kept.len() < text.trim().len() { "\n[cut here: the file is longer]" } else { "" };
        let (seen, hidden) = domain::text::visible(kept);
        let note = domain::text::hidden_note(hidden).map(|note| format!("\n{note}")).unwrap_or_default();
        let fenced = domain::text::fence(TAG, &[("file", &shown)], &format!("{seen}{cut}{note}"));
        out.push_str(&format!("{fenced}\n"));
        if depth < IMPORT_DEPTH_MAX {
            for import in imports(&text) {
                let base = real.parent().unwrap_or(self.tree.root());
                self.append(&base.join(import), max, depth + 1, out);
            }
        }
    }
}

/// Words that begin with `@` and look like a path, outside of code blocks and code spans.
fn imports(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        let outside = line.split('`').step_by(2);
        let words = outside.flat_map(str::split_whitespace).filter_map(|word| word.strip_prefix('@'));
        found.extend(
            words
                .map(|word| word.trim_end_matches([',', '.', ';', ':', ')']))
                .filter(|word| (word.contains('.') || word.contains('/')) && !word.starts_with(['/', '~'])),
        );
    }
    found
}

fn read_capped(file: File) -> Option<String> {
    let mut bytes = Vec::new();
    file.take(FILE_MAX_BYTES).read_to_end(&mut bytes).ok()?;
    if bytes.contains(&0) {
        return None;
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
