//! The whole path with model providers that are not a script: servers that nobody of ours wrote, and servers that are
//! busy, broken, away, or do not know the key. And the stops of money and turns.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use protocol::rest::{CreateTaskRequest, TaskDetail};
use serde_json::json;
use testkit::platform::Platform;
use testkit::poll;
use tokio::process::{Child, Command};

use crate::upstream::{KEY, Mood, TOKENS, Turn, Upstream};
use crate::whole::*;

/// litellm wants one that is not weak.
const MASTER_KEY: &str = "sk-0f9c1a7b3d5e4f60a1b2c3d4e5f60718";
const WORK: [Turn; 3] = [
    Turn::Bash("printf 'added by the agent\\n' > added.txt"),
    Turn::Bash("cat added.txt && git status --short"),
    Turn::Say("Add a file\n\nIt says who added it."),
];

/// A platform with one provider, `up`, and no script.
fn with_provider(kind: &str, url: &str, key: &str) -> Platform {
    let mut platform = platform(Path::new("/nowhere"), "none");
    platform.unset("BGAGENT__MODEL__PROVIDERS__DEMO__KIND");
    platform.unset("BGAGENT__MODEL__PROVIDERS__DEMO__PATH");
    let timeouts = "BGAGENT__MODEL__PROVIDERS__UP__TIMEOUTS__";
    platform
        .with("BGAGENT__MODEL__PROVIDERS__UP__KIND", kind)
        .with("BGAGENT__MODEL__PROVIDERS__UP__BASE_URL", url)
        .with("BGAGENT__MODEL__PROVIDERS__UP__API_KEY", key)
        .with("BGAGENT__MODEL__DEFAULT", "up/scripted")
        .with(
            "BGAGENT__MODEL__PRICES",
            r#"[{model="scripted", as_of="2026-01-01", input=3.0, output=15.0, cache_read=3.0, cache_write=3.0}]"#,
        )
        .with(&format!("{timeouts}BACKOFF_MS"), 20)
        .with(&format!("{timeouts}UNREACHABLE_MAX_S"), 2)
}

