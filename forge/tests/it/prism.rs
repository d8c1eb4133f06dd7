//! Our requests against GitHub's own OpenAPI description: `prism` (npm) refuses what does not fit it, and answers with
//! the examples of the documentation, which are thus read by our parsers.

use std::io::BufRead;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;
use forge::github::{Config, GitHub};
use forge::{Forge, PullRequestDraft};

struct Prism {
    url: String,
    process: Child,
}

impl Drop for Prism {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start(packages: &Path) -> Prism {
    let port = testkit::port::for_later().to_string();
    let mut process = Command::new("node")
        .arg(packages.join("@stoplight/prism-cli/dist/index.js"))
        .args(["mock", "-h", "127.0.0.1", "-p", &port])
        .arg(packages.join("@octokit/openapi/generated/api.github.com.json"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|l| l.contains("Prism is listening")), "prism did not start");
    // Its log goes on; somebody must read it, or it stops when the pipe is full.
    std::thread::spawn(move || lines.for_each(drop));
    Prism { url: format!("http://127.0.0.1:{port}"), process }
}

struct Tap {
    upstream: String,
    http: reqwest::Client,
    seen: Mutex<Vec<String>>,
}

/// Passes requests on with an `Accept` that prism knows, and notes what became of each.
async fn pass_on(State(tap): State<Arc<Tap>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let mut headers = parts.headers.clone();
    headers.remove("host");
    headers.insert("accept", "application/json".parse().unwrap());
    let body = axum::body::to_bytes(body, 1024 * 1024).await.unwrap();
    let url = format!("{}{}", tap.upstream, parts.uri);
    let answer =
        tap.http.request(parts.method.clone(), url).headers(headers).body(body).send().await.unwrap();
    let status = answer.status();
    let body = answer.bytes().await.unwrap();
    let note = format!("{} {} {}", status.as_u16(), parts.method, parts.uri);
    tap.seen.lock().unwrap().push(note);
    Response::builder().status(status).body(Body::from(body)).unwrap()
}

#[tokio::test]
async fn our_requests_fit_githubs_description_and_its_examples_are_understood() {
    let Some(packages) = testkit::peers::node_modules("prism") else { return };
    let prism = start(&packages);
    let tap =
        Arc::new(Tap { upstream: prism.url.clone(), http: reqwest::Client::new(), seen: Mutex::default() });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(pass_on).with_state(Arc::clone(&tap));
    #[expect(clippy::disallowed_methods, reason = "a test's own server, ended with the test's runtime")]
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });

    let forge =
        GitHub::new(Config { api_url: url.clone(), server_url: url.clone(), token: Some("t".into()) })
            .unwrap();
    // What it makes of the description for its first answer may take longer than a call has.
    let first = tap.http.get(format!("{}/repos/octo/cat", prism.url)).header("accept", "application/json");
    first.send().await.unwrap();
    let repo = "octo/cat".parse().unwrap();
    let info = forge.inspect(&repo, Some("main"), false).await.unwrap();
    assert_eq!(info.default_branch, "master");
    assert!(info.warnings[0].contains("octocat/Hello-World"), "{:?}", info.warnings);

    let draft = |branch: &str| PullRequestDraft {
        branch: branch.into(),
        base: "main".into(),
        head_sha: "0".repeat(40),
        title: "t".into(),
        body: "b".into(),
    };
    // `new-topic` is the head of the pull request in GitHub's examples.
    let found = forge.open_pull_request(&repo, &draft("new-topic")).await.unwrap();
    assert_eq!((found.found, found.number), (true, Some(1347)));
    let opened = forge.open_pull_request(&repo, &draft("bgagent/t/x")).await.unwrap();
    assert_eq!((opened.found, opened.number), (false, Some(1347)));

    let seen = std::mem::take(&mut *tap.seen.lock().unwrap());
    assert_eq!(seen.len(), 8, "{seen:#?}");
    assert_eq!(seen.iter().find(|s| !s.starts_with('2')), None, "every request fits: {seen:#?}");
    // What does not fit is refused: the test can fail.
    let bad = tap.http.get(format!("{}/repos/octo/cat/pulls?state=wrong", prism.url)).send().await.unwrap();
    assert_eq!(bad.status().as_u16(), 422);
}
