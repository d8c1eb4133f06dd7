//! Three real projects that nobody of ours wrote, as git repositories the tests hand to the agent.
//!
//! | folder   | project         | what it is good for                                              |
//! |----------|-----------------|------------------------------------------------------------------|
//! | `rust`   | strsim          | small, no dependencies, builds offline                           |
//! | `python` | Django          | almost 7,000 files                                               |
//! | `node`   | process-warning | one test fails at baseline: a real bug of the published version  |
//!
//! Each starts with one commit that holds the tree as published. What we add stands in a commit of its own whose
//! message says so: Django's two test dependencies, and the failing test. Dates and identity are fixed, so the commit
//! ids are the same on every machine. What the agent does with them: `testkit/projects/<name>.json`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{place, step};

const STRSIM: &str = "0.11.1";
const DJANGO: &str = "5.2.8";
const DJANGO_TESTS_NEED: [&str; 2] = ["asgiref==3.10.0", "sqlparse==0.5.3"];
const PROCESS_WARNING: &str = "5.1.1";
const FAILING_TEST: &str = include_str!("../../../testkit/projects/falsy-values.test.js");

/// This file and what it adds to the trees.
pub fn recipe() -> String {
    [include_str!("projects.rs"), FAILING_TEST].concat()
}

/// Makes `folder/{rust,python,node}`; each appears complete or not at all.
pub fn make(folder: &Path) -> Result<()> {
    let scratch = TempDir::with_prefix_in(".making-", folder).context("making a scratch folder")?;
    for (name, fetch) in [("rust", rust as Fetch), ("python", python), ("node", node)] {
        let dir = scratch.path().join(name);
        fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
        let tree = fetch(&dir).with_context(|| format!("making the {name} project"))?;
        let place = folder.join(name);
        if place.exists() {
            fs::remove_dir_all(&place).with_context(|| format!("removing the old {}", place.display()))?;
        }
        fs::rename(&tree, &place).with_context(|| format!("moving {name} to {}", place.display()))?;
    }
    Ok(())
}

/// Fetches a project below a scratch folder and answers where its repository is.
type Fetch = fn(&Path) -> Result<PathBuf>;

/// Cargo fetches sources only as a dependency of something, so a package that depends on it is made first.
fn rust(scratch: &Path) -> Result<PathBuf> {
    let asking = scratch.join("asking");
    fs::create_dir_all(asking.join("src"))?;
    fs::write(asking.join("src/lib.rs"), "")?;
    let manifest = asking.join("Cargo.toml");
    fs::write(
        &manifest,
        format!("[package]\nname = \"asking\"\n\n[dependencies]\nstrsim = \"={STRSIM}\"\n\n[workspace]\n"),
    )?;
    step::run(place::cargo().args(["fetch", "--quiet", "--manifest-path"]).arg(&manifest))?;
    let metadata = step::read(
        place::cargo()
            .args(["metadata", "--format-version", "1", "--offline", "--manifest-path"])
            .arg(&manifest),
    )?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).context("reading cargo's metadata")?;
    let fetched = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "strsim")
        .and_then(|package| Path::new(package["manifest_path"].as_str()?).parent())
        .context("finding strsim in cargo's metadata")?;

    let tree = scratch.join("strsim");
    step::run(Command::new("cp").arg("-R").arg(fetched).arg(&tree))?;
    fs::rename(tree.join("Cargo.toml.orig"), tree.join("Cargo.toml"))
        .context("restoring Cargo.toml as written")?;
    for added_by_cargo in [".cargo-ok", ".cargo_vcs_info.json", "Cargo.lock"] {
        let file = tree.join(added_by_cargo);
        if file.exists() {
            fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
        }
    }
    git(&tree, &["init", "--quiet", "--initial-branch", "main"])?;
    commit(&tree, &format!("strsim {STRSIM}, as published"))?;
    Ok(tree)
}

