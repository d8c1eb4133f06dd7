//! What every forge must do, as one suite. A forge's own tests set up a [`Subject`] and call [`check`]; it panics with
//! the sentence that does not hold.

use std::path::{Path, PathBuf};

use domain::{FailureCode, RepoRef};
use git::Git;

use crate::{Forge, ForgeError, PullRequestDraft, PushRequest, Retry};

/// A forge with one repository in it, ready to be tried.
#[derive(Debug)]
pub struct Subject {
    /// The forge.
    pub forge: Box<dyn Forge>,
    /// A repository with at least two commits on its default branch, that may be written to.
    pub repo: RepoRef,
    /// A repository that does not exist there.
    pub missing: RepoRef,
    /// The default branch of `repo`.
    pub default_branch: String,
    /// How the suite looks behind the forge.
    pub git: GitSide,
    /// Whether there are pull requests that a repeat can find.
    pub pulls: Pulls,
}

/// How the suite looks behind the forge.
#[derive(Debug)]
pub enum GitSide {
    /// The repository lies here; fetching and pushing are tried.
    OnDisk(PathBuf),
    /// The counterpart has no git, only an API; these branches, of one new commit each, were made in it by hand.
    ApiOnly {
        /// Has no pull request yet.
        branch: String,
        /// The commit at its head.
        head_sha: String,
    },
}

/// Whether there are pull requests that a repeat can find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulls {
    /// The host keeps them.
    Kept,
    /// The branch is the deliverable; the caller's record knows of the first call.
    BranchOnly,
}

/// Runs the whole suite; `scratch` is an empty directory.
pub async fn check(subject: &Subject, scratch: &Path) {
    what_is_there_is_told(subject).await;
    what_is_not_there_is_a_typed_failure(subject).await;
    let (branch, head_sha) = match &subject.git {
        GitSide::OnDisk(disk) => {
            let mirror = can_be_fetched(subject, disk, scratch).await;
            branches_are_taken_and_never_forced(subject, disk, &mirror).await
        }
        GitSide::ApiOnly { branch, head_sha } => (branch.clone(), head_sha.clone()),
    };
    one_pull_request_for_each_branch(subject, &branch, &head_sha).await;
}

async fn what_is_there_is_told(s: &Subject) {
    for base in [None, Some(s.default_branch.as_str())] {
        let info = s.forge.inspect(&s.repo, base, true).await.expect("a repository that is there passes");
        assert_eq!(info.default_branch, s.default_branch, "the default branch is told");
    }
}

async fn what_is_not_there_is_a_typed_failure(s: &Subject) {
    let missing = s.forge.inspect(&s.missing, None, true).await.expect_err("a missing repository fails");
    expect(&missing, FailureCode::RepoNotFoundOrNoAccess, "a missing repository");
    let revision = format!("{}~1", s.default_branch);
    for base in ["no/such/branch", "mian", &revision] {
        let missing = s.forge.inspect(&s.repo, Some(base), true).await.expect_err("a missing base fails");
        expect(&missing, FailureCode::BaseBranchNotFound, "a missing base branch");
        assert!(missing.failure.detail.contains(base), "the failure names the branch: {missing}");
        assert!(missing.failure.detail.contains(&s.default_branch), "and offers those there are: {missing}");
    }
}

async fn can_be_fetched(s: &Subject, disk: &Path, scratch: &Path) -> PathBuf {
    let remote = s.forge.remote(&s.repo).await.expect("a remote is told");
    assert!(!remote.url.contains('@'), "the URL holds no credential: {}", remote.url);
    let mirror = scratch.join("mirror.git");
    Git::new().args(["init", "--bare", "--quiet"]).arg(&mirror).run().await.expect("a mirror is made");
    let auth = remote.basic_auth.as_ref().map(git::BasicAuth);
    git::fetch(&mirror, &remote.url, auth.as_ref(), &["+refs/heads/*:refs/heads/*"])
        .await
        .expect("it can be fetched");
    assert_eq!(
        head(&mirror, &s.default_branch).await,
        head(disk, &s.default_branch).await,
        "all of it arrives"
    );
    mirror
}

