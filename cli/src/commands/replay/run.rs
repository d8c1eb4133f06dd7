//! `bgagent replay run`: a recorded trajectory once more, through the `script` provider, against the same commit, in a
//! fresh box; then where the two runs differ.
//!
//! It is the path of every task, with a server and a repository of its own: nothing of it reaches the repository of the
//! task, its forge, or a model. What the agent is made of (prompt, tools, policies, harness) is that of this program and of
//! this configuration; what the model said is that of the trace. So a difference is a change of ours.

use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::TaskId;
use protocol::client::{Client, ClientError};
use protocol::rest::{CreateTaskRequest, TaskDetail};
use serde::Serialize;
use server::paths::State;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};
use trace::line::Header;
use trace::play::transcript;
use trace::{Comparison, Trajectory, compare};

use crate::commands::{demo, run, trace as download};
use crate::connect::{self, Overrides, Running};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::folder::{Folder, Keep};
use crate::render;

mod place;

/// Between two looks at the task.
const LOOK: Duration = Duration::from_millis(100);
/// The trace is made within this, once the task has ended.
const SEALED: Duration = Duration::from_secs(60);

/// Run a recorded trajectory again in a fresh box, and see where behaviour differs
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent replay run 01ARZ3NDEKTSV4RRFFQ69G5FAV
  bgagent replay run --trace trace.jsonl.gz --repo ~/src/project --output json

What the model said comes from the trace; prompt, tools, policies and harness are those of this program and your
configuration. Nothing reaches the repository, its forge or a model. Exit codes: 0 it behaves the same, 1 it differs,
2 it could not be run.")]
pub struct Args {
    /// The task; it was submitted with --trace
    #[arg(required_unless_present = "trace")]
    task: Option<TaskId>,
    /// Run this downloaded trace
    #[arg(long, value_name = "FILE", conflicts_with = "task")]
    trace: Option<PathBuf>,
    /// A clone that has the commit the task started from; the task's repository or this folder when absent
    #[arg(long, value_name = "PATH")]
    repo: Option<PathBuf>,
    /// What the box is kept in: sandbox, container, or process (which isolates nothing); as it was when absent
    #[arg(long, value_name = "TIER")]
    isolation: Option<domain::IsolationTier>,
    /// Keep the folder with the repository and the server's state
    #[arg(long)]
    keep: bool,
}

/// What a replay came to.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The recorded task.
    pub recorded_task_id: String,
    /// Its attempt that was run again.
    pub attempt: u32,
    /// The commit both started from.
    pub base_sha: String,
    /// The task that ran it again.
    pub replayed_task_id: String,
    /// Whether it behaves the same.
    pub same: bool,
    /// Whether lines of the recorded trace are missing.
    pub recorded_truncated: bool,
    /// What was compared, and where it differs.
    #[serde(flatten)]
    pub comparison: Comparison,
}

/// Runs the command.
pub async fn run(cx: &Context, args: Args) -> Result<Exit, Failure> {
    // What could not be run is told apart from what differs.
    let report = replayed(cx, &args).await.map_err(|failure| match failure.exit {
        Exit::Failed => failure.exit(Exit::GaveUp),
        Exit::Done | Exit::GaveUp | Exit::Interrupted | Exit::Of(_) => failure,
    })?;
    let Some(report) = report else { return Ok(Exit::Interrupted) };
    cx.result(&report, |view| render::replay::report(&report, view))?;
    Ok(if report.same { Exit::Done } else { Exit::Failed })
}

