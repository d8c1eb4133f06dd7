//! Spans as a collector gets them whose messages nobody here wrote, and collectors that are no help.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use domain::TaskId;
use protocol::rest::TaskDetail;
use serde_json::{Value, json};
use testkit::otlp::{Collector, Mood, Received};
use testkit::platform::Platform;
use testkit::poll;

use crate::whole::*;

/// What somebody said; it may be in no span.
const SAID: &str = "purple walrus";
/// The collector's key.
const KEY: &str = "Bearer collector-key-7f3a9c51";

fn script(dir: &Path) -> std::path::PathBuf {
    let turns = [
        bash(&format!("echo {SAID} > one.txt")),
        bash(&format!("cat no-such-{}", SAID.replace(' ', "-"))),
        say(&format!("Add a {SAID}\n\nIt is there.")),
    ];
    transcript(dir, "told", &turns)
}

fn told(platform: Platform, url: &str) -> Platform {
    platform
        .with("BGAGENT__TELEMETRY__ENDPOINT", url)
        .with("BGAGENT__TELEMETRY__HEADERS__AUTHORIZATION", "env:COLLECTOR_KEY")
        .with("COLLECTOR_KEY", KEY)
}

/// The spans of a task, once its root is among them: it is given last.
async fn spans_of(collector: &Collector, platform: &Platform, task: &TaskDetail) -> Vec<Received> {
    let id: TaskId = task.task_id.parse().unwrap();
    let trace = format!("{:032x}", id.bits());
    let of_task = async || {
        let spans: Vec<_> = collector.spans().into_iter().filter(|s| s.trace_id == trace).collect();
        spans.iter().any(|s| s.parent_span_id.is_empty()).then_some(spans)
    };
    let spans = poll::until("the root span", Duration::from_secs(30), of_task).await;
    spans.unwrap_or_else(|e| panic!("{e:#}\n{}", platform.log()))
}

/// Names of the spans below one, in no order.
fn below<'a>(spans: &'a [Received], parent: &str) -> Vec<&'a str> {
    let ids: Vec<_> = spans.iter().filter(|s| s.name == parent).map(|s| s.span_id.as_str()).collect();
    assert_eq!(ids.len(), 1, "one span {parent}: {spans:#?}");
    let mut names: Vec<_> =
        spans.iter().filter(|s| s.parent_span_id == ids[0]).map(|s| s.name.as_str()).collect();
    names.sort_unstable();
    names
}

fn named<'a>(spans: &'a [Received], name: &str) -> Vec<&'a Received> {
    spans.iter().filter(|s| s.name == name).collect()
}

/// One root, every parent there, every id once, and nothing outside of its parent's time but by what events are late.
fn sound(spans: &[Received]) {
    let ids: BTreeSet<_> = spans.iter().map(|s| s.span_id.as_str()).collect();
    assert_eq!(ids.len(), spans.len(), "{spans:#?}");
    assert_eq!(spans.iter().filter(|s| s.parent_span_id.is_empty()).count(), 1, "{spans:#?}");
    for span in spans {
        let (start, end) = span.times();
        assert!(start > 0 && end >= start, "{span:#?}");
        assert!(span.parent_span_id.is_empty() || ids.contains(span.parent_span_id.as_str()), "{span:#?}");
    }
}

