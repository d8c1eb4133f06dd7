//! A gateway over a control plane in memory, whose engine moves when a test says so.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Method, Request, StatusCode};
use compute::fake::FakeBackend;
use domain::task::Workflow;
use domain::{Attempt, Command, NodeId, RepoRef, Task, TaskId, TaskSpec, UserId};
use forge::mirror::Mirrors;
use gateway::Gateway;
use gateway::egress::{Egress, EgressParts};
use gateway::model::{Kind, ModelConfig, ModelRouter, ProviderConfig};
use orchestrator::admission::Submission;
use orchestrator::token::BoxIdentity;
use orchestrator::{Clock, Done, Forges, Orchestrator, Parts, Policy, TokenKey};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use store::{Created, Store};
use tempfile::TempDir;
use testkit::{FakeForge, TempRepo};
use tower::ServiceExt as _;

const TRANSCRIPT: &str = r#"{"version":1,"turns":[{"content":[{"type":"text","text":"done"}]}]}"#;

pub struct World {
    pub router: Router,
    pub orchestrator: Orchestrator,
    pub models: Arc<ModelRouter>,
    pub backend: FakeBackend,
    pub forge: FakeForge,
    pub clock: Clock,
    pub source: TempRepo,
    pub folder: TempDir,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub bytes: Bytes,
}

/// A box that has attached.
#[derive(Debug, Clone)]
pub struct Boxed {
    pub task: TaskId,
    pub attempt: Attempt,
    pub token: String,
}

impl World {
    pub async fn new() -> World {
        World::with(|_| ()).await
    }

    /// One with another policy.
    pub async fn with(change: impl FnOnce(&mut Policy)) -> World {
        World::built(change, EgressParts::default(), None, vec![]).await
    }

    pub async fn with_egress(egress: EgressParts) -> World {
        World::built(|_| (), egress, None, vec![]).await
    }

    /// One with another policy, whose models are another's.
    pub async fn with_provider(change: impl FnOnce(&mut Policy), provider: ProviderConfig) -> World {
        World::built(change, EgressParts::default(), Some(provider), vec![]).await
    }

    /// The same, whose models have this price.
    pub async fn priced(
        change: impl FnOnce(&mut Policy),
        provider: ProviderConfig,
        price: domain::money::Price,
    ) -> World {
        World::built(change, EgressParts::default(), Some(provider), vec![price]).await
    }

