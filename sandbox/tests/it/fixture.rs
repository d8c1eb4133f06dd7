//! A box around a script, started by `sandbox-try` as root and as somebody else.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Under whose name the monitor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    Root,
    Nobody,
    /// Whoever runs the tests, when that is not root.
    Self_,
}

/// Those that can be tried here.
pub fn everybody() -> Vec<As> {
    if nix::unistd::geteuid().is_root() { vec![As::Root, As::Nobody] } else { vec![As::Self_] }
}

pub struct Try {
    pub who: As,
    /// Of the host: `box` and the plan are in it, and whatever a test puts there.
    pub dir: TempDir,
    program: PathBuf,
    plan: serde_json::Value,
}

pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

const NOBODY: u32 = 65_534;

impl Try {
    pub fn new(who: As) -> Try {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("sandbox-try");
        let built = Path::new(env!("CARGO_BIN_EXE_sandbox-try"));
        // Where nobody could not reach it otherwise.
        if std::fs::hard_link(built, &program).is_err() {
            std::fs::copy(built, &program).unwrap();
        }
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let mut this = Try { who, dir, program, plan: serde_json::json!({}) };
        let folder = this.folder("own");
        this.plan["dir"] = serde_json::json!(folder.join("box"));
        this.plan["limits"] = serde_json::json!({ "memory_mib": 1024, "processes": 256 });
        this
    }

    /// A folder that belongs to who runs the box.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        self.give(&path);
        path
    }

    /// Gives the box this folder of the server's state, and a place below it.
    pub fn with_state(mut self, state: &Path) -> Try {
        std::fs::create_dir_all(state.join("sessions/x")).unwrap();
        for folder in [state, &state.join("sessions"), &state.join("sessions/x")] {
            self.give(folder);
        }
        self.plan["dir"] = serde_json::json!(state.join("sessions/x/box"));
        self.set("state", state)
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        self.give(&path);
        path
    }

    fn give(&self, path: &Path) {
        if self.who == As::Nobody {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }

    pub fn set(mut self, name: &str, value: impl serde::Serialize) -> Try {
        self.plan[name] = serde_json::to_value(value).unwrap();
        self
    }

    pub fn limit(mut self, name: &str, value: u64) -> Try {
        self.plan["limits"][name] = value.into();
        self
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let plan = self.file("plan.json", &self.plan.to_string());
        let plan = plan.to_str().unwrap();
        self.program(&[&[plan], args].concat())
    }

    pub fn program(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.current_dir("/").env("A_SECRET_OF_THE_SERVER", "hunter2");
        if self.who == As::Nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    pub fn run(&self, args: &[&str]) -> Done {
        let output = self.command(args).output().unwrap();
        Done {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The same, of somebody with this home and these programs.
    pub fn at_home(&self, home: &Path, path: &str, args: &[&str]) -> String {
        let output = self.command(args).env("HOME", home).env("PATH", path).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{:?}: {out}{err}", self.who);
        out
    }

    /// What a command in the tools' layer prints; it must end well.
    pub fn sh(&self, script: &str) -> String {
        let done = self.run(&["command", "sh", "-c", script]);
        assert_eq!(done.code, Some(0), "{:?}: {}{}", self.who, done.out, done.err);
        done.out
    }

    /// What the worker's script prints.
    pub fn worker(&self, script: &str) -> String {
        let done = self.run(&["worker", script]);
        assert_eq!(done.code, Some(0), "{:?}: {}{}", self.who, done.out, done.err);
        done.out
    }

    /// A worker that goes on.
    pub fn start_worker(&self, script: &str) -> Going {
        let mut child = self.command(&["worker", script]).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Going { child, lines }
    }
}

pub struct Going {
    pub child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Going {
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        rest
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder that all may enter, not below /tmp, which a box has one of its own of.
pub fn outside(top: &str) -> TempDir {
    let open = tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempdir_in(top);
    open.unwrap_or_else(|_| tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
}

/// A file that all may read, with its folders.
pub fn put(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
}

/// Host processes whose arguments hold `mark`.
pub fn processes(mark: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if arguments.windows(mark.len()).any(|w| w == mark.as_bytes()) {
            found.push(pid);
        }
    }
    found
}

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
