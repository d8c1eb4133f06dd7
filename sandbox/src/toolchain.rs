//! Which folders of the host hold the toolchains that the tools' `PATH` names, and are not the system's.
//!
//! Never a home folder itself, nor anything in it that is not known to hold programs alone.

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

/// Shown as they are, with the root of the file system.
pub(crate) const SYSTEM: &[&str] =
    &["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec", "opt", "nix/store", "gnu/store"];

/// Where programs live in a home folder, and the variable that names it when it is elsewhere.
const IN_HOME: &[(&str, &str)] = &[
    (".cargo/bin", ""),
    (".rustup", "RUSTUP_HOME"),
    (".pyenv", "PYENV_ROOT"),
    (".rbenv", "RBENV_ROOT"),
    (".nvm", "NVM_DIR"),
    (".fnm", "FNM_DIR"),
    (".local/share/fnm", ""),
    (".volta", "VOLTA_HOME"),
    (".asdf", "ASDF_DATA_DIR"),
    (".local/share/mise", "MISE_DATA_DIR"),
    (".sdkman/candidates", ""),
    (".jenv", "JENV_ROOT"),
    (".goenv", "GOENV_ROOT"),
    (".nodenv", "NODENV_ROOT"),
    (".dotnet", "DOTNET_ROOT"),
    (".ghcup", ""),
    (".deno/bin", ""),
    (".bun/bin", ""),
    (".juliaup", ""),
    ("miniconda3", ""),
    ("anaconda3", ""),
    ("miniforge3", ""),
    (".local/bin", ""),
    (".local/lib", ""),
    (".local/pipx", "PIPX_HOME"),
    (".local/share/pipx", ""),
    (".local/share/uv/python", ""),
    (".local/share/uv/tools", ""),
    ("go/bin", ""),
    ("sdk", ""),
];
/// Variables that name a toolchain wherever it is.
const ROOTS: &[&str] = &["GOROOT", "JAVA_HOME", "ANDROID_HOME", "GRADLE_HOME", "M2_HOME", "SWIFT_HOME"];
/// Variables that a toolchain in a home folder needs to be found with the box's own home: its folder, and what is in it
/// when there is more than what a program left that was merely run.
const TOLD: &[(&str, &str, &str)] = &[
    ("RUSTUP_HOME", ".rustup", "toolchains"),
    ("PYENV_ROOT", ".pyenv", ""),
    ("RBENV_ROOT", ".rbenv", ""),
    ("NVM_DIR", ".nvm", ""),
    ("VOLTA_HOME", ".volta", ""),
    ("ASDF_DATA_DIR", ".asdf", ""),
    ("DOTNET_ROOT", ".dotnet", ""),
];

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Toolchains {
    /// Shown read-only at the same path.
    pub(crate) folders: Vec<PathBuf>,
    /// Variables that the tools need and do not have.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Of `PATH`, what the box can see.
    pub(crate) path: OsString,
}

