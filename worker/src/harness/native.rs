//! Our own agent loop: Anthropic Messages to the model proxy, tools in this process, every turn ours.
//!
//! | module | does |
//! |---|---|
//! | [`transcript`] | what was said, how large it is, and the request made of it |
//! | [`reply`] | one streamed answer, put together |
//! | [`call`] | one model call, through restarts and cut streams |
//! | [`act`] | the tool calls of one turn |
//! | [`compact`] | a shorter transcript before the window overflows |
//! | [`steer`] | what people say meanwhile |
//! | [`stuck`] | notices that the agent goes round in circles |
//! | [`prompt`] | the words the platform says to the model |
//!
//! A turn is one model call that counts against the limit; its number is the same however often it is retried.

pub mod act;
pub mod call;
pub mod compact;
pub mod preview;
pub mod prompt;
pub mod reply;
pub mod steer;
pub mod stuck;
pub mod transcript;

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use domain::event::{self, EventKind};
use domain::report::AgentStatus;
use domain::{Failure, FailureCode, PromptVersion, TokenCount};
use serde_json::json;

use self::call::CallError;
use self::reply::{Reply, StopReason};
use self::stuck::StuckGuard;
use self::transcript::{Block, Role, Transcript};
use super::{AgentResult, Harness, HarnessContext, Stop, Work};
use crate::guidance::Guidance;
use crate::tool::{Tools, Workspace};

/// With this many turns left the model is told to come to an end.
const LAST_TURNS: u32 = 3;
/// The window of a model nobody knows the size of.
const WINDOW_DEFAULT: u64 = 200_000;
/// Tokens of a reply when nobody says.
const OUTPUT_DEFAULT: u64 = 16_000;

/// The harness. Its settings are about waiting only; what to do is in [`Work`].
#[derive(Debug, Clone)]
pub struct Native {
    /// How long a model call waits for a control plane that is away.
    pub patience: Duration,
    /// A stream that says nothing for this long counts as cut.
    pub idle: Duration,
    /// The first wait between two tries; it doubles up to forty times this.
    pub backoff: Duration,
}

impl Default for Native {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(30 * 60),
            idle: Duration::from_secs(180),
            backoff: Duration::from_millis(250),
        }
    }
}

/// How a run ended early.
#[derive(Debug)]
enum End {
    Stopped(Stop),
    Budget,
    Failed(Failure),
}

/// One run of the harness.
struct Run<'a> {
    native: &'a Native,
    work: &'a Work,
    ctx: &'a HarnessContext,
    tools: Tools,
    transcript: Transcript,
    attempted: u32,
    completed: u32,
    tokens: TokenCount,
    final_text: String,
    stuck: Mutex<StuckGuard>,
}

#[async_trait]
impl Harness for Native {
    async fn run(&self, mut work: Work, ctx: &HarnessContext) -> AgentResult {
        if work.context_window == 0 {
            work.context_window = WINDOW_DEFAULT;
        }
        if work.max_output_tokens == 0 {
            work.max_output_tokens = OUTPUT_DEFAULT;
        }
        match Run::open(self, &work, ctx) {
            Ok(mut run) => {
                let end = run.turns().await;
                run.tools.workspace().background().stop();
                run.result(end)
            }
            Err(failure) => AgentResult {
                status: AgentStatus::Error,
                stop: None,
                turns_attempted: 0,
                turns_completed: 0,
                final_text: String::new(),
                failure: Some(failure),
                tokens: TokenCount::default(),
            },
        }
    }

    fn prompt_version(&self) -> PromptVersion {
        prompt::version()
    }
}

impl<'a> Run<'a> {
    fn open(native: &'a Native, work: &'a Work, ctx: &'a HarnessContext) -> Result<Self, Failure> {
        let opened = Workspace::open(&work.work_dir, ctx.environment.clone());
        let workspace = opened.map_err(|error| {
            let detail = format!("opening the work tree {}: {error}", work.work_dir.display());
            Failure::new(FailureCode::RepoSetupFailed, detail)
        })?;
        let beside = work.attachments.first().and_then(|a| a.path.parent()?.parent());
        let workspace =
            workspace.launching(ctx.launcher.clone()).beside(beside).showing_at_most(work.output_max);
        let guidance = Guidance::of(workspace.tree());
        let first = prompt::first_message(work, guidance.for_root().as_deref());
        let tools = Tools::new(workspace, guidance).redacting(std::slice::from_ref(&ctx.model.bearer));
        let transcript = Transcript::new(prompt::system(work, tools.workspace().root()), &tools, first);
        let (tokens, final_text) = (TokenCount::default(), String::new());
        Ok(Self {
            native,
            work,
            ctx,
            tools,
            transcript,
            attempted: 0,
            completed: 0,
            tokens,
            final_text,
            stuck: Mutex::default(),
        })
    }

