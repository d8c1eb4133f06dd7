//! Clone and branch: from the gateway's git endpoint to a work tree on the task's branch.
//!
//! Three git processes in all: `init` (which runs while we attach), one `fetch` of the base and, if an earlier attempt
//! pushed it, the work branch, and one `reset`. Where the objects of the mirror are lent to us, nothing is fetched: git
//! is told where they are (`objects/info/alternates`) and asked for the branches only. Without a box the credential is
//! in the environment of `fetch` and `push` alone; in a box git runs beside the agent's commands and has none: the
//! tunnel adds it. `origin` is there for the agent's eyes (`git diff origin/main`).

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::{Failure, FailureCode};
use git::{At, Git, GitError, GitErrorKind, Output};
use protocol::box_api::{SAVED_REF, WorkSpec};
use secrecy::{ExposeSecret, SecretString};

use crate::client::Pause;
use crate::launch::Launcher;
use crate::saving;
use crate::tree::Tree;

/// One `fetch` or `push`.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(900);
/// Hex digits of a commit's name.
const SHA1_LENGTH: usize = 40;
const SHA256_LENGTH: usize = 64;

/// Where git finds the repository, and what it must show there.
#[derive(Debug, Clone)]
pub struct Remote {
    /// URL without a credential.
    pub url: String,
    /// Session token; none in a box.
    pub token: Option<SecretString>,
    /// Objects of the mirror that may be used where they are, as git finds them.
    pub objects: Option<PathBuf>,
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
    /// What an earlier attempt had saved, whose files are in the work tree, not committed.
    pub saved: Option<String>,
    /// The branch to work on.
    pub branch: String,
    /// Its files, past all links.
    pub tree: Tree,
    /// Who starts git there.
    pub launcher: Launcher,
}

impl Checkout {
    /// A git command in it.
    pub fn git(&self) -> Git {
        Git::new().at(self.at())
    }

    /// Its folder, for questions to git.
    pub fn at(&self) -> At {
        self.launcher.at(&self.dir)
    }

    /// Whether an earlier attempt's work is in it.
    pub fn is_resumed(&self) -> bool {
        self.start != self.base || self.saved.is_some()
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
    pub fn git(&self, at: At) -> Git {
        // The gateway's mirror has checked the objects; old histories hold what a strict check refuses.
        let git = Git::new().at(at).config("transfer.fsckObjects", "false").timeout(TRANSFER_TIMEOUT);
        match &self.token {
            Some(token) => {
                let header = format!("Authorization: Bearer {}", token.expose_secret());
                git.config(format!("http.{}.extraHeader", self.url), header)
            }
            None => git,
        }
    }
}

/// An empty repository in `dir`, which must not hold anything that matters.
pub async fn init(dir: &Path, launcher: &Launcher) -> Result<(), Failure> {
    init_with(dir, launcher, "sha1").await
}

async fn init_with(dir: &Path, launcher: &Launcher, format: &str) -> Result<(), Failure> {
    empty(dir).map_err(|e| io_failure("emptying", dir, &e))?;
    let init =
        Git::new().at(launcher.at(dir)).args(["init", "--quiet", "--template=", "--initial-branch=main"]);
    let init = init.arg(format!("--object-format={format}")).doing("making the work tree's repository");
    init.run().await.map(drop).map_err(|e| setup_failure(&e))
}

/// An empty folder. The folder itself stays: in a box it is a mount.
fn empty(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => std::fs::remove_dir_all(entry.path())?,
            false => std::fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

/// Fills the repository that [`init`] made. Retries what may pass; the stage bounds how long.
pub async fn check_out(
    dir: &Path,
    launcher: &Launcher,
    remote: &Remote,
    spec: &WorkSpec,
) -> Result<Checkout, Failure> {
    let borrowed = match &remote.objects {
        Some(objects) => borrow(dir, launcher, remote, spec, objects).await?,
        None => None,
    };
    let (base, start, saved) = match borrowed {
        Some((base, start)) => (base, start, None),
        None => {
            let (base, start) = fetch_all(dir, launcher, remote, spec).await?;
            bring_back(dir, launcher, spec, base, start).await?
        }
    };
    let tree = Tree::open(dir).map_err(|e| io_failure("opening", dir, &e))?;
    let branch = spec.branch.clone();
    Ok(Checkout { dir: dir.to_owned(), base, start, saved, branch, tree, launcher: launcher.clone() })
}

/// Checks out what was fetched: the start, or what an earlier attempt saved on its way from there.
async fn bring_back(
    dir: &Path,
    launcher: &Launcher,
    spec: &WorkSpec,
    base: String,
    start: String,
) -> Result<(String, String, Option<String>), Failure> {
    let found = saving::found(dir, launcher, &start).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "what an earlier attempt saved cannot be read");
        None
    });
    let Some((head, saved)) = found else {
        reset(dir, launcher, spec, &start).await.map_err(|e| setup_failure(&e))?;
        return Ok((base, start, None));
    };
    reset(dir, launcher, spec, &head).await.map_err(|e| setup_failure(&e))?;
    match saving::restore(dir, launcher, &saved).await {
        Ok(()) => Ok((base, head, Some(saved))),
        Err(error) => {
            tracing::warn!(%error, "what an earlier attempt saved and did not commit is not brought back");
            reset(dir, launcher, spec, &head).await.map_err(|e| setup_failure(&e))?;
            Ok((base, head, None))
        }
    }
}

