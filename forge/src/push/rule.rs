//! The decisions: what a change to one path may not be. Pure.

use std::collections::HashMap;
use std::fmt;

use super::settings::Settings;

/// The mode of a path that is not there.
pub const ABSENT: u32 = 0;
/// The mode of a symbolic link.
pub const LINK: u32 = 0o120_000;
/// The mode of a submodule.
pub const SUBMODULE: u32 = 0o160_000;
/// Bytes in a MiB.
const MIB: u64 = 1024 * 1024;

/// One path that a commit changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where it is now.
    pub path: String,
    /// What it was, for each parent.
    pub before: Vec<Side>,
    /// Its mode now.
    pub mode: u32,
    /// Its object now; zeros when it was removed.
    pub object: String,
}

/// A path as a parent has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// Where it was.
    pub path: String,
    /// Its mode.
    pub mode: u32,
    /// Its object.
    pub object: String,
}

/// What a push is refused for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A path that boxes may not change.
    Protected,
    /// A path that git or a file system could take for a git directory.
    GitPath,
    /// A symbolic link out of the repository, or into its git directory.
    Link {
        /// Where it points.
        target: String,
    },
    /// A submodule or the list of them.
    Submodule,
    /// A file that is too large.
    FileSize {
        /// Its MiB, rounded up.
        mib: u64,
        /// MiB allowed.
        max: u64,
    },
    /// Too many files.
    Files {
        /// How many.
        count: usize,
        /// How many are allowed.
        max: usize,
    },
    /// Too many commits.
    Commits {
        /// How many are allowed.
        max: usize,
    },
    /// More paths than can be listed.
    Endless,
    /// More than can be searched.
    Amount {
        /// MiB that can be.
        max: u64,
    },
    /// A secret.
    Secret {
        /// What kind of one.
        kind: String,
        /// On which line, from 1; of a commit or a name, none.
        line: Option<u64>,
    },
}

/// One thing that a push is refused for, and where. Displayed, it says what to do and never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Objection {
    /// What.
    pub rule: Rule,
    /// Where, fit to be shown.
    pub place: Option<String>,
}

impl Objection {
    /// One about a place.
    pub fn new(rule: Rule, place: Option<&str>) -> Objection {
        Objection { rule, place: place.map(shown) }
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.as_deref().unwrap_or("the push");
        match &self.rule {
            Rule::Protected => {
                write!(
                    f,
                    "{place} is a protected path (push.protected; push.allow_protected = true allows it)"
                )
            }
            Rule::GitPath => write!(f, "{place} could be taken for a git directory"),
            Rule::Link { target } => write!(
                f,
                "{place} is a link out of the repository, to {target} (push.allow_outside_links = true allows it)"
            ),
            Rule::Submodule => {
                write!(f, "{place} changes a submodule (push.allow_submodules = true allows it)")
            }
            Rule::FileSize { mib, max } => {
                write!(f, "{place} has {mib} MiB; a file may have {max} (push.max_file_mib)")
            }
            Rule::Files { count, max } => {
                write!(f, "{count} files differ from the base; {max} may (push.max_files)")
            }
            Rule::Commits { max } => write!(f, "there are more than {max} commits; squash them"),
            Rule::Endless => write!(f, "it changes more paths than can be listed"),
            Rule::Amount { max } => {
                write!(f, "more than {max} MiB of files were changed: too much to be searched for secrets")
            }
            Rule::Secret { kind, line } => {
                let line = line.map(|n| format!(" line {n}")).unwrap_or_default();
                write!(f, "{place}{line} holds a secret: {kind} (push.allow_secrets names paths that may)")
            }
        }
    }
}

