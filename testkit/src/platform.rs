//! A whole platform as it runs: `bgagent serve`, started from the real binary with folders of its own, reached through
//! its API, killed and started again, and searched for what it leaves behind.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use domain::TaskId;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocol::client::Client;
use protocol::rest::{CreateTaskRequest, TaskDetail};
use secrecy::SecretString;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use url::Url;

use crate::poll;

/// A server may take this long to be ready.
const READY: Duration = Duration::from_secs(60);
/// The environment variable that marks every process of a box, as `<task>-<attempt>`.
const MARK: &[u8] = b"BGAGENT_SESSION=";

/// A platform. Dropping it kills the server and whatever its boxes left; call [`Platform::end`] to be told what that was.
#[derive(Debug)]
pub struct Platform {
    home: TempDir,
    binary: PathBuf,
    env: BTreeMap<String, String>,
    user: Option<u32>,
    server: Option<Child>,
    client: Option<Client>,
}

/// `server.json`.
#[derive(Debug, Deserialize)]
struct Address {
    url: Url,
    pid: i32,
}

/// A process of a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Its process id.
    pub pid: i32,
    /// Its session: `<task>-<attempt>`.
    pub session: String,
    /// What it runs.
    pub command: String,
}

impl Platform {
    /// A platform that is not started yet, run by `binary` (`env!("CARGO_BIN_EXE_bgagent")`) or by what
    /// `BGAGENT_TEST_BINARY` names. Its model is the script (a file, or a folder of them) at `script`.
    pub fn new(binary: &str, script: &Path, model: &str) -> anyhow::Result<Platform> {
        Platform::new_in(&std::env::temp_dir(), binary, script, model)
    }

    /// The same, with its home in this folder.
    #[expect(clippy::disallowed_methods, reason = "tests are told their binary here, and nowhere else")]
    pub fn new_in(folder: &Path, binary: &str, script: &Path, model: &str) -> anyhow::Result<Platform> {
        let binary = std::env::var("BGAGENT_TEST_BINARY").unwrap_or_else(|_| binary.to_owned()).into();
        // Closed to others, as a person's state folder is: boxes of another user are only started below such a one.
        let closed = fs::Permissions::from_mode(0o700);
        let home = tempfile::Builder::new().prefix("bgagent-").permissions(closed).tempdir_in(folder)?;
        let mut env = BTreeMap::new();
        for (name, folder) in [
            ("HOME", "home"),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_STATE_HOME", "xdg-state"),
            ("XDG_DATA_HOME", "data"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_RUNTIME_DIR", "run"),
            ("BGAGENT__STATE_DIR", "state"),
        ] {
            let path = home.path().join(folder);
            fs::create_dir_all(&path)?;
            env.insert(name.to_owned(), path.display().to_string());
        }
        env.insert("PATH".into(), std::env::var("PATH").context("reading PATH")?);
        env.insert("BGAGENT__SERVER__LISTEN".into(), "127.0.0.1:0".into());
        env.insert("BGAGENT__MODEL__PROVIDERS__DEMO__KIND".into(), "script".into());
        env.insert("BGAGENT__MODEL__PROVIDERS__DEMO__PATH".into(), script.display().to_string());
        env.insert("BGAGENT__MODEL__DEFAULT".into(), format!("demo/{model}"));
        Ok(Platform { home, binary, env, user: None, server: None, client: None })
    }

    /// The program that the next start runs.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Has another program run from the next start on.
    #[must_use]
    pub fn run_by(mut self, binary: &Path) -> Platform {
        binary.clone_into(&mut self.binary);
        self
    }

    /// Sets an environment variable for the next start, `BGAGENT__LIMITS__...` say.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Platform {
        self.set(name, value);
        self
    }

