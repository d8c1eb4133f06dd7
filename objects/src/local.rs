//! Objects as files of a folder: 0600 files in 0700 folders, written beside, synced, and renamed into place.
//!
//! What a crash leaves of a `put` is a file in `.part`, which no key can name; the next [`LocalObjects::open`] removes it.

use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{Body, Key, Meta, Object, ObjectError, ObjectStore};

/// Where objects are until they are whole.
const PART: &str = ".part";
/// Read at once.
const PIECE_BYTES: usize = 64 * 1024;
/// A folder that a delete removes at the same moment is made again, so often.
const TRIES: usize = 8;

/// A folder of objects. One process may write to it.
#[derive(Debug, Clone)]
pub struct LocalObjects {
    root: PathBuf,
}

impl LocalObjects {
    /// The objects in this folder, which is made when it is not there.
    pub fn open(root: PathBuf) -> io::Result<LocalObjects> {
        let part = root.join(PART);
        match std::fs::remove_dir_all(&part) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => make_folders(&part)?,
        }
        Ok(LocalObjects { root })
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }
}

#[async_trait]
impl ObjectStore for LocalObjects {
    async fn put(&self, key: &Key, body: Body) -> Result<u64, ObjectError> {
        let doing = || format!("storing {}", self.path(key).display());
        let failed = |error: io::Error| ObjectError::of_disk(doing(), &error);
        let part = Part::new(self.root.join(PART)).map_err(failed)?;
        let bytes = fill(&part.path, body).await.map_err(|problem| match problem {
            Problem::Disk(error) => failed(error),
            Problem::Body(source) => ObjectError::Body { doing: doing(), source },
        })?;
        let (root, path) = (self.root.clone(), self.path(key));
        blocking(move || put_in_place(&root, part, &path)).await.map_err(failed)?;
        Ok(bytes)
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>, ObjectError> {
        let path = self.path(key);
        let failed = |error: io::Error| ObjectError::of_disk(format!("reading {}", path.display()), &error);
        let file = match tokio::fs::File::open(&path).await {
            Ok(file) => file,
            Err(error) if absent(&error) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let found = file.metadata().await.map_err(failed)?;
        if !found.is_file() {
            return Ok(None);
        }
        Ok(Some(Object { meta: meta(key.clone(), &found), body: pieces(file) }))
    }

    async fn stat(&self, key: &Key) -> Result<Option<Meta>, ObjectError> {
        match tokio::fs::metadata(self.path(key)).await {
            Ok(found) if found.is_file() => Ok(Some(meta(key.clone(), &found))),
            Ok(_) => Ok(None),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => {
                Err(ObjectError::of_disk(format!("looking at {}", self.path(key).display()), &error))
            }
        }
    }

    async fn delete(&self, key: &Key) -> Result<(), ObjectError> {
        let (root, path) = (self.root.clone(), self.path(key));
        let doing = format!("removing {}", path.display());
        let removed = blocking(move || {
            std::fs::remove_file(&path)?;
            // Folders that are empty now go too; the first that is not ends it.
            let above = path.ancestors().skip(1).take_while(|folder| *folder != root);
            let _ = above.map(std::fs::remove_dir).take_while(Result::is_ok).count();
            path.ancestors().skip(1).find(|folder| folder.is_dir()).map_or(Ok(()), sync_folder)
        });
        match removed.await {
            Err(error) if absent(&error) => Ok(()),
            Err(error) => Err(ObjectError::of_disk(doing, &error)),
            Ok(()) => Ok(()),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Meta>, ObjectError> {
        let (root, prefix) = (self.root.clone(), prefix.to_owned());
        let doing = format!("listing {}", root.display());
        let found = blocking(move || {
            // Only what can begin so is looked at.
            let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
            let mut found = Vec::new();
            if folder.is_empty() || folder.parse::<Key>().is_ok() {
                walk(&root, folder, &prefix, &mut found)?;
            }
            Ok(found)
        });
        let mut found = found.await.map_err(|error| ObjectError::of_disk(doing, &error))?;
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    fn uri(&self, key: &Key) -> String {
        format!("file://{}", self.path(key).display())
    }
}

/// What ended the filling of a file.
enum Problem {
    Disk(io::Error),
    Body(io::Error),
}

async fn fill(path: &Path, mut body: Body) -> Result<u64, Problem> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = tokio::fs::OpenOptions::from(options).open(path).await.map_err(Problem::Disk)?;
    let mut bytes = 0;
    while let Some(piece) = body.try_next().await.map_err(Problem::Body)? {
        file.write_all(&piece).await.map_err(Problem::Disk)?;
        bytes += piece.len() as u64;
    }
    file.flush().await.map_err(Problem::Disk)?;
    file.sync_all().await.map_err(Problem::Disk)?;
    Ok(bytes)
}

/// A file that is not whole yet; removed unless it was put in place.
struct Part {
    path: PathBuf,
}

impl Part {
    fn new(folder: PathBuf) -> io::Result<Part> {
        let mut random = [0u8; 12];
        getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
        Ok(Part { path: folder.join(hex::encode(random)) })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Gone already when it was put in place; what cannot be removed is removed at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn put_in_place(root: &Path, part: Part, path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(root);
    let mut tries = 0;
    loop {
        make_folders(folder)?;
        match std::fs::rename(&part.path, path) {
            // The folder was empty for a moment, and a delete has removed it.
            Err(error) if error.kind() == ErrorKind::NotFound && tries < TRIES => tries += 1,
            Err(error) => return Err(error),
            Ok(()) => return sync_folder(folder),
        }
    }
}

/// Makes folders of this user's only, each one durable.
fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_folders(above)?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        // A folder, or one that was removed again since: then the caller tries again.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => match std::fs::metadata(folder) {
            Ok(there) if !there.is_dir() => Err(error),
            Ok(_) | Err(_) => Ok(()),
        },
        // Made and removed again at the same moment: the caller tries again.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => folder.parent().map_or(Ok(()), sync_folder),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder) {
        Ok(folder) => folder.sync_all(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn walk(root: &Path, folder: &str, prefix: &str, found: &mut Vec<Meta>) -> io::Result<()> {
    let entries = match std::fs::read_dir(root.join(folder)) {
        Ok(entries) => entries,
        Err(error) if absent(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let below = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        let Ok(key) = below.parse::<Key>() else { continue };
        let begins = below.starts_with(prefix) || prefix.starts_with(&format!("{below}/"));
        if !begins {
            continue;
        }
        match entry.metadata() {
            Ok(there) if there.is_dir() => walk(root, &below, prefix, found)?,
            Ok(there) if there.is_file() && below.starts_with(prefix) => found.push(meta(key, &there)),
            // A link is none of ours, and what is gone is gone.
            Ok(_) | Err(_) => (),
        }
    }
    Ok(())
}

fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn meta(key: Key, found: &std::fs::Metadata) -> Meta {
    let modified = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Meta { key, bytes: found.len(), modified: Timestamp::try_from(modified).unwrap_or_default() }
}

fn pieces(file: tokio::fs::File) -> Body {
    let next = |mut file: tokio::fs::File| async move {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        match file.read_buf(&mut piece).await {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some((Bytes::from(piece), file))),
            Err(error) => Err(error),
        }
    };
    stream::try_unfold(file, next).boxed()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(io::Error::other(e.to_string())))
}
