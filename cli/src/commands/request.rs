//! What `run` and `submit` share: the options of a task, and the request made of them.

use domain::limit;
use protocol::rest::CreateTaskRequest;

use super::attachment::Attached;
use super::number;
use crate::context::Context;
use crate::failure::Failure;
use crate::repo;

/// The options of a task.
#[derive(Debug, clap::Args)]
pub struct TaskArgs {
    /// Repository: a folder of this machine, or OWNER/NAME
    #[arg(long, default_value = ".", value_name = "REPO")]
    pub repo: String,
    /// Issue it is about; noted, and not read in this version
    #[arg(long, value_name = "NUMBER", value_parser = number::issue)]
    pub issue: Option<u64>,
    /// Model, as MODEL or PROVIDER/MODEL
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Branch to start from; the one that is checked out (or the default branch) when absent
    #[arg(long, value_name = "BRANCH")]
    pub base: Option<String>,
    /// Turns the agent may take, 1 to 500
    #[arg(long, value_name = "N", value_parser = number::turns)]
    pub max_turns: Option<i64>,
    /// Dollars the task may cost, 0.01 to 100
    #[arg(long, value_name = "USD", value_parser = number::budget)]
    pub max_budget: Option<f64>,
    /// Command that builds and tests; found in the repository when absent
    #[arg(long, value_name = "COMMAND")]
    pub build_command: Option<String>,
    /// Command that lints; found in the repository when absent
    #[arg(long, value_name = "COMMAND")]
    pub lint_command: Option<String>,
    /// What the box is kept in: sandbox, container, or process (which isolates nothing); the server's own when absent
    #[arg(long, value_name = "TIER")]
    pub isolation: Option<domain::IsolationTier>,
    /// Keep long previews of what the agent says and does
    #[arg(long)]
    pub trace: bool,
    /// Makes repeating the command harmless: the same key gives the same task
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Image or document for the agent: a file (png, jpg, txt, log, csv, md, json, pdf; 10 MB), or an https:// address. May be
    /// repeated, up to 10
    #[arg(long = "attachment", value_name = "FILE|URL")]
    pub attachments: Vec<String>,
    /// What to do
    #[arg(value_name = "DESCRIPTION")]
    pub description: Option<String>,
}

/// A task to submit.
#[derive(Debug)]
pub struct Asked {
    /// What the server is asked.
    pub request: CreateTaskRequest,
    /// Makes repeating it harmless.
    pub key: Option<String>,
    /// What is uploaded after it.
    pub attached: Attached,
}

impl TaskArgs {
    /// The request, checked as far as can be told without the server.
    pub fn request(self, cx: &Context) -> Result<Asked, Failure> {
        let description = self.description.map(|d| d.trim().to_owned()).filter(|d| !d.is_empty());
        if description.is_none() {
            return Err(Failure::usage("there is nothing to do: give a description")
                .hint("bgagent run \"Fix the failing test in tests/parser.rs\""));
        }
        at_most("the description", description.as_deref(), limit::DESCRIPTION_MAX_CHARS)?;
        at_most("--model", self.model.as_deref(), limit::NAME_MAX_CHARS)?;
        at_most("--base", self.base.as_deref(), limit::NAME_MAX_CHARS)?;
        at_most("--build-command", self.build_command.as_deref(), limit::COMMAND_MAX_CHARS)?;
        at_most("--lint-command", self.lint_command.as_deref(), limit::COMMAND_MAX_CHARS)?;
        if let Some(key) = &self.idempotency_key {
            let plain =
                !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
            if !plain || key.len() > limit::IDEMPOTENCY_KEY_MAX_CHARS {
                let max = limit::IDEMPOTENCY_KEY_MAX_CHARS;
                return Err(Failure::usage(format!(
                    "--idempotency-key must be 1 to {max} letters, digits, `_` or `-`"
                ))
                .hint("A UUID is a good key."));
            }
        }
        let attached = Attached::read(&self.attachments)?;
        let home = cx.env.get("HOME").map(std::path::Path::new);
        let request = CreateTaskRequest {
            repo: Some(repo::resolve(&self.repo, home)?),
            workflow_ref: None,
            issue_number: self.issue,
            task_description: description,
            max_turns: self.max_turns,
            max_budget_usd: self.max_budget,
            trace: self.trace.then_some(true),
            model: self.model,
            base_branch: self.base,
            build_command: self.build_command,
            lint_command: self.lint_command,
            isolation: self.isolation.map(|tier| tier.as_str().to_owned()),
            attachments: (!attached.requests.is_empty()).then(|| attached.requests.clone()),
            ..CreateTaskRequest::default()
        };
        Ok(Asked { request, key: self.idempotency_key, attached })
    }
}

fn at_most(what: &str, text: Option<&str>, max: usize) -> Result<(), Failure> {
    let length = text.map_or(0, |t| t.chars().count());
    if length <= max {
        return Ok(());
    }
    Err(Failure::usage(format!("{what} has {length} characters, {max} are allowed"))
        .hint("Make it shorter; long instructions can stand in a file of the repository."))
}
