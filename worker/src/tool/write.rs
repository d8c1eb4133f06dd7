//! `Write`: a whole file. An existing one must have been read before, so that nothing unknown is lost.

use std::path::Path;

use serde_json::{Value, json};

use super::workspace::Known;
use super::{Input, ToolError, ToolOutput, Workspace, blocking};
use crate::tree::Tree;

/// What the model is told of it.
pub fn definition() -> (&'static str, Value) {
    let description = "Writes a whole file, with the folders it needs. A file that exists must have been read in this session \
        and not have changed since. To change part of a file, use Edit.";
    let schema = json!({
        "type": "object",
        "properties": {
            "file_path": { "type": "string", "description": "Relative to the work tree, or absolute" },
            "content": { "type": "string", "description": "All of the file" },
        },
        "required": ["file_path", "content"],
    });
    (description, schema)
}

/// Runs it.
pub async fn run(at: &Workspace, input: Input<'_>) -> Result<ToolOutput, ToolError> {
    let asked = input.text("file_path")?;
    let content = input.text("content")?.to_owned();
    let file = at.resolve_writable(asked)?;
    let known = at.known(&file);
    match known {
        Known::Absent | Known::Current => (),
        Known::Unseen => {
            return Err(ToolError::new(format!(
                "{asked}: exists and was not read yet. Read it first, or use Edit."
            )));
        }
        Known::Stale => {
            return Err(ToolError::new(format!("{asked}: changed since it was read. Read it again first.")));
        }
    }
    let (tree, path, lines) = (at.tree().clone(), file.clone(), content.lines().count());
    blocking(move || replace(&tree, &path, content.as_bytes())).await?;
    at.mark_seen(&file);
    let done = if known == Known::Absent { "was created" } else { "was overwritten" };
    Ok(ToolOutput::text(format!("{} {done} ({lines} lines).", at.shown(&file))).about(file))
}

/// Replaces a file in one step, keeping its mode: a full disk or a crash leaves the old file as it was.
pub(super) fn replace(tree: &Tree, file: &Path, content: &[u8]) -> Result<(), ToolError> {
    tree.replace(file, content)
        .map_err(|error| ToolError::new(format!("{}: cannot be written: {error}.", file.display())))
}
