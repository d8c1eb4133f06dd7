//! The native harness against a scripted model: an HTTP server that speaks Anthropic's stream, one step per call.

use std::collections::VecDeque;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use domain::FailureCode;
use domain::event::EventKind;
use domain::report::AgentStatus;
use secrecy::SecretString;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use worker::harness::native::Native;
use worker::harness::{
    AgentResult, EventSink, Harness as _, HarnessContext, ModelEndpoint, Signal, Signals, Stop, Work,
};
use worker::launch::Launcher;
use worker::tool::Environment;

mod steer;

use self::steer::Voice;

/// What the model does at a call.
#[derive(Clone)]
enum Script {
    /// Says this, and calls these tools: (name, input as JSON text).
    Says(&'static str, Vec<(&'static str, String)>),
    /// Says this and ends with that stop reason.
    Ends(&'static str, &'static str),
    /// Says this; the provider counts that many input tokens.
    Fills(u64, &'static str, Vec<(&'static str, String)>),
    /// Streams these events as they are, then closes.
    Raw(String),
    /// Answers with a status, a failure header and a message.
    Fails(u16, &'static str, &'static str),
    /// Never answers.
    Hangs,
}

#[derive(Clone)]
struct Model {
    script: Arc<Mutex<VecDeque<Script>>>,
    last: Option<Script>,
    calls: Arc<Mutex<Vec<Call>>>,
    /// A file that is made when a call comes in.
    at_call: Arc<Mutex<Option<std::path::PathBuf>>>,
}

#[derive(Clone)]
struct Call {
    turn: String,
    purpose: String,
    bearer: String,
    body: Value,
}

#[derive(Default)]
struct Record(Mutex<Vec<(EventKind, Value)>>);

impl EventSink for Record {
    fn emit(&self, kind: EventKind, metadata: Value) {
        assert!(kind.from_box(), "{kind:?} is not a box's to say");
        let fields = metadata.as_object().expect("metadata is an object");
        assert!(fields.values().all(|value| !value.is_null()), "null in {metadata}");
        self.0.lock().unwrap().push((kind, metadata));
    }
}

struct Switch(watch::Receiver<Signal>);

#[async_trait]
impl Signals for Switch {
    async fn check(&self) -> Signal {
        *self.0.borrow()
    }
}

struct Stage {
    folder: TempDir,
    model: Model,
    record: Arc<Record>,
    signal: watch::Sender<Signal>,
    voice: Voice,
    native: Native,
    work: Work,
}

impl Stage {
    fn new(script: Vec<Script>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let work = Work {
            prompt: "Fix the test.".into(),
            earlier: None,
            system: "Extra words of the platform.".into(),
            repo: "acme/app".into(),
            branch: "bgagent/x/fix".into(),
            model: "m-1".into(),
            max_turns: 10,
            context_window: 200_000,
            max_output_tokens: 4_000,
            preview_max: 200,
            output_max: domain::limit::TOOL_OUTPUT_MAX_BYTES,
            work_dir: folder.path().to_owned(),
            attachments: Vec::new(),
        };
        let (signal, _) = watch::channel(Signal::Continue);
        let millis = Duration::from_millis;
        let native = Native { patience: millis(1_500), idle: millis(1_000), backoff: millis(5) };
        let model = Model {
            script: Arc::new(Mutex::new(script.into())),
            last: None,
            calls: Arc::default(),
            at_call: Arc::default(),
        };
        Self { folder, model, record: Arc::default(), signal, voice: Voice::default(), native, work }
    }

    /// What the model does when the script is over.
    fn forever(mut self, last: Script) -> Self {
        self.model.last = Some(last);
        self
    }

    async fn run(&self) -> AgentResult {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().route("/v1/messages", post(answer)).with_state(self.model.clone());
        let server = async { axum::serve(listener, app).await };
        tokio::select! {
            result = self.run_at(base) => result,
            _ = server => unreachable!("the server ended"),
        }
    }

