//! What lies within a folder that is shown and must not be seen: settings of package managers beside their programs, and
//! the server's own folders where they are below the system's.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::run::{BoxError, Doing};
use crate::toolchain::{SYSTEM, Toolchains, of_system};

/// Where managers of toolchains keep what they install, below their folder. `*` is any folder.
const INSTALLS: &[&str] = &[
    "",
    "*",
    "versions/*",
    "versions/node/*",
    "node-versions/*/installation",
    "installs/node/*",
    "installs/nodejs/*",
    "installs/python/*",
    "tools/image/node/*",
    "tools/image/npm/*",
    "gradle/*",
    "envs/*",
    "venvs/*",
];
/// Settings that may hold tokens, and folders of them, below an installation.
const SETTINGS: &[&str] = &[
    "etc/npmrc",
    "lib/node_modules/npm/npmrc",
    "npmrc",
    ".npmrc",
    "pip.conf",
    ".pypirc",
    ".condarc",
    "condarc",
    "condarc.d",
    "etc/gitconfig",
    ".git-credentials",
    ".netrc",
    ".env",
    "credentials",
    "credentials.toml",
    "credentials.json",
    "credentials.yaml",
    "credentials.yml",
    "gradle.properties",
    ".bundle",
    "bundle/config",
    // Private keys of .NET.
    "corefx",
    // Of pipx: what it was told to install, and from where.
    "logs",
];
/// No home of a user alone, although some system users have them for one.
const PROGRAMS: &[&str] = &[
    "/usr/bin",
    "/usr/sbin",
    "/usr/games",
    "/usr/include",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/share",
    "/usr/local/bin",
    "/usr/local/lib",
    "/usr/local/sbin",
    "/usr/local/share",
];

/// The settings that the box would show, by their paths in it. No part of such a path is a link.
pub(crate) fn settings(toolchains: &Toolchains) -> BTreeSet<PathBuf> {
    let mut installs: BTreeSet<PathBuf> = ["/usr", "/usr/local"].map(PathBuf::from).into();
    let on_path = std::env::split_paths(&toolchains.path);
    let holders = on_path.filter(|entry| entry.file_name() == Some(OsStr::new("bin")));
    installs.extend(holders.filter_map(|entry| entry.parent().map(Path::to_owned)));
    for folder in folders_in(Path::new("/opt")).iter().chain(&toolchains.folders) {
        installs.extend(INSTALLS.iter().flat_map(|pattern| matching(folder, pattern)));
    }
    let named = installs.iter().flat_map(|install| SETTINGS.iter().map(|name| install.join(name)));
    named.flat_map(|path| shown_at(&path, &toolchains.folders)).collect()
}

/// Where the box shows this file of the host.
fn shown_at(path: &Path, folders: &[PathBuf]) -> Vec<PathBuf> {
    // A quick look, since most are not there.
    let there = path.symlink_metadata().is_ok();
    let Some(real) = there.then(|| path.canonicalize().ok()).flatten() else { return Vec::new() };
    let below = |folder: &PathBuf| {
        let below = real.strip_prefix(folder.canonicalize().ok()?).ok()?;
        (below != Path::new("")).then(|| folder.join(below))
    };
    let mut places: Vec<PathBuf> = folders.iter().filter_map(below).collect();
    if of_system(&real) {
        places.push(real);
    }
    places
}

