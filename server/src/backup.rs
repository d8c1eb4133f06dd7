//! Copies of a state folder: made while its server runs, checked, and put back.
//!
//! A backup is a folder:
//!
//! ```text
//! manifest.json    what is in it: each file with its size and SHA-256
//! state/           bgagent.db, keys, objects, what was pushed and is on no forge
//! ```
//!
//! Objects in a bucket are copied from there, into the same files, and put back there: into the bucket that is configured
//! when they are put back, or the folder.
//!
//! The database is copied first, as of one moment. Objects are never changed once they are there, so that those it names
//! are in the copy too. Mirrors and dependency caches are left out: they are made again. Boxes that ran are not part of it:
//! their tasks fail after a restore, with what they had pushed kept.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use objects::{ObjectError, ObjectStore};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use store::StoreError;
use store::sqlite::snapshot;

use crate::paths::State;

mod bucket;

/// The version of the form described above.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const STATE: &str = "state";
const DATABASE: &str = "bgagent.db";

/// The folder of objects in a state folder and in a backup.
const OBJECTS: &str = "objects";
/// The others of a state folder that a backup holds.
const FOLDERS: &[&str] = &["pushes"];
/// Files of a state folder that a backup does not hold: of the running server, and the database with its journals, which
/// is copied apart.
const NOT_FILES: &[&str] =
    &["server.lock", "server.json", "server.log", DATABASE, "bgagent.db-wal", "bgagent.db-shm", "box-ca.pem"];

/// `manifest.json`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// 1.
    pub format: u32,
    /// Version of the program that made it.
    pub version: String,
    /// When.
    pub created_at: Timestamp,
    /// Every file below `state/`, in the order of their names.
    pub files: Vec<Entry>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Name below `state/`.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256, hex.
    pub sha256: String,
}

impl Manifest {
    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// Why a backup could not be made, checked or put back. Each says what to do.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum BackupError {
    #[error("{doing} {path}: {source}")]
    File { doing: &'static str, path: String, source: io::Error },
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{path} is there already; name a new folder")]
    Exists { path: String },
    #[error("{path} holds no database of bgagent: no server has run on it")]
    NoState { path: String },
    #[error("{path} is no backup: {why}")]
    NoBackup { path: String, why: String },
    #[error(
        "{path} holds state already: give --force to move it to a folder beside it, or set BGAGENT__STATE_DIR to another folder"
    )]
    NotEmpty { path: String },
    #[error("the backup {path} is damaged, nothing was restored: {}", problems.join("; "))]
    Damaged { path: String, problems: Vec<String> },
    #[error("{0}")]
    Object(#[from] ObjectError),
}

/// Where the objects of a state are.
#[derive(Debug, Clone)]
pub enum Objects {
    /// In its folder.
    InState,
    /// Elsewhere: in a bucket. To copy them needs a runtime of tokio around, as `spawn_blocking` has.
    Elsewhere(Arc<dyn ObjectStore>),
}

fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.display().to_string();
    move |source| BackupError::File { doing, path, source }
}

/// What becomes of state that is where a backup is put back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Old {
    /// The restore is refused.
    Refuse,
    /// It is moved to a folder beside it.
    MoveAside,
}

/// Copies the state to the new folder `to`, whole or not at all. Its server may run. Blocks.
pub fn backup(state: &State, objects: &Objects, to: &Path, now: Timestamp) -> Result<Manifest, BackupError> {
    if !state.database().exists() {
        return Err(BackupError::NoState { path: state.0.display().to_string() });
    }
    if fs::symlink_metadata(to).is_ok() {
        return Err(BackupError::Exists { path: to.display().to_string() });
    }
    let partial = beside(to, "partial");
    remove(&partial)?;
    let made = fill(state, objects, &partial, now).and_then(|manifest| {
        fs::rename(&partial, to).map_err(at("cannot make", to))?;
        sync_dir(to.parent().unwrap_or(Path::new(".")))?;
        Ok(manifest)
    });
    if made.is_err() {
        // The first error is the one to tell.
        drop(remove(&partial));
    }
    made
}

