//! Which server a command talks to: the one that was named, else this machine's, started when it does not run.
//!
//! The started server is a process of its own in its own session: it outlives the command, so that Ctrl-C leaves tasks
//! running, and ends by itself after a while without work.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use domain::Status;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use protocol::client::{Client, TaskFilter};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use server::paths::State;
use tokio::time::{Instant, sleep};
use url::Url;

use crate::clean;
use crate::context::Context;
use crate::credentials::Credentials;
use crate::failure::Failure;
use crate::session::Session;

/// A started server must be ready within this.
const READY: Duration = Duration::from_secs(10);
/// How a server ends that finds another one in its state folder: `EX_TEMPFAIL` of `sysexits.h`.
pub const TAKEN: u8 = 75;
/// Between two looks at a server that starts.
const LOOK: Duration = Duration::from_millis(10);
/// A server of this machine answers within this, or is none.
const ANSWER: Duration = Duration::from_secs(3);
/// A started server ends after so many seconds without work.
const IDLE_EXIT_S: u64 = 900;
/// Lines of the log that are shown when it does not start.
const LOG_LINES: usize = 15;

/// The running server of a state folder, as it says itself.
#[derive(Debug, Clone, Deserialize)]
pub struct Running {
    /// Where it listens.
    pub url: Url,
    /// Its process.
    pub pid: i32,
    /// Whether a command started it, and may replace it.
    #[serde(default)]
    background: bool,
    /// Keyed hash of the settings it was started with.
    #[serde(default)]
    settings: String,
}

/// A client of the server that this command is for.
pub async fn connect(cx: &Context) -> Result<Client, Failure> {
    let config = cx.config()?;
    match named(cx, &config.api.url)? {
        Some(url) => {
            cx.verbose(&format!("using the server at {url}"));
            signed_in(cx, url, key(cx, &config.api.key)).await
        }
        None => {
            let state = State(config.state_dir);
            let running = match find(&state).await {
                Some(running) => running,
                None => started(cx, &state).await?,
            };
            cx.verbose(&format!("using this machine's server at {}, process {}", running.url, running.pid));
            client(&state, &running)
        }
    }
}

/// The same for a command that gives a task: a server that an earlier command started, with a model key that has
/// changed since, say, is replaced when it has nothing to do.
pub async fn connect_to_submit(cx: &Context) -> Result<Client, Failure> {
    let client = connect(cx).await?;
    let config = cx.config()?;
    if named(cx, &config.api.url)?.is_some() {
        return Ok(client);
    }
    let state = State(config.state_dir);
    let Some(running) = find(&state).await.filter(|r| r.background) else { return Ok(client) };
    if running.settings == server::config::fingerprint(&cx.env, &owner_key(&state)?) {
        return Ok(client);
    }
    if busy(&client).await? {
        cx.note(
            "! The server in the background has the settings it was started with: yours differ, and take effect when its tasks have ended.",
        );
        return Ok(client);
    }
    cx.verbose("the settings have changed; starting the server anew");
    stop(running.pid).await;
    let running = started(cx, &state).await?;
    self::client(&state, &running)
}

async fn started(cx: &Context, state: &State) -> Result<Running, Failure> {
    cx.verbose(&format!("starting a server for {}", state.0.display()));
    start(state, &Overrides::default()).await
}

/// Whether a task has not ended.
async fn busy(client: &Client) -> Result<bool, Failure> {
    let open: Vec<_> = Status::ALL.iter().filter(|s| !s.is_terminal()).map(|s| s.as_str()).collect();
    let filter = TaskFilter { status: Some(open.join(",")), limit: Some(1), ..TaskFilter::default() };
    Ok(!client.list(&filter).await?.data.is_empty())
}

