//! Dependency caches: what package managers downloaded for a repository, lent to its boxes read-only.
//!
//! ```text
//! <root>/<repository>/repo            the repository's name
//! <root>/<repository>/000007/         a generation: never changed once it has its name
//! <root>/<repository>/000007.json     what made it, and when
//! ```
//!
//! A box has a generation as the lower layer of `/box/cache`, and writes to a layer of its own: so no task can poison
//! another. Only the owner's own act publishes a generation, and it appears by one rename. The newest one is what new boxes
//! get; one that was followed by another stays until no box can be using it.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use domain::RepoRef;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A box that was given a generation has told so in its session's folder by then.
const SETTLED: Duration = Duration::from_secs(15 * 60);
/// Begins the names of folders in which a generation is made; the process's id follows.
const WORKSHOP: &str = ".making-";
/// What the box itself puts into its cache at each start, and what must not be lent on.
const PRIVATE: [&str; 3] = ["cargo/config.toml", "cargo/credentials.toml", "cargo/credentials"];

/// The caches of this machine.
#[derive(Debug, Clone)]
pub struct Caches {
    root: PathBuf,
}

/// One generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its number; greater is newer.
    pub number: u32,
    /// Where it is.
    pub path: PathBuf,
    /// What filled it.
    pub commands: Vec<String>,
    /// Commit of the default branch that it was filled for.
    pub commit: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// Files.
    pub files: u64,
}

/// The cache of one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// The repository.
    pub repo: String,
    /// What new boxes get.
    pub current: Option<Generation>,
    /// Generations that wait until no box uses them.
    pub older: usize,
}

/// A cache that could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}: {source}", path.display())]
pub struct CacheError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

fn at<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> CacheError + 'a {
    move |source| CacheError { doing, path: path.to_owned(), source }
}

impl Caches {
    /// Caches below `root`, which is made when it is needed.
    pub fn new(root: PathBuf) -> Caches {
        Caches { root }
    }

    /// The folder that a box of `repo` gets as the lower layer of its cache.
    pub fn current(&self, repo: &RepoRef) -> Option<PathBuf> {
        let folder = self.folder(repo);
        // An unreadable cache is no cache: the box is slower, and right.
        let newest = numbers(&folder).ok()?.into_iter().max()?;
        (!cleared(&folder, newest)).then(|| generation_path(&folder, newest))
    }

    /// Makes what is in `made` the newest generation of `repo`. `made` is moved: it must be on the same file system, as
    /// below [`Caches::workshop`].
    pub fn publish(
        &self,
        repo: &RepoRef,
        made: &Path,
        commands: Vec<String>,
        commit: String,
    ) -> Result<Generation, CacheError> {
        let folder = self.folder(repo);
        private_dir(&folder).map_err(at("making", &folder))?;
        let name = folder.join("repo");
        fs::write(&name, repo.to_string()).map_err(at("writing", &name))?;
        for file in PRIVATE {
            let path = made.join(file);
            match fs::remove_file(&path) {
                Err(e) if absent(&e) => (),
                removed => removed.map_err(at("removing", &path))?,
            }
        }
        let (bytes, files) = size(made).map_err(at("reading", made))?;
        let number = numbers(&folder).map_err(at("reading", &folder))?.into_iter().max().unwrap_or(0) + 1;
        let path = generation_path(&folder, number);
        let generation = Generation { number, path: path.clone(), commands, commit, bytes, files };
        // The word first: a crash leaves one without a generation, which the next publication overwrites.
        let word = word_path(&folder, number);
        let text = serde_json::to_vec(&generation).map_err(|e| at("writing", &word)(e.into()))?;
        fs::write(&word, text).map_err(at("writing", &word))?;
        fs::rename(made, &path).map_err(at("publishing", &path))?;
        Ok(generation)
    }

    /// A new folder on the caches' file system, for what is to be published.
    pub fn workshop(&self) -> Result<PathBuf, CacheError> {
        let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let path = self.root.join(format!("{WORKSHOP}{}-{started}", std::process::id()));
        private_dir(&path).map_err(at("making", &path))?;
        Ok(path)
    }

    /// Throws away what was made in a workshop.
    pub fn discard(&self, workshop: &Path) {
        // What stays is found by the next sweep.
        let _ = remove(workshop);
    }

    /// Every repository that has or had a cache, by name.
    pub fn list(&self) -> Result<Vec<Cache>, CacheError> {
        let mut all = vec![];
        for folder in folders(&self.root).map_err(at("reading", &self.root))? {
            let Ok(repo) = fs::read_to_string(folder.join("repo")) else { continue };
            let mut numbers = numbers(&folder).map_err(at("reading", &folder))?;
            numbers.sort_unstable();
            let newest = numbers.last().copied().filter(|n| !cleared(&folder, *n));
            let current =
                newest.and_then(|n| serde_json::from_slice(&fs::read(word_path(&folder, n)).ok()?).ok());
            all.push(Cache { repo, current, older: numbers.len() - usize::from(newest.is_some()) });
        }
        all.sort_by(|a, b| a.repo.cmp(&b.repo));
        Ok(all.into_iter().filter(|cache| cache.current.is_some() || cache.older > 0).collect())
    }