/// `None` when the person interrupted it.
async fn replayed(cx: &Context, args: &Args) -> Result<Option<Report>, Failure> {
    let packed = match (&args.trace, args.task) {
        (Some(file), _) => {
            std::fs::read(file).map_err(|e| Failure::usage(format!("reading {}: {e}", file.display())))?
        }
        (None, Some(task)) => download::fetch(&connect::connect(cx).await?, task).await?,
        (None, None) => return Err(Failure::usage("which task?").hint("bgagent replay run TASK")),
    };
    let recorded = read(&packed)?;
    let attempt = last_attempt(&recorded);
    let played = transcript(&recorded, attempt).map_err(|e| Failure::new(e.to_string()))?;
    let source = place::source(&recorded.header, args.repo.as_deref()).await?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|e| Failure::new(format!("listening for Ctrl-C: {e}")))?;
    let folder = Folder::make("replay", if args.keep { Keep::Yes } else { Keep::No })?;
    let state = State(folder.path.join("state"));
    let overrides = place::lay_out(cx, &folder.path, &recorded, &played, &source).await?;
    cx.note(&format!(
        "Running {} turns of task {} again, from {} ...",
        played.turns,
        recorded.header.task_id,
        &source.sha[..source.sha.len().min(12)]
    ));
    let running = start(&state, &overrides).await?;
    let work = again(&state, &running, &folder.path, &recorded.header, args.isolation, cx);
    let replayed = tokio::select! {
        replayed = work => replayed.map(Some),
        _ = interrupt.recv() => {
            cx.passing("");
            cx.note("Interrupted; the task is taken away.");
            demo::take_away(&state, &running).await;
            Ok(None)
        }
    };
    connect::stop(running.pid).await;
    if folder.keep == Keep::Yes {
        cx.note(&format!("Kept: {}", folder.path.display()));
    }
    let Some(replayed) = replayed? else { return Ok(None) };
    let comparison = compare(&recorded, attempt, &replayed);
    Ok(Some(Report {
        recorded_task_id: recorded.header.task_id,
        attempt,
        base_sha: source.sha,
        replayed_task_id: replayed.header.task_id,
        same: comparison.differences.is_empty(),
        recorded_truncated: recorded.truncated,
        comparison,
    }))
}

fn read(packed: &[u8]) -> Result<Trajectory, Failure> {
    Trajectory::read(packed).map_err(|e| {
        Failure::new(e.to_string()).hint("Fetch it again with `bgagent trace download TASK -o FILE`.")
    })
}

/// The last attempt whose model calls are in the trace.
fn last_attempt(recorded: &Trajectory) -> u32 {
    recorded.calls.iter().map(|call| call.attempt).max().unwrap_or(recorded.header.attempt)
}

async fn start(state: &State, overrides: &Overrides) -> Result<Running, Failure> {
    connect::start(state, overrides).await
}

/// Gives the task to the server of this replay, and reads its trace.
async fn again(
    state: &State,
    running: &Running,
    folder: &Path,
    header: &Header,
    isolation: Option<domain::IsolationTier>,
    cx: &Context,
) -> Result<Trajectory, Failure> {
    let client = connect::client(state, running)?;
    let isolation = isolation.map(|tier| tier.as_str().to_owned()).or_else(|| header.isolation.clone());
    let request = CreateTaskRequest {
        repo: Some(folder.join(place::REPO).to_string_lossy().into_owned()),
        task_description: Some(header.description.clone()),
        issue_number: header.issue_number,
        max_turns: Some(header.max_turns.into()),
        base_branch: header.base_branch.clone(),
        build_command: header.build_command.clone(),
        lint_command: header.lint_command.clone(),
        trace: Some(true),
        isolation,
        ..CreateTaskRequest::default()
    };
    let (task, _) = client.create_task(&request, None).await?;
    let id = run::id_of(&task)?;
    let ended = ended(cx, &client, id).await?;
    let packed = sealed(&client, id, &ended).await?;
    read(&packed)
}

async fn ended(cx: &Context, client: &Client, id: TaskId) -> Result<TaskDetail, Failure> {
    loop {
        let task = client.task(id).await?;
        if task.is_terminal() {
            cx.passing("");
            return Ok(task);
        }
        cx.passing(&format!("{} ...", crate::clean::line(&task.status)));
        sleep(LOOK).await;
    }
}

/// The trace of a task that has ended: it is made right after.
async fn sealed(client: &Client, id: TaskId, task: &TaskDetail) -> Result<Vec<u8>, Failure> {
    let deadline = Instant::now() + SEALED;
    loop {
        match client.trace(id).await {
            Ok(_) => return download::fetch(client, id).await,
            Err(ClientError::Api { code, .. })
                if code == "TRACE_NOT_AVAILABLE" && Instant::now() < deadline =>
            {
                // A task that never asked a model has none, and will not have one.
                if task.turns_attempted.is_none() && task.error_message.is_some() {
                    let why = task.error_message.as_deref().unwrap_or_default();
                    return Err(Failure::new(format!("the replay ended before its first turn: {why}")));
                }
                sleep(LOOK).await;
            }
            Err(failure) => return Err(failure.into()),
        }
    }
}
