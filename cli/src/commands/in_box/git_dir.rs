//! A repository of this machine, as far as a box needs to know it.
//!
//! Read without git: a repository that somebody hands us may be hostile, and two files say it all.

use std::path::{Path, PathBuf};

use crate::clean;
use crate::failure::Failure;

/// Where a repository keeps its objects, and what it has checked out.
#[derive(Debug)]
pub struct GitDir {
    /// Its object store.
    pub objects: PathBuf,
    /// The commit of HEAD.
    pub head: String,
}

impl GitDir {
    /// The repository at `dir`, bare or with a work tree.
    pub fn find(dir: &Path) -> Result<GitDir, Failure> {
        let told = || clean::line(&dir.display().to_string());
        let none = || {
            Failure::usage(format!("{} is not a git repository with a commit", told()))
                .hint("Name the top folder of a repository's work tree, or a bare repository.")
        };
        let git = [dir.join(".git"), dir.to_owned()].into_iter().find(|git| git.join("objects").is_dir());
        let git = git.ok_or_else(none)?;
        if git.join("objects/info/alternates").exists() {
            return Err(Failure::usage(format!("{} borrows objects from another repository", told()))
                .hint("Name that repository, or make this one whole: git repack -ad && rm .git/objects/info/alternates"));
        }
        let head = head(&git).ok_or_else(none)?;
        let objects = git.join("objects").canonicalize();
        let objects = objects.map_err(|e| Failure::new(format!("finding the objects of {}: {e}", told())))?;
        Ok(GitDir { objects, head })
    }
}

/// The commit of HEAD: its own, its branch's file, or its branch's line in `packed-refs`.
fn head(git: &Path) -> Option<String> {
    let text = std::fs::read_to_string(git.join("HEAD")).ok()?;
    let Some(name) = text.trim().strip_prefix("ref: ") else { return hash(&text) };
    if !name.starts_with("refs/") || name.split('/').any(|part| part == "..") {
        return None;
    }
    if let Ok(text) = std::fs::read_to_string(git.join(name)) {
        return hash(&text);
    }
    let packed = std::fs::read_to_string(git.join("packed-refs")).ok()?;
    packed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(_, n)| *n == name)
        .and_then(|(h, _)| hash(h))
}

fn hash(text: &str) -> Option<String> {
    let text = text.trim();
    let whole = [40, 64].contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    whole.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_is_found_where_git_keeps_it_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = dir.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        let (one, two) = ("1".repeat(40), "2".repeat(64));
        write(".git/objects/x", "");
        write(".git/HEAD", "ref: refs/heads/main\n");
        assert!(GitDir::find(dir.path()).is_err(), "no commit yet");
        write(".git/packed-refs", &format!("# pack-refs\n{one} refs/heads/main\n"));
        assert_eq!(GitDir::find(dir.path()).unwrap().head, one);
        write(".git/refs/heads/main", &format!("{two}\n"));
        assert_eq!(GitDir::find(dir.path()).unwrap().head, two);
        write(".git/HEAD", "ref: refs/../../secret\n");
        write("secret", &one);
        assert!(GitDir::find(dir.path()).is_err());
        write(".git/HEAD", "-x --upload-pack=evil\n");
        assert!(GitDir::find(dir.path()).is_err());
    }
}
