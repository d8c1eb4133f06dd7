use std::path::{Path, PathBuf};

use domain::{FailureCode, RepoRef};
use forge::conformance::{self, GitSide, Pulls, Subject};
use forge::github::{Config, GitHub};
use forge::{Forge, PullRequest, PullRequestDraft, PushRequest, Retry};
use serde_json::{Value, json};
use wiremock::matchers::{body_partial_json, header, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::fake_github::{FakeGitHub, TOKEN};
use crate::{repo_at, sh};

fn config(url: &str, token: Option<&str>) -> Config {
    Config { api_url: format!("{url}/api"), server_url: format!("{url}/git"), token: token.map(Into::into) }
}

fn repo(name: &str) -> RepoRef {
    name.parse().unwrap()
}

fn draft(branch: &str) -> PullRequestDraft {
    PullRequestDraft {
        branch: branch.into(),
        base: "main".into(),
        head_sha: "0".repeat(40),
        title: "t".into(),
        body: "b".into(),
    }
}

/// A hosted repository with two commits, and a mirror of it with a third.
fn hosted(root: &Path) -> (PathBuf, PathBuf, String) {
    repo_at(&root.join("src"));
    sh(
        root,
        "mkdir octo && git clone -q --bare src octo/cat.git && git clone -q --bare src mirror.git && mkdir scratch",
    );
    let mirror = root.join("mirror.git");
    let head_sha =
        sh(&mirror, "git -c user.name=t -c user.email=t@t commit-tree -p main -m more 'main^{tree}'");
    (root.join("octo/cat.git"), mirror, head_sha)
}

#[tokio::test]
async fn github_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, _, _) = hosted(dir.path());
    let host = FakeGitHub::start(dir.path()).await;
    let subject = Subject {
        forge: Box::new(GitHub::new(config(&host.url, Some(TOKEN))).unwrap()),
        repo: repo("octo/cat"),
        missing: repo("octo/dog"),
        default_branch: "main".into(),
        git: GitSide::OnDisk(disk),
        pulls: Pulls::Kept,
    };
    conformance::check(&subject, &dir.path().join("scratch")).await;
    let pulls = host.pulls();
    assert_eq!(pulls.len(), 1);
    assert_eq!(pulls[0]["draft"], true);
}

#[tokio::test]
async fn a_wrong_token_is_told_for_the_api_and_for_git_and_is_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mirror, head_sha) = hosted(dir.path());
    let host = FakeGitHub::start(dir.path()).await;
    let forge = GitHub::new(config(&host.url, Some("ghs_wrong_token"))).unwrap();
    let repo = repo("octo/cat");
    let request = PushRequest { repo: &repo, mirror: &mirror, head_sha: &head_sha, branch: "bgagent/x" };
    for error in [
        forge.inspect(&repo, None, true).await.unwrap_err(),
        forge.push(&request).await.unwrap_err(),
        forge.open_pull_request(&repo, &draft("x")).await.unwrap_err(),
    ] {
        assert_eq!(
            (error.failure.code, error.retry),
            (FailureCode::GithubTokenScopes, Retry::Never),
            "{error}"
        );
        assert!(!format!("{error} {error:?}").contains("wrong_token"), "{error:?}");
    }
}

#[tokio::test]
async fn a_host_that_hangs_up_or_is_gone_is_worth_another_try() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mirror, head_sha) = hosted(dir.path());
    let forge = GitHub::new(config("http://127.0.0.1:1", Some(TOKEN))).unwrap();
    let repo = repo("octo/cat");
    let error = forge.inspect(&repo, None, true).await.unwrap_err();
    assert_eq!(
        (error.failure.code, error.retry),
        (FailureCode::GithubUnreachable, Retry::Backoff),
        "{error}"
    );
    let request = PushRequest { repo: &repo, mirror: &mirror, head_sha: &head_sha, branch: "bgagent/x" };
    let error = forge.push(&request).await.unwrap_err();
    assert_eq!((error.failure.code, error.retry), (FailureCode::PushFailed, Retry::Backoff), "{error}");
}

#[tokio::test]
async fn a_rule_of_the_host_that_refuses_the_branch_is_quoted() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, mirror, head_sha) = hosted(dir.path());
    let hook = "#!/bin/sh\necho 'GH013: Repository rule violations found: secret detected' >&2\nexit 1\n";
    std::fs::write(disk.join("hooks/pre-receive"), hook).unwrap();
    sh(&disk, "chmod +x hooks/pre-receive");
    let host = FakeGitHub::start(dir.path()).await;
    let forge = GitHub::new(config(&host.url, Some(TOKEN))).unwrap();
    let repo = repo("octo/cat");
    let request = PushRequest { repo: &repo, mirror: &mirror, head_sha: &head_sha, branch: "bgagent/x" };
    let error = forge.push(&request).await.unwrap_err();
    assert_eq!((error.failure.code, error.retry), (FailureCode::PushRejected, Retry::Never), "{error}");
    assert!(error.failure.detail.contains("GH013"), "{error}");
}

