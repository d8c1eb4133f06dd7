//! Git repositories in temporary folders.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use domain::RepoRef;
use git::Git;
use tempfile::TempDir;

/// A repository with a work tree, its first branch `main`. Removed when dropped.
#[derive(Debug)]
pub struct TempRepo {
    _folder: TempDir,
    path: PathBuf,
}

impl TempRepo {
    /// A repository with one commit of these files (path and content).
    pub async fn new(files: &[(&str, &str)]) -> anyhow::Result<TempRepo> {
        let folder = tempfile::Builder::new().prefix("bgagent-repo-").tempdir()?;
        let path = folder.path().canonicalize()?.join("project");
        std::fs::create_dir_all(&path)?;
        let repo = TempRepo { _folder: folder, path };
        repo.git(&["init", "--quiet", "--initial-branch=main", "."]).await?;
        repo.commit("first commit", files).await?;
        Ok(repo)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// As a task names it.
    pub fn reference(&self) -> RepoRef {
        RepoRef::Local(self.path.clone())
    }

    /// Commits these files on the branch that is checked out; returns the commit.
    pub async fn commit(&self, message: &str, files: &[(&str, &str)]) -> anyhow::Result<String> {
        for (name, content) in files {
            let file = self.path.join(name);
            if let Some(folder) = file.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(&file, content).with_context(|| format!("writing {}", file.display()))?;
        }
        self.git(&["add", "--all"]).await?;
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]).await?;
        self.head("HEAD").await
    }

    /// Checks out a new branch.
    pub async fn branch(&self, name: &str) -> anyhow::Result<()> {
        self.git(&["checkout", "--quiet", "-b", name]).await.map(drop)
    }

    /// Checks out a branch that is there.
    pub async fn checkout(&self, name: &str) -> anyhow::Result<()> {
        self.git(&["checkout", "--quiet", name]).await.map(drop)
    }

    /// The commit of a revision.
    pub async fn head(&self, revision: &str) -> anyhow::Result<String> {
        self.git(&["rev-parse", "--verify", revision]).await
    }

    /// Runs git in it; returns what it printed.
    pub async fn git(&self, args: &[&str]) -> anyhow::Result<String> {
        let run = Git::new()
            .dir(&self.path)
            .config("user.name", "A Person")
            .config("user.email", "person@example.org")
            .args(args)
            .run();
        Ok(run.await?.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_repository_has_what_was_committed() {
        let repo = TempRepo::new(&[("src/a.txt", "one\n")]).await.unwrap();
        let first = repo.head("main").await.unwrap();
        repo.branch("work").await.unwrap();
        let second = repo.commit("more", &[("b.txt", "two\n")]).await.unwrap();
        assert_eq!(repo.git(&["show", "work:b.txt"]).await.unwrap(), "two");
        assert_eq!(repo.head("work~1").await.unwrap(), first);
        assert_ne!(first, second);
        repo.checkout("main").await.unwrap();
        assert!(!repo.path().join("b.txt").exists());
    }
}
