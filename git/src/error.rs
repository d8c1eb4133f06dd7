//! What git could not do, with a kind that callers branch on, and no credential in it.

use std::path::PathBuf;

/// Characters of git's own words that an error keeps.
const STDERR_MAX_CHARS: usize = 500;

/// A git command that failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {}", .stderr.lines().next().map_or_else(|| exit_text(*.code), |_| .stderr.trim().to_owned()))]
pub struct GitError {
    /// The operation and its object.
    pub doing: String,
    /// Exit code, where the command ran to its end.
    pub code: Option<i32>,
    /// The end of what git wrote on stderr, at most 500 characters, credentials removed.
    pub stderr: String,
    /// What kind of failure it was.
    pub kind: GitErrorKind,
}

/// What kind of failure it was, read from git's words under `LC_ALL=C`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GitErrorKind {
    /// The repository, revision or branch does not exist (or is hidden from this credential).
    NotFound,
    /// The remote refused the credential, or wanted one.
    Auth,
    /// The remote could not be reached, or hung up.
    Network,
    /// The directory is no git repository.
    NotARepository,
    /// The other side refused to move the ref: not a fast-forward, protected, checked out, declined by a hook.
    Rejected,
    /// No space, or over quota.
    DiskFull,
    /// The file system refused to let us read or write.
    Permission,
    /// The command did not end in its time and was killed.
    Timeout,
    /// It printed more than the caller allowed.
    OutputTooLarge,
    /// git itself could not be started.
    NotInstalled,
    /// Something else; the words tell.
    Other,
}

impl GitErrorKind {
    /// Reads the kind from what git wrote.
    pub fn of(stderr: &str) -> GitErrorKind {
        let text = stderr.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|w| text.contains(w));
        if has(&["no space left on device", "disk quota exceeded", "file too large"]) {
            GitErrorKind::DiskFull
        } else if has(&[
            "[rejected]",
            "[remote rejected]",
            "non-fast-forward",
            "protected branch",
            "hook declined",
            "refusing to fetch into",
            "refusing to update checked out",
            "cannot lock ref",
        ]) {
            GitErrorKind::Rejected
        } else if has(&[
            "authentication failed",
            "could not read username",
            "could not read password",
            "unable to get password",
            "returned error: 401",
            "returned error: 403",
            "http 401",
            "http 403",
            "terminal prompts disabled",
            "access denied",
        ]) {
            GitErrorKind::Auth
        } else if refused_by_http(&text) {
            GitErrorKind::Rejected
        } else if has(&[
            "could not resolve",
            "failed to connect",
            "couldn't connect",
            "connection refused",
            "connection reset",
            "timed out",
            "early eof",
            "rpc failed",
            "hung up unexpectedly",
            "ssl",
            "tls",
            "returned error: 5",
            "returned error: 429",
            "empty reply from server",
            "network is unreachable",
            "unexpected disconnect",
        ]) {
            GitErrorKind::Network
        } else if has(&[
            "permission denied",
            "read-only file system",
            "operation not permitted",
            "insufficient permission",
        ]) {
            GitErrorKind::Permission
        } else if has(&["not a git repository", "does not appear to be a git repository", "cannot change to"])
        {
            GitErrorKind::NotARepository
        } else if has(&[
            "not found",
            "returned error: 404",
            "does not exist",
            "unknown revision",
            "bad revision",
            "needed a single revision",
            "couldn't find remote ref",
            "not a valid object name",
            "bad object",
            "invalid object name",
            "not our ref",
        ]) {
            GitErrorKind::NotFound
        } else {
            GitErrorKind::Other
        }
    }

    /// Whether the same command may succeed later without anybody changing anything.
    pub fn is_transient(self) -> bool {
        match self {
            GitErrorKind::Network | GitErrorKind::Timeout => true,
            GitErrorKind::NotFound
            | GitErrorKind::Auth
            | GitErrorKind::NotARepository
            | GitErrorKind::Rejected
            | GitErrorKind::DiskFull
            | GitErrorKind::Permission
            | GitErrorKind::OutputTooLarge
            | GitErrorKind::NotInstalled
            | GitErrorKind::Other => false,
        }
    }
}

/// Whether the other side answered with a 4xx that stays: git words these as "RPC failed; HTTP 413 ...", like a broken
/// connection. 401 and 403 are about the credential, 404 about the repository, 408 and 429 pass.
fn refused_by_http(text: &str) -> bool {
    text.split("http ")
        .skip(1)
        .filter_map(|rest| rest.get(..3))
        .any(|code| matches!(code, "400" | "405" | "409" | "410" | "411" | "413" | "414" | "415" | "422"))
}

impl GitError {
    pub(crate) fn exited(doing: &str, code: Option<i32>, stderr: &[u8], secrets: &[String]) -> GitError {
        let text = redact(&String::from_utf8_lossy(stderr), secrets);
        GitError { doing: doing.into(), code, kind: GitErrorKind::of(&text), stderr: tail(&text) }
    }

