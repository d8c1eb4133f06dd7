//! `?format=ag-ui`: a run in the words of AG-UI, and the official client that renders it.

use axum::body::Body;
use axum::http::{Method, Request};
use domain::event::{EventKind, NewEvent};
use serde_json::{Value, json};
use store::EventAppend;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::*;

/// A run with all that a box tells, completed; one that failed; and one that was cancelled.
async fn runs(world: &World) -> [domain::TaskId; 3] {
    let source = source().await;
    let done = world.running(&source, "Fix it").await;
    says_all(world, done).await;
    world.completed(&source, done).await;
    let failed = world.submitted_by(server::identity::LOCAL_OWNER, "no/where".parse().unwrap(), "x").await;
    world.drive(failed).await;
    assert_eq!(world.task(failed).await.status().as_str(), "FAILED");
    let cancelled = world.submitted("y").await;
    world.cancel(cancelled).await;
    [done, failed, cancelled]
}

async fn says_all(world: &World, task: domain::TaskId) {
    let tool = |input: &str| json!({ "turn": 1, "tool_name": "Bash", "tool_input_preview": input });
    let said = [
        (EventKind::AgentMilestone, json!({ "milestone": "stage_started", "stage": "repo" })),
        (
            EventKind::HydrationComplete,
            json!({ "sources": ["task"], "token_estimate": 12, "truncated": false }),
        ),
        (EventKind::AgentMilestone, json!({ "milestone": "stage_started", "stage": "agent" })),
        (
            EventKind::AgentTurn,
            json!({ "turn": 1, "model": "m", "thinking_preview": "hm", "text_preview": "I look.\n\ndata: x", "tool_calls_count": 2 }),
        ),
        (EventKind::AgentToolCall, tool("ls")),
        (EventKind::AgentToolCall, tool("cat \u{1f600}")),
        (
            EventKind::AgentToolResult,
            json!({ "turn": 1, "tool_name": "Bash", "is_error": false, "content_preview": "a", "duration_ms": 3 }),
        ),
        (
            EventKind::AgentToolResult,
            json!({ "turn": 1, "tool_name": "Bash", "is_error": true, "content_preview": "", "duration_ms": 3 }),
        ),
        (EventKind::AgentError, json!({ "error_type": "x", "message_preview": "y" })),
        (
            EventKind::AgentTurn,
            json!({ "turn": 2, "model": "m", "text_preview": "Done.", "tool_calls_count": 0 }),
        ),
    ];
    let events = said
        .into_iter()
        .enumerate()
        .map(|(n, (kind, data))| NewEvent { client_key: Some(format!("k{n}")), ..NewEvent::new(kind, data) });
    let attempt = world.task(task).await.attempt;
    let now = world.orchestrator.now();
    let append = EventAppend { task, attempt, events: events.collect(), attempt_limit: 100, now };
    world.orchestrator.store().events_append(append).await.unwrap();
}

/// The frames of a stream that ends: id and data.
fn frames(answer: &Answer) -> Vec<(Option<String>, Value)> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let text = answer.text();
    let field = |frame: &str, name: &str| {
        frame.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim_start().to_owned())
    };
    let frames = text.split("\n\n").filter(|f| f.contains("data:"));
    frames.map(|f| (field(f, "id:"), serde_json::from_str(&field(f, "data:").unwrap()).unwrap())).collect()
}

#[tokio::test]
async fn a_run_is_told_in_the_words_of_ag_ui() {
    let world = World::new();
    let [done, ..] = runs(&world).await;
    let told = frames(&world.get(&format!("/v1/tasks/{done}/stream?format=ag-ui")).await);
    let kinds: Vec<&str> = told.iter().map(|(_, f)| f["type"].as_str().unwrap()).collect();
    insta::assert_snapshot!("ag_ui_kinds", kinds.join("\n"));
    assert_eq!(told[0].1["threadId"], done.to_string());
}

