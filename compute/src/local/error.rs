//! From what the operating system says to the words of the seam, with the path and what a person can do.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::ComputeError;

/// One file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("{what} {}{}", path.display(), hint(source.kind()))]
pub(crate) struct PathError {
    what: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl PathError {
    /// For `map_err`: `what` as in "creating", "writing".
    pub(crate) fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PathError {
        move |source| PathError { what, path: path.to_owned(), source }
    }

    /// The seam's error of the operation `doing`.
    pub(crate) fn of(self, doing: &str) -> ComputeError {
        let doing = doing.to_owned();
        match self.source.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                ComputeError::Denied { doing, source: Box::new(self) }
            }
            ErrorKind::InvalidFilename | ErrorKind::NotADirectory => {
                ComputeError::Unsupported { doing, reason: format!("{self} ({})", self.source) }
            }
            // Everything else may pass: a full disk, no file descriptors, a folder that was removed just now.
            _may_pass => ComputeError::Unavailable { doing, source: Box::new(self) },
        }
    }
}

/// Something that may work later, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Said(String);

pub(crate) fn unavailable(doing: &str, why: impl Into<String>) -> ComputeError {
    ComputeError::Unavailable { doing: doing.to_owned(), source: Box::new(Said(why.into())) }
}

pub(crate) fn denied(doing: &str, why: impl Into<String>) -> ComputeError {
    ComputeError::Denied { doing: doing.to_owned(), source: Box::new(Said(why.into())) }
}

pub(crate) fn unsupported(doing: &str, reason: impl Into<String>) -> ComputeError {
    ComputeError::Unsupported { doing: doing.to_owned(), reason: reason.into() }
}

fn hint(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::PermissionDenied => {
            ": this user may not; give the folder to the user of the server, or set another state folder"
        }
        ErrorKind::ReadOnlyFilesystem => {
            ": the file system is read-only; set a state folder that can be written"
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            ": the disk (or quota) is full; free space or remove ended sessions"
        }
        ErrorKind::InvalidFilename => ": the path is too long; set a state folder with a shorter path",
        ErrorKind::NotADirectory => ": something above it is not a folder; set another state folder",
        _other => "",
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    fn told(errno: Errno) -> (ComputeError, String) {
        let error = PathError::at("writing", Path::new("/state/x"))(errno.into()).of("starting s");
        let chain = match &error {
            ComputeError::Unavailable { source, .. } | ComputeError::Denied { source, .. } => {
                source.to_string()
            }
            ComputeError::Unsupported { reason, .. } => reason.clone(),
        };
        (error, chain)
    }

    #[test]
    fn a_full_disk_may_pass() {
        for errno in [Errno::ENOSPC, Errno::EDQUOT] {
            let (error, chain) = told(errno);
            assert!(matches!(error, ComputeError::Unavailable { .. }), "{error:?}");
            assert!(chain.contains("/state/x") && chain.contains("free space"), "{chain}");
        }
    }

    #[test]
    fn what_a_person_must_change_is_denied() {
        for errno in [Errno::EROFS, Errno::EACCES, Errno::EPERM] {
            let (error, chain) = told(errno);
            assert!(matches!(error, ComputeError::Denied { .. }), "{error:?}");
            assert!(chain.contains("writing /state/x: "), "{chain}");
        }
    }

    #[test]
    fn what_can_never_work_is_unsupported() {
        for errno in [Errno::ENAMETOOLONG, Errno::ENOTDIR] {
            let (error, chain) = told(errno);
            assert!(matches!(error, ComputeError::Unsupported { .. }), "{error:?}");
            assert!(chain.contains("state folder"), "{chain}");
        }
    }
}
