//! What a push may bring: looked at outside the box, when it arrives and again before it goes to the forge.
//!
//! Every commit of the range is looked at, not only what is left at its end: what was added and removed again is in the
//! history that the forge gets. Merges are compared with all of their parents, so that content which only the merge
//! brings is seen, and the end of the range is compared with its base, so that nothing old comes back unseen.
//!
//! | module | holds |
//! |---|---|
//! | [`settings`] | what is allowed, of a repository or of all |
//! | [`rule`] | the decisions, pure |
//! | `read` | what git tells of a range |
//! | `scan` | secrets in what was added |

mod read;
pub mod rule;
mod scan;
pub mod settings;

use std::collections::BTreeSet;
use std::path::Path;

use git::{GitError, GitErrorKind};
use redact::Redactor;

pub use rule::{Objection, Rule};
pub use settings::{Globs, Settings};

/// Commits one push may bring; each is looked at.
const COMMITS_MAX: usize = 5_000;

/// Objections that are written out.
const SHOWN: usize = 10;

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Range<'a> {
    /// The commit that is pushed.
    pub head: &'a str,
    /// The tip of the base branch.
    pub base: &'a str,
    /// The commit that was looked at before, where there is one.
    pub seen: Option<&'a str>,
}

/// Looks at a range of the bare repository `dir`. Nothing to object to is an empty answer; an error is git's, and then
/// nothing is known.
pub async fn look(
    dir: &Path,
    range: Range<'_>,
    settings: &Settings,
    redactor: &Redactor,
) -> Result<Vec<Objection>, GitError> {
    match look_at_all(dir, range, settings, redactor).await {
        // A few objects can name more paths than any disk has.
        Err(error) if out_of_bounds(&error) => Ok(vec![Objection::new(Rule::Endless, None)]),
        looked => looked,
    }
}

/// Whether git met a bound: of its output, its memory, or its processor time, which ends it by a signal.
fn out_of_bounds(error: &GitError) -> bool {
    let memory = ["Out of memory", "out of memory", "Cannot allocate memory"];
    match error.kind {
        GitErrorKind::OutputTooLarge => true,
        GitErrorKind::Other => {
            memory.iter().any(|words| error.stderr.contains(words))
                || (error.code.is_none() && error.stderr.is_empty())
        }
        GitErrorKind::NotFound
        | GitErrorKind::Auth
        | GitErrorKind::Network
        | GitErrorKind::NotARepository
        | GitErrorKind::Rejected
        | GitErrorKind::DiskFull
        | GitErrorKind::Permission
        | GitErrorKind::Timeout
        | GitErrorKind::NotInstalled => false,
    }
}

async fn look_at_all(
    dir: &Path,
    range: Range<'_>,
    settings: &Settings,
    redactor: &Redactor,
) -> Result<Vec<Objection>, GitError> {
    let commits = read::commits(dir, range, COMMITS_MAX + 1).await?;
    if commits.len() > COMMITS_MAX {
        return Ok(vec![Objection::new(Rule::Commits { max: COMMITS_MAX }, None)]);
    }
    // One after the other: each may use all the memory that is allowed.
    let each = read::each(dir, &commits).await?;
    let whole = read::whole(dir, range).await?;
    let sizes = read::sizes(dir, each.iter().chain(&whole)).await?;
    let links = read::links(dir, each.iter().chain(&whole), &sizes).await?;
    let mut objections: BTreeSet<Objection> = each
        .iter()
        .chain(&whole)
        .flat_map(|change| rule::objections(change, &sizes, &links, settings))
        .collect();
    objections.extend(rule::count(whole.len(), settings));
    if settings.secret_scan {
        objections.extend(scan::look(dir, &commits, &each, &sizes, settings, redactor).await?);
    }
    Ok(objections.into_iter().collect())
}

/// All objections in one line: the first ones, and how many more there are.
pub fn sentence(objections: &[Objection]) -> String {
    let shown: Vec<String> = objections.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = match objections.len().saturating_sub(SHOWN) {
        0 => String::new(),
        n => format!("; and {n} more"),
    };
    format!("{}{more}", shown.join("; "))
}
