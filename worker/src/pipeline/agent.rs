//! The stage of the agent: what the harness is given, and what its end means.

use std::sync::Arc;

use async_trait::async_trait;
use domain::report::AgentStatus;
use domain::{EventKind, Failure, FailureCode, PromptVersion, TokenCount, limit};
use protocol::box_api::WorkSpec;
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use super::Pipeline;
use crate::attachment::Brought;
use crate::harness::native::Native;
use crate::harness::{
    AgentResult, EventSink, Harness, HarnessContext, ModelEndpoint, Signal, Signals, Stop as HeardStop, Work,
};
use crate::repo::Checkout;
use crate::spool::Spool;
use crate::stop::{Reason, Stop};

/// Runs the harness in a task of its own, so that a panic in it is a failure of the agent and the work is still saved.
pub(super) async fn run(
    pipeline: &Pipeline,
    checkout: &Checkout,
    attachments: Vec<Brought>,
) -> Result<AgentResult, Failure> {
    let Pipeline { spec, gateway, spool, stop, mailbox, .. } = pipeline;
    let harness = harness(&spec.harness)?;
    let context = HarnessContext {
        model: ModelEndpoint {
            client: gateway.http().clone(),
            base: format!("{}/model", gateway.address().base_url()),
            bearer: gateway.token().clone(),
        },
        events: Arc::new(Sink(spool.clone())),
        signals: Arc::new(Ear(stop.clone())),
        steering: Arc::new(mailbox.clone()),
        environment: checkout.launcher.environment(),
        launcher: checkout.launcher.clone(),
    };
    let work = Work { attachments, ..work_of(spec, checkout) };
    #[expect(clippy::disallowed_methods, reason = "ends with its handle, which is awaited here")]
    let task = tokio::spawn(async move { harness.run(work, &context).await });
    let result = AbortOnDropHandle::new(task).await;
    let result = result
        .map_err(|panic| Failure::new(FailureCode::WorkerCrashed, format!("the agent loop: {panic}")))?;
    // The harness may hear first (a 409 of the model proxy, say): what it heard holds for everything here.
    match result.stop {
        Some(HeardStop::Cancelled) => stop.ask(Reason::Cancelled),
        Some(HeardStop::Superseded) => stop.ask(Reason::Superseded),
        None => (),
    }
    Ok(result)
}

/// What is known of an agent that could not tell.
pub(super) fn failed(failure: Failure) -> AgentResult {
    AgentResult {
        status: AgentStatus::Error,
        stop: None,
        turns_attempted: 0,
        turns_completed: 0,
        final_text: String::new(),
        failure: Some(failure),
        tokens: TokenCount::default(),
    }
}

fn harness(name: &str) -> Result<Box<dyn Harness>, Failure> {
    match name {
        "native" => Ok(Box::new(Native::default())),
        other => {
            let why = format!("this worker has no harness {other:?}; it has: native");
            Err(Failure::new(FailureCode::AgentBinaryMissing, why).resource(other))
        }
    }
}

/// Which words the agent will work by; none of a harness that is not there, which [`run`] tells.
pub(super) fn prompt_version(spec: &WorkSpec) -> Option<PromptVersion> {
    harness(&spec.harness).ok().map(|harness| harness.prompt_version())
}

fn work_of(spec: &WorkSpec, checkout: &Checkout) -> Work {
    let mut prompt = spec.description.clone();
    if let Some(issue) = spec.issue_number {
        prompt = format!("{prompt}\n\nThis is about issue #{issue} of {}.", spec.repo);
    }
    let mut notes = spec.notes.clone();
    if checkout.is_resumed() {
        notes.push(
            "The branch holds the work of an earlier attempt at this task: look at it first and go on."
                .into(),
        );
    }
    if checkout.saved.is_some() {
        notes.push("Files that it had changed and not committed are in the work tree as it had them.".into());
    }
    let preview_max = if spec.trace { limit::PREVIEW_TRACE_MAX_CHARS } else { limit::PREVIEW_MAX_CHARS };
    Work {
        prompt,
        earlier: spec.earlier.clone(),
        system: notes.join("\n"),
        repo: spec.repo.clone(),
        branch: spec.branch.clone(),
        model: spec.model.clone(),
        max_turns: spec.max_turns,
        context_window: spec.context_window,
        max_output_tokens: spec.max_output_tokens,
        preview_max,
        output_max: spec.tool_output_bytes,
        work_dir: checkout.dir.clone(),
        attachments: Vec::new(),
    }
}

struct Sink(Spool);

impl EventSink for Sink {
    fn emit(&self, kind: EventKind, metadata: Value) {
        self.0.append(kind, metadata);
    }
}

struct Ear(Stop);

#[async_trait]
impl Signals for Ear {
    async fn check(&self) -> Signal {
        match self.0.reason() {
            None => Signal::Continue,
            Some(Reason::Superseded) => Signal::Superseded,
            Some(Reason::Leaving | Reason::Cancelled | Reason::Unauthorized | Reason::Terminated) => {
                Signal::Cancelled
            }
        }
    }
}
