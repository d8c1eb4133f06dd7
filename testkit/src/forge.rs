//! A code host in memory: records what it was told, opens one pull request per branch, and fails as a test says.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use domain::{Failure, FailureCode, RepoRef};
use forge::{Forge, ForgeError, PullRequest, PullRequestDraft, PushRequest, Remote, RepoInfo, Retry};

/// An operation that can be told to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`Forge::inspect`].
    Inspect,
    /// [`Forge::remote`].
    Remote,
    /// [`Forge::push`].
    Push,
    /// [`Forge::open_pull_request`].
    Open,
}

/// How it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done.
    Refused(FailureCode, Retry),
    /// It IS done, but the caller never learns, and may try again.
    LostAnswer,
}

/// One pull request, as the host keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its number.
    pub number: u64,
    /// The repository.
    pub repo: RepoRef,
    /// What it was opened with.
    pub draft: PullRequestDraft,
    /// How often somebody asked for it.
    pub asked: u32,
}

/// The host. Clones are the same host.
#[derive(Debug, Clone, Default)]
pub struct FakeForge {
    world: Arc<Mutex<World>>,
}

#[derive(Debug, Default)]
struct World {
    remotes: HashMap<RepoRef, PathBuf>,
    faults: HashMap<Operation, VecDeque<Fault>>,
    branches: BTreeMap<(RepoRef, String), String>,
    pulls: Vec<Opened>,
    calls: Vec<Operation>,
}

impl FakeForge {
    /// A host without repositories.
    pub fn new() -> FakeForge {
        FakeForge::default()
    }

    /// The host has `repo`, fetched from the repository at `path` of this machine.
    pub fn add_repo(&self, repo: RepoRef, path: &Path) {
        self.world().remotes.insert(repo, path.to_owned());
    }

    /// The next call of `operation` fails like this; several are taken in the order they were given.
    pub fn fail_next(&self, operation: Operation, fault: Fault) {
        self.world().faults.entry(operation).or_default().push_back(fault);
    }

    /// Nothing is to fail any more.
    pub fn mend(&self) {
        self.world().faults.clear();
    }

    /// The commit that a branch was pushed to.
    pub fn branch(&self, repo: &RepoRef, branch: &str) -> Option<String> {
        self.world().branches.get(&(repo.clone(), branch.to_owned())).cloned()
    }

    /// Every pull request, in the order they were opened.
    pub fn pull_requests(&self) -> Vec<Opened> {
        self.world().pulls.clone()
    }

    /// Every call so far, failed ones too.
    pub fn calls(&self) -> Vec<Operation> {
        self.world().calls.clone()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the call, then does `act`, unless it was told to fail.
    fn call<T>(
        &self,
        operation: Operation,
        act: impl FnOnce(&mut World) -> Result<T, ForgeError>,
    ) -> Result<T, ForgeError> {
        let mut world = self.world();
        world.calls.push(operation);
        match world.faults.get_mut(&operation).and_then(VecDeque::pop_front) {
            None => act(&mut world),
            Some(Fault::Refused(code, retry)) => Err(error(code, retry, "the test says so")),
            Some(Fault::LostAnswer) => {
                act(&mut world)?;
                Err(error(FailureCode::GithubUnreachable, Retry::Backoff, "the answer was lost"))
            }
        }
    }
}

fn error(code: FailureCode, retry: Retry, detail: &str) -> ForgeError {
    ForgeError { failure: Failure::new(code, detail), retry, source: None }
}

impl World {
    fn known(&self, repo: &RepoRef) -> Result<&PathBuf, ForgeError> {
        self.remotes.get(repo).ok_or_else(|| {
            error(FailureCode::RepoNotFoundOrNoAccess, Retry::Never, &format!("there is no {repo}"))
        })
    }
}

#[async_trait]
impl Forge for FakeForge {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn inspect(
        &self,
        repo: &RepoRef,
        _base: Option<&str>,
        _write: bool,
    ) -> Result<RepoInfo, ForgeError> {
        self.call(Operation::Inspect, |world| {
            world.known(repo)?;
            Ok(RepoInfo { default_branch: "main".into(), warnings: Vec::new() })
        })
    }

    async fn remote(&self, repo: &RepoRef) -> Result<Remote, ForgeError> {
        self.call(Operation::Remote, |world| {
            Ok(Remote { url: world.known(repo)?.display().to_string(), basic_auth: None })
        })
    }

    async fn push(&self, request: &PushRequest<'_>) -> Result<(), ForgeError> {
        self.call(Operation::Push, |world| {
            world.known(request.repo)?;
            let branch = (request.repo.clone(), request.branch.to_owned());
            world.branches.insert(branch, request.head_sha.to_owned());
            Ok(())
        })
    }

    async fn open_pull_request(
        &self,
        repo: &RepoRef,
        draft: &PullRequestDraft,
    ) -> Result<PullRequest, ForgeError> {
        self.call(Operation::Open, |world| {
            if !world.branches.contains_key(&(repo.clone(), draft.branch.clone())) {
                let detail = format!("{repo} has no branch {}", draft.branch);
                return Err(error(FailureCode::GithubApiError, Retry::Never, &detail));
            }
            let number = world.pulls.len() as u64 + 1;
            let there = world.pulls.iter_mut().find(|p| p.repo == *repo && p.draft.branch == draft.branch);
            let (number, found) = match there {
                Some(pull) => {
                    pull.asked += 1;
                    (pull.number, true)
                }
                None => {
                    let (repo, draft) = (repo.clone(), draft.clone());
                    world.pulls.push(Opened { number, repo, draft, asked: 1 });
                    (number, false)
                }
            };
            Ok(PullRequest {
                url: format!("https://forge.test/{repo}/pull/{number}"),
                number: Some(number),
                found,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> PullRequestDraft {
        let text = String::new;
        PullRequestDraft {
            branch: "b".into(),
            base: "main".into(),
            head_sha: text(),
            title: text(),
            body: text(),
        }
    }

    #[tokio::test]
    async fn a_lost_answer_was_done_and_is_found_again() {
        let forge = FakeForge::new();
        let repo: RepoRef = "octo/cat".parse().unwrap();
        assert!(forge.inspect(&repo, None, true).await.is_err());
        forge.add_repo(repo.clone(), Path::new("/nowhere"));
        assert!(forge.open_pull_request(&repo, &draft()).await.is_err(), "nothing was pushed");
        let push = PushRequest { repo: &repo, mirror: Path::new("/nowhere"), head_sha: "abc", branch: "b" };
        forge.push(&push).await.unwrap();
        forge.fail_next(Operation::Open, Fault::LostAnswer);
        assert_eq!(forge.open_pull_request(&repo, &draft()).await.unwrap_err().retry, Retry::Backoff);
        assert!(forge.open_pull_request(&repo, &draft()).await.unwrap().found);
        assert_eq!(forge.pull_requests().len(), 1);
        assert_eq!(forge.branch(&repo, "b").as_deref(), Some("abc"));
    }
}
