//! Building and running one git command.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::bound::Bounds;
use crate::error::{GitError, GitErrorKind};
use crate::harden;
use crate::place::{At, Running, Spawn, Start};

/// How long a command may take when the caller names no other time.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(600);
/// Bytes of stdout a command may print when the caller names no other number.
pub const STDOUT_MAX_DEFAULT: usize = 32 * 1024 * 1024;
/// Bytes of stderr kept: the last ones.
const STDERR_KEPT: usize = 64 * 1024;

/// One git command, to be run or spawned. See [`harden`](mod@crate::harden) for what it gets and does not get.
#[must_use = "a command does nothing until `run` or `spawn`"]
#[derive(Debug, Clone)]
pub struct Git {
    dir: Option<PathBuf>,
    via: Option<Arc<dyn Spawn>>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    config: Vec<(String, String)>,
    auth: Vec<(String, SecretString)>,
    stdin: Vec<u8>,
    exits: Vec<i32>,
    timeout: Duration,
    stdout_max: usize,
    doing: Option<String>,
    bounds: Option<Bounds>,
}

/// What a command printed, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit code: 0, or one that [`Git::exits`] allowed.
    pub code: i32,
    /// Everything on stdout.
    pub stdout: Vec<u8>,
    /// The end of stderr, credentials removed.
    pub stderr: String,
}

impl Output {
    /// stdout as text without its last line end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end_matches('\n').to_owned()
    }
}

/// A running command whose streams the caller moves. Dropping it kills the command and everything it started.
#[derive(Debug)]
pub struct Process {
    /// Write here, then drop it to say that is all.
    pub stdin: Option<ChildStdin>,
    /// Read here.
    pub stdout: Option<ChildStdout>,
    /// Read here.
    pub stderr: Option<ChildStderr>,
    child: Child,
}

impl Default for Git {
    fn default() -> Self {
        Git::new()
    }
}

impl Git {
    /// A command without arguments.
    pub fn new() -> Git {
        Git {
            dir: None,
            via: None,
            args: Vec::new(),
            env: Vec::new(),
            config: Vec::new(),
            auth: Vec::new(),
            stdin: Vec::new(),
            exits: vec![0],
            timeout: TIMEOUT_DEFAULT,
            stdout_max: STDOUT_MAX_DEFAULT,
            doing: None,
            bounds: None,
        }
    }

    /// The directory it runs in: a work tree, a folder in one, or a bare repository.
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Git {
        self.dir = Some(dir.as_ref().to_owned());
        self
    }

