//! `Edit`: replaces an exact text in a file. Line endings and the file's mode stay as they were.

use std::io::Read as _;
use std::path::Path;

use serde_json::{Value, json};

use super::{Input, ToolError, ToolOutput, Workspace, blocking, read, write};
use crate::tree::Tree;

pub mod nearest;

/// A file that is edited is held in memory.
const FILE_MAX_BYTES: u64 = 8 * 1024 * 1024;

/// One replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// The text to find.
    pub old: String,
    /// The text to put there.
    pub new: String,
    /// Where.
    pub scope: Scope,
}

/// Which of the places that match are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The only one; two are an error.
    Unique,
    /// Every one.
    All,
}

/// What the model is told of it.
pub fn definition() -> (&'static str, Value) {
    let description = "Replaces `old_string` by `new_string` in a file. `old_string` must match the file exactly, with its \
        indentation and without line numbers, and be there only once unless `replace_all` is true: add lines around it \
        to make it unique. An empty `old_string` makes a new file.";
    let mut schema = fields();
    schema["properties"]["file_path"] =
        json!({ "type": "string", "description": "Relative to the work tree, or absolute" });
    schema["required"] = json!(["file_path", "old_string", "new_string"]);
    (description, schema)
}

/// Runs it.
pub async fn run(at: &Workspace, input: Input<'_>) -> Result<ToolOutput, ToolError> {
    let edit = Replacement::of(&input)?;
    edit_file(at, input.text("file_path")?, vec![edit]).await
}

/// The schema of one replacement.
pub(super) fn fields() -> Value {
    json!({
        "type": "object",
        "properties": {
            "old_string": { "type": "string", "description": "The text to replace, exactly as in the file" },
            "new_string": { "type": "string", "description": "The text to put there" },
            "replace_all": { "type": "boolean", "description": "Replace every match; false when absent" },
        },
        "required": ["old_string", "new_string"],
    })
}

impl Replacement {
    /// Reads one from a call's fields.
    pub(super) fn of(input: &Input<'_>) -> Result<Self, ToolError> {
        let (old, new) = (input.text("old_string")?, input.text("new_string")?);
        if old == new {
            return Err(input.refuse("new_string", "is the same as `old_string`: nothing to change"));
        }
        let scope = if input.flag("replace_all")? { Scope::All } else { Scope::Unique };
        Ok(Self { old: old.into(), new: new.into(), scope })
    }
}

/// Makes all replacements in one file, or none.
pub(super) async fn edit_file(
    at: &Workspace,
    asked: &str,
    edits: Vec<Replacement>,
) -> Result<ToolOutput, ToolError> {
    let file = at.resolve_writable(asked)?;
    let (tree, path, asked) = (at.tree().clone(), file.clone(), asked.to_owned());
    let (places, line) = blocking(move || {
        let mut text = match edits.first() {
            Some(first) if first.old.is_empty() && tree.look(&path).is_err() => String::new(),
            Some(_) | None => load(&tree, &path, &asked)?,
        };
        let mut places = 0;
        let mut line = 1;
        for (n, edit) in edits.iter().enumerate() {
            let name = if edits.len() > 1 { format!("{asked}, edit {}", n + 1) } else { asked.clone() };
            let (changed, count, at_line) =
                apply(&text, edit).map_err(|why| ToolError::new(format!("{name}: {why}")))?;
            (text, places, line) = (changed, places + count, at_line);
        }
        write::replace(&tree, &path, text.as_bytes())?;
        Ok((places, line))
    })
    .await?;
    at.mark_seen(&file);
    let count =
        if places == 1 { format!("1 replacement, at line {line}") } else { format!("{places} replacements") };
    Ok(ToolOutput::text(format!("{} was changed ({count}).", at.shown(&file))).about(file))
}

fn load(tree: &Tree, path: &Path, asked: &str) -> Result<String, ToolError> {
    let file = read::open_regular(tree, path, asked)?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| ToolError::new(format!("{asked}: cannot be read: {error}.")))?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err(ToolError::new(format!(
            "{asked}: is larger than {FILE_MAX_BYTES} bytes; change it with Bash."
        )));
    }
    String::from_utf8(bytes).map_err(|_| {
        ToolError::new(format!("{asked}: is not UTF-8 text; change it with Bash, keeping its encoding."))
    })
}

/// The changed text, how many places changed, and the line of the first.
fn apply(text: &str, edit: &Replacement) -> Result<(String, usize, usize), String> {
    if edit.old.is_empty() {
        if text.is_empty() {
            return Ok((edit.new.clone(), 1, 1));
        }
        return Err("`old_string` is empty, but the file exists and is not. Give the text to replace.".into());
    }
    let (mut old, mut new) = (edit.old.clone(), edit.new.clone());
    if text.contains("\r\n") && (!text.contains(old.as_str()) || only_crlf(text)) {
        (old, new) = (with_crlf(&old), with_crlf(&new));
    }
    let places: Vec<usize> = text.match_indices(&old).map(|(at, _)| at).collect();
    let line_of = |at: usize| text[..at].matches('\n').count() + 1;
    match (places.as_slice(), edit.scope) {
        ([], _) => Err(format!("`old_string` was not found. {}", nearest::describe(text, &edit.old))),
        ([at], _) => Ok((text.replacen(&old, &new, 1), 1, line_of(*at))),
        ([first, ..], Scope::All) => Ok((text.replace(&old, &new), places.len(), line_of(*first))),
        (many, Scope::Unique) => {
            let lines: Vec<String> = many.iter().take(10).map(|at| line_of(*at).to_string()).collect();
            Err(format!(
                "`old_string` is there {} times (lines {}{}). Add lines around it to make it unique, or set `replace_all`.",
                many.len(),
                lines.join(", "),
                if many.len() > lines.len() { ", ..." } else { "" },
            ))
        }
    }
}

fn only_crlf(text: &str) -> bool {
    text.matches('\n').count() == text.matches("\r\n").count()
}

fn with_crlf(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\n', "\r\n")
}