    async fn run_at(&self, base: String) -> AgentResult {
        let ctx = HarnessContext {
            model: ModelEndpoint {
                client: reqwest::Client::new(),
                base,
                bearer: SecretString::from("session-token"),
            },
            events: self.record.clone(),
            signals: Arc::new(Switch(self.signal.subscribe())),
            steering: Arc::new(self.voice.clone()),
            environment: Environment::clean([("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())]),
            launcher: Launcher::Direct,
        };
        let run = self.native.run(self.work.clone(), &ctx);
        tokio::time::timeout(Duration::from_secs(30), run).await.expect("the harness hangs")
    }

    fn calls(&self) -> Vec<Call> {
        self.model.calls.lock().unwrap().clone()
    }

    fn events(&self, kind: EventKind) -> Vec<Value> {
        self.record
            .0
            .lock()
            .unwrap()
            .iter()
            .filter(|(k, _)| *k == kind)
            .map(|(_, data)| data.clone())
            .collect()
    }

    /// The results the model was shown at that call, as (is_error, text).
    fn results(&self, call: usize) -> Vec<(bool, String)> {
        let body = &self.calls()[call].body;
        let last = body["messages"].as_array().unwrap().last().unwrap();
        let blocks =
            last["content"].as_array().unwrap().iter().filter(|block| block["type"] == "tool_result");
        blocks
            .map(|block| {
                let text = block["content"][0]["text"].as_str().unwrap_or_default();
                (block["is_error"] == true, text.to_owned())
            })
            .collect()
    }
}

async fn answer(State(model): State<Model>, headers: HeaderMap, body: String) -> Response {
    let header = |name: &str| headers.get(name).map_or("", |v| v.to_str().unwrap()).to_owned();
    let call = Call {
        turn: header("x-bgagent-turn"),
        purpose: header("x-bgagent-purpose"),
        bearer: header("authorization"),
        body: serde_json::from_str(&body).expect("the request is JSON"),
    };
    check_transcript(&call.body);
    model.calls.lock().unwrap().push(call);
    if let Some(file) = &*model.at_call.lock().unwrap() {
        fs::write(file, "").unwrap();
    }
    let next = model.script.lock().unwrap().pop_front().or(model.last.clone()).expect("the script is over");
    match next {
        Script::Says(text, tools) => stream(500, text, &tools, None),
        Script::Ends(text, reason) => stream(500, text, &[], Some(reason)),
        Script::Fills(tokens, text, tools) => stream(tokens, text, &tools, None),
        Script::Raw(events) => Response::new(Body::from(events)),
        Script::Hangs => std::future::pending().await,
        Script::Fails(status, code, message) => {
            let body = json!({ "type": "error", "error": { "type": "x", "message": message } }).to_string();
            let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
            if !code.is_empty() {
                response.headers_mut().insert("x-bgagent-failure", code.parse().unwrap());
            }
            response
        }
    }
}

/// What the API would refuse: sides that do not alternate, empty text, a tool call without its result, or the reverse.
fn check_transcript(body: &Value) {
    let messages = body["messages"].as_array().unwrap();
    let mut open: Vec<Value> = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let side = if at % 2 == 0 { "user" } else { "assistant" };
        assert_eq!(message["role"], side, "message {at}");
        let blocks = message["content"].as_array().unwrap();
        assert!(!blocks.is_empty(), "message {at} is empty");
        let ids = |kind: &str, id: &str| -> Vec<Value> {
            blocks.iter().filter(|b| b["type"] == kind).map(|b| b[id].clone()).collect()
        };
        assert_eq!(ids("tool_result", "tool_use_id"), open, "results of message {at}");
        open = ids("tool_use", "id");
        for block in blocks {
            assert!(block["text"].as_str().is_none_or(|text| !text.trim().is_empty()), "empty text in {at}");
        }
    }
    assert!(open.is_empty());
    let cached = body.to_string().matches("cache_control").count();
    assert!((1..=4).contains(&cached), "{cached} cache marks");
    assert_eq!(body["stream"], true);
}

fn event(data: Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap())
}

fn start(tokens: u64) -> String {
    let usage = json!({ "input_tokens": tokens, "cache_read_input_tokens": 10, "output_tokens": 1 });
    event(json!({ "type": "message_start", "message": { "model": "m-1-real", "usage": usage } }))
}

fn stream(tokens: u64, text: &str, tools: &[(&str, String)], reason: Option<&str>) -> Response {
    let mut out = start(tokens);
    out.push_str(": a comment\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n");
    let begin = |at: usize, block: Value| {
        event(json!({ "type": "content_block_start", "index": at, "content_block": block }))
    };
    let delta = |at: usize, delta: Value| {
        event(json!({ "type": "content_block_delta", "index": at, "delta": delta }))
    };
    out += &begin(0, json!({ "type": "text", "text": "" }));
    for part in text.split_inclusive(' ') {
        out += &delta(0, json!({ "type": "text_delta", "text": part }));
    }
    for (n, (name, input)) in tools.iter().enumerate() {
        let at = n + 1;
        out += &begin(
            at,
            json!({ "type": "tool_use", "id": format!("t{tokens}-{n}"), "name": name, "input": {} }),
        );
        for part in input.as_bytes().chunks(7) {
            let part = String::from_utf8_lossy(part);
            out += &delta(at, json!({ "type": "input_json_delta", "partial_json": part }));
        }
        out += &event(json!({ "type": "content_block_stop", "index": at }));
    }
    let reason = reason.unwrap_or(if tools.is_empty() { "end_turn" } else { "tool_use" });
    let usage = json!({ "output_tokens": 20 });
    out += &event(json!({ "type": "message_delta", "delta": { "stop_reason": reason }, "usage": usage }));
    out += &event(json!({ "type": "message_stop" }));
    Response::new(Body::from(out))
}

fn bash(command: &str) -> (&'static str, String) {
    ("Bash", json!({ "command": command }).to_string())
}

#[tokio::test]
async fn a_run_reads_acts_and_ends_with_its_words() {
    let stage = Stage::new(vec![
        Script::Says("Looking.", vec![bash("echo hello > out.txt; cat out.txt")]),
        Script::Says("Fix the test\n\nIt works.", vec![]),
    ]);
    fs::write(stage.folder.path().join("AGENTS.md"), "Use tabs.").unwrap();
    let result = stage.run().await;
    assert_eq!(result.status, AgentStatus::Success);
    assert_eq!((result.turns_attempted, result.turns_completed), (2, 2));
    assert_eq!(result.final_text, "Fix the test\n\nIt works.");
    assert_eq!((result.stop, result.failure), (None, None));
    assert_eq!((result.tokens.input, result.tokens.cache_read, result.tokens.output), (1000, 20, 40));

    let calls = stage.calls();
    assert_eq!(calls[0].bearer, "Bearer session-token");
    assert_eq!((calls[0].turn.as_str(), calls[1].turn.as_str()), ("1", "2"));
    let first = calls[0].body.to_string();
    for words in ["acme/app", "bgagent/x/fix", "Extra words", "Fix the test.", "Use tabs."] {
        assert!(first.contains(words), "{words}");
    }
    assert_eq!(stage.results(1), [(false, "hello\n".to_owned())]);
    let without_marks = |call: &Call| -> Vec<Value> {
        let text = call.body["messages"].to_string().replace(r#""cache_control":{"type":"ephemeral"},"#, "");
        serde_json::from_str(&text).unwrap()
    };
    let (before, after) = (without_marks(&calls[0]), without_marks(&calls[1]));
    assert_eq!(
        before[..],
        after[..before.len()],
        "what was said stays as it was: the provider's cache holds"
    );

    let turns = stage.events(EventKind::AgentTurn);
    assert_eq!(turns[0]["text_preview"], "Looking.");
    assert_eq!(
        (&turns[0]["turn"], &turns[0]["tool_calls_count"], &turns[0]["model"]),
        (&json!(1), &json!(1), &json!("m-1-real"))
    );
    assert!(turns[0].get("thinking_preview").is_none());
    let call = &stage.events(EventKind::AgentToolCall)[0];
    assert_eq!(call["tool_input_preview"], r#"{"command":"echo hello > out.txt; cat out.txt"}"#);
    let done = &stage.events(EventKind::AgentToolResult)[0];
    assert_eq!((&done["is_error"], &done["content_preview"]), (&json!(false), &json!("hello\n")));
    assert!(done["duration_ms"].is_u64());
}

#[tokio::test]
async fn bad_calls_are_answered_and_the_run_goes_on() {
    let stage = Stage::new(vec![
        Script::Says(
            "",
            vec![("Launch", "{}".into()), ("Read", r#"{"file_path": "a"#.into()), ("Bash", "[1]".into())],
        ),
        Script::Says("done", vec![]),
    ]);
    assert_eq!(stage.run().await.status, AgentStatus::Success);
    let results = stage.results(1);
    assert!(results.iter().all(|(is_error, _)| *is_error));
    assert!(results[0].1.contains("There is no tool `Launch`. The tools are: Bash, Read"));
    assert!(results[1].1.contains("is not valid JSON"));
    assert!(results[2].1.contains("it is not a JSON object"));
}

#[tokio::test]
async fn changes_run_alone_and_results_keep_their_order() {
    let look = |file: &str| ("Read", json!({ "file_path": file }).to_string());
    let calls =
        vec![look("a"), look("b"), look("a"), bash("echo 2 > a; sleep 0.1"), bash("cat a > b"), look("b")];
    let stage = Stage::new(vec![Script::Says("", calls), Script::Says("done", vec![])]);
    fs::write(stage.folder.path().join("a"), "1\n").unwrap();
    fs::write(stage.folder.path().join("b"), "b\n").unwrap();
    stage.run().await;
    let texts: Vec<String> =
        stage.results(1).into_iter().map(|(_, text)| text.trim().replace('\t', " ")).collect();
    assert_eq!(texts, ["1 1", "1 b", "1 1", "(no output)", "(no output)", "1 2"]);
    let order: Vec<EventKind> = stage.record.0.lock().unwrap().iter().map(|(kind, _)| *kind).collect();
    let pair = [EventKind::AgentToolCall, EventKind::AgentToolResult];
    assert_eq!(order[7..13], [pair, pair, pair].concat(), "{order:?}");
}

#[tokio::test]
async fn looks_run_beside_each_other() {
    // Long to look through, so that none is done before the last has begun.
    let look = ("Read", json!({ "file_path": "long", "offset": 1_000_000 }).to_string());
    let stage = Stage::new(vec![Script::Says("", vec![look; 3]), Script::Says("done", vec![])]);
    fs::write(stage.folder.path().join("long"), "x\n".repeat(1_000_001)).unwrap();
    stage.run().await;
    let order: Vec<EventKind> = stage.record.0.lock().unwrap().iter().map(|(kind, _)| *kind).collect();
    assert_eq!(order[1..4], [EventKind::AgentToolCall; 3], "{order:?}");
    assert!(stage.results(1).iter().all(|(is_error, text)| !is_error && text.contains("1000000\tx")));
}

#[tokio::test]
async fn a_run_that_never_ends_stops_at_the_turn_limit() {
    let mut stage = Stage::new(vec![]).forever(Script::Says("again", vec![bash("echo >> log")]));
    stage.work.max_turns = 4;
    let result = stage.run().await;
    assert_eq!((result.status, result.failure), (AgentStatus::MaxTurns, None));
    assert_eq!((result.turns_attempted, result.turns_completed), (5, 4));
    assert_eq!(stage.calls().len(), 4);
    assert_eq!(fs::read_to_string(stage.folder.path().join("log")).unwrap().lines().count(), 4);
    assert!(stage.calls()[3].body.to_string().contains("one turn is left"));
}

#[tokio::test]
async fn cut_replies_and_pauses_are_continued() {
    let stage = Stage::new(vec![
        Script::Ends("half a", "max_tokens"),
        Script::Ends("paused", "pause_turn"),
        Script::Ends("whole", "end_turn"),
    ]);
    let result = stage.run().await;
    assert_eq!((result.status, result.turns_completed), (AgentStatus::Success, 3));
    assert!(stage.calls()[1].body.to_string().contains("cut off at its length limit"));
    let unknown = Stage::new(vec![Script::Ends("hm", "some_new_reason")]).run().await;
    assert_eq!(unknown.status, AgentStatus::Unknown, "success is never inferred");
    let refused = Stage::new(vec![Script::Ends("no", "refusal")]).run().await;
    assert_eq!(refused.failure.unwrap().code, FailureCode::ContentPolicy);
}

#[tokio::test]
async fn broken_streams_are_asked_for_again_with_the_same_turn() {
    let overloaded = json!({ "type": "error", "error": { "type": "overloaded_error", "message": "busy" } });
    let cut = start(5)
        + &event(
            json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "half" } }),
        );
    let stage = Stage::new(vec![
        Script::Raw(cut),
        Script::Raw(event(overloaded)),
        Script::Fails(503, "", "away"),
        Script::Raw("data: {not json\n\n".into()),
        Script::Hangs,
    ])
    .forever(Script::Says("done", vec![]));
    let result = stage.run().await;
    assert_eq!((result.status, result.final_text.as_str()), (AgentStatus::Success, "done"));
    assert_eq!(result.turns_attempted, 1);
    assert!(stage.calls().iter().all(|call| call.turn == "1"));
    assert_eq!(stage.events(EventKind::AgentTurn).len(), 1);
    assert_eq!(stage.events(EventKind::AgentMilestone)[0]["milestone"], "model_retry");
}

#[tokio::test]
async fn a_stream_that_always_breaks_fails_the_run() {
    let stage = Stage::new(vec![]).forever(Script::Raw(start(5)));
    let result = stage.run().await;
    assert_eq!(result.status, AgentStatus::Error);
    assert_eq!(result.failure.unwrap().code, FailureCode::AgentStreamEnded);
    assert_eq!((stage.calls().len(), result.turns_completed), (5, 0));
    assert_eq!(stage.events(EventKind::AgentError)[0]["error_type"], "AGENT_STREAM_ENDED");
}

#[tokio::test]
async fn each_refusal_ends_the_run_in_its_way() {
    let cases = [
        (402, "", AgentStatus::MaxBudget, None, None),
        (402, "MAX_BUDGET", AgentStatus::MaxBudget, None, None),
        (401, "", AgentStatus::Error, Some(FailureCode::ModelAuthFailed), None),
        (502, "MODEL_AUTH_FAILED", AgentStatus::Error, Some(FailureCode::ModelAuthFailed), None),
        (404, "", AgentStatus::Error, Some(FailureCode::ModelUnknown), None),
        (422, "", AgentStatus::Error, Some(FailureCode::ModelRequestRejected), None),
        (409, "SESSION_SUPERSEDED", AgentStatus::Unknown, None, Some(Stop::Superseded)),
        (409, "", AgentStatus::Unknown, None, Some(Stop::Superseded)),
        (409, "TASK_ENDED", AgentStatus::Unknown, None, Some(Stop::Cancelled)),
    ];
    for (status, code, expected, failure, stop) in cases {
        let stage =
            Stage::new(vec![Script::Says("", vec![bash("true")]), Script::Fails(status, code, "because")]);
        let result = stage.run().await;
        assert_eq!(result.status, expected, "{status} {code}");
        assert_eq!(result.failure.map(|failure| failure.code), failure, "{status} {code}");
        assert_eq!(result.stop, stop, "{status} {code}");
        assert_eq!((result.turns_attempted, result.turns_completed), (2, 1));
        assert_eq!(stage.calls().len(), 2, "no second try");
    }
}

#[tokio::test]
async fn nobody_there_is_waited_for_up_to_the_patience() {
    let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let stage = Stage::new(vec![]);
    let result = stage.run_at(format!("http://{unused}")).await;
    assert_eq!(result.failure.unwrap().code, FailureCode::ModelUnreachable);
}

#[tokio::test]
async fn the_control_plane_may_restart_between_two_tries() {
    let stage = Stage::new(vec![Script::Says("done", vec![])]);
    let address = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let model = stage.model.clone();
    let server = async {
        let deadline = Instant::now() + Duration::from_secs(5);
        while stage.events(EventKind::AgentMilestone).is_empty() {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        axum::serve(listener, Router::new().route("/v1/messages", post(answer)).with_state(model)).await
    };
    let result = tokio::select! {
        result = stage.run_at(format!("http://{address}/")) => result,
        _ = server => unreachable!(),
    };
    assert_eq!(result.status, AgentStatus::Success);
}

/// D-050: a cancel was noticed when the agent wanted to stop.
#[tokio::test]
async fn a_cancelled_task_is_left_within_a_second_wherever_it_is() {
    let cases = [
        (vec![Script::Says("", vec![bash("echo > begun; sleep 4331")])], Signal::Cancelled, Stop::Cancelled),
        (
            vec![Script::Says("", vec![bash("echo > begun")]), Script::Hangs],
            Signal::Superseded,
            Stop::Superseded,
        ),
    ];
    for (script, signal, stop) in cases {
        let stage = Stage::new(script);
        let cancel = async {
            let deadline = Instant::now() + Duration::from_secs(10);
            while !stage.folder.path().join("begun").exists() {
                assert!(Instant::now() < deadline);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            stage.signal.send_replace(signal);
            Instant::now()
        };
        let (result, cancelled) = tokio::join!(stage.run(), cancel);
        assert!(cancelled.elapsed() < Duration::from_secs(10), "what ran was waited for");
        assert_eq!((result.stop, result.status), (Some(stop), AgentStatus::Unknown));
        let calls = stage.events(EventKind::AgentToolCall).len();
        assert_eq!(
            stage.events(EventKind::AgentToolResult).len(),
            calls,
            "each call has its result in the record"
        );
    }
}

/// D-052: a task that was cancelled before its start went on.
#[tokio::test]
async fn a_task_cancelled_before_it_begins_makes_no_call() {
    let stage = Stage::new(vec![]);
    stage.signal.send_replace(Signal::Cancelled);
    assert_eq!(stage.run().await.stop, Some(Stop::Cancelled));
    assert!(stage.calls().is_empty());
}

#[tokio::test]
async fn nothing_more_is_run_once_cancelled_between_two_calls() {
    let stage =
        Stage::new(vec![Script::Says("", vec![bash("echo > begun; sleep 30"), bash("echo > second")])]);
    let cancel = async {
        while !stage.folder.path().join("begun").exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        stage.signal.send_replace(Signal::Cancelled);
    };
    tokio::join!(stage.run(), cancel);
    assert!(!stage.folder.path().join("second").exists());
}

#[tokio::test]
async fn a_full_window_is_compacted_with_a_summary() {
    let todo = json!({ "todos": [{ "content": "mend the gears", "status": "in_progress" }] }).to_string();
    let mut stage = Stage::new(vec![
        Script::Fills(600, "", vec![("TodoWrite", todo), bash("seq 1 3000")]),
        Script::Fills(8_400, "", vec![bash("echo early marker")]),
        Script::Says("Summary: the gears are in gear.rs", vec![]),
        Script::Fills(900, "", vec![bash("echo late marker")]),
        Script::Says("done", vec![]),
    ]);
    stage.work.context_window = 10_000;
    stage.work.max_output_tokens = 1_000;
    fs::write(stage.folder.path().join("CLAUDE.md"), "Always oil the gears.").unwrap();
    let result = stage.run().await;
    assert_eq!(result.status, AgentStatus::Success);
    let calls = stage.calls();
    let purposes: Vec<&str> = calls.iter().map(|call| call.purpose.as_str()).collect();
    assert_eq!(purposes, ["", "", "compaction", "", ""]);
    assert_eq!((calls[2].turn.as_str(), calls[3].turn.as_str()), ("3", "3"));
    assert_eq!(calls[2].body["tool_choice"]["type"], "none");
    let after = calls[3].body.to_string();
    for kept in [
        "Fix the test.",
        "Always oil the gears.",
        "the gears are in gear.rs",
        "[>] mend the gears",
        "early marker",
    ] {
        assert!(after.contains(kept), "{kept} is missing");
    }
    assert!(!after.contains("1499\\n1500"), "the long result is gone");
    assert_eq!(stage.events(EventKind::AgentMilestone).last().unwrap()["milestone"], "context_compacted");
    assert_eq!((result.turns_attempted, result.turns_completed), (4, 4), "a compaction is no turn");
}

#[tokio::test]
async fn a_window_that_overflows_anyway_is_compacted_without_a_model() {
    let stage = Stage::new(vec![
        Script::Says("", vec![bash("seq 1 5000")]),
        Script::Fills(700, "", vec![bash("echo two")]),
        Script::Fails(400, "MODEL_REQUEST_REJECTED", "prompt is too long: 9 tokens > 8 maximum"),
        Script::Fails(413, "", "too large"),
        Script::Says("done", vec![]),
    ]);
    let mut stage = stage;
    stage.work.context_window = 12_000;
    let result = stage.run().await;
    assert_eq!((result.status, result.failure), (AgentStatus::Success, None));
    let last = stage.calls().pop().unwrap();
    assert!(last.body.to_string().contains("No summary could be written"));
    let stage = Stage::new(vec![]).forever(Script::Fails(413, "", "too large"));
    assert_eq!(stage.run().await.failure.unwrap().code, FailureCode::ModelRequestRejected);
}

#[tokio::test]
async fn thoughts_go_back_as_they_came_and_pictures_as_pictures() {
    let block = |at: u32, block: Value| {
        event(json!({ "type": "content_block_start", "index": at, "content_block": block }))
    };
    let delta =
        |at: u32, delta: Value| event(json!({ "type": "content_block_delta", "index": at, "delta": delta }));
    let read = json!({ "type": "tool_use", "id": "t1", "name": "Read", "input": { "file_path": "p.png" } });
    let events = [
        start(5),
        block(0, json!({ "type": "thinking", "thinking": "" })),
        delta(0, json!({ "type": "thinking_delta", "thinking": "hm, a picture" })),
        delta(0, json!({ "type": "signature_delta", "signature": "sealed" })),
        block(1, json!({ "type": "redacted_thinking", "data": "opaque" })),
        block(2, read.clone()),
        event(json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use" } })),
        event(json!({ "type": "message_stop" })),
    ];
    let stage = Stage::new(vec![Script::Raw(events.concat()), Script::Says("done", vec![])]);
    fs::write(stage.folder.path().join("p.png"), b"\x89PNG\r\n\x1a\n\0rest").unwrap();
    assert_eq!(stage.run().await.status, AgentStatus::Success);
    let messages = stage.calls()[1].body["messages"].clone();
    let thought = json!({ "type": "thinking", "thinking": "hm, a picture", "signature": "sealed" });
    let opaque = json!({ "type": "redacted_thinking", "data": "opaque" });
    assert_eq!(
        messages[1]["content"],
        json!([thought, opaque, read]),
        "input given whole at the start counts, too"
    );
    let picture = json!({ "type": "base64", "media_type": "image/png", "data": "iVBORw0KGgoAcmVzdA==" });
    assert_eq!(messages[2]["content"][0]["content"], json!([{ "type": "image", "source": picture }]));
    assert_eq!(stage.events(EventKind::AgentTurn)[0]["thinking_preview"], "hm, a picture");
}

#[tokio::test]
async fn a_flood_of_calls_is_bounded() {
    let mut stage = Stage::new(vec![
        Script::Says("", vec![bash("echo >> ran; seq 1 4000"); 100]),
        Script::Says("done", vec![]),
    ]);
    stage.work.context_window = 50_000;
    assert_eq!(stage.run().await.status, AgentStatus::Success);
    assert_eq!(fs::read_to_string(stage.folder.path().join("ran")).unwrap().lines().count(), 64);
    let results = stage.results(1);
    assert_eq!(results.len(), 100);
    assert!(results[99].0 && results[99].1.contains("64 tool calls at most"));
    let bytes: usize = results.iter().map(|(_, text)| text.len()).sum();
    assert!(bytes < 120_000, "{bytes} bytes of results are shown");
}

#[tokio::test]
async fn a_work_tree_that_is_not_there_is_a_failure_with_its_path() {
    let mut stage = Stage::new(vec![]);
    stage.work.work_dir = "/nowhere/at/all".into();
    let failure = stage.run().await.failure.unwrap();
    assert_eq!(failure.code, FailureCode::RepoSetupFailed);
    assert!(failure.detail.contains("/nowhere/at/all"));
}

/// D-072: words in a file were taken for a refusal.
#[tokio::test]
async fn words_of_a_tool_are_no_blocker() {
    let words = "curl: (6) Could not resolve host: example.invalid\nFailed to connect to example.invalid port 443\n\
                 getaddrinfo ENOTFOUND example.invalid\nNetwork is unreachable\n";
    let stage =
        Stage::new(vec![Script::Says("", vec![bash("cat log.txt")]), Script::Says("It is a log.", vec![])]);
    fs::write(stage.folder.path().join("log.txt"), words).unwrap();
    let result = stage.run().await;
    assert_eq!((result.status, result.failure), (AgentStatus::Success, None));
    assert!(stage.events(EventKind::AgentBlocked).is_empty(), "reading of a refusal is none");
    assert_eq!(stage.events(EventKind::AgentToolResult)[0]["is_error"], false);
}