/// Looks at `PATH` and the variables of toolchain managers; `exists` asks the host. Nothing that holds `own`, a folder of
/// this box, is shown: it may hold the server's state too. What is `hidden` of the system's folders is not shown with them.
pub(crate) fn find(
    own: &Path,
    home: Option<&Path>,
    hidden: &[PathBuf],
    var: &dyn Fn(&str) -> Option<OsString>,
    exists: &dyn Fn(&Path) -> bool,
) -> Toolchains {
    let of_system = |path: &Path| of_system(path) && !hidden.iter().any(|folder| path.starts_with(folder));
    let mut wanted: Vec<PathBuf> = Vec::new();
    let mut env = Vec::new();
    let path = var("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let on_path: Vec<PathBuf> = std::env::split_paths(&path).filter(|p| plain(p)).collect();
    let homes = homes(home, &on_path);
    for (folder, named_by) in IN_HOME {
        let named = (!named_by.is_empty()).then(|| var(named_by)).flatten().map(PathBuf::from);
        match named {
            Some(named) => wanted.push(named),
            None => wanted.extend(homes.iter().map(|home| home.join(folder))),
        }
    }
    if let Some(cargo) = var("CARGO_HOME") {
        wanted.push(Path::new(&cargo).join("bin"));
    }
    wanted.extend(ROOTS.iter().filter_map(|name| var(name)).map(PathBuf::from));
    for entry in &on_path {
        // A toolchain beside no home is shown whole: its `lib` belongs to its `bin`.
        let whole = entry.file_name() == Some(OsStr::new("bin"))
            && !below_a_home(entry, home)
            && entry.parent().is_some_and(|parent| !own.starts_with(parent));
        wanted.push(if whole {
            entry.parent().map(Path::to_owned).unwrap_or_default()
        } else {
            entry.clone()
        });
    }
    let mut folders: Vec<PathBuf> = Vec::new();
    wanted.retain(|f| plain(f) && !of_system(f) && !is_a_home(f, home) && !own.starts_with(f) && exists(f));
    wanted.sort();
    for folder in wanted {
        if !folders.iter().any(|shown| folder.starts_with(shown)) {
            folders.push(folder);
        }
    }
    let seen = |p: &Path| of_system(p) || folders.iter().any(|shown| p.starts_with(shown));
    let mut path: Vec<PathBuf> = Vec::new();
    for entry in on_path {
        if seen(&entry) && !path.contains(&entry) {
            path.push(entry);
        }
    }
    let path = std::env::join_paths(path).unwrap_or_default();
    for (name, folder, inside) in TOLD {
        let named = var(name).map(PathBuf::from);
        let mut places = named.into_iter().chain(homes.iter().map(|home| home.join(folder)));
        if let Some(at) = places.find(|at| seen(at) && exists(&at.join(inside))) {
            env.push((OsString::from(name), at.into_os_string()));
        }
    }
    Toolchains { folders, env, path }
}

/// The user's home, and every folder that `PATH` shows to hold toolchains as a home does: a service may run with another
/// home than the one its programs were installed in.
fn homes(home: Option<&Path>, on_path: &[PathBuf]) -> Vec<PathBuf> {
    let mut homes: Vec<PathBuf> = home.map(Path::to_owned).into_iter().collect();
    for entry in on_path {
        let holder = entry.ancestors().find(|above| {
            IN_HOME.iter().any(|(folder, _)| folder.starts_with('.') && entry.starts_with(above.join(folder)))
        });
        if let Some(holder) = holder.filter(|holder| !homes.iter().any(|home| home == holder)) {
            homes.push(holder.to_owned());
        }
    }
    homes
}

/// Absolute, without `..`, and not the root.
fn plain(path: &Path) -> bool {
    path.is_absolute()
        && path.components().count() > 1
        && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)))
}

pub(crate) fn of_system(path: &Path) -> bool {
    SYSTEM.iter().any(|s| path.strip_prefix("/").is_ok_and(|p| p.starts_with(s)))
}

/// Whether showing `path` would show a home folder, or what holds them.
fn is_a_home(path: &Path, home: Option<&Path>) -> bool {
    let depth = path.components().count();
    home.is_some_and(|home| home.starts_with(path))
        || path == Path::new("/root")
        || path.starts_with("/home") && depth <= 3
        || path.starts_with("/Users") && depth <= 3
        || ["/etc", "/proc", "/sys", "/dev", "/run", "/var", "/tmp", "/boot"]
            .iter()
            .any(|p| path == Path::new(p))
}