/// Asks the API by hand, with a header of its own.
fn ask(platform: &Platform, path: &str, header: &str) {
    let state = platform.state_dir();
    let server: Value = serde_json::from_slice(&std::fs::read(state.join("server.json")).unwrap()).unwrap();
    let address = server["url"].as_str().unwrap().trim_start_matches("http://").to_owned();
    let key = std::fs::read_to_string(state.join("owner-key")).unwrap();
    let mut stream = TcpStream::connect(&address).unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nx-api-key: {}\r\n{header}\r\nconnection: close\r\n\r\n",
        key.trim()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// D-125: there was no single root of a trace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_one_trace_without_what_was_said() {
    let Some(collector) = Collector::start(Mood::Take).await.unwrap() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (script, repo) = (script(dir.path()), sample().await);
    let mut platform = told(platform(&script, "told"), &collector.url);
    platform.start().await.unwrap();
    let task = run(&platform, &request(repo.path(), SAID)).await;
    assert_eq!(task.status, "COMPLETED", "{task:#?}\n{}", platform.log());
    let spans = spans_of(&collector, &platform, &task).await;
    sound(&spans);

    assert_eq!(task.otel_trace_id.as_deref(), Some(spans[0].trace_id.as_str()));
    assert_eq!(
        below(&spans, "task"),
        ["admission", "dispatch", "finish", "preflight", "session_start", "task.pipeline"]
    );
    assert_eq!(
        below(&spans, "task.pipeline"),
        ["agent_execution", "context_hydration", "post_hooks", "repo_setup"]
    );
    assert_eq!(
        below(&spans, "agent_execution"),
        ["chat told", "chat told", "chat told", "execute_tool Bash", "execute_tool Bash"]
    );
    let root = named(&spans, "task")[0];
    for (key, value) in [
        ("bgagent.task.id", json!(task.task_id)),
        ("bgagent.status", json!("COMPLETED")),
        ("bgagent.turns", json!(3)),
        ("bgagent.model_calls", json!(3)),
    ] {
        assert_eq!(root.attribute(key), value, "{key}: {root:#?}");
    }
    let chats = named(&spans, "chat told");
    for (key, value) in [
        ("gen_ai.operation.name", json!("chat")),
        ("gen_ai.provider.name", json!("script")),
        ("gen_ai.request.model", json!("told")),
        ("gen_ai.conversation.id", json!(task.task_id)),
        ("bgagent.purpose", json!("main")),
    ] {
        assert!(chats.iter().all(|chat| chat.attribute(key) == value), "{key}: {chats:#?}");
    }
    let finished: BTreeSet<_> =
        chats.iter().map(|c| c.attribute("gen_ai.response.finish_reasons").to_string()).collect();
    assert_eq!(finished, BTreeSet::from([r#"["end_turn"]"#.into(), r#"["tool_use"]"#.into()]), "{chats:#?}");
    let sum = |key: &str| chats.iter().map(|c| c.attribute(key).as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum("gen_ai.usage.input_tokens"), task.input_tokens);
    assert_eq!(sum("gen_ai.usage.output_tokens"), task.output_tokens);
    assert!(chats.iter().all(|c| c.attribute("gen_ai.response.id").is_string()), "{chats:#?}");
    assert!(chats.iter().all(|c| c.rest["kind"] == "SPAN_KIND_CLIENT"), "{chats:#?}");
    let tools = named(&spans, "execute_tool Bash");
    let failed = tools.iter().filter(|t| t.attribute("error.type") == "tool_error").count();
    assert_eq!(failed, 1, "{tools:#?}");
    assert!(tools.iter().all(|t| t.attribute("gen_ai.tool.name") == "Bash"), "{tools:#?}");

    // The request that made the task leads to it; one that says whose trace it is part of is part of that.
    let caller = "4bf92f3577b34da6a3ce929d0e0e4736";
    let path = format!("/v1/tasks/{}", task.task_id);
    ask(&platform, &path, &format!("traceparent: 00-{caller}-00f067aa0ba902b7-01"));
    let asked = async || collector.spans().into_iter().find(|s| s.trace_id == caller);
    let asked = poll::until("the span of the request", Duration::from_secs(30), asked).await.unwrap();
    assert_eq!(
        (asked.name.as_str(), asked.parent_span_id.as_str()),
        ("GET /v1/tasks/{task_id}", "00f067aa0ba902b7")
    );
    assert_eq!(asked.attribute("http.response.status_code"), 200);
    let link = json!([{ "trace_id": root.trace_id, "span_id": root.span_id }]);
    assert_eq!(asked.rest["links"], link);
    let all = collector.spans();
    let made = named(&all, "POST /v1/tasks")[0];
    assert_eq!(made.rest["links"], link);
    assert_eq!(made.attribute("http.response.status_code"), 201);

    // The key came along, and is nowhere else; nothing that was said is anywhere.
    for span in &all {
        let mut span = span.clone();
        let sent = span.rest["asked"].take();
        assert_eq!(
            (sent["path"].as_str(), sent["headers"]["authorization"].as_str()),
            (Some("/v1/traces"), Some(KEY))
        );
        let text = format!("{span:?}");
        for hidden in [SAID, "no-such-purple", "collector-key", "It is there"] {
            assert!(!text.contains(hidden), "{hidden} is in {text}");
        }
    }
    assert!(!platform.log().contains("collector-key"), "{}", platform.log());
    platform.end(Duration::from_secs(20)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_survives_the_death_of_the_server_and_content_is_told_when_asked_for_masked() {
    let Some(collector) = Collector::start(Mood::Take).await.unwrap() else { return };
    let dir = tempfile::tempdir().unwrap();
    let token = format!("ghp_{}", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
    let turns = [
        bash(&format!("echo {token}; until test -e go; do sleep 0.1; done; rm go")),
        bash("echo one > one.txt"),
        say(&format!("Add a {SAID}\n\nIt is there.")),
    ];
    let (script, repo) = (transcript(dir.path(), "told", &turns), sample().await);
    let platform_ = told(platform(&script, "told"), &collector.url);
    // The tool waits for a file in its work tree, which the test can only write where nothing keeps it out.
    let mut platform =
        platform_.with("BGAGENT__COMPUTE__ISOLATION", "process").with("BGAGENT__TELEMETRY__CONTENT", "true");
    platform.start().await.unwrap();
    let id = submit(&platform, &request(repo.path(), SAID)).await;
    platform.wait_for(id, &["RUNNING"], END).await.unwrap();
    let first = async || collector.spans().into_iter().find(|s| s.name == "chat told");
    poll::until("the first model call", END, first).await.unwrap();
    platform.kill().await.unwrap();
    platform.start().await.unwrap();
    let work = async || work_tree(&session(&platform, id));
    let work = poll::until("the work tree", END, work).await.unwrap();
    std::fs::write(work.join("go"), "").unwrap();
    let task = platform.ended(id, END).await.unwrap();
    assert_eq!(task.status, "COMPLETED", "{task:#?}\n{}", platform.log());

    let spans = spans_of(&collector, &platform, &task).await;
    sound(&spans);
    assert_eq!(
        below(&spans, "agent_execution"),
        ["chat told", "chat told", "chat told", "execute_tool Bash", "execute_tool Bash"],
        "before and after"
    );
    let instances: BTreeSet<_> = spans.iter().map(|s| s.rest["resource"].to_string()).collect();
    assert_eq!(instances.len(), 2, "told by two processes: {instances:?}");
    let said: Vec<String> = named(&spans, "chat told")
        .iter()
        .map(|c| c.attribute("gen_ai.input.messages").as_str().unwrap().to_owned())
        .collect();
    assert!(said.iter().all(|s| s.contains(SAID)), "{said:#?}");
    let text = format!("{:?}", collector.spans());
    assert!(text.contains("tool_call_response") && !text.contains(&token), "{text}");
    platform.end(Duration::from_secs(20)).await.unwrap();
}

/// The folder with the repository of a session.
fn work_tree(session: &Path) -> Option<std::path::PathBuf> {
    let mut folders = vec![session.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if folder.join(".git").exists() {
            return Some(folder);
        }
        let inside = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
        folders.extend(inside.filter(|path| path.is_dir() && !path.is_symlink()));
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_no_help_costs_a_task_nothing_and_holds_no_server_up() {
    let dir = tempfile::tempdir().unwrap();
    let (script, repo) = (script(dir.path()), sample().await);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let mut collectors = vec![(None, dead)];
    for mood in [Mood::Refuse, Mood::Busy, Mood::Hang] {
        let Some(collector) = Collector::start(mood).await.unwrap() else { return };
        let url = collector.url.clone();
        collectors.push((Some(collector), url));
    }
    // One request may take longer than the server takes to stop.
    let mut platform = platform(&script, "told").with("BGAGENT__TELEMETRY__TIMEOUT_S", "60.0");
    for (collector, url) in &collectors {
        platform.set("BGAGENT__TELEMETRY__ENDPOINT", url);
        platform.start().await.unwrap();
        let task = run(&platform, &request(repo.path(), "Add a file")).await;
        assert_eq!(task.status, "COMPLETED", "{collector:?} {task:#?}\n{}", platform.log());
        // All that ends a server has its bound; together they are far below the time of one request.
        platform.stop(Duration::from_secs(30)).await.unwrap();
    }
    let log = platform.log();
    let told = log.lines().filter(|l| l.contains("spans could not be sent")).count();
    assert!((1..=4).contains(&told), "said once for each row of failures: {log}");
    platform.end(Duration::from_secs(20)).await.unwrap();
}
