//! What a box gets of this site: where its registries are, which certificates its tools trust. Put around the
//! backends, so that none of them needs to know.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use compute::{BoxSpec, CA_FILE, ComputeBackend, ComputeError, SessionSpec, SessionStatus, StopOutcome};
use domain::{IsolationTier, SessionHandle};
use gateway::egress::site::book::Book;
use gateway::egress::site::{Env, trust};

/// What boxes of this site get.
#[derive(Debug, Clone)]
pub struct Kit {
    /// The registries of its tools.
    pub book: Book,
    /// The server's environment.
    pub env: Env,
    /// The certificate that the proxy signs with, PEM.
    pub own: Option<String>,
    /// The file of certificates that boxes are shown.
    pub bundle: PathBuf,
}

/// A backend whose boxes get it.
#[derive(Debug)]
pub struct Outfit {
    inner: Arc<dyn ComputeBackend>,
    kit: Kit,
}

impl Outfit {
    /// Puts it around a backend.
    pub fn new(inner: Arc<dyn ComputeBackend>, kit: Kit) -> Outfit {
        Outfit { inner, kit }
    }
}

impl Kit {
    /// The plan with what this site adds. What the operator configured for the repository stays.
    pub async fn complete(&self, plan: &BoxSpec) -> BoxSpec {
        let groups = self.book.groups_of(&plan.registries).await;
        let mut plan = plan.clone();
        let mut add = |name: &str, value: &str| {
            if !plan.env.iter().any(|(known, _)| known == name) {
                plan.env.push((name.to_owned(), value.to_owned()));
            }
        };
        for (name, value) in groups.iter().flat_map(|group| &group.env) {
            add(name, value);
        }
        let bundle = trust::bundle(&self.env, groups.iter().map(AsRef::as_ref), self.own.as_deref());
        match write_changed(&self.bundle, &bundle) {
            Ok(()) => {
                trust::BOX_VARIABLES.iter().for_each(|name| add(name, CA_FILE));
                plan.ca = Some(self.bundle.clone());
            }
            // Then tools trust what the system in the box has.
            Err(failure) => {
                tracing::warn!(error = %failure, "the certificates for boxes could not be written")
            }
        }
        plan.files.extend(groups.iter().flat_map(|group| group.files.clone()));
        plan
    }
}

/// Writes the file unless it holds that text. A box has the file itself: it is replaced, never changed.
fn write_changed(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    if text.is_empty() {
        return Err(std::io::Error::other("this machine has no certificates"));
    }
    if std::fs::read_to_string(path).is_ok_and(|known| known == text) {
        return Ok(());
    }
    let mut random = [0u8; 8];
    getrandom::fill(&mut random).map_err(|e| std::io::Error::other(e.to_string()))?;
    let fresh = path.with_extension(format!("new-{}", hex::encode(random)));
    std::fs::write(&fresh, text)?;
    // The user of the box reads it.
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o644))?;
    std::fs::rename(&fresh, path)
}

#[async_trait]
impl ComputeBackend for Outfit {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn supports(&self, tier: IsolationTier) -> Result<(), String> {
        self.inner.supports(tier)
    }

    async fn start(&self, spec: &SessionSpec) -> Result<SessionHandle, ComputeError> {
        match spec.tier {
            // Its tools have the machine's own configuration.
            IsolationTier::Process => self.inner.start(spec).await,
            IsolationTier::Sandbox | IsolationTier::Container | IsolationTier::Microvm => {
                let plan = self.kit.complete(&spec.plan).await;
                self.inner.start(&SessionSpec { plan, ..spec.clone() }).await
            }
        }
    }

    async fn poll(&self, handle: &SessionHandle) -> Result<SessionStatus, ComputeError> {
        self.inner.poll(handle).await
    }

    async fn stop(&self, handle: &SessionHandle, grace: Duration) -> Result<StopOutcome, ComputeError> {
        self.inner.stop(handle, grace).await
    }

    async fn list_sessions(&self) -> Result<Vec<SessionHandle>, ComputeError> {
        self.inner.list_sessions().await
    }

    async fn purge(&self, handle: &SessionHandle) -> Result<(), ComputeError> {
        self.inner.purge(handle).await
    }
}

#[cfg(test)]
mod tests {
    use compute::conformance;
    use compute::fake::FakeBackend;

    use super::*;

    #[tokio::test]
    async fn boxes_get_registries_and_certificates_and_processes_get_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let env = Env::from([("PATH".to_owned(), dir.path().display().to_string())]);
        let own = "-----BEGIN CERTIFICATE-----\nOWN\n-----END CERTIFICATE-----\n".to_owned();
        let fake = Arc::new(FakeBackend::default());
        let book = Book::new(env.clone(), dir.path().join("sites"), dir.path().join("tmp"));
        let kit = Kit { book, env, own: Some(own), bundle: path.clone() };
        let outfit = Outfit::new(fake.clone(), kit.clone());

        let mut spec = conformance::spec();
        spec.tier = IsolationTier::Sandbox;
        spec.plan.registries = vec!["cargo".into(), "npm".into()];
        spec.plan.env.push(("PIP_CERT".into(), "/mine".into()));
        let plan = kit.complete(&spec.plan).await;
        assert_eq!(plan.ca.as_deref(), Some(path.as_path()));
        assert!(std::fs::read_to_string(&path).unwrap().contains("OWN"));
        let of = |name: &str| {
            plan.env.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>()
        };
        assert_eq!((of("SSL_CERT_FILE"), of("PIP_CERT")), (vec![CA_FILE], vec!["/mine"]));

        spec.tier = IsolationTier::Process;
        outfit.start(&spec).await.unwrap();
        assert_eq!(fake.spec(spec.task, spec.attempt).unwrap().plan, spec.plan);
    }
}
