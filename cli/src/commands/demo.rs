//! `bgagent demo`: the whole path, without a key and without a network.
//!
//! A small repository with a failing test, a recorded transcript in the place of a model, a server with a state folder of
//! its own. From there on it is the path of every task.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use domain::TaskId;
use domain::limit::EVENTS_PAGE_MAX;
use protocol::client::{Client, EventQuery, Order, TaskFilter};
use protocol::rest::{CreateTaskRequest, TaskDetail};
use server::paths::State;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::attachment::Attached;
use super::request::Asked;
use super::run;
use super::watch;
use crate::args::Output;
use crate::clean;
use crate::connect::{self, Overrides, Running};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::folder::{Folder, Keep};
use crate::render::outcome::{quoted, summary};
use crate::render::pull_request::{Depth, pull_request};
use crate::render::timeline::timeline;

/// What the repository holds before the task.
const FILES: [(&str, &str); 3] = [
    ("README.md", include_str!("demo/README.md")),
    ("add.sh", include_str!("demo/add.sh")),
    ("test.sh", include_str!("demo/test.sh")),
];
/// What the scripted model says.
const TRANSCRIPT: &str = include_str!("demo/transcript.json");
/// A box that was cancelled is gone within this.
const BOX_GONE: Duration = Duration::from_secs(8);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(50);
/// What is asked.
const TASK: &str = "The test fails: add.sh gets sums with negative numbers wrong. Find out why and fix it.";

/// See the whole path in a few seconds: no key, no network, nothing kept
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent demo
  bgagent demo --keep

It makes a small repository with a failing test, starts a server of its own, and gives it a task. A recorded transcript
stands in for the model; everything else is what every task goes through.")]
pub struct Args {
    /// Keep the folder with the repository and the server's state
    #[arg(long)]
    keep: bool,
    /// What the box is kept in: sandbox, container, or process (which isolates nothing); the default is the server's
    #[arg(long, value_name = "TIER")]
    isolation: Option<domain::IsolationTier>,
}

/// Runs the command.
pub async fn demo(cx: &Context, args: Args) -> Result<Exit, Failure> {
    // From here on an interruption is noted, and heeded where everything can be taken away.
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|e| Failure::new(format!("listening for Ctrl-C: {e}")))?;
    let folder = Folder::make("demo", if args.keep { Keep::Yes } else { Keep::No })?;
    let state = State(folder.path.join("state"));
    let repo = folder.path.join("repo");
    make_repo(&repo).await?;
    write(&folder.path.join("transcript.json"), TRANSCRIPT)?;
    let config = folder.path.join("bgagent.toml");
    write(&config, &settings(&folder.path))?;
    cx.note(&format!("A repository with a failing test is in {}", repo.display()));
    let running = connect::start(&state, &overrides(cx, &config)).await?;
    let shown = tokio::select! {
        shown = show(cx, &state, &running, &repo, args.isolation) => shown,
        _ = interrupt.recv() => {
            cx.note("Interrupted; the demo and its task are taken away.");
            take_away(&state, &running).await;
            Ok(Exit::Interrupted)
        }
    };
    connect::stop(running.pid).await;
    tell_kept(cx, &folder);
    shown
}

/// Gives the task, watches it, shows what came of it.
async fn show(
    cx: &Context,
    state: &State,
    running: &Running,
    repo: &Path,
    isolation: Option<domain::IsolationTier>,
) -> Result<Exit, Failure> {
    let client = connect::client(state, running)?;
    let request = CreateTaskRequest {
        repo: Some(repo.to_string_lossy().into_owned()),
        task_description: Some(TASK.into()),
        build_command: Some("sh test.sh".into()),
        isolation: isolation.map(|tier| tier.as_str().to_owned()),
        ..CreateTaskRequest::default()
    };
    let asked = Asked { request, key: None, attached: Attached::default() };
    let task = run::submit(cx, &client, &asked).await?;
    let id = run::id_of(&task)?;
    let task = watch::follow_to_end(cx, &client, id).await?;
    result(cx, &client, id, &task).await
}

/// Ends what runs and waits until its box is gone: a box outlives its server.
pub(super) async fn take_away(state: &State, running: &Running) {
    let Ok(client) = connect::client(state, running) else { return };
    let Ok(page) = client.list(&TaskFilter::default()).await else { return };
    let deadline = Instant::now() + BOX_GONE;
    for id in page.data.iter().filter_map(|task| task.task_id.parse::<TaskId>().ok()) {
        if client.cancel(id).await.is_err() {
            continue;
        }
        let newest = EventQuery { order: Order::NewestFirst, ..EventQuery::default() };
        while Instant::now() < deadline {
            match client.events(id, &newest).await {
                Ok(page) if !page.data.iter().any(|e| e.event_type == "session_stopped") => {
                    tokio::time::sleep(LOOK).await;
                }
                Ok(_) | Err(_) => break,
            }
        }
    }
}

