//! The API over a control plane in memory, and requests to it as a client makes them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use compute::fake::FakeBackend;
use domain::access::{Authenticated, Teams};
use domain::event::{EventKind, NewEvent};
use domain::report::{AgentStatus, GateResult, Report};
use domain::task::Workflow;
use domain::{
    Attempt, Command, Failure, Identity, MicroUsd, NodeId, RepoRef, Role, Task, TaskId, TaskSpec, UserId,
};
use forge::mirror::Mirrors;
use jiff::Timestamp;
use orchestrator::admission::Submission;
use orchestrator::attachment::fake::{InProcess, Web};
use orchestrator::model::{ModelCatalog, ModelChoice};
use orchestrator::{Clock, Done, Forges, Orchestrator, Parts, Policy, TokenKey};
use secrecy::SecretString;
use serde_json::{Value, json};
use server::api::{self, App, Settings};
use server::cursor::Cursors;
use server::identity::api_key::ApiKeys;
use server::identity::{Credential, Denied, Keys, LOCAL_OWNER, Verifier};
use server::peer::Proxies;
use server::rate::Rates;
use server::webhook::WebhookKey;
use store::{Created, EventAppend, Store};
use tempfile::TempDir;
use testkit::{FakeForge, TempRepo};
use tower::ServiceExt as _;

pub const KEY: &str = "bgak_test";
/// A member.
pub const ANN: &str = "test/member/ann";

/// Knows anybody: `test/ROLE/USER`, and `test/ROLE/USER/TEAM` with a group that a token would tell of. `test/refused` and
/// `test/away` are credentials that are no good, and that cannot be told.
#[derive(Debug)]
struct Anybody;

#[async_trait]
impl Verifier for Anybody {
    async fn verify(&self, credential: &Credential, _now: Timestamp) -> Result<Option<Identity>, Denied> {
        let mut parts = credential.expose().split('/');
        if parts.next() != Some("test") {
            return Ok(None);
        }
        let role: Role = match parts.next().unwrap() {
            "refused" => return Err(Denied::Refused("the token has expired; log in again".into())),
            "away" => {
                return Err(Denied::Unavailable("the identity provider does not answer; try again".into()));
            }
            role => role.parse().unwrap(),
        };
        Ok(Some(Identity {
            user: UserId::new(parts.next().unwrap()),
            role,
            teams: parts.map(str::to_owned).collect(),
            scopes: role.scopes(),
            by: Authenticated::Oidc { issuer: "https://id.example.com".into() },
        }))
    }
}

/// Every model exists and answers.
#[derive(Debug)]
struct FakeModels;

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

/// A control plane whose engine does not run: tasks move when a test says so.
pub struct World {
    pub router: Router,
    pub app: App,
    pub orchestrator: Orchestrator,
    pub forge: FakeForge,
    pub web: Web,
    pub clock: Clock,
    _mirrors: TempDir,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Bytes,
}

impl World {
    pub fn new() -> World {
        World::on(Store::in_memory())
    }

    /// One with another policy.
    pub fn with_policy(change: impl FnOnce(&mut Policy)) -> World {
        World::built(Store::in_memory(), settings(), change)
    }

    pub fn on(store: Store) -> World {
        World::with(store, settings())
    }

    /// People of these teams (TOML, as below `[teams]`).
    pub fn of_teams(teams: &str) -> World {
        let teams: Teams = toml::from_str(teams).unwrap();
        World::with(Store::in_memory(), Settings { teams, ..settings() })
    }

    pub fn with(store: Store, settings: Settings) -> World {
        World::built(store, settings, |_| ())
    }