#[tokio::test]
async fn a_client_that_comes_back_begins_with_a_whole_event_and_sees_each_once() {
    let world = World::new();
    let [done, ..] = runs(&world).await;
    let path = format!("/v1/tasks/{done}/stream?format=ag-ui");
    let whole = frames(&world.get(&path).await);
    let content = |told: &[(Option<String>, Value)]| -> Vec<Value> {
        let start = ["RUN_STARTED", "STATE_SNAPSHOT"];
        told.iter()
            .map(|(_, f)| f.clone())
            .filter(|f| !start.contains(&f["type"].as_str().unwrap()))
            .collect()
    };
    let all = content(&whole);
    let mut resumed = 0;
    for (at, (id, _)) in whole.iter().enumerate() {
        let Some(id) = id else { continue };
        let mut request = request(Method::GET, &path, None);
        request.headers_mut().insert("last-event-id", id.parse().unwrap());
        let rest = frames(&world.send(request).await);
        let seen = content(&whole[..=at]);
        let rest_content = content(&rest);
        if rest.is_empty() {
            continue;
        }
        assert_eq!(rest[0].1["type"], "RUN_STARTED");
        // A step or call that was open is told anew or closed by nobody: the messages and the end are the same.
        let kinds = |frames: &[Value]| {
            let kept = |f: &&Value| {
                let kind = f["type"].as_str().unwrap();
                !kind.starts_with("STEP_") && !kind.starts_with("TOOL_CALL_")
            };
            frames.iter().filter(kept).cloned().collect::<Vec<_>>()
        };
        assert_eq!([kinds(&seen), kinds(&rest_content)].concat(), kinds(&all), "after {id}");
        resumed += 1;
    }
    assert!(resumed > 10);
}

#[tokio::test]
async fn a_post_begins_a_stream_under_the_clients_names_and_starts_nothing() {
    let world = World::new();
    let [done, ..] = runs(&world).await;
    let path = format!("/v1/tasks/{done}/stream");
    let input =
        json!({ "threadId": "t1", "runId": "r1", "messages": [], "tools": [], "context": [], "state": {} });
    let told = frames(&world.call(Method::POST, &path, Some(input)).await);
    assert_eq!((&told[0].1["threadId"], &told[0].1["runId"]), (&"t1".into(), &"r1".into()));
    assert_eq!(told.last().unwrap().1["runId"], "r1");
    assert_eq!(world.get("/v1/tasks").await.column("task_id").len(), 3);
    for (path, body) in [
        (path.clone(), json!([])),
        (path.clone(), json!({ "threadId": 3 })),
        (path.clone(), json!({ "runId": "x".repeat(201) })),
        (format!("{path}?format=sse"), json!({})),
    ] {
        world.call(Method::POST, &path, Some(body)).await.error(400, "VALIDATION_ERROR");
    }
    let message = world.get(&format!("{path}?format=xml")).await.error(400, "VALIDATION_ERROR");
    assert!(message.contains("ag-ui"), "{message}");
    let nobody = Request::post(&path).body(Body::empty()).unwrap();
    world.send(nobody).await.error(401, "UNAUTHORIZED");
}

/// The official client parses, checks the order of, and applies every event.
#[tokio::test]
async fn the_official_client_renders_every_run() {
    let Some(modules) = testkit::peers::node_modules("ag-ui") else { return };
    let world = World::new();
    let tasks = runs(&world).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serve = server::listen::serve(listener, world.router.clone(), stop.clone().cancelled_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/ag_ui.mjs");
    let client = async {
        let mut node = tokio::process::Command::new("node");
        node.arg(script).arg(&modules).arg(format!("http://{address}")).env("KEY", KEY);
        let output = node.args(tasks.map(|t| t.to_string())).kill_on_drop(true).output().await.unwrap();
        stop.cancel();
        output
    };
    let (output, ()) = within(async { tokio::join!(client, serve) }).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let rendered: Value = serde_json::from_slice(&output.stdout).unwrap();
    insta::assert_json_snapshot!("ag_ui_rendered", rendered, { "[].**.id" => "[id]", "[].**.toolCallId" => "[id]",
        "[].state.pr_url" => "[url]" });
}