fn fill(state: &State, objects: &Objects, partial: &Path, now: Timestamp) -> Result<Manifest, BackupError> {
    let into = partial.join(STATE);
    make_dir(&into)?;
    snapshot::copy(&state.database(), &into.join(DATABASE))?;
    let mut files = vec![entry(&into, DATABASE.into())?];
    for name in names(&state.0)? {
        let from = state.0.join(&name);
        let plain = fs::symlink_metadata(&from).is_ok_and(|meta| meta.is_file());
        if plain && !NOT_FILES.contains(&name.as_str()) {
            copy(&from, &into.join(&name))?;
            files.push(entry(&into, name)?);
        }
    }
    let here = match objects {
        Objects::InState => Some(OBJECTS),
        Objects::Elsewhere(bucket) => {
            files.extend(bucket::copy_out(bucket.as_ref(), &into)?);
            None
        }
    };
    for folder in here.iter().chain(FOLDERS) {
        for name in below(&state.0, Path::new(folder))? {
            let (from, to) = (state.0.join(&name), into.join(&name));
            make_dir(to.parent().unwrap_or(&into))?;
            match copy(&from, &to) {
                // What its server removed meanwhile is over: the database's copy may name it, as it may name a trace that is
                // kept no longer.
                Err(BackupError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => (),
                Err(failure) => return Err(failure),
                Ok(()) => files.push(entry(&into, name)?),
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let manifest = Manifest { format: FORMAT, version, created_at: now, files };
    let text = serde_json::to_vec_pretty(&manifest).map_err(|e| at("cannot write", partial)(e.into()))?;
    write(&partial.join(MANIFEST), &mut text.as_slice())?;
    sync_dir(partial)?;
    Ok(manifest)
}

/// What is wrong with a backup; empty when it is whole and sound. Reads all of it. Blocks.
pub fn verify(path: &Path) -> Result<(Manifest, Vec<String>), BackupError> {
    let manifest = manifest(path)?;
    let state = path.join(STATE);
    let mut problems = Vec::new();
    for file in &manifest.files {
        match entry(&state, file.name.clone()) {
            Ok(found) if found == *file => (),
            Ok(found) => problems.push(format!(
                "{} is not what was backed up ({} bytes then, {} now)",
                file.name, file.bytes, found.bytes
            )),
            Err(failure) => problems.push(failure.to_string()),
        }
    }
    let known: Vec<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
    let there = below(path, Path::new(STATE))?;
    let extra =
        there.iter().filter_map(|name| name.strip_prefix("state/")).filter(|name| !known.contains(name));
    problems.extend(extra.map(|name| format!("{name} is not in the manifest")));
    if problems.is_empty() {
        problems.extend(database_problems(&state.join(DATABASE))?);
    }
    Ok((manifest, problems))
}

/// What is wrong with the database of a state folder; empty when it is sound. Its server may run. Blocks.
pub fn verify_state(state: &State) -> Result<Vec<String>, BackupError> {
    match state.database().exists() {
        true => database_problems(&state.database()),
        false => Err(BackupError::NoState { path: state.0.display().to_string() }),
    }
}

fn database_problems(path: &Path) -> Result<Vec<String>, BackupError> {
    match snapshot::problems(path) {
        Err(StoreError::Damaged { reason, .. }) => Ok(vec![reason]),
        other => Ok(other?),
    }
}

/// Puts a backup back as the state folder. It is checked first; nothing is changed when anything is wrong with it. Answers
/// where state that was there is now. The server must not run: the caller holds its lock. Blocks.
pub fn restore(
    from: &Path,
    state: &State,
    objects: &Objects,
    old: Old,
    now: Timestamp,
) -> Result<(Manifest, Option<PathBuf>), BackupError> {
    let (manifest, problems) = verify(from)?;
    if !problems.is_empty() {
        return Err(BackupError::Damaged { path: from.display().to_string(), problems });
    }
    let used = state.database().exists();
    if used && old == Old::Refuse {
        return Err(BackupError::NotEmpty { path: state.0.display().to_string() });
    }
    let fresh = beside(&state.0, "restoring");
    remove(&fresh)?;
    make_dir(&fresh)?;
    let (elsewhere, here): (Vec<&Entry>, Vec<&Entry>) = match objects {
        Objects::InState => (Vec::new(), manifest.files.iter().collect()),
        Objects::Elsewhere(_) => manifest.files.iter().partition(|file| bucket::key(&file.name).is_some()),
    };
    for file in here {
        let to = fresh.join(&file.name);
        make_dir(to.parent().unwrap_or(&fresh))?;
        copy(&from.join(STATE).join(&file.name), &to)?;
    }
    sync_dir(&fresh)?;
    // Objects are the same whenever they are put: when it fails after this, it can be repeated.
    if let Objects::Elsewhere(bucket) = objects {
        bucket::copy_in(bucket.as_ref(), &from.join(STATE), &elsewhere)?;
    }
    let aside = match fs::symlink_metadata(&state.0) {
        Err(_) => None,
        Ok(_) => {
            let aside = beside(&state.0, &format!("before-restore-{}", now.as_millisecond()));
            fs::rename(&state.0, &aside).map_err(at("cannot move aside", &state.0))?;
            Some(aside)
        }
    };
    fs::rename(&fresh, &state.0).map_err(at("cannot make", &state.0))?;
    sync_dir(state.0.parent().unwrap_or(Path::new("/")))?;
    let aside = match aside {
        // Only the lock of the caller and the like were there.
        Some(aside) if !used => remove(&aside).map(|()| None)?,
        aside => aside,
    };
    Ok((manifest, aside))
}

fn manifest(path: &Path) -> Result<Manifest, BackupError> {
    let file = path.join(MANIFEST);
    let no_backup = |why: String| BackupError::NoBackup { path: path.display().to_string(), why };
    let text = fs::read(&file).map_err(|e| no_backup(format!("{MANIFEST} cannot be read: {e}")))?;
    let manifest: Manifest = serde_json::from_slice(&text)
        .map_err(|e| no_backup(format!("{MANIFEST} is not what bgagent writes: {e}")))?;
    if manifest.format != FORMAT {
        return Err(no_backup(format!("its form is {}, and this program knows {FORMAT}", manifest.format)));
    }
    let leads_out = |file: &&Entry| {
        let path = Path::new(&file.name);
        !path.components().all(|part| matches!(part, std::path::Component::Normal(_)))
    };
    match manifest.files.iter().find(leads_out) {
        Some(file) => Err(no_backup(format!("it names the file {:?}, which is not below it", file.name))),
        None => Ok(manifest),
    }
}

/// `x` -> `.x.<suffix>`, in the same folder.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{suffix}"))
}

fn names(dir: &Path) -> Result<Vec<String>, BackupError> {
    let read = |entry: io::Result<fs::DirEntry>| entry.map(|e| e.file_name().into_string().ok());
    let all: Vec<Option<String>> =
        fs::read_dir(dir).and_then(|entries| entries.map(read).collect()).map_err(at("cannot read", dir))?;
    Ok(all.into_iter().flatten().collect())
}

/// The plain files below `root/of`, as names below `root`; none when the folder is not there. What names things comes before
/// what is named: references of git before its objects, which are never changed.
fn below(root: &Path, of: &Path) -> Result<Vec<String>, BackupError> {
    let mut files = Vec::new();
    let mut todo = vec![of.to_owned()];
    while let Some(dir) = todo.pop() {
        let entries = match fs::read_dir(root.join(&dir)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(at("cannot read", &root.join(&dir)))?,
        };
        for entry in entries {
            let entry = entry.map_err(at("cannot read", &root.join(&dir)))?;
            let name = dir.join(entry.file_name());
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                todo.push(name);
            } else if kind.is_file()
                && let Some(name) = name.to_str()
            {
                files.push(name.to_owned());
            }
        }
    }
    files.sort_by_key(|name| (of == Path::new("pushes") && name.contains("/objects/"), name.clone()));
    Ok(files)
}

fn entry(root: &Path, name: String) -> Result<Entry, BackupError> {
    let path = root.join(&name);
    let failed = |e| at("cannot read", &path)(e);
    let mut file = File::open(&path).map_err(failed)?;
    let mut hash = Sha256::new();
    let (mut bytes, mut piece) = (0, vec![0; 64 * 1024]);
    loop {
        let read = file.read(&mut piece).map_err(|e| at("cannot read", &path)(e))?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        hash.update(&piece[..read]);
    }
    Ok(Entry { name, bytes, sha256: hex::encode(hash.finalize()) })
}

fn copy(from: &Path, to: &Path) -> Result<(), BackupError> {
    let mut file = File::open(from).map_err(at("cannot read", from))?;
    write(to, &mut file)
}

/// A new file that only its owner can read, on the disk.
fn write(to: &Path, from: &mut dyn io::Read) -> Result<(), BackupError> {
    let mut written = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
        io::copy(from, &mut file)?;
        file.sync_all()
    };
    written().map_err(at("cannot write", to))
}

fn make_dir(dir: &Path) -> Result<(), BackupError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at("cannot make", dir))
}

