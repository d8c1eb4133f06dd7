//! Taking a session that a local backend has prepared: the first thing a worker does.
//!
//! Control plane and worker share one folder (mode 0700); `compute::local` writes the other half of this protocol.
//!
//! | file | written by | holds |
//! |---|---|---|
//! | `session.json` | control plane | `{task, attempt, gateway, tier, plan}`; no secret |
//! | `bootstrap` | control plane, 0600 | the one-time token; read and then deleted here |
//! | `lock` | worker | locked (`flock`) for the worker's life |
//! | `pid` | worker, once it holds `lock` | `{"pid", "start_ticks"}`; its being there means: this attempt has run |
//! | `exit` | worker | its exit code in decimal, see [`Claim::write_exit`] |
//!
//! In a box this is the monitor's part, outside: the box never sees the folder, but for a folder of its own in it.
//!
//! Order matters. The lock comes first, so of two workers one does nothing. `pid` comes after the token has been read,
//! so a worker that cannot go on leaves an attempt that can still be started; and before the token is deleted, so a
//! crash never leaves an attempt without token that looks startable.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use domain::{Attempt, BoxLimits, IsolationTier, TaskId};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// `session.json`: whose box this is, and where its gateway is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SessionFile {
    /// The task to work at.
    pub task: TaskId,
    /// The attempt this worker is for.
    pub attempt: Attempt,
    /// `unix:/path/to/socket` or `http://host:port`.
    pub gateway: String,
    /// What the box is kept in.
    pub tier: IsolationTier,
    /// What the box is made of.
    #[serde(default)]
    pub plan: BoxPlan,
    /// What holds the box, where the control plane has it built.
    #[serde(default)]
    pub enforced: Option<String>,
}

/// What the box is made of, as far as it is made on this side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BoxPlan {
    /// Bounds.
    pub limits: BoxLimits,
    /// Folders of the host that tools may read, beside the system's and the toolchains'.
    pub read: Vec<PathBuf>,
    /// Objects of the repository's mirror, lent to the work tree.
    pub objects: Option<PathBuf>,
    /// Lower, read-only layer of the dependency cache.
    pub cache: Option<PathBuf>,
    /// Environment of the tools.
    pub env: Vec<(String, String)>,
    /// Files that the tools find at their start: path in the box, below the home or the cache, and text.
    pub files: Vec<(PathBuf, String)>,
    /// Certificates that the tools trust: a file of the host.
    pub ca: Option<PathBuf>,
}

/// A session that is locked and not yet taken: it can still be given back by ending.
#[derive(Debug)]
pub struct Opened {
    /// The session's folder.
    pub dir: PathBuf,
    /// Whose box this is.
    pub session: SessionFile,
    lock: Flock<File>,
}

/// A session that is this process's own, until it ends.
#[derive(Debug)]
pub struct Claim {
    /// The session's folder.
    pub dir: PathBuf,
    /// Whose box this is.
    pub session: SessionFile,
    /// Exchanged for a session token at attach. It is on no disk any more.
    pub bootstrap_token: SecretString,
    _lock: Flock<File>,
}

/// Why a session is not this process's.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another worker has it: this one is a duplicate and ends quietly, with code 0.
    #[error("claiming the session in {}: another worker has it", dir.display())]
    Held {
        /// The session's folder.
        dir: PathBuf,
    },
    /// A worker of this attempt has already run; an attempt runs once. The control plane starts a new attempt.
    #[error("claiming the session in {}: this attempt has already run", dir.display())]
    AlreadyRan {
        /// The session's folder.
        dir: PathBuf,
    },
    /// The folder is not as the control plane leaves it.
    #[error("claiming a session: {what} {}", path.display())]
    Io {
        /// As in "reading".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What went wrong beneath.
        #[source]
        source: io::Error,
    },
}

/// Makes this process a session of its own and locks the session in `dir`. Call it first, before any thread or child.
pub fn open_session(dir: &Path) -> Result<Opened, ClaimError> {
    detach().map_err(at("leaving the terminal's session for", dir))?;
    open(dir)
}

impl Claim {
    /// Leaves the exit code for whoever asks after this process has ended and nobody was there to reap it.
    pub fn write_exit(&self, code: u8) -> Result<(), ClaimError> {
        let path = self.dir.join("exit");
        write(&self.dir, "exit", code.to_string().as_bytes()).map_err(at("writing", &path))
    }
}

