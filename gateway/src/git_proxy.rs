//! git smart HTTP on the quarantines. A box may fetch its task's repository, and push its task's branch: nothing else, no
//! deletion, no force. What it pushes stays in its task's quarantine until the control plane hands it to the forge.
//!
//! | module | holds |
//! |---|---|
//! | `push` | receiving: the head is read here before git sees any of it, the content is looked at before it is accepted |
//! | `pkt` | the lines of a push, read strictly |

mod pkt;
mod push;

use std::io::Read as _;
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{self, DefaultBodyLimit, Path, Query};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use domain::state::Hydration;
use domain::{State, Task, TaskId};
use futures_util::StreamExt as _;
use git::Git;
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::ChildStderr;
use tokio::time::Instant;
use tokio_util::io::ReaderStream;
use tracing::warn;

use crate::Gateway;
use crate::auth::{Caller, Refusal};

/// Bytes of a fetch request: only wants and haves.
const FETCH_BODY_MAX: usize = 16 * 1024 * 1024;
/// A fetch waits so long for the mirror before the box is told to ask again.
const MIRROR_WAIT: Duration = Duration::from_secs(20);
/// Between two looks at whether it is ready.
const MIRROR_LOOK: Duration = Duration::from_millis(5);

/// The routes of the git proxy.
pub fn routes() -> Router<Gateway> {
    Router::new()
        .route("/git/{repo}/info/refs", get(advertise))
        .route("/git/{repo}/git-upload-pack", post(upload_pack).layer(DefaultBodyLimit::max(FETCH_BODY_MAX)))
        .route("/git/{repo}/git-receive-pack", post(push::receive_pack).layer(DefaultBodyLimit::disable()))
}

/// A refusal as git shows it to its user: plain text after `remote:`.
#[derive(Debug)]
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], self.1 + "\n").into_response()
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        Refused(refusal.status(), refusal.message().to_owned())
    }
}

fn refuse(status: StatusCode, why: impl Into<String>) -> Refused {
    Refused(status, why.into())
}

#[derive(Debug, Deserialize)]
struct Service {
    service: Option<String>,
}

/// The caller's task, when the path names it and nothing else.
async fn task_of(gateway: &Gateway, caller: &Caller, repo: &str) -> Result<Task, Refused> {
    let named: Option<TaskId> = repo.strip_suffix(".git").and_then(|id| id.parse().ok());
    if named != Some(caller.0.task) {
        return Err(refuse(StatusCode::FORBIDDEN, "this token is for the repository of its own task only"));
    }
    match gateway.orchestrator().store().task_get(caller.0.task).await {
        Ok(Some(task)) => Ok(task),
        Ok(None) => Err(refuse(StatusCode::CONFLICT, "this attempt is over; the box must stop")),
        Err(failure) => {
            warn!(error = %failure, "the store did not answer a box");
            Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "the control plane cannot answer now; try again"))
        }
    }
}

/// The task, once its mirror is up to date. Dispatch refreshes the mirror while the box starts, and records the session
/// after both: until then a box would see no branch, or an old one.
async fn task_with_mirror(gateway: &Gateway, caller: &Caller, repo: &str) -> Result<Task, Refused> {
    let deadline = Instant::now() + MIRROR_WAIT;
    loop {
        let task = task_of(gateway, caller, repo).await?;
        let preparing = matches!(
            task.state,
            State::Hydrating { phase: Hydration::Preflight | Hydration::Dispatch { .. }, .. }
        );
        if !preparing {
            return Ok(task);
        }
        if Instant::now() > deadline {
            return Err(refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                "the mirror is still being filled; try again",
            ));
        }
        tokio::time::sleep(MIRROR_LOOK).await;
    }
}

/// Where a task's repository is.
fn quarantine(gateway: &Gateway, task: &Task) -> PathBuf {
    gateway.orchestrator().parts().mirrors.quarantine(task.id)
}

