//! A model that asks for nonsense or never ends, floods, huge work, and an agent that pushes for itself.

use serde_json::{Value, json};
use testkit::platform::Platform;

use crate::whole::*;
use protocol::rest::{CreateTaskRequest, EventRecord, TaskDetail};
use testkit::repo::TempRepo;

/// Runs these turns on a new repository; gives the task, its events, the repository and the platform.
async fn play(
    transcript: Value,
    limits: CreateTaskRequest,
) -> (TaskDetail, Vec<EventRecord>, TempRepo, Platform) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("odd.json");
    std::fs::write(&path, transcript.to_string()).unwrap();
    let repo = sample().await;
    let before = belongings(repo.path()).await;
    let mut platform = platform(&path, "odd");
    platform.start().await.unwrap();
    let CreateTaskRequest { repo: place, task_description, .. } =
        request(repo.path(), "Plays an odd transcript");
    let task = run(&platform, &CreateTaskRequest { repo: place, task_description, ..limits }).await;
    let events = events(&platform, task.task_id.parse().unwrap()).await;
    assert_eq!(belongings(repo.path()).await, before);
    for event in &events {
        let bytes = event.metadata.to_string().len();
        assert!(bytes <= domain::limit::EVENT_METADATA_MAX_BYTES, "{}: {bytes} bytes", event.event_type);
    }
    (task, events, repo, platform)
}

fn turns(turns: &[Value]) -> Value {
    json!({ "version": 1, "turns": turns })
}

fn any() -> CreateTaskRequest {
    CreateTaskRequest::default()
}

fn completed(task: &TaskDetail, platform: &Platform) {
    assert_eq!(task.status, "COMPLETED", "{task:#?}\n{}", platform.log());
}