/// Out of the control plane's POSIX session (its terminal, its Ctrl-C, its end), and parent of all that loses its own:
/// daemons of tools stay descendants, so a stop finds them.
fn detach() -> io::Result<()> {
    match nix::unistd::setsid() {
        // A worker started by hand from a shell leads its process group already, and stays where it is.
        Ok(_) | Err(Errno::EPERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_child_subreaper(true)?;
    Ok(())
}

fn open(dir: &Path) -> Result<Opened, ClaimError> {
    let path = dir.join("lock");
    let file =
        OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(at("opening", &path))?;
    let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((_, Errno::EWOULDBLOCK)) => return Err(ClaimError::Held { dir: dir.to_owned() }),
        Err((_, errno)) => return Err(at("locking", &path)(errno.into())),
    };
    let pid = dir.join("pid");
    if pid.try_exists().map_err(at("reading", &pid))? {
        return Err(ClaimError::AlreadyRan { dir: dir.to_owned() });
    }
    let session = dir.join("session.json");
    let text = std::fs::read(&session).map_err(at("reading", &session))?;
    let parsed = serde_json::from_slice(&text).map_err(|e| at("reading", &session)(e.into()))?;
    Ok(Opened { dir: dir.to_owned(), session: parsed, lock })
}

impl Opened {
    /// Takes it: reads the token, says who we are, deletes the token.
    pub fn take(self) -> Result<Claim, ClaimError> {
        let Opened { dir, session, lock } = self;
        let bootstrap = dir.join("bootstrap");
        let token = std::fs::read_to_string(&bootstrap).map_err(at("reading", &bootstrap))?;
        if token.is_empty() {
            return Err(at("reading", &bootstrap)(io::Error::new(ErrorKind::InvalidData, "it is empty")));
        }
        write_pid(&dir).map_err(at("writing", &dir.join("pid")))?;
        std::fs::remove_file(&bootstrap).map_err(at("removing", &bootstrap))?;
        Ok(Claim { dir, session, bootstrap_token: token.into(), _lock: lock })
    }
}

fn write_pid(dir: &Path) -> io::Result<()> {
    #[derive(Serialize)]
    struct PidFile {
        pid: u32,
        start_ticks: u64,
    }
    let file = PidFile { pid: std::process::id(), start_ticks: start_ticks()? };
    write(dir, "pid", &serde_json::to_vec(&file)?)
}

/// When this process was started, in clock ticks since boot: field 22 of its `stat`. The program's name before it may
/// hold anything, so fields are counted from the last `)`, after which the third comes.
fn start_ticks() -> io::Result<u64> {
    let stat = std::fs::read("/proc/self/stat")?;
    let stat = String::from_utf8_lossy(&stat);
    let field = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19));
    field
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "/proc/self/stat is not understood"))
}

/// Whole or not at all.
fn write(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!(".{name}.new"));
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, dir.join(name))
}

fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ClaimError {
    move |source| ClaimError::Io { what, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn claim(dir: &Path) -> Result<Claim, ClaimError> {
        open(dir)?.take()
    }

    const TASK: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    fn prepared() -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        let session = format!(r#"{{"task":"{TASK}","attempt":2,"gateway":"unix:/g.sock","tier":"process"}}"#);
        std::fs::write(place.path().join("session.json"), session).unwrap();
        std::fs::write(place.path().join("bootstrap"), "one-time").unwrap();
        place
    }

    #[test]
    fn a_claim_takes_the_token_and_says_who_it_is() {
        let place = prepared();
        let claim = claim(place.path()).unwrap();
        assert_eq!((claim.session.task.to_string().as_str(), claim.session.attempt), (TASK, Attempt(2)));
        assert_eq!(claim.bootstrap_token.expose_secret(), "one-time");
        assert!(!place.path().join("bootstrap").exists());
        let pid: serde_json::Value =
            serde_json::from_slice(&std::fs::read(place.path().join("pid")).unwrap()).unwrap();
        assert_eq!(
            pid,
            serde_json::json!({"pid": std::process::id(), "start_ticks": start_ticks().unwrap()})
        );
        claim.write_exit(3).unwrap();
        assert_eq!(std::fs::read_to_string(place.path().join("exit")).unwrap(), "3");
        assert!(!format!("{claim:?}").contains("one-time"));
    }

    #[test]
    fn a_second_worker_is_told_apart_from_a_second_run() {
        let place = prepared();
        let first = claim(place.path()).unwrap();
        assert!(matches!(claim(place.path()), Err(ClaimError::Held { .. })));
        drop(first);
        std::fs::write(place.path().join("bootstrap"), "another").unwrap();
        assert!(matches!(claim(place.path()), Err(ClaimError::AlreadyRan { .. })));
        assert!(place.path().join("bootstrap").exists(), "a token that is not ours is left alone");
    }

    #[test]
    fn what_is_missing_is_named_and_the_attempt_can_still_be_started() {
        let place = prepared();
        for name in ["session.json", "bootstrap"] {
            let path = place.path().join(name);
            let kept = std::fs::read(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            let error = claim(place.path()).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            assert!(!place.path().join("pid").exists());
            std::fs::write(&path, kept).unwrap();
        }
        claim(place.path()).unwrap();
    }

    #[test]
    fn a_process_that_leads_its_group_already_may_stay() {
        // Whether the test runner made it a leader or not: both are well, also twice.
        detach().unwrap();
        detach().unwrap();
        assert_eq!(nix::unistd::getpgrp(), nix::unistd::getpid());
    }
}
