//! `[push]`: what a push may bring.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::Deserialize;

use super::rule;

/// `[push]`, of a repository or of all.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Paths that a box may not change.
    pub protected: Globs,
    /// Whether it may all the same.
    pub allow_protected: bool,
    /// Whether submodules and `.gitmodules` may be changed.
    pub allow_submodules: bool,
    /// Whether symbolic links may point outside the repository.
    pub allow_outside_links: bool,
    /// Whether what was added is searched for secrets.
    pub secret_scan: bool,
    /// Paths whose secrets are none: fixtures, examples.
    pub allow_secrets: Globs,
    /// MiB of one file.
    pub max_file_mib: u64,
    /// Files that may differ from the base.
    pub max_files: usize,
    /// MiB of one push, packed.
    pub max_mib: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        let protected = [".github/workflows/**", "CODEOWNERS", ".github/CODEOWNERS", "docs/CODEOWNERS"];
        Settings {
            protected: Globs::try_from(protected.map(str::to_owned).to_vec()).unwrap_or_default(),
            allow_protected: false,
            allow_submodules: false,
            allow_outside_links: false,
            secret_scan: true,
            allow_secrets: Globs::default(),
            max_file_mib: 100,
            max_files: 5_000,
            max_mib: 512,
        }
    }
}

/// Paths, as patterns: `*` within a folder, `**` across folders. Upper and lower case are the same, as they are on the
/// file systems that some people check out on.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Globs {
    patterns: Vec<String>,
    set: GlobSet,
}

impl PartialEq for Globs {
    fn eq(&self, other: &Globs) -> bool {
        self.patterns == other.patterns
    }
}

impl Eq for Globs {}

impl TryFrom<Vec<String>> for Globs {
    type Error = String;

    fn try_from(patterns: Vec<String>) -> Result<Globs, String> {
        let bad = |pattern: &str, e: &globset::Error| format!("{pattern:?} is no path pattern: {}", e.kind());
        let mut set = GlobSetBuilder::new();
        for pattern in &patterns {
            let folded = rule::fold(pattern.trim_start_matches('/'));
            let glob = GlobBuilder::new(&folded).literal_separator(true).build();
            set.add(glob.map_err(|e| bad(pattern, &e))?);
        }
        let set = set.build().map_err(|e| bad(&patterns.join(", "), &e))?;
        Ok(Globs { patterns, set })
    }
}

impl Globs {
    /// Whether a path, in its [plain](rule::plain) form, is one of these.
    pub fn holds(&self, plain: &str) -> bool {
        self.set.is_match(plain)
    }

    /// Whether a path in its plain form is a folder above one of these: something else put in its place takes its place.
    pub fn below(&self, plain: &str) -> bool {
        let literal = |part: &&str| !part.contains(['*', '?', '[', '{']);
        self.patterns.iter().any(|pattern| {
            let pattern = rule::fold(pattern.trim_start_matches('/'));
            let all: Vec<&str> = pattern.split('/').collect();
            let fixed = all.iter().take(all.len() - 1).take_while(|part| literal(part)).count();
            let wanted: Vec<&str> = plain.split('/').collect();
            wanted.len() <= fixed && all[..wanted.len()] == wanted[..]
        })
    }
}
