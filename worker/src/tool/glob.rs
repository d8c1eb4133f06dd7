//! `Glob`: files by name, newest first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use globset::{GlobBuilder, GlobMatcher};
use ignore::WalkBuilder;
use serde_json::{Value, json};

use super::{Input, ToolContext, ToolError, ToolOutput, Workspace, blocking, path};

const SHOWN_MAX: usize = 100;

/// What the model is told of it.
pub fn definition() -> (&'static str, Value) {
    let description = "Finds files by name, newest first, e.g. `**/*.rs` or `src/**/*.{ts,tsx}`; a pattern without a slash \
        matches in every folder. Files that git ignores are left out. At most 100 are shown.";
    let schema = json!({
        "type": "object",
        "properties": {
            "pattern": { "type": "string", "description": "The pattern, relative to `path`" },
            "path": { "type": "string", "description": "The folder to look in; the work tree when absent" },
        },
        "required": ["pattern"],
    });
    (description, schema)
}

/// Runs it.
pub async fn run(at: &Workspace, input: Input<'_>, ctx: &ToolContext<'_>) -> Result<ToolOutput, ToolError> {
    let pattern = input.text("pattern")?;
    let matcher = matcher(pattern).map_err(|why| input.refuse("pattern", &why))?;
    let folder = at.resolve(input.text_or_none("path")?.unwrap_or("."))?;
    if !folder.is_dir() {
        return Err(input.refuse("path", "is not a folder"));
    }
    let (tree, cancel) = (at.tree().clone(), ctx.cancel.clone());
    let found = blocking(move || {
        let mut newest: BinaryHeap<Reverse<(SystemTime, PathBuf)>> = BinaryHeap::new();
        let mut total = 0;
        for entry in walk(&folder).build().filter_map(Result::ok) {
            if cancel.is_cancelled() {
                return Err(ToolError::new("Glob: was cancelled."));
            }
            let inside = entry.path().strip_prefix(&folder).unwrap_or(entry.path());
            if entry.file_type().is_none_or(|kind| kind.is_dir()) || !matcher.is_match(inside) {
                continue;
            }
            // Asked of the tree, not of the path: what a link has led to outside is not told.
            let Ok(meta) = tree.look(entry.path()) else { continue };
            total += 1;
            let modified = meta.modified().ok();
            newest.push(Reverse((modified.unwrap_or(SystemTime::UNIX_EPOCH), entry.into_path())));
            if newest.len() > SHOWN_MAX {
                newest.pop();
            }
        }
        let mut found: Vec<String> = newest
            .into_sorted_vec()
            .into_iter()
            .map(|Reverse((_, file))| path::shown(tree.root(), &file))
            .collect();
        if total > found.len() {
            found.push(format!(
                "[{} of {total} files shown: the newest. Narrow the pattern for the others.]",
                found.len()
            ));
        }
        Ok(found)
    })
    .await?;
    if found.is_empty() {
        return Ok(ToolOutput::text(format!("No file matches `{pattern}`.")));
    }
    Ok(ToolOutput::text(found.join("\n")))
}

/// Files that git would see, dot files too; links are not followed. Works without a repository as well.
pub(super) fn walk(folder: &Path) -> WalkBuilder {
    let mut walk = WalkBuilder::new(folder);
    walk.hidden(false)
        .require_git(false)
        .git_global(false)
        .follow_links(false)
        .filter_entry(|entry| entry.file_name() != ".git");
    walk
}

/// Compiles a pattern; one without a slash matches at any depth.
pub(super) fn matcher(pattern: &str) -> Result<GlobMatcher, String> {
    let anywhere = if pattern.contains('/') {
        pattern.trim_start_matches("./").to_owned()
    } else {
        format!("**/{pattern}")
    };
    let glob = GlobBuilder::new(&anywhere).literal_separator(true).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| format!("is not a pattern: {error}"))
}
