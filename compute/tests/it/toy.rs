//! A local backend whose worker is `tests/toy_worker.sh`, in a folder of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use compute::ComputeBackend;
use compute::conformance::Harness;
use compute::local::{LocalBackend, LocalConfig};
use domain::SessionHandle;

pub(crate) struct Toy {
    place: tempfile::TempDir,
    behaviour: &'static str,
}

impl Toy {
    pub(crate) fn new(behaviour: &'static str) -> Self {
        Self { place: tempfile::tempdir().unwrap(), behaviour }
    }

    pub(crate) fn sessions(&self) -> PathBuf {
        self.place.path().join("sessions")
    }

    pub(crate) fn local(&self) -> LocalBackend {
        backend(&self.sessions(), self.behaviour)
    }
}

/// A backend with the toy worker over `sessions`.
pub(crate) fn backend(sessions: &Path, behaviour: &str) -> LocalBackend {
    let path = std::env::var_os("PATH").unwrap();
    LocalBackend::new(LocalConfig {
        sessions_dir: sessions.to_owned(),
        program: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/toy_worker.sh"),
        env: vec![("PATH".into(), path), ("TOY".into(), OsString::from(behaviour))],
        gateway: "unix:/nonexistent/gateway.sock".into(),
    })
}

#[async_trait]
impl Harness for Toy {
    fn backend(&self) -> Arc<dyn ComputeBackend> {
        Arc::new(self.local())
    }

    async fn end(&self, handle: &SessionHandle, code: i32) {
        let dir = dir(handle);
        std::fs::write(dir.join("end.new"), code.to_string()).unwrap();
        std::fs::rename(dir.join("end.new"), dir.join("end")).unwrap();
    }
}

/// The session's folder.
pub(crate) fn dir(handle: &SessionHandle) -> &Path {
    match handle {
        SessionHandle::Local { dir, .. } => dir,
        SessionHandle::Container { .. } | SessionHandle::Fake { .. } => panic!("not local: {handle:?}"),
    }
}

/// The worker's process id.
pub(crate) fn pid(handle: &SessionHandle) -> i32 {
    match handle {
        SessionHandle::Local { pid, .. } => *pid,
        SessionHandle::Container { .. } | SessionHandle::Fake { .. } => panic!("not local: {handle:?}"),
    }
}

/// The words of a file, once it is there and has any.
pub(crate) async fn words(path: PathBuf) -> String {
    until(|| std::fs::read_to_string(&path).ok().map(|text| text.trim().to_owned()).filter(|t| !t.is_empty()))
        .await
}

/// Looks until there is something; panics after a while.
pub(crate) async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looking).await.expect("it comes in time")
}

/// Whether a process runs; a zombie does not.
pub(crate) fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
