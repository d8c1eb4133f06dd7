//! What can be seen in the files alone: names that say nothing, `mod.rs`, files too long to read.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::place;

/// Names that only say "things that belong together for no reason".
const NAMES_THAT_SAY_NOTHING: &[&str] =
    &["common", "core", "helper", "helpers", "manager", "managers", "service", "services", "util", "utils"];

/// The length at which a file has to be split.
const LONGEST_FILE: usize = 800;

/// Every broken rule of the checkout as it stands; empty when all hold.
pub fn violations() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in rust_files()? {
        let text = fs::read_to_string(place::checkout().join(&file))
            .with_context(|| format!("reading {}", file.display()))?;
        found.extend(broken(&file, &text));
    }
    Ok(found)
}

/// Our Rust files, relative to the checkout: those in the folders that hold a crate of ours.
pub fn rust_files() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in entries(place::checkout())? {
        if entry.join("Cargo.toml").is_file() {
            collect(&entry, &mut files)?;
        }
    }
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in entries(folder)? {
        if entry.is_dir() && !entry.is_symlink() {
            if entry.file_name().is_some_and(|name| name != "target") {
                collect(&entry, files)?;
            }
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            files.push(entry.strip_prefix(place::checkout()).unwrap_or(&entry).to_path_buf());
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    let mut entries = read().with_context(|| format!("listing {}", folder.display()))?;
    entries.sort();
    Ok(entries)
}

fn broken(file: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let shown = file.display();
    if file.file_name().is_some_and(|name| name == "mod.rs") {
        found.push(format!("{shown}: no mod.rs; name the file after its module, beside the folder"));
    }
    for part in file.with_extension("").iter().filter_map(|part| part.to_str()) {
        if NAMES_THAT_SAY_NOTHING.contains(&part) {
            found.push(format!("{shown}: `{part}` says nothing; name it after what it is for"));
        }
    }
    for (number, line) in text.lines().enumerate() {
        if let Some(name) = inline_module(line).filter(|name| NAMES_THAT_SAY_NOTHING.contains(name)) {
            found.push(format!(
                "{shown}:{}: `mod {name}` says nothing; name it after what it is for",
                number + 1
            ));
        }
    }
    let lines = text.lines().count();
    if lines > LONGEST_FILE {
        found.push(format!("{shown}: {lines} lines; split it, {LONGEST_FILE} is the most"));
    }
    found
}

/// The name of a module whose body stands in this file; one in a file of its own is found by its path.
fn inline_module(line: &str) -> Option<&str> {
    let (before, rest) = line.trim().split_once("mod ")?;
    let (name, _) = rest.split_once('{')?;
    (before.is_empty() || before.starts_with("pub")).then(|| name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkout_keeps_to_its_layout() {
        assert!(
            rust_files().unwrap().contains(&PathBuf::from("xtask/src/layout.rs")),
            "looked in the wrong place"
        );
        assert_eq!(violations().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn each_rule_finds_who_breaks_it() {
        check("store/src/task.rs", "pub mod task_row {}", "");
        check(
            "store/src/mod.rs",
            "",
            "store/src/mod.rs: no mod.rs; name the file after its module, beside the folder",
        );
        check(
            "store/src/utils.rs",
            "",
            "store/src/utils.rs: `utils` says nothing; name it after what it is for",
        );
        check("core/src/lib.rs", "", "core/src/lib.rs: `core` says nothing; name it after what it is for");
        check(
            "store/src/task.rs",
            "//! x\n  pub(crate) mod helpers {",
            "store/src/task.rs:2: `mod helpers` says nothing; name it after what it is for",
        );
        check("store/src/task.rs", &"\n".repeat(800), "");
        check(
            "store/src/task.rs",
            &"\n".repeat(801),
            "store/src/task.rs: 801 lines; split it, 800 is the most",
        );
    }

    fn check(file: &str, text: &str, expected: &str) {
        assert_eq!(broken(Path::new(file), text).join("\n"), expected, "{file}");
    }
}