/// The server that was named by flag, environment or configuration.
pub fn named(cx: &Context, configured: &str) -> Result<Option<Url>, Failure> {
    let text = cx.api_url.clone().or(Some(configured.to_owned()).filter(|url| !url.is_empty()));
    // Whoever has signed in somewhere means that server.
    let text = match text {
        Some(text) => Some(text),
        None => Credentials::load(&cx.env)?.current,
    };
    let parsed = text.as_deref().map(|text| {
        Url::parse(text).map_err(|e| {
            Failure::usage(format!("{:?} is no server address: {e}", clean::line(text)))
                .hint("Give it as http://host:port, with --api-url or BGAGENT_API_URL.")
        })
    });
    parsed.transpose()
}

/// A client of a server that was named: with the key that was set for it, else as whoever has signed in there.
pub async fn signed_in(cx: &Context, url: Url, key: Option<SecretString>) -> Result<Client, Failure> {
    let client = Client::new(url, key)?;
    if client.has_key() {
        return Ok(client);
    }
    Ok(match Session::of(cx, client.base())? {
        Some(session) => {
            cx.verbose(&format!("signed in as {}", session.user()));
            client.with_bearer(Arc::new(session))
        }
        None => client,
    })
}

/// The key for a server that was named.
pub fn key(cx: &Context, configured: &SecretString) -> Option<SecretString> {
    let from_env = cx.env.get("BGAGENT_API_KEY").map(|k| k.trim()).filter(|k| !k.is_empty());
    let key = from_env.unwrap_or_else(|| configured.expose_secret());
    (!key.is_empty()).then(|| SecretString::from(key.to_owned()))
}

/// A client with the owner's key of this machine's server.
pub fn client(state: &State, running: &Running) -> Result<Client, Failure> {
    Ok(Client::new(running.url.clone(), Some(owner_key(state)?))?)
}

/// The owner's key of a state folder.
pub fn owner_key(state: &State) -> Result<SecretString, Failure> {
    let path = state.owner_key();
    let text = std::fs::read_to_string(&path).map_err(|e| {
        Failure::new(format!("reading the owner's key {}: {e}", path.display()))
            .hint("It is made when the server starts for the first time: `bgagent serve`.")
    })?;
    Ok(SecretString::from(text.trim().to_owned()))
}

/// The same, made when there is none yet: the server that starts later takes it over.
pub fn owner_key_made(state: &State) -> Result<SecretString, Failure> {
    make_state_folder(state)?;
    let path = state.owner_key();
    server::identity::secret_file(&path, "bgak_").map_err(|e| unusable("making the owner's key", &path, &e))
}

fn unusable(what: &str, path: &Path, e: &std::io::Error) -> Failure {
    Failure::new(format!("{what} {}: {e}", path.display()))
        .hint("Make it writable, or name another state folder with BGAGENT__STATE_DIR.")
}

fn make_state_folder(state: &State) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&state.0);
    made.map_err(|e| unusable("making the state folder", &state.0, &e))
}

/// The running server of a state folder, if there is one. A file that a killed server left is not believed.
pub async fn find(state: &State) -> Option<Running> {
    let text = std::fs::read_to_string(state.server_json()).ok()?;
    let running: Running = serde_json::from_str(&text).ok()?;
    if running.pid <= 0 || kill(Pid::from_raw(running.pid), None) == Err(Errno::ESRCH) {
        return None;
    }
    let client = Client::new(running.url.clone(), None).ok()?;
    client.health(ANSWER).await.ok()?;
    Some(running)
}

/// How a started server's environment differs from ours.
#[derive(Debug, Default)]
pub struct Overrides {
    /// Variables to set.
    pub set: Vec<(String, String)>,
    /// Variables to take away.
    pub remove: Vec<String>,
}

