//! A folder that a command works in, and takes away at its end, also when something fails.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use crate::failure::Failure;

/// Whether it stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// For a look at what is in it.
    Yes,
    /// It is taken away.
    No,
}

/// The folder; this user's only.
#[derive(Debug)]
pub struct Folder {
    /// Where it is, past all links.
    pub path: PathBuf,
    /// Whether it stays.
    pub keep: Keep,
}

impl Folder {
    /// A new one in the folder for temporary files, called after `what`.
    pub fn make(what: &str, keep: Keep) -> Result<Self, Failure> {
        let base = std::env::temp_dir();
        let mut error = None;
        for n in 0..100 {
            let path = base.join(format!("bgagent-{what}-{}-{n}", std::process::id()));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    // Where the folder for temporary files is a link, the server's and git's words name the real one.
                    let path = path.canonicalize().unwrap_or(path);
                    return Ok(Self { path, keep });
                }
                Err(e) => error = Some(e),
            }
        }
        let why = error.map(|e| e.to_string()).unwrap_or_default();
        Err(Failure::new(format!("making a folder in {}: {why}", base.display()))
            .hint("Set TMPDIR to a folder that can be written."))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        match self.keep {
            Keep::Yes => {}
            Keep::No => {
                let _ = std::fs::remove_dir_all(&self.path);
            }
        }
    }
}
