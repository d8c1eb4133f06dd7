//! One session's folder: the files through which the control plane and the worker agree on who runs.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use domain::{Attempt, IsolationTier, TaskId};
use nix::fcntl::{Flock, FlockArg};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::error::{self, PathError};
use super::tree::{Identity, Target};
use crate::{BoxSpec, ComputeError};

/// Whoever writes into the folder while it is removed writes a file or two.
const REMOVE_TRIES: usize = 5;
const TAIL_MAX_BYTES: usize = 4 * 1024;

/// `session.json`: what the worker must know to attach. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SessionFile {
    pub(super) task: TaskId,
    pub(super) attempt: Attempt,
    pub(super) gateway: String,
    pub(super) tier: IsolationTier,
    #[serde(default)]
    pub(super) plan: BoxSpec,
}

/// `pid`: who the worker is. Written by the worker itself, when it holds `lock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct PidFile {
    pid: i32,
    start_ticks: u64,
}

/// The folder of one (task, attempt). Making this value touches nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder {
    pub(crate) task: TaskId,
    pub(crate) attempt: Attempt,
    pub(crate) path: PathBuf,
}

/// Whose the folder is to remove.
#[derive(Debug)]
pub(crate) enum LastTurn {
    /// Until this is dropped.
    Ours(Flock<File>),
    OfAnother,
    Gone,
}

impl LastTurn {
    /// The lock to hold while the session is removed; `None` when there is nothing left to remove. The lock goes with the
    /// folder: a `start` that waits for it finds the folder gone, and may be repeated.
    pub(crate) fn into_lock(self, doing: &str) -> Result<Option<Flock<File>>, ComputeError> {
        match self {
            LastTurn::Ours(lock) => Ok(Some(lock)),
            LastTurn::Gone => Ok(None),
            LastTurn::OfAnother => {
                Err(error::unavailable(doing, "another process is starting or removing the same session"))
            }
        }
    }
}

impl Folder {
    pub(crate) fn new(sessions: &Path, task: TaskId, attempt: Attempt) -> Self {
        Self { task, attempt, path: sessions.join(format!("{task}-{attempt}")) }
    }

    /// The folder whose name this is; `None` for a name that is not a session's.
    pub(crate) fn parse(sessions: &Path, name: &str) -> Option<Self> {
        let (task, attempt) = name.split_once('-')?;
        let folder = Self::new(sessions, task.parse().ok()?, Attempt(attempt.parse().ok()?));
        (folder.name() == name).then_some(folder)
    }

