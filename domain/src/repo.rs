//! How a repository is named: `owner/name` on the configured forge, or a directory of this machine.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A repository, as a task names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RepoRef {
    /// `owner/name` on GitHub (or the Enterprise server that is configured).
    GitHub {
        /// Account or organisation.
        owner: String,
        /// Repository name.
        name: String,
    },
    /// A git repository of the machine the control plane runs on, by absolute, normalised path.
    Local(PathBuf),
}

/// A text that names no repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "repo must be OWNER/NAME, or an absolute path (or file:// URL) of a git repository on the server's machine; got {0:?}"
)]
pub struct BadRepo(pub String);

impl RepoRef {
    /// The last part of the name, for people.
    pub fn short_name(&self) -> String {
        match self {
            RepoRef::GitHub { name, .. } => name.clone(),
            RepoRef::Local(path) => {
                path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_else(|| "repo".into())
            }
        }
    }
}

impl fmt::Display for RepoRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RepoRef::GitHub { owner, name } => write!(f, "{owner}/{name}"),
            RepoRef::Local(path) => write!(f, "{}", path.display()),
        }
    }
}

/// *ABCA*'s segment rule: `[A-Za-z0-9._-]+`, not only dots.
fn segment(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 100
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && !text.bytes().all(|b| b == b'.')
}

impl FromStr for RepoRef {
    type Err = BadRepo;

    fn from_str(text: &str) -> Result<Self, BadRepo> {
        let bad = || BadRepo(text.chars().take(200).collect());
        let path = text.strip_prefix("file://").unwrap_or(text);
        if path.starts_with('/') {
            let plain =
                Path::new(path).components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
            let normal: PathBuf = Path::new(path).components().collect();
            if !plain || path.bytes().any(|b| b < 0x20) || path.len() > 4_096 || normal == Path::new("/") {
                return Err(bad());
            }
            return Ok(RepoRef::Local(normal));
        }
        match text.split_once('/') {
            Some((owner, name)) if segment(owner) && segment(name) => {
                Ok(RepoRef::GitHub { owner: owner.into(), name: name.into() })
            }
            _ => Err(bad()),
        }
    }
}

impl Serialize for RepoRef {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RepoRef {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_are_told_apart() {
        assert_eq!("octo/cat".parse(), Ok(RepoRef::GitHub { owner: "octo".into(), name: "cat".into() }));
        assert_eq!("/srv/git/x/".parse(), Ok(RepoRef::Local("/srv/git/x".into())));
        assert_eq!("file:///srv/x".parse(), Ok(RepoRef::Local("/srv/x".into())));
    }

    #[test]
    fn what_could_escape_or_confuse_is_refused() {
        for bad in [
            "", "x", "../x", "./x", "a/..", "../..", "a/b/c", "a b/c", "/", "/a/../b", "/a\nb", "-", "a/",
            "/./",
        ] {
            assert!(bad.parse::<RepoRef>().is_err(), "{bad:?}");
        }
    }
}
