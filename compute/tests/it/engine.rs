//! The container engine that `cargo xtask test` starts, with an image that has the usual tools.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use compute::conformance::{self, Harness};
use compute::container::{ContainerBackend, ContainerConfig, Image, sockets};
use compute::{BoxSpec, ComputeBackend, SessionSpec};
use domain::{IsolationTier, SessionHandle};

use crate::toy::until;

/// The engine and its image.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub(crate) socket: PathBuf,
    pub(crate) image: String,
}

/// The engine, or nothing and why. A machine that says it has one must have one.
#[expect(clippy::disallowed_methods, reason = "the switch of tests that need an engine, in one place")]
pub(crate) fn engine() -> Option<Engine> {
    let (Ok(host), Ok(image)) = (std::env::var("DOCKER_HOST"), std::env::var("BGAGENT_TEST_IMAGE")) else {
        eprintln!(
            "skipped: needs a container engine; `cargo xtask test` starts one where it can (DOCKER_HOST, BGAGENT_TEST_IMAGE)"
        );
        return None;
    };
    let found = sockets("", |name| (name == "DOCKER_HOST").then(|| host.clone()));
    Some(Engine { socket: found.unwrap().remove(0), image })
}

/// A backend in a folder of its own, whose program is `tests/toy_box.sh`.
pub(crate) struct Boxes {
    engine: Engine,
    place: tempfile::TempDir,
    pub(crate) plan: BoxSpec,
}

impl Boxes {
    pub(crate) fn new(engine: &Engine) -> Self {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("gateway")).unwrap();
        Self { engine: engine.clone(), place, plan: BoxSpec::default() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    pub(crate) fn config(&self) -> ContainerConfig {
        ContainerConfig {
            sessions_dir: self.path("containers"),
            program: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/toy_box.sh"),
            sockets: Ok(vec![self.engine.socket.clone()]),
            image: Image::Default(self.engine.image.clone()),
        }
    }

    pub(crate) fn container(&self) -> ContainerBackend {
        ContainerBackend::new(self.config())
    }

    /// What the tools' container answers to a shell script.
    pub(crate) async fn tools(&self, handle: &SessionHandle, script: &str) -> String {
        asked(&dir(handle).join("box/repo"), script).await
    }

    /// What the worker's container answers to a shell script.
    pub(crate) async fn worker(&self, handle: &SessionHandle, script: &str) -> String {
        asked(&dir(handle).join("session"), script).await
    }
}

async fn asked(dir: &Path, script: &str) -> String {
    drop(std::fs::remove_file(dir.join("did")));
    std::fs::write(dir.join("do.new"), script).unwrap();
    // The toy removes it, and it is not root.
    std::fs::rename(dir.join("do.new"), dir.join("do")).unwrap();
    until(|| std::fs::read_to_string(dir.join("did")).ok()).await
}

/// The session's folder.
pub(crate) fn dir(handle: &SessionHandle) -> &Path {
    match handle {
        SessionHandle::Container { dir, .. } => dir,
        SessionHandle::Local { .. } | SessionHandle::Fake { .. } => panic!("no container: {handle:?}"),
    }
}

#[async_trait]
impl Harness for Boxes {
    fn backend(&self) -> Arc<dyn ComputeBackend> {
        Arc::new(self.container())
    }

    fn spec(&self) -> SessionSpec {
        SessionSpec {
            tier: IsolationTier::Container,
            gateway: format!("unix:{}", self.path("gateway/gateway.sock").display()),
            plan: self.plan.clone(),
            ..conformance::spec()
        }
    }

    async fn end(&self, handle: &SessionHandle, code: i32) {
        std::fs::write(dir(handle).join("session/end.new"), code.to_string()).unwrap();
        std::fs::rename(dir(handle).join("session/end.new"), dir(handle).join("session/end")).unwrap();
    }
}
