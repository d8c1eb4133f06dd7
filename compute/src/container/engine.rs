//! The container engine: where it listens, what it is, and what its answers mean in the words of the seam.

use std::error::Error as _;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bollard::errors::Error;
use bollard::{ClientVersion, Docker};
use tokio::time::Instant;

use super::ask::{self, Pong, ping};
use crate::ComputeError;
use crate::local::error;

/// For saying what it is. Podman runs programs of its own to find out, which takes a second on a machine that has nothing to do.
const ASK: Duration = Duration::from_secs(10);
/// How long that is believed.
const KNOWN_FOR: Duration = Duration::from_secs(300);
/// The newest version of the API that is spoken here, and the oldest that engines in use still speak.
const API: (usize, usize) = (1, 44);
const API_MIN: (usize, usize) = (1, 40);
/// Seconds for one operation; starting a container on a busy disk takes its time.
const OPERATION_S: u64 = 120;
/// What a person does when there is no engine.
const GET_ONE: &str = "install Podman or Docker and start its API (`systemctl --user start podman.socket`, or \
                       `podman system service --time=0`), or name its socket with `compute.engine`";

/// Which sockets to try, in order: the configured one, else the one of `DOCKER_HOST`, else where Docker and Podman listen.
/// `variable` looks into the environment. Only sockets of this machine: the folders of a box are lent by path.
pub fn sockets(configured: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Vec<PathBuf>, String> {
    let host = variable("DOCKER_HOST").unwrap_or_default();
    let named = [("compute.engine", configured), ("DOCKER_HOST", host.as_str())];
    if let Some((what, address)) = named.into_iter().find(|(_, address)| !address.is_empty()) {
        let path = address.strip_prefix("unix://").or(address.strip_prefix("unix:")).unwrap_or(address);
        if path.starts_with('/') {
            return Ok(vec![PathBuf::from(path)]);
        }
        return Err(format!(
            "{what} is {address:?}, and an engine must be on this machine: name its socket as unix:///path"
        ));
    }
    let runtime = variable("XDG_RUNTIME_DIR").filter(|dir| dir.starts_with('/')).map(PathBuf::from);
    let own = runtime.iter().flat_map(|dir| [dir.join("podman/podman.sock"), dir.join("docker.sock")]);
    Ok(["/var/run/docker.sock".into()]
        .into_iter()
        .chain(own)
        .chain(["/run/podman/podman.sock".into()])
        .collect())
}

/// Whose rights the engine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Root's: user N of a container is user N of the machine.
    Root,
    /// An ordinary user's: root of a container is that user.
    User,
}

impl Rights {
    fn words(self) -> &'static str {
        match self {
            Rights::Root => "with root's rights",
            Rights::User => "rootless",
        }
    }
}

/// What an engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// For people: `Podman 4.3.1`.
    pub name: String,
    /// Where it listens.
    pub socket: PathBuf,
    /// Whose rights it has.
    pub rights: Rights,
    /// Whether it is Podman, which knows more kinds of mounts.
    pub podman: bool,
    /// Whether it labels containers for SELinux.
    pub selinux: bool,
    /// Whether it keeps containers within bounds of memory and processes.
    pub bounds: Bounds,
}

/// Whether an engine can bound what a container uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounds {
    /// It can.
    Kept,
    /// It takes them and forgets them.
    Forgotten,
}

impl Bounds {
    /// Control groups of version 1 cannot be handed to a user: a rootless engine does without, and says nothing.
    fn of(rights: Rights, info: &ask::Info) -> Bounds {
        let kept = info.memory_limit && info.pids_limit;
        match (rights, info.cgroup_version.as_str()) {
            (Rights::User, "1") => Bounds::Forgotten,
            _ if kept => Bounds::Kept,
            _ => Bounds::Forgotten,
        }
    }
}

impl Facts {
    /// Why containers of this engine have no bounds, and what to do; nothing when they have.
    pub(super) fn unbounded(&self) -> Option<String> {
        let what = "does not bound the memory and processes of containers here: use control groups of version 2, or an \
                    engine with root's rights";
        match self.bounds {
            Bounds::Kept => None,
            Bounds::Forgotten => Some(format!("{} at {} {what}", self.name, self.socket.display())),
        }
    }

    /// What holds a box of this engine, for the task's record.
    pub(super) fn enforced(&self) -> String {
        let bounds = match self.bounds {
            Bounds::Kept => "memory and processes bounded by the engine",
            Bounds::Forgotten => "memory and processes not bounded by the engine",
        };
        format!(
            "{}, {}: no capabilities, no network, read-only root, the engine's seccomp profile; {bounds}",
            self.name,
            self.rights.words()
        )
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, at {}", self.name, self.rights.words(), self.socket.display())
    }
}

