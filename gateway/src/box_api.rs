//! The box API (`protocol::box_api`): thin handlers; what a call means is `orchestrator::report`'s.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequest, OptionalFromRequest, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use domain::event::{EventKind, NewEvent};
use domain::report::Report;
use domain::{Failure, FailureCode, Task, limit};
use orchestrator::report::{Heard, Work};
use orchestrator::token::BoxIdentity;
use protocol::box_api::*;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use store::{Appended, EventAppend};

use crate::Gateway;
use crate::auth::{Caller, Refusal, token};
use crate::{attachment, steer};

/// Longest hold of a directives poll.
const DIRECTIVES_WAIT_MAX: Duration = Duration::from_secs(30);
/// Bytes of one artifact.
const ARTIFACT_MAX_BYTES: usize = 64 * 1024 * 1024;

/// The routes of the box API.
pub fn routes() -> Router<Gateway> {
    Router::new()
        .route("/box/v1/attach", post(attach))
        .route("/box/v1/started", post(started))
        .route("/box/v1/events", post(events).layer(DefaultBodyLimit::max(limit::EVENT_BODY_MAX_BYTES)))
        .route("/box/v1/directives", get(directives))
        .merge(steer::routes())
        .merge(attachment::routes())
        .route("/box/v1/heartbeat", post(heartbeat))
        .route("/box/v1/result", post(result).layer(DefaultBodyLimit::max(limit::RESULT_BODY_MAX_BYTES)))
        .route("/box/v1/artifacts/{name}", put(artifact).layer(DefaultBodyLimit::max(ARTIFACT_MAX_BYTES)))
}

/// A JSON body; what is none is told in the shape of this API.
pub(crate) struct Sent<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Sent<T>, Refusal> {
        let read = <Json<T> as FromRequest<S>>::from_request(request, state).await;
        read.map(|Json(body)| Sent(body)).map_err(|e| Refusal::unread(e.status(), &e.body_text()))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> OptionalFromRequest<S> for Sent<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Option<Sent<T>>, Refusal> {
        let read = <Json<T> as OptionalFromRequest<S>>::from_request(request, state).await;
        let read = read.map_err(|e| Refusal::unread(e.status(), &e.body_text()))?;
        Ok(read.map(|Json(body)| Sent(body)))
    }
}

pub(crate) fn heard<T>(heard: Heard<T>) -> Result<T, Refusal> {
    match heard {
        Heard::Yes(value) => Ok(value),
        Heard::TooEarly => Err(Refusal::new(
            BoxErrorCode::TooEarly,
            "the control plane has not recorded the step before this one; ask again soon",
        )),
        Heard::Superseded => Err(Refusal::superseded()),
    }
}

async fn attach(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Sent(request): Sent<AttachRequest>,
) -> Result<Json<AttachResponse>, Refusal> {
    let orchestrator = gateway.orchestrator();
    let parts = orchestrator.parts();
    let good =
        token(&headers).is_some_and(|t| parts.token_key.is_bootstrap(t, request.task, request.attempt));
    if !good {
        return Err(Refusal::new(
            BoxErrorCode::Unauthorized,
            "the bootstrap token of this attempt is needed",
        ));
    }
    if !(VERSION_OLDEST..=VERSION).contains(&request.api) {
        let worker = domain::event::preview(&request.version, 32);
        let why = format!(
            "the worker ({worker}) speaks version {} of the box API, this server {VERSION_OLDEST} to {VERSION}",
            request.api
        );
        let failure = Failure::new(FailureCode::WorkerVersionUnsupported, why.as_str());
        orchestrator.box_unfit(request.task, request.attempt, failure).await?;
        return Err(Refusal::new(BoxErrorCode::VersionUnsupported, why));
    }
    let plain = |c: char| c.is_ascii_alphanumeric();
    if request.instance.is_empty() || request.instance.len() > 64 || !request.instance.chars().all(plain) {
        return Err(Refusal::new(BoxErrorCode::BadRequest, "instance must be 1 to 64 letters and digits"));
    }
    let work = heard(orchestrator.box_attached(request.task, request.attempt, &request.instance).await?)?;
    let identity = BoxIdentity { task: request.task, attempt: request.attempt, instance: request.instance };
    let spec =
        work_spec(&gateway, &work).map_err(|f| Refusal::new(BoxErrorCode::Unavailable, f.to_string()))?;
    Ok(Json(AttachResponse {
        session_token: parts.token_key.session(&identity).expose_secret().to_owned(),
        heartbeat_interval_s: parts.policy.heartbeat_interval.as_secs().max(1),
        spec,
    }))
}

