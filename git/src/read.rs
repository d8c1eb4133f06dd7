//! Questions to a repository. None of them writes, runs anything the repository names, or looks into submodules.

use std::path::{Path, PathBuf};

use crate::error::{GitError, GitErrorKind};
use crate::harden;
use crate::place::At;
use crate::run::Git;
use crate::transfer::BasicAuth;

/// What kind of repository a directory is, and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// With a work tree, or bare.
    pub kind: Kind,
    /// The git directory of this work tree (of a linked one: its own).
    pub git_dir: PathBuf,
    /// The git directory shared by all work trees.
    pub common_dir: PathBuf,
    /// Whether history is cut off.
    pub shallow: bool,
}

/// With a work tree, or bare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A work tree with this top folder.
    WorkTree(PathBuf),
    /// A repository without one.
    Bare,
}

/// One changed path of a work tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusEntry {
    /// The two letters of `git status --porcelain`.
    pub code: String,
    /// Path below the top folder.
    pub path: String,
}

impl StatusEntry {
    /// Whether git does not know the file.
    pub fn is_untracked(&self) -> bool {
        self.code == "??"
    }
}

/// How much two commits differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiffStat {
    /// Files that differ.
    pub files: u64,
    /// Lines added (binary files have none).
    pub insertions: u64,
    /// Lines removed.
    pub deletions: u64,
}

/// A branch on a remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteHead {
    /// Name without `refs/heads/`.
    pub branch: String,
    /// The commit it points to.
    pub sha: String,
}

/// The version of the installed git, as it prints it: `2.47.3`.
pub async fn version() -> Result<String, GitError> {
    let out = Git::new().arg("version").doing("asking git for its version").run().await?;
    Ok(out.text().trim_start_matches("git version ").split(' ').next().unwrap_or_default().to_owned())
}

/// Looks at the repository that `dir` is, or lies in. The path of the repository must not contain a line end.
pub async fn layout(dir: impl AsRef<Path>) -> Result<Layout, GitError> {
    let dir = dir.as_ref();
    let doing = format!("looking at the repository {}", dir.display());
    let ask = |questions: &[&str]| {
        let git = Git::new().dir(dir).args(["rev-parse", "--path-format=absolute"]).args(questions);
        git.doing(doing.clone()).run()
    };
    let all = [
        "--is-bare-repository",
        "--is-inside-work-tree",
        "--is-shallow-repository",
        "--git-dir",
        "--git-common-dir",
    ];
    let text = ask(&all).await?.text();
    let [bare, inside, shallow, git_dir, common_dir] = text.lines().collect::<Vec<_>>()[..] else {
        return Err(GitError::said(
            &doing,
            GitErrorKind::Other,
            "git's answer could not be read; is a line end in the path?",
        ));
    };
    let (git_dir, common_dir) = (PathBuf::from(git_dir), PathBuf::from(common_dir));
    let kind = match (bare == "true", inside == "true") {
        (true, _) => Kind::Bare,
        (false, true) => Kind::WorkTree(PathBuf::from(ask(&["--show-toplevel"]).await?.text())),
        (false, false) => Kind::WorkTree(git_dir.parent().unwrap_or(dir).to_owned()),
    };
    Ok(Layout { kind, git_dir, common_dir, shallow: shallow == "true" })
}

/// The commit at the head of a local branch of exactly this name, if there is one.
pub async fn branch_head(dir: impl AsRef<Path>, branch: &str) -> Result<Option<String>, GitError> {
    let dir = dir.as_ref();
    let doing = format!("looking up branch {branch} in {}", dir.display());
    let name = format!("refs/heads/{branch}");
    let asked =
        Git::new().dir(dir).args(["show-ref", "--verify", "--hash", "--", &name]).doing(doing).run().await;
    match asked {
        Ok(out) => Ok(Some(out.text())),
        Err(error) if error.stderr.contains("not a valid ref") => Ok(None),
        Err(error) => Err(error),
    }
}

/// The commit that `rev` names, if there is one.
pub async fn rev_parse(at: impl Into<At>, rev: &str) -> Result<Option<String>, GitError> {
    let at = at.into();
    let dir = at.dir.display();
    let out = Git::new()
        .at(at.clone())
        .args(["rev-parse", "--verify", "--quiet", "--end-of-options"])
        .arg(format!("{rev}^{{commit}}"))
        .exits(&[0, 1])
        .doing(format!("looking up {rev} in {dir}"))
        .run()
        .await?;
    Ok(Some(out.text()).filter(|sha| !sha.is_empty()))
}

/// The branch that HEAD names (which may have no commit yet); none when HEAD is detached.
pub async fn current_branch(at: impl Into<At>) -> Result<Option<String>, GitError> {
    let at = at.into();
    let dir = at.dir.display();
    let doing = format!("asking for the current branch of {}", dir);
    let out = Git::new()
        .at(at.clone())
        .args(["symbolic-ref", "--quiet", "HEAD"])
        .exits(&[0, 1])
        .doing(doing)
        .run()
        .await?;
    Ok(out.text().strip_prefix("refs/heads/").map(str::to_owned))
}

/// The names of all local branches, sorted.
pub async fn local_branches(dir: impl AsRef<Path>) -> Result<Vec<String>, GitError> {
    let dir = dir.as_ref();
    let doing = format!("listing the branches of {}", dir.display());
    let out = Git::new()
        .dir(dir)
        .args(["for-each-ref", "--format=%(refname)", "refs/heads/"])
        .doing(doing)
        .run()
        .await?;
    Ok(out.text().lines().filter_map(|l| l.strip_prefix("refs/heads/")).map(str::to_owned).collect())
}

