//! Where boxes run, as the configuration says: each tier's backend.

use std::path::PathBuf;
use std::sync::Arc;

use compute::container::{ContainerBackend, ContainerConfig, Image, sockets};
use compute::local::LocalBackend;
use compute::router::Router;

use crate::config::{Config, Env};
use crate::paths::State;

/// The backend of the tier `container`. Touches nothing yet: what is wrong with the engine is told when it is asked for.
pub fn container(config: &Config, env: &Env, program: PathBuf) -> ContainerBackend {
    let compute = &config.compute;
    let named = |image: &String| !image.is_empty();
    let image = if named(&compute.image) {
        Image::Default(compute.image.clone())
    } else if config.repos.values().any(|repo| named(&repo.compute.image)) {
        Image::OfPlans
    } else {
        Image::Unset
    };
    ContainerBackend::new(ContainerConfig {
        sessions_dir: State(config.state_dir.clone()).containers(),
        program,
        sockets: sockets(&compute.engine, |name| env.get(name).cloned()),
        image,
    })
}

/// All of them behind one.
pub(crate) fn router(local: LocalBackend, container: ContainerBackend) -> Router {
    Router::new(Arc::new(local), Arc::new(container))
}
