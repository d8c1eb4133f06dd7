//! Runs boxes as two containers each of a Docker-compatible engine (Docker, Podman) of this machine: the worker's, which
//! holds the task's token and reaches the gateway's socket, and the tools', which holds nothing. Neither has a network.
//!
//! Both have a read-only image, no capability, no new privileges, the engine's filter of system calls, bounds of memory,
//! processes and files, and a user that owns nothing else of the machine. The engine's socket is in neither.
//!
//! What runs is asked of the engine alone. The session's folder (see `container/place.rs`) remembers what the engine
//! forgets with a container: that it ran, and how it ended. Both files are outside of the box.
//!
//! ```text
//! start ─▶ take `turn` ─▶ `containers.json`? ──yes──▶ that is the session
//!                            │ no
//!                    worker by its name, started? ──yes──▶ wait for its claim
//!                            │ no
//!          remove what a crash left ─▶ folders, token ─▶ create both ─▶ start tools, worker ─▶ wait for the claim
//! ```

mod ask;
pub mod devcontainer;
mod end;
mod engine;
mod layer;
mod place;
mod start;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::{IsolationTier, SessionHandle};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use self::ask::Listed;
pub use self::engine::{Bounds, Facts, Rights, sockets};
use self::engine::{Engine, Trouble};
use self::layer::User;
use self::place::Place;
use crate::local::folder::{Folder, absent_ok};
use crate::local::{blocking, error};
use crate::{ComputeBackend, ComputeError, SessionSpec, SessionStatus, StopOutcome};

/// How long an answer of [`ContainerBackend::look`] is given again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Where and from what the backend makes containers.
#[derive(Debug, Clone)]
pub struct ContainerConfig {
    /// Holds one folder for each session; made when it is not there. No other backend's.
    pub sessions_dir: PathBuf,
    /// The `bgagent` binary, which is lent to the containers.
    pub program: PathBuf,
    /// The engine's sockets to try, see [`sockets`]; `Err` says why there can be none.
    pub sockets: Result<Vec<PathBuf>, String>,
    /// What containers are made from.
    pub image: Image,
}

/// Where the image of a box comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// This one, where the plan of a session names none.
    Default(String),
    /// Only plans name one.
    OfPlans,
    /// Nobody names one: then there are no boxes.
    Unset,
}

/// What a person does when no image is named.
const NAME_ONE: &str = "no image is named for containers: set `compute.image` to one with git and the repository's tools, or \
                        `compute.image` of the repository (`[repos.\"NAME\".compute]`); the worker runs in it also where a \
                        repository names the image of its tools (`compute.devcontainer`)";

/// Runs boxes as containers. Clones share what they know; several objects over one folder agree through the engine and
/// the folder.
#[derive(Debug, Clone)]
pub struct ContainerBackend {
    config: Arc<ContainerConfig>,
    state: String,
    engine: Arc<Engine>,
    looked: Arc<Mutex<Option<Looked>>>,
    /// When the disk of a session was measured, and how long that took. Only to measure it seldom.
    measured: Arc<Mutex<HashMap<String, (Instant, Duration)>>>,
}

/// An answer of [`ContainerBackend::look`], and when it was given.
type Looked = (Instant, Result<Facts, String>);

impl ContainerBackend {
    /// Touches nothing yet.
    pub fn new(mut config: ContainerConfig) -> Self {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        config.sessions_dir = absolute(&config.sessions_dir);
        config.program = absolute(&config.program);
        let digest = Sha256::digest(config.sessions_dir.as_os_str().as_encoded_bytes());
        let state = hex::encode(&digest[..8]);
        let engine = Arc::new(Engine::new(config.sockets.clone()));
        Self { config: Arc::new(config), state, engine, looked: Arc::default(), measured: Arc::default() }
    }

    /// What the engine is, if boxes can be had from it with the default image; `Err` says what to do. Blocks: a second
    /// when it asks for the first time, then some milliseconds.
    pub fn look(&self) -> Result<Facts, String> {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, answer)) = &*looked
            && at.elapsed() < LOOK_AGAIN
        {
            return answer.clone();
        }
        // A thread with a runtime of its own: the caller may be on one, which must not be waited on.
        let answer = std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.map_err(|e| e.to_string())?.block_on(self.asked())
            });
            asking.join().unwrap_or_else(|_| Err("asking the container engine failed".into()))
        });
        *looked = Some((Instant::now(), answer.clone()));
        answer
    }

    async fn asked(&self) -> Result<Facts, String> {
        let open = self.engine.there().await.map_err(Trouble::words)?;
        user(open.facts.rights)?;
        if let Some(why) = open.facts.unbounded() {
            return Err(why);
        }
        if self.config.image == Image::Unset {
            return Err(NAME_ONE.into());
        }
        if let Image::Default(image) = &self.config.image {
            let name = &open.facts.name;
            let there = engine::found(open.docker.inspect_image(image).await)
                .map_err(|e| format!("{name} does not say whether it has the image {image}: {e}"))?;
            if there.is_none() {
                let tool = if open.facts.podman { "podman" } else { "docker" };
                return Err(format!(
                    "{name} has no image {image} (`compute.image`): `{tool} pull {image}`, or build it"
                ));
            }
        }
        Ok(open.facts)
    }

    fn place(&self, handle: &SessionHandle, verb: &str) -> Result<(Place, Ids, String), ComputeError> {
        let doing = doing(verb, handle);
        match handle {
            SessionHandle::Container { task, attempt, dir, worker, tools } => Ok((
                Place(Folder { task: *task, attempt: *attempt, path: dir.clone() }),
                Ids { worker: worker.clone(), tools: tools.clone() },
                doing,
            )),
            SessionHandle::Local { .. } | SessionHandle::Fake { .. } => {
                let backend = handle.backend();
                let reason =
                    format!("it is a session of backend `{backend}`, not of `container`: ask that backend");
                Err(error::unsupported(&doing, reason))
            }
        }
    }

    /// Whether any session of this folder has begun and is not known to have ended.
    async fn owes(&self) -> bool {
        let sessions = self.config.sessions_dir.clone();
        let unsettled = move || {
            let entries = absent_ok(std::fs::read_dir(&sessions)).ok().flatten();
            let names = entries.into_iter().flatten().flatten().map(|entry| entry.file_name());
            let folders = names.filter_map(|name| Folder::parse(&sessions, name.to_str()?));
            folders.map(Place).any(|place| place.has_begun() && !matches!(place.end(), Ok(Some(_))))
        };
        blocking(unsettled).await
    }
}

