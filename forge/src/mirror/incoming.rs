//! A push that has arrived and is not accepted yet: a repository of its own beneath the task's quarantine, with the same
//! refs, where git can receive and check it and everything can be looked at. Accepting moves its packs and then the ref;
//! dropping it throws it away.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use domain::TaskId;
use git::{Git, GitError};

use super::quarantine::{CONFIG, INCOMING, put, share_bounds};
use super::{Mirrors, refused_by_disk};

/// Tells pushes of one process apart.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A push on its way into a quarantine.
#[derive(Debug)]
pub struct Incoming {
    path: PathBuf,
    into: PathBuf,
}

impl Mirrors {
    /// A place for a push into a task's quarantine.
    pub async fn incoming(&self, task: TaskId) -> Result<Incoming, GitError> {
        let into = self.quarantine(task);
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = into.join(INCOMING).join(name);
        let list = Git::new().dir(&into).args(["for-each-ref", "--format=%(objectname) %(refname)"]);
        let refs = list.doing(format!("listing what {task} has pushed")).run().await?.text();
        let incoming = Incoming { path, into };
        incoming.lay_out(&refs).map_err(|e| refused_by_disk(&incoming.path, &e))?;
        Ok(incoming)
    }
}

impl Incoming {
    /// Where it is: a bare repository.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lay_out(&self, refs: &str) -> io::Result<()> {
        for folder in ["objects/info", "objects/pack", "refs"] {
            std::fs::create_dir_all(self.path.join(folder))?;
        }
        let objects = std::path::absolute(self.into.join("objects"))?;
        put(&self.path.join("objects/info/alternates"), &format!("{}\n", objects.display()))?;
        let refs: String = refs.lines().map(|line| format!("{line}\n")).collect();
        put(&self.path.join("packed-refs"), &format!("# pack-refs with: sorted \n{refs}"))?;
        share_bounds(&self.into, &self.path)?;
        put(&self.path.join("config"), CONFIG)?;
        put(&self.path.join("HEAD"), "ref: refs/heads/none\n")
    }

    /// The commit of a ref as the push left it.
    pub async fn head(&self, name: &str) -> Result<Option<String>, GitError> {
        git::rev_parse(&self.path, name).await
    }

    /// Takes it over: the ref `name` goes from `old` (zeros when it must not be there) to `new`.
    pub async fn accept(&self, name: &str, old: &str, new: &str) -> Result<(), GitError> {
        self.move_packs().map_err(|e| refused_by_disk(&self.into, &e))?;
        Git::new()
            .dir(&self.into)
            .args(["update-ref", "--no-deref", name, new, old])
            .doing(format!("moving {name}"))
            .run()
            .await
            .map(drop)
    }

    /// An index is seen by readers as soon as it is there, so each comes after its pack.
    fn move_packs(&self) -> io::Result<()> {
        let (from, to) = (self.path.join("objects/pack"), self.into.join("objects/pack"));
        let mut names: Vec<String> = std::fs::read_dir(from.as_path())?
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
            .filter(|name| name.starts_with("pack-") && !name.ends_with(".keep"))
            .collect();
        names.sort_by_key(|name| name.ends_with(".idx"));
        for name in names {
            std::fs::rename(from.join(&name), to.join(&name))?;
        }
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.path.display(), "a push that is over could not be removed");
        }
    }
}
