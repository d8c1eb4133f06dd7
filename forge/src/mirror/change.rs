//! What a branch's work changed, file by file, by the names git gives to contents: the same work is the same list.

use domain::{RepoRef, TaskId};
use git::Git;

use super::{BranchWork, Mirrors, failed};
use crate::ForgeError;

/// Bytes of the list that are read.
const LIST_MAX_BYTES: usize = 16 * 1024 * 1024;

/// The work of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkChanges {
    /// The tree of its head.
    pub tree: String,
    /// What changed, in the order of the paths.
    pub files: Vec<ChangedFile>,
    /// Files that changed and are not named.
    pub left_out: u64,
}

/// A file that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedFile {
    /// Its path; bytes that are no UTF-8 are shown as such.
    pub path: String,
    /// git's letter.
    pub status: String,
    /// Its mode after.
    pub mode: String,
    /// git's name of its content after; zeros when it is gone.
    pub blob: String,
}

impl Mirrors {
    /// What a branch's work changed; at most `max` files are named.
    pub async fn changes(
        &self,
        task: TaskId,
        repo: &RepoRef,
        work: &BranchWork,
        max: usize,
    ) -> Result<WorkChanges, ForgeError> {
        let how = ["--raw", "--no-abbrev", "--no-renames", "-z"];
        let list = self.diff_of(task, repo, work, &how, LIST_MAX_BYTES).await?;
        let tree = Git::new()
            .dir(self.place_of(task, repo))
            .args(["rev-parse", "--verify", "--quiet", &format!("{}^{{tree}}", work.head_sha)])
            .doing("reading the tree of the work")
            .run()
            .await
            .map_err(|e| failed(repo, e))?
            .text();
        let mut files: Vec<ChangedFile> = parse(&list);
        let left_out = files.len().saturating_sub(max) as u64;
        files.truncate(max);
        Ok(WorkChanges { tree, files, left_out })
    }
}

/// `:MODE MODE BLOB BLOB LETTER`, a zero, the path, a zero; for each file.
fn parse(list: &str) -> Vec<ChangedFile> {
    let mut parts = list.split('\0');
    let mut files = Vec::new();
    while let (Some(facts), Some(path)) = (parts.next(), parts.next()) {
        let mut facts = facts.trim_start_matches(':').split(' ');
        let (_, mode, _, blob, status) =
            (facts.next(), facts.next(), facts.next(), facts.next(), facts.next());
        if let (Some(mode), Some(blob), Some(status)) = (mode, blob, status) {
            files.push(ChangedFile {
                path: path.to_owned(),
                status: status.chars().take(1).collect(),
                mode: mode.to_owned(),
                blob: blob.to_owned(),
            });
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_git_is_read() {
        let list = ":000000 100644 0000 1111 A\0a b.txt\0:100755 000000 2222 0000 D\0gone\0";
        let file = |path: &str, status: &str, mode: &str, blob: &str| ChangedFile {
            path: path.into(),
            status: status.into(),
            mode: mode.into(),
            blob: blob.into(),
        };
        assert_eq!(
            parse(list),
            [file("a b.txt", "A", "100644", "1111"), file("gone", "D", "000000", "0000")]
        );
        assert_eq!(parse(""), []);
    }
}
