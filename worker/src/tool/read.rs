//! `Read`: a file with line numbers, or a picture. Reads as far as it shows, never the whole of a huge file.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read as _, Seek as _};
use std::path::Path;

use base64::Engine as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Content, Input, ToolContext, ToolError, ToolOutput, Workspace, blocking};
use crate::tree::Tree;

const LINES_DEFAULT: u64 = 2_000;
const LINE_MAX_BYTES: usize = 2_000;
/// 5 MB in base64 is what the API takes; ours is less, to keep the worker small.
const IMAGE_MAX_BYTES: u64 = 2 * 1024 * 1024;
/// How much is looked at to tell text from binary.
const SNIFF_BYTES: usize = 8 * 1024;

/// What the model is told of it.
pub fn definition() -> (&'static str, Value) {
    let description = "Shows a file of the work tree with line numbers, up to 2000 lines from `offset`. The number and the tab \
        before each line are not part of the file. Pictures (png, jpeg, gif, webp) are shown as such. For a folder, use \
        Glob or `ls`.";
    let schema = json!({
        "type": "object",
        "properties": {
            "file_path": { "type": "string", "description": "Relative to the work tree, or absolute" },
            "offset": { "type": "integer", "description": "First line, from 1" },
            "limit": { "type": "integer", "description": "How many lines" },
        },
        "required": ["file_path"],
    });
    (description, schema)
}

/// Runs it.
pub async fn run(at: &Workspace, input: Input<'_>, ctx: &ToolContext<'_>) -> Result<ToolOutput, ToolError> {
    let asked = input.text("file_path")?.to_owned();
    let offset = input.number("offset")?.unwrap_or(1).max(1);
    let lines = input.number("limit")?.unwrap_or(LINES_DEFAULT).clamp(1, LINES_DEFAULT);
    let (tree, file) = at.resolve_readable(&asked)?;
    let (tree, path, cancel) = (tree.clone(), file.clone(), ctx.cancel.clone());
    // A file was asked for, and has no noise in its middle.
    let shown_max = 2 * at.output_max();
    let content = blocking(move || show(&tree, &path, &asked, (offset, lines), shown_max, &cancel)).await?;
    at.mark_seen(&file);
    Ok(ToolOutput { content: vec![content], is_error: false, touched: Some(file) })
}

/// Opens a regular file; pipes, devices and folders are refused.
pub(super) fn open_regular(tree: &Tree, path: &Path, asked: &str) -> Result<File, ToolError> {
    tree.file(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            ToolError::new(format!("{asked}: there is no such file. Glob finds files by name."))
        }
        ErrorKind::IsADirectory => {
            ToolError::new(format!("{asked}: is a folder. List it with Glob or `ls`."))
        }
        _ => ToolError::new(format!("{asked}: cannot be opened: {error}.")),
    })
}

fn show(
    tree: &Tree,
    path: &Path,
    asked: &str,
    (offset, lines): (u64, u64),
    shown_max: usize,
    cancel: &CancellationToken,
) -> Result<Content, ToolError> {
    let failed = |error: std::io::Error| ToolError::new(format!("{asked}: cannot be read: {error}."));
    let mut file = open_regular(tree, path, asked)?;
    let mut sniffed = Vec::with_capacity(SNIFF_BYTES);
    (&mut file).take(SNIFF_BYTES as u64).read_to_end(&mut sniffed).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    if let Some(media_type) = image(&sniffed) {
        return picture(file, sniffed, bytes, media_type, asked);
    }
    if sniffed.contains(&0) {
        return Err(ToolError::new(format!("{asked}: is a binary file of {bytes} bytes and is not shown.")));
    }
    if sniffed.is_empty() {
        return Ok(Content::Text(format!("({asked} is empty)")));
    }
    drop(sniffed);
    file.rewind().map_err(failed)?;
    let mut reader = BufReader::new(file);
    let mut out = String::new();
    let mut number = 0;
    let last = offset.saturating_add(lines - 1);
    loop {
        if number % 1024 == 0 && cancel.is_cancelled() {
            return Err(ToolError::new(format!("{asked}: reading was cancelled.")));
        }
        let keep = if number + 1 >= offset { LINE_MAX_BYTES } else { 0 };
        let Some(line) = bounded_line(&mut reader, keep, cancel).map_err(failed)? else { break };
        number += 1;
        if number < offset {
            continue;
        }
        if number > last || out.len() + line.kept.len() > shown_max {
            let _ = write!(out, "[there is more: read on with offset={number}]");
            return Ok(Content::Text(out));
        }
        let text = String::from_utf8_lossy(&line.kept);
        let _ = write!(out, "{number:>6}\t{}", text.strip_suffix('\r').unwrap_or(&text));
        if line.missing > 0 {
            let _ = write!(out, " [... {} bytes of this line cut]", line.missing);
        }
        out.push('\n');
    }
    if out.is_empty() {
        return Err(ToolError::new(format!(
            "{asked}: has {number} lines, `offset` {offset} is beyond its end."
        )));
    }
    Ok(Content::Text(out))
}

struct Line {
    kept: Vec<u8>,
    missing: usize,
}

/// The next line, of which `keep` bytes are held; `None` at the end.
fn bounded_line(
    reader: &mut impl BufRead,
    keep: usize,
    cancel: &CancellationToken,
) -> std::io::Result<Option<Line>> {
    let mut line = Line { kept: Vec::new(), missing: 0 };
    let mut any = false;
    while !cancel.is_cancelled() {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok(any.then_some(line));
        }
        any = true;
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        let room = keep.saturating_sub(line.kept.len()).min(part.len());
        line.kept.extend_from_slice(&part[..room]);
        line.missing += part.len() - room;
        let used = end.map_or(chunk.len(), |at| at + 1);
        reader.consume(used);
        if end.is_some() {
            return Ok(Some(line));
        }
    }
    Ok(None)
}

fn image(start: &[u8]) -> Option<&'static str> {
    if start.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some("image/png")
    } else if start.starts_with(b"\xff\xd8\xff") {
        Some("image/jpeg")
    } else if start.starts_with(b"GIF87a") || start.starts_with(b"GIF89a") {
        Some("image/gif")
    } else if start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WEBP") {
        Some("image/webp")
    } else {
        None
    }
}

fn picture(
    file: File,
    mut bytes: Vec<u8>,
    size: u64,
    media_type: &'static str,
    asked: &str,
) -> Result<Content, ToolError> {
    if size > IMAGE_MAX_BYTES {
        return Err(ToolError::new(format!(
            "{asked}: is a picture of {size} bytes; at most {IMAGE_MAX_BYTES} are shown. Make it smaller first."
        )));
    }
    file.take(IMAGE_MAX_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|error| ToolError::new(format!("{asked}: cannot be read: {error}.")))?;
    Ok(Content::Image { media_type, data: base64::engine::general_purpose::STANDARD.encode(&bytes) })
}