/// Whether every commit of `ancestor` is in `descendant`. Both must exist.
pub async fn is_ancestor(dir: impl AsRef<Path>, ancestor: &str, descendant: &str) -> Result<bool, GitError> {
    let dir = dir.as_ref();
    let doing = format!("comparing {ancestor} with {descendant} in {}", dir.display());
    let (ancestor, descendant) = (commit(ancestor, &doing)?, commit(descendant, &doing)?);
    let out = Git::new()
        .dir(dir)
        .args(["merge-base", "--is-ancestor"])
        .args([ancestor, descendant])
        .exits(&[0, 1])
        .doing(doing)
        .run()
        .await?;
    Ok(out.code == 0)
}

/// How many commits are in `head` and not in `base`.
pub async fn count_commits(at: impl Into<At>, base: &str, head: &str) -> Result<u64, GitError> {
    let at = at.into();
    let dir = at.dir.display();
    let doing = format!("counting the commits {base}..{head} in {dir}");
    let range = format!("{}..{}", commit(base, &doing)?, commit(head, &doing)?);
    let out = Git::new()
        .at(at.clone())
        .args(["rev-list", "--count", &range, "--"])
        .doing(doing.clone())
        .run()
        .await?;
    out.text().parse().map_err(|_| GitError::said(&doing, GitErrorKind::Other, "git printed no number"))
}

/// The branches of a remote and their commits; with patterns, only those that match one.
pub async fn ls_remote_heads(
    url: &str,
    auth: Option<&BasicAuth<'_>>,
    patterns: &[&str],
) -> Result<Vec<RemoteHead>, GitError> {
    let mut git = Git::new().args(["ls-remote", "--heads", "--upload-pack", harden::UPLOAD_PACK, "--", url]);
    git = git.args(patterns).doing(format!("listing the branches of {}", crate::error::redact(url, &[])));
    if let Some(auth) = auth {
        git = git.auth(url, auth.0);
    }
    let text = git.run().await?.text();
    let head = |line: &str| {
        let (sha, name) = line.split_once('\t')?;
        Some(RemoteHead { branch: name.strip_prefix("refs/heads/")?.to_owned(), sha: sha.to_owned() })
    };
    Ok(text.lines().filter_map(head).collect())
}

/// What differs between the last commit and the work tree, untracked files included. Content filters that the
/// repository's configuration names are turned off, so a file that only a filter makes clean counts as changed
/// when its time stamp did; submodules are not looked into.
pub async fn status_porcelain(dir: impl AsRef<Path>) -> Result<Vec<StatusEntry>, GitError> {
    let dir = dir.as_ref();
    let doing = format!("asking for the status of {}", dir.display());
    let overrides = overrides(dir).await?;
    let out = Git::new()
        .dir(dir)
        .args([
            "status",
            "--porcelain=v1",
            "-z",
            "--no-renames",
            "--ignore-submodules=all",
            "--untracked-files=normal",
        ])
        .configs(overrides)
        .doing(doing)
        .run()
        .await?;
    let text = String::from_utf8_lossy(&out.stdout);
    let entry =
        |line: &str| Some(StatusEntry { code: line.get(..2)?.to_owned(), path: line.get(3..)?.to_owned() });
    Ok(text.split('\0').filter_map(entry).collect())
}

/// How much `head` differs from the last commit it shares with `base` (what a pull request shows).
pub async fn diff_stat(dir: impl AsRef<Path>, base: &str, head: &str) -> Result<DiffStat, GitError> {
    let dir = dir.as_ref();
    let doing = format!("comparing {base} with {head} in {}", dir.display());
    let range = format!("{}...{}", commit(base, &doing)?, commit(head, &doing)?);
    let out = Git::new()
        .dir(dir)
        .args([
            "diff",
            "--numstat",
            "-z",
            "--no-renames",
            "--no-ext-diff",
            "--no-textconv",
            "--ignore-submodules=all",
        ])
        .args([range.as_str(), "--"])
        .doing(doing)
        .run()
        .await?;
    let mut stat = DiffStat::default();
    for line in String::from_utf8_lossy(&out.stdout).split('\0').filter(|l| !l.is_empty()) {
        let mut fields = line.splitn(3, '\t').map(|f| f.parse::<u64>().unwrap_or(0));
        stat.files += 1;
        stat.insertions += fields.next().unwrap_or(0);
        stat.deletions += fields.next().unwrap_or(0);
    }
    Ok(stat)
}

/// Configuration that turns off what cannot be turned off without its name: the content filters and the hooks that the
/// repository's configuration names.
pub async fn overrides(dir: impl AsRef<Path>) -> Result<Vec<(String, String)>, GitError> {
    let dir = dir.as_ref();
    let out = Git::new()
        .dir(dir)
        .args(["config", "--null", "--name-only", "--get-regexp", r"^(filter|hook)\."])
        .exits(&[0, 1])
        .doing(format!("reading the configuration of {}", dir.display()))
        .run()
        .await?;
    let text = String::from_utf8_lossy(&out.stdout);
    let off = |key: &str| {
        let (section, name) = key.rsplit_once('.')?.0.split_once('.')?;
        Some(if section == "filter" { harden::filter_off(name) } else { harden::hook_off(name) })
    };
    let mut overrides: Vec<(String, String)> = text.split('\0').filter_map(off).flatten().collect();
    overrides.sort();
    overrides.dedup();
    Ok(overrides)
}

/// A revision that cannot be read as an option or a range.
fn commit<'a>(rev: &'a str, doing: &str) -> Result<&'a str, GitError> {
    if rev.is_empty() || rev.starts_with(['-', '^']) || rev.contains("..") {
        return Err(GitError::said(doing, GitErrorKind::NotFound, format!("{rev:?} names no revision")));
    }
    Ok(rev)
}

#[cfg(test)]
mod tests;