    /// Lends nothing to new boxes of `repo` any more; false when there was nothing to lend.
    pub fn clear(&self, repo: &RepoRef) -> Result<bool, CacheError> {
        let folder = self.folder(repo);
        let newest = numbers(&folder).map_err(at("reading", &folder))?.into_iter().max();
        let Some(newest) = newest.filter(|n| !cleared(&folder, *n)) else { return Ok(false) };
        let mark = cleared_path(&folder, newest);
        fs::write(&mark, b"").map_err(at("writing", &mark))?;
        Ok(true)
    }

    /// Removes the generations that no new box gets and that no session below the folders `sessions` uses. Returns how many.
    pub fn sweep(&self, sessions: &[PathBuf]) -> Result<usize, CacheError> {
        let mut removed = 0;
        self.sweep_workshops();
        let mut told = vec![];
        for folder in sessions {
            told.extend(running(folder).map_err(at("reading", folder))?);
        }
        for folder in folders(&self.root).map_err(at("reading", &self.root))? {
            let numbers = numbers(&folder).map_err(at("reading", &folder))?;
            let newest = numbers.iter().max().copied();
            for number in numbers {
                // When it ceased to be what new boxes get.
                let end = if Some(number) == newest {
                    cleared_path(&folder, number)
                } else {
                    word_path(&folder, number + 1)
                };
                let Ok(since) = fs::metadata(&end).and_then(|meta| meta.modified()) else { continue };
                let path = generation_path(&folder, number);
                let used = told.iter().any(|text| text.contains(&*path.to_string_lossy()));
                if used || since.elapsed().unwrap_or_default() < SETTLED {
                    continue;
                }
                // Out of the way first: one that is half removed must not look like a whole one.
                let going = path.with_extension("going");
                fs::rename(&path, &going).map_err(at("removing", &path))?;
                remove(&going).map_err(at("removing", &going))?;
                for word in [word_path(&folder, number), cleared_path(&folder, number)] {
                    let _ = fs::remove_file(word);
                }
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Removes the workshops of processes that are gone: they were killed before they could.
    fn sweep_workshops(&self) {
        for folder in folders(&self.root).unwrap_or_default() {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let maker = name.strip_prefix(WORKSHOP).and_then(|rest| rest.split('-').next());
            if maker.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                self.discard(&folder);
            }
        }
    }

    /// A readable name and a hash that tells equal names apart.
    fn folder(&self, repo: &RepoRef) -> PathBuf {
        let plain = |c: &char| c.is_ascii_alphanumeric() || "-_".contains(*c);
        let name: String = repo.short_name().chars().filter(plain).take(40).collect();
        let hash = hex::encode(&Sha256::digest(repo.to_string().as_bytes())[..8]);
        self.root.join(format!("{name}-{hash}"))
    }
}

fn generation_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:06}"))
}

fn word_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:06}.json"))
}

fn cleared_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:06}.cleared"))
}

fn cleared(folder: &Path, number: u32) -> bool {
    cleared_path(folder, number).exists()
}

/// The numbers of a repository's generations; none when it has no folder.
fn numbers(folder: &Path) -> io::Result<Vec<u32>> {
    let number = |path: PathBuf| path.file_name()?.to_str().filter(|n| n.len() == 6)?.parse().ok();
    Ok(folders(folder)?.into_iter().filter_map(number).collect())
}

/// The folders in a folder, if it is there.
fn folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if absent(&e) => return Ok(vec![]),
        Err(e) => return Err(e),
    };
    let mut all = vec![];
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            all.push(entry.path());
        }
    }
    Ok(all)
}

/// What the sessions that have not ended say of themselves.
fn running(sessions: &Path) -> io::Result<Vec<String>> {
    let live = folders(sessions)?.into_iter().filter(|session| !session.join("exit").exists());
    // A container's session has its file one folder deeper.
    let places =
        live.flat_map(|session| [session.join("session.json"), session.join("session/session.json")]);
    Ok(places.filter_map(|file| fs::read_to_string(file).ok()).collect())
}

/// Bytes and files below a folder. Symlinks count as themselves.
fn size(folder: &Path) -> io::Result<(u64, u64)> {
    let (mut bytes, mut files) = (0, 0);
    let mut open = vec![folder.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            bytes += meta.blocks() * 512;
            if meta.is_dir() {
                open.push(entry.path());
            } else {
                files += 1;
            }
        }
    }
    Ok((bytes, files))
}

/// Removes a tree whose folders may be read-only, as package managers leave them.
fn remove(tree: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    match fs::remove_dir_all(tree) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            let mut open = vec![tree.to_owned()];
            while let Some(dir) = open.pop() {
                fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
                open.extend(folders(&dir)?);
            }
            fs::remove_dir_all(tree)
        }
        removed => removed,
    }
}

