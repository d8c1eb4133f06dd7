//! Secrets in what was added: lines of files, names of files, and commits with their messages.
//!
//! What is a secret is asked from a [`Scanner`], which is handed in. A line that was there before is not added, so a
//! fixture that lies in the repository already is nobody's mistake of today. What is packed or compressed is not opened.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use git::{GitError, GitErrorKind};

use super::read;
use super::rule::{ABSENT, Change, Objection, Rule, SUBMODULE, plain};
use super::settings::Settings;

/// Bytes that are read at once.
const AT_ONCE: u64 = 32 * 1024 * 1024;
/// MiB that are searched in all.
const ALL_MIB: u64 = 1_024;
/// Bytes of a file that is no text and is searched all the same.
const BINARY_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a commit without its files.
const COMMIT_MAX: u64 = 1024 * 1024;
/// Bytes at the start of a file that tell whether it is text, as git does.
const LOOKED_AT: usize = 8_000;

/// A secret that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What kind of one, in words.
    pub kind: String,
    /// On which line, from 1.
    pub line: usize,
}

/// Finds secrets in bytes. Cheap to clone.
#[derive(Clone)]
pub struct Scanner(Arc<dyn Fn(&[u8]) -> Vec<Found> + Send + Sync>);

impl Scanner {
    /// One that asks `find`.
    pub fn new(find: impl Fn(&[u8]) -> Vec<Found> + Send + Sync + 'static) -> Scanner {
        Scanner(Arc::new(find))
    }
}

impl Default for Scanner {
    /// One that knows some shapes of well-known tokens.
    fn default() -> Scanner {
        Scanner::new(shapes)
    }
}

impl fmt::Debug for Scanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scanner")
    }
}

/// Where something was found.
type Places = BTreeSet<Objection>;

/// Searches what the commits added.
pub(super) async fn look(
    dir: &Path,
    commits: &[String],
    changes: &[Change],
    sizes: &HashMap<String, u64>,
    settings: &Settings,
    scanner: &Scanner,
) -> Result<Places, GitError> {
    let mut places = in_commits(dir, commits, scanner).await?;
    let size = |object: &str| sizes.get(object).copied().unwrap_or(0);
    let mut seen = HashSet::new();
    let added = changes.iter().filter(|change| {
        change.mode != ABSENT
            && change.mode != SUBMODULE
            && size(&change.object) <= settings.max_file_mib * 1024 * 1024
            && change.before.iter().all(|side| side.object != change.object)
            && !settings.allow_secrets.holds(&plain(&change.path))
            && seen.insert((change.path.as_str(), change.object.as_str()))
    });
    let weight = |change: &Change| {
        size(&change.object) + change.before.iter().map(|side| size(&side.object)).sum::<u64>()
    };
    let (mut batch, mut heavy, mut total) = (Vec::new(), 0, 0);
    for change in added {
        total += weight(change);
        if total > ALL_MIB * 1024 * 1024 {
            places.insert(Objection::new(Rule::Amount { max: ALL_MIB }, None));
            break;
        }
        if heavy + weight(change) > AT_ONCE && !batch.is_empty() {
            places.extend(in_files(dir, std::mem::take(&mut batch), scanner).await?);
            heavy = 0;
        }
        heavy += weight(change);
        batch.push(change.clone());
    }
    places.extend(in_files(dir, batch, scanner).await?);
    Ok(places)
}

async fn in_commits(dir: &Path, commits: &[String], scanner: &Scanner) -> Result<Places, GitError> {
    let sizes = read::measured(dir, commits.iter().map(String::as_str)).await?;
    let (small, large): (Vec<&str>, Vec<&str>) =
        commits.iter().map(String::as_str).partition(|c| sizes.get(*c).is_some_and(|n| *n <= COMMIT_MAX));
    let name = |commit: &str| format!("the message of commit {}", commit.get(..10).unwrap_or(commit));
    let too_large = |commit: &&str| {
        let rule = Rule::FileSize { mib: 1 + COMMIT_MAX / (1024 * 1024), max: COMMIT_MAX / (1024 * 1024) };
        Objection::new(rule, Some(&name(commit)))
    };
    let mut places: Places = large.iter().map(too_large).collect();
    let read = read::contents(dir, &small).await?;
    let scanner = scanner.clone();
    let found = aside(move || {
        let of = |(commit, text): (&String, &Vec<u8>)| {
            let found = (scanner.0)(text);
            found.into_iter().map(|f| secret(&name(commit), f.kind, None)).collect::<Vec<_>>()
        };
        read.iter().flat_map(of).collect::<Places>()
    });
    places.extend(found.await?);
    Ok(places)
}