    /// Sets an environment variable for the next start.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.env.insert(name.to_owned(), value.to_string());
    }

    /// Takes one away again.
    pub fn unset(&mut self, name: &str) {
        self.env.remove(name);
    }

    /// Has the server run as this user, with the group of the same number and no other, and gives it the home as it is
    /// now. Only root may.
    pub fn as_user(mut self, id: u32) -> anyhow::Result<Platform> {
        give(self.home.path(), id)?;
        self.user = Some(id);
        Ok(self)
    }

    /// Where everything is kept.
    pub fn state_dir(&self) -> PathBuf {
        self.home.path().join("state")
    }

    /// What the server printed so far.
    pub fn log(&self) -> String {
        let text = |name| fs::read(self.home.path().join(name)).unwrap_or_default();
        [text("stdout.log"), text("stderr.log")]
            .map(|t| String::from_utf8_lossy(&t).into_owned())
            .join("\n--\n")
    }

    /// A command of the same program with the same folders: `bgagent submit ...`.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(args).env_clear().envs(&self.env).current_dir(self.home.path()).kill_on_drop(true);
        if let Some(id) = self.user {
            // Other groups are given up with it.
            command.uid(id).gid(id);
        }
        command
    }

    /// Starts the server and waits until it is ready.
    pub async fn start(&mut self) -> anyhow::Result<&Client> {
        anyhow::ensure!(self.server.is_none(), "the server runs already");
        let log = |name| {
            let path = self.home.path().join(name);
            fs::OpenOptions::new().create(true).append(true).open(path).map(Stdio::from)
        };
        let (out, err) = (log("stdout.log")?, log("stderr.log")?);
        let child = self.command(&["serve"]).stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let mut child = child.with_context(|| format!("starting {}", self.binary.display()))?;
        let client = self.ready(&mut child).await.with_context(|| format!("it printed:\n{}", self.log()));
        self.server = Some(child);
        Ok(self.client.insert(client?))
    }

    /// The client of the server that runs, or ran last.
    pub fn client(&self) -> anyhow::Result<&Client> {
        self.client.as_ref().context("the server was never started")
    }

    /// The server's process id.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().and_then(Child::id)
    }

    /// Kills the server with SIGKILL: nothing of it gets to say goodbye. Its boxes live on.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        let mut server = self.server.take().context("the server does not run")?;
        server.kill().await.context("killing the server")
    }

    /// Waits until the server has died by itself (an armed fault point, say).
    pub async fn died(&mut self, within: Duration) -> anyhow::Result<()> {
        let mut server = self.server.take().context("the server does not run")?;
        match tokio::time::timeout(within, server.wait()).await {
            Ok(status) => status.map(drop).context("waiting for the server"),
            Err(_) => {
                self.server = Some(server);
                bail!("the server still ran after {} s", within.as_secs_f32())
            }
        }
    }

    /// Asks the server to stop (SIGTERM) and waits until it has.
    pub async fn stop(&mut self, within: Duration) -> anyhow::Result<()> {
        if let Some(pid) = self.pid() {
            kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM).context("asking the server to stop")?;
        }
        self.died(within).await
    }

    /// Submits a task on a repository.
    pub async fn submit(&self, repo: &Path, description: &str) -> anyhow::Result<TaskId> {
        let request = CreateTaskRequest {
            repo: Some(repo.display().to_string()),
            task_description: Some(description.to_owned()),
            ..CreateTaskRequest::default()
        };
        let (task, _) = self.client()?.create_task(&request, None).await?;
        Ok(task.task_id.parse()?)
    }

    /// Waits until the task is in one of these states. Answers that do not come (a server that restarts) are asked for
    /// again.
    pub async fn wait_for(
        &self,
        task: TaskId,
        states: &[&str],
        within: Duration,
    ) -> anyhow::Result<TaskDetail> {
        let client = self.client()?;
        let seen = async || client.task(task).await.ok().filter(|t| states.contains(&t.status.as_str()));
        let found = poll::until(format!("task {task} to be one of {states:?}"), within, seen).await;
        found.with_context(|| format!("the server printed:\n{}", self.log()))
    }

    /// Waits until the task has ended.
    pub async fn ended(&self, task: TaskId, within: Duration) -> anyhow::Result<TaskDetail> {
        self.wait_for(task, &["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"], within).await
    }

    /// Processes of this platform's boxes that live.
    pub fn leftovers(&self) -> Vec<Leftover> {
        let state = self.home.path().display().to_string();
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok());
        pids.filter_map(|pid| leftover(pid, &state)).collect()
    }

    /// Waits until no process of a box lives.
    pub async fn boxes_gone(&self, within: Duration) -> anyhow::Result<()> {
        let none = async || self.leftovers().is_empty().then_some(());
        let gone = poll::until("every process of every box to be gone", within, none).await;
        gone.with_context(|| format!("these live: {:?}", self.leftovers()))
    }

    /// Kills what runs; fails when a process of a box was still there although every task had ended.
    pub async fn end(mut self, within: Duration) -> anyhow::Result<()> {
        let gone = self.boxes_gone(within).await;
        if self.server.is_some() {
            self.kill().await?;
        }
        gone
    }

    async fn ready(&self, child: &mut Child) -> anyhow::Result<Client> {
        let pid = child.id().context("the server has no process id")?;
        let state = self.state_dir();
        let deadline = tokio::time::Instant::now() + READY;
        loop {
            if let Some(status) = child.try_wait()? {
                bail!("the server ended with {status} before it was ready");
            }
            if let Some(client) = connect(&state, i32::try_from(pid)?)?
                && client.health(Duration::from_secs(2)).await.is_ok_and(|health| health.status == "ok")
            {
                return Ok(client);
            }
            anyhow::ensure!(
                tokio::time::Instant::now() < deadline,
                "it was not ready within {} s",
                READY.as_secs()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.start_kill();
        }
        for left in self.leftovers() {
            let _ = kill(Pid::from_raw(left.pid), Signal::SIGKILL);
        }
    }
}

