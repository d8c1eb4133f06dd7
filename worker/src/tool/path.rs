//! Where a path of the model really leads, and whether the file tools may go there.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use super::ToolError;

/// Resolves `asked` (relative to `root`, or absolute) through `..` and symbolic links. The file need not exist, its
/// nearest existing folder must lie in `root`, which is canonical already.
pub fn resolve(root: &Path, asked: &str) -> Result<PathBuf, ToolError> {
    if asked.is_empty() || asked.contains('\0') {
        return Err(ToolError::new("The path is empty or holds a NUL: name a file of the work tree."));
    }
    let mut existing = root.join(asked);
    let mut rest: Vec<OsString> = Vec::new();
    let real = loop {
        match existing.canonicalize() {
            Ok(real) => break real,
            Err(error) if error.kind() == ErrorKind::NotFound => (),
            Err(error) => return Err(ToolError::new(format!("{asked}: {error}."))),
        }
        if existing.symlink_metadata().is_ok_and(|meta| meta.is_symlink()) {
            return Err(ToolError::new(format!("{asked}: goes through a symbolic link that leads nowhere.")));
        }
        match existing.components().next_back() {
            Some(Component::Normal(name)) => rest.push(name.to_owned()),
            Some(Component::ParentDir | Component::CurDir | Component::RootDir | Component::Prefix(_))
            | None => {
                return Err(ToolError::new(format!("{asked}: no such folder.")));
            }
        }
        existing.pop();
    };
    let mut real = real;
    real.extend(rest.iter().rev());
    if !real.starts_with(root) {
        return Err(ToolError::new(format!(
            "{asked}: outside the work tree. File tools stay in {}; use paths relative to it.",
            root.display()
        )));
    }
    Ok(real)
}

/// As [`resolve`], for writing: the repository's own data is not a file of the work.
pub fn resolve_writable(root: &Path, asked: &str) -> Result<PathBuf, ToolError> {
    let real = resolve(root, asked)?;
    let inside = real.strip_prefix(root).unwrap_or(&real);
    if inside.components().any(|part| part.as_os_str().eq_ignore_ascii_case(".git")) {
        return Err(ToolError::new(format!(
            "{asked}: files of git itself are not edited by hand; use git commands."
        )));
    }
    if real == root || real.is_dir() {
        return Err(ToolError::new(format!("{asked}: is a folder, name a file.")));
    }
    Ok(real)
}

/// The path as shown to the model: relative to the work tree.
pub fn shown(root: &Path, path: &Path) -> String {
    match path.strip_prefix(root) {
        Ok(inside) if inside.as_os_str().is_empty() => ".".into(),
        Ok(inside) => inside.display().to_string(),
        Err(_) => path.display().to_string(),
    }
}