async fn in_files(dir: &Path, changes: Vec<Change>, scanner: &Scanner) -> Result<Places, GitError> {
    let objects: BTreeSet<&str> = changes
        .iter()
        .flat_map(|change| {
            let before = change.before.iter().filter(|s| s.mode != ABSENT && s.mode != SUBMODULE);
            std::iter::once(change.object.as_str()).chain(before.map(|s| s.object.as_str()))
        })
        .collect();
    let read = read::contents(dir, &objects.into_iter().collect::<Vec<_>>()).await?;
    let scanner = scanner.clone();
    aside(move || {
        let mut places = Places::new();
        for change in &changes {
            let Some(content) = read.get(&change.object) else { continue };
            let before: Vec<&[u8]> =
                change.before.iter().filter_map(|s| read.get(&s.object)).map(Vec::as_slice).collect();
            for found in added(content, &before, &scanner) {
                places.insert(secret(&change.path, found.kind, Some(found.line as u64)));
            }
            for found in (scanner.0)(change.path.as_bytes()) {
                places.insert(secret("the name of a file", found.kind, None));
            }
        }
        places
    })
    .await
}

/// Searching is work for a processor: the runtime's threads go on meanwhile.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, GitError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| GitError {
        doing: "searching a push for secrets".into(),
        code: None,
        stderr: e.to_string(),
        kind: GitErrorKind::Other,
    })
}

fn secret(place: &str, kind: String, line: Option<u64>) -> Objection {
    Objection::new(Rule::Secret { kind, line }, Some(place))
}

/// What is found on lines that none of the files before has.
fn added(content: &[u8], before: &[&[u8]], scanner: &Scanner) -> Vec<Found> {
    let text = content[..content.len().min(LOOKED_AT)].iter().all(|b| *b != 0);
    if !text && content.len() > BINARY_MAX {
        return Vec::new();
    }
    // Wide characters of ASCII are ASCII with zeros between.
    let narrow = |bytes: &[u8]| bytes.iter().copied().filter(|b| *b != 0).collect::<Vec<u8>>();
    let content = narrow(content);
    let found = (scanner.0)(&content);
    if found.is_empty() {
        return found;
    }
    let before: Vec<Vec<u8>> = before.iter().map(|b| narrow(b)).collect();
    let known: HashSet<&[u8]> = before.iter().flat_map(|b| lines(b)).collect();
    let all: Vec<&[u8]> = lines(&content).collect();
    let was_there = |found: &Found| {
        let first = found.line.saturating_sub(1);
        let Some(line) = all.get(first) else { return false };
        // The first line of a key says nothing: what follows it is the key.
        let more = if line.starts_with(b"-----BEGIN") { 4 } else { 1 };
        all.iter().skip(first).take(more).all(|line| known.contains(line))
    };
    found.into_iter().filter(|f| !was_there(f)).collect()
}

fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// Shapes of well-known tokens: what stands first, how many characters follow at least, and what it is.
const SHAPES: &[(&str, usize, &str)] = &[
    ("-----BEGIN RSA PRIVATE KEY-----", 0, "a private key"),
    ("-----BEGIN EC PRIVATE KEY-----", 0, "a private key"),
    ("-----BEGIN PRIVATE KEY-----", 0, "a private key"),
    ("-----BEGIN OPENSSH PRIVATE KEY-----", 0, "a private key"),
    ("AKIA", 16, "an AWS access key"),
    ("ghp_", 36, "a GitHub token"),
    ("gho_", 36, "a GitHub token"),
    ("ghs_", 36, "a GitHub token"),
    ("github_pat_", 50, "a GitHub token"),
    ("glpat-", 20, "a GitLab token"),
    ("sk-ant-", 20, "an Anthropic key"),
    ("xoxb-", 20, "a Slack token"),
];

fn shapes(bytes: &[u8]) -> Vec<Found> {
    let word = |b: &u8| b.is_ascii_alphanumeric() || b"_-".contains(b);
    let text = String::from_utf8_lossy(bytes);
    let of = |(n, line): (usize, &str)| {
        let holds = |(first, more, _): &&(&str, usize, &str)| {
            line.match_indices(first).any(|(at, _)| {
                let bytes = line.as_bytes();
                let alone = at == 0 || *more == 0 || !word(&bytes[at - 1]);
                alone && bytes[at + first.len()..].iter().take_while(|b| word(b)).count() >= *more
            })
        };
        let found = SHAPES.iter().find(holds);
        found.map(|(.., kind)| Found { kind: (*kind).into(), line: n + 1 })
    };
    text.lines().enumerate().filter_map(of).collect()
}

#[cfg(test)]
mod tests;
