//! Running a tool to ask it something: at `/`, with an empty folder for what it writes, without a person, with its own
//! variables only, for a bounded time. A project's own configuration must not count, and what a tool prints is material, not an instruction.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::scratch::Scratch;
use super::{Env, Tool};

/// One question.
const QUESTION: Duration = Duration::from_secs(15);
/// Longest answer that is read.
const ANSWER_MAX: usize = 4 * 1024 * 1024;

/// Variables that every tool gets: where programs, the person's folders and certificates are, and the way out.
const COMMON: [&str; 21] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "XDG_CONFIG_HOME",
    "XDG_CONFIG_DIRS",
    "XDG_DATA_HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "PYENV_ROOT",
    "PYENV_VERSION",
    "VIRTUAL_ENV",
    "NVM_DIR",
    "NODE_EXTRA_CA_CERTS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
    "NO_PROXY",
];

/// One tool and how it is asked.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    env: &'a Env,
    tool: Tool,
    scratch: Scratch,
}

/// What it answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// Whether it ended well.
    pub success: bool,
    /// Its output.
    pub out: String,
    /// Its error output.
    pub err: String,
}

impl<'a> Ask<'a> {
    /// `scratch` is where the question's own folder is made.
    pub(super) fn new(tool: Tool, env: &'a Env, scratch: &Path) -> io::Result<Ask<'a>> {
        Ok(Ask { env, tool, scratch: Scratch::new(scratch)? })
    }

    /// The value of a variable, unless it is empty.
    pub(super) fn var(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// All variables whose name begins so, whatever its case.
    pub(super) fn vars<'b>(&'b self, prefix: &'b str) -> impl Iterator<Item = (&'b str, &'b str)> {
        let begins = move |name: &str| {
            name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        self.env
            .iter()
            .filter(move |(name, _)| begins(name))
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The home folder of the person the server runs as.
    pub(super) fn home(&self) -> Option<PathBuf> {
        self.var("HOME").map(PathBuf::from)
    }

    /// An empty folder of this question's own.
    pub(super) fn scratch(&self) -> &Path {
        &self.scratch.0
    }

    /// Whether this person has nothing of rustup, though its programs may be in `PATH`.
    fn no_rustup(&self) -> bool {
        self.var("RUSTUP_HOME").is_none() && self.home().is_none_or(|home| !home.join(".rustup").exists())
    }

    /// Whether the program is in `PATH`.
    pub(super) fn has(&self, program: &str) -> bool {
        which(self.env, program).is_some()
    }

    /// Runs `program`; an error says in words what went wrong.
    pub(super) async fn run<A: AsRef<OsStr>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = A>,
        env: &[(&str, &str)],
    ) -> Result<Answer, String> {
        let Some(path) = which(self.env, program) else {
            return Err(format!("{program} is not installed"));
        };
        let mut command = Command::new(path);
        command
            .args(args)
            .env_clear()
            .envs(self.env.iter().filter(|(name, _)| passes(self.tool, name)))
            .env("LC_ALL", "C.UTF-8")
            .env("NO_COLOR", "1")
            .env("TMPDIR", self.scratch())
            .envs(env.iter().copied())
            // Tools look for configuration in all folders above: above this there is none, and only root writes in it.
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if self.no_rustup() {
            // It makes a folder in the person's home to say that there is no toolchain; it finds none here as well.
            command.env("RUSTUP_HOME", self.scratch().join("rustup"));
        }
        let child = command.spawn().map_err(|e| format!("{program} cannot be run: {e}"))?;
        let group = Group(child.id());
        let output = tokio::time::timeout(QUESTION, child.wait_with_output()).await;
        let output = match output {
            Ok(output) => output.map_err(|e| format!("{program} cannot be read: {e}"))?,
            Err(_) => return Err(format!("{program} did not answer within {} s", QUESTION.as_secs())),
        };
        group.ended();
        let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(ANSWER_MAX)]).into_owned();
        Ok(Answer { success: output.status.success(), out: text(&output.stdout), err: text(&output.stderr) })
    }
}

/// Whether a tool is given that variable.
pub(super) fn passes(tool: Tool, name: &str) -> bool {
    let own = match tool {
        Tool::Cargo => "CARGO_",
        Tool::Npm => "NPM_CONFIG_",
        Tool::Pip => "PIP_",
        Tool::Apt => "APT_",
    };
    let begins = name.get(..own.len()).is_some_and(|start| start.eq_ignore_ascii_case(own));
    // What publishes is of no use to a question.
    let secret = tool == Tool::Cargo && name.to_ascii_uppercase().ends_with("_TOKEN");
    !secret && (begins || COMMON.contains(&name))
}

/// Where `PATH` has a program.
pub(super) fn which(env: &Env, program: &str) -> Option<PathBuf> {
    let path = env.get("PATH")?;
    std::env::split_paths(path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(program))
        .find(|file| nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok() && file.is_file())
}

/// Ends a tool that is not waited for any more, with what it started.
struct Group(Option<u32>);

impl Group {
    /// It ended by itself: its id may be somebody else's from now on.
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0.and_then(|id| i32::try_from(id).ok()) {
            // Nobody is left, usually.
            let _ =
                nix::sys::signal::killpg(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGKILL);
        }
    }
}