/// Gives a branch that was pushed, and the commit at its head.
async fn branches_are_taken_and_never_forced(s: &Subject, disk: &Path, mirror: &Path) -> (String, String) {
    let base = head(mirror, &s.default_branch).await.expect("the base has a commit");
    let first = commit(mirror, &base, "first").await;
    let second = commit(mirror, &first, "second").await;
    let other = commit(mirror, &base, "other").await;
    let branch = "bgagent/01hconformance/a-slug".to_owned();
    let push = async |head_sha: &str, branch: &str| {
        s.forge.push(&PushRequest { repo: &s.repo, mirror, head_sha, branch }).await
    };
    let before = refs(disk).await;

    for _ in 0..2 {
        push(&first, &branch).await.expect("a branch is taken, and again without harm");
        assert_eq!(head(disk, &branch).await.as_deref(), Some(first.as_str()), "the branch is at the commit");
    }
    push(&second, &branch).await.expect("a branch goes forward");
    assert_eq!(head(disk, &branch).await.as_deref(), Some(second.as_str()), "the branch went forward");

    for sha in [&other, &first] {
        let forced = push(sha, &branch).await.expect_err("a branch is never forced");
        expect(&forced, FailureCode::PushRejected, "a push that is not a fast-forward");
        assert_eq!(head(disk, &branch).await.as_deref(), Some(second.as_str()), "the branch has not moved");
    }
    let unknown = "0123456789012345678901234567890123456789";
    assert!(push(unknown, "bgagent/x/unknown").await.is_err(), "a commit that is not in the mirror fails");
    for name in ["a:refs/heads/b", "../../x", "with space", "*", "x.lock", ""] {
        assert!(push(&second, name).await.is_err(), "{name:?} names no branch");
    }
    let mut after = refs(disk).await;
    after.retain(|line| !line.contains(&branch));
    assert_eq!(after, before, "no other ref was touched");
    (branch, second)
}

async fn one_pull_request_for_each_branch(s: &Subject, branch: &str, head_sha: &str) {
    let draft = PullRequestDraft {
        branch: branch.to_owned(),
        base: s.default_branch.clone(),
        head_sha: head_sha.to_owned(),
        title: "Conformance: a title with “quotes” & ümlauts".into(),
        body: "Body with `code`,\n\n- a list\n- <b>HTML</b>".into(),
    };
    let first = s.forge.open_pull_request(&s.repo, &draft).await.expect("a pull request is opened");
    assert!(!first.found, "the first call opened it");
    let again = s.forge.open_pull_request(&s.repo, &draft).await.expect("a repeat finds it");
    assert_eq!((&again.url, again.number), (&first.url, first.number), "it is the same one");
    assert_eq!(again.found, s.pulls == Pulls::Kept, "a repeat says so where the host knows");
    let absent = PullRequestDraft { branch: "bgagent/x/never-pushed".into(), ..draft };
    assert!(s.forge.open_pull_request(&s.repo, &absent).await.is_err(), "a branch that is not there fails");
}

fn expect(error: &ForgeError, code: FailureCode, what: &str) {
    assert_eq!(error.failure.code, code, "{what}: {error}");
    assert_eq!(error.retry, Retry::Never, "{what} is not tried again: {error}");
    assert!(error.failure.resource.is_some(), "{what} names what it is about: {error}");
}

async fn head(dir: &Path, branch: &str) -> Option<String> {
    git::rev_parse(dir, &format!("refs/heads/{branch}")).await.expect("the repository can be read")
}

async fn refs(dir: &Path) -> Vec<String> {
    let out = Git::new().dir(dir).args(["for-each-ref"]).run().await.expect("the refs can be listed");
    out.text().lines().map(str::to_owned).collect()
}

async fn commit(mirror: &Path, parent: &str, message: &str) -> String {
    let who = [("NAME", "conformance"), ("EMAIL", "conformance@invalid")];
    let tree = format!("{parent}^{{tree}}");
    let mut git = Git::new().dir(mirror).args(["commit-tree", "-p", parent, "-m", message, &tree]);
    for (what, value) in who {
        git = git.env(format!("GIT_AUTHOR_{what}"), value).env(format!("GIT_COMMITTER_{what}"), value);
    }
    git.run().await.expect("a commit is made").text()
}
