//! What git tells of a range: its commits, the paths they change, sizes and contents. Nothing of it is believed to be
//! small, and no attribute or configuration of the repository has a say.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use git::{Bounds, Git, GitError, GitErrorKind};

use super::Range;
use super::rule::{ABSENT, Change, LINK, SUBMODULE, Side};
use crate::mirror::NO_TREE;

/// Bytes of a symbolic link's target; Linux has no longer one.
const LINK_MAX: u64 = 4_096;
/// Bytes that git may print on the paths of a range.
const RAW_MAX: usize = 256 * 1024 * 1024;

fn git(dir: &Path) -> Git {
    Git::new().dir(dir).bounded(Bounds::READ).config("attr.tree", NO_TREE).config("diff.renameLimit", "1000")
}

/// The commits of a range that were not looked at before, at most `max`.
pub(super) async fn commits(dir: &Path, range: Range<'_>, max: usize) -> Result<Vec<String>, GitError> {
    let not = [Some(range.base), range.seen].into_iter().flatten().map(|sha| format!("^{sha}"));
    let list = git(dir).args(["rev-list", &format!("--max-count={max}"), range.head]).args(not).arg("--");
    let out = list.doing("listing the commits of a push").run().await?;
    Ok(out.text().lines().map(str::to_owned).collect())
}

/// What each commit changed against all of its parents.
pub(super) async fn each(dir: &Path, commits: &[String]) -> Result<Vec<Change>, GitError> {
    let list = git(dir)
        .args(["diff-tree", "--stdin", "-r", "-z", "-c", "-M", "--combined-all-paths", "--root"])
        .args(["--no-abbrev", "--no-ext-diff", "--no-textconv", "--ignore-submodules=none"])
        .stdin(commits.join("\n") + "\n")
        .stdout_max(RAW_MAX);
    let out = list.doing("listing what a push changes").run().await?;
    parse(&out.stdout).ok_or_else(|| unread("listing what a push changes"))
}

/// What differs at the end of the range from where it left its base.
pub(super) async fn whole(dir: &Path, range: Range<'_>) -> Result<Vec<Change>, GitError> {
    let doing = "comparing a push with its base";
    let fork = git(dir).args(["merge-base", range.base, range.head]).exits(&[0, 1]).doing(doing);
    let fork = fork.run().await?;
    let from = if fork.code == 0 { fork.text() } else { range.base.to_owned() };
    let list = git(dir)
        .args(["diff-tree", "-r", "-z", "--no-renames", "--no-abbrev", "--no-ext-diff", "--no-textconv"])
        .args(["--ignore-submodules=none", &from, range.head])
        .stdout_max(RAW_MAX);
    let out = list.doing(doing).run().await?;
    parse(&out.stdout).ok_or_else(|| unread(doing))
}

fn unread(doing: &str) -> GitError {
    let stderr = "git's answer could not be read".to_owned();
    GitError { doing: doing.into(), code: None, stderr, kind: GitErrorKind::Other }
}

/// Reads `git diff-tree -z`: commits by themselves, and for each path a head that begins with a colon for each parent.
fn parse(raw: &[u8]) -> Option<Vec<Change>> {
    let mut fields = raw.split(|b| *b == 0).map(|f| String::from_utf8_lossy(f).into_owned());
    let mut changes = Vec::new();
    while let Some(head) = fields.next() {
        let parents = head.bytes().take_while(|b| *b == b':').count();
        if parents == 0 {
            if head.is_empty() || head.bytes().all(|b| b.is_ascii_hexdigit()) {
                continue;
            }
            return None;
        }
        let words: Vec<&str> = head[parents..].split(' ').collect();
        let (modes, rest) = words.split_at_checked(parents + 1)?;
        let (objects, status) = rest.split_at_checked(parents + 1)?;
        let [status] = status else { return None };
        let modes: Vec<u32> = modes.iter().map(|m| u32::from_str_radix(m, 8).ok()).collect::<Option<_>>()?;
        let mut paths: Vec<String> = match parents {
            1 if status.starts_with(['R', 'C']) => vec![fields.next()?],
            1 => Vec::new(),
            n => (0..n).map(|_| fields.next()).collect::<Option<_>>()?,
        };
        let path = fields.next()?;
        paths.resize(parents, path.clone());
        let sides = modes.iter().zip(objects).zip(paths).take(parents);
        let before = sides.map(|((mode, object), path)| Side { path, mode: *mode, object: (*object).into() });
        let before = before.collect();
        changes.push(Change { path, before, mode: *modes.last()?, object: (*objects.last()?).into() });
    }
    Some(changes)
}

