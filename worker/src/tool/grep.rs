//! `Grep`: text in files, with ripgrep's engine.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use globset::GlobMatcher;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkContext, SinkMatch};
use ignore::types::TypesBuilder;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Input, ToolContext, ToolError, ToolOutput, Workspace, blocking, glob, path, text};
use crate::tree::Tree;

const HEAD_LIMIT_DEFAULT: u64 = 250;
const LINE_MAX_BYTES: usize = 500;
const CONTEXT_MAX: u64 = 50;
/// What one search may hold in memory: a single endless line, mostly.
const HEAP_MAX_BYTES: usize = 4 * 1024 * 1024;
const REGEX_MAX_BYTES: usize = 2 * 1024 * 1024;

/// What the model is told of it.
pub fn definition() -> (&'static str, Value) {
    let description = "Finds text in files by regular expression (Rust's syntax: escape literal braces and dots). Files that git \
        ignores are left out. `output_mode`: files_with_matches (the default), content (lines, with -A, -B, -C), count.";
    let whole = |description: &str| json!({ "type": "integer", "description": description });
    let flag = |description: &str| json!({ "type": "boolean", "description": description });
    let schema = json!({
        "type": "object",
        "properties": {
            "pattern": { "type": "string", "description": "The regular expression" },
            "path": { "type": "string", "description": "File or folder to search; the work tree when absent" },
            "glob": { "type": "string", "description": "Only files that match, e.g. `*.rs`" },
            "type": { "type": "string", "description": "Only files of this type, e.g. rust, py, js" },
            "output_mode": { "type": "string", "enum": ["content", "files_with_matches", "count"] },
            "-i": flag("Ignore case"),
            "-n": flag("Line numbers (always shown)"),
            "-A": whole("Lines after each match"),
            "-B": whole("Lines before each match"),
            "-C": whole("Lines around each match"),
            "multiline": flag("Let the pattern span lines"),
            "head_limit": whole("How many lines or files at most; 250 when absent"),
        },
        "required": ["pattern"],
    });
    (description, schema)
}

/// Runs it.
pub async fn run(at: &Workspace, input: Input<'_>, ctx: &ToolContext<'_>) -> Result<ToolOutput, ToolError> {
    let pattern = input.text("pattern")?.to_owned();
    let multiline = input.flag("multiline")?;
    let mut matcher = RegexMatcherBuilder::new();
    matcher.case_insensitive(input.flag("-i")?).size_limit(REGEX_MAX_BYTES).dfa_size_limit(REGEX_MAX_BYTES);
    if multiline {
        matcher.multi_line(true).dot_matches_new_line(true);
    } else {
        matcher.line_terminator(Some(b'\n'));
    }
    let matcher = matcher
        .build(&pattern)
        .map_err(|error| input.refuse("pattern", &format!("is not a regular expression: {error}")))?;
    let around = input.number("-C")?.or(input.number("context")?).unwrap_or(0);
    let lines = |number: Option<u64>| number.unwrap_or(around).min(CONTEXT_MAX) as usize;
    let mut searcher = SearcherBuilder::new();
    searcher
        .line_number(true)
        .multi_line(multiline)
        .heap_limit(Some(HEAP_MAX_BYTES))
        .binary_detection(BinaryDetection::quit(0))
        .after_context(lines(input.number("-A")?))
        .before_context(lines(input.number("-B")?));
    let mode = match input.text_or_none("output_mode")? {
        None | Some("files_with_matches" | "files") => Mode::Files,
        Some("content") => Mode::Content,
        Some("count") => Mode::Count,
        Some(_) => return Err(input.refuse("output_mode", "must be content, files_with_matches or count")),
    };
    let only = match input.text_or_none("glob")? {
        Some(pattern) => Some(glob::matcher(pattern).map_err(|why| input.refuse("glob", &why))?),
        None => None,
    };
    let kind = input.text_or_none("type")?.map(str::to_owned);
    let head_limit = input.number("head_limit")?.unwrap_or(HEAD_LIMIT_DEFAULT).max(1);
    let search = Search {
        tree: at.tree().clone(),
        target: at.resolve(input.text_or_none("path")?.unwrap_or("."))?,
        matcher,
        only,
        kind,
        mode,
        cancel: ctx.cancel.clone(),
        shown: Shown { out: String::new(), room: head_limit, bytes_max: at.output_max(), full: false },
    };
    if search.tree.look(&search.target).is_err() {
        return Err(input.refuse("path", "does not exist"));
    }
    let found = blocking(move || search.run(searcher.build())).await?;
    if found.is_empty() {
        return Ok(ToolOutput::text(format!("No match for `{}`.", domain::event::preview(&pattern, 100))));
    }
    Ok(ToolOutput::text(found))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Files,
    Content,
    Count,
}

