//! The seam to the agent: given the work and a way to the model, it works in the tree until it is done or stopped.
//!
//! A harness reports what it does as events, looks at its signals between turns, before each tool call and while it
//! waits (a cancelled task is left within a second), and says how it ended. What becomes of the work (verify, commit,
//! push) is the pipeline's, whatever the end. A harness does no I/O on the control plane besides model calls.

pub mod native;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::event::EventKind;
use domain::report::AgentStatus;
use domain::steer::{AnswerSource, Boundary};
use domain::{AskId, Failure, NudgeId, PromptVersion, TokenCount};
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::Value;

use crate::attachment::Brought;
use crate::launch::Launcher;
use crate::tool::Environment;

/// How often signals are looked at while something runs.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(200);

/// Runs an agent.
#[async_trait]
pub trait Harness: Send + Sync {
    /// Works until done, stopped or failed. Never panics over what the model says; every end is an [`AgentResult`].
    async fn run(&self, work: Work, ctx: &HarnessContext) -> AgentResult;

    /// The version of what it says to the model in every task, and of the tools it gives it.
    fn prompt_version(&self) -> PromptVersion;
}

/// What is to be done, and within which bounds.
#[derive(Debug, Clone)]
pub struct Work {
    /// What was asked, hydrated: the description, the issue.
    pub prompt: String,
    /// What earlier attempts did, for an agent that goes on with their work.
    pub earlier: Option<String>,
    /// Further instructions of the platform (setup notes, the workflow); may be empty.
    pub system: String,
    /// The repository's name as people know it.
    pub repo: String,
    /// The branch the work is on.
    pub branch: String,
    /// The model's name.
    pub model: String,
    /// Model calls it may take.
    pub max_turns: u32,
    /// Tokens of the model's context window; 0 when unknown.
    pub context_window: u64,
    /// Tokens one reply may have; 0 for the harness's own default.
    pub max_output_tokens: u64,
    /// Characters of previews in events.
    pub preview_max: usize,
    /// Bytes of one tool's output that the model is shown.
    pub output_max: usize,
    /// The work tree.
    pub work_dir: PathBuf,
    /// What the person attached; it is beside the work tree.
    pub attachments: Vec<Brought>,
}

/// What a harness may reach.
pub struct HarnessContext {
    /// The way to the model.
    pub model: ModelEndpoint,
    /// Where events go.
    pub events: Arc<dyn EventSink>,
    /// Whether to go on.
    pub signals: Arc<dyn Signals>,
    /// What people say to it meanwhile.
    pub steering: Arc<dyn Steering>,
    /// What commands of the agent run with.
    pub environment: Environment,
    /// Who starts them.
    pub launcher: Launcher,
}

/// An Anthropic Messages endpoint: the model proxy of the control plane.
#[derive(Debug, Clone)]
pub struct ModelEndpoint {
    /// A client that reaches it (a UNIX socket, perhaps). It must have no total timeout: replies stream for minutes.
    pub client: reqwest::Client,
    /// What `/v1/messages` is appended to.
    pub base: String,
    /// The session token.
    pub bearer: SecretString,
}

/// Takes events. Must not block and must not fail: what cannot be sent is spooled or counted elsewhere.
pub trait EventSink: Send + Sync {
    /// Appends one. `metadata` is an object without null fields.
    fn emit(&self, kind: EventKind, metadata: Value);
}

/// What people say to the agent while it works.
#[async_trait]
pub trait Steering: Send + Sync {
    /// Takes over the nudges that wait, each once, the oldest first. When this returns some, their acknowledgement is
    /// stored. Costs nothing when none waits; empty, too, when the control plane is away: then they wait on. `at` is where
    /// the agent stands.
    async fn take_nudges(&self, at: Boundary) -> Result<Vec<Nudge>, Stop>;
    /// The questions that wait. From memory.
    fn questions(&self) -> Vec<Question>;
    /// Answers one.
    async fn answer(&self, question: AskId, answer: String, source: AnswerSource) -> Result<(), Stop>;
}

/// Words to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nudge {
    /// Their id.
    pub id: NudgeId,
    /// When they were said.
    pub submitted_at: Timestamp,
    /// The words.
    pub text: String,
}

/// A question of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its id.
    pub id: AskId,
    /// The words.
    pub text: String,
}

/// Says whether to go on. Called often: answers from memory.
#[async_trait]
pub trait Signals: Send + Sync {
    /// What holds now.
    async fn check(&self) -> Signal;
}

/// An answer of [`Signals`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Go on.
    Continue,
    /// The task was cancelled: leave at once, nothing is delivered.
    Cancelled,
    /// Another attempt has taken over: leave at once, touch nothing more.
    Superseded,
}

/// Why work was left before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The task was cancelled.
    Cancelled,
    /// Another attempt has taken over.
    Superseded,
}

/// How the agent ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentResult {
    /// How, in the report's words.
    pub status: AgentStatus,
    /// Set when it was told to leave; then nothing of it is delivered.
    pub stop: Option<Stop>,
    /// Turns begun, the one that hit a limit included.
    pub turns_attempted: u32,
    /// Turns finished.
    pub turns_completed: u32,
    /// Its last words. The first line is meant as the pull request's title.
    pub final_text: String,
    /// Why it failed; `None` for clean ends, limits included.
    pub failure: Option<Failure>,
    /// What its calls used, compaction included, as the provider reported it.
    pub tokens: TokenCount,
}

impl Signal {
    /// The signal as something to return with `?`.
    pub fn or_stop(self) -> Result<(), Stop> {
        match self {
            Signal::Continue => Ok(()),
            Signal::Cancelled => Err(Stop::Cancelled),
            Signal::Superseded => Err(Stop::Superseded),
        }
    }
}

/// Runs `work` while the signals say so; it is dropped when they say to leave.
pub async fn while_wanted<T>(signals: &dyn Signals, work: impl Future<Output = T>) -> Result<T, Stop> {
    signals.check().await.or_stop()?;
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            () = tokio::time::sleep(SIGNAL_INTERVAL) => signals.check().await.or_stop()?,
        }
    }
}