/// The sizes of the objects that changes name.
pub(super) async fn sizes(
    dir: &Path,
    changes: impl Iterator<Item = &Change>,
) -> Result<HashMap<String, u64>, GitError> {
    let is_blob = |mode: u32| mode != ABSENT && mode != SUBMODULE;
    let objects: BTreeSet<&str> = changes
        .flat_map(|c| {
            let now = std::iter::once((c.mode, c.object.as_str()));
            now.chain(c.before.iter().map(|s| (s.mode, s.object.as_str())))
        })
        .filter(|(mode, _)| is_blob(*mode))
        .map(|(_, object)| object)
        .collect();
    measured(dir, objects.into_iter()).await
}

/// The sizes of objects.
pub(super) async fn measured<'a>(
    dir: &Path,
    objects: impl Iterator<Item = &'a str>,
) -> Result<HashMap<String, u64>, GitError> {
    let list: String = objects.map(|o| format!("{o}\n")).collect();
    if list.is_empty() {
        return Ok(HashMap::new());
    }
    let doing = "measuring what a push changes";
    let ask =
        git(dir).args(["cat-file", "--batch-check=%(objectname) %(objectsize)", "--buffer"]).stdin(list);
    let out = ask.stdout_max(RAW_MAX).doing(doing).run().await?;
    let line = |line: &str| {
        let (object, size) = line.split_once(' ')?;
        Some((object.to_owned(), size.parse().ok()?))
    };
    out.text().lines().map(line).collect::<Option<_>>().ok_or_else(|| unread(doing))
}

/// Where the symbolic links among the changes point.
pub(super) async fn links(
    dir: &Path,
    changes: impl Iterator<Item = &Change>,
    sizes: &HashMap<String, u64>,
) -> Result<HashMap<String, String>, GitError> {
    let links: BTreeSet<&str> = changes.filter(|c| c.mode == LINK).map(|c| c.object.as_str()).collect();
    let short = links.into_iter().filter(|o| sizes.get(*o).is_some_and(|size| *size <= LINK_MAX));
    let read = contents(dir, &short.collect::<Vec<_>>()).await?;
    Ok(read.into_iter().map(|(o, text)| (o, String::from_utf8_lossy(&text).into_owned())).collect())
}

/// The contents of objects; the caller knows that they are not too large.
pub(super) async fn contents(dir: &Path, objects: &[&str]) -> Result<HashMap<String, Vec<u8>>, GitError> {
    if objects.is_empty() {
        return Ok(HashMap::new());
    }
    let doing = "reading what a push changes";
    let list: String = objects.iter().map(|o| format!("{o}\n")).collect();
    let ask = git(dir).args(["cat-file", "--batch=%(objectname) %(objectsize)", "--buffer"]).stdin(list);
    let out = ask.stdout_max(usize::MAX - 1).doing(doing).run().await?;
    let mut rest = out.stdout.as_slice();
    let mut read = HashMap::new();
    while !rest.is_empty() {
        let (object, content, after) = next(rest).ok_or_else(|| unread(doing))?;
        read.insert(object, content.to_vec());
        rest = after;
    }
    Ok(read)
}

/// One object of `cat-file --batch`: its name, its content, what follows.
fn next(bytes: &[u8]) -> Option<(String, &[u8], &[u8])> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    let (object, size) = std::str::from_utf8(&bytes[..end]).ok()?.split_once(' ')?;
    let start = end + 1;
    let size: usize = size.parse().ok()?;
    let content = bytes.get(start..start.checked_add(size)?)?;
    Some((object.to_owned(), content, bytes.get(start + size + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_with_each_of_their_parents() {
        let (a, b, zero) = ("a".repeat(40), "b".repeat(40), "0".repeat(40));
        let raw = format!(
            "{a}\0::000000 100644 120000 {zero} {a} {b} AM\0x\0y\0x\0{b}\0:100644 100644 {a} {a} R100\0old\0new\0\
             :100644 000000 {a} {zero} D\0:gone\0"
        );
        let side = |path: &str, mode, object: &str| Side { path: path.into(), mode, object: object.into() };
        let change = |path: &str, before, mode, object: &str| Change {
            path: path.into(),
            before,
            mode,
            object: object.into(),
        };
        assert_eq!(
            parse(raw.as_bytes()).unwrap(),
            [
                change("x", vec![side("x", 0, &zero), side("y", 0o100_644, &a)], LINK, &b),
                change("new", vec![side("old", 0o100_644, &a)], 0o100_644, &a),
                change(":gone", vec![side(":gone", 0o100_644, &a)], ABSENT, &zero),
            ]
        );
        for bad in ["nonsense", ":1 2 3", ":100644 000000 a b D", "::100644 1 1 a b c MM\0x\0"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
