//! A trace of a real run: fetched as a person does, every line by its schema, run again, and told where it differs.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use protocol::rest::{CreateTaskRequest, TaskDetail};
use serde_json::{Value, json};
use testkit::platform::Platform;
use testkit::repo::TempRepo;
use trace::pack::Packer;
use trace::{Entry, Line, prefix};

use crate::schema::Schema;
use crate::whole::*;

/// The task of these tests: two commands, one of which fails, and a file.
fn script(dir: &Path) -> std::path::PathBuf {
    let turns = [
        bash("echo one > one.txt; sh test.sh"),
        bash("date; ls no-such-file"),
        say("Add a file\n\nIt is there."),
    ];
    transcript(dir, "traced", &turns)
}

async fn repo() -> TempRepo {
    TempRepo::new(&[("test.sh", "test -f one.txt && echo 1 passed\n"), ("README.md", "# sample\n")])
        .await
        .unwrap()
}

async fn traced(platform: &Platform, repo: &Path) -> TaskDetail {
    let request = CreateTaskRequest {
        trace: Some(true),
        build_command: Some("sh test.sh".into()),
        ..request(repo, "Add a file")
    };
    let task = run(platform, &request).await;
    assert_eq!(task.status, "COMPLETED", "{task:#?}\n{}", platform.log());
    let id = task.task_id.parse().unwrap();
    let whole = async || {
        let task = platform.client().unwrap().task(id).await.ok()?;
        task.trace_s3_uri.is_some().then_some(task)
    };
    testkit::poll::until("the trace", Duration::from_secs(30), whole)
        .await
        .unwrap_or_else(|e| panic!("{e:#}\n{}", platform.log()))
}