/// An engine that answered.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) docker: Docker,
    pub(super) facts: Facts,
    pong: Pong,
}

/// Why there is no engine to work with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nobody listens.
    Absent(String),
    /// This user may not.
    Denied(String),
    /// It does not do what a box needs.
    Unfit(String),
}

impl Trouble {
    pub(super) fn words(self) -> String {
        match self {
            Trouble::Absent(words) | Trouble::Denied(words) | Trouble::Unfit(words) => words,
        }
    }

    pub(super) fn of(self, doing: &str) -> ComputeError {
        match self {
            // An engine that was stopped may be started again, and its containers are then still there.
            Trouble::Absent(words) => error::unavailable(doing, words),
            Trouble::Denied(words) => error::denied(doing, words),
            Trouble::Unfit(words) => error::unsupported(doing, words),
        }
    }
}

/// The engine of this machine, asked again when what is known of it is old.
#[derive(Debug)]
pub(super) struct Engine {
    sockets: Result<Vec<PathBuf>, String>,
    known: Mutex<Option<(Instant, Open)>>,
}

impl Engine {
    pub(super) fn new(sockets: Result<Vec<PathBuf>, String>) -> Self {
        Self { sockets, known: Mutex::default() }
    }

    /// The engine, as known or asked.
    pub(super) async fn open(&self) -> Result<Open, Trouble> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((asked, open)) = known
            && asked.elapsed() < KNOWN_FOR
        {
            return Ok(open);
        }
        let open = self.find().await?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), open.clone()));
        Ok(open)
    }

    /// The engine that answers now: as known, when it is the same.
    pub(super) async fn there(&self) -> Result<Open, Trouble> {
        let open = self.open().await?;
        match ping(&open.facts.socket).await {
            Ok(pong) if pong == open.pong => Ok(open),
            Ok(_) | Err(_) => {
                *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
                self.open().await
            }
        }
    }

    /// The first engine that answers; else what is wrong with the first that is there.
    async fn find(&self) -> Result<Open, Trouble> {
        let sockets = self.sockets.as_ref().map_err(|why| Trouble::Unfit(why.clone()))?;
        let mut first = None;
        for socket in sockets.iter().filter(|socket| socket.exists()) {
            let place = socket.display();
            let answer = match ping(socket).await {
                Ok(pong) => tokio::time::timeout(ASK, ask(socket, pong)).await.unwrap_or_else(|_slow| {
                    let s = ASK.as_secs();
                    Err(Trouble::Absent(format!(
                        "the container engine at {place} does not say within {s} s what it is"
                    )))
                }),
                Err(e) if e.kind() == ErrorKind::PermissionDenied => Err(Trouble::Denied(format!(
                    "this user may not use the container engine at {place}: run a rootless Podman of your own, or join \
                     the engine's group (which makes this user as good as root)"
                ))),
                Err(e) => Err(Trouble::Absent(format!(
                    "the container engine at {place} does not answer ({e}): {GET_ONE}"
                ))),
            };
            match answer {
                Ok(open) => return Ok(open),
                Err(trouble) => first = first.or(Some(trouble)),
            }
        }
        Err(first.unwrap_or_else(|| {
            let looked: Vec<String> = sockets.iter().map(|s| s.display().to_string()).collect();
            Trouble::Absent(format!("no container engine listens at {}: {GET_ONE}", looked.join(", ")))
        }))
    }
}

async fn ask(socket: &Path, pong: Pong) -> Result<Open, Trouble> {
    let place = socket.display();
    let kind = if pong.podman.is_some() { "Podman" } else { "Docker" };
    if pong.api < API_MIN {
        let words =
            format!("{kind} at {place} is too old (API {}.{}): install a newer one", pong.api.0, pong.api.1);
        return Err(Trouble::Unfit(words));
    }
    let trouble =
        |e: Error| Trouble::Absent(format!("{kind} at {place} does not say what it is ({e}): {GET_ONE}"));
    let (major_version, minor_version) = pong.api.min(API);
    let version = ClientVersion { major_version, minor_version };
    let docker =
        Docker::connect_with_unix(&socket.to_string_lossy(), OPERATION_S, &version).map_err(trouble)?;
    let info = ask::info(socket).await.map_err(|e| Trouble::Absent(format!("{e}: {GET_ONE}")))?;
    let options = &info.security_options;
    let has = |name: &str| {
        options.iter().any(|option| option.split(',').any(|part| part == format!("name={name}")))
    };
    let rights = if info.rootless || has("rootless") { Rights::User } else { Rights::Root };
    let facts = Facts {
        name: format!("{kind} {}", info.server_version),
        socket: socket.to_owned(),
        rights,
        bounds: Bounds::of(rights, &info),
        podman: pong.podman.is_some(),
        selinux: has("selinux"),
    };
    if !has("seccomp") {
        return Err(Trouble::Unfit(format!(
            "{} at {place} filters no system calls (seccomp): use a kernel and an engine with it",
            facts.name
        )));
    }
    Ok(Open { docker, facts, pong })
}