    /// Turn after turn until one ends it.
    async fn turns(&mut self) -> Result<AgentStatus, End> {
        loop {
            self.ctx.signals.check().await.or_stop()?;
            self.attempted += 1;
            if self.attempted > self.work.max_turns {
                return Ok(AgentStatus::MaxTurns);
            }
            self.heed().await?;
            if self.transcript.tokens() > compact::threshold(self.work) {
                self.compact().await?;
            }
            let reply = match self.call(call::Purpose::Turn).await {
                Err(CallError::TooLong(_)) => {
                    self.compact().await?;
                    self.call(call::Purpose::Turn).await?
                }
                other => other?,
            };
            self.record(&reply);
            let next = self.continue_with(reply).await?;
            self.completed = self.attempted;
            if let Some(status) = next {
                return Ok(status);
            }
        }
    }

    /// Does what the reply asks; `Some` when it was the last.
    async fn continue_with(&mut self, reply: Reply) -> Result<Option<AgentStatus>, End> {
        let Reply { blocks, stop, tool_calls, usage, .. } = reply;
        self.transcript.push_reply(blocks, usage);
        if !tool_calls.is_empty() && stop != StopReason::Refusal {
            let mut results = self.act(&tool_calls).await?;
            let left = self.work.max_turns - self.attempted;
            if (1..=LAST_TURNS).contains(&left) {
                results.push(Block::text(prompt::turns_left(left)));
            }
            self.transcript.push(Role::User, results);
            return Ok(None);
        }
        match stop {
            StopReason::EndTurn | StopReason::ToolUse => {
                // Somebody spoke while it came to its end: that is heeded first.
                let nudges = if self.has_turns_left() { self.nudges(Some(0)).await? } else { Vec::new() };
                if nudges.is_empty() {
                    self.answer_questions().await?;
                    return Ok(Some(AgentStatus::Success));
                }
                self.transcript.push(Role::User, nudges);
                Ok(None)
            }
            StopReason::MaxTokens => {
                self.transcript.push(Role::User, vec![Block::text(prompt::CONTINUE)]);
                Ok(None)
            }
            StopReason::PauseTurn => Ok(None),
            StopReason::WindowFull => {
                self.transcript.push(Role::User, vec![Block::text(prompt::CONTINUE)]);
                self.compact().await?;
                Ok(None)
            }
            StopReason::Refusal => Err(End::Failed(Failure::new(
                FailureCode::ContentPolicy,
                "the model declined to continue with this task (stop_reason refusal)",
            ))),
            StopReason::Other(reason) => {
                self.error("unknown_stop_reason", &format!("the model ended with stop_reason {reason:?}"));
                Ok(Some(AgentStatus::Unknown))
            }
        }
    }

    /// The turn's event and its last words.
    fn record(&mut self, reply: &Reply) {
        // Masked before it is cut: half of a token would not be known as one.
        let redactor = self.tools.redactor();
        let text = redactor.mask(&reply.text()).into_owned();
        let mut metadata = json!({
            "turn": self.attempted,
            "model": reply.model.as_deref().unwrap_or(&self.work.model),
            "text_preview": event::preview(&text, self.work.preview_max),
            "tool_calls_count": reply.tool_calls.len(),
        });
        if let Some(thinking) = reply.thinking() {
            metadata["thinking_preview"] =
                event::preview(&redactor.mask(&thinking), self.work.preview_max).into();
        }
        self.ctx.events.emit(EventKind::AgentTurn, metadata);
        if !text.trim().is_empty() {
            self.final_text = text;
        }
    }

    fn error(&self, error_type: &str, message: &str) {
        let message = event::preview(&self.tools.redactor().mask(message), self.work.preview_max);
        self.ctx
            .events
            .emit(EventKind::AgentError, json!({ "error_type": error_type, "message_preview": message }));
    }

    fn result(self, end: Result<AgentStatus, End>) -> AgentResult {
        let (status, stop, failure) = match end {
            Ok(status) => (status, None, None),
            Err(End::Stopped(stop)) => (AgentStatus::Unknown, Some(stop), None),
            Err(End::Budget) => (AgentStatus::MaxBudget, None, None),
            Err(End::Failed(failure)) => {
                self.error(failure.code.as_str(), &failure.detail);
                (AgentStatus::Error, None, Some(failure))
            }
        };
        AgentResult {
            status,
            stop,
            turns_attempted: self.attempted,
            turns_completed: self.completed,
            final_text: self.final_text,
            failure,
            tokens: self.tokens,
        }
    }
}

impl From<Stop> for End {
    fn from(stop: Stop) -> Self {
        End::Stopped(stop)
    }
}

impl From<CallError> for End {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Stopped(stop) => End::Stopped(stop),
            CallError::Budget => End::Budget,
            CallError::TooLong(detail) => End::Failed(Failure::new(
                FailureCode::ModelRequestRejected,
                format!(
                    "the transcript does not fit the model's context window even after compaction: {detail}"
                ),
            )),
            CallError::Failed(failure) => End::Failed(failure),
        }
    }
}
