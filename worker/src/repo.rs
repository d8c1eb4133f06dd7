//! Clone and branch: from the gateway's git endpoint to a work tree on the task's branch.
//!
//! Three git processes in all: `init` (which runs while we attach), one `fetch` of the base and, if an earlier attempt
//! pushed it, the work branch, and one `reset`. The credential is in the environment of `fetch` and `push` alone, never
//! in the repository; `origin` is there for the agent's eyes (`git diff origin/main`).

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::{Failure, FailureCode};
use git::{Git, GitError, GitErrorKind};
use protocol::box_api::WorkSpec;
use secrecy::{ExposeSecret, SecretString};

use crate::client::Pause;

/// One `fetch` or `push`.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(900);

/// Where git finds the repository, and what it must show there.
#[derive(Debug, Clone)]
pub struct Remote {
    /// URL without a credential.
    pub url: String,
    /// Session token.
    pub token: SecretString,
}

/// The work tree on its branch.
#[derive(Debug, Clone)]
pub struct Checkout {
    /// Its top folder.
    pub dir: PathBuf,
    /// The base branch's commit: what the work is compared with.
    pub base: String,
    /// The commit the work starts from: the base, or what an earlier attempt pushed.
    pub start: String,
    /// The branch to work on.
    pub branch: String,
}

impl Checkout {
    /// Whether an earlier attempt's work is in it.
    pub fn is_resumed(&self) -> bool {
        self.start != self.base
    }
}

/// Whose name is on the commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name.
    pub name: String,
    /// Mail address, without brackets.
    pub mail: String,
}

impl Identity {
    /// From `Name <mail>`; without brackets it is all name. Never what git would refuse.
    pub fn parse(text: &str) -> Identity {
        let (name, mail) = match text.split_once('<') {
            Some((name, rest)) => (name, rest.split('>').next().unwrap_or_default()),
            None => (text, ""),
        };
        let clean =
            |text: &str| text.chars().filter(|c| !matches!(c, '<' | '>' | '\n' | '\0')).collect::<String>();
        let (name, mail) = (clean(name).trim().to_owned(), clean(mail).trim().to_owned());
        let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
        Identity { name: or(name, "bgagent"), mail: or(mail, "bgagent@localhost") }
    }
}

impl Remote {
    /// A git command that may use the token here, and only here.
    pub fn git(&self, dir: &Path) -> Git {
        let header = format!("Authorization: Bearer {}", self.token.expose_secret());
        // The gateway's mirror has checked the objects; old histories hold what a strict check refuses.
        Git::new()
            .dir(dir)
            .config(format!("http.{}.extraHeader", self.url), header)
            .config("transfer.fsckObjects", "false")
            .timeout(TRANSFER_TIMEOUT)
    }
}

/// An empty repository in `dir`, which must not hold anything that matters.
pub async fn init(dir: &Path) -> Result<(), Failure> {
    init_with(dir, "sha1").await
}

async fn init_with(dir: &Path, format: &str) -> Result<(), Failure> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_failure("emptying", dir, &error));
        }
        Ok(()) | Err(_) => (),
    }
    std::fs::create_dir_all(dir).map_err(|e| io_failure("creating", dir, &e))?;
    let init = Git::new().dir(dir).args(["init", "--quiet", "--template=", "--initial-branch=main"]);
    let init = init.arg(format!("--object-format={format}")).doing("making the work tree's repository");
    init.run().await.map(drop).map_err(|e| setup_failure(&e))
}

/// Fills the repository that [`init`] made. Retries what may pass; the stage bounds how long.
pub async fn check_out(dir: &Path, remote: &Remote, spec: &WorkSpec) -> Result<Checkout, Failure> {
    configure(dir, remote, spec).map_err(|e| io_failure("configuring", dir, &e))?;
    if let Err(error) = fetch(dir, remote, spec).await {
        if !error.stderr.contains("mismatched algorithms") {
            return Err(fetch_failure(&error, spec));
        }
        init_with(dir, "sha256").await?;
        configure(dir, remote, spec).map_err(|e| io_failure("configuring", dir, &e))?;
        fetch(dir, remote, spec).await.map_err(|e| fetch_failure(&e, spec))?;
    }
    let missing = || {
        Failure::new(
            FailureCode::BaseBranchNotFound,
            format!("the gateway has no branch {}", spec.base_branch),
        )
        .resource(&spec.base_branch)
    };
    let base = tracked(dir, &spec.base_branch).await?.ok_or_else(missing)?;
    let start = tracked(dir, &spec.branch).await?.unwrap_or_else(|| base.clone());
    let reset = Git::new()
        .dir(dir)
        .args(["reset", "--quiet", "--hard", start.as_str()])
        .config("checkout.workers", "0");
    reset.doing(format!("checking out {}", spec.base_branch)).run().await.map_err(|e| setup_failure(&e))?;
    Ok(Checkout { dir: dir.to_owned(), base, start, branch: spec.branch.clone() })
}