/// "Not there" as a value.
pub(super) fn found<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

/// "Not there", "not running" and "somebody is at it already" are as good as done.
pub(super) fn done(answer: Result<(), Error>) -> Result<(), Error> {
    match answer {
        Err(Error::DockerResponseServerError { status_code: 304 | 404 | 409, .. }) => Ok(()),
        other => other,
    }
}

/// The seam's error of the operation `doing`.
pub(super) fn failed(doing: &str) -> impl Fn(Error) -> ComputeError {
    move |source| {
        let doing = doing.to_owned();
        match &source {
            Error::DockerResponseServerError { status_code: 401 | 403, .. } => {
                ComputeError::Denied { doing, source: Box::new(source) }
            }
            Error::DockerResponseServerError { status_code: 400, message } => ComputeError::Unsupported {
                doing,
                reason: format!("the container engine refuses: {message}"),
            },
            _ if io_kind(&source) == Some(ErrorKind::PermissionDenied) => {
                ComputeError::Denied { doing, source: Box::new(source) }
            }
            _may_pass => ComputeError::Unavailable { doing, source: Box::new(source) },
        }
    }
}

/// What the operating system said, somewhere beneath.
fn io_kind(error: &Error) -> Option<ErrorKind> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = error.source();
    if let Error::IOError { err } = error {
        return Some(err.kind());
    }
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(configured: &str, variables: &[(&str, &str)], expected: Result<&[&str], &str>) {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        match (sockets(configured, variable), expected) {
            (Ok(found), Ok(expected)) => {
                assert_eq!(found, expected.iter().map(PathBuf::from).collect::<Vec<_>>());
            }
            (Err(words), Err(expected)) => assert!(words.contains(expected), "{words}"),
            (found, expected) => panic!("{found:?} is not {expected:?}"),
        }
    }

    #[test]
    fn the_engine_is_looked_for_where_it_usually_is() {
        let usual = ["/var/run/docker.sock", "/run/podman/podman.sock"];
        check("", &[], Ok(&usual));
        check("", &[("XDG_RUNTIME_DIR", "relative"), ("DOCKER_HOST", "")], Ok(&usual));
        let own =
            ["/var/run/docker.sock", "/r/podman/podman.sock", "/r/docker.sock", "/run/podman/podman.sock"];
        check("", &[("XDG_RUNTIME_DIR", "/r")], Ok(&own));
    }

    #[test]
    fn a_named_engine_is_the_only_one() {
        check("", &[("DOCKER_HOST", "unix:///d.sock"), ("XDG_RUNTIME_DIR", "/r")], Ok(&["/d.sock"]));
        check("unix:/e.sock", &[("DOCKER_HOST", "unix:///d.sock")], Ok(&["/e.sock"]));
        check("/e.sock", &[], Ok(&["/e.sock"]));
    }

    #[test]
    fn an_engine_of_another_machine_is_refused() {
        check("", &[("DOCKER_HOST", "tcp://192.0.2.1:2375")], Err("DOCKER_HOST is \"tcp://192.0.2.1:2375\""));
        check("ssh://box", &[], Err("compute.engine"));
    }

    #[test]
    fn bounds_that_are_forgotten_are_no_bounds() {
        let info = |cgroup_version: &str, pids_limit| ask::Info {
            cgroup_version: cgroup_version.into(),
            memory_limit: true,
            pids_limit,
            ..ask::Info::default()
        };
        assert_eq!(Bounds::of(Rights::Root, &info("1", true)), Bounds::Kept);
        assert_eq!(Bounds::of(Rights::User, &info("2", true)), Bounds::Kept);
        assert_eq!(Bounds::of(Rights::User, &info("1", true)), Bounds::Forgotten);
        assert_eq!(Bounds::of(Rights::Root, &info("2", false)), Bounds::Forgotten);
    }

    #[test]
    fn refusals_are_told_apart() {
        let said = |status_code| {
            failed("stopping s")(Error::DockerResponseServerError { status_code, message: "no".into() })
        };
        assert!(matches!(said(403), ComputeError::Denied { .. }));
        assert!(matches!(said(400), ComputeError::Unsupported { .. }));
        assert!(matches!(said(500), ComputeError::Unavailable { .. }));
        let denied = Error::IOError { err: io::Error::from(ErrorKind::PermissionDenied) };
        assert!(matches!(failed("stopping s")(denied), ComputeError::Denied { .. }));
    }
}
