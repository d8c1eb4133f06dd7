//! Peers from the npm registry, each with its packages in a folder of its own.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::Made;
use crate::{place, step};

/// A mock server that checks requests against an API description, and GitHub's official description.
pub const PRISM: [&str; 2] = ["@stoplight/prism-cli@5.14.2", "@octokit/openapi@23.0.2"];

/// The official client of the AG-UI protocol, which checks every event and their order.
pub const AG_UI: [&str; 1] = ["@ag-ui/client@1.0.0"];
/// Two identity providers: a certified one, and a small one whose keys are changed by its caller.
pub const OIDC: [&str; 2] = ["oidc-provider@9.13.3", "oauth2-mock-server@8.2.3"];

/// Installs `packages` into `folder/node_modules`.
pub fn make(packages: &[&str], folder: &Path) -> Result<Made> {
    let Some(npm) = place::program("npm") else {
        return Ok(Made::Impossible("no npm on PATH; install Node.js with npm".into()));
    };
    let quiet = ["install", "--no-audit", "--no-fund", "--no-save", "--loglevel=error", "--prefix"];
    step::run(Command::new(npm).args(quiet).arg(folder).args(packages))?;
    Ok(Made::Done)
}
