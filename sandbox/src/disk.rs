//! What folders take on the disk, asked without following anything that the tools may put there.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use nix::dir::{Dir, Type};
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};

/// Folders within folders; a tree that is deeper counts as too large: few programs could even delete it.
const DEPTH_MAX: usize = 512;

/// What a file counts at least: empty ones take no blocks, but of the file system's files there is an end too.
const FILE_MIN: u64 = 4_096;

/// Why a tree could not be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("folders lie more than {DEPTH_MAX} deep in each other")]
pub struct TooDeep;

/// Bytes on disk of all that lies in these folders, each file once however many names it has, and an empty one as a small
/// one. What vanishes meanwhile is not counted; a folder that cannot be opened counts as itself.
pub fn used<'a>(folders: impl IntoIterator<Item = &'a Path>) -> Result<u64, TooDeep> {
    let mut linked = HashSet::new();
    let mut bytes = 0;
    for folder in folders {
        walk(folder, |file| {
            if file.st_nlink > 1
                && file.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFDIR.bits()
                && !linked.insert((file.st_dev, file.st_ino))
            {
                return;
            }
            bytes += (file.st_blocks.max(0) as u64 * 512).max(FILE_MIN);
        })?;
    }
    Ok(bytes)
}

/// Bytes that are free for this user on the file system of `path`; less where it runs out of files before.
pub fn free(path: &Path) -> io::Result<u64> {
    let all = nix::sys::statvfs::statvfs(path)?;
    let bytes = all.blocks_available() * all.fragment_size();
    // Some file systems make files as they need them, and tell of none.
    let files = if all.files() == 0 { u64::MAX } else { all.files_available() };
    Ok(bytes.min(files.saturating_mul(FILE_MIN)))
}

/// Bytes of the file system of `path`, used or not.
pub(crate) fn size(path: &Path) -> io::Result<u64> {
    let all = nix::sys::statvfs::statvfs(path)?;
    Ok(all.blocks() * all.fragment_size())
}

fn walk(top: &Path, mut each: impl FnMut(&nix::sys::stat::FileStat)) -> Result<(), TooDeep> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let Ok(top) = Dir::open(top, flags, Mode::empty()) else { return Ok(()) };
    if let Ok(itself) = fstat(&top) {
        each(&itself);
    }
    let mut open = vec![top.into_iter()];
    while let Some(folder) = open.last_mut() {
        let raw = folder.as_raw_fd();
        let Some(entry) = folder.next() else {
            open.pop();
            continue;
        };
        let Ok(entry) = entry else { continue };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        // SAFETY: the folder stays open and in its place on the stack while this is used.
        let at = unsafe { BorrowedFd::borrow_raw(raw) };
        let Ok(file) = fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
        each(&file);
        if entry.file_type().is_none_or(|t| t == Type::Directory)
            && let Ok(below) = Dir::openat(at, name, flags, Mode::empty())
        {
            if open.len() >= DEPTH_MAX {
                return Err(TooDeep);
            }
            open.push(below.into_iter());
        }
    }
    Ok(())
}

/// Gives a folder to the box, with all in it when it belonged to somebody else.
pub(crate) fn hand_over(path: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, lchown};
    let found = std::fs::symlink_metadata(path)?;
    if !found.is_dir() {
        return Err(io::Error::other("it is not a folder"));
    }
    if (found.uid(), found.gid()) == (uid, gid) {
        return Ok(());
    }
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            hand_over(&entry.path(), (uid, gid))?;
        } else {
            lchown(entry.path(), Some(uid), Some(gid))?;
        }
    }
    // Last, so that a crash in between is made good by the next attempt.
    lchown(path, Some(uid), Some(gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_count_once_and_lead_nowhere() {
        let tree = tempfile::tempdir().unwrap();
        let at = |name: &str| tree.path().join(name);
        std::fs::create_dir(at("a")).unwrap();
        std::fs::write(at("a/file"), vec![1; 1024 * 1024]).unwrap();
        let once = used([tree.path()]).unwrap();
        assert!((1024 * 1024..1024 * 1024 + 64 * 1024).contains(&once), "{once}");
        std::fs::hard_link(at("a/file"), at("a/again")).unwrap();
        std::os::unix::fs::symlink("/usr", at("usr")).unwrap();
        assert!(used([tree.path()]).unwrap() < once + 64 * 1024);
    }

    #[test]
    fn files_without_content_count_too() {
        let tree = tempfile::tempdir().unwrap();
        (0..1_000).for_each(|n| std::fs::write(tree.path().join(n.to_string()), "").unwrap());
        assert!(used([tree.path()]).unwrap() >= 1_000 * FILE_MIN);
        assert!(free(tree.path()).unwrap() > 0);
    }

    #[test]
    fn a_tree_without_end_is_told() {
        let tree = tempfile::tempdir().unwrap();
        let mut path = tree.path().to_owned();
        for _ in 0..DEPTH_MAX + 5 {
            path.push("d");
        }
        std::fs::create_dir_all(&path).unwrap();
        assert_eq!(used([tree.path()]), Err(TooDeep));
    }
}