fn below_a_home(path: &Path, home: Option<&Path>) -> bool {
    home.is_some_and(|home| path.starts_with(home))
        || path.starts_with("/root")
        || path.starts_with("/home") && !path.starts_with("/home/linuxbrew")
        || path.starts_with("/Users")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(home: &str, env: &[(&str, &str)], has: &[&str], shown: &str, path: &str) {
        let var = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
        let exists = |p: &Path| has.iter().any(|h| Path::new(h).starts_with(p));
        let hidden = [PathBuf::from("/opt/bgagent")];
        let own = Path::new("/srv/state/sessions/x");
        let found = find(own, Some(Path::new(home)), &hidden, &var, &exists);
        let folders: Vec<_> = found.folders.iter().map(|f| f.display().to_string()).collect();
        assert_eq!(folders.join(" "), shown);
        assert_eq!(found.path.to_str().unwrap(), path);
    }

    #[test]
    fn programs_of_a_home_without_the_home() {
        check(
            "/home/ada",
            &[("PATH", "/home/ada/.cargo/bin:/home/ada/secret/bin:/home/ada:/usr/bin:/gone/bin:rel:/bin")],
            &[
                "/home/ada/.cargo/bin/cargo",
                "/home/ada/.cargo/credentials.toml",
                "/home/ada/.rustup/toolchains",
                "/home/ada/.ssh/id",
                "/home/ada/secret/bin/x",
                "/usr/bin/true",
            ],
            "/home/ada/.cargo/bin /home/ada/.rustup /home/ada/secret/bin",
            "/home/ada/.cargo/bin:/home/ada/secret/bin:/usr/bin:/bin",
        );
    }

    #[test]
    fn a_toolchain_elsewhere_is_shown_whole() {
        check(
            "/root",
            &[("PATH", "/srv/go/bin:/opt/x/bin:/bin"), ("CARGO_HOME", "/srv/cargo"), ("JAVA_HOME", "/root")],
            &[
                "/srv/go/bin/go",
                "/opt/x/bin/y",
                "/srv/cargo/bin/cargo",
                "/root/.pyenv/shims",
                "/root/.aws/credentials",
            ],
            "/root/.pyenv /srv/cargo/bin /srv/go",
            "/srv/go/bin:/opt/x/bin:/bin",
        );
    }

    #[test]
    fn programs_installed_in_another_home_are_found_whole() {
        check(
            "/var/lib/service",
            &[("PATH", "/root/.pyenv/shims:/root/.cargo/bin:/bin")],
            &[
                "/root/.pyenv/shims/python3",
                "/root/.cargo/bin/cargo",
                "/root/.rustup/toolchains",
                "/root/.ssh/id",
            ],
            "/root/.cargo/bin /root/.pyenv /root/.rustup",
            "/root/.pyenv/shims:/root/.cargo/bin:/bin",
        );
    }

    #[test]
    fn an_empty_folder_of_the_home_hides_no_toolchain_of_another() {
        let has =
            ["/srv/me/.rustup/settings.toml", "/root/.rustup/toolchains/stable", "/root/.cargo/bin/cargo"];
        let exists = |p: &Path| has.iter().any(|h| Path::new(h).starts_with(p));
        let var = |name: &str| (name == "PATH").then(|| "/root/.cargo/bin:/bin".into());
        let found = find(Path::new("/srv/state/sessions/x"), Some(Path::new("/srv/me")), &[], &var, &exists);
        assert_eq!(found.env, [("RUSTUP_HOME".into(), "/root/.rustup".into())]);
    }

    #[test]
    fn what_holds_the_state_folder_is_not_shown() {
        check(
            "/home/ada",
            &[("PATH", "/srv/bin:/srv/state/bin:/bin"), ("GOROOT", "/srv/state")],
            &["/srv/bin/x", "/srv/state/bin/y", "/srv/state/owner-key"],
            "/srv/bin /srv/state/bin",
            "/srv/bin:/srv/state/bin:/bin",
        );
    }

    #[test]
    fn programs_of_a_home_below_the_systems_are_shown_without_it() {
        check(
            "/opt/bgagent",
            &[("PATH", "/opt/bgagent/bin:/opt/bgagent/.cargo/bin:/opt/x/bin:/bin")],
            &["/opt/bgagent/bin/x", "/opt/bgagent/.cargo/bin/cargo", "/opt/bgagent/.ssh/id"],
            "/opt/bgagent/.cargo/bin /opt/bgagent/bin",
            "/opt/bgagent/bin:/opt/bgagent/.cargo/bin:/opt/x/bin:/bin",
        );
    }

    #[test]
    fn no_variable_makes_a_home_visible() {
        for folder in ["/", "/home", "/home/ada", "/root", "/etc", "/var", "/home/ada/.."] {
            check(
                "/home/ada",
                &[("GOROOT", folder), ("RUSTUP_HOME", folder), ("PATH", folder)],
                &["/home/ada/x", "/root/x", "/etc/shadow", "/var/x"],
                "",
                "",
            );
        }
    }
}