/// The engine's ids of a session's containers.
#[derive(Debug, Clone)]
struct Ids {
    worker: String,
    tools: String,
}

#[async_trait]
impl ComputeBackend for ContainerBackend {
    fn name(&self) -> &'static str {
        "container"
    }

    fn supports(&self, tier: IsolationTier) -> Result<(), String> {
        match tier {
            IsolationTier::Container => self.look().map(drop),
            IsolationTier::Process | IsolationTier::Sandbox | IsolationTier::Microvm => {
                Err(format!("the container backend has no tier `{}`", tier.as_str()))
            }
        }
    }

    async fn start(&self, spec: &SessionSpec) -> Result<SessionHandle, ComputeError> {
        start::start(self, spec).await
    }

    async fn poll(&self, handle: &SessionHandle) -> Result<SessionStatus, ComputeError> {
        let (place, ids, doing) = self.place(handle, "polling")?;
        end::poll(self, &place, &ids, &doing).await
    }

    async fn stop(&self, handle: &SessionHandle, grace: Duration) -> Result<StopOutcome, ComputeError> {
        let (place, ids, doing) = self.place(handle, "stopping")?;
        end::stop(self, &place, &ids, grace, &doing).await
    }

    async fn list_sessions(&self) -> Result<Vec<SessionHandle>, ComputeError> {
        let doing = "listing the containers' sessions";
        let open = match self.engine.open().await {
            Ok(open) => open,
            // A machine without an engine, where nothing was ever started, lists nothing.
            Err(_) if !self.owes().await => return Ok(Vec::new()),
            Err(trouble) => return Err(trouble.of(doing)),
        };
        let all = ask::labelled(&open.facts.socket, layer::STATE, &self.state, doing).await?;
        let sessions = self.config.sessions_dir.clone();
        Ok(blocking(move || live(&sessions, all)).await)
    }

    async fn purge(&self, handle: &SessionHandle) -> Result<(), ComputeError> {
        let (place, ids, doing) = self.place(handle, "purging")?;
        let folder = Folder::new(&self.config.sessions_dir, place.0.task, place.0.attempt);
        if place.0 != folder {
            let (dir, sessions) = (place.0.path.display(), self.config.sessions_dir.display());
            let reason = format!("{dir} is not a session of {sessions}: remove it by hand");
            return Err(error::unsupported(&doing, reason));
        }
        end::purge(self, &place, &ids, &doing).await?;
        self.measured.lock().unwrap_or_else(PoisonError::into_inner).remove(&place.0.name());
        Ok(())
    }
}

/// The sessions of which a container runs, or waits to be started by somebody who may have crashed.
fn live(sessions: &Path, all: Vec<Listed>) -> Vec<SessionHandle> {
    let mut by_name: BTreeMap<String, Vec<(String, Listed)>> = BTreeMap::new();
    for container in all {
        let labels = container.labels.clone().unwrap_or_default();
        if let (Some(session), Some(layer)) = (labels.get(layer::SESSION), labels.get(layer::LAYER)) {
            by_name.entry(session.clone()).or_default().push((layer.clone(), container));
        }
    }
    let handle = |(name, containers): (String, Vec<(String, Listed)>)| {
        let folder = Folder::parse(sessions, &name)?;
        let place = Place(folder.clone());
        let id = |wanted: &str| {
            let of_layer = containers.iter().find(|(layer, _)| layer == wanted).map(|(_, c)| c.id.clone());
            let record = || place.record().ok().flatten();
            let recorded = || record().map(|r| if wanted == layer::WORKER { r.worker } else { r.tools });
            // One that was never made is named as it would be: stopping it finds nothing, which is right.
            of_layer.or_else(recorded).unwrap_or_else(|| layer::name(&place, wanted))
        };
        containers.iter().any(|(_, container)| container.lives()).then(|| SessionHandle::Container {
            task: folder.task,
            attempt: folder.attempt,
            dir: folder.path.clone(),
            worker: id(layer::WORKER),
            tools: id(layer::TOOLS),
        })
    };
    by_name.into_iter().filter_map(handle).collect()
}

/// The user of boxes, given who this process is.
fn user(rights: Rights) -> Result<User, String> {
    User::of(rights, nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

fn doing(verb: &str, handle: &SessionHandle) -> String {
    format!("{verb} the session of {} attempt {}", handle.task(), handle.attempt())
}
