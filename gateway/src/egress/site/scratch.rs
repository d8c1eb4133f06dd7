//! Folders for one question each, in a folder that the caller names. A process that is killed leaves its own behind: the
//! next one that holds the folder takes them away with [`clear`].

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Before the maker's process id.
const PREFIX: &str = "ask-";

/// A folder that goes away.
#[derive(Debug)]
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    /// A new one, this user's only; `root` is made when it is not there.
    pub(super) fn new(root: &Path) -> io::Result<Scratch> {
        let mut random = [0u8; 12];
        getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        let path = root.join(format!("{PREFIX}{}-{}", std::process::id(), hex::encode(random)));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now, because the tool that was ended still writes, is removed by `clear`.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Takes away what nobody uses: the folders of this process, which must not be asking, and of processes that are gone.
/// A command beside the server (`doctor`) keeps its own. Tells how many went.
///
/// # Errors
/// When `root` is there and cannot be read, or a folder in it cannot be removed.
pub fn clear(root: &Path) -> io::Result<usize> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e),
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok());
        let in_use = maker.is_some_and(|pid: u32| {
            pid != std::process::id() && Path::new("/proc").join(pid.to_string()).exists()
        });
        if in_use {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
        removed += 1;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_the_gone_are_cleared_and_of_others_that_run_are_not() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("tmp");
        assert_eq!(clear(&root).unwrap(), 0, "nothing was ever asked");
        drop(Scratch::new(&root).unwrap());
        assert_eq!(fs::read_dir(&root).unwrap().count(), 0, "an answered question leaves nothing");

        let ours = Scratch::new(&root).unwrap();
        fs::write(ours.0.join("left"), "x").unwrap();
        std::mem::forget(ours);
        let parent = nix::unistd::getppid();
        // No process has the greatest number: the kernel's own limit is 2^22.
        for name in [format!("ask-{parent}-aa"), "ask-2147483647-bb".into(), "else".into()] {
            fs::create_dir(root.join(name)).unwrap();
        }
        assert_eq!(clear(&root).unwrap(), 3);
        let left: Vec<_> = fs::read_dir(&root).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [format!("ask-{parent}-aa").as_str()]);
    }
}