/// D-046: checks were skipped without a token.
#[tokio::test]
async fn without_a_token_nothing_is_written_but_public_things_are_read() {
    let server = MockServer::start().await;
    healthy(&server).await;
    let forge = GitHub::new(config(&server.uri(), None)).unwrap();
    let repo = repo("octo/cat");
    assert!(forge.inspect(&repo, None, false).await.is_ok());
    assert!(forge.remote(&repo).await.unwrap().basic_auth.is_none());
    let error = forge.inspect(&repo, None, true).await.unwrap_err();
    assert_eq!(error.failure.code, FailureCode::GithubTokenMissing);
    let error = forge.open_pull_request(&repo, &draft("x")).await.unwrap_err();
    assert_eq!(error.failure.code, FailureCode::GithubTokenMissing);
}

// Faults of the API, one server each.

fn json_answer(status: u16, body: Value) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(body)
}

async fn on(server: &MockServer, verb: &str, at: &str, answer: ResponseTemplate) {
    Mock::given(method(verb)).and(path(at)).respond_with(answer).mount(server).await;
}

fn cat() -> Value {
    json!({"full_name": "octo/cat", "default_branch": "main", "archived": false, "permissions": {"push": true}})
}

async fn healthy(server: &MockServer) {
    on(server, "GET", "/api/repos/octo/cat", json_answer(200, cat())).await;
    on(server, "GET", "/api/repos/octo/cat/branches/main", json_answer(200, json!({"name": "main"}))).await;
}

fn forge(server: &MockServer) -> GitHub {
    GitHub::new(config(&server.uri(), Some(TOKEN))).unwrap()
}

/// What inspecting `octo/cat` for writing says.
async fn inspected(server: &MockServer, base: Option<&str>) -> String {
    match forge(server).inspect(&repo("octo/cat"), base, true).await {
        Ok(info) => [vec![format!("ok {}", info.default_branch)], info.warnings].concat().join(" | "),
        Err(error) => format!("{:?} {error}", error.retry),
    }
}

#[tokio::test]
async fn every_request_names_us_and_the_api_version() {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .and(path("/api/repos/octo/cat"))
        .and(header("x-github-api-version", "2022-11-28"))
        .and(header("accept", "application/vnd.github+json"))
        .and(header("authorization", format!("Bearer {TOKEN}").as_str()))
        .and(|r: &wiremock::Request| {
            r.headers.get("user-agent").is_some_and(|v| v.as_bytes().starts_with(b"bgagent/"))
        })
        .respond_with(json_answer(404, json!({"message": "Not Found"})))
        .expect(1)
        .mount(&server)
        .await;
    assert!(inspected(&server, None).await.starts_with("Never REPO_NOT_FOUND_OR_NO_ACCESS: "));
}

#[tokio::test]
async fn a_fault_that_passes_is_not_seen() {
    let server = MockServer::start().await;
    let broken = ResponseTemplate::new(502).set_body_string("<html>Bad gateway</html>");
    Mock::given(method("GET")).respond_with(broken).up_to_n_times(2).with_priority(1).mount(&server).await;
    healthy(&server).await;
    assert_eq!(inspected(&server, None).await, "ok main");
}