    /// `<task>-<attempt>`: the name of the folder, and the mark of the session's processes.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.task, self.attempt)
    }

    pub(super) fn target(&self, worker: Option<Identity>) -> Target {
        Target { name: self.name(), worker }
    }

    /// Makes the folder, and those above it, for this user alone.
    pub(crate) fn create(&self) -> Result<(), PathError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(PathError::at("creating the session folder", &self.path))
    }

    /// As [`Folder::turn`] for who wants the folder gone: that it is gone is told apart from another's being at it.
    pub(crate) fn last_turn(&self) -> Result<LastTurn, PathError> {
        match self.turn() {
            Ok(Some(turn)) => Ok(LastTurn::Ours(turn)),
            Ok(None) => Ok(LastTurn::OfAnother),
            Err(_) if !self.path.exists() => Ok(LastTurn::Gone),
            Err(error) => Err(error),
        }
    }

    /// Holds off every other control plane that starts or purges this session; `None` when one is at it.
    pub(crate) fn turn(&self) -> Result<Option<Flock<File>>, PathError> {
        self.try_lock("turn")
    }

    /// Whether a worker holds the session. Taking the lock for the look is harmless: a worker that comes at just this
    /// moment takes itself for a second one and ends, and the caller, who found nobody, starts another.
    pub(super) fn is_held(&self) -> Result<bool, PathError> {
        Ok(self.try_lock("lock")?.is_none())
    }

    /// Who the worker is, once it has said so.
    pub(super) fn worker(&self) -> Result<Option<Identity>, PathError> {
        let path = self.path.join("pid");
        let Some(text) =
            absent_ok(std::fs::read_to_string(&path)).map_err(PathError::at("reading", &path))?
        else {
            return Ok(None);
        };
        let pid: PidFile =
            serde_json::from_str(&text).map_err(io::Error::from).map_err(PathError::at("reading", &path))?;
        Ok(Some(Identity { pid: pid.pid, start_ticks: pid.start_ticks }))
    }

    pub(super) fn session(&self) -> Result<Option<SessionFile>, PathError> {
        let path = self.path.join("session.json");
        let Some(text) =
            absent_ok(std::fs::read_to_string(&path)).map_err(PathError::at("reading", &path))?
        else {
            return Ok(None);
        };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(io::Error::from)
            .map_err(PathError::at("reading", &path))
    }

    pub(super) fn write_session(&self, file: &SessionFile) -> Result<(), PathError> {
        let text = serde_json::to_vec(file).map_err(io::Error::from);
        text.and_then(|text| self.write("session.json", &text))
            .map_err(PathError::at("writing", &self.path.join("session.json")))
    }

    pub(super) fn write_bootstrap(&self, token: &SecretString) -> Result<(), PathError> {
        self.write("bootstrap", token.expose_secret().as_bytes())
            .map_err(PathError::at("writing", &self.path.join("bootstrap")))
    }

    /// Takes the token back when nobody is going to use it.
    pub(super) fn remove_bootstrap(&self) -> Result<(), PathError> {
        let path = self.path.join("bootstrap");
        absent_ok(std::fs::remove_file(&path)).map(|_| ()).map_err(PathError::at("removing", &path))
    }

    /// The exit code that the worker, or whoever reaped it, has written.
    pub(super) fn exit(&self) -> Result<Option<i32>, PathError> {
        let path = self.path.join("exit");
        let text = absent_ok(std::fs::read_to_string(&path)).map_err(PathError::at("reading", &path))?;
        Ok(text.and_then(|text| text.trim().parse().ok()))
    }

    /// Keeps the code of a worker that could not write it itself (it was killed, say), so that a later control plane
    /// knows it too. A process that was not this session's worker writes nothing.
    pub(super) fn keep_exit(&self, pid: i32, code: i32) -> Result<(), PathError> {
        let is_worker = self.worker()?.is_some_and(|worker| worker.pid == pid);
        if is_worker && self.exit()?.is_none() {
            let path = self.path.join("exit");
            self.write_first("exit", code.to_string().as_bytes()).map_err(PathError::at("writing", &path))?;
        }
        Ok(())
    }

    /// `worker.log`, to append to.
    pub(super) fn log(&self) -> Result<File, PathError> {
        let path = self.path.join("worker.log");
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(PathError::at("opening", &path))
    }

    /// The end of `worker.log`, fit to be shown. What cannot be read is not worth an error.
    pub(super) fn tail(&self) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(self.path.join("worker.log"))?;
            let size = file.metadata()?.len();
            file.seek(SeekFrom::Start(size.saturating_sub(2 * TAIL_MAX_BYTES as u64)))?;
            let mut text = Vec::new();
            file.take(2 * TAIL_MAX_BYTES as u64).read_to_end(&mut text)?;
            Ok(text)
        };
        printable_tail(&String::from_utf8_lossy(&read().unwrap_or_default()))
    }

    /// Removes the folder with all that is in it. Folders that tools made read-only (module caches) are no obstacle, nor
    /// is somebody who just now writes down how the session ended.
    pub(crate) fn remove(&self) -> Result<(), PathError> {
        let mut tries = REMOVE_TRIES;
        loop {
            tries -= 1;
            match absent_ok(std::fs::remove_dir_all(&self.path)) {
                Err(e) if e.kind() == ErrorKind::PermissionDenied && tries > 0 => {
                    open_up(&self.path).map_err(PathError::at("making removable", &self.path))?;
                }
                Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty && tries > 0 => (),
                done => return done.map(drop).map_err(PathError::at("removing", &self.path)),
            }
        }
    }

    /// Whole or not at all, readable by this user alone.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.write_by_way_of(&format!(".{name}.new"), bytes, |new| std::fs::rename(new, self.path.join(name)))
    }

    /// The same where several may write at once: the first word stands, and the others change nothing.
    pub(crate) fn write_first(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        static WRITES: AtomicU64 = AtomicU64::new(0);
        let write = WRITES.fetch_add(1, Ordering::Relaxed);
        let temporary = format!(".{name}.{}-{write}.new", std::process::id());
        self.write_by_way_of(&temporary, bytes, |new| match std::fs::hard_link(new, self.path.join(name)) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(e),
            _ => std::fs::remove_file(new),
        })
    }

    fn write_by_way_of(
        &self,
        temporary: &str,
        bytes: &[u8],
        put: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let temporary = self.path.join(temporary);
        let write = || {
            // Not `truncate`: what a crash left may have another mode.
            absent_ok(std::fs::remove_file(&temporary))?;
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            put(&temporary)
        };
        write().inspect_err(|_| {
            // The first error is the one to tell.
            drop(std::fs::remove_file(&temporary));
        })
    }

    fn try_lock(&self, name: &str) -> Result<Option<Flock<File>>, PathError> {
        let path = self.path.join(name);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(PathError::at("opening", &path))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(PathError::at("locking", &path)(errno.into())),
        }
    }
}

