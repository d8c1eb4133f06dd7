//! The files of a work tree, opened in a way that no link leads out of it: not one that is there, and not one that
//! somebody puts there while we look.
//!
//! Programs of the agent run beside this process and may change the tree at any moment. So a path that was looked at is
//! not opened by its name again: it is opened below the tree's top folder by the kernel, which refuses every symbolic
//! link on the way (`openat2` with `RESOLVE_BENEATH`; where that is missing, folder by folder with `O_NOFOLLOW`). What
//! is then open is asked what it is, never its name.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
use nix::sys::stat::{Mode, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// The kernel asks to try again when the tree changes while it looks.
const TRIES: usize = 64;

/// A work tree. Clones are the same one; it stays the same folder, whatever its path comes to name.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
    top: Arc<OwnedFd>,
}

impl Tree {
    /// The tree at `root`.
    pub fn open(root: &Path) -> io::Result<Tree> {
        let root = root.canonicalize()?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let top = nix::fcntl::open(&root, flags, Mode::empty())?;
        Ok(Tree { root, top: Arc::new(top) })
    }

    /// Its top folder, canonical.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Opens a regular file to read. `path` is below [`Tree::root`] and free of links, as `canonicalize` gives it.
    /// Pipes, devices and folders are not opened: a pipe would be waited on, a device might do something.
    pub fn file(&self, path: &Path) -> io::Result<File> {
        let looked_at = self.at(path, OFlag::O_PATH)?;
        let meta = File::from(looked_at).metadata()?;
        if meta.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        if !meta.is_file() {
            return Err(io::Error::other("it is not a regular file (a pipe, socket or device)"));
        }
        // Between the two looks it may have become another thing: non-blocking, and asked again.
        let file = File::from(self.at(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::other("it is not a regular file (a pipe, socket or device)")),
        }
    }

    /// What a path is; of a link at its end, the link. One on the way is an error.
    pub fn look(&self, path: &Path) -> io::Result<Metadata> {
        File::from(self.at(path, OFlag::O_PATH)?).metadata()
    }

    /// The text of a file below the top folder, if it is a regular one of at most `max` bytes. Links inside of the tree
    /// are followed.
    pub fn text(&self, inside: &str, max: u64) -> Option<String> {
        let path = self.root.join(inside).canonicalize().ok()?;
        let file = self.file(&path).ok()?;
        let mut text = String::new();
        let read = file.take(max + 1).read_to_string(&mut text).ok()?;
        (read as u64 <= max).then_some(text)
    }

    /// Whether a path below the top folder is a file; links inside of the tree are followed.
    pub fn has_file(&self, inside: &str) -> bool {
        self.real(inside).is_some_and(|meta| meta.is_file())
    }

    /// Whether a path below the top folder is a folder; links inside of the tree are followed.
    pub fn has_folder(&self, inside: &str) -> bool {
        self.real(inside).is_some_and(|meta| meta.is_dir())
    }

    fn real(&self, inside: &str) -> Option<Metadata> {
        let path = self.root.join(inside).canonicalize().ok()?;
        self.look(&path).ok()
    }

    /// Replaces a file in one step, with the folders it needs, keeping its mode: a full disk or a crash leaves the old
    /// file as it was.
    pub fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (folder, name) = self.parent(path, Missing::Make)?;
        let mode = match fstatat(&folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) if stat.st_mode & nix::libc::S_IFMT != nix::libc::S_IFREG => {
                return Err(io::Error::other("it is not a regular file"));
            }
            Ok(stat) if stat.st_mode & 0o222 == 0 => return Err(io::Error::other("it is read-only")),
            Ok(stat) => Some(stat.st_mode & 0o777),
            Err(Errno::ENOENT) => None,
            Err(error) => return Err(error.into()),
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let part = OsString::from(format!(".bgagent-{}-{number}.part", std::process::id()));
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let all = Mode::from_bits_truncate(0o666);
        let mut file = File::from(openat(&folder, part.as_os_str(), flags, all)?);
        let written = file.write_all(content).and_then(|()| {
            if let Some(mode) = mode {
                file.set_permissions(std::fs::Permissions::from_mode(mode))?;
            }
            Ok(renameat(&folder, part.as_os_str(), &folder, name)?)
        });
        if written.is_err() {
            let _best_effort = unlinkat(&folder, part.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
        written
    }

    /// Removes a file or a link, if it is there.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.parent(path, Missing::Fail)?;
        Ok(unlinkat(&folder, name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Moves a file or folder within the tree; makes the folders that the new place needs.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, old) = self.parent(from, Missing::Fail)?;
        let (to, new) = self.parent(to, Missing::Make)?;
        Ok(renameat(&from, old, &to, new)?)
    }

    /// The folder a path lies in, and the path's last name.
    fn parent<'p>(&self, path: &'p Path, missing: Missing) -> io::Result<(OwnedFd, &'p OsStr)> {
        let inside = self.inside(path)?;
        let name = inside.file_name().ok_or(ErrorKind::InvalidInput)?;
        let folder = inside.parent().unwrap_or(Path::new(""));
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        match (self.at_inside(folder, flags), missing) {
            (Err(error), Missing::Make) if error.kind() == ErrorKind::NotFound => (),
            (found, Missing::Make | Missing::Fail) => return Ok((found?, name)),
        }
        let mut made = PathBuf::new();
        let mut above = self.at_inside(&made, flags)?;
        for part in folder.components() {
            match mkdirat(&above, part.as_os_str(), Mode::from_bits_truncate(0o777)) {
                Ok(()) | Err(Errno::EEXIST) => (),
                Err(error) => return Err(error.into()),
            }
            made.push(part);
            above = self.at_inside(&made, flags)?;
        }
        Ok((above, name))
    }

