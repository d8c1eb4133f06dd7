//! The groups of a running server. Asking costs a second or so: it is done when somebody first wants to know, kept on
//! disk, and done again when the tool or its configuration changed, after a day, or soon where an answer was missing.
//!
//! A start of the server waits for none of it. Who asks for a group that is not known yet waits, at most as long as
//! [`GROUP_DEADLINE`](super::GROUP_DEADLINE).

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Env, Group, Origin, Tool, ask};
use crate::egress::policy::{AskGroups, GroupHost};
use crate::egress::resolve::Reach;
use crate::egress::target::Target;

/// A group that is complete is asked again after this long.
const KEEP: Duration = Duration::from_secs(24 * 3_600);
/// One that is not, after this long.
const AGAIN: Duration = Duration::from_secs(60);

/// When a book is first filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fill {
    /// The groups of these names, at once.
    Now(Vec<String>),
    /// When somebody asks.
    WhenAsked,
}

/// The groups of this machine; cheap to clone.
#[derive(Debug, Clone)]
pub struct Book {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    env: Env,
    folder: PathBuf,
    scratch: PathBuf,
    slots: [Slot; Tool::ALL.len()],
}

/// One group.
#[derive(Debug)]
struct Slot {
    tool: Tool,
    known: RwLock<Option<Known>>,
    /// Held while the tool is asked, so that it is asked once however many wait.
    asking: Mutex<()>,
}

#[derive(Debug, Clone)]
struct Known {
    group: Arc<Group>,
    /// When it should be asked again.
    due: Instant,
}

/// A group on disk.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// Of all that decides what a tool would answer.
    key: String,
    group: Group,
}

impl Book {
    /// An empty book that asks tools in `env` and keeps answers in `folder`. While a tool is asked it writes in a folder
    /// below `scratch`; see [`scratch::clear`](super::scratch::clear).
    pub fn new(env: Env, folder: PathBuf, scratch: PathBuf) -> Book {
        let slots = Tool::ALL.map(|tool| Slot { tool, known: RwLock::default(), asking: Mutex::default() });
        Book { inner: Arc::new(Inner { env, folder, scratch, slots }) }
    }

    /// The group of a tool; asks when it is not known yet.
    pub async fn group(&self, tool: Tool) -> Arc<Group> {
        let slot = self.slot(tool);
        if let Some(known) = slot.known() {
            return known.group;
        }
        let _asking = slot.asking.lock().await;
        if let Some(known) = slot.known() {
            return known.group;
        }
        if let Some(known) = self.kept(tool).await {
            return slot.learn(known);
        }
        self.ask(slot).await
    }

    /// The group of a tool if it is known already.
    pub fn known(&self, tool: Tool) -> Option<Arc<Group>> {
        self.slot(tool).known().map(|known| known.group)
    }

    /// All groups.
    pub async fn all(&self) -> Vec<Arc<Group>> {
        futures_util::future::join_all(Tool::ALL.map(|tool| self.group(tool))).await
    }

    /// The groups of these names; a name that is no group's is passed over.
    pub async fn groups_of(&self, names: &[String]) -> Vec<Arc<Group>> {
        let tools = Tool::ALL.into_iter().filter(|tool| names.iter().any(|name| name == tool.as_str()));
        futures_util::future::join_all(tools.map(|tool| self.group(tool))).await
    }

    /// Keeps the book fresh until `stop`: background work of a server.
    pub async fn keep_fresh(&self, fill: Fill, stop: CancellationToken) {
        let work = async {
            match fill {
                Fill::Now(names) => drop(self.groups_of(&names).await),
                Fill::WhenAsked => (),
            }
            loop {
                tokio::time::sleep(AGAIN).await;
                for slot in &self.inner.slots {
                    if slot.known().is_some_and(|known| known.due <= Instant::now()) {
                        let _asking = slot.asking.lock().await;
                        self.ask(slot).await;
                    }
                }
            }
        };
        tokio::select! {
            () = work => (),
            () = stop.cancelled() => (),
        }
    }