/// The folders below `top` that a pattern names.
fn matching(top: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![top.to_owned()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        found = match part {
            "*" => found.iter().flat_map(|folder| folders_in(folder)).collect(),
            name => found.iter().map(|folder| folder.join(name)).collect(),
        };
    }
    found
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// The server's own folders that would be shown with the system's: its state, and the home of its user.
pub(crate) fn hidden(state: Option<&Path>, home: Option<&Path>) -> Result<Vec<PathBuf>, BoxError> {
    let within = |path: &Path| path.canonicalize().ok().filter(|real| of_system(real));
    let state = state.and_then(within);
    if let Some(state) = state.as_ref().filter(|state| holds_programs(state)) {
        let words = "boxes are shown the programs in it; set `state_dir` to a folder of its own";
        return Err(io::Error::other(words)).doing(|| format!("hiding the state folder {}", state.display()));
    }
    let home = home.and_then(within).filter(|home| !holds_programs(home));
    let all: BTreeSet<PathBuf> = state.into_iter().chain(home).collect();
    let outermost = |path: &&PathBuf| !path.ancestors().skip(1).any(|above| all.contains(above));
    Ok(all.iter().filter(outermost).cloned().collect())
}

fn holds_programs(path: &Path) -> bool {
    let system = SYSTEM.iter().map(|name| Path::new("/").join(name));
    system.chain(PROGRAMS.iter().map(PathBuf::from)).any(|programs| programs.starts_with(path))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn put(top: &Path, names: &[&str]) {
        for name in names {
            let path = top.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "token").unwrap();
        }
    }

    fn covered(top: &Path, folders: &[&str], path: &str) -> Vec<String> {
        let folders = folders.iter().map(|folder| top.join(folder)).collect();
        let path = if path.is_empty() { OsString::new() } else { top.join(path).into() };
        let all = settings(&Toolchains { folders, env: Vec::new(), path });
        let below = all.iter().filter_map(|path| path.strip_prefix(top).ok());
        below.map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn settings_beside_programs_are_found_and_nothing_else() {
        let top = tempfile::tempdir().unwrap();
        let settings = [
            ".dotnet/corefx/key.pfx",
            ".nvm/versions/node/v20/etc/npmrc",
            ".pyenv/versions/3.12/pip.conf",
            "miniconda3/.condarc",
            "miniconda3/envs/science/pip.conf",
            "uv/python/cpython-3.12/pip.conf",
        ];
        put(top.path(), &settings);
        put(top.path(), &["miniconda3/lib/pip.conf.py", "miniconda3/bin/npmrc2", ".ssh/credentials"]);
        let shown = [".dotnet", ".nvm", ".pyenv", "miniconda3", "uv/python"];
        let mut expected = settings.map(str::to_owned).to_vec();
        expected[0] = ".dotnet/corefx".into();
        assert_eq!(covered(top.path(), &shown, ""), expected);
    }

    #[test]
    fn a_link_is_covered_where_it_leads_when_that_is_shown() {
        let top = tempfile::tempdir().unwrap();
        put(top.path(), &["data/versions/3.12/envs/science/pip.conf", "secret/pip.conf"]);
        let link = |to: &str, at: &str| std::os::unix::fs::symlink(top.path().join(to), top.path().join(at));
        link("data", ".pyenv").unwrap();
        link("data/versions/3.12/envs/science", "data/versions/science").unwrap();
        link("secret", "data/versions/other").unwrap();
        assert_eq!(covered(top.path(), &[".pyenv"], ""), [".pyenv/versions/3.12/envs/science/pip.conf"]);
    }

    #[test]
    fn what_is_beside_a_folder_of_programs_counts_only_when_it_is_shown() {
        let top = tempfile::tempdir().unwrap();
        put(top.path(), &["node/bin/node", "node/etc/npmrc"]);
        assert_eq!(covered(top.path(), &["node"], "node/bin"), ["node/etc/npmrc"]);
        assert!(covered(top.path(), &["node/bin"], "node/bin").is_empty());
    }

    #[test]
    fn folders_of_the_server_outside_the_systems_need_no_hiding() {
        let top = tempfile::tempdir().unwrap();
        assert_eq!(hidden(Some(top.path()), Some(Path::new("/usr/bin"))).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn those_within_are_hidden_with_the_outermost() {
        // Folders that git brings.
        let home = Path::new("/usr/share/git-core");
        assert_eq!(hidden(Some(&home.join("templates")), Some(home)).unwrap(), [home]);
    }

    #[test]
    fn a_state_folder_that_holds_programs_is_refused() {
        let refused = hidden(Some(Path::new("/usr/bin/../lib")), None).unwrap_err();
        assert!(refused.source.to_string().contains("set `state_dir`"), "{refused:?}");
    }
}