#[tokio::test]
async fn a_fault_that_stays_is_worth_another_try_later() {
    let server = MockServer::start().await;
    on(&server, "GET", "/api/repos/octo/cat", json_answer(503, json!({"message": "down"}))).await;
    assert!(inspected(&server, None).await.starts_with("Backoff GITHUB_API_ERROR: looking at octo/cat"));
    assert_eq!(server.received_requests().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_rate_limit_says_when_and_is_not_asked_again_before() {
    let server = MockServer::start().await;
    let limit = json_answer(403, json!({"message": "You have exceeded a secondary rate limit"}));
    on(&server, "GET", "/api/repos/octo/cat", limit.insert_header("retry-after", "42")).await;
    let forge = forge(&server);
    let first = forge.inspect(&repo("octo/cat"), None, true).await.unwrap_err();
    assert_eq!(first.retry, Retry::After(42), "{first}");
    let second = forge.open_pull_request(&repo("octo/dog"), &draft("x")).await.unwrap_err();
    assert!(matches!(second.retry, Retry::After(1..=42)), "{second:?}");
    assert_eq!(server.received_requests().await.unwrap().len(), 1, "the second call did not knock");
}

#[tokio::test]
async fn a_renamed_repository_is_followed_and_its_token_goes_nowhere_else() {
    let (server, elsewhere) = (MockServer::start().await, MockServer::start().await);
    let moved = |to: String| ResponseTemplate::new(301).insert_header("location", to);
    on(&server, "GET", "/api/repos/octo/cat", moved("/api/repositories/1".into())).await;
    let mut renamed = cat();
    renamed["full_name"] = json!("octo/lion");
    on(&server, "GET", "/api/repositories/1", json_answer(200, renamed)).await;
    on(&server, "GET", "/api/repos/octo/cat/branches/main", json_answer(200, json!({"name": "main"}))).await;
    let said = inspected(&server, None).await;
    assert!(said.starts_with("ok main | The repository is now called octo/lion"), "{said}");

    server.reset().await;
    on(&server, "GET", "/api/repos/octo/cat", moved(format!("{}/steal", elsewhere.uri()))).await;
    assert!(inspected(&server, None).await.starts_with("Never GITHUB_API_ERROR"));
    assert!(elsewhere.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn permission_to_push_is_asked_of_graphql_when_rest_does_not_tell() {
    for (answer, expected) in [
        (json!({"data": {"repository": {"viewerPermission": "WRITE"}}}), "ok main"),
        (
            json!({"data": {"repository": {"viewerPermission": "READ"}}}),
            "Never INSUFFICIENT_GITHUB_REPO_PERMISSIONS",
        ),
        (
            json!({"data": {"repository": null}, "errors": [{"message": "?"}]}),
            "Never INSUFFICIENT_GITHUB_REPO_PERMISSIONS",
        ),
    ] {
        let server = MockServer::start().await;
        let mut without = cat();
        without.as_object_mut().unwrap().remove("permissions");
        on(&server, "GET", "/api/repos/octo/cat", json_answer(200, without)).await;
        on(&server, "POST", "/api/graphql", json_answer(200, answer)).await;
        healthy(&server).await;
        let said = inspected(&server, None).await;
        assert!(said.starts_with(expected), "{said}");
    }
}

#[tokio::test]
async fn archived_empty_renamed_and_missing_branches_are_told_apart() {
    let server = MockServer::start().await;
    let mut archived = cat();
    archived["archived"] = json!(true);
    on(&server, "GET", "/api/repos/octo/cat", json_answer(200, archived)).await;
    let said = inspected(&server, None).await;
    assert!(said.starts_with("Never INSUFFICIENT_GITHUB_REPO_PERMISSIONS: octo/cat is archived"), "{said}");

    server.reset().await;
    healthy(&server).await;
    let branches = json!([{"name": "main"}, {"name": "release/2"}]);
    on(&server, "GET", "/api/repos/octo/cat/branches", json_answer(200, branches)).await;
    on(
        &server,
        "GET",
        "/api/repos/octo/cat/branches/release%2F2",
        json_answer(200, json!({"name": "release/2"})),
    )
    .await;
    on(&server, "GET", "/api/repos/octo/cat/branches/old", json_answer(200, json!({"name": "new"}))).await;
    assert_eq!(inspected(&server, Some("release/2")).await, "ok main");
    let said = inspected(&server, Some("relase/2")).await;
    assert!(said.ends_with("octo/cat has no branch relase/2; there is release/2, main"), "{said}");
    let said = inspected(&server, Some("old")).await;
    assert!(said.ends_with("branch old of octo/cat is now called new; name that one"), "{said}");

    server.reset().await;
    on(&server, "GET", "/api/repos/octo/cat", json_answer(200, cat())).await;
    on(&server, "GET", "/api/repos/octo/cat/branches", json_answer(200, json!([]))).await;
    assert!(inspected(&server, None).await.starts_with("Never REPO_EMPTY"));
}

#[tokio::test]
async fn submodules_and_large_files_are_warned_of() {
    let server = MockServer::start().await;
    healthy(&server).await;
    let modules = json!({"content": "W3N1Ym1vZHVsZV0=\n", "encoding": "base64"});
    // `*.bin filter=lfs`, in lines as GitHub breaks them.
    let attributes = json!({"content": "Ki5iaW4g\nZmlsdGVyPWxmcw==\n", "encoding": "base64"});
    Mock::given(path("/api/repos/octo/cat/contents/.gitmodules"))
        .and(query_param("ref", "main"))
        .respond_with(json_answer(200, modules))
        .mount(&server)
        .await;
    on(&server, "GET", "/api/repos/octo/cat/contents/.gitattributes", json_answer(200, attributes)).await;
    let said = inspected(&server, None).await;
    assert!(said.contains("submodules") && said.contains("git-lfs"), "{said}");
}

// Pull requests.

const PULLS: &str = "/api/repos/octo/cat/pulls";

fn pull(number: u64, branch: &str, state: &str, head_repo: Value) -> Value {
    json!({"number": number, "html_url": format!("https://github.example/octo/cat/pull/{number}"), "state": state,
           "head": {"ref": branch, "repo": head_repo}, "base": {"ref": "main", "repo": {"full_name": "octo/cat"}}})
}

fn own(number: u64, branch: &str, state: &str) -> Value {
    pull(number, branch, state, json!({"full_name": "octo/cat"}))
}

async fn opened(server: &MockServer) -> String {
    match forge(server).open_pull_request(&repo("octo/cat"), &draft("bgagent/t")).await {
        Ok(PullRequest { number, found, .. }) => {
            format!("{} {}", number.unwrap(), if found { "found" } else { "opened" })
        }
        Err(error) => format!("{:?} {error}", error.retry),
    }
}

fn invalid(message: &str) -> ResponseTemplate {
    let errors = json!([{"resource": "PullRequest", "code": "custom", "message": message}]);
    json_answer(422, json!({"message": "Validation Failed", "errors": errors}))
}

#[tokio::test]
async fn the_open_one_is_found_before_closed_ones_and_never_a_forks() {
    let server = MockServer::start().await;
    let listed = json!([
        pull(9, "bgagent/t", "open", json!({"full_name": "fork/cat"})),
        pull(8, "bgagent/t", "open", Value::Null),
        own(7, "bgagent/t", "closed"),
        own(5, "bgagent/t", "open"),
        own(6, "bgagent/other", "open"),
    ]);
    Mock::given(path(PULLS))
        .and(query_param("head", "octo:bgagent/t"))
        .and(query_param("state", "all"))
        .respond_with(json_answer(200, listed))
        .expect(1)
        .mount(&server)
        .await;
    assert_eq!(opened(&server).await, "5 found");
}

#[tokio::test]
async fn where_there_are_no_drafts_it_is_opened_ready() {
    let server = MockServer::start().await;
    on(&server, "GET", PULLS, json_answer(200, json!([]))).await;
    let refused =
        json_answer(422, json!({"message": "Draft pull requests are not supported in this repository."}));
    Mock::given(method("POST"))
        .and(body_partial_json(json!({"draft": true})))
        .respond_with(refused)
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .and(body_partial_json(json!({"draft": false, "head": "bgagent/t", "base": "main"})))
        .respond_with(json_answer(201, own(3, "bgagent/t", "open")))
        .expect(1)
        .mount(&server)
        .await;
    assert_eq!(opened(&server).await, "3 opened");
}

#[tokio::test]
async fn one_whose_answer_was_lost_is_found_again() {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .respond_with(json_answer(200, json!([])))
        .up_to_n_times(2)
        .with_priority(1)
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(502))
        .up_to_n_times(1)
        .with_priority(1)
        .mount(&server)
        .await;
    on(&server, "POST", PULLS, invalid("A pull request already exists for octo:bgagent/t.")).await;
    on(&server, "GET", PULLS, json_answer(200, json!([own(4, "bgagent/t", "open")]))).await;
    assert_eq!(opened(&server).await, "4 found");
}

#[tokio::test]
async fn refusals_to_open_say_who_must_do_what() {
    for (answer, expected) in [
        (
            invalid("No commits between main and bgagent/t"),
            "Never NO_PR: opening a pull request for bgagent/t in octo/cat: there is nothing in it",
        ),
        (
            invalid("base is invalid"),
            "Never NO_PR: opening a pull request for bgagent/t in octo/cat: GitHub refused it: 422 Validation Failed; base is invalid",
        ),
        (
            json_answer(403, json!({"message": "Resource not accessible by personal access token"})),
            "Never INSUFFICIENT_GITHUB_REPO_PERMISSIONS",
        ),
        (json_answer(404, json!({"message": "Not Found"})), "Never REPO_NOT_FOUND_OR_NO_ACCESS"),
        (json_answer(500, json!({"message": "oops"})), "Backoff GITHUB_API_ERROR"),
    ] {
        let server = MockServer::start().await;
        on(&server, "GET", PULLS, json_answer(200, json!([]))).await;
        on(&server, "POST", PULLS, answer).await;
        let said = opened(&server).await;
        assert!(said.starts_with(expected), "{said}");
    }
}