fn lines(packed: &[u8]) -> Vec<String> {
    let mut text = String::new();
    MultiGzDecoder::new(packed).read_to_string(&mut text).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn schema() -> Schema {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide/trace.schema.json");
    Schema::new(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
}

/// Every line, changed by a test, packed again; hashes are made to fit.
fn changed(packed: &[u8], change: impl Fn(&mut Line)) -> Vec<u8> {
    let mut packer = Packer::new();
    let (mut system, mut tools) = (String::new(), String::new());
    for line in lines(packed) {
        let mut entry: Entry = serde_json::from_str(&line).unwrap();
        change(&mut entry.line);
        if let Line::ModelRequest(request) = &mut entry.line {
            system = request.system.as_ref().map_or(system, prefix::hash);
            tools = request.tools.as_ref().map_or(tools, prefix::hash);
            (request.system_sha256, request.tools_sha256) = (system.clone(), tools.clone());
        }
        packer.push(&entry).unwrap();
    }
    packer.finish().unwrap()
}

/// D-077: traces had no tool results.
/// D-127: nor was the version of the prompt on the record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_run_is_fetched_by_its_schema_run_again_and_compared() {
    let dir = tempfile::tempdir().unwrap();
    let (script, repo) = (script(dir.path()), repo().await);
    let mut platform = platform(&script, "traced");
    platform.start().await.unwrap();
    let task = traced(&platform, repo.path()).await;
    let id = task.task_id.as_str();

    // As lines on stdout; as the file; and never over another one.
    let file = dir.path().join("t.jsonl.gz");
    let out = file.to_str().unwrap();
    let shown = types(&platform, &["trace", "download", id]).await;
    assert_eq!(shown.code, 0, "{shown:?}");
    let saved = types(&platform, &["trace", "download", id, "-o", out]).await;
    assert_eq!((saved.code, saved.out.as_str()), (0, ""), "{saved:?}");
    let packed = std::fs::read(&file).unwrap();
    let all = lines(&packed);
    assert_eq!(
        shown.out.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()).collect::<Vec<_>>(),
        all.iter().map(|l| serde_json::from_str::<Value>(l).unwrap()).collect::<Vec<_>>()
    );
    let refused = types(&platform, &["trace", "download", id, "-o", out]).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("is there already") && refused.err.contains("--force"), "{refused:?}");
    let forced = types(
        &platform,
        &["trace", "download", id, "-o", out, "--decompress", "--force", "--output", "json"],
    )
    .await;
    assert_eq!(forced.code, 0, "{forced:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), all.join("\n") + "\n");
    std::fs::write(&file, &packed).unwrap();

    // Every line is what the schema says, and nothing is there that it does not say.
    let schema = schema();
    let mut kinds: Vec<String> = Vec::new();
    for (n, line) in all.iter().enumerate() {
        let value: Value = serde_json::from_str(line).unwrap();
        assert_eq!(schema.wrong(&value), Vec::<String>::new(), "in {line}");
        assert_eq!(value["seq"], n + 1);
        kinds.push(value["type"].as_str().unwrap().to_owned());
        let mut unknown = value.clone();
        unknown["unknown"] = json!(1);
        assert!(!schema.wrong(&unknown).is_empty(), "the schema lets everything pass");
    }
    assert_eq!((kinds[0].as_str(), kinds.last().unwrap().as_str()), ("header", "end"));
    for kind in ["model_request", "model_response", "event", "work", "outcome"] {
        assert!(kinds.iter().any(|k| k == kind), "{kind} in {kinds:?}");
    }
    let text = all.join("\n");
    assert!(text.contains("1 passed") && text.contains("no-such-file"), "full outputs are in it");

    // The bundle.
    let bundle = types(&platform, &["replay", id]).await;
    assert!(
        bundle.code == 0
            && bundle.out.contains("Build:       PASSED")
            && bundle.out.contains("task_completed"),
        "{bundle:?}"
    );
    let bundle = types(&platform, &["replay", id, "--json"]).await;
    let bundle: Value = serde_json::from_str(&bundle.out).unwrap();
    assert_eq!(bundle["trace_uri"], json!(task.trace_s3_uri));
    // D-127: by which words it worked, in task, bundle and trace.
    let version = task.prompt_version.as_deref().expect("an agent has worked");
    assert!(version.len() == 12 && version != "000000000000", "{version}");
    let header: Value = serde_json::from_str(&all[0]).unwrap();
    assert_eq!((&bundle["prompt_version"], &header["prompt_version"]), (&json!(version), &json!(version)));

    // The same program behaves the same, also without the server.
    let same = types(&platform, &["replay", "run", id]).await;
    assert_eq!(same.code, 0, "{same:?}");
    assert!(same.out.contains("It behaves the same: 3 turns, 2 tool results, 1 changed file"), "{same:?}");
    platform.stop(END).await.unwrap();

    // As if prompt, a tool and an output had been others when it was recorded.
    let other = changed(&packed, |line| match line {
        Line::ModelRequest(request) => {
            if let Some(system) = &mut request.system {
                system[0]["text"] = format!("{} Be quick.", system[0]["text"].as_str().unwrap()).into();
            }
            if let Some(tools) = &mut request.tools {
                let tools = tools.as_array_mut().unwrap();
                tools.retain(|tool| tool["name"] != "Grep");
                let bash = tools.iter_mut().find(|tool| tool["name"] == "Bash").unwrap();
                bash["description"] = "Runs it.".into();
            }
        }
        Line::Outcome(outcome) => outcome.build = Some("failed".into()),
        Line::Work(work) => {
            work.tree = "0".repeat(40);
            work.files[0].blob = "0".repeat(40);
        }
        _ => (),
    });
    let other_file = dir.path().join("other.jsonl.gz");
    std::fs::write(&other_file, other).unwrap();
    let differs =
        types(&platform, &["replay", "run", "--trace", other_file.to_str().unwrap(), "--output", "json"])
            .await;
    assert_eq!(differs.code, 1, "{differs:?}");
    let told: Value = serde_json::from_str(&differs.out).unwrap();
    assert_eq!(told["same"], false);
    let told: Vec<(&str, &str)> = told["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| (d["subject"].as_str().unwrap(), d["name"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("system_prompt", "system prompt"),
            ("tool", "Bash.description"),
            ("tool", "Grep"),
            ("file", "one.txt"),
            ("verification", "build")
        ]
    );

    // A commit that is nowhere, and a file that is no trace, are told.
    let elsewhere = tempfile::tempdir().unwrap();
    let words = ["replay", "run", "--trace", out, "--repo", elsewhere.path().to_str().unwrap()];
    let told = types(&platform, &words).await;
    assert!(told.code == 2 && told.err.contains("is not in") && told.err.contains("--repo"), "{told:?}");
    std::fs::write(&file, "hello").unwrap();
    let told = types(&platform, &["replay", "run", "--trace", out]).await;
    assert!(told.code == 2 && told.err.contains("line 1 of the trace"), "{told:?}");
    platform.boxes_gone(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_people_said_is_said_again_where_it_was_heard() {
    let dir = tempfile::tempdir().unwrap();
    let mut twice = bash("echo one > one.txt");
    twice["content"].as_array_mut().unwrap().push(bash("echo two > two.txt")["content"][0].clone());
    twice["nudges"] =
        json!([{ "text": "before anything" }, { "text": "leave <two> & \"three\"", "before_call": 2 }]);
    let mut third = bash("cat one.txt");
    third["nudges"] = json!([{ "text": "between turns" }]);
    let mut end = say("Add a file\n\nIt is there.");
    end["nudges"] = json!([{ "text": "one thing more", "before_call": 1 }]);
    let turns = [twice, third, end, bash("echo more >> one.txt"), say("Add a file\n\nDone.")];
    let script = transcript(dir.path(), "nudged", &turns);
    let repo = TempRepo::new(&[("README.md", "# sample\n")]).await.unwrap();
    let mut platform = platform(&script, "nudged");
    platform.start().await.unwrap();
    let request = CreateTaskRequest { trace: Some(true), ..request(repo.path(), "Add a file") };
    let task = run(&platform, &request).await;
    assert_eq!(task.status, "COMPLETED", "{task:#?}\n{}", platform.log());
    let told = events(&platform, task.task_id.parse().unwrap()).await;
    let acknowledged = told.iter().filter(|e| e.metadata["milestone"] == "nudge_acknowledged").count();
    assert_eq!(acknowledged, 4, "each at a boundary of its own");
    let calls = told.iter().filter(|e| e.event_type == "agent_tool_call").count();
    assert_eq!(calls, 3, "the one that a nudge came before was not made");

    let same = types(&platform, &["replay", "run", &task.task_id]).await;
    assert_eq!(same.code, 0, "{same:?}");
    assert!(same.out.contains("It behaves the same: 5 turns"), "{same:?}");
    platform.end(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commit_it_started_from_is_what_is_run_whatever_the_branch_holds_by_now() {
    let dir = tempfile::tempdir().unwrap();
    let script = transcript(dir.path(), "traced", &[bash("cat version.txt"), say("Look\n\nDone.")]);
    let repo = TempRepo::new(&[("version.txt", "one\n")]).await.unwrap();
    let mut platform = platform(&script, "traced");
    platform.start().await.unwrap();
    let request = CreateTaskRequest { trace: Some(true), ..request(repo.path(), "Look at it") };
    let task = run(&platform, &request).await;
    let id = task.task_id.clone();
    repo.commit("another version", &[("version.txt", "two\n")]).await.unwrap();
    let same = types(&platform, &["replay", "run", &id]).await;
    assert_eq!(same.code, 0, "{same:?}");
    platform.end(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_recorded_survives_a_crash_of_server_and_box() {
    let dir = tempfile::tempdir().unwrap();
    let turns = [bash("echo one > one.txt"), bash("sleep 600"), say("Add a file\n\nIt is there.")];
    let script = transcript(dir.path(), "traced", &turns);
    let repo = repo().await;
    let mut platform = platform(&script, "traced");
    platform.start().await.unwrap();
    let task =
        submit(&platform, &CreateTaskRequest { trace: Some(true), ..request(repo.path(), "Add a file") })
            .await;
    let asleep = async || {
        let events = events(&platform, task).await;
        events.iter().filter(|e| e.event_type == "agent_tool_call").nth(1).map(|_| ())
    };
    testkit::poll::until("the second command", END, asleep).await.unwrap();
    platform.kill().await.unwrap();
    platform.start().await.unwrap();
    for left in platform.leftovers() {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(left.pid), nix::sys::signal::Signal::SIGKILL).ok();
    }
    platform.client().unwrap().cancel(task).await.unwrap();
    let fetched = async || {
        let said = types(&platform, &["trace", "download", &task.to_string()]).await;
        (said.code == 0).then_some(said.out)
    };
    let text = testkit::poll::until("the trace", END, fetched).await.unwrap();
    let trace = trace::Trajectory::read(text.as_bytes()).unwrap();
    let answered = trace.calls.iter().filter(|c| c.response.is_some()).count();
    assert!(answered >= 2, "both answers of before are there: {text}");
    assert_eq!(trace.outcome.unwrap().status, "CANCELLED");
    assert!(!trace.truncated);
    platform.end(END).await.unwrap();
}