async fn fetch(dir: &Path, remote: &Remote, spec: &WorkSpec) -> Result<(), GitError> {
    let (base, branch) = (&spec.base_branch, &spec.branch);
    let mut pause = Pause::default();
    loop {
        // The pattern matches the branch itself too, and, unlike its bare name, may match nothing.
        let fetch = remote
            .git(dir)
            .args(["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"])
            .args(["--no-auto-maintenance", "--update-shallow", "--", remote.url.as_str()])
            .arg(format!("+refs/heads/{base}:refs/remotes/origin/{base}"))
            .arg(format!("+refs/heads/{branch}*:refs/remotes/origin/{branch}*"))
            .doing(format!("fetching {base} from the gateway"));
        match fetch.run().await {
            Ok(_) => return Ok(()),
            Err(error) if may_pass(&error) => {
                tracing::warn!(%error, "the repository cannot be fetched yet");
                tokio::time::sleep(pause.next()).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether the gateway may only be away, or not ready. A status decides where there is one: git calls every failed
/// request a failed transfer.
pub fn may_pass(error: &GitError) -> bool {
    match http_status(error) {
        Some(status) => status >= 500 || [408, 425, 429].contains(&status),
        None => error.kind.is_transient(),
    }
}

/// The HTTP status that git tells of.
pub fn http_status(error: &GitError) -> Option<u16> {
    let (_, after) = error.stderr.rsplit_once("returned error: ")?;
    after.get(..3)?.parse().ok()
}

/// Identity, remote and branch, written at once: each `git config` would be a process.
fn configure(dir: &Path, remote: &Remote, spec: &WorkSpec) -> io::Result<()> {
    let identity = Identity::parse(&spec.git_identity);
    let (name, mail) = (quoted(&identity.name), quoted(&identity.mail));
    let (url, base) = (quoted(&remote.url), &spec.base_branch);
    let fetch = quoted(&format!("+refs/heads/{base}:refs/remotes/origin/{base}"));
    let section = format!(
        "[user]\n\tname = {name}\n\temail = {mail}\n[commit]\n\tgpgSign = false\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n\
         [remote \"origin\"]\n\turl = {url}\n\tfetch = {fetch}\n"
    );
    use std::io::Write as _;
    std::fs::OpenOptions::new().append(true).open(dir.join(".git/config"))?.write_all(section.as_bytes())?;
    std::fs::write(dir.join(".git/HEAD"), format!("ref: refs/heads/{}\n", spec.branch))
}

fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\t', "\\t");
    format!("\"{escaped}\"")
}

/// The commit of a branch as it was fetched; read from its file where it has one.
async fn tracked(dir: &Path, branch: &str) -> Result<Option<String>, Failure> {
    let name = format!("refs/remotes/origin/{branch}");
    let git_dir = dir.join(".git");
    match std::fs::read_to_string(git_dir.join(&name)) {
        Ok(sha) => Ok(Some(sha.trim().to_owned())),
        // Where refs are files and none is packed, a branch without a file is not there: git need not be asked.
        Err(_) if !git_dir.join("packed-refs").exists() && !git_dir.join("reftable").exists() => Ok(None),
        Err(_) => git::rev_parse(dir, &name).await.map_err(|e| setup_failure(&e)),
    }
}

fn fetch_failure(error: &GitError, spec: &WorkSpec) -> Failure {
    match error.kind {
        GitErrorKind::NotFound if error.stderr.contains("couldn't find remote ref") => {
            Failure::new(FailureCode::BaseBranchNotFound, error.to_string()).resource(&spec.base_branch)
        }
        _ => setup_failure(error),
    }
}

/// A git command before the work began.
pub fn setup_failure(error: &GitError) -> Failure {
    failure(error, FailureCode::RepoSetupFailed)
}

/// The failure of a git command, `otherwise` where its kind says nothing better.
pub fn failure(error: &GitError, otherwise: FailureCode) -> Failure {
    let code = match error.kind {
        GitErrorKind::DiskFull => FailureCode::DiskFull,
        GitErrorKind::NotFound
        | GitErrorKind::Auth
        | GitErrorKind::Network
        | GitErrorKind::NotARepository
        | GitErrorKind::Rejected
        | GitErrorKind::Permission
        | GitErrorKind::Timeout
        | GitErrorKind::OutputTooLarge
        | GitErrorKind::NotInstalled
        | GitErrorKind::Other => otherwise,
    };
    Failure::new(code, error.to_string())
}

fn io_failure(what: &str, path: &Path, error: &io::Error) -> Failure {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let code = if full { FailureCode::DiskFull } else { FailureCode::RepoSetupFailed };
    Failure::new(code, format!("{what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_read_leniently_and_never_empty() {
        let of = |text: &str| Identity::parse(text);
        let id = |name: &str, mail: &str| Identity { name: name.into(), mail: mail.into() };
        assert_eq!(of("A B <a@b.c>"), id("A B", "a@b.c"));
        assert_eq!(of("Only Name"), id("Only Name", "bgagent@localhost"));
        assert_eq!(of(""), id("bgagent", "bgagent@localhost"));
        assert_eq!(of("A\n<<a@b\n>"), id("A", "a@b"));
    }

    #[test]
    fn a_refusal_is_told_from_a_gateway_that_is_away() {
        let of = |stderr: &str| {
            let kind = GitErrorKind::of(stderr);
            may_pass(&GitError { doing: "pushing x".into(), code: Some(128), stderr: stderr.into(), kind })
        };
        for away in ["503", "502", "425", "429"] {
            assert!(of(&format!(
                "error: RPC failed; HTTP {away} curl 22 The requested URL returned error: {away}"
            )));
        }
        for refused in ["413", "403", "409", "401"] {
            assert!(!of(&format!(
                "error: RPC failed; HTTP {refused} curl 22 The requested URL returned error: {refused}"
            )));
        }
        assert!(of("fatal: unable to access 'http://127.0.0.1:1/': Empty reply from server"));
        assert!(!of(" ! [remote rejected] x -> x (pre-receive hook declined)"));
    }

    #[test]
    fn values_cannot_leave_their_quotes() {
        assert_eq!(quoted("a\"\n[core]\\"), "\"a\\\"\\n[core]\\\\\"");
    }
}