async fn result(cx: &Context, client: &Client, id: TaskId, task: &TaskDetail) -> Result<Exit, Failure> {
    if cx.output == Output::Text {
        cx.text("")?;
    }
    let pr = match &task.pr_url {
        Some(_) => Some(client.pull_request(id).await?),
        None => None,
    };
    if let Some(pr) = &pr {
        cx.result(pr, |view| format!("{}\n", pull_request(pr, Depth::Diff, view)))?;
    }
    let events =
        client.events(id, &EventQuery { limit: Some(EVENTS_PAGE_MAX), ..EventQuery::default() }).await?.data;
    if cx.output == Output::Text {
        cx.text(&format!("{}\n", timeline(&events)))?;
    }
    cx.result(task, |view| summary(task, view))?;
    if cx.output == Output::Text {
        cx.text(NEXT)?;
    }
    let opened = task.status == "COMPLETED" && pr.is_some();
    Ok(if opened { Exit::Done } else { Exit::Failed })
}

/// What comes after the demo.
const NEXT: &str = "
That was a recorded transcript, and its price is made up. For a real model set one of
  ANTHROPIC_API_KEY=...                            Anthropic
  OPENAI_API_KEY=...                               OpenAI
  OPENAI_BASE_URL=http://127.0.0.1:8000/v1         any OpenAI-compatible server
and give a task in a repository of yours:
  bgagent run \"Fix the failing test\"";

/// Says where a kept folder is, and how to look at it again.
fn tell_kept(cx: &Context, folder: &Folder) {
    if folder.keep == Keep::Yes {
        let config = quoted(&folder.path.join("bgagent.toml").to_string_lossy());
        cx.note(&format!(
            "\nKept: {}\nLook again with: BGAGENT_CONFIG={} bgagent list",
            clean::line(&folder.path.to_string_lossy()),
            clean::line(&config)
        ));
    }
}

/// The settings a person would write for such a model.
fn settings(folder: &Path) -> String {
    let path = |name: &str| toml::Value::String(folder.join(name).to_string_lossy().into_owned());
    format!(
        "state_dir = {}\n\n[model]\ndefault = \"demo/recorded\"\n\n[model.providers.demo]\nkind = \"script\"\npath = {}\n\n\
         [[model.prices]]\nmodel = \"recorded\"\nas_of = \"2026-01-01\"\ninput = 3.0\noutput = 15.0\n\n[egress]\nallow = []\n",
        path("state"),
        path("transcript.json"),
    )
}

/// The demo's server reads the demo's settings: none of the person's, and none of their keys.
fn overrides(cx: &Context, config: &Path) -> Overrides {
    let foreign = |name: &String| {
        name.starts_with("BGAGENT")
            || ["ANTHROPIC_", "OPENAI_", "GITHUB_"].iter().any(|prefix| name.starts_with(prefix))
    };
    Overrides {
        set: vec![("BGAGENT_CONFIG".into(), config.to_string_lossy().into_owned())],
        remove: cx.env.keys().filter(|name| foreign(name)).cloned().collect(),
    }
}

async fn make_repo(repo: &Path) -> Result<(), Failure> {
    std::fs::create_dir(repo).map_err(|e| Failure::new(format!("making {}: {e}", repo.display())))?;
    for (name, text) in FILES {
        write(&repo.join(name), text)?;
    }
    git(repo, &["init", "--quiet", "--initial-branch=main"]).await?;
    git(repo, &["add", "."]).await?;
    let identity = ["-c", "user.name=Demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false"];
    let commit = ["commit", "--quiet", "--no-verify", "-m", "A small calculator"];
    git(repo, &[&identity[..], &commit[..]].concat()).await
}

async fn git(repo: &Path, args: &[&str]) -> Result<(), Failure> {
    let out =
        Command::new("git").arg("-C").arg(repo).args(args).stdin(Stdio::null()).output().await.map_err(
            |e| {
                Failure::new(format!("running git: {e}"))
                    .hint("Install git (2.30 or newer); `bgagent doctor` checks it.")
            },
        )?;
    if out.status.success() {
        return Ok(());
    }
    let said = clean::line(&String::from_utf8_lossy(&out.stderr));
    Err(Failure::new(format!("git {}: {said}", args.join(" "))).hint("`bgagent doctor` checks git."))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|e| Failure::new(format!("writing {}: {e}", path.display())))
}