/// The work, complete.
fn work_spec(gateway: &Gateway, work: &Work) -> Result<WorkSpec, Failure> {
    let parts = gateway.orchestrator().parts();
    let Work { task, base_branch, earlier } = work;
    let choice = parts.models.choose(task.spec.model.as_deref(), parts.policy.budgets.least(task))?;
    Ok(WorkSpec {
        task: task.id,
        attempt: task.attempt,
        repo: task.spec.repo.to_string(),
        git_path: format!("/git/{}.git", task.id),
        base_branch: base_branch.clone(),
        branch: task.branch.clone(),
        issue_number: task.spec.issue_number,
        description: task.spec.description.clone(),
        earlier: earlier.clone(),
        notes: task.results.notes.clone(),
        max_turns: task.turns_left(),
        model: choice.name.clone(),
        context_window: choice.context_window,
        max_output_tokens: choice.max_output_tokens,
        build_command: task.spec.build_command.clone(),
        lint_command: task.spec.lint_command.clone(),
        verify_timeout_s: parts.policy.verify_timeout.as_secs(),
        tool_output_bytes: *parts.policy.tool_output_bytes.of(&task.spec.repo),
        trace: task.spec.trace,
        nudges_scripted: gateway.scripted(&choice.name).is_some(),
        harness: parts.policy.harness.clone(),
        git_identity: parts.policy.git_identity.clone(),
        save_interval_s: parts.policy.save_interval.as_secs(),
        attachments: attachment::of_work(task),
    })
}

