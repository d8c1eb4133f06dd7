//! The typed client of `/v1`: what the command line and other programs speak to a server with.
//!
//! Every call has a time limit. Nothing is tried twice here but the event stream ([`stream`]), which goes on where it was
//! cut; a caller that wants to repeat another call may: all are harmless to repeat, `create_task` with its key.

mod access;
mod error;
mod identity;
mod steer;
pub mod stream;
mod trace;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use domain::TaskId;
use reqwest::{Method, RequestBuilder, Response};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

pub use self::access::{AuditQuery, HeldQuery};
pub use self::error::ClientError;
pub use self::identity::Bearer;
pub use self::trace::Pieces;
use crate::admin::{ObligationRecord, PurgeRequest, Purged, SessionRecord};
use crate::rest::{
    CancelledTask, CreateTaskRequest, CreatedTask, Data, EventRecord, Health, Page, PullRequestDetail,
    TaskDetail, TaskSummary,
};
use crate::usage::UsageReport;

/// To connect.
const CONNECT: Duration = Duration::from_secs(5);
/// From sending a request to the last byte of its answer.
const ANSWER: Duration = Duration::from_secs(30);

/// The same for a purge.
const PURGE: Duration = Duration::from_secs(600);

/// A server, and the key to it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    base: Url,
    key: Option<SecretString>,
    bearer: Option<Arc<dyn Bearer>>,
    http: reqwest::Client,
}

/// Whether a submission made a task or found the one its idempotency key had made before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayed {
    /// Found: the answer is that of the first submission.
    Yes,
    /// Made now.
    No,
}

/// Which tasks to list.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TaskFilter {
    /// States, separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    /// `mine`, `team` or `all`; the server's default is `mine`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whose: Option<String>,
    /// Rows of a page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where the last page said to go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// Which usage to report.
#[derive(Debug, Clone, Default, Serialize)]
pub struct UsageQuery {
    /// First UTC day, `YYYY-MM-DD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Last UTC day, included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What a row stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Only this user's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Only of this repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
}

/// Which end of the record a page begins at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// As it happened.
    #[default]
    OldestFirst,
    /// The newest event first.
    NewestFirst,
}

/// Which events to read.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Only events after this event id.
    pub after: Option<String>,
    /// Events of a page.
    pub limit: Option<u32>,
    /// Their order.
    pub order: Order,
    /// How long the server may hold the answer back until there is an event; whole seconds, at most
    /// [`domain::limit::LONG_POLL_MAX`].
    pub wait: Option<Duration>,
    /// Where the last page said to go on.
    pub next_token: Option<String>,
}

