//! A gateway for tests: the box API, a scripted model and real git over a UNIX socket.

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use domain::report::Report;
use domain::{Attempt, TaskId};
use protocol::box_api::{
    AttachRequest, AttachResponse, BoxError, BoxErrorCode, BoxEvent, Directives, EventBatch, EventsAccepted,
    Heartbeat, TakeNudges, TakenNudge, TakenNudges, WorkSpec,
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

pub const BRANCH: &str = "bgagent/t/do-it";
const TOKEN: &str = "session-token";

/// What the model answers to one call.
#[derive(Debug, Clone)]
pub enum Reply {
    /// These are its last words.
    Done(&'static str),
    /// It runs this in the shell.
    Bash(String),
}

#[derive(Default)]
pub struct Seen {
    pub events: Vec<BoxEvent>,
    pub duplicates: u32,
    pub results: Vec<Report>,
    pub stages: Vec<String>,
    pub started: u32,
    pub model_calls: u32,
    pub model_bodies: Vec<String>,
    pub replies: VecDeque<Reply>,
    /// Paths with this beginning answer 503.
    pub away: Option<&'static str>,
    pub superseded: bool,
    /// Pushes answer with this status.
    pub push_status: Option<u16>,
    pub cancel: bool,
    pub leave: Option<String>,
    pub left: u32,
    pub nudges: Vec<TakenNudge>,
    /// Bytes by what stands after `attachments/`.
    pub attachments: BTreeMap<String, Vec<u8>>,
    pub taken: u32,
    pub refused_while_away: u32,
}

pub struct Gateway {
    pub place: tempfile::TempDir,
    pub seen: Arc<Mutex<Seen>>,
    pub spec: WorkSpec,
    /// Objects of a mirror that are lent to the work tree.
    pub objects: Option<PathBuf>,
}

#[derive(Clone)]
struct Shared {
    seen: Arc<Mutex<Seen>>,
    spec: WorkSpec,
    root: PathBuf,
}

pub fn git(dir: &Path, args: &[&str]) -> String {
    let out = std::process::Command::new("git")
        .current_dir(dir)
        .args([
            "-c",
            "user.name=T",
            "-c",
            "user.email=t@t",
            "-c",
            "init.defaultBranch=main",
            "-c",
            "maintenance.auto=0",
        ])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

impl Gateway {
    /// With a repository of these files and a model that answers this; listens until the test's runtime ends.
    pub fn start(files: &[(&str, &str)], replies: Vec<Reply>) -> Gateway {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().to_owned();
        let source = root.join("source");
        std::fs::create_dir(&source).unwrap();
        git(&source, &["init", "-q"]);
        for (name, text) in files {
            std::fs::write(source.join(name), text).unwrap();
        }
        git(&source, &["add", "-A"]);
        git(&source, &["commit", "-q", "--allow-empty", "-m", "base"]);
        git(&root, &["clone", "-q", "--bare", "source", "t.git"]);
        git(&root.join("t.git"), &["config", "http.receivepack", "true"]);
        let spec = WorkSpec {
            task: TaskId::from_bits(9),
            attempt: Attempt(1),
            repo: "octo/cat".into(),
            git_path: "/git/t.git".into(),
            base_branch: "main".into(),
            branch: BRANCH.into(),
            issue_number: None,
            description: "Do it.".into(),
            earlier: None,
            notes: Vec::new(),
            max_turns: 10,
            model: "m".into(),
            context_window: 200_000,
            max_output_tokens: 4_000,
            build_command: None,
            lint_command: None,
            verify_timeout_s: 60,
            tool_output_bytes: domain::limit::TOOL_OUTPUT_MAX_BYTES,
            nudges_scripted: false,
            trace: false,
            harness: "native".into(),
            save_interval_s: 0,
            git_identity: "Bot <bot@example>".into(),
            attachments: Vec::new(),
        };
        let seen = Arc::new(Mutex::new(Seen { replies: replies.into(), ..Seen::default() }));
        Gateway { place, seen, spec, objects: None }
    }

    pub fn root(&self) -> &Path {
        self.place.path()
    }

    /// The repository that is pushed to.
    pub fn repo(&self) -> PathBuf {
        self.root().join("t.git")
    }

    pub fn session(&self) -> PathBuf {
        self.root().join("session")
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// A hook that refuses every push.
    pub fn refuse_pushes(&self) {
        let hook = self.repo().join("hooks/pre-receive");
        std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
        std::fs::write(&hook, "#!/bin/sh\necho 'secrets were found' >&2\nexit 1\n").unwrap();
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Listens, and starts a worker process for the session.
    pub async fn worker(&self) -> Child {
        let socket = self.root().join("g.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let shared =
            Shared { seen: self.seen.clone(), spec: self.spec.clone(), root: self.root().to_owned() };
        let app = Router::new()
            .route("/box/v1/attach", post(attach))
            .route("/box/v1/started", post(started))
            .route("/box/v1/events", post(events))
            .route("/box/v1/directives", get(directives))
            .route("/box/v1/left", post(left))
            .route("/box/v1/nudges/take", post(take_nudges))
            .route("/box/v1/heartbeat", post(heartbeat))
            .route("/box/v1/attachments/{*path}", get(attachment))
            .route("/box/v1/result", post(result))
            .route("/model/v1/messages", post(model))
            .route("/git/{*path}", any(git_http))
            .layer(middleware::from_fn_with_state(shared.clone(), door))
            .layer(axum::extract::DefaultBodyLimit::max(64 * 1024 * 1024))
            .with_state(shared);
        #[expect(clippy::disallowed_methods, reason = "ends with the test")]
        tokio::spawn(async move { axum::serve(listener, app).await });

        let session = self.session();
        std::fs::create_dir_all(&session).unwrap();
        let file = json!({ "task": self.spec.task, "attempt": 1, "tier": "process",
            "plan": { "objects": self.objects },
            "gateway": format!("unix:{}", socket.display()) });
        std::fs::write(session.join("session.json"), file.to_string()).unwrap();
        std::fs::write(session.join("bootstrap"), "bootstrap-token").unwrap();
        let log = std::fs::File::create(session.join("worker.log")).unwrap();
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "pipeline::worker_process", "--nocapture", "--test-threads", "1"])
            .env("WORKER_TEST_SESSION", &session)
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// Runs a worker to its end; its exit code.
    pub async fn run(&self) -> i32 {
        let mut child = self.worker().await;
        self.end_of(&mut child).await
    }

    pub async fn end_of(&self, child: &mut Child) -> i32 {
        match tokio::time::timeout(Duration::from_secs(60), child.wait()).await {
            Ok(status) => status.unwrap().code().unwrap_or(-1),
            Err(_) => panic!("the worker does not end; its log:\n{}", self.log()),
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.session().join("worker.log")).unwrap_or_default()
    }

    /// The only result.
    pub fn report(&self) -> Report {
        let seen = self.seen();
        assert_eq!(seen.results.len(), 1, "{}", self.log());
        seen.results[0].clone()
    }

    /// Polls until it holds.
    pub async fn until(&self, what: &str, holds: impl Fn(&Seen) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !holds(&self.seen()) {
            assert!(tokio::time::Instant::now() < deadline, "never: {what}; log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How many orders to leave were carried out, and how many results came.
    pub fn orders_and_results(&self) -> (u32, usize) {
        let seen = self.seen();
        (seen.left, seen.results.len())
    }

    /// Paths on the pushed branch.
    pub fn pushed(&self) -> Vec<String> {
        git(&self.repo(), &["ls-tree", "-r", "--name-only", BRANCH]).lines().map(str::to_owned).collect()
    }

    pub fn has_branch(&self) -> bool {
        !git(&self.repo(), &["for-each-ref", &format!("refs/heads/{BRANCH}")]).is_empty()
    }

    /// Names of the milestones, in order.
    pub fn milestones(&self) -> Vec<String> {
        let name = |e: &BoxEvent| Some(e.metadata.get("milestone")?.as_str()?.to_owned());
        self.seen().events.iter().filter_map(name).collect()
    }
}

fn error(status: StatusCode, code: BoxErrorCode) -> Response {
    (status, Json(BoxError { code, message: "said by the test".into() })).into_response()
}

async fn door(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    {
        let mut seen = shared.seen.lock().unwrap();
        if seen.away.is_some_and(|beginning| path.starts_with(beginning)) {
            seen.refused_while_away += 1;
            return error(StatusCode::SERVICE_UNAVAILABLE, BoxErrorCode::Unavailable);
        }
        if seen.superseded {
            return error(StatusCode::CONFLICT, BoxErrorCode::SessionSuperseded);
        }
    }
    let token = if path == "/box/v1/attach" { "bootstrap-token" } else { TOKEN };
    let given = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    if given != Some(&format!("Bearer {token}")) {
        return error(StatusCode::UNAUTHORIZED, BoxErrorCode::Unauthorized);
    }
    next.run(request).await
}

async fn attach(State(shared): State<Shared>, Json(request): Json<AttachRequest>) -> Json<AttachResponse> {
    assert_eq!(request.instance.len(), 32);
    Json(AttachResponse { session_token: TOKEN.into(), heartbeat_interval_s: 1, spec: shared.spec })
}

async fn started(State(shared): State<Shared>) -> StatusCode {
    shared.seen.lock().unwrap().started += 1;
    StatusCode::NO_CONTENT
}

async fn events(State(shared): State<Shared>, Json(batch): Json<EventBatch>) -> Json<EventsAccepted> {
    let mut seen = shared.seen.lock().unwrap();
    let mut accepted = EventsAccepted::default();
    for event in batch.events {
        if seen.events.iter().any(|known| known.key == event.key) {
            seen.duplicates += 1;
            accepted.duplicates += 1;
        } else {
            seen.events.push(event);
            accepted.stored += 1;
        }
    }
    Json(accepted)
}

async fn directives(State(shared): State<Shared>) -> Json<Directives> {
    // A short long poll.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let seen = shared.seen.lock().unwrap();
    let nudges = seen.nudges.iter().map(|n| n.id).collect();
    Json(Directives { cancel: seen.cancel, leave: seen.leave.clone(), nudges, ..Directives::default() })
}

async fn left(State(shared): State<Shared>) -> StatusCode {
    shared.seen.lock().unwrap().left += 1;
    StatusCode::NO_CONTENT
}

/// Says that all are taken, always the same ones: as to a box that asks again.
async fn take_nudges(State(shared): State<Shared>, Json(asked): Json<TakeNudges>) -> Json<TakenNudges> {
    let mut seen = shared.seen.lock().unwrap();
    seen.taken += 1;
    Json(TakenNudges { nudges: seen.nudges.iter().filter(|n| asked.ids.contains(&n.id)).cloned().collect() })
}

async fn heartbeat(State(shared): State<Shared>, Json(beat): Json<Heartbeat>) -> Json<Directives> {
    shared.seen.lock().unwrap().stages.push(beat.stage);
    Json(Directives::default())
}

async fn attachment(
    State(shared): State<Shared>,
    axum::extract::Path(path): axum::extract::Path<String>,
) -> axum::response::Response {
    match shared.seen.lock().unwrap().attachments.get(&path) {
        Some(bytes) => bytes.clone().into_response(),
        None => StatusCode::BAD_REQUEST.into_response(),
    }
}

async fn result(State(shared): State<Shared>, Json(report): Json<Report>) -> StatusCode {
    shared.seen.lock().unwrap().results.push(report);
    StatusCode::NO_CONTENT
}

async fn model(State(shared): State<Shared>, body: String) -> Response {
    let reply = {
        let mut seen = shared.seen.lock().unwrap();
        seen.model_bodies.push(body);
        seen.model_calls += 1;
        seen.replies.pop_front().unwrap_or(Reply::Bash("true".into()))
    };
    let (block, delta, stop) = match reply {
        Reply::Done(text) => {
            (json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": text}), "end_turn")
        }
        Reply::Bash(command) => (
            json!({"type": "tool_use", "id": "t1", "name": "Bash", "input": {}}),
            json!({"type": "input_json_delta", "partial_json": json!({"command": command}).to_string()}),
            "tool_use",
        ),
    };
    let usage = json!({"input_tokens": 10, "output_tokens": 5});
    let message = json!({"id": "m1", "type": "message", "role": "assistant", "content": [], "model": "m",
        "stop_reason": null, "stop_sequence": null, "usage": usage});
    let stream: String = [
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": block}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null}, "usage": usage}),
        json!({"type": "message_stop"}),
    ]
    .iter()
    .map(|event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()))
    .collect();
    ([(header::CONTENT_TYPE, "text/event-stream")], stream).into_response()
}

/// `git http-backend`, as a web server would run it.
async fn git_http(State(shared): State<Shared>, headers: HeaderMap, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let refuse =
        shared.seen.lock().unwrap().push_status.filter(|_| parts.uri.path().ends_with("/git-receive-pack"));
    if let Some(status) = refuse {
        return (StatusCode::from_u16(status).unwrap(), "no").into_response();
    }
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", &shared.root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("PATH_INFO", parts.uri.path().trim_start_matches("/git"))
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feed = async move {
        let _ = stdin.write_all(&body).await;
    };
    let (_, out) = tokio::join!(feed, child.wait_with_output());
    let out = Bytes::from(out.unwrap().stdout);
    let split = out.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let mut answer = Response::builder();
    for line in String::from_utf8_lossy(&out[..split]).lines() {
        let Some((name, value)) = line.split_once(": ") else { continue };
        answer = match name {
            "Status" => answer.status(value[..3].parse::<u16>().unwrap()),
            name => answer.header(name, value),
        };
    }
    answer.body(Body::from(out.slice(split + 4..))).unwrap()
}