/// What is wrong with one change. `sizes` and `links` are of the objects that the changes name.
pub fn objections(
    change: &Change,
    sizes: &HashMap<String, u64>,
    links: &HashMap<String, String>,
    settings: &Settings,
) -> Vec<Objection> {
    let mut all = Vec::new();
    let mut object = |rule: Rule, place: &str| all.push(Objection::new(rule, Some(place)));
    let places = std::iter::once((&change.path, change.mode))
        .chain(change.before.iter().map(|side| (&side.path, side.mode)));
    for (path, mode) in places.filter(|(_, mode)| *mode != ABSENT || change.mode == ABSENT) {
        let plain = plain(path);
        if !settings.allow_protected && (settings.protected.holds(&plain) || settings.protected.below(&plain))
        {
            object(Rule::Protected, path);
        }
        if !settings.allow_submodules && mode != ABSENT && plain == ".gitmodules" && change.mode != ABSENT {
            object(Rule::Submodule, path);
        }
    }
    if change.mode == ABSENT {
        return all;
    }
    if plain(&change.path).split('/').any(is_git_dir) {
        object(Rule::GitPath, &change.path);
    }
    match change.mode {
        SUBMODULE if !settings.allow_submodules => object(Rule::Submodule, &change.path),
        LINK if !settings.allow_outside_links => {
            let target = links.get(&change.object).map_or("", String::as_str);
            if leads_out(&change.path, target) {
                let target = shown(&target.chars().take(120).collect::<String>());
                object(Rule::Link { target }, &change.path);
            }
        }
        _ => {
            let size = sizes.get(&change.object).copied().unwrap_or(0);
            if size > settings.max_file_mib * MIB {
                let rule = Rule::FileSize { mib: size.div_ceil(MIB), max: settings.max_file_mib };
                object(rule, &change.path);
            }
        }
    }
    all
}

/// Whether too many files differ from the base.
pub fn count(files: usize, settings: &Settings) -> Option<Objection> {
    let max = settings.max_files;
    (files > max).then(|| Objection::new(Rule::Files { count: files, max }, None))
}

/// A path as file systems may read it that know no case, leave out characters that cannot be seen, and cut names short.
pub fn plain(path: &str) -> String {
    let part = |part: &str| {
        let name: String = part.chars().filter(|c| !ignorable(*c)).take_while(|c| *c != ':').collect();
        let cut = name.trim_end_matches(['.', ' ']);
        fold(if cut.is_empty() { &name } else { cut })
    };
    path.split(['/', '\\']).map(part).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

/// A text without the difference of upper and lower case, nor of letters that become the same.
pub fn fold(text: &str) -> String {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// Characters that HFS+ does not look at in a name.
fn ignorable(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{200b}' | '\u{ad}')
}

/// Whether a folder of this plain name is a git directory to somebody.
fn is_git_dir(plain: &str) -> bool {
    plain == ".git" || plain == "git~1"
}

/// Whether a symbolic link at `path` leads out of the repository, or into its git directory. `..` is followed only at
/// the start, where the folders above are known to be folders: a name in between may itself be a link.
fn leads_out(path: &str, target: &str) -> bool {
    let drive =
        target.as_bytes().get(1) == Some(&b':') && target.starts_with(|c: char| c.is_ascii_alphabetic());
    if target.is_empty() || target.starts_with(['/', '\\', '~']) || drive {
        return true;
    }
    let depth = path.split('/').count() - 1;
    let parts: Vec<&str> = target.split(['/', '\\']).filter(|p| !p.is_empty() && *p != ".").collect();
    let up = parts.iter().take_while(|p| **p == "..").count();
    up > depth || parts[up..].contains(&"..") || parts.iter().any(|p| is_git_dir(&plain(p)))
}

/// A text of a repository, fit to be shown: what a terminal would obey, or what would turn it round, is written out.
pub fn shown(text: &str) -> String {
    let safe = |c: char| match c {
        c if c.is_control()
            || ignorable(c)
            || matches!(c, '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}') =>
        {
            c.escape_unicode().to_string()
        }
        c => c.to_string(),
    };
    text.chars().map(safe).collect()
}

#[cfg(test)]
mod tests;