/// Fetches base and branch with all they need; the commits of the base and of the start.
async fn fetch_all(
    dir: &Path,
    launcher: &Launcher,
    remote: &Remote,
    spec: &WorkSpec,
) -> Result<(String, String), Failure> {
    configure(dir, remote, spec).map_err(|e| io_failure("configuring", dir, &e))?;
    if let Err(error) = fetch(dir, launcher, remote, spec).await {
        if !error.stderr.contains("mismatched algorithms") {
            return Err(fetch_failure(&error, spec));
        }
        init_with(dir, launcher, "sha256").await?;
        configure(dir, remote, spec).map_err(|e| io_failure("configuring", dir, &e))?;
        fetch(dir, launcher, remote, spec).await.map_err(|e| fetch_failure(&e, spec))?;
    }
    let base = tracked(dir, launcher, &spec.base_branch).await?.ok_or_else(|| no_base(spec))?;
    let start = tracked(dir, launcher, &spec.branch).await?.unwrap_or_else(|| base.clone());
    Ok((base, start))
}

fn no_base(spec: &WorkSpec) -> Failure {
    let why = format!("the gateway has no branch {}", spec.base_branch);
    Failure::new(FailureCode::BaseBranchNotFound, why).resource(&spec.base_branch)
}

async fn reset(dir: &Path, launcher: &Launcher, spec: &WorkSpec, start: &str) -> Result<(), GitError> {
    let reset = Git::new().at(launcher.at(dir)).args(["reset", "--quiet", "--hard", start]);
    let reset = reset.config("checkout.workers", "0");
    reset.doing(format!("checking out {}", spec.base_branch)).run().await.map(drop)
}

/// Checks out from objects that are lent: nothing is copied. `None` when they do not do (the mirror has not all of it,
/// say); then the repository is empty again, and to be fetched.
async fn borrow(
    dir: &Path,
    launcher: &Launcher,
    remote: &Remote,
    spec: &WorkSpec,
    objects: &Path,
) -> Result<Option<(String, String)>, Failure> {
    let heads = heads(dir, launcher, remote, spec).await.map_err(|e| fetch_failure(&e, spec))?;
    // What was saved is not among what is lent.
    if heads.iter().any(|(name, _)| name == SAVED_REF) {
        return Ok(None);
    }
    let of = |branch: &str| heads.iter().find(|(name, _)| name == branch).map(|(_, sha)| sha.clone());
    let base = of(&spec.base_branch).ok_or_else(|| no_base(spec))?;
    let start = of(&spec.branch).unwrap_or_else(|| base.clone());
    if base.len() == SHA256_LENGTH {
        init_with(dir, launcher, "sha256").await?;
    }
    let prepared = configure(dir, remote, spec).and_then(|()| {
        let info = dir.join(".git/objects/info");
        std::fs::create_dir_all(&info)?;
        std::fs::write(info.join("alternates"), format!("{}\n", objects.display()))?;
        for (branch, sha) in &heads {
            let file = dir.join(".git/refs/remotes/origin").join(branch);
            std::fs::create_dir_all(file.parent().unwrap_or(dir))?;
            std::fs::write(file, format!("{sha}\n"))?;
        }
        Ok(())
    });
    prepared.map_err(|e| io_failure("configuring", dir, &e))?;
    match reset(dir, launcher, spec, &start).await {
        Ok(()) => Ok(Some((base, start))),
        Err(error) if error.kind == GitErrorKind::DiskFull => Err(setup_failure(&error)),
        Err(error) => {
            tracing::warn!(%error, "the lent objects do not do; the repository is fetched instead");
            init(dir, launcher).await?;
            Ok(None)
        }
    }
}

