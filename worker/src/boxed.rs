//! The box from the worker's side: what it is made of, and what is where in it.
//!
//! ```text
//! /box/repo       the work tree                        worker and tools
//! /box/baseline   the base's work tree, attachments    worker and tools
//! /box/cache      dependency caches, a private overlay tools
//! /box/objects    objects of the mirror, read-only     tools
//! /session        the worker's own folder              worker
//! /gateway        the folder of the gateway's socket   worker
//! ```

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use domain::{Attempt, BoxLimits, TaskId};
use sandbox::{Bind, Plan, layout};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;

use crate::claim::{Claim, SessionFile};
use crate::client::Address;
use crate::job::Folders;
use crate::launch::{Launcher, Start};
use crate::tool::Environment;

/// Objects of the mirror, in the box.
pub const OBJECTS: &str = layout::OBJECTS;
/// Certificates that the tools trust, in the box.
const CA_FILE: &str = "/box/ca.pem";
/// The folder of the gateway's socket, in the box.
const GATEWAY: &str = "/gateway";
/// The folder that belongs to the box, in the session's.
const BOX: &str = "box";
/// So long the tools' container may take.
const TOOLS_DEADLINE: Duration = Duration::from_secs(60);

/// What the worker's layer is told by the monitor, through a pipe; it is on no disk and in no environment.
#[derive(Debug, Clone)]
pub struct Seat {
    /// The task to work at.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
    /// Where the gateway is, as seen from the box.
    pub gateway: String,
    /// Exchanged for a session token at attach.
    pub bootstrap_token: SecretString,
    /// Whether the mirror's objects are at [`OBJECTS`].
    pub objects: bool,
    /// Environment of the tools that the operator wants.
    pub env: Vec<(String, String)>,
    /// Files that the tools find: path in the box, and text.
    pub files: Vec<(PathBuf, String)>,
    /// What holds the box.
    pub enforced: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    task: TaskId,
    attempt: Attempt,
    gateway: String,
    bootstrap_token: String,
    objects: bool,
    env: Vec<(String, String)>,
    files: Vec<(PathBuf, String)>,
}

impl Seat {
    /// The seat of a claim in tier `sandbox`.
    pub fn of(claim: &Claim) -> Result<Seat, String> {
        let socket = socket(&claim.session)?;
        let name = socket.file_name().unwrap_or_default();
        Ok(Seat {
            gateway: format!("unix:{}", Path::new(GATEWAY).join(name).display()),
            objects: lent(&claim.session).is_some(),
            ..Seat::as_it_is(claim)
        })
    }

    /// The seat of a claim whose paths are the box's already: tier `container`.
    pub fn as_it_is(claim: &Claim) -> Seat {
        Seat {
            task: claim.session.task,
            attempt: claim.session.attempt,
            gateway: claim.session.gateway.clone(),
            bootstrap_token: claim.bootstrap_token.clone(),
            objects: claim.session.plan.objects.is_some(),
            env: claim.session.plan.env.clone(),
            files: claim.session.plan.files.clone(),
            enforced: claim.session.enforced.clone(),
        }
    }

    /// The seat of a box that works at nobody's task: it has no token, and no gateway to attach to.
    pub fn without_task(session: &SessionFile) -> Result<Seat, String> {
        let socket = socket(session)?;
        let name = socket.file_name().unwrap_or_default();
        if lent(session).is_none() {
            return Err("the repository's mirror has no objects to lend: it is shallow, or gone".into());
        }
        Ok(Seat {
            task: session.task,
            attempt: session.attempt,
            gateway: format!("unix:{}", Path::new(GATEWAY).join(name).display()),
            bootstrap_token: SecretString::default(),
            objects: true,
            env: session.plan.env.clone(),
            files: session.plan.files.clone(),
            enforced: None,
        })
    }

