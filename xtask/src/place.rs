//! Where things are: the checkout, cargo's target folder, the peers.
//!
//! The only reader of the environment in xtask.

use std::{
    ffi::OsString,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

/// Names the folder of the peers; the tests read it too.
pub const PEERS_VARIABLE: &str = "BGAGENT_PEERS";

/// The root of the checkout this xtask was built from.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask sits in the checkout's root")
}

/// A command that runs the cargo which started us, in the checkout.
pub fn cargo() -> Command {
    let mut cargo = Command::new(variable("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(checkout());
    cargo
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    match variable("CARGO_TARGET_DIR") {
        Some(dir) => checkout().join(dir),
        None => checkout().join("target"),
    }
}

/// Whether cargo can run `cargo NAME`, asked by running it.
pub fn has_cargo_command(name: &str) -> bool {
    cargo().args([name, "--version"]).output().is_ok_and(|output| output.status.success())
}

/// The program of this name on `PATH`, if any.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = variable("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// The folder the peers live in, made when missing, with `target/peers` of the checkout leading there.
///
/// `BGAGENT_PEERS` says where; otherwise they sit beside a target folder that is outside of the checkout, or in the
/// user's cache, so that a fresh clone finds what the last one installed. A `target/peers` that is a real folder is
/// taken as it is: somebody installed there by hand.
pub fn peers() -> Result<PathBuf> {
    let link = checkout().join("target/peers");
    let root = match variable(PEERS_VARIABLE) {
        Some(dir) => checkout().join(dir),
        None if link.is_dir() && !link.is_symlink() => return Ok(link),
        None => shared_peers()?,
    };
    std::fs::create_dir_all(&root).with_context(|| format!("making the peers' folder {}", root.display()))?;
    if !link.exists() {
        lead(&link, &root)?;
    }
    Ok(root)
}

fn shared_peers() -> Result<PathBuf> {
    if let Some(dir) = variable("CARGO_TARGET_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute()) {
        return Ok(dir.with_file_name("bgagent-peers"));
    }
    if let Some(cache) = variable("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(cache).join("bgagent-peers"));
    }
    let home = variable("HOME").context("finding a place for the peers: set HOME or BGAGENT_PEERS")?;
    Ok(PathBuf::from(home).join(".cache/bgagent-peers"))
}

fn lead(link: &Path, root: &Path) -> Result<()> {
    let parent = link.parent().expect("the link is in target/");
    std::fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    if link.is_symlink() {
        std::fs::remove_file(link).with_context(|| format!("removing the stale link {}", link.display()))?;
    }
    match std::os::unix::fs::symlink(root, link) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()), // another run was faster
        Err(error) => Err(error).with_context(|| format!("linking {} to {}", link.display(), root.display())),
    }
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