fn remove(dir: &Path) -> Result<(), BackupError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at("cannot remove", dir)(e)),
        _ => Ok(()),
    }
}

fn sync_dir(dir: &Path) -> Result<(), BackupError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(at("cannot write", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state folder with a database, a key, an object, and things that do not belong into a backup.
    async fn state(dir: &Path) -> State {
        let state = State(dir.join("state"));
        make_dir(&state.objects().join("traces/ann")).unwrap();
        make_dir(&state.mirrors()).unwrap();
        drop(store::Store::open_sqlite(&state.database()).await.unwrap());
        for (name, text) in [
            ("owner-key", "bgak_secret"),
            ("server.json", "{}"),
            ("objects/traces/ann/1", "a trace"),
            ("mirrors/big", "made again"),
        ] {
            fs::write(state.0.join(name), text).unwrap();
        }
        state
    }

    #[tokio::test]
    async fn a_backup_is_whole_private_and_put_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let state = state(dir.path()).await;
        let to = dir.path().join("backup");
        let made = backup(&state, &Objects::InState, &to, Timestamp::UNIX_EPOCH).unwrap();
        let names: Vec<&str> = made.files.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["bgagent.db", "objects/traces/ann/1", "owner-key"]);
        assert_eq!(verify(&to).unwrap(), (made, vec![]));
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |name: &str| fs::metadata(to.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("state"), mode("state/owner-key")), (0o700, 0o700, 0o600));
        assert!(matches!(
            backup(&state, &Objects::InState, &to, Timestamp::UNIX_EPOCH),
            Err(BackupError::Exists { .. })
        ));

        let now = Timestamp::from_millisecond(7).unwrap();
        let refused = restore(&to, &state, &Objects::InState, Old::Refuse, now).unwrap_err();
        assert!(matches!(refused, BackupError::NotEmpty { .. }), "{refused}");
        fs::write(state.0.join("owner-key"), "another").unwrap();
        let (_, aside) = restore(&to, &state, &Objects::InState, Old::MoveAside, now).unwrap();
        assert_eq!(fs::read_to_string(state.owner_key()).unwrap(), "bgak_secret");
        assert_eq!(fs::read_to_string(aside.unwrap().join("owner-key")).unwrap(), "another");
        assert_eq!(verify_state(&state).unwrap(), Vec::<String>::new());

        let elsewhere = State(dir.path().join("new/place"));
        make_dir(elsewhere.0.parent().unwrap()).unwrap();
        assert_eq!(restore(&to, &elsewhere, &Objects::InState, Old::Refuse, now).unwrap().1, None);
        assert_eq!(fs::read_to_string(elsewhere.objects().join("traces/ann/1")).unwrap(), "a trace");
    }

    #[tokio::test]
    async fn a_damaged_backup_is_found_and_not_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let state = state(dir.path()).await;
        type Damage = fn(&Path);
        let damages: [(&str, Damage); 5] = [
            ("owner-key is not what was backed up", |b| fs::write(b.join("state/owner-key"), "x").unwrap()),
            ("cannot read", |b| fs::remove_file(b.join("state/objects/traces/ann/1")).unwrap()),
            ("more is not in the manifest", |b| fs::write(b.join("state/more"), "x").unwrap()),
            ("bgagent.db is not what was backed up", |b| {
                let path = b.join("state/bgagent.db");
                let mut bytes = fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0xff;
                fs::write(path, bytes).unwrap();
            }),
            ("is no backup", |b| {
                let text = fs::read_to_string(b.join(MANIFEST)).unwrap();
                fs::write(b.join(MANIFEST), text.replace("owner-key", "../owner-key")).unwrap();
            }),
        ];
        for (n, (words, damage)) in damages.into_iter().enumerate() {
            let to = dir.path().join(format!("backup-{n}"));
            backup(&state, &Objects::InState, &to, Timestamp::UNIX_EPOCH).unwrap();
            damage(&to);
            let target = State(dir.path().join(format!("target-{n}")));
            let refused = restore(&to, &target, &Objects::InState, Old::Refuse, Timestamp::UNIX_EPOCH)
                .unwrap_err()
                .to_string();
            assert!(refused.contains(words), "{words}: {refused}");
            assert!(!target.0.exists(), "{words}");
        }
        let none = backup(
            &State(dir.path().join("nothing")),
            &Objects::InState,
            &dir.path().join("b"),
            Timestamp::UNIX_EPOCH,
        );
        assert!(matches!(none, Err(BackupError::NoState { .. })));
        assert!(!dir.path().join("b").exists());
        assert!(matches!(verify(dir.path()), Err(BackupError::NoBackup { .. })));
    }

    #[tokio::test]
    async fn objects_that_are_elsewhere_are_in_a_backup_and_put_back_where_they_belong() {
        let dir = tempfile::tempdir().unwrap();
        let state = state(dir.path()).await;
        let place = objects::MemoryObjects::default();
        let big = vec![7u8; 300_000];
        for (name, bytes) in [("traces/bob/2", b"another trace".to_vec()), ("artifacts/t-1/log", big.clone())]
        {
            place.put(&name.parse().unwrap(), objects::body(bytes)).await.unwrap();
        }
        let bucket = Objects::Elsewhere(Arc::new(place));
        let to = dir.path().join("backup");
        let (from, into, of) = (state.clone(), to.clone(), bucket.clone());
        let blocking = tokio::task::spawn_blocking(move || backup(&from, &of, &into, Timestamp::UNIX_EPOCH));
        let made = blocking.await.unwrap().unwrap();
        let names: Vec<&str> = made.files.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(
            names,
            ["bgagent.db", "objects/artifacts/t-1/log", "objects/traces/bob/2", "owner-key"],
            "what is in the folder from before is not in use"
        );
        assert_eq!(verify(&to).unwrap(), (made, vec![]));

        // Into an empty bucket, into a folder.
        let fresh = objects::MemoryObjects::default();
        let (from, elsewhere) = (to.clone(), Objects::Elsewhere(Arc::new(fresh.clone())));
        let target = State(dir.path().join("target"));
        let place = target.clone();
        let restored = tokio::task::spawn_blocking(move || {
            restore(&from, &place, &elsewhere, Old::Refuse, Timestamp::UNIX_EPOCH)
        });
        restored.await.unwrap().unwrap();
        assert!(!target.objects().exists() && target.owner_key().exists());
        let object = fresh.get(&"artifacts/t-1/log".parse().unwrap()).await.unwrap().unwrap();
        assert!(object.whole(usize::MAX).await.unwrap() == big);
        assert_eq!(fresh.list("").await.unwrap().len(), 2);
        let folder = State(dir.path().join("folder"));
        restore(&to, &folder, &Objects::InState, Old::Refuse, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(fs::read_to_string(folder.objects().join("traces/bob/2")).unwrap(), "another trace");
    }
}