/// Gives a folder to a user, with all in it.
pub fn give(path: &Path, id: u32) -> anyhow::Result<()> {
    let give = |path: &Path| {
        let given = std::os::unix::fs::lchown(path, Some(id), Some(id));
        given.with_context(|| format!("giving {} to user {id}", path.display()))
    };
    give(path)?;
    if path.symlink_metadata()?.is_dir() {
        for entry in fs::read_dir(path)? {
            self::give(&entry?.path(), id)?;
        }
    }
    Ok(())
}

/// The client of the server that wrote `server.json`, when that is ours.
fn connect(state: &Path, pid: i32) -> anyhow::Result<Option<Client>> {
    let Ok(text) = fs::read(state.join("server.json")) else { return Ok(None) };
    let Ok(address) = serde_json::from_slice::<Address>(&text) else { return Ok(None) };
    if address.pid != pid {
        return Ok(None);
    }
    let key = fs::read_to_string(state.join("owner-key")).context("reading the owner's key")?;
    let key = SecretString::from(key.trim().to_owned());
    Ok(Some(Client::new(address.url, Some(key))?))
}

/// The process, when it is of a box and names a folder below `home` where it stands, runs or looks.
fn leftover(pid: i32, home: &str) -> Option<Leftover> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let environ = fs::read(folder.join("environ")).ok()?;
    let mark = environ.split(|b| *b == 0).find_map(|entry| entry.strip_prefix(MARK))?;
    let command = fs::read(folder.join("cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).replace('\0', " ").trim().to_owned();
    let cwd = fs::read_link(folder.join("cwd")).unwrap_or_default();
    let names_home = |text: &str| text.contains(home);
    let ours = names_home(&command)
        || names_home(&cwd.display().to_string())
        || names_home(&String::from_utf8_lossy(&environ));
    ours.then(|| Leftover { pid, session: String::from_utf8_lossy(mark).into_owned(), command })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_marked_process_below_the_home_is_found_and_another_is_not() {
        let platform = Platform::new("/nowhere", Path::new("/nowhere"), "x").unwrap();
        let sleep = |mark: &str, folder: &Path| {
            Command::new("sleep")
                .arg("600")
                .env_clear()
                .env("BGAGENT_SESSION", mark)
                .current_dir(folder)
                .kill_on_drop(true)
                .spawn()
        };
        let mut inside = sleep("t-1", &platform.state_dir()).unwrap();
        let _elsewhere = sleep("t-2", Path::new("/")).unwrap();
        let found = async || platform.leftovers().first().map(|l| l.session.clone());
        assert_eq!(poll::until("the process", Duration::from_secs(10), found).await.unwrap(), "t-1");
        assert_eq!(platform.leftovers().len(), 1);
        inside.kill().await.unwrap();
        platform.end(Duration::from_secs(10)).await.unwrap();
    }

    #[tokio::test]
    async fn a_server_that_cannot_start_is_told_with_its_words() {
        let mut platform = Platform::new("/bin/false", Path::new("/nowhere"), "x").unwrap();
        if platform.binary != Path::new("/bin/false") {
            return;
        }
        let error = format!("{:#}", platform.start().await.unwrap_err());
        assert!(error.contains("it printed") && error.contains("before it was ready"), "{error}");
    }
}