/// The work was done and each answer was paid as reported.
async fn check_done(platform: &Platform, task: &TaskDetail, answers: u64) {
    let why = format!("{task:#?}\n{}", platform.log());
    assert_eq!(task.status, "COMPLETED", "{why}");
    assert_eq!((task.input_tokens, task.output_tokens), (answers * TOKENS.0, answers * TOKENS.1), "{why}");
    let dollars = (answers * (TOKENS.0 * 3 + TOKENS.1 * 15)) as f64 / 1e6;
    assert!((task.cost_usd.unwrap() - dollars).abs() < 1e-9, "{dollars} for {why}");
    assert_eq!(task.unpriced_calls, 0);
    let record = platform.client().unwrap().pull_request(task.task_id.parse().unwrap()).await.unwrap();
    assert_eq!(record.title, "Add a file");
    assert!(record.diff.contains("+added by the agent"), "{}", record.diff);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_ours_in_between_on_both_wires() {
    let Some(program) = testkit::peers::program("litellm", "litellm") else { return };
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(&WORK, Mood::Well).await;
    let (port, _litellm) = litellm(&program, dir.path(), &upstream).await;
    for (kind, path) in [("openai", "/v1"), ("anthropic", "")] {
        let repo = sample().await;
        let mut platform = with_provider(kind, &format!("http://127.0.0.1:{port}{path}"), MASTER_KEY);
        platform.start().await.unwrap();
        let asked = upstream.asked().len();
        let task = run(&platform, &request(repo.path(), "Add a file")).await;
        check_done(&platform, &task, 3).await;
        let asked = &upstream.asked()[asked..];
        assert_eq!(asked.len(), 3, "{kind}: one call of the model for each turn");
        assert!(asked.iter().all(|a| a["stream"] == true), "{kind}: streamed");
        platform.end(END).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_busy_is_waited_for() {
    let upstream = Upstream::start(&WORK, Mood::BusyOnce).await;
    let repo = sample().await;
    let mut platform = with_provider("openai", &upstream.url(), KEY);
    platform.start().await.unwrap();
    let task = run(&platform, &request(repo.path(), "Add a file")).await;
    check_done(&platform, &task, 3).await;
    let events = events(&platform, task.task_id.parse().unwrap()).await;
    let waits: Vec<_> = events.iter().filter(|e| e.event_type == "model_waiting").collect();
    assert_eq!(waits.len(), 1, "{events:#?}");
    assert!(waits[0].metadata.to_string().contains("429"), "{:?}", waits[0]);
    platform.end(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_and_a_provider_that_is_away_are_found_before_a_box_is_started() {
    let upstream = Upstream::start(&WORK, Mood::Well).await;
    // The port of `discard`, which nothing uses any more and no system gives away.
    let closed = "http://127.0.0.1:9/v1".to_owned();
    for (url, key, want, remedy) in [
        (upstream.url(), "sk-wrong-key-987654321", "MODEL_AUTH_FAILED", "Replace the model provider's key"),
        (closed, KEY, "MODEL_UNREACHABLE", "provider's status page"),
    ] {
        let repo = sample().await;
        let before = belongings(repo.path()).await;
        let mut platform = with_provider("openai", &url, key);
        platform.start().await.unwrap();
        let words = ["run", "--repo", repo.path().to_str().unwrap(), "Add a file"];
        let said = types(&platform, &words).await;
        assert_eq!(said.code, 1, "{said:?}");
        let all = format!("{}{}{}", said.out, said.err, platform.log());
        assert!(all.contains(want) && all.contains(remedy), "{all}");
        assert!(!all.contains(key), "no key is shown: {all}");
        assert_eq!(upstream.asked().len(), 0);
        assert!(!platform.state_dir().join("sessions").read_dir().is_ok_and(|mut d| d.next().is_some()));
        assert_eq!(belongings(repo.path()).await, before);
        platform.end(END).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_breaks_under_way_fails_the_task_with_its_words() {
    let upstream = Upstream::start(&WORK, Mood::Broken).await;
    let repo = sample().await;
    let mut platform = with_provider("openai", &upstream.url(), KEY);
    platform.start().await.unwrap();
    let task = run(&platform, &request(repo.path(), "Add a file")).await;
    assert_eq!((task.status.as_str(), code(&task)), ("FAILED", "MODEL_UNREACHABLE"), "{task:#?}");
    let message = task.error_message.unwrap();
    assert!(message.contains("500") && message.contains("The engine is on fire"), "{message}");
    assert!(upstream.asked().len() >= 4, "it was tried again");
    platform.end(END).await.unwrap();
}

/// Work without an end: each turn leaves a line in a file.
const ENDLESS: [Turn; 1] = [Turn::Bash("date +%N >> lines.txt")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_and_turns_end_the_work_cleanly_and_what_was_done_is_delivered() {
    let upstream = Upstream::start(&ENDLESS, Mood::Well).await;
    let mut platform = with_provider("openai", &upstream.url(), KEY);
    platform.start().await.unwrap();
    // An answer costs 0.00315 dollars.
    let budget = CreateTaskRequest { max_budget_usd: Some(0.01), ..CreateTaskRequest::default() };
    let turns = CreateTaskRequest { max_turns: Some(3), ..CreateTaskRequest::default() };
    for (limits, want, remedy) in
        [(budget, "MAX_BUDGET", "Raise the budget"), (turns, "MAX_TURNS", "Raise the turns")]
    {
        let repo = sample().await;
        let task = run(&platform, &merge(limits, repo.path())).await;
        let why = format!("{task:#?}\n{}", platform.log());
        assert_eq!((task.status.as_str(), code(&task)), ("FAILED", want), "{why}");
        assert!(task.error_classification.as_ref().unwrap().remedy.contains(remedy), "{why}");
        assert!(task.cost_usd.unwrap() <= 0.01 + 0.00315, "{why}");
        assert!(task.turns_completed.is_some_and(|n| (2..=4).contains(&n)), "{why}");
        let lines = repo.git(&["show", &format!("{}:lines.txt", task.branch_name)]).await.unwrap();
        assert!((2..=4).contains(&lines.lines().count()), "the work so far is on the branch: {lines}");
        assert!(task.pr_url.is_some(), "{why}");
        let record = platform.client().unwrap().pull_request(task.task_id.parse().unwrap()).await.unwrap();
        assert!(record.diff.contains("lines.txt"), "{record:?}");
    }
    platform.end(END).await.unwrap();
}

fn merge(limits: CreateTaskRequest, repo: &Path) -> CreateTaskRequest {
    let CreateTaskRequest { repo, task_description, .. } = request(repo, "Write lines");
    CreateTaskRequest { repo, task_description, ..limits }
}

/// The proxy that nobody of ours wrote, in front of the fake model.
async fn litellm(program: &Path, dir: &Path, upstream: &Upstream) -> (u16, Child) {
    // `hosted_vllm` is litellm's name for a Chat Completions server that it must not take for OpenAI's.
    let params = json!({ "model": "hosted_vllm/x", "api_key": KEY, "api_base": upstream.url() });
    let config = json!({ "model_list": [{ "model_name": "scripted", "litellm_params": params }] });
    // JSON is YAML.
    std::fs::write(dir.join("litellm.yaml"), config.to_string()).unwrap();
    let port = testkit::port::for_later();
    let log = std::fs::File::create(dir.join("litellm.log")).unwrap();
    let child = Command::new(program)
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
    let alive = async || {
        let answer = reqwest::get(format!("http://127.0.0.1:{port}/health/liveliness")).await;
        answer.is_ok_and(|r| r.status().is_success()).then_some(())
    };
    let ready = poll::until("litellm to be ready", Duration::from_secs(120), alive).await;
    ready.unwrap_or_else(|e| panic!("{e}: {}", std::fs::read_to_string(dir.join("litellm.log")).unwrap()));
    (port, child)
}