    async fn built(
        change: impl FnOnce(&mut Policy),
        egress: EgressParts,
        provider: Option<ProviderConfig>,
        prices: Vec<domain::money::Price>,
    ) -> World {
        let mut policy = Policy {
            retry_pause: Duration::from_millis(1),
            preflight_check: Duration::from_secs(300),
            local_check: Duration::from_secs(300),
            ..Policy::default()
        };
        change(&mut policy);
        let source = TempRepo::new(&[("README.md", "one\n")]).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("m.json"), TRANSCRIPT).unwrap();
        let provider = provider.unwrap_or_else(|| ProviderConfig {
            path: Some(folder.path().join("m.json")),
            ..ProviderConfig::new(Kind::Script)
        });
        let models = ModelConfig {
            default: Some("demo/m".into()),
            providers: [("demo".into(), provider)].into(),
            prices,
        };
        let models = Arc::new(ModelRouter::new(models).unwrap());
        let (backend, forge) = (FakeBackend::new(), FakeForge::new());
        forge.add_repo(repo(), source.path());
        let clock = Clock::manual(jiff::Timestamp::from_second(1_700_000_000).unwrap());
        let orchestrator = Orchestrator::new(Parts {
            store: Store::in_memory(),
            forges: Forges { github: Arc::new(forge.clone()), local: Arc::new(forge.clone()) },
            mirrors: Mirrors::new(folder.path().join("mirrors"), folder.path().join("pushes")),
            objects: Arc::new(objects::LocalObjects::open(folder.path().join("objects")).unwrap()),
            fetch: Arc::new(orchestrator::attachment::fake::Web::default()),
            inspector: Arc::new(orchestrator::attachment::fake::InProcess),
            compute: Arc::new(backend.clone()),
            models: models.clone(),
            token_key: TokenKey::new(SecretString::from("k".to_owned())),
            policy,
            clock: clock.clone(),
            node: NodeId::new("node"),
            gateway: "unix:/nowhere".into(),
        });
        let gateway = Gateway::new(orchestrator.clone(), models.clone()).with_egress(Egress::new(egress));
        World { router: gateway.routes(), orchestrator, models, backend, forge, clock, source, folder }
    }

    /// The next server on the same store, with another policy.
    pub fn restarted(&self, change: impl FnOnce(&mut Policy)) -> Orchestrator {
        let parts = self.orchestrator.parts();
        let mut policy = parts.policy.clone();
        change(&mut policy);
        Orchestrator::new(Parts {
            store: parts.store.clone(),
            forges: parts.forges.clone(),
            mirrors: Mirrors::new(self.folder.path().join("mirrors"), self.folder.path().join("pushes")),
            fetch: parts.fetch.clone(),
            inspector: parts.inspector.clone(),
            objects: parts.objects.clone(),
            compute: parts.compute.clone(),
            models: self.models.clone(),
            token_key: parts.token_key.clone(),
            policy,
            clock: self.clock.clone(),
            node: NodeId::new("next"),
            gateway: parts.gateway.clone(),
        })
    }

    /// A task, just submitted.
    pub async fn submitted(&self) -> TaskId {
        self.submitted_with(|_| ()).await
    }

    /// The same, with something else asked.
    pub async fn submitted_with<T>(&self, change: impl FnOnce(&mut TaskSpec) -> T) -> TaskId {
        let mut spec = TaskSpec {
            repo: repo(),
            workflow: Workflow::NewTask,
            issue_number: None,
            description: "fix it".into(),
            max_turns: None,
            max_budget: None,
            trace: false,
            model: None,
            base_branch: None,
            build_command: None,
            lint_command: None,
            isolation: None,
            attachments: Vec::new(),
        };
        change(&mut spec);
        let submission =
            Submission { user: UserId::new("ann"), channel: "api".into(), spec, idempotency_key: None };
        let Created::New(task) = self.orchestrator.submit(submission).await.unwrap() else {
            panic!("nothing was submitted before");
        };
        task.id
    }

    pub async fn task(&self, task: TaskId) -> Task {
        self.orchestrator.store().task_get(task).await.unwrap().unwrap()
    }

    /// Drives the task until it waits for something.
    pub async fn drive(&self, task: TaskId) {
        let (node, now) = (NodeId::new("test"), self.orchestrator.now());
        let claimed = self.orchestrator.store().task_claim(task, &node, now, Duration::from_secs(60));
        self.orchestrator.drive(claimed.await.unwrap().unwrap()).await;
    }

    pub async fn cancel(&self, task: TaskId) {
        let done = self.orchestrator.command(task, Command::Cancel { by: "ann".into() }).await.unwrap();
        assert!(matches!(done, Done::Applied(_)), "{done:?}");
    }

    pub fn bootstrap(&self, task: TaskId, attempt: u32) -> String {
        let token = self.orchestrator.parts().token_key.bootstrap(task, Attempt(attempt));
        token.expose_secret().to_owned()
    }

    pub async fn attach(&self, task: TaskId, attempt: u32, instance: &str, token: &str) -> Answer {
        let body = json!({ "task": task, "attempt": attempt, "instance": instance, "version": "1" });
        self.call("POST", "/box/v1/attach", Some(token), Some(body)).await
    }

    /// A box of a new task, attached as the instance `i1`.
    pub async fn boxed(&self) -> Boxed {
        let task = self.submitted().await;
        self.drive(task).await;
        self.boxed_again(task, 1).await
    }

    /// The box of an attempt that has been started, attached.
    pub async fn boxed_again(&self, task: TaskId, attempt: u32) -> Boxed {
        let answer = self.attach(task, attempt, "i1", &self.bootstrap(task, attempt)).await;
        let token = answer.json(200)["session_token"].as_str().unwrap().to_owned();
        Boxed { task, attempt: Attempt(attempt), token }
    }

    /// A token that this gateway signed, for another attempt or instance of the same task.
    pub fn signed(&self, task: TaskId, attempt: u32, instance: &str) -> Boxed {
        let attempt = Attempt(attempt);
        let token = self.orchestrator.parts().token_key.session(&BoxIdentity {
            task,
            attempt,
            instance: instance.into(),
        });
        Boxed { task, attempt, token: token.expose_secret().to_owned() }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: head.status, bytes }
    }

    pub async fn call(&self, method: &str, path: &str, token: Option<&str>, body: Option<Value>) -> Answer {
        let body = body.map(|b| b.to_string());
        self.send(request(method, path, token, body)).await
    }
}

pub fn request(
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<impl Into<Body>>,
) -> Request<Body> {
    let request = Request::builder().method(method.parse::<Method>().unwrap()).uri(path);
    let request = match token {
        Some(token) => request.header("authorization", format!("Bearer {token}")),
        None => request,
    };
    match body {
        Some(body) => request.header("content-type", "application/json").body(body.into()).unwrap(),
        None => request.body(Body::empty()).unwrap(),
    }
}

pub fn repo() -> RepoRef {
    "octo/cat".parse().unwrap()
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    #[track_caller]
    pub fn json(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    #[track_caller]
    pub fn nothing(&self) {
        assert_eq!((self.status.as_u16(), self.text().as_str()), (204, ""));
    }

    /// Checks the error's shape; returns the message.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> String {
        let body = self.json(status);
        assert_eq!(body["code"], code, "{body}");
        let message = body["message"].as_str().unwrap();
        assert!(message.len() > 5 && message.len() < 600, "{message}");
        message.to_owned()
    }
}