    fn built(store: Store, settings: Settings, change: impl FnOnce(&mut Policy)) -> World {
        let mut policy = Policy {
            per_user: 2,
            retry_pause: Duration::from_millis(1),
            preflight_check: Duration::from_secs(300),
            local_check: Duration::from_secs(300),
            // Boxes of these tests do not answer unless a test does it for them.
            cancel_grace: Duration::from_millis(20),
            ..Policy::default()
        };
        change(&mut policy);
        let mirrors = tempfile::tempdir().unwrap();
        let (forge, web) = (FakeForge::new(), Web::default());
        let clock = Clock::manual(jiff::Timestamp::from_second(1_700_000_000).unwrap());
        let orchestrator = Orchestrator::new(Parts {
            store,
            forges: Forges { github: Arc::new(forge.clone()), local: Arc::new(forge.clone()) },
            mirrors: Mirrors::new(mirrors.path().join("mirrors"), mirrors.path().join("pushes")),
            objects: Arc::new(objects::MemoryObjects::default()),
            fetch: Arc::new(web.clone()),
            inspector: Arc::new(InProcess),
            compute: Arc::new(FakeBackend::new()),
            models: Arc::new(FakeModels),
            token_key: TokenKey::new(SecretString::from("k".to_owned())),
            policy,
            clock: clock.clone(),
            node: NodeId::new("node"),
            gateway: "unix:/nowhere".into(),
        });
        let metrics = server::metrics::recorder().unwrap();
        let keys = Keys::new(SecretString::from(KEY.to_owned())).and(Arc::new(Anybody));
        let keys = keys.and(Arc::new(ApiKeys::new(orchestrator.store().clone())));
        let cursors = Cursors::new(SecretString::from("c".to_owned()));
        let app = App::new(orchestrator.clone(), keys, cursors, metrics, settings);
        let router = api::routes(app.clone());
        World { router, app, orchestrator, forge, web, clock, _mirrors: mirrors }
    }

    /// Any request at all.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: head.status, headers: head.headers, bytes }
    }

    /// A request of the owner.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.send(request(method, path, body)).await
    }

    /// A request of whoever has this key.
    pub async fn call_as(&self, key: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = request(method, path, body);
        request.headers_mut().insert("x-api-key", key.parse().unwrap());
        self.send(request).await
    }

    pub async fn get_as(&self, key: &str, path: &str) -> Answer {
        self.call_as(key, Method::GET, path, None).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    pub async fn post(&self, body: Value) -> Answer {
        self.call(Method::POST, "/v1/tasks", Some(body)).await
    }

    /// A task of the owner, just submitted.
    pub async fn submitted(&self, description: &str) -> TaskId {
        self.submitted_by(LOCAL_OWNER, repo(), description).await
    }

    pub async fn submitted_by(&self, user: &str, repo: RepoRef, description: &str) -> TaskId {
        self.submitted_as(user, spec(repo, description)).await
    }

    /// A task of the owner with something else asked.
    pub async fn submitted_with(&self, description: &str, change: impl FnOnce(&mut TaskSpec)) -> TaskId {
        let mut spec = spec(repo(), description);
        change(&mut spec);
        self.submitted_as(LOCAL_OWNER, spec).await
    }

    async fn submitted_as(&self, user: &str, spec: TaskSpec) -> TaskId {
        let submission =
            Submission { user: UserId::new(user), channel: "api".into(), spec, idempotency_key: None };
        let Created::New(task) = self.orchestrator.submit(submission).await.unwrap() else {
            panic!("nothing was submitted before");
        };
        // The next one is younger.
        self.clock.advance(Duration::from_millis(10));
        task.id
    }

    pub async fn cancel(&self, task: TaskId) {
        let done = self.orchestrator.command(task, Command::Cancel { by: LOCAL_OWNER.into() }).await.unwrap();
        assert!(matches!(done, Done::Applied(_)), "{done:?}");
    }

    /// An event, as its box appends it.
    pub async fn says(&self, task: TaskId, key: &str) {
        let event = NewEvent {
            client_key: Some(key.into()),
            ..NewEvent::new(EventKind::AgentTurn, json!({ "turn": 1, "text": key }))
        };
        let attempt = self.task(task).await.attempt;
        let append = EventAppend {
            task,
            attempt,
            events: vec![event],
            attempt_limit: 10_000,
            now: self.orchestrator.now(),
        };
        let appended = self.orchestrator.store().events_append(append).await.unwrap();
        assert!(matches!(appended, store::Appended::Stored { stored: 1, .. }), "{appended:?}");
    }

    pub async fn task(&self, task: TaskId) -> Task {
        self.orchestrator.store().task_get(task).await.unwrap().unwrap()
    }

    /// Drives the task until it waits for something.
    pub async fn drive(&self, task: TaskId) {
        let node = NodeId::new("test");
        let now = self.orchestrator.now();
        let claimed = self.orchestrator.store().task_claim(task, &node, now, Duration::from_secs(60));
        self.orchestrator.drive(claimed.await.unwrap().unwrap()).await;
    }

    /// A task of the owner on `source` whose box has attached and begun.
    pub async fn running(&self, source: &TempRepo, description: &str) -> TaskId {
        self.forge.add_repo(repo(), source.path());
        let task = self.submitted(description).await;
        self.drive(task).await;
        let attached = self.orchestrator.box_attached(task, Attempt(1), "i1").await.unwrap();
        assert!(matches!(attached, orchestrator::report::Heard::Yes(_)), "{attached:?}");
        self.orchestrator.box_started(task, Attempt(1), "0123456789ab".parse().ok()).await.unwrap();
        assert_eq!(self.task(task).await.status().as_str(), "RUNNING");
        task
    }

    /// The box has pushed the branch `donor` of the source as the task's.
    pub async fn pushed(&self, source: &TempRepo, task: TaskId) -> String {
        let branch = self.task(task).await.branch;
        let donor = source.head("donor").await.unwrap();
        let quarantine = self.orchestrator.parts().mirrors.quarantine(task);
        let file = quarantine.join("refs/heads").join(branch);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, format!("{donor}\n")).unwrap();
        donor
    }

    /// The box has pushed and reports; the pull request is opened.
    pub async fn completed(&self, source: &TempRepo, task: TaskId) {
        let donor = self.pushed(source, task).await;
        let report = Report {
            agent: AgentStatus::Success,
            build: GateResult::Passed,
            lint: GateResult::Inert,
            turns_attempted: 3,
            turns_completed: 3,
            head_sha: Some(donor),
            commits: 1,
            pr_title: "Fix it".into(),
            pr_body: "It was broken.".into(),
            answer: String::new(),
            failure: None,
        };
        self.orchestrator.box_reported(task, Attempt(1), report).await.unwrap();
        self.drive(task).await;
        assert_eq!(self.task(task).await.status().as_str(), "COMPLETED");
    }
}