    /// The folder it runs in, and the place that it is started in: see [`place`](crate::place). Only [`Git::run`] heeds
    /// the place.
    pub fn at(mut self, at: impl Into<At>) -> Git {
        let At { dir, via } = at.into();
        (self.dir, self.via) = (Some(dir), via);
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Git {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(mut self, args: I) -> Git {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable of this command.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Git {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets configuration of this command, stronger than any file and than the hardening.
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Git {
        self.config.push((key.into(), value.into()));
        self
    }

    /// Sets configuration of this command, as [`config`](Git::config) does: see [`overrides`](crate::overrides).
    pub fn configs(mut self, all: impl IntoIterator<Item = (String, String)>) -> Git {
        self.config.extend(all);
        self
    }

    /// Gives this command `user:password` for HTTP basic authentication at `url` and below. It travels in the
    /// environment of this child alone.
    pub fn auth(mut self, url: &str, basic: &SecretString) -> Git {
        self.auth.push((url.to_owned(), basic.clone()));
        self
    }

    /// What it reads on stdin (nothing, when not said).
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Git {
        self.stdin = bytes.into();
        self
    }

    /// Exit codes that are an answer, not a failure (only 0, when not said).
    pub fn exits(mut self, codes: &[i32]) -> Git {
        self.exits = codes.to_vec();
        self
    }

    /// How long it may take ([`TIMEOUT_DEFAULT`] when not said).
    pub fn timeout(mut self, timeout: Duration) -> Git {
        self.timeout = timeout;
        self
    }

    /// Bytes of stdout it may print ([`STDOUT_MAX_DEFAULT`] when not said); with more, it is killed and fails.
    pub fn stdout_max(mut self, bytes: usize) -> Git {
        self.stdout_max = bytes;
        self
    }

    /// Bounds its memory and processor time: for a command that reads what a stranger made (see [`bound`](crate::bound)).
    pub fn bounded(mut self, bounds: Bounds) -> Git {
        let config = crate::bound::CONFIGURATION.iter();
        self.config.extend(config.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        self.bounds = Some(bounds);
        self
    }

    /// The operation and its object, for errors: "fetching octo/cat".
    pub fn doing(mut self, doing: impl Into<String>) -> Git {
        self.doing = Some(doing.into());
        self
    }

    /// Runs it to its end.
    pub async fn run(mut self) -> Result<Output, GitError> {
        let doing = self.what();
        let secrets = self.secrets();
        let input = std::mem::take(&mut self.stdin);
        let (stdin, stdout, stderr, mut process) = self.start().await?;
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A command that ends without reading all of it is judged by its exit code.
                let _ = stdin.write_all(&input).await;
            }
        };
        let work = async {
            let (_, stdout, stderr) =
                tokio::join!(feed, read_all(stdout, self.stdout_max), read_last(stderr, STDERR_KEPT));
            match stdout {
                Ok(stdout) => Ok((stdout, stderr, process.wait().await)),
                Err(TooMuch) => Err(GitError::said(
                    &doing,
                    GitErrorKind::OutputTooLarge,
                    format!("it printed more than {} bytes", self.stdout_max),
                )),
            }
        };
        let (stdout, stderr, status) = match tokio::time::timeout(self.timeout, work).await {
            Ok(ended) => ended?,
            Err(_) => {
                let why = format!("it did not end within {} s and was stopped", self.timeout.as_secs_f32());
                return Err(GitError::said(&doing, GitErrorKind::Timeout, why));
            }
        };
        let code = status.map_err(|e| GitError::said(&doing, GitErrorKind::Other, e.to_string()))?;
        tracing::debug!(git.args = ?self.args.first(), git.code = code, "git ran");
        match code {
            Some(code) if self.exits.contains(&code) => {
                let stderr = crate::error::redact(&String::from_utf8_lossy(&stderr), &secrets);
                Ok(Output { code, stdout, stderr })
            }
            code => Err(GitError::exited(&doing, code, &stderr, &secrets)),
        }
    }

    /// Starts it with all three streams piped, for `upload-pack`, `receive-pack` and the like. Neither the timeout
    /// nor the bounds of output apply: the caller has them.
    pub fn spawn(&self) -> Result<Process, GitError> {
        let mut command = Command::new("git");
        command.arg("--no-pager").args(&self.args).env_clear();
        command.envs(self.environment(|name| std::env::var_os(name)));
        // Never in the folder that this process happens to be in: it may lie in a repository.
        command.current_dir(self.dir.as_deref().unwrap_or_else(|| Path::new("/")));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Its own process group, so that the helpers it starts can be ended with it.
        command.process_group(0).kill_on_drop(true);
        let mut child =
            command.spawn().map_err(|e| GitError::not_started(&self.what(), self.dir.as_ref(), &e))?;
        if let (Some(id), Some(bounds)) = (child.id(), self.bounds) {
            crate::bound::set(id, bounds)
                .map_err(|e| GitError::not_started(&self.what(), self.dir.as_ref(), &e))?;
        }
        Ok(Process {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            child,
        })
    }

    /// Starts it where it belongs: its three streams, and its end.
    async fn start(&self) -> Result<(Option<Input>, Option<Stream>, Option<Stream>, Begun), GitError> {
        let Some(via) = &self.via else {
            let mut process = self.spawn()?;
            let stdin = process.stdin.take().map(|s| Box::new(s) as Input);
            let stdout = process.stdout.take().map(|s| Box::new(s) as Stream);
            let stderr = process.stderr.take().map(|s| Box::new(s) as Stream);
            return Ok((stdin, stdout, stderr, Begun::Here(Box::new(process))));
        };
        let begun = self.start_via(via.as_ref()).await;
        begun.map_err(|e| GitError::not_started(&self.what(), self.dir.as_ref(), &e))
    }

    async fn start_via(
        &self,
        via: &dyn Spawn,
    ) -> std::io::Result<(Option<Input>, Option<Stream>, Option<Stream>, Begun)> {
        let (stdin, to) = std::io::pipe()?;
        let (from, stdout) = std::io::pipe()?;
        let (complaints, stderr) = std::io::pipe()?;
        let there = via.environment();
        let passed_on =
            |name: &str| there.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let start = Start {
            program: "git".into(),
            args: std::iter::once("--no-pager".into()).chain(self.args.iter().cloned()).collect(),
            env: self.environment(passed_on).into_iter().collect(),
            dir: self.dir.clone(),
            stdin: stdin.into(),
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        let running = via.spawn(start).await?;
        let to: Input = Box::new(pipe::Sender::from_owned_fd(to.into())?);
        let from: Stream = Box::new(pipe::Receiver::from_owned_fd(from.into())?);
        let complaints: Stream = Box::new(pipe::Receiver::from_owned_fd(complaints.into())?);
        Ok((Some(to), Some(from), Some(complaints), Begun::There(running)))
    }

    /// Its whole environment; later values win over earlier ones of the same name.
    fn environment(&self, passed_on: impl Fn(&str) -> Option<OsString>) -> BTreeMap<OsString, OsString> {
        let fixed = harden::environment(passed_on).into_iter();
        fixed.chain(harden::as_environment(&self.configuration())).chain(self.env.iter().cloned()).collect()
    }

    fn configuration(&self) -> Vec<(String, String)> {
        let fixed = harden::CONFIGURATION.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let auth = self.auth.iter().map(|(url, basic)| {
            (format!("http.{url}.extraHeader"), format!("Authorization: Basic {}", encoded(basic)))
        });
        fixed.chain(self.config.iter().cloned()).chain(auth).collect()
    }

    fn what(&self) -> String {
        self.doing.clone().unwrap_or_else(|| {
            let verb = self.args.iter().find(|a| !harden::looks_like_option(a));
            let verb = verb.map(|v| v.to_string_lossy().into_owned()).unwrap_or_default();
            match &self.dir {
                Some(dir) => format!("git {verb} in {}", dir.display()),
                None => format!("git {verb}"),
            }
        })
    }

    /// Every form in which a credential could come back at us.
    fn secrets(&self) -> Vec<String> {
        let forms = self.auth.iter().flat_map(|(_, basic)| {
            let plain = basic.expose_secret().to_owned();
            let password = plain.split_once(':').map(|(_, p)| p.to_owned()).unwrap_or_default();
            [encoded(basic), plain, password]
        });
        forms.collect()
    }
}

type Input = Box<dyn tokio::io::AsyncWrite + Send + Unpin>;
type Stream = Box<dyn AsyncRead + Send + Unpin>;

/// A command that was started. Dropping it ends it and what it started.
enum Begun {
    Here(Box<Process>),
    There(Box<dyn Running>),
}

impl Begun {
    async fn wait(&mut self) -> std::io::Result<Option<i32>> {
        match self {
            Begun::Here(process) => process.wait().await.map(|status| status.code()),
            Begun::There(running) => running.wait().await.map(Some),
        }
    }
}

impl Process {
    /// Waits until it ended.
    pub async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Not reaped yet, so the number is still this process's and its group's.
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

fn encoded(basic: &SecretString) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(basic.expose_secret())
}

struct TooMuch;

async fn read_all<R: AsyncRead + Unpin>(stream: Option<R>, max: usize) -> Result<Vec<u8>, TooMuch> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
        let _ = stream.take(limit).read_to_end(&mut bytes).await;
    }
    if bytes.len() > max { Err(TooMuch) } else { Ok(bytes) }
}

async fn read_last<R: AsyncRead + Unpin>(stream: Option<R>, keep: usize) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else { return kept };
    let mut chunk = vec![0; 8 * 1024];
    while let Ok(n @ 1..) = stream.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..n]);
        if kept.len() > keep * 2 {
            kept.drain(..kept.len() - keep);
        }
    }
    kept
}

#[cfg(test)]
mod tests;