    fn at(&self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        self.at_inside(self.inside(path)?, flags)
    }

    /// The part of a path below the top folder.
    fn inside<'p>(&self, path: &'p Path) -> io::Result<&'p Path> {
        let inside = path.strip_prefix(&self.root).map_err(|_| io::Error::from(Errno::EXDEV))?;
        match inside.components().all(|part| matches!(part, Component::Normal(_))) {
            true => Ok(inside),
            false => Err(ErrorKind::InvalidInput.into()),
        }
    }

    fn at_inside(&self, inside: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let resolve = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let mut error = Errno::EAGAIN;
        for _ in 0..TRIES {
            match openat2(self.top.as_fd(), inside, OpenHow::new().flags(flags).resolve(resolve)) {
                Ok(fd) => return Ok(fd),
                Err(Errno::EAGAIN | Errno::EINTR) => (),
                // An old kernel; or a filter that does not know the call.
                Err(Errno::ENOSYS | Errno::EPERM) => return step_by_step(self.top.as_fd(), inside, flags),
                Err(other) => {
                    error = other;
                    break;
                }
            }
        }
        Err(told(error))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Fail,
}

/// As `openat2` would, one folder after the other. There is no `..` in `inside`.
fn step_by_step(top: impl AsFd, inside: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let mut at: OwnedFd = top.as_fd().try_clone_to_owned()?;
    let mut parts = inside.components().peekable();
    while let Some(part) = parts.next() {
        let flags = match parts.peek() {
            Some(_) => OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            None => flags,
        };
        at = openat(&at, part.as_os_str(), flags, Mode::empty()).map_err(told)?;
    }
    Ok(at)
}

fn told(error: Errno) -> io::Error {
    match error {
        Errno::ELOOP => io::Error::other("it became a symbolic link while it was opened"),
        Errno::EXDEV => io::Error::other("it leads outside the work tree"),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, Tree) {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("tree");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(root.join("a/b/file"), "text").unwrap();
        std::fs::write(place.path().join("secret"), "secret").unwrap();
        let tree = Tree::open(&root).unwrap();
        (place, tree)
    }

    fn read(tree: &Tree, inside: &str) -> io::Result<String> {
        let mut text = String::new();
        tree.file(&tree.root().join(inside))?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn files_are_read_and_links_are_not_followed_anywhere_on_the_way() {
        let (place, tree) = tree();
        assert_eq!(read(&tree, "a/b/file").unwrap(), "text");
        symlink(place.path().join("secret"), tree.root().join("link")).unwrap();
        symlink(place.path(), tree.root().join("folder")).unwrap();
        symlink("b", tree.root().join("a/inside")).unwrap();
        for path in ["link", "folder/secret", "a/inside/file", "../secret", "a/../../secret", "a", "none"] {
            assert!(read(&tree, path).is_err(), "{path}");
        }
        assert!(tree.file(&place.path().join("secret")).is_err());
        for path in ["link", "folder/secret", "a/inside/file"] {
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW;
            assert!(step_by_step(tree.top.as_fd(), Path::new(path), flags).is_err(), "{path}");
        }
        assert!(tree.look(&tree.root().join("link")).unwrap().is_symlink());
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW;
        assert!(step_by_step(tree.top.as_fd(), Path::new("a/b/file"), flags).is_ok());
    }

    #[test]
    fn pipes_are_neither_opened_nor_waited_for() {
        let (_place, tree) = tree();
        nix::unistd::mkfifo(&tree.root().join("pipe"), Mode::from_bits_truncate(0o666)).unwrap();
        let error = read(&tree, "pipe").unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
        assert!(tree.replace(&tree.root().join("pipe"), b"x").is_err());
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_and_never_through_a_link() {
        let (place, tree) = tree();
        let file = tree.root().join("a/b/file");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o750)).unwrap();
        tree.replace(&file, b"new").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o750);
        tree.replace(&tree.root().join("x/y/z"), b"made").unwrap();
        assert_eq!(std::fs::read(tree.root().join("x/y/z")).unwrap(), b"made");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o444)).unwrap();
        assert!(tree.replace(&file, b"newer").is_err());
        symlink(place.path().join("secret"), tree.root().join("link")).unwrap();
        symlink(place.path(), tree.root().join("folder")).unwrap();
        for path in ["link", "folder/secret", "folder/made", "folder/new/made"] {
            assert!(tree.replace(&tree.root().join(path), b"x").is_err(), "{path}");
        }
        assert_eq!(std::fs::read(place.path().join("secret")).unwrap(), b"secret");
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2);
    }

    #[test]
    fn names_are_moved_and_removed_within_the_tree_only() {
        let (place, tree) = tree();
        symlink(place.path(), tree.root().join("folder")).unwrap();
        assert!(tree.remove(&tree.root().join("folder/secret")).is_err());
        assert!(tree.rename(&tree.root().join("a/b/file"), &tree.root().join("folder/file")).is_err());
        tree.rename(&tree.root().join("a/b/file"), &tree.root().join("c/d")).unwrap();
        assert_eq!(read(&tree, "c/d").unwrap(), "text");
        tree.remove(&tree.root().join("folder")).unwrap();
        assert!(place.path().join("secret").exists());
    }
}