/// The base, and the branch (and what begins like it) if it is there: names and commits.
async fn heads(
    dir: &Path,
    launcher: &Launcher,
    remote: &Remote,
    spec: &WorkSpec,
) -> Result<Vec<(String, String)>, GitError> {
    let out = patiently(|| {
        remote
            .git(launcher.at(dir))
            .args(["ls-remote", "--", remote.url.as_str(), "refs/heads/*", SAVED_REF])
            .doing(format!("asking the gateway for {}", spec.base_branch))
    });
    let text = out.await?.text();
    let wanted = |name: &str| name == spec.base_branch || name.starts_with(&spec.branch);
    let head = |line: &str| {
        let (sha, name) = line.split_once('\t')?;
        if name == SAVED_REF {
            return Some((name.to_owned(), sha.to_owned()));
        }
        let name = name.strip_prefix("refs/heads/").filter(|name| wanted(name))?;
        // Names of the gateway's own choice; all the same, none leads out of the folder that refs are written to.
        let plain = is_sha(sha) && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
        plain.then(|| (name.to_owned(), sha.to_owned()))
    };
    Ok(text.lines().filter_map(head).collect())
}

/// Whether a text is a commit's full name, and not what somebody else would like us to read.
pub fn is_sha(text: &str) -> bool {
    matches!(text.len(), SHA1_LENGTH | SHA256_LENGTH) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

async fn fetch(dir: &Path, launcher: &Launcher, remote: &Remote, spec: &WorkSpec) -> Result<(), GitError> {
    let (base, branch) = (&spec.base_branch, &spec.branch);
    // The pattern matches the branch itself too, and, unlike its bare name, may match nothing.
    let fetch = || {
        remote
            .git(launcher.at(dir))
            .args(["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"])
            .args(["--no-auto-maintenance", "--update-shallow", "--", remote.url.as_str()])
            .arg(format!("+refs/heads/{base}:refs/remotes/origin/{base}"))
            .arg(format!("+refs/heads/{branch}*:refs/remotes/origin/{branch}*"))
            .arg(format!("+{SAVED_REF}*:{SAVED_REF}*"))
            .doing(format!("fetching {base} from the gateway"))
    };
    patiently(fetch).await.map(drop)
}

/// Runs it until the gateway is there; the stage bounds how long.
async fn patiently(git: impl Fn() -> Git) -> Result<Output, GitError> {
    let mut pause = Pause::default();
    loop {
        match git().run().await {
            Ok(out) => return Ok(out),
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
async fn tracked(dir: &Path, launcher: &Launcher, branch: &str) -> Result<Option<String>, Failure> {
    let name = format!("refs/remotes/origin/{branch}");
    let git_dir = dir.join(".git");
    match std::fs::read_to_string(git_dir.join(&name)) {
        Ok(sha) => Ok(Some(sha.trim().to_owned())),
        // Where refs are files and none is packed, a branch without a file is not there: git need not be asked.
        Err(_) if !git_dir.join("packed-refs").exists() && !git_dir.join("reftable").exists() => Ok(None),
        Err(_) => git::rev_parse(launcher.at(dir), &name).await.map_err(|e| setup_failure(&e)),
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