impl Client {
    /// A client of the server at `base` (`http://host:port`, perhaps with a path). Does not connect yet.
    pub fn new(base: Url, key: Option<SecretString>) -> Result<Self, ClientError> {
        let bad = |why: String| ClientError::BadUrl { url: base.to_string(), why };
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(bad("it must begin with http:// or https:// and name a host".into()));
        }
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .user_agent(concat!("bgagent/", env!("CARGO_PKG_VERSION")));
        if loopback(&base) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|e| bad(e.to_string()))?;
        let mut base = base;
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        base.set_query(None);
        base.set_fragment(None);
        Ok(Self { base, key, bearer: None, http })
    }

    /// Whether it has a key to show.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Where it speaks to.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Submits a task. With an idempotency key the same submission may be repeated: it makes one task.
    pub async fn create_task(
        &self,
        request: &CreateTaskRequest,
        idempotency_key: Option<&str>,
    ) -> Result<(TaskDetail, Replayed), ClientError> {
        let (made, replayed) = self.create(request, idempotency_key).await?;
        Ok((made.task, replayed))
    }

    /// The same, with how its attachments are uploaded.
    pub async fn create(
        &self,
        request: &CreateTaskRequest,
        idempotency_key: Option<&str>,
    ) -> Result<(CreatedTask, Replayed), ClientError> {
        let mut call = self.request(Method::POST, "v1/tasks")?.json(request);
        if let Some(key) = idempotency_key {
            call = call.header("Idempotency-Key", key);
        }
        let answer = self.send(call.timeout(ANSWER)).await?;
        let replayed = answer.headers().get("Idempotent-Replay").is_some_and(|v| v.as_bytes() == b"true");
        let task: Data<CreatedTask> = self.body(answer, "the new task").await?;
        Ok((task.data, if replayed { Replayed::Yes } else { Replayed::No }))
    }

    /// A task as it stands.
    pub async fn task(&self, task: TaskId) -> Result<TaskDetail, ClientError> {
        Ok(self.get::<Data<_>>(&format!("v1/tasks/{task}"), "the task").await?.data)
    }

    /// One page of tasks, the newest first.
    pub async fn list(&self, filter: &TaskFilter) -> Result<Page<TaskSummary>, ClientError> {
        let call = self.request(Method::GET, "v1/tasks")?.query(filter).timeout(ANSWER);
        let answer = self.send(call).await?;
        self.body(answer, "the list of tasks").await
    }

    /// Cancels a task.
    pub async fn cancel(&self, task: TaskId) -> Result<CancelledTask, ClientError> {
        let call = self.request(Method::DELETE, &format!("v1/tasks/{task}"))?.timeout(ANSWER);
        let answer = self.send(call).await?;
        Ok(self.body::<Data<_>>(answer, "the cancelled task").await?.data)
    }

    /// What is owed: boxes to stop, traces to put together.
    pub async fn obligations(&self) -> Result<Vec<ObligationRecord>, ClientError> {
        Ok(self.get::<Data<_>>("v1/admin/obligations", "the obligations").await?.data)
    }

    /// The boxes that live.
    pub async fn sessions(&self) -> Result<Vec<SessionRecord>, ClientError> {
        Ok(self.get::<Data<_>>("v1/admin/sessions", "the sessions").await?.data)
    }

    /// Removes what is over. May take long.
    pub async fn purge(&self, request: &PurgeRequest) -> Result<Purged, ClientError> {
        let call = self.request(Method::POST, "v1/admin/purge")?.json(request).timeout(PURGE);
        let answer = self.send(call).await?;
        Ok(self.body::<Data<_>>(answer, "what was purged").await?.data)
    }

    /// What models cost.
    pub async fn usage(&self, query: &UsageQuery) -> Result<UsageReport, ClientError> {
        let call = self.request(Method::GET, "v1/usage")?.query(query).timeout(ANSWER);
        let answer = self.send(call).await?;
        Ok(self.body::<Data<_>>(answer, "the usage").await?.data)
    }

    /// One page of a task's events.
    pub async fn events(&self, task: TaskId, query: &EventQuery) -> Result<Page<EventRecord>, ClientError> {
        let mut pairs: Vec<(&str, String)> = vec![];
        pairs.extend(query.after.iter().map(|after| ("after", after.clone())));
        pairs.extend(query.limit.iter().map(|limit| ("limit", limit.to_string())));
        pairs.extend(query.wait.iter().map(|wait| ("wait", wait.as_secs().to_string())));
        pairs.extend(query.next_token.iter().map(|token| ("next_token", token.clone())));
        match query.order {
            Order::OldestFirst => {}
            Order::NewestFirst => pairs.push(("desc", "1".into())),
        }
        let limit = ANSWER + query.wait.unwrap_or_default();
        let call =
            self.request(Method::GET, &format!("v1/tasks/{task}/events"))?.query(&pairs).timeout(limit);
        let answer = self.send(call).await?;
        self.body(answer, "the events").await
    }

    /// The pull request of a task.
    pub async fn pull_request(&self, task: TaskId) -> Result<PullRequestDetail, ClientError> {
        let path = format!("v1/tasks/{task}/pull-request");
        Ok(self.get::<Data<_>>(&path, "the pull request").await?.data)
    }

    /// Whether the server is up. Sends no key: what answers is not yet known to be ours.
    pub async fn health(&self, within: Duration) -> Result<Health, ClientError> {
        let call = self.http.get(self.url("v1/health")?).timeout(within);
        let answer = self.send_open(call).await?;
        Ok(self.body::<Data<_>>(answer, "the health").await?.data)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, what: &'static str) -> Result<T, ClientError> {
        let answer = self.send(self.request(Method::GET, path)?.timeout(ANSWER)).await?;
        self.body(answer, what).await
    }

    fn url(&self, path: &str) -> Result<Url, ClientError> {
        let bad = |e: url::ParseError| ClientError::BadUrl { url: self.base.to_string(), why: e.to_string() };
        self.base.join(path).map_err(bad)
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, ClientError> {
        let call = self.http.request(method, self.url(path)?);
        Ok(match &self.key {
            Some(key) => call.header("X-API-Key", key.expose_secret()),
            None => call,
        })
    }

    /// Sends, with the token of whoever is signed in; anything but a 2xx is an error.
    async fn send(&self, call: RequestBuilder) -> Result<Response, ClientError> {
        let call = self.signed(call).await?;
        self.send_open(call).await
    }

    /// Sends without a token; anything but a 2xx is an error.
    async fn send_open(&self, call: RequestBuilder) -> Result<Response, ClientError> {
        let answer = call.send().await.map_err(|e| self.transport(e))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let retry_after = error::retry_after(answer.headers());
        let text = answer.text().await.map_err(|e| self.transport(e))?;
        Err(error::refused(status, retry_after, &text))
    }

    async fn body<T: DeserializeOwned>(
        &self,
        answer: Response,
        what: &'static str,
    ) -> Result<T, ClientError> {
        let bytes = answer.bytes().await.map_err(|e| self.transport(e))?;
        serde_json::from_slice(&bytes).map_err(|e| ClientError::BadAnswer { what, why: e.to_string() })
    }

    fn transport(&self, error: reqwest::Error) -> ClientError {
        if error.is_builder() {
            let why = "the key holds characters that a header cannot carry".to_owned();
            return ClientError::BadUrl { url: self.base.to_string(), why };
        }
        ClientError::Unreachable { url: self.base.to_string(), source: error.without_url() }
    }
}

/// Loopback is never reached through a proxy, whatever the environment says.
fn loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}
