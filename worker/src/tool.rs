//! The tools of the agent: what the model may call, checked at one door.
//!
//! [`Tools::run`] is that door: whatever the model sends, a result comes back (an unknown tool, a missing field and a
//! file outside the work tree are error *results* the model can read and mend, never a failure of the task). File
//! tools stay in the work tree: paths are resolved through `..` and symbolic links first ([`path`]), and what is found is
//! opened in a way that no link put there meanwhile leads out ([`crate::tree`]). `Bash` is kept by its tier: in a box it
//! runs in the tools' layer ([`crate::launch`]), in tier `process` it reaches whatever this user reaches.
//!
//! Names and inputs are Claude Code's, because models know them best. One file per tool beside this one.

pub mod bash;
pub mod edit;
pub mod environment;
pub mod glob;
pub mod grep;
pub mod input;
pub mod multi_edit;
pub mod path;
pub mod process;
pub mod read;
pub mod text;
pub mod todo;
pub mod workspace;
pub mod write;

use std::borrow::Cow;
use std::path::PathBuf;

use redact::Redactor;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub use self::environment::Environment;
pub use self::input::Input;
pub use self::workspace::Workspace;
use crate::guidance::Guidance;

/// A tool that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tool {
    /// Runs a shell command in the work tree.
    Bash,
    /// Shows a file.
    Read,
    /// Writes a whole file.
    Write,
    /// Replaces text in a file.
    Edit,
    /// Several replacements in one file, all or none.
    MultiEdit,
    /// Finds files by name.
    Glob,
    /// Finds text in files.
    Grep,
    /// Keeps the agent's list of steps.
    TodoWrite,
}

/// Whether calls of a tool may run beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Looks only: may run beside other looks.
    Reads,
    /// May change something: runs alone, in the order asked.
    Changes,
}

impl Tool {
    /// Every tool, in the order the model sees them.
    pub const ALL: [Tool; 8] = [
        Tool::Bash,
        Tool::Read,
        Tool::Write,
        Tool::Edit,
        Tool::MultiEdit,
        Tool::Glob,
        Tool::Grep,
        Tool::TodoWrite,
    ];

    /// The name the model calls it by.
    pub fn name(self) -> &'static str {
        match self {
            Tool::Bash => "Bash",
            Tool::Read => "Read",
            Tool::Write => "Write",
            Tool::Edit => "Edit",
            Tool::MultiEdit => "MultiEdit",
            Tool::Glob => "Glob",
            Tool::Grep => "Grep",
            Tool::TodoWrite => "TodoWrite",
        }
    }

    /// The tool of that name.
    pub fn named(name: &str) -> Option<Tool> {
        Tool::ALL.into_iter().find(|tool| tool.name() == name)
    }

    /// Whether it only looks.
    pub fn effect(self) -> Effect {
        match self {
            Tool::Read | Tool::Glob | Tool::Grep => Effect::Reads,
            Tool::Bash | Tool::Write | Tool::Edit | Tool::MultiEdit | Tool::TodoWrite => Effect::Changes,
        }
    }

    /// Name, description and JSON schema as the Messages API takes them.
    pub fn definition(self) -> Value {
        let (description, schema) = match self {
            Tool::Bash => bash::definition(),
            Tool::Read => read::definition(),
            Tool::Write => write::definition(),
            Tool::Edit => edit::definition(),
            Tool::MultiEdit => multi_edit::definition(),
            Tool::Glob => glob::definition(),
            Tool::Grep => grep::definition(),
            Tool::TodoWrite => todo::definition(),
        };
        json!({ "name": self.name(), "description": description, "input_schema": schema })
    }
}

/// A piece of a tool's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Text.
    Text(String),
    /// A picture, in base64.
    Image {
        /// Its media type, e.g. `image/png`.
        media_type: &'static str,
        /// Its bytes in base64.
        data: String,
    },
}

/// What a tool call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolOutput {
    /// What the model is shown, in order.
    pub content: Vec<Content>,
    /// Whether the call failed.
    pub is_error: bool,
    /// The file it looked at or changed, whose folder's guidance then matters.
    pub touched: Option<PathBuf>,
}

impl ToolOutput {
    /// A success that is only text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { content: vec![Content::Text(text.into())], is_error: false, touched: None }
    }

    /// A failure, in words for the model.
    pub fn error(text: impl Into<String>) -> Self {
        Self { is_error: true, ..Self::text(text) }
    }

    /// The same, about that file.
    pub fn about(self, file: PathBuf) -> Self {
        Self { touched: Some(file), ..self }
    }

    /// All its text, for previews.
    pub fn as_text(&self) -> String {
        let parts: Vec<&str> = self
            .content
            .iter()
            .map(|part| match part {
                Content::Text(text) => text.as_str(),
                Content::Image { media_type, .. } => media_type,
            })
            .collect();
        parts.join("\n")
    }
}