/// The text of a file on the task's branch.
async fn file(repo: &TempRepo, task: &TaskDetail, name: &str) -> String {
    repo.git(&["show", &format!("{}:{name}", task.branch_name)]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_tool_and_malformed_input_are_answered_and_the_work_goes_on() {
    let (task, events, repo, platform) = play(
        turns(&[
            json!({ "content": [{ "type": "tool_use", "name": "Teleport", "input": { "to": "Mars" } }] }),
            json!({ "content": [{ "type": "tool_use", "name": "Bash", "input": {} }],
                    "malformed_tool_json": "{\"command\": \"echo" }),
            json!({ "content": [{ "type": "tool_use", "name": "Bash", "input": { "comand": 7 } }] }),
            bash("echo one > one.txt"),
            say("Add a file"),
        ]),
        any(),
    )
    .await;
    completed(&task, &platform);
    assert_eq!(file(&repo, &task, "one.txt").await, "one");
    let results: Vec<_> = events.iter().filter(|e| e.event_type == "agent_tool_result").collect();
    let errors: Vec<_> = results.iter().filter(|e| e.metadata["is_error"] == true).collect();
    assert_eq!((results.len(), errors.len()), (4, 3), "{results:#?}");
    assert!(errors[0].metadata.to_string().contains("Teleport"), "{:?}", errors[0]);
    platform.end(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_never_ends_is_ended_at_its_turns() {
    let transcript =
        json!({ "version": 1, "after_last": "repeat", "turns": [bash("echo more >> more.txt")] });
    let (task, _, repo, platform) = play(transcript, CreateTaskRequest { max_turns: Some(5), ..any() }).await;
    assert_eq!((task.status.as_str(), code(&task)), ("FAILED", "MAX_TURNS"), "{task:#?}");
    assert_eq!(file(&repo, &task, "more.txt").await.lines().count(), 5);
    assert!(task.pr_url.is_some(), "{task:#?}");
    platform.end(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn megabytes_of_output_and_input_and_a_flood_of_calls_stay_within_bounds() {
    let call = |command: &str| json!({ "type": "tool_use", "name": "Bash", "input": { "command": command } });
    let write = json!({ "type": "tool_use", "name": "Write",
                        "input": { "file_path": "big.txt", "content": "x".repeat(10 * 1024 * 1024) } });
    let (task, events, repo, platform) = play(
        turns(&[
            bash("yes 'a line of many' | head -c 30000000; yes | head -c 5000000 >&2"),
            json!({ "content": [write] }),
            json!({ "content": vec![call("true"); 150] }),
            bash("wc -c < big.txt > size.txt; rm big.txt"),
            say("Write a size"),
        ]),
        any(),
    )
    .await;
    completed(&task, &platform);
    assert_eq!(file(&repo, &task, "size.txt").await.trim(), "10485760");
    let calls = events.iter().filter(|e| e.event_type == "agent_tool_call").count();
    // One reply may ask for 64 calls; the model is told that the others were not run.
    assert_eq!(calls, 1 + 1 + 64 + 1, "no call of the flood is missing");
    let seqs: Vec<u64> = events.iter().map(|e| e.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    platform.end(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn huge_and_binary_diffs_are_delivered_and_shown_in_part() {
    let (task, _, repo, platform) = play(
        turns(&[
            bash("head -c 50000000 /dev/urandom > big.bin; seq 1 300000 > many.txt; printf 'a\\0b' > small.bin"),
            say("Add large files"),
        ]),
        any(),
    )
    .await;
    completed(&task, &platform);
    assert_eq!(
        repo.git(&["cat-file", "-s", &format!("{}:big.bin", task.branch_name)]).await.unwrap(),
        "50000000"
    );
    assert_eq!(file(&repo, &task, "many.txt").await.lines().count(), 300_000);
    let record = platform.client().unwrap().pull_request(task.task_id.parse().unwrap()).await.unwrap();
    assert!(record.diff_truncated && record.diff.len() <= 1024 * 1024, "{} bytes", record.diff.len());
    assert!(record.diff.contains("Binary files /dev/null and b/big.bin differ"));
    assert!(record.diff_stat.contains("many.txt"), "{}", record.diff_stat);
    let said = types(&platform, &["pr", "show", &task.task_id]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    platform.end(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_cannot_push_delete_or_force_anything_itself() {
    let pushes = "git commit --allow-empty -qm own; \
                  for push in 'HEAD:refs/heads/main' '--force HEAD:refs/heads/other' '--delete main'; do \
                  timeout 60 git push origin $push >> said.txt 2>&1; echo \"$push: $?\" >> codes.txt; done";
    let (task, _, repo, platform) = play(turns(&[bash(pushes), say("Try to push")]), any()).await;
    completed(&task, &platform);
    let codes = file(&repo, &task, "codes.txt").await;
    assert_eq!(codes.lines().count(), 3, "{codes}");
    assert!(codes.lines().all(|line| !line.ends_with(": 0") && !line.ends_with(": 124")), "{codes}");
    let quarantine = platform.state_dir().join("pushes").join(format!("{}.git", task.task_id));
    assert_eq!(git::branch_head(&quarantine, "main").await.unwrap(), repo.head("main").await.ok());
    assert_eq!(git::local_branches(&quarantine).await.unwrap().len(), 2, "main and the task's");
    platform.end(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_destroys_its_own_repository_fails_alone() {
    let (task, _, repo, platform) =
        play(turns(&[bash("rm -rf .git * .[a-z]*"), say("All gone")]), any()).await;
    assert_eq!(task.status, "FAILED", "{task:#?}");
    assert!(task.error_classification.is_some() && task.error_message.is_some(), "{task:#?}");
    assert!(branches(repo.path()).await.is_empty());
    platform.end(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_leaves_running_ends_with_its_task_also_without_its_mark() {
    let leave = "left() { \"$@\" setsid sh -c 'echo $$ >> pids.txt; exec sleep 600' </dev/null >/dev/null 2>&1 & }; \
                 left env; left env -i PATH=\"$PATH\"; sleep 600 & \
                 until [ \"$(wc -l < pids.txt)\" = 2 ]; do sleep 0.02; done";
    let (task, _, repo, platform) = play(turns(&[bash(leave), say("Leave daemons")]), any()).await;
    completed(&task, &platform);
    let pids = file(&repo, &task, "pids.txt").await;
    assert_eq!(pids.lines().count(), 2, "{pids}");
    let gone = async || {
        let lives = |pid: &str| {
            let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
            command.is_ok_and(|command| command.contains("sleep"))
        };
        (!pids.lines().any(lives)).then_some(())
    };
    testkit::poll::until("the daemons to be gone", END, gone).await.unwrap();
    platform.end(END).await.unwrap();
}