/// "Not there" as a value.
pub(crate) fn absent_ok<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Gives this user every right on every folder below; follows no link.
fn open_up(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

/// The last 4 KiB, fit for a terminal.
pub(crate) fn printable_tail(text: &str) -> String {
    domain::text::tail(text, TAIL_MAX_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(&place.path().join("a/b"), TaskId::from_bits(7), Attempt(2));
        folder.create().unwrap();
        (place, folder)
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_name_and_its_folder_are_one_to_one() {
        let (_place, folder) = folder();
        let sessions = folder.path.parent().unwrap();
        assert_eq!(Folder::parse(sessions, &folder.name()), Some(folder.clone()));
        for other in
            ["", "x", "lost+found", "00000000000000000000000007-02", "00000000000000000000000007-", "-1"]
        {
            assert_eq!(Folder::parse(sessions, other), None, "{other:?}");
        }
    }

    #[test]
    fn others_can_read_nothing() {
        let (_place, folder) = folder();
        folder.write_bootstrap(&SecretString::from("secret")).unwrap();
        folder.log().unwrap();
        assert_eq!(mode(&folder.path), 0o700);
        assert_eq!(mode(&folder.path.join("bootstrap")), 0o600);
        assert_eq!(mode(&folder.path.join("worker.log")), 0o600);
        folder.remove_bootstrap().unwrap();
        folder.remove_bootstrap().unwrap();
        assert!(!folder.path.join("bootstrap").exists());
    }

    #[test]
    fn only_the_worker_s_exit_is_kept_and_its_own_word_wins() {
        let (_place, folder) = folder();
        std::fs::write(folder.path.join("pid"), r#"{"pid":41,"start_ticks":5}"#).unwrap();
        folder.keep_exit(40, 1).unwrap();
        assert_eq!(folder.exit().unwrap(), None);
        folder.keep_exit(41, 137).unwrap();
        folder.keep_exit(41, 0).unwrap();
        assert_eq!(folder.exit().unwrap(), Some(137));
    }

    #[test]
    fn a_turn_excludes() {
        let (_place, folder) = folder();
        let turn = folder.turn().unwrap();
        assert!(turn.is_some() && folder.turn().unwrap().is_none());
        drop(turn);
        assert!(folder.turn().unwrap().is_some());
        assert!(!folder.is_held().unwrap());
    }

    #[test]
    fn a_broken_pid_file_is_an_error_not_an_absence() {
        let (_place, folder) = folder();
        assert_eq!(folder.worker().unwrap(), None);
        std::fs::write(folder.path.join("pid"), "{").unwrap();
        assert!(folder.worker().is_err());
    }

    #[test]
    fn read_only_folders_are_removed_and_links_not_followed() {
        let (place, folder) = folder();
        let outside = place.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("kept"), "").unwrap();
        let module = folder.path.join("cache/module");
        std::fs::create_dir_all(&module).unwrap();
        std::fs::write(module.join("file"), "").unwrap();
        std::os::unix::fs::symlink(&outside, module.join("link")).unwrap();
        std::fs::set_permissions(&module, Permissions::from_mode(0o500)).unwrap();
        open_up(&folder.path).unwrap();
        assert_eq!(mode(&module), 0o700);
        std::fs::set_permissions(&module, Permissions::from_mode(0o500)).unwrap();
        folder.remove().unwrap();
        folder.remove().unwrap();
        assert!(!folder.path.exists() && outside.join("kept").exists());
    }
}