    pub(crate) fn said(doing: &str, kind: GitErrorKind, why: impl Into<String>) -> GitError {
        GitError { doing: doing.into(), code: None, stderr: tail(&why.into()), kind }
    }

    pub(crate) fn not_started(doing: &str, dir: Option<&PathBuf>, error: &std::io::Error) -> GitError {
        let missing_dir = dir.filter(|d| !d.is_dir());
        match (error.kind(), missing_dir) {
            (std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory, Some(dir)) => Self::said(
                doing,
                GitErrorKind::NotARepository,
                format!("there is no directory {}", dir.display()),
            ),
            (std::io::ErrorKind::NotFound, None) => Self::said(
                doing,
                GitErrorKind::NotInstalled,
                "git is not installed, or not on PATH; install git 2.31 or later",
            ),
            (std::io::ErrorKind::PermissionDenied, _) => {
                Self::said(doing, GitErrorKind::Permission, error.to_string())
            }
            (_, _) => Self::said(doing, GitErrorKind::Other, format!("git could not be started: {error}")),
        }
    }
}

fn exit_text(code: Option<i32>) -> String {
    code.map_or_else(
        || "git was ended by a signal".to_owned(),
        |c| format!("git exited with {c} and said nothing"),
    )
}

/// Removes the given secrets, and whatever stands before `@` in a URL.
pub fn redact(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|s| !s.is_empty()) {
        text = text.replace(secret.as_str(), "***");
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after
            .find(|c: char| c == '/' || c.is_whitespace() || c == '\'' || c == '"')
            .unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(user_end) => {
                out.push_str("***");
                &after[user_end..]
            }
            None => after,
        };
    }
    out.push_str(rest);
    out
}

/// The last characters, on line ends where possible: git's reason comes last.
fn tail(text: &str) -> String {
    let text = text.trim();
    let count = text.chars().count();
    if count <= STDERR_MAX_CHARS {
        return text.to_owned();
    }
    let cut: String = text.chars().skip(count - STDERR_MAX_CHARS + 1).collect();
    let from_line = cut.find('\n').map_or(0, |at| at + 1);
    format!("…{}", if from_line < cut.len() / 2 { &cut[from_line..] } else { &cut })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_from_what_git_says() {
        for (said, kind) in [
            ("fatal: Authentication failed for 'https://github.com/a/b.git/'", GitErrorKind::Auth),
            (
                "fatal: could not read Username for 'https://github.com': terminal prompts disabled",
                GitErrorKind::Auth,
            ),
            (
                "remote: Repository not found.\nfatal: repository 'https://github.com/a/b/' not found",
                GitErrorKind::NotFound,
            ),
            ("fatal: unable to access 'https://x/': Could not resolve host: x", GitErrorKind::Network),
            (
                "fatal: unable to access 'https://x/': The requested URL returned error: 503",
                GitErrorKind::Network,
            ),
            (
                "fatal: unable to access 'https://x/': The requested URL returned error: 403",
                GitErrorKind::Auth,
            ),
            (
                "fatal: not a git repository (or any of the parent directories): .git",
                GitErrorKind::NotARepository,
            ),
            (" ! [rejected]        main -> main (non-fast-forward)", GitErrorKind::Rejected),
            (
                "error: RPC failed; HTTP 413 curl 22 The requested URL returned error: 413",
                GitErrorKind::Rejected,
            ),
            (
                "error: RPC failed; HTTP 429 curl 22 The requested URL returned error: 429",
                GitErrorKind::Network,
            ),
            (" ! [remote rejected] main -> main (protected branch hook declined)", GitErrorKind::Rejected),
            ("error: unable to write file x: No space left on device", GitErrorKind::DiskFull),
            (
                "error: insufficient permission for adding an object to repository database",
                GitErrorKind::Permission,
            ),
            ("fatal: ambiguous argument 'x': unknown revision or path", GitErrorKind::NotFound),
            ("fatal: something new", GitErrorKind::Other),
        ] {
            assert_eq!(GitErrorKind::of(said), kind, "{said}");
        }
    }

    #[test]
    fn credentials_are_cut_from_words_and_urls() {
        let text =
            redact("fatal: https://me:s3cret@host/x and tok-123, see http://plain/p@q", &["tok-123".into()]);
        assert_eq!(text, "fatal: https://***@host/x and ***, see http://plain/p@q");
    }

    #[test]
    fn long_words_keep_their_end() {
        let text = format!("{}\nfatal: the reason", "noise ".repeat(300));
        let error = GitError::exited("doing", Some(128), text.as_bytes(), &[]);
        assert!(error.stderr.chars().count() <= STDERR_MAX_CHARS);
        assert!(error.to_string().ends_with("fatal: the reason"), "{error}");
    }
}