/// The source archive holds the tests; what they import besides Django is put beside it, for a box without a network.
fn python(scratch: &Path) -> Result<PathBuf> {
    let venv = scratch.join("venv");
    step::run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    let pip = || {
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args(["-m", "pip", "--quiet"]);
        pip
    };
    let wanted = format!("django=={DJANGO}");
    step::run(
        pip().args(["download", "--no-binary", "django", "--no-deps", "--dest"]).arg(scratch).arg(&wanted),
    )?;
    let tree = scratch.join("django");
    unpack(&scratch.join(format!("django-{DJANGO}.tar.gz")), &tree)?;
    git(&tree, &["init", "--quiet", "--initial-branch", "main"])?;
    commit(&tree, &format!("Django {DJANGO}, as published"))?;

    let vendor = tree.join("vendor");
    step::run(
        pip().args(["install", "--no-deps", "--no-compile", "--target"]).arg(&vendor).args(DJANGO_TESTS_NEED),
    )?;
    step::run(Command::new("find").arg(&vendor).args([
        "(",
        "-name",
        "bin",
        "-o",
        "-name",
        "RECORD",
        "-o",
        "-name",
        "INSTALLER",
        "-o",
        "-name",
        "REQUESTED",
        ")",
        "-prune",
        "-exec",
        "rm",
        "-r",
        "{}",
        "+",
    ]))?;
    commit(
        &tree,
        "Add what the tests import, for a machine without a network\n\n\
         Not part of Django: the packages that tests/requirements/py3.txt asks for and that every\n\
         test needs. Run with PYTHONPATH=$PWD:$PWD/vendor python3 tests/runtests.py --settings=test_sqlite",
    )?;
    Ok(tree)
}

/// The package holds its tests, which need nothing but Node; the failing one is ours and says so.
fn node(scratch: &Path) -> Result<PathBuf> {
    let wanted = format!("process-warning@{PROCESS_WARNING}");
    step::run(Command::new("npm").args(["pack", "--silent", &wanted]).current_dir(scratch))?;
    let tree = scratch.join("process-warning");
    unpack(&scratch.join(format!("process-warning-{PROCESS_WARNING}.tgz")), &tree)?;
    git(&tree, &["init", "--quiet", "--initial-branch", "main"])?;
    commit(&tree, &format!("process-warning {PROCESS_WARNING}, as published"))?;

    fs::write(tree.join("test/falsy-values.test.js"), FAILING_TEST).context("adding the failing test")?;
    commit(
        &tree,
        "Show that values like 0 are lost (this test fails)\n\n\
         Not part of process-warning: added when this repository was made. The bug is real: the\n\
         published version drops a value that is 0, '' or false, and every value after it.",
    )?;
    Ok(tree)
}

fn unpack(archive: &Path, tree: &Path) -> Result<()> {
    fs::create_dir(tree).with_context(|| format!("making {}", tree.display()))?;
    step::run(
        Command::new("tar")
            .args(["--extract", "--gzip", "--strip-components", "1", "--no-same-owner", "--file"])
            .arg(archive)
            .arg("--directory")
            .arg(tree),
    )
}

/// Commits the whole tree, ignored files too: what the archive holds is what was published.
fn commit(tree: &Path, message: &str) -> Result<()> {
    git(tree, &["add", "--all", "--force"])?;
    git(tree, &["commit", "--quiet", "--message", message])
}

/// Git with nothing of the machine in it: no configuration, and one identity and date for all.
fn git(tree: &Path, arguments: &[&str]) -> Result<()> {
    let mut git = Command::new("git");
    git.args(["-c", "core.autocrlf=false", "-c", "gc.auto=0", "-c", "maintenance.auto=false"])
        .args(arguments)
        .current_dir(tree)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    for who in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{who}_NAME"), "Test Project")
            .env(format!("GIT_{who}_EMAIL"), "project@example.invalid")
            .env(format!("GIT_{who}_DATE"), "2026-01-01T00:00:00Z");
    }
    step::read(&mut git).map(drop)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    /// The tools that a transcript may ask for.
    const TOOLS: [&str; 8] = ["Bash", "Read", "Edit", "MultiEdit", "Write", "Glob", "Grep", "TodoWrite"];

    #[test]
    fn every_transcript_works_until_its_last_turn_which_sums_up() {
        check("rust", include_str!("../../../testkit/projects/rust.json"));
        check("python", include_str!("../../../testkit/projects/python.json"));
        check("node", include_str!("../../../testkit/projects/node.json"));
    }

    fn check(name: &str, text: &str) {
        let transcript: Value = serde_json::from_str(text).unwrap();
        assert_eq!(transcript["version"], 1, "{name}");
        let turns = transcript["turns"].as_array().unwrap();
        for (number, turn) in turns.iter().enumerate() {
            let blocks = turn["content"].as_array().unwrap();
            let asked: Vec<_> = blocks.iter().filter_map(|block| block["name"].as_str()).collect();
            assert!(asked.iter().all(|tool| TOOLS.contains(tool)), "{name}, turn {number}: {asked:?}");
            assert_eq!(asked.is_empty(), number + 1 == turns.len(), "{name}, turn {number}: {asked:?}");
        }
        let title = turns[turns.len() - 1]["content"][0]["text"].as_str().unwrap().lines().next().unwrap();
        assert!(title.len() <= 72 && !title.is_empty(), "{name}: `{title}` is no title for a pull request");
    }
}
