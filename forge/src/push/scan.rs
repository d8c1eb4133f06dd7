//! Secrets in what was added: lines of files, names of files, and commits with their messages.
//!
//! What is a secret, the [`Redactor`] knows. A line that was there before is not added, so a
//! fixture that lies in the repository already is nobody's mistake of today. What is packed or compressed is not opened.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use git::{GitError, GitErrorKind};
use redact::{Finding, Redactor};

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

/// Where something was found.
type Places = BTreeSet<Objection>;

/// Searches what the commits added.
pub(super) async fn look(
    dir: &Path,
    commits: &[String],
    changes: &[Change],
    sizes: &HashMap<String, u64>,
    settings: &Settings,
    redactor: &Redactor,
) -> Result<Places, GitError> {
    let mut places = in_commits(dir, commits, redactor).await?;
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
            places.extend(in_files(dir, std::mem::take(&mut batch), redactor).await?);
            heavy = 0;
        }
        heavy += weight(change);
        batch.push(change.clone());
    }
    places.extend(in_files(dir, batch, redactor).await?);
    Ok(places)
}

async fn in_commits(dir: &Path, commits: &[String], redactor: &Redactor) -> Result<Places, GitError> {
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
    let redactor = redactor.clone();
    let found = aside(move || {
        let of = |(commit, text): (&String, &Vec<u8>)| {
            let found = redactor.scan(text);
            found.into_iter().map(|f| secret(&name(commit), f.kind, None)).collect::<Vec<_>>()
        };
        read.iter().flat_map(of).collect::<Places>()
    });
    places.extend(found.await?);
    Ok(places)
}

async fn in_files(dir: &Path, changes: Vec<Change>, redactor: &Redactor) -> Result<Places, GitError> {
    let objects: BTreeSet<&str> = changes
        .iter()
        .flat_map(|change| {
            let before = change.before.iter().filter(|s| s.mode != ABSENT && s.mode != SUBMODULE);
            std::iter::once(change.object.as_str()).chain(before.map(|s| s.object.as_str()))
        })
        .collect();
    let read = read::contents(dir, &objects.into_iter().collect::<Vec<_>>()).await?;
    let redactor = redactor.clone();
    aside(move || {
        let mut places = Places::new();
        for change in &changes {
            let Some(content) = read.get(&change.object) else { continue };
            let before: Vec<&[u8]> =
                change.before.iter().filter_map(|s| read.get(&s.object)).map(Vec::as_slice).collect();
            for found in added(content, &before, &redactor) {
                places.insert(secret(&change.path, found.kind, Some(found.line as u64)));
            }
            for found in redactor.scan(change.path.as_bytes()) {
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

fn secret(place: &str, kind: &str, line: Option<u64>) -> Objection {
    Objection::new(Rule::Secret { kind: kind.to_owned(), line }, Some(place))
}

/// What is found on lines that none of the files before has.
fn added(content: &[u8], before: &[&[u8]], redactor: &Redactor) -> Vec<Finding> {
    let text = content[..content.len().min(LOOKED_AT)].iter().all(|b| *b != 0);
    if !text && content.len() > BINARY_MAX {
        return Vec::new();
    }
    // Wide characters of ASCII are ASCII with zeros between.
    let narrow = |bytes: &[u8]| bytes.iter().copied().filter(|b| *b != 0).collect::<Vec<u8>>();
    let content = narrow(content);
    let found = redactor.scan(&content);
    if found.is_empty() {
        return found;
    }
    let before: Vec<Vec<u8>> = before.iter().map(|b| narrow(b)).collect();
    let known: HashSet<&[u8]> = before.iter().flat_map(|b| lines(b)).collect();
    let all: Vec<&[u8]> = lines(&content).collect();
    let was_there = |found: &Finding| {
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

#[cfg(test)]
mod tests;
