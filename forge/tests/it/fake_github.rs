//! A small GitHub: the six API calls we use, over repositories on disk, and the real `git http-backend` behind basic
//! authentication.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

pub const TOKEN: &str = "ghs_conformance_token";

pub struct FakeGitHub {
    pub url: String,
    state: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

struct Shared {
    root: PathBuf,
    pulls: Mutex<Vec<Value>>,
}

impl FakeGitHub {
    /// Serves the bare repositories `root/OWNER/NAME.git`.
    pub async fn start(root: &Path) -> FakeGitHub {
        let state = Arc::new(Shared { root: root.to_owned(), pulls: Mutex::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(serve).with_state(Arc::clone(&state));
        #[expect(clippy::disallowed_methods, reason = "a test's own server, aborted when dropped")]
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        FakeGitHub { url, state, server }
    }

    pub fn pulls(&self) -> Vec<Value> {
        self.state.pulls.lock().unwrap().clone()
    }
}

impl Drop for FakeGitHub {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(State(state): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 64 * 1024 * 1024).await.unwrap();
    let path = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    match path.strip_prefix("/git/") {
        Some(path) => git(&state.root, &parts.method, path, &query, &parts.headers, body).await,
        None => {
            let bearer = parts.headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default();
            let (status, body) = if bearer == format!("Bearer {TOKEN}") {
                api(&state, &parts.method, &path, &query, &body)
            } else {
                (401, json!({"message": "Bad credentials"}))
            };
            let answer = Response::builder().status(status).header("content-type", "application/json");
            answer.body(Body::from(body.to_string())).unwrap()
        }
    }
}

fn api(state: &Shared, method: &Method, path: &str, query: &str, body: &[u8]) -> (u16, Value) {
    let not_found = || (404, json!({"message": "Not Found"}));
    let segments: Vec<String> = path.trim_start_matches("/api/").split('/').map(decoded).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let ["repos", owner, name, rest @ ..] = &segments[..] else { return not_found() };
    let disk = state.root.join(owner).join(format!("{name}.git"));
    if !disk.is_dir() {
        return not_found();
    }
    let head =
        |branch: &str| run(&disk, &["show-ref", "--verify", "--hash", &format!("refs/heads/{branch}")]);
    match (method.as_str(), rest) {
        ("GET", []) => {
            let default = run(&disk, &["symbolic-ref", "--short", "HEAD"]).unwrap();
            (
                200,
                json!({"full_name": format!("{owner}/{name}"), "default_branch": default, "archived": false,
                         "permissions": {"pull": true, "push": true}}),
            )
        }
        ("GET", ["branches"]) => {
            let all = run(&disk, &["for-each-ref", "--format=%(refname:short)", "refs/heads"]).unwrap();
            (200, all.lines().map(|b| json!({"name": b})).collect())
        }
        ("GET", ["branches", branch]) => match head(branch) {
            Some(sha) => (200, json!({"name": branch, "commit": {"sha": sha}})),
            None => (404, json!({"message": "Branch not found"})),
        },
        ("GET", ["pulls"]) => {
            let wanted = query.split('&').find_map(|p| p.strip_prefix("head=")).map(decoded);
            let pulls = state.pulls.lock().unwrap();
            let is_wanted = |p: &&Value| wanted.as_ref().is_none_or(|w| p["head"]["label"] == json!(w));
            (200, pulls.iter().filter(is_wanted).cloned().collect())
        }
        ("POST", ["pulls"]) => {
            let asked: Value = serde_json::from_slice(body).unwrap();
            let (branch, base) = (asked["head"].as_str().unwrap(), asked["base"].as_str().unwrap());
            let invalid = |m: &str| {
                (
                    422,
                    json!({"message": "Validation Failed", "errors": [{"resource": "PullRequest", "message": m}]}),
                )
            };
            if head(branch).is_none() || head(base).is_none() {
                let fields = json!([{"resource": "PullRequest", "field": "head", "code": "invalid"}]);
                return (422, json!({"message": "Validation Failed", "errors": fields}));
            }
            let mut pulls = state.pulls.lock().unwrap();
            if pulls.iter().any(|p| p["head"]["ref"] == asked["head"]) {
                return invalid(&format!("A pull request already exists for {owner}:{branch}."));
            }
            let number = pulls.len() + 7;
            let repo = json!({"full_name": format!("{owner}/{name}")});
            pulls.push(json!({
                "number": number, "html_url": format!("https://github.example/{owner}/{name}/pull/{number}"), "state": "open",
                "draft": asked["draft"], "title": asked["title"], "body": asked["body"],
                "head": {"ref": branch, "label": format!("{owner}:{branch}"), "repo": repo},
                "base": {"ref": base, "repo": repo},
            }));
            (201, pulls.last().unwrap().clone())
        }
        _ => not_found(),
    }
}

/// `git http-backend`, as a web server runs it.
async fn git(
    root: &Path,
    method: &Method,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Response<Body> {
    use base64::Engine as _;
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{TOKEN}"));
    if header("authorization") != format!("Basic {basic}") {
        let refused = Response::builder()
            .status(StatusCode::UNAUTHORIZED)
            .header("www-authenticate", "Basic realm=\"git\"");
        return refused.body(Body::from("bad credentials")).unwrap();
    }
    let mut child = tokio::process::Command::new("git")
        .args(["-c", "http.receivepack=true", "http-backend"])
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "receive.denyNonFastForwards")
        .env("GIT_CONFIG_VALUE_0", "false")
        .env("PATH_INFO", format!("/{path}"))
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", method.as_str())
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .env("REMOTE_USER", "tester")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feed = async move {
        let _ = stdin.write_all(&body).await;
    };
    let (_, out) = tokio::join!(feed, child.wait_with_output());
    let out = out.unwrap().stdout;
    let end = out.windows(4).position(|w| w == b"\r\n\r\n").expect("a CGI answer");
    let mut answer = Response::builder();
    for line in String::from_utf8_lossy(&out[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        answer = match name {
            "Status" => answer.status(value.split(' ').next().unwrap().parse::<u16>().unwrap()),
            _ => answer.header(name, value),
        };
    }
    answer.body(Body::from(out[end + 4..].to_vec())).unwrap()
}

fn run(dir: &Path, args: &[&str]) -> Option<String> {
    let out = std::process::Command::new("git").current_dir(dir).args(args).output().unwrap();
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

fn decoded(text: &str) -> String {
    let pairs = format!("x={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(pairs.as_bytes()).next().unwrap().1.into_owned()
}