    fn slot(&self, tool: Tool) -> &Slot {
        let place = Tool::ALL.iter().position(|t| *t == tool).unwrap_or_default();
        &self.inner.slots[place]
    }

    /// Asks the tool, and keeps what it says. The caller holds the slot's `asking`.
    async fn ask(&self, slot: &Slot) -> Arc<Group> {
        let group = super::discover(slot.tool, &self.inner.env, &self.inner.scratch).await;
        let hosts = group.hosts.len();
        if group.complete {
            debug!(egress.group = %slot.tool, hosts, "a tool was asked for its registries");
        } else {
            let note = group.note.as_deref().unwrap_or_default();
            warn!(egress.group = %slot.tool, hosts, note, "a tool did not say all of its registries; asking again soon");
        }
        let now = Instant::now();
        if !group.complete {
            // What was known before is better than less.
            if let Some(known) = slot.known().filter(|known| known.group.complete) {
                return slot.learn(Known { due: now + AGAIN, ..known });
            }
            return slot.learn(Known { group: Arc::new(group), due: now + AGAIN });
        }
        let known = Known { group: Arc::new(group), due: now + KEEP };
        let (inner, group) = (self.inner.clone(), known.group.clone());
        let kept = tokio::task::spawn_blocking(move || {
            let kept = Kept { key: key(group.tool, &inner.env), group: (*group).clone() };
            write(&inner.folder, &kept)
        });
        match kept.await {
            Ok(Ok(())) => (),
            Ok(Err(failure)) => warn!(error = %failure, "the registries of a tool could not be kept on disk"),
            Err(failure) => warn!(error = %failure, "the registries of a tool could not be kept on disk"),
        }
        slot.learn(known)
    }

    /// The group as it was kept, if nothing changed since that decides what the tool would say.
    async fn kept(&self, tool: Tool) -> Option<Known> {
        let inner = self.inner.clone();
        let read = tokio::task::spawn_blocking(move || {
            let path = path(&inner.folder, tool);
            let kept: Kept = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
            let age = fs::metadata(&path).ok()?.modified().ok()?.elapsed().unwrap_or(KEEP);
            (kept.key == key(tool, &inner.env)).then_some((kept.group, age))
        });
        let (group, age) = read.await.ok()??;
        Some(Known { group: Arc::new(group), due: Instant::now() + KEEP.saturating_sub(age) })
    }
}

impl Slot {
    fn known(&self) -> Option<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn learn(&self, known: Known) -> Arc<Group> {
        let group = known.group.clone();
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
        group
    }
}

#[async_trait]
impl AskGroups for Book {
    async fn hosts(&self, group: &str) -> Vec<GroupHost> {
        match group.parse() {
            Ok(tool) => hosts(&*self.group(tool).await),
            // The policy knows no other names.
            Err(_) => vec![],
        }
    }
}

/// A group's hosts as the proxy compares them.
fn hosts(group: &Group) -> Vec<GroupHost> {
    let host = |site: &super::Site| {
        let target = Target::parse(&site.to_string(), None).ok()?;
        let reach = match site.origin {
            Origin::Configured => Reach::Named,
            Origin::Learned => Reach::Public,
        };
        Some(GroupHost { target, reach })
    };
    group.hosts.iter().filter_map(host).collect()
}

fn path(folder: &Path, tool: Tool) -> PathBuf {
    folder.join(format!("{tool}.json"))
}

/// Appears whole or not at all.
fn write(folder: &Path, kept: &Kept) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let path = path(folder, kept.group.tool);
    let fresh = path.with_extension("new");
    fs::write(&fresh, serde_json::to_vec(kept)?)?;
    fs::rename(&fresh, &path)
}