    /// As the bytes that go through the pipe.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let wire = Wire {
            task: self.task,
            attempt: self.attempt,
            gateway: self.gateway.clone(),
            bootstrap_token: self.bootstrap_token.expose_secret().to_owned(),
            objects: self.objects,
            env: self.env.clone(),
            files: self.files.clone(),
        };
        Ok(serde_json::to_vec(&wire)?)
    }

    /// From those bytes.
    pub fn from_bytes(bytes: &[u8]) -> io::Result<Seat> {
        let Wire { task, attempt, gateway, bootstrap_token, objects, env, files } =
            serde_json::from_slice(bytes)?;
        let bootstrap_token = bootstrap_token.into();
        Ok(Seat { task, attempt, gateway, bootstrap_token, objects, env, files, enforced: None })
    }
}

/// Where things are in the box.
pub fn folders() -> Folders {
    Folders {
        private: layout::SESSION.into(),
        repo: layout::REPO.into(),
        // Below the mount, so that it can be removed as a whole.
        baseline: Path::new(layout::BASELINE).join("tree"),
        attachments: Path::new(layout::BASELINE).join("attachments"),
    }
}

/// What a session's box is made of. `ours` is this process's environment, of which the tools get what is harmless.
pub fn plan(
    session: &SessionFile,
    dir: &Path,
    ours: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Plan, String> {
    let socket = socket(session)?;
    let folder = socket.parent().filter(|folder| folder.parent().is_some());
    let folder = folder.ok_or("the gateway's socket must be in a folder of its own")?;
    let bind = |from: &Path, to: &Path| Bind { from: from.to_owned(), to: to.to_owned() };
    let mut read_only: Vec<Bind> = session.plan.read.iter().map(|path| bind(path, path)).collect();
    read_only.extend(session.plan.ca.iter().map(|file| bind(file, Path::new(CA_FILE))));
    read_only.extend(lent(session).map(|objects| bind(objects, Path::new(OBJECTS))));
    let ours = Environment::clean(ours);
    let env = ours.variables().iter().cloned();
    let asked = session.plan.env.iter().map(|(name, value)| (name.into(), value.into()));
    Ok(Plan {
        dir: dir.join(BOX),
        // Folders of sessions, and of caches that are made, are two levels below it.
        state: dir.ancestors().nth(2).map(Path::to_owned),
        name: "box".into(),
        worker_binds: vec![bind(folder, Path::new(GATEWAY))],
        read_only,
        cache: session.plan.cache.clone(),
        env: env.chain(asked).collect(),
        limits: session.plan.limits.clone(),
    })
}

/// What programs get in the box: what the box decides (`base`), the way out, where caches are, and what the operator
/// wants (`asked`), which wins.
pub fn environment(base: &[(OsString, OsString)], asked: &[(String, String)], port: u16) -> Environment {
    let proxy = format!("http://127.0.0.1:{port}");
    let local = "localhost,127.0.0.1,::1";
    let java = format!(
        "-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort={port} -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort={port} \
         -Dhttp.nonProxyHosts=localhost|127.*|[::1]"
    );
    let mut out = Environment::clean(base.iter().cloned());
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        out = out.with(name, &proxy).with(&name.to_ascii_uppercase(), &proxy);
    }
    out = out.with("no_proxy", local).with("NO_PROXY", local);
    out = out.with("MAVEN_OPTS", &java).with("GRADLE_OPTS", &java).with("NODE_USE_ENV_PROXY", "1");
    for (name, folder) in CACHES {
        out = out.with(name, format!("{}/{folder}", layout::CACHE));
    }
    for (name, value) in asked {
        out = out.with(name, value);
    }
    out
}

/// Where package managers keep what they have fetched, below the cache's folder.
const CACHES: [(&str, &str); 13] = [
    ("CARGO_HOME", "cargo"),
    ("XDG_CACHE_HOME", "xdg"),
    ("npm_config_cache", "npm"),
    ("PNPM_HOME", "pnpm"),
    ("YARN_CACHE_FOLDER", "yarn"),
    ("PIP_CACHE_DIR", "pip"),
    ("UV_CACHE_DIR", "uv"),
    ("POETRY_CACHE_DIR", "poetry"),
    ("GOPATH", "go"),
    ("GOMODCACHE", "go/pkg/mod"),
    ("GOCACHE", "go-build"),
    ("GRADLE_USER_HOME", "gradle"),
    ("BUNDLE_USER_CACHE", "bundle"),
];

