//! What `--repo` means: a directory of this machine, or `OWNER/NAME`.

use std::path::{Path, PathBuf};

use domain::RepoRef;

use crate::clean;
use crate::failure::Failure;

/// The repository as the server is told: the top of the local one, absolute, or `OWNER/NAME`.
pub fn resolve(text: &str, home: Option<&Path>) -> Result<String, Failure> {
    if let Ok(RepoRef::GitHub { owner, name }) = text.parse::<RepoRef>()
        && !text.starts_with(['.', '~'])
        && !Path::new(text).exists()
    {
        return Ok(format!("{owner}/{name}"));
    }
    let shown = clean::line(text);
    let expanded = match (text.strip_prefix('~'), home) {
        (Some(""), Some(home)) => home.to_path_buf(),
        (Some(rest), Some(home)) if rest.starts_with('/') => home.join(&rest[1..]),
        _ => PathBuf::from(text.strip_prefix("file://").unwrap_or(text)),
    };
    let path = expanded.canonicalize().map_err(|e| {
        Failure::usage(format!("the repository {shown} cannot be found: {e}"))
            .hint("Give the folder of a git repository, or OWNER/NAME of one on GitHub.")
    })?;
    let top = path.ancestors().find(|dir| dir.join(".git").exists() || is_bare(dir));
    let Some(top) = top else {
        return Err(Failure::usage(format!(
            "{} is not in a git repository",
            clean::line(&path.to_string_lossy())
        ))
        .hint("Run `git init` there and make a first commit, or give another folder with --repo."));
    };
    top.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::usage(format!("the path {} is not UTF-8", clean::line(&top.to_string_lossy())))
            .hint("Rename the folder, or work in a clone of it.")
    })
}

fn is_bare(dir: &Path) -> bool {
    dir.join("HEAD").is_file() && dir.join("objects").is_dir() && dir.join("refs").is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_resolved_to_the_top_and_names_are_kept() {
        let home = tempfile::tempdir().unwrap();
        let top = home.path().canonicalize().unwrap().join("work/cat");
        std::fs::create_dir_all(top.join("src/deep")).unwrap();
        std::fs::create_dir(top.join(".git")).unwrap();
        let text = |p: PathBuf| p.to_str().unwrap().to_owned();
        let want = text(top.clone());
        assert_eq!(resolve(&text(top.join("src/deep")), None).unwrap(), want);
        assert_eq!(resolve("~/work/cat/src", Some(home.path())).unwrap(), want);
        assert_eq!(resolve(&format!("file://{want}"), None).unwrap(), want);
        assert_eq!(resolve("octo/no-such-folder", None).unwrap(), "octo/no-such-folder");
    }

    #[test]
    fn what_is_no_repository_is_told_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let failure = resolve(dir.path().to_str().unwrap(), None).unwrap_err();
        assert!(failure.hint.unwrap().contains("git init"));
        assert!(resolve("./no/such", None).unwrap_err().message.contains("cannot be found"));
        assert!(resolve("nothing", None).is_err());
    }
}