/// Tells apart all that decides what a tool would answer: this program's version, the tool's file, the variables that it
/// reads, and its configuration.
fn key(tool: Tool, env: &Env) -> String {
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    };
    add(env!("CARGO_PKG_VERSION").as_bytes());
    // And its build: what boxes are given of the same answers may be another.
    let ours = std::env::current_exe().and_then(fs::metadata).ok();
    add(ours.map(|m| format!("{} {}", m.len(), m.mtime())).unwrap_or_default().as_bytes());
    let programs: &[&str] = match tool {
        Tool::Cargo => &["cargo", "rustc"],
        Tool::Npm => &["npm"],
        Tool::Pip => &["python3", "pip"],
        Tool::Apt => &["apt-get"],
    };
    for program in programs {
        let file = ask::which(env, program).and_then(|file| fs::canonicalize(file).ok());
        let meta = file.as_ref().and_then(|file| fs::metadata(file).ok());
        add(file.map(|file| file.display().to_string()).unwrap_or_default().as_bytes());
        add(meta.map(|m| format!("{} {} {}", m.len(), m.mtime(), m.ino())).unwrap_or_default().as_bytes());
    }
    for (name, value) in env.iter().filter(|(name, _)| ask::passes(tool, name)) {
        add(name.as_bytes());
        add(value.as_bytes());
    }
    for file in configuration(tool, env) {
        add(file.display().to_string().as_bytes());
        add(&fs::read(&file).unwrap_or_default());
    }
    hex::encode(hash.finalize())
}

/// Where a tool's configuration is, as a rule.
fn configuration(tool: Tool, env: &Env) -> Vec<PathBuf> {
    let var = |name: &str| env.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = var("HOME").unwrap_or_default();
    let config = var("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
    let mut files: Vec<PathBuf> = match tool {
        Tool::Cargo => {
            let folder = var("CARGO_HOME").unwrap_or_else(|| home.join(".cargo"));
            vec![folder.join("config"), folder.join("config.toml")]
        }
        Tool::Npm => {
            let global =
                ask::which(env, "npm").and_then(|npm| Some(npm.parent()?.parent()?.join("etc/npmrc")));
            [Some(home.join(".npmrc")), global, var("NPM_CONFIG_USERCONFIG"), var("npm_config_userconfig")]
                .into_iter()
                .flatten()
                .collect()
        }
        Tool::Pip => {
            let mut files = vec![
                "/etc/pip.conf".into(),
                "/etc/xdg/pip/pip.conf".into(),
                home.join(".pip/pip.conf"),
                config.join("pip/pip.conf"),
            ];
            files.extend(var("PIP_CONFIG_FILE"));
            files.extend(var("VIRTUAL_ENV").map(|dir| dir.join("pip.conf")));
            files.extend(var("PYENV_ROOT").map(|dir| dir.join("version")));
            files
        }
        Tool::Apt => {
            let mut files = vec![PathBuf::from("/etc/apt/sources.list"), "/etc/apt/apt.conf".into()];
            for folder in ["/etc/apt/sources.list.d", "/etc/apt/apt.conf.d"] {
                let entries = fs::read_dir(folder).into_iter().flatten().flatten();
                files.extend(entries.map(|entry| entry.path()));
            }
            files.extend(var("APT_CONFIG"));
            files
        }
    };
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_configuration_has_another_key() {
        let home = tempfile::tempdir().unwrap();
        let env: Env = [("HOME".into(), home.path().display().to_string())].into();
        let before = key(Tool::Npm, &env);
        assert_eq!(before, key(Tool::Npm, &env));
        fs::write(home.path().join(".npmrc"), "registry=https://a.example/\n").unwrap();
        let after = key(Tool::Npm, &env);
        assert_ne!(before, after);
        let mut env = env;
        env.insert("ELSE".into(), "1".into());
        assert_eq!(after, key(Tool::Npm, &env), "a variable that npm is not given");
        env.insert("npm_config_registry".into(), "https://b.example/".into());
        assert_ne!(after, key(Tool::Npm, &env));
    }
}