fn private_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn absent(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World {
        folder: tempfile::TempDir,
        caches: Caches,
        repo: RepoRef,
    }

    impl World {
        fn new() -> World {
            let folder = tempfile::tempdir().unwrap();
            let caches = Caches::new(folder.path().join("caches"));
            World { folder, caches, repo: "octo/cat".parse().unwrap() }
        }

        fn publish(&self, file: &str) -> Generation {
            let made = self.caches.workshop().unwrap().join("cache");
            fs::create_dir_all(made.join("cargo")).unwrap();
            fs::write(made.join("cargo").join(file), "x").unwrap();
            self.caches.publish(&self.repo, &made, vec!["cargo fetch".into()], "abc".into()).unwrap()
        }

        /// Makes it look as if that happened long ago.
        fn age(&self, path: &Path) {
            let old = SystemTime::now() - SETTLED * 2;
            fs::File::open(path).unwrap().set_modified(old).unwrap();
        }

        fn sessions(&self) -> PathBuf {
            self.folder.path().join("sessions")
        }
    }

    #[test]
    fn the_newest_generation_is_lent_and_the_one_before_stays_as_it_is() {
        let w = World::new();
        assert_eq!(w.caches.current(&w.repo), None);
        assert_eq!(w.caches.list().unwrap(), []);
        let first = w.publish("a");
        assert_eq!(w.caches.current(&w.repo), Some(first.path.clone()));
        let second = w.publish("b");
        assert_eq!(w.caches.current(&w.repo), Some(second.path.clone()));
        assert!(first.path.join("cargo/a").exists() && !second.path.join("cargo/a").exists());
        let list = w.caches.list().unwrap();
        assert_eq!((list[0].repo.as_str(), list[0].older), ("octo/cat", 1));
        assert_eq!(list[0].current.as_ref().unwrap(), &second);
        assert_eq!(w.caches.current(&"octo/dog".parse().unwrap()), None);
    }

    #[test]
    fn what_the_box_was_configured_with_is_not_lent_on() {
        let w = World::new();
        let made = w.caches.workshop().unwrap();
        fs::create_dir(made.join("cargo")).unwrap();
        for file in PRIVATE {
            fs::write(made.join(file), "x").unwrap();
        }
        fs::write(made.join("cargo/kept"), "x").unwrap();
        let made = w.caches.publish(&w.repo, &made, vec![], String::new()).unwrap();
        let left: Vec<_> =
            fs::read_dir(made.path.join("cargo")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!((left, made.files), (vec!["kept".into()], 1));
    }

    #[test]
    fn a_workshop_of_a_process_that_is_gone_is_removed() {
        let w = World::new();
        let mine = w.caches.workshop().unwrap();
        let gone = w.caches.root.join(format!("{WORKSHOP}{}-1", i32::MAX));
        fs::create_dir(&gone).unwrap();
        w.caches.sweep(&[w.sessions()]).unwrap();
        assert!(mine.exists() && !gone.exists());
    }

    #[test]
    fn a_generation_goes_when_no_session_uses_it_any_more() {
        let w = World::new();
        let (first, second) = (w.publish("a"), w.publish("b"));
        let session = w.sessions().join("t-1");
        fs::create_dir_all(&session).unwrap();
        let plan = serde_json::json!({ "plan": { "cache": first.path } });
        fs::write(session.join("session.json"), plan.to_string()).unwrap();

        assert_eq!(w.caches.sweep(&[w.sessions()]).unwrap(), 0, "it was lent a moment ago");
        w.age(&second.path.with_extension("json"));
        assert_eq!(w.caches.sweep(&[w.sessions()]).unwrap(), 0, "a session uses it");
        fs::write(session.join("exit"), "0").unwrap();
        assert_eq!(w.caches.sweep(&[w.sessions()]).unwrap(), 1);
        assert!(!first.path.exists());
        assert_eq!(w.caches.current(&w.repo), Some(second.path), "what new boxes get is never swept");
    }

    #[test]
    fn a_cleared_cache_is_lent_to_nobody_and_goes() {
        let w = World::new();
        let only = w.publish("a");
        fs::set_permissions(only.path.join("cargo"), std::os::unix::fs::PermissionsExt::from_mode(0o500))
            .unwrap();
        assert!(w.caches.clear(&w.repo).unwrap());
        assert_eq!(w.caches.current(&w.repo), None);
        assert!(!w.caches.clear(&w.repo).unwrap());
        assert_eq!(w.caches.list().unwrap()[0].older, 1);
        w.age(&only.path.with_extension("cleared"));
        assert_eq!(w.caches.sweep(&[w.sessions()]).unwrap(), 1);
        assert_eq!(w.caches.list().unwrap(), []);
        let again = w.publish("b");
        assert_eq!(w.caches.current(&w.repo), Some(again.path));
    }
}