/// Why a tool call failed, in words for the model: what was wrong and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ToolError(pub String);

impl ToolError {
    /// With these words.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// What a running tool may use besides the work tree.
pub struct ToolContext<'a> {
    /// Cancelled when the call must end at once.
    pub cancel: CancellationToken,
    /// Told of output as it comes, for progress; must not block.
    pub live: &'a (dyn Fn(&str) + Send + Sync),
}

/// The tools of one task over one work tree.
pub struct Tools {
    workspace: Workspace,
    guidance: Guidance,
    granted: Vec<Tool>,
    redactor: Redactor,
}

impl Tools {
    /// Every tool over this work tree.
    pub fn new(workspace: Workspace, guidance: Guidance) -> Self {
        Self { workspace, guidance, granted: Tool::ALL.to_vec(), redactor: Redactor::default() }
    }

    /// Only these tools; the others do not exist.
    pub fn granting(self, granted: &[Tool]) -> Self {
        Self { granted: granted.to_vec(), ..self }
    }

    /// Takes these values out of every result, beside what has the shape of a token.
    pub fn redacting(self, secrets: &[SecretString]) -> Self {
        Self { redactor: Redactor::new(secrets), ..self }
    }

    /// Knows what must not be shown.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// The definitions the model is sent, in a stable order (they are cached).
    pub fn definitions(&self) -> Vec<Value> {
        self.granted.iter().map(|tool| tool.definition()).collect()
    }

    /// The tool of that name, if it was granted.
    pub fn find(&self, name: &str) -> Option<Tool> {
        Tool::named(name).filter(|tool| self.granted.contains(tool))
    }

    /// The work tree.
    pub fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// The guidance found in the repository.
    pub fn guidance(&self) -> &Guidance {
        &self.guidance
    }

    /// Runs the tool of that name. Never fails: what went wrong is in the result, for the model to read.
    pub async fn run(&self, name: &str, input: &Value, ctx: &ToolContext<'_>) -> ToolOutput {
        let Some(tool) = self.find(name) else {
            let names: Vec<&str> = self.granted.iter().map(|tool| tool.name()).collect();
            let shown = domain::event::preview(name, 100);
            return ToolOutput::error(format!(
                "There is no tool `{shown}`. The tools are: {}.",
                names.join(", ")
            ));
        };
        let done = match Input::of(tool.name(), input) {
            Ok(input) => self.dispatch(tool, input, ctx).await,
            Err(error) => Err(error),
        };
        let mut output = done.unwrap_or_else(|error| ToolOutput::error(error.0));
        if let Some(note) = output.touched.as_deref().and_then(|file| self.guidance.note_for(file)) {
            output.content.push(Content::Text(note));
        }
        self.finish(&mut output);
        output
    }

    async fn dispatch(
        &self,
        tool: Tool,
        input: Input<'_>,
        ctx: &ToolContext<'_>,
    ) -> Result<ToolOutput, ToolError> {
        let at = &self.workspace;
        match tool {
            Tool::Bash => bash::run(at, input, ctx).await,
            Tool::Read => read::run(at, input, ctx).await,
            Tool::Write => write::run(at, input).await,
            Tool::Edit => edit::run(at, input).await,
            Tool::MultiEdit => multi_edit::run(at, input).await,
            Tool::Glob => glob::run(at, input, ctx).await,
            Tool::Grep => grep::run(at, input, ctx).await,
            Tool::TodoWrite => todo::run(at, input),
        }
    }

    /// The last cut, whatever the tool did: no secret, nothing hidden, nothing endless, nothing empty (the API refuses
    /// empty text).
    fn finish(&self, output: &mut ToolOutput) {
        let mut hidden = 0;
        for part in &mut output.content {
            let Content::Text(text) = part else { continue };
            if let Cow::Owned(masked) = self.redactor.mask(text) {
                *text = masked;
            }
            let (shown, found) = domain::text::visible(text);
            if let Cow::Owned(shown) = shown {
                *text = shown;
            }
            hidden += found;
            if text.len() > 3 * self.workspace.output_max() {
                *text = text::cut_middle(text, 3 * self.workspace.output_max());
            }
            if text.trim().is_empty() {
                *text = "(no output)".into();
            }
        }
        output.content.extend(domain::text::hidden_note(hidden).map(Content::Text));
    }
}

/// Runs file work off the runtime's threads, and stops waiting for it when the call is cancelled.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ToolError> + Send + 'static,
) -> Result<T, ToolError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(ToolError::new(format!("the tool stopped unexpectedly: {error}"))),
    }
}