/// Without teams and limits.
pub fn settings() -> Settings {
    Settings {
        teams: Teams::default(),
        identity: Vec::new(),
        rates: Rates::off(),
        public_url: "https://agents.example.com".into(),
        webhook_key: WebhookKey::new(SecretString::from("w".to_owned())),
        webhook_signature: store::Signature::Strict,
        proxies: Proxies::default(),
    }
}

/// A repository with one commit on `main` and one more on `donor`.
pub async fn source() -> TempRepo {
    let source = TempRepo::new(&[("README.md", "one\n")]).await.unwrap();
    source.branch("donor").await.unwrap();
    source.commit("the work", &[("README.md", "two\n")]).await.unwrap();
    source.checkout("main").await.unwrap();
    source
}

/// A request with the owner's key.
pub fn request(method: Method, path: &str, body: Option<Value>) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header("x-api-key", KEY);
    match body {
        Some(body) => {
            request.header("content-type", "application/json").body(Body::from(body.to_string())).unwrap()
        }
        None => request.body(Body::empty()).unwrap(),
    }
}

pub fn repo() -> RepoRef {
    "octo/cat".parse().unwrap()
}

pub fn spec(repo: RepoRef, description: &str) -> TaskSpec {
    TaskSpec {
        repo,
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

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The payload of a success.
    #[track_caller]
    pub fn data(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        self.json()["data"].clone()
    }

    /// Checks the error envelope; returns the message.
    #[track_caller]
    pub fn error(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        assert_eq!(self.headers["content-type"], "application/json");
        let body = self.json();
        assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
        let error = body["error"].as_object().unwrap();
        assert_eq!(error.len(), 3, "{body}");
        assert_eq!(error["code"], code, "{body}");
        let id = error["request_id"].as_str().unwrap();
        assert_eq!(self.headers["x-request-id"], id, "the header and the body name one request");
        assert!(id.len() == 26 && id.parse::<domain::RequestId>().is_ok(), "{id}");
        let message = error["message"].as_str().unwrap();
        assert!(message.len() > 10 && message.len() < 2_000, "{message}");
        message.to_owned()
    }

    /// What a person could do next, when there is a next page.
    pub fn next_token(&self) -> Option<String> {
        self.json()["pagination"]["next_token"].as_str().map(str::to_owned)
    }

    /// One field of each row.
    pub fn column(&self, field: &str) -> Vec<Value> {
        self.data(200).as_array().unwrap().iter().map(|row| row[field].clone()).collect()
    }
}

/// Ends a test that would hang, by the machine's clock.
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("it takes too long")
}
