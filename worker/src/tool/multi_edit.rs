//! `MultiEdit`: several replacements in one file, one after the other; when one fails, none is made.

use serde_json::{Value, json};

use super::edit::{self, Replacement};
use super::{Input, ToolError, ToolOutput, Workspace};

const MAX_EDITS: usize = 200;

/// What the model is told of it.
pub fn definition() -> (&'static str, Value) {
    let description = "Makes several replacements in one file, each on the result of the one before. When one fails, the file \
        stays as it was. Rules for each are those of Edit.";
    let schema = json!({
        "type": "object",
        "properties": {
            "file_path": { "type": "string", "description": "Relative to the work tree, or absolute" },
            "edits": { "type": "array", "items": edit::fields() },
        },
        "required": ["file_path", "edits"],
    });
    (description, schema)
}

/// Runs it.
pub async fn run(at: &Workspace, input: Input<'_>) -> Result<ToolOutput, ToolError> {
    let edits: Vec<Replacement> =
        input.objects("edits")?.iter().map(Replacement::of).collect::<Result<_, _>>()?;
    if edits.is_empty() || edits.len() > MAX_EDITS {
        return Err(
            input.refuse("edits", &format!("must have 1 to {MAX_EDITS} entries, it has {}", edits.len()))
        );
    }
    edit::edit_file(at, input.text("file_path")?, edits).await
}
