//! Programs nobody here wrote that tests meet: installed by `cargo xtask peers`, found through `BGAGENT_PEERS`, which
//! `cargo xtask test` sets. A test whose peer is not there says so and is skipped.

use std::path::PathBuf;

/// A program of a peer's Python environment, `litellm` and `python` say.
pub fn program(peer: &str, program: &str) -> Option<PathBuf> {
    // Not through a link to the folder: an interpreter finds its packages by the path it is started with.
    there(peer, format!("venv/bin/{program}"))
}

/// The same of a peer that every machine can hold: where `BGAGENT_PEERS` is set and the peer is not there, the test fails
/// instead of passing without having looked.
pub fn required(peer: &str, name: &str) -> anyhow::Result<Option<PathBuf>> {
    match (program(peer, name), std::env::var_os("BGAGENT_PEERS")) {
        (None, Some(folder)) => {
            anyhow::bail!("{peer} is not in {}; run `cargo xtask peers {peer}`", folder.to_string_lossy())
        }
        (found, _) => Ok(found),
    }
}

/// The folder with a peer's Node packages.
pub fn node_modules(peer: &str) -> Option<PathBuf> {
    there(peer, "node_modules".into())
}

/// A real project that nobody of ours wrote, with its history.
pub fn project(name: &str) -> Option<PathBuf> {
    there("projects", format!("{name}/.git")).and_then(|git| git.parent().map(PathBuf::from))
}

/// A container engine, and an image that it has.
#[derive(Debug, Clone)]
pub struct Engine {
    /// For `DOCKER_HOST`.
    pub address: String,
    /// For `compute.image`.
    pub image: String,
}

/// The container engine that `cargo xtask test` has started.
#[expect(clippy::disallowed_methods, reason = "the switch of tests that need an engine, in one place")]
pub fn engine() -> Option<Engine> {
    let told = (std::env::var("DOCKER_HOST"), std::env::var("BGAGENT_TEST_IMAGE"));
    let (Ok(address), Ok(image)) = told else {
        eprintln!(
            "skipped: needs a container engine; `cargo xtask test` starts one (DOCKER_HOST, BGAGENT_TEST_IMAGE)"
        );
        return None;
    };
    Some(Engine { address, image })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the switch of tests that need a program from outside, in one place"
)]
fn there(peer: &str, path: String) -> Option<PathBuf> {
    let peers = std::env::var("BGAGENT_PEERS").ok().map(PathBuf::from);
    let found = peers.map(|peers| peers.join(peer).join(path)).filter(|path| path.exists());
    if found.is_none() {
        eprintln!(
            "skipped: needs {peer}; `cargo xtask test` installs it and says where it is (BGAGENT_PEERS)"
        );
    }
    found
}
