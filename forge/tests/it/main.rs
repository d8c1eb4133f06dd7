//! Every forge against the conformance suite, and each against the trouble of its own kind.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod fake_github;
mod github;
mod hostile;
mod local;
mod myworld;
mod prism;

use std::path::Path;

/// Runs a shell script in a directory; gives what it printed.
fn sh(dir: &Path, script: &str) -> String {
    let ran = std::process::Command::new("sh").current_dir(dir).args(["-ec", script]).output().unwrap();
    assert!(ran.status.success(), "{script}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).trim().to_owned()
}

/// A repository with two commits on `main`.
fn repo_at(dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    sh(
        dir,
        "git init -q -b main . && git config user.name t && git config user.email t@t
         for i in 1 2; do echo $i > file; git add file; git commit -qm $i; done",
    );
}