/// git on a task's repository, with the rules of this proxy.
fn serve(dir: &FilePath, headers: &HeaderMap) -> Git {
    let mut git = Git::new().dir(dir).config("uploadpack.allowFilter", "true");
    if let Some(version) = headers.get("git-protocol").and_then(|v| v.to_str().ok())
        && version.chars().all(|c| c.is_ascii_alphanumeric() || "=:".contains(c))
    {
        git = git.env("GIT_PROTOCOL", version);
    }
    git
}

fn answer(service: &str, kind: &str, body: Body) -> Response {
    let head = [
        (header::CONTENT_TYPE, format!("application/x-{service}-{kind}")),
        (header::CACHE_CONTROL, "no-cache".into()),
    ];
    (head, body).into_response()
}

async fn advertise(
    extract::State(gateway): extract::State<Gateway>,
    caller: Result<Caller, Refusal>,
    Path(repo): Path<String>,
    Query(query): Query<Service>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let task = task_with_mirror(&gateway, &caller?, &repo).await?;
    let service = match query.service.as_deref() {
        Some(service @ ("git-upload-pack" | "git-receive-pack")) => service,
        _ => return Err(refuse(StatusCode::FORBIDDEN, "only the smart protocol is served")),
    };
    let verb = service.trim_start_matches("git-");
    let out = serve(&quarantine(&gateway, &task), &headers)
        .args([verb, "--stateless-rpc", "--advertise-refs", "."])
        .doing(format!("listing the refs for {}", task.id))
        .run()
        .await
        .map_err(|e| unavailable(&e))?;
    let head = format!("# service={service}\n");
    let mut body = format!("{:04x}{head}0000", head.len() + 4).into_bytes();
    body.extend_from_slice(&out.stdout);
    Ok(answer(service, "advertisement", Body::from(body)))
}

fn unavailable(failure: &git::GitError) -> Refused {
    warn!(error = %failure, "git on a mirror failed");
    refuse(StatusCode::SERVICE_UNAVAILABLE, "the mirror of this repository cannot be served now; try again")
}

async fn upload_pack(
    extract::State(gateway): extract::State<Gateway>,
    caller: Result<Caller, Refusal>,
    Path(repo): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let task = task_of(&gateway, &caller?, &repo).await?;
    let zipped = headers.get(header::CONTENT_ENCODING).is_some_and(|v| v == "gzip" || v == "x-gzip");
    let request = if zipped { gunzip(&body)? } else { body.to_vec() };
    let git = serve(&quarantine(&gateway, &task), &headers).args(["upload-pack", "--stateless-rpc", "."]);
    let mut process = git.spawn().map_err(|e| unavailable(&e))?;
    let (Some(mut stdin), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
        return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "git could not be started"));
    };
    let complaints = complaints(process.stderr.take());
    // The stream owns the process: when the box goes away, git is ended.
    let stream = async_stream::stream! {
        let feed = async move {
            let _ = stdin.write_all(&request).await;
        };
        let mut chunks = ReaderStream::with_capacity(stdout, 64 * 1024);
        tokio::pin!(feed, complaints);
        let (mut fed, mut complained) = (false, false);
        loop {
            tokio::select! {
                () = &mut feed, if !fed => fed = true,
                () = &mut complaints, if !complained => complained = true,
                chunk = chunks.next() => match chunk {
                    Some(chunk) => yield chunk,
                    None => break,
                },
            }
        }
        let _ = process.wait().await;
    };
    Ok(answer("git-upload-pack", "result", Body::from_stream(stream)))
}

/// Reads what git says besides, so that it never waits to be heard; the box is told by the protocol.
async fn complaints(stderr: Option<ChildStderr>) {
    if let Some(mut stderr) = stderr {
        let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    }
}

fn gunzip(body: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut out = Vec::new();
    let limit = FETCH_BODY_MAX as u64 + 1;
    let read = flate2::read::GzDecoder::new(body).take(limit).read_to_end(&mut out);
    if read.is_err() || out.len() > FETCH_BODY_MAX {
        return Err(refuse(StatusCode::BAD_REQUEST, "the compressed request cannot be read"));
    }
    Ok(out)
}

/// For a fuzz target: reads the head of a push, as it comes and whole. Public for that alone.
#[doc(hidden)]
pub fn fuzz_commands(bytes: &[u8]) {
    pkt::exercise(bytes);
}
