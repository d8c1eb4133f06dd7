//! The host's side of one session's folder. What is here is not in the box, but for the folders that are lent to it.
//!
//! | path | in the box | holds |
//! |---|---|---|
//! | `turn` | | locked while one control plane starts or removes the session |
//! | `containers.json` | | the two containers, once both have been started: this attempt has run |
//! | `end.json` | | how it ended, once somebody has seen it |
//! | `worker.log` | | the end of the worker's output, once it ended |
//! | `etc/` | `/etc/passwd`, `/etc/group` | names for the user of the box |
//! | `session/` | worker: `/session` | `session.json`, `bootstrap`, and what the worker keeps |
//! | `run/` | `/run/bgagent` | the socket between worker and tools |
//! | `box/repo`, `baseline` | `/box/...` | the work tree |
//! | `box/home`, `tmp`, `cache` | tools: `/home/agent`, `/tmp`, `/box/cache` | what tools leave behind |

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};

use domain::{Attempt, TaskId};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::layer::User;
use crate::BoxSpec;
use crate::local::error::PathError;
use crate::local::folder::{Folder, absent_ok};

/// Folders of `box/` that the worker sees too.
pub(super) const TREE: [&str; 2] = ["repo", "baseline"];
/// Folders of `box/` that only tools see.
const TOOLS: [&str; 3] = ["home", "tmp", "cache"];
/// The layers of the cache's overlay.
const OVERLAY: [&str; 2] = ["cache-upper", "cache-work"];

/// `containers.json`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) worker: String,
    pub(super) tools: String,
    pub(super) memory_mib: u64,
    pub(super) disk_mib: u64,
    pub(super) cache_mib: u64,
}

/// `end.json`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) code: Option<i32>,
    pub(super) tail: String,
}

/// `session/session.json`, as the worker reads it. Holds no secret.
#[derive(Debug, Serialize)]
pub(super) struct SessionFile<'a> {
    pub(super) task: TaskId,
    pub(super) attempt: Attempt,
    pub(super) gateway: &'a str,
    pub(super) tier: domain::IsolationTier,
    pub(super) plan: BoxSpec,
    /// What holds the box: the worker puts it on the task's record.
    pub(super) enforced: String,
}

/// See the module's own words. Making this value touches nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place(pub(super) Folder);

impl Place {
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path.join(name)
    }

    /// Makes every folder of the box, and gives it to the box's user.
    pub(super) fn prepare(&self, user: &User) -> Result<(), PathError> {
        let make = |name: &str, mode: u32| {
            let path = self.path(name);
            DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
        };
        for name in ["etc", "box"] {
            make(name, 0o755).map_err(PathError::at("making", &self.path(name)))?;
        }
        let of_box = TREE.into_iter().chain(TOOLS).chain(OVERLAY).map(|name| format!("box/{name}"));
        for name in ["session".to_owned(), "run".to_owned()].into_iter().chain(of_box) {
            let mode = if name == "box/tmp" { 0o1777 } else { 0o700 };
            make(&name, mode)
                .and_then(|()| user.own(&self.path(&name)))
                .map_err(PathError::at("making", &self.path(&name)))?;
        }
        for (name, text) in [("etc/passwd", user.passwd()), ("etc/group", user.group())] {
            let path = self.path(name);
            std::fs::write(&path, text)
                .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)))
                .map_err(PathError::at("writing", &path))?;
        }
        Ok(())
    }

    /// What the worker starts from; its user's alone.
    pub(super) fn hand_over(
        &self,
        file: &SessionFile<'_>,
        token: &SecretString,
        user: &User,
    ) -> Result<(), PathError> {
        let session = self.session();
        let put = |name: &str, bytes: &[u8]| {
            session.write(name, bytes)?;
            user.own(&session.path.join(name))
        };
        serde_json::to_vec(file)
            .map_err(io::Error::from)
            .and_then(|text| put("session.json", &text))
            .and_then(|()| put("bootstrap", token.expose_secret().as_bytes()))
            .map_err(PathError::at("writing into", &session.path))
    }

    /// Takes the token back when nobody is going to use it.
    pub(super) fn take_back(&self) -> Result<(), PathError> {
        let path = self.session().path.join("bootstrap");
        absent_ok(std::fs::remove_file(&path)).map(drop).map_err(PathError::at("removing", &path))
    }

    /// Whether containers were made from here, or are about to be.
    pub(super) fn has_begun(&self) -> bool {
        self.session().path.exists()
    }

    /// Nothing was made after all.
    pub(super) fn forget(&self) -> Result<(), PathError> {
        self.session().remove()
    }

    /// Whether a worker says that it has taken the session. The box can forge this; only its own start depends on it.
    pub(super) fn is_claimed(&self) -> bool {
        std::fs::symlink_metadata(self.session().path.join("pid")).is_ok()
    }

    pub(super) fn record(&self) -> Result<Option<Record>, PathError> {
        self.read("containers.json")
    }

    pub(super) fn write_record(&self, record: &Record) -> Result<(), PathError> {
        self.write("containers.json", record)
    }

    pub(super) fn end(&self) -> Result<Option<End>, PathError> {
        self.read("end.json")
    }

    /// Keeps how it ended; the first word stands. A session that was removed meanwhile has nothing to keep.
    pub(super) fn write_end(&self, end: &End) -> Result<(), PathError> {
        if !self.0.path.exists() || self.end()?.is_some() {
            return Ok(());
        }
        let text = serde_json::to_vec(end).map_err(io::Error::from);
        match text.and_then(|text| self.0.write_first("end.json", &text)) {
            // Somebody is removing the folder just now.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            written => written.map_err(PathError::at("writing", &self.path("end.json"))),
        }
    }

    /// Bytes on disk below folders of `box/`, as boxes count them; one that is too deep to be counted is over any bound.
    pub(super) fn used(&self, names: &[&str]) -> u64 {
        let folders: Vec<PathBuf> = names.iter().map(|name| self.path("box").join(name)).collect();
        sandbox::disk::used(folders.iter().map(PathBuf::as_path)).unwrap_or(u64::MAX)
    }

    fn session(&self) -> Folder {
        Folder { path: self.path("session"), ..self.0.clone() }
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, PathError> {
        let path = self.path(name);
        let Some(text) = absent_ok(std::fs::read(&path)).map_err(PathError::at("reading", &path))? else {
            return Ok(None);
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(io::Error::from)
            .map_err(PathError::at("reading", &path))
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), PathError> {
        serde_json::to_vec(value)
            .map_err(io::Error::from)
            .and_then(|text| self.0.write(name, &text))
            .map_err(PathError::at("writing", &self.path(name)))
    }
}

impl User {
    fn own(&self, path: &Path) -> io::Result<()> {
        match self.give {
            Some((uid, gid)) => lchown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    fn passwd(&self) -> String {
        let root = "root:x:0:0:root:/root:/bin/sh\n";
        let nobody = "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
        match self.uid {
            0 => format!("root:x:0:0:agent:/home/agent:/bin/sh\n{nobody}"),
            uid => format!("{root}{nobody}agent:x:{uid}:{}:agent:/home/agent:/bin/sh\n", self.gid),
        }
    }

    fn group(&self) -> String {
        match self.gid {
            0 => "root:x:0:\nnogroup:x:65534:\n".into(),
            gid => format!("root:x:0:\nnogroup:x:65534:\nagent:x:{gid}:\n"),
        }
    }
}