/// Writes each text (the second of a pair) to its path; the path of one that cannot be written is told.
const PLACE: &str = "while [ $# -gt 1 ]; do mkdir -p \"${1%/*}\" && printf %s \"$2\" > \"$1\" || { echo \"for $1\"; exit 1; }; shift 2; done";

/// Listens at `socket` for the tools' first process, which is in a container of its own; takes the first that comes. No
/// command of the agent runs before.
pub async fn wait_for_tools(socket: &Path) -> io::Result<OwnedFd> {
    let absent = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    };
    std::fs::remove_file(socket).or_else(absent)?;
    let listener = UnixListener::bind(socket)?;
    let came = tokio::time::timeout(TOOLS_DEADLINE, listener.accept()).await;
    std::fs::remove_file(socket).or_else(absent)?;
    let late = || io::Error::other("the tools' container did not come up in time: see its log");
    let (stream, _) = came.map_err(|_| late())??;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream.into())
}

/// Writes files where the tools see them, as they would themselves. All in one command: a box starts with it.
pub async fn place(launcher: &Launcher, files: &[(PathBuf, String)]) -> io::Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let (mut complaints, stderr) = io::pipe()?;
    let each = files.iter().flat_map(|(path, text)| [path.into(), text.into()]);
    let start = Start {
        program: "sh".into(),
        args: ["-c", PLACE, "sh"].into_iter().map(Into::into).chain(each).collect(),
        env: launcher.environment().variables().to_vec(),
        dir: "/".into(),
        stdin: None,
        stdout: stderr.try_clone()?.into(),
        stderr: stderr.into(),
    };
    match launcher.start(start).await?.wait().await? {
        0 => Ok(()),
        _ => {
            let mut said = String::new();
            complaints.by_ref().take(1_000).read_to_string(&mut said)?;
            Err(io::Error::other(format!("placing the configuration of tools in the box: {}", said.trim())))
        }
    }
}

/// The first process of the tools' container: goes to the worker at `socket`, and starts what it asks for until it is
/// gone. It keeps `limits`, where nobody else does; absent when it is not alone with them.
pub fn serve_tools(socket: &Path, limits: Option<BoxLimits>) -> io::Result<()> {
    let deadline = Instant::now() + TOOLS_DEADLINE;
    let line = loop {
        match UnixStream::connect(socket) {
            Ok(line) => break line,
            Err(error) if Instant::now() > deadline => return Err(error),
            // The worker is started at the same time, and makes the socket when it has taken its session.
            Err(_) => pause(),
        }
    };
    let environment = Environment::clean(std::env::vars_os());
    sandbox::init::give_up().map_err(io::Error::other)?;
    sandbox::init::serve_tools(line, environment.variables(), limits)
}

#[expect(clippy::disallowed_methods, reason = "the only thread of its process, and nothing to poll for")]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

/// Whether objects of a mirror do for a work tree: they must be there, and be all of its history.
pub fn may_be_lent(objects: &Path) -> bool {
    let shallow = objects.parent().map(|mirror| mirror.join("shallow"));
    objects.is_dir() && !shallow.is_some_and(|file| file.exists())
}

fn lent(session: &SessionFile) -> Option<&Path> {
    session.plan.objects.as_deref().filter(|objects| may_be_lent(objects))
}