async fn started(
    State(gateway): State<Gateway>,
    Caller(me): Caller,
    sent: Option<Sent<Started>>,
) -> Result<StatusCode, Refusal> {
    // Workers before this field send no body.
    let prompt = sent.and_then(|Sent(started)| started.prompt_version);
    heard(gateway.orchestrator().box_started(me.task, me.attempt, prompt).await?)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn events(
    State(gateway): State<Gateway>,
    Caller(me): Caller,
    Sent(batch): Sent<EventBatch>,
) -> Result<Json<EventsAccepted>, Refusal> {
    if batch.events.len() > limit::EVENT_BATCH_MAX {
        let message =
            format!("at most {} events in a batch, got {}", limit::EVENT_BATCH_MAX, batch.events.len());
        return Err(Refusal::new(BoxErrorCode::TooLarge, message));
    }
    let orchestrator = gateway.orchestrator();
    let masks = &orchestrator.parts().policy.masks;
    let mut accepted = EventsAccepted::default();
    let mut good = Vec::with_capacity(batch.events.len());
    for event in batch.events {
        let key = domain::event::preview(&event.key, 64);
        match admissible(event) {
            Ok(mut event) => {
                masks.event(&mut event);
                good.push(event);
            }
            Err(reason) => accepted.refused.push(RefusedEvent { key, reason }),
        }
    }
    let append = EventAppend {
        task: me.task,
        attempt: me.attempt,
        events: good,
        attempt_limit: limit::EVENTS_PER_ATTEMPT_MAX,
        now: orchestrator.now(),
    };
    match orchestrator.store().events_append(append).await? {
        Appended::Stored { stored, duplicates } => {
            Ok(Json(EventsAccepted { stored, duplicates, ..accepted }))
        }
        Appended::Superseded => Err(Refusal::superseded()),
        Appended::LimitReached => {
            Err(Refusal::new(BoxErrorCode::EventLimit, "this attempt has appended its last event"))
        }
    }
}

/// Whether a box may append this, as it is.
fn admissible(event: BoxEvent) -> Result<NewEvent, String> {
    let kind = EventKind::from_wire(&event.event_type).ok_or_else(|| {
        format!("there is no event type {:?}", domain::event::preview(&event.event_type, 64))
    })?;
    if !kind.from_box() {
        return Err(format!("{} is not a box's to say", event.event_type));
    }
    if event.key.is_empty() || event.key.len() > 64 {
        return Err("key must have 1 to 64 characters".into());
    }
    if !event.metadata.is_object() {
        return Err("metadata must be an object".into());
    }
    let size = serde_json::to_vec(&event.metadata).map_or(usize::MAX, |v| v.len());
    if size > limit::EVENT_METADATA_MAX_BYTES {
        return Err(format!(
            "metadata has {size} bytes, at most {} are stored",
            limit::EVENT_METADATA_MAX_BYTES
        ));
    }
    // Keys of boxes have a prefix of their own, so that none can collide with the control plane's.
    Ok(NewEvent { client_key: Some(format!("box-{}", event.key)), ..NewEvent::new(kind, event.metadata) })
}

#[derive(Debug, Deserialize)]
struct Wait {
    wait: Option<u64>,
    #[serde(default)]
    seen: String,
}

/// Answers at once when there is something else to heed than what the box has seen, else when that changed or the wait is
/// over.
async fn directives(
    State(gateway): State<Gateway>,
    Caller(me): Caller,
    query: Result<Query<Wait>, QueryRejection>,
) -> Result<Json<Directives>, Refusal> {
    let Query(query) = query.map_err(|e| Refusal::unread(e.status(), &e.body_text()))?;
    let wait = Duration::from_secs(query.wait.unwrap_or(0)).min(DIRECTIVES_WAIT_MAX);
    let orchestrator = gateway.orchestrator();
    let deadline = tokio::time::Instant::now() + wait;
    let mut news = orchestrator.store().watch(me.task);
    loop {
        if !orchestrator.box_is_current(me.task, me.attempt, &me.instance).await? {
            return Ok(Json(Directives { cancel: true, ..Directives::default() }));
        }
        let found = steer::directives(orchestrator, me.task).await?;
        if found.tag != query.seen {
            return Ok(Json(found));
        }
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        if left.is_zero() {
            return Ok(Json(found));
        }
        news.changed(left).await;
    }
}

async fn heartbeat(
    State(gateway): State<Gateway>,
    Caller(me): Caller,
    Sent(beat): Sent<Heartbeat>,
) -> Result<Json<Directives>, Refusal> {
    let orchestrator = gateway.orchestrator();
    let stage = orchestrator.parts().policy.masks.all().mask(&beat.stage).into_owned();
    let stage = domain::event::preview(&stage, 64);
    orchestrator.store().session_heartbeat(me.task, me.attempt, &stage, orchestrator.now()).await?;
    Ok(Json(Directives::default()))
}

/// Not through `Caller`: a box may report again after its first report was accepted and the task ended.
async fn result(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Sent(report): Sent<Report>,
) -> Result<StatusCode, Refusal> {
    let orchestrator = gateway.orchestrator();
    let me =
        token(&headers).and_then(|t| orchestrator.parts().token_key.verify_session(t)).ok_or_else(|| {
            Refusal::new(BoxErrorCode::Unauthorized, "a session token of this gateway is needed")
        })?;
    let task: Option<Task> = orchestrator.store().task_get(me.task).await?;
    let again = task.is_some_and(|t| t.status().is_terminal() && t.attempt == me.attempt);
    if !again && !orchestrator.box_is_current(me.task, me.attempt, &me.instance).await? {
        return Err(Refusal::superseded());
    }
    if !again {
        heard(orchestrator.box_reported(me.task, me.attempt, report).await?)?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Stores a file of the attempt. Names are plain file names; a second file of the same name replaces the first.
async fn artifact(
    State(gateway): State<Gateway>,
    Caller(me): Caller,
    name: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Refusal> {
    let Path(name) = name.map_err(|e| Refusal::unread(e.status(), &e.body_text()))?;
    let plain = !name.is_empty()
        && name.len() <= 100
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if !plain {
        return Err(Refusal::new(
            BoxErrorCode::BadRequest,
            "an artifact's name has 1 to 100 letters, digits, dots, dashes",
        ));
    }
    let body = body.map_err(|e| Refusal::unread(e.status(), &e.body_text()))?;
    let body = match std::str::from_utf8(&body) {
        Ok(_) => {
            gateway.orchestrator().parts().policy.masks.all().mask_json_bytes(&body).map_or(body, Bytes::from)
        }
        // A picture, an archive: with a mask in it, it would be neither.
        Err(_) => body,
    };
    let failed = |why: String| {
        Refusal::new(BoxErrorCode::Unavailable, format!("the artifact could not be stored: {why}"))
    };
    let key = format!("artifacts/{}-{}/{name}", me.task, me.attempt)
        .parse()
        .map_err(|e: objects::BadKey| failed(e.to_string()))?;
    let objects = &gateway.orchestrator().parts().objects;
    objects.put(&key, objects::body(body)).await.map_err(|e| failed(e.to_string()))?;
    Ok(StatusCode::NO_CONTENT)
}
