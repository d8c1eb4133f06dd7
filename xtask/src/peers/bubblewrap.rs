//! Bubblewrap, the program that others build such boxes with: what a box is measured beside.
//!
//! Its package is unpacked in the peer's folder: the machine itself is left as it was.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Made;
use crate::{place, step};

/// The package.
pub const PACKAGE: &str = "bubblewrap";

/// Gets the package from the machine's own package source and unpacks it.
pub fn make(folder: &Path) -> Result<Made> {
    if place::program("apt-get").is_none() || place::program("dpkg-deb").is_none() {
        return Ok(Made::Impossible(format!("no apt-get; install {PACKAGE} and put bwrap on PATH")));
    }
    let download = || {
        let mut apt = Command::new("apt-get");
        apt.args(["download", "-qq", PACKAGE]).current_dir(folder);
        apt
    };
    // Lists that are not there yet, or name a version that is gone.
    if step::run(&mut download()).is_err() {
        step::run(Command::new("apt-get").args(["update", "-qq"]))?;
        step::run(&mut download())?;
    }
    let entries = std::fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))?;
    let packages = entries.flatten().map(|entry| entry.path());
    for package in packages.filter(|path| path.extension().is_some_and(|kind| kind == "deb")) {
        step::run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(folder.join("root")))?;
        std::fs::remove_file(&package).with_context(|| format!("removing {}", package.display()))?;
    }
    Ok(Made::Done)
}

/// The program: the peer's, or one that is installed.
pub fn program() -> Option<PathBuf> {
    let peer = place::peers().ok().map(|peers| peers.join(PACKAGE).join("root/usr/bin/bwrap"));
    peer.filter(|file| file.is_file()).or_else(|| place::program("bwrap"))
}