fn socket(session: &SessionFile) -> Result<PathBuf, String> {
    match session.gateway.parse::<Address>() {
        Ok(Address::Unix(path)) => Ok(path),
        Ok(Address::Http(_)) => {
            Err("a box reaches its gateway over a UNIX socket only: set server.gateway_listen to one".into())
        }
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(dir: &Path) -> SessionFile {
        let objects = dir.join("mirror.git/objects");
        std::fs::create_dir_all(&objects).unwrap();
        serde_json::from_value(serde_json::json!({
            "task": TaskId::from_bits(9), "attempt": 2, "tier": "sandbox",
            "gateway": format!("unix:{}/gateway/gateway.sock", dir.display()),
            "plan": { "read": ["/opt/tools"], "objects": objects, "env": [["PIP_INDEX_URL", "http://r/"]] },
        }))
        .unwrap()
    }

    fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn a_plan_shows_the_socket_s_folder_to_the_worker_and_the_objects_to_the_tools() {
        let dir = tempfile::tempdir().unwrap();
        let session = session(dir.path());
        let ours = variables(&[("PATH", "/bin"), ("GITHUB_TOKEN", "x"), ("BGAGENT_SESSION", "t-1")]);
        let plan = plan(&session, Path::new("/state/sessions/s"), ours).unwrap();
        assert_eq!(plan.dir, Path::new("/state/sessions/s/box"));
        assert_eq!(plan.state.as_deref(), Some(Path::new("/state")));
        assert_eq!(plan.worker_binds, [Bind { from: dir.path().join("gateway"), to: "/gateway".into() }]);
        let shown: Vec<&Path> = plan.read_only.iter().map(|bind| bind.to.as_path()).collect();
        assert_eq!(shown, [Path::new("/opt/tools"), Path::new(OBJECTS)]);
        let names: Vec<&str> = plan.env.iter().filter_map(|(name, _)| name.to_str()).collect();
        assert!(names.contains(&"PIP_INDEX_URL") && names.contains(&"BGAGENT_SESSION"), "{names:?}");
        assert!(!names.contains(&"GITHUB_TOKEN"), "{names:?}");
    }

    #[test]
    fn a_shallow_mirror_and_one_that_is_gone_lend_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let session = session(dir.path());
        assert!(lent(&session).is_some());
        std::fs::write(dir.path().join("mirror.git/shallow"), "").unwrap();
        assert!(lent(&session).is_none());
        assert!(!may_be_lent(&dir.path().join("gone/objects")));
    }

    #[test]
    fn a_gateway_on_tcp_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let session = SessionFile { gateway: "http://127.0.0.1:80".into(), ..session(dir.path()) };
        assert!(plan(&session, Path::new("/s"), Vec::new()).unwrap_err().contains("UNIX socket"));
    }

    #[test]
    fn programs_find_the_proxy_and_the_caches_and_the_operator_has_the_last_word() {
        let base = variables(&[("HOME", "/home/agent"), ("PATH", "/bin"), ("CARGO_HOME", "/root/.cargo")]);
        let asked = [("PIP_CACHE_DIR".to_owned(), "/x".to_owned())];
        let env = environment(&base, &asked, 4711);
        let of = |name: &str| env.get(name).and_then(|value| value.to_str()).unwrap_or("-").to_owned();
        assert_eq!(of("HTTPS_PROXY"), "http://127.0.0.1:4711");
        assert_eq!(of("http_proxy"), "http://127.0.0.1:4711");
        assert_eq!(of("no_proxy"), "localhost,127.0.0.1,::1");
        assert_eq!((of("CARGO_HOME"), of("PIP_CACHE_DIR")), ("/box/cache/cargo".into(), "/x".into()));
        assert_eq!(of("HOME"), "/home/agent");
    }

    #[test]
    fn a_seat_goes_through_the_pipe_and_its_token_into_no_debug() {
        let seat = Seat {
            task: TaskId::from_bits(9),
            attempt: Attempt(1),
            gateway: "unix:/gateway/gateway.sock".into(),
            bootstrap_token: "tok-1".into(),
            objects: true,
            env: vec![("A".into(), "b".into())],
            files: vec![("/home/agent/.npmrc".into(), "x=1".into())],
            enforced: None,
        };
        assert!(!format!("{seat:?}").contains("tok-1"));
        let back = Seat::from_bytes(&seat.to_bytes().unwrap()).unwrap();
        assert_eq!(back.bootstrap_token.expose_secret(), "tok-1");
        assert_eq!((back.gateway, back.objects, back.env), (seat.gateway, true, seat.env));
    }
}