/// Starts a server for a state folder and waits until it is ready. When another process does the same at the same
/// time, one of the two servers wins, and both find that one.
pub async fn start(state: &State, overrides: &Overrides) -> Result<Running, Failure> {
    make_state_folder(state)?;
    let log_path = state.server_log();
    let log = open_log(&log_path).map_err(|e| unusable("opening the server's log", &log_path, &e))?;
    let mut child = spawn(log, overrides)?;
    let deadline = Instant::now() + READY;
    let mut ended = None;
    loop {
        if let Some(running) = find(state).await {
            return Ok(running);
        }
        if ended.is_none() {
            ended = child.try_wait().ok().flatten();
        }
        let lost = ended.is_some_and(|status: ExitStatus| status.code() == Some(TAKEN.into()));
        if lost && !held_by_another(state, child.id()) && Instant::now() < deadline {
            // The other one has not said yet who it is, or was just about to end.
            sleep(LOOK * 10).await;
            let log = open_log(&log_path).map_err(|e| unusable("opening the server's log", &log_path, &e))?;
            child = spawn(log, overrides)?;
            ended = None;
            continue;
        }
        let hopeless = ended.is_some() && !lost;
        if hopeless || Instant::now() >= deadline {
            let how = match ended {
                Some(status) => format!("it ended with {status}"),
                None => format!("it was not ready within {} s", READY.as_secs()),
            };
            if ended.is_none() {
                stop(child.id().cast_signed()).await;
            }
            let hint = format!(
                "Correct what the log says ({}), or run `bgagent serve` to see it.",
                log_path.display()
            );
            return Err(
                Failure::new(format!("starting the server failed: {how}\n{}", tail(&log_path))).hint(hint)
            );
        }
        sleep(LOOK).await;
    }
}

/// Asks a server that we started to end.
pub async fn stop(pid: i32) {
    let pid = Pid::from_raw(pid);
    if kill(pid, nix::sys::signal::Signal::SIGTERM).is_err() {
        return;
    }
    let deadline = Instant::now() + READY;
    // A child of ours that has ended stays a process until it is waited for.
    let gone = || {
        let reaped = nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::WNOHANG));
        let still = matches!(reaped, Ok(nix::sys::wait::WaitStatus::StillAlive));
        !still && kill(pid, None).is_err()
    };
    while !gone() && Instant::now() < deadline {
        sleep(LOOK).await;
    }
}

/// Whether a living process other than `ours` has the state folder's lock.
fn held_by_another(state: &State, ours: u32) -> bool {
    let holder = std::fs::read_to_string(state.lock()).ok().and_then(|text| text.trim().parse::<i32>().ok());
    holder.is_some_and(|pid| {
        pid > 0 && pid != ours.cast_signed() && kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
    })
}

fn open_log(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn spawn(log: File, overrides: &Overrides) -> Result<Child, Failure> {
    let failed = |e: std::io::Error| Failure::new(format!("starting the server: {e}"));
    let program: PathBuf = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command
        .args(["serve", "--background", "--idle-exit", &IDLE_EXIT_S.to_string()])
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(failed)?)
        .stderr(log)
        .current_dir("/");
    for name in &overrides.remove {
        command.env_remove(name);
    }
    command.envs(overrides.set.iter().map(|(name, value)| (name, value)));
    command.spawn().map_err(failed)
}

/// The end of the log, for an error.
fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let shown =
        lines[lines.len().saturating_sub(LOG_LINES)..].iter().map(|l| format!("  {}", clean::line(l)));
    shown.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_killed_server_left_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let state = State(dir.path().to_owned());
        assert!(find(&state).await.is_none());
        for text in [
            "",
            "{",
            r#"{"url":"http://127.0.0.1:9","pid":999999999}"#,
            r#"{"url":"http://127.0.0.1:9","pid":0}"#,
        ] {
            std::fs::write(state.server_json(), text).unwrap();
            assert!(find(&state).await.is_none(), "{text}");
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let ours = format!(r#"{{"url":"http://127.0.0.1:{port}","pid":{}}}"#, std::process::id());
        std::fs::write(state.server_json(), ours).unwrap();
        assert!(find(&state).await.is_none(), "alive, but nobody answers");
    }

    #[test]
    fn the_log_is_shown_from_its_end_and_clean() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let lines: Vec<_> = (0..40).map(|n| format!("line {n}\u{1b}[2J")).collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        let tail = tail(&path);
        assert_eq!(tail.lines().count(), LOG_LINES);
        assert!(tail.ends_with("  line 39␛[2J"), "{tail}");
    }
}
