//! Objects between a bucket and the files of a backup, one after the other, each piece by piece.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use futures_util::{StreamExt as _, TryStreamExt as _};
use objects::{Key, Object, ObjectStore};
use tokio::runtime::Handle;
use tokio_util::io::ReaderStream;

use super::{BackupError, Entry, OBJECTS, at, entry, make_dir};

/// Bytes read from a file at once.
const PIECE_BYTES: usize = 256 * 1024;

/// The object that a file of a backup is.
pub(super) fn key(name: &str) -> Option<Key> {
    name.strip_prefix(OBJECTS)?.strip_prefix('/')?.parse().ok()
}

/// Copies all objects to `into/objects`. Blocks.
pub(super) fn copy_out(from: &dyn ObjectStore, into: &Path) -> Result<Vec<Entry>, BackupError> {
    let runtime = Handle::current();
    let mut files = Vec::new();
    for meta in runtime.block_on(from.list(""))? {
        let name = format!("{OBJECTS}/{}", meta.key);
        let to = into.join(&name);
        // What its server removed meanwhile is over.
        let Some(object) = runtime.block_on(from.get(&meta.key))? else { continue };
        make_dir(to.parent().unwrap_or(into))?;
        let uri = from.uri(&meta.key);
        runtime.block_on(save(object, &uri, &to))?;
        files.push(entry(into, name)?);
    }
    Ok(files)
}

async fn save(object: Object, uri: &str, to: &Path) -> Result<(), BackupError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(at("cannot write", to))?;
    let (bytes, mut body, mut written) = (object.meta.bytes, object.body, 0);
    let unread = |source| BackupError::File { doing: "cannot read", path: uri.to_owned(), source };
    while let Some(piece) = body.try_next().await.map_err(unread)? {
        file.write_all(&piece).map_err(at("cannot write", to))?;
        written += piece.len() as u64;
    }
    if written != bytes {
        let what = format!("it has {bytes} bytes, and {written} came");
        return Err(unread(io::Error::new(io::ErrorKind::UnexpectedEof, what)));
    }
    file.sync_all().map_err(at("cannot write", to))
}

/// Puts these files of `state` back as objects. Blocks.
pub(super) fn copy_in(to: &dyn ObjectStore, state: &Path, files: &[&Entry]) -> Result<(), BackupError> {
    let runtime = Handle::current();
    for file in files {
        let Some(key) = key(&file.name) else { continue };
        let path = state.join(&file.name);
        let opened = File::open(&path).map_err(at("cannot read", &path))?;
        let body = ReaderStream::with_capacity(tokio::fs::File::from_std(opened), PIECE_BYTES).boxed();
        runtime.block_on(to.put(&key, body))?;
    }
    Ok(())
}
