//! The proxy between programs that are not ours: the `anthropic` SDK in front of it, a litellm proxy behind it, and the
//! litellm proxy in front of it again, as a client of our own surface.
//!
//! Runs when litellm is there (see `testkit::peers`).

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use domain::Attempt;
use gateway::model::{Kind, ModelCall, ModelConfig, ModelRouter, ProviderConfig};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use testkit::{peers, port};

use super::fake::*;

/// litellm wants one that is not weak.
const MASTER_KEY: &str = "sk-0f9c1a7b3d5e4f60a1b2c3d4e5f60718";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_anthropic_sdk_and_litellm_on_both_sides() {
    let (Some(python), Some(program)) =
        (peers::program("litellm", "python"), peers::program("litellm", "litellm"))
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (surface, litellm) = (port::for_later(), port::for_later());
    write_transcripts(dir.path());
    let meter = FakeMeter::new();
    let _surface = serve(surface, Arc::new(router(dir.path(), litellm)), meter.clone()).await;
    let _litellm = start(&program, dir.path(), litellm, surface).await;

    let models = ["s/m-1", "s/slow", "a/said", "o/said", "a/scripted", "o/scripted"];
    let mut client = Command::new(python);
    client.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/model/peer/client.py"));
    client.arg(format!("http://127.0.0.1:{surface}")).args(models).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(120), client.output()).await.unwrap().unwrap();
    let log = std::fs::read_to_string(dir.path().join("litellm.log")).unwrap();
    assert!(output.status.success(), "{}\n{log}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();

    let scripted = json!([
        { "blocks": ["Looking ñ around.", ["bash", { "command": "ls" }], ["bash", { "command": "pwd \"x\"" }]], "stop": "tool_use", "counted": true },
        { "blocks": ["Done."], "stop": "end_turn", "counted": true },
    ]);
    let said = |text: &str| json!([{ "blocks": [text], "stop": "end_turn", "counted": true }]);
    for (model, want) in [
        ("s/m-1", scripted.clone()),
        ("s/slow", said("Patience.")),
        ("a/said", said("Hello from litellm")),
        ("o/said", said("Hello from litellm")),
        ("a/scripted", scripted.clone()),
        ("o/scripted", scripted),
    ] {
        for way in ["streamed", "whole"] {
            assert_eq!(seen[model][way], want, "{model} {way}");
        }
    }
    // The script's calls through litellm are calls too: 6 conversations twice, 3 of them of two turns, 2 met twice.
    assert_eq!(meter.record_ids().len(), 2 * (3 + 3 * 2 + 2 * 2));
}

fn write_transcripts(dir: &Path) {
    let text = |text: &str| json!({ "type": "text", "text": text });
    let bash = |command: &str| json!({ "type": "tool_use", "name": "bash", "input": { "command": command } });
    let scripted = json!({ "version": 1, "turns": [
        { "content": [text("Looking ñ around."), bash("ls"), bash("pwd \"x\"")], "chunk": 3 },
        { "content": [text("Done.")] },
    ] });
    // Long enough that the stream begins with pings.
    let slow = json!({ "version": 1, "turns": [
        { "content": [text("Patience.")], "error": { "status": 529, "retry_after": 4, "times": 1 } },
    ] });
    std::fs::write(dir.join("m-1.json"), scripted.to_string()).unwrap();
    std::fs::write(dir.join("slow.json"), slow.to_string()).unwrap();
}

fn router(scripts: &Path, litellm: u16) -> ModelRouter {
    let mut script = ProviderConfig::new(Kind::Script);
    script.path = Some(scripts.to_owned());
    script.models = vec!["m-1".into(), "slow".into()];
    let litellm = |kind, path: &str| {
        let mut provider = provider(kind, &format!("http://127.0.0.1:{litellm}{path}"));
        provider.api_key = Some(MASTER_KEY.into());
        provider
    };
    let providers = [("s", script), ("a", litellm(Kind::Anthropic, "")), ("o", litellm(Kind::Openai, "/v1"))];
    let providers = providers.map(|(name, provider)| (name.to_owned(), provider)).into();
    ModelRouter::new(ModelConfig { providers, ..ModelConfig::default() }).unwrap()
}

type Surface = (Arc<ModelRouter>, Arc<FakeMeter>);

/// What the gateway does with the proxy, without the authentication: the model is what the client asks for.
async fn messages(State((router, meter)): State<Surface>, headers: HeaderMap, body: Bytes) -> Response {
    let model = serde_json::from_slice::<Value>(&body).unwrap()["model"].as_str().unwrap().to_owned();
    match ModelCall::from_http(task(1), Attempt(1), &model, &headers, &body) {
        Ok(call) => router.proxy(call, meter).await,
        Err(answer) => answer.into_response(),
    }
}

async fn serve(port: u16, router: Arc<ModelRouter>, meter: Arc<FakeMeter>) -> tokio::task::JoinHandle<()> {
    let app =
        axum::Router::new().route("/v1/messages", axum::routing::post(messages)).with_state((router, meter));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "the test's own server; ends with its runtime")]
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() })
}

async fn start(program: &Path, dir: &Path, port: u16, surface: u16) -> Child {
    let config = json!({ "model_list": [
        { "model_name": "said", "litellm_params": { "model": "openai/x", "api_key": "k", "mock_response": "Hello from litellm" } },
        { "model_name": "scripted", "litellm_params": { "model": "anthropic/m-1", "api_key": "k", "api_base": format!("http://127.0.0.1:{surface}") } },
    ] });
    // JSON is YAML.
    std::fs::write(dir.join("litellm.yaml"), config.to_string()).unwrap();
    let log = std::fs::File::create(dir.join("litellm.log")).unwrap();
    let mut child = Command::new(program)
        .args(["--config", "litellm.yaml", "--host", "127.0.0.1", "--port", &port.to_string()])
        .current_dir(dir)
        .env("LITELLM_MASTER_KEY", MASTER_KEY)
        .env("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true")
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let ready = format!("http://127.0.0.1:{port}/health/liveliness");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
    while !reqwest::get(&ready).await.is_ok_and(|r| r.status().is_success()) {
        let log = || std::fs::read_to_string(dir.join("litellm.log")).unwrap();
        assert!(child.try_wait().unwrap().is_none(), "litellm ended: {}", log());
        assert!(tokio::time::Instant::now() < deadline, "litellm is not ready: {}", log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    child
}
