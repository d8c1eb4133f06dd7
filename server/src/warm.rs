//! Filling a repository's dependency cache, by the owner's own act: their commands in a sandbox on the default branch,
//! with the network that the repository's boxes have, and no agent. What they leave in `/box/cache` becomes the next
//! generation, whole or not at all.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use compute::cache::{CacheError, Caches, Generation};
use compute::local::environment;
use domain::event::NewEvent;
use domain::{Attempt, IsolationTier, RepoRef, TaskId};
use forge::ForgeError;
use forge::mirror::Mirrors;
use gateway::egress::attempt::Side;
use gateway::egress::site::book::Book;
use gateway::tunnel;
use orchestrator::Clock;
use sandbox::layout::Folders;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::net::UnixListener;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::config::{Config, Env};
use crate::egress::EgressError;
use crate::outfit::Kit;
use crate::paths::State;
use crate::serve::{self, ServeError};

/// What `bgagent box-warm` reads in its folder.
const FILE: &str = "warm.json";
/// The folder that the box is made in, and the one of the way out.
const BOX: &str = "box";
const GATEWAY: &str = "gateway";
/// A line of a command is cut here.
const LINE_MAX: usize = 4_000;

/// What to do.
#[derive(Debug, Clone)]
pub struct Warm {
    /// Whose cache.
    pub repo: RepoRef,
    /// Lines for a shell.
    pub commands: Vec<String>,
    /// This program: it builds the box.
    pub program: PathBuf,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Warmed {
    /// What new boxes get from now on.
    pub generation: Generation,
    /// What the network was asked for: the events that a task would have.
    pub network: Vec<NewEvent>,
}

/// Why there is no new generation. The one before stays.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum WarmError {
    #[error("{0}")]
    Setup(#[from] ServeError),
    #[error("{0}")]
    Egress(#[from] EgressError),
    #[error("{}", .0.failure)]
    Repository(#[from] ForgeError),
    #[error("the default branch {branch} of {repo} has no commit here")]
    Empty { repo: String, branch: String },
    #[error("{0}")]
    Cache(#[from] CacheError),
    #[error("{doing}: {source}")]
    Io { doing: &'static str, source: std::io::Error },
    #[error("the commands ended with code {code}")]
    Failed { code: i32, network: Vec<NewEvent> },
}

fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> WarmError {
    move |source| WarmError::Io { doing, source }
}

/// Runs the commands and publishes what they left. `said` gets every line that they print.
pub async fn warm(config: &Config, env: &Env, what: &Warm, said: impl Fn(&str)) -> Result<Warmed, WarmError> {
    let state = State(config.state_dir.clone());
    let forge = serve::forges(config)?.of(&what.repo).clone();
    let branch = forge.inspect(&what.repo, None, false).await?.default_branch;
    let mirrors = Mirrors::new(state.mirrors(), state.pushes());
    mirrors.refresh(&what.repo, &forge.remote(&what.repo).await?, &branch).await?;
    let mirror = mirrors.path(&what.repo);
    let commit = git::branch_head(&mirror, &branch).await.ok().flatten();
    let commit = commit.ok_or_else(|| WarmError::Empty { repo: what.repo.to_string(), branch })?;

    let book = Book::new(env.clone(), state.sites(), state.tmp());
    let egress = crate::egress::egress(config, &state, env, Arc::new(book.clone()), Clock::System.now())?;
    let own = egress.certificate_pem().map(str::to_owned);
    let kit = Kit { book, env: env.clone(), own, bundle: state.box_ca() };
    let mut plan = kit.complete(&config.plan_of(&what.repo)).await;
    plan.objects = Some(mirror.join("objects"));
    // What is published holds what these commands fetched, and nothing of earlier ones.
    plan.cache = None;

    let caches = Caches::new(state.caches());
    let workshop = Workshop { dir: caches.workshop()?, caches: &caches };
    let side = egress.owner(&what.repo);
    let told = json!({
        "session": {
            "task": TaskId::from_bits(0), "attempt": Attempt(1), "tier": IsolationTier::Sandbox,
            "gateway": format!("unix:{}/{GATEWAY}/proxy.sock", workshop.dir.display()), "plan": plan,
        },
        "work": { "commit": commit, "commands": what.commands },
    });
    let out = listen(&workshop.dir.join(GATEWAY)).map_err(io("opening the way out of the box"))?;
    fs::write(workshop.dir.join(FILE), told.to_string()).map_err(io("writing what is to be done"))?;
    let code = tokio::select! {
        code = run(config, &what.program, &workshop.dir, &said) => code.map_err(io("running the box"))?,
        () = carry(out, side.clone()) => unreachable!("it goes on for ever"),
    };
    if code != 0 {
        return Err(WarmError::Failed { code, network: side.told() });
    }
    let made = Folders(&workshop.dir.join(BOX)).cache_upper();
    let generation = caches.publish(&what.repo, &made, what.commands.clone(), commit)?;
    Ok(Warmed { generation, network: side.told() })
}

/// Gone when dropped.
struct Workshop<'a> {
    dir: PathBuf,
    caches: &'a Caches,
}

impl Drop for Workshop<'_> {
    fn drop(&mut self) {
        self.caches.discard(&self.dir);
    }
}

/// Listens where the box's worker finds the way out. The folder above is this user's only.
fn listen(folder: &Path) -> std::io::Result<UnixListener> {
    fs::create_dir(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o711))?;
    // By the open folder: its path may be longer than a socket's name can be.
    let open = fs::File::open(folder)?;
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/proxy.sock", open.as_raw_fd()))?;
    fs::set_permissions(folder.join("proxy.sock"), fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Serves every connection of the box's tools.
async fn carry(listener: UnixListener, side: Arc<Side>) {
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let side = side.clone();
        open.spawn(async move {
            // Without room the tool's connection ends, which it can tell and try again.
            let Some(_slot) = side.slot().await else { return };
            tunnel::serve_owner(side, stream).await;
        });
    }
}

/// Builds the box and runs the commands in it, in a process of its own.
async fn run(config: &Config, program: &Path, dir: &Path, said: &impl Fn(&str)) -> std::io::Result<i32> {
    let mut child = Command::new(program)
        .arg("box-warm")
        .arg("--dir")
        .arg(dir)
        .env_clear()
        .envs(environment(std::env::vars_os(), &config.compute.env))
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let ((), (), status) = tokio::join!(lines(out, said), lines(err, said), child.wait());
    Ok(status?.code().unwrap_or(137))
}

async fn lines(stream: Option<impl AsyncRead + Unpin>, said: &impl Fn(&str)) {
    let Some(stream) = stream else { return };
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        match stream.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => said(String::from_utf8_lossy(&line[..line.len().min(LINE_MAX)]).trim_end()),
        }
    }
}