struct Search {
    tree: Tree,
    target: PathBuf,
    matcher: RegexMatcher,
    only: Option<GlobMatcher>,
    kind: Option<String>,
    mode: Mode,
    cancel: CancellationToken,
    shown: Shown,
}

/// The output, with the room it still has.
struct Shown {
    out: String,
    room: u64,
    bytes_max: usize,
    full: bool,
}

impl Search {
    fn run(mut self, mut searcher: Searcher) -> Result<String, ToolError> {
        let mut walk = glob::walk(&self.target);
        walk.sort_by_file_path(Path::cmp);
        if let Some(kind) = &self.kind {
            let mut types = TypesBuilder::new();
            types.add_defaults().select(kind);
            let types = types.build();
            walk.types(
                types.map_err(|_| {
                    ToolError::new(format!("Grep: there is no file type `{kind}`; use `glob`."))
                })?,
            );
        }
        for entry in walk.build().filter_map(Result::ok) {
            if self.cancel.is_cancelled() {
                return Err(ToolError::new("Grep: was cancelled."));
            }
            if self.shown.full {
                break;
            }
            let file = entry.path();
            let inside = file.strip_prefix(&self.target).ok().filter(|inside| !inside.as_os_str().is_empty());
            let name = inside.map_or_else(|| file.file_name().map(Path::new), Some).unwrap_or(file);
            let wanted = self.only.as_ref().is_none_or(|only| only.is_match(name));
            if wanted && entry.file_type().is_some_and(|kind| kind.is_file()) {
                self.search_file(&mut searcher, file);
            }
        }
        if self.shown.full {
            self.shown.out.push_str("[there is more: narrow the search, or raise head_limit]\n");
        }
        Ok(self.shown.out)
    }

    /// A file that cannot be read or searched is passed over, as grep tools do.
    fn search_file(&mut self, searcher: &mut Searcher, file: &Path) {
        let name = path::shown(self.tree.root(), file);
        let Ok(open) = self.tree.file(file) else { return };
        let mut sink = FileSink {
            name: &name,
            mode: self.mode,
            shown: &mut self.shown,
            matches: 0,
            cancel: &self.cancel,
        };
        let _unreadable = searcher.search_file(&self.matcher, &open, &mut sink);
        let matches = sink.matches;
        match self.mode {
            Mode::Content => (),
            Mode::Files if matches > 0 => self.shown.line(&name),
            Mode::Count if matches > 0 => self.shown.line(&format!("{name}:{matches}")),
            Mode::Files | Mode::Count => (),
        }
    }
}

impl Shown {
    fn line(&mut self, line: &str) {
        if self.room == 0 || self.out.len() + line.len() > self.bytes_max {
            self.full = true;
            return;
        }
        self.room -= 1;
        self.out.push_str(line);
        self.out.push('\n');
    }
}

struct FileSink<'a> {
    name: &'a str,
    mode: Mode,
    shown: &'a mut Shown,
    matches: u64,
    cancel: &'a CancellationToken,
}

impl FileSink<'_> {
    fn show(&mut self, number: Option<u64>, bytes: &[u8], mark: char) -> bool {
        for (n, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            if n > 0 && line.is_empty() {
                continue; // what follows the last line's end
            }
            let whole = String::from_utf8_lossy(line);
            let mut shown = String::new();
            let cut = text::prefix(whole.trim_end_matches('\r'), LINE_MAX_BYTES);
            let _ = write!(shown, "{}{mark}{}{mark}{cut}", self.name, number.unwrap_or(0) + n as u64);
            if cut.len() < whole.trim_end_matches('\r').len() {
                shown.push_str(" [...]");
            }
            self.shown.line(&shown);
        }
        !self.shown.full && !self.cancel.is_cancelled()
    }
}

impl Sink for FileSink<'_> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> io::Result<bool> {
        self.matches += 1;
        Ok(match self.mode {
            Mode::Files => false,
            Mode::Count => !self.cancel.is_cancelled(),
            Mode::Content => self.show(found.line_number(), found.bytes(), ':'),
        })
    }

    fn context(&mut self, _: &Searcher, around: &SinkContext<'_>) -> io::Result<bool> {
        Ok(match self.mode {
            Mode::Files | Mode::Count => true,
            Mode::Content => self.show(around.line_number(), around.bytes(), '-'),
        })
    }

    fn context_break(&mut self, _: &Searcher) -> io::Result<bool> {
        if self.mode == Mode::Content && !self.shown.full {
            self.shown.out.push_str("--\n");
        }
        Ok(true)
    }
}
