//! Doubles that need the orchestrator's own types, and the repository that all simulated tasks work on.

use std::time::Duration;

use async_trait::async_trait;
use domain::report::{AgentStatus, GateResult, Report};
use domain::task::Workflow;
use domain::{Failure, MicroUsd, RepoRef, TaskSpec};
use forge::Remote;
use forge::mirror::Mirrors;
use orchestrator::model::{ModelCatalog, ModelChoice};
use orchestrator::{Clock, Policy};
use tempfile::TempDir;
use testkit::TempRepo;

/// Every model exists, costs nothing and answers.
#[derive(Debug)]
pub struct FakeModels;

#[async_trait]
impl ModelCatalog for FakeModels {
    fn choose(&self, model: Option<&str>, _budget: Option<MicroUsd>) -> Result<ModelChoice, Failure> {
        Ok(ModelChoice {
            name: model.unwrap_or("demo/fake").to_owned(),
            context_window: 100_000,
            max_output_tokens: 4_000,
            warnings: Vec::new(),
        })
    }

    async fn probe(&self, _choice: &ModelChoice) -> Result<(), Failure> {
        Ok(())
    }
}

/// A repository with one commit on `main` and one more on `donor`: what a box pushes is made to point there.
#[derive(Debug)]
pub struct Ground {
    pub source: TempRepo,
    pub donor: String,
    mirrors: TempDir,
}

impl Ground {
    pub async fn new() -> Ground {
        let source = TempRepo::new(&[("README.md", "one\n")]).await.unwrap();
        source.branch("donor").await.unwrap();
        let donor = source.commit("the work", &[("README.md", "two\n")]).await.unwrap();
        source.checkout("main").await.unwrap();
        let mirrors = tempfile::tempdir().unwrap();
        // The first fetch is told on the task: do it here, so that every task goes the same way.
        let remote = Remote { url: source.path().display().to_string(), basic_auth: None };
        let ground = Ground { source, donor, mirrors };
        ground.mirrors().refresh(&repo(), &remote, "main").await.unwrap();
        ground
    }

    pub fn mirrors(&self) -> Mirrors {
        let folder = self.mirrors.path();
        Mirrors::new(folder.join("mirrors"), folder.join("pushes"))
    }
}

pub fn repo() -> RepoRef {
    "octo/cat".parse().unwrap()
}

pub fn spec(description: &str) -> TaskSpec {
    TaskSpec {
        repo: repo(),
        workflow: Workflow::NewTask,
        issue_number: None,
        description: description.into(),
        max_turns: None,
        max_budget: None,
        trace: false,
        model: None,
        base_branch: None,
        build_command: None,
        lint_command: None,
        isolation: None,
        attachments: Vec::new(),
    }
}

pub fn report(agent: AgentStatus) -> Report {
    Report {
        agent,
        build: GateResult::Passed,
        lint: GateResult::Inert,
        turns_attempted: 3,
        turns_completed: 3,
        head_sha: None,
        commits: 1,
        pr_title: "Fix it".into(),
        pr_body: "It was broken.".into(),
        answer: String::new(),
        failure: None,
    }
}

/// Few slots, and no real time spent between two tries.
pub fn policy() -> Policy {
    Policy {
        per_user: 2,
        per_repo: 3,
        system: 3,
        retry_pause: Duration::from_millis(1),
        preflight_check: Duration::from_secs(300),
        local_check: Duration::from_secs(300),
        ..Policy::default()
    }
}

pub fn clock() -> Clock {
    Clock::manual(jiff::Timestamp::from_second(1_700_000_000).unwrap())
}
