//! Steering, as a person does it beside a real server and a real box.

use std::time::Duration;

use domain::TaskId;
use testkit::platform::Platform;
use testkit::poll;

use crate::whole::*;

/// Waits until the worker has an event of this kind that holds these words.
async fn heard(platform: &Platform, task: TaskId, kind: &str, words: &str) {
    let look = async || {
        let events = events(platform, task).await;
        events.iter().any(|e| e.event_type == kind && e.metadata.to_string().contains(words)).then_some(())
    };
    poll::until(format!("{kind} with {words:?}"), END, look).await.unwrap();
}

/// D-064: asking was documented only.
#[tokio::test]
async fn a_person_nudges_asks_and_cancels_and_finds_the_work() {
    let (dir, repo) = (tempfile::tempdir().unwrap(), sample().await);
    // There are boundaries enough for it to hear of both.
    let mut turns = vec![bash("echo one > one.txt; while [ ! -e go ]; do sleep 0.1; done")];
    turns.extend((0..20).map(|_| bash("sleep 0.2")));
    turns.push(bash("sleep 600"));
    let script = transcript(dir.path(), "long", &turns);
    // The work tree can be reached from here.
    let mut platform = platform(&script, "long").with("BGAGENT__COMPUTE__ISOLATION", "process");
    platform.start().await.unwrap();
    let task = platform.submit(repo.path(), "Work long").await.unwrap();
    heard(&platform, task, "agent_tool_call", "one.txt").await;
    let id = task.to_string();

    let nudged = types(&platform, &["nudge", &id, "use tabs"]).await;
    assert_eq!((nudged.code, nudged.out.starts_with("Nudge ")), (0, true), "{nudged:?}");
    let asked = types(&platform, &["ask", "--no-wait", &id, "how far are you?"]).await;
    assert_eq!((asked.code, asked.out.starts_with("Question ")), (0, true), "{asked:?}");
    let again = types(&platform, &["ask", &id, "and now?"]).await;
    assert!(again.code == 1 && again.err.contains("still open"), "{again:?}");
    // The tool that runs goes on: the agent comes to both after it.
    std::fs::write(session(&platform, task).join("repo/go"), "").unwrap();
    heard(&platform, task, "agent_milestone", "nudge_acknowledged").await;
    heard(&platform, task, "ask_answered", "I follow a transcript").await;
    heard(&platform, task, "agent_tool_call", "sleep 600").await;

    let cancelled = types(&platform, &["cancel", &id]).await;
    assert_eq!(cancelled.code, 0, "{cancelled:?}");
    assert!(cancelled.out.contains(" cancelled at "), "{cancelled:?}");
    let events = events(&platform, task).await;
    // The running tool heard of it, by the platform's own clock; the box's poll alone could take 25 s.
    let at = |kind: &str| {
        let event = events.iter().rev().find(|e| e.event_type == kind).unwrap();
        event.timestamp.parse::<jiff::Timestamp>().unwrap()
    };
    let heard_after = at("leave_requested").duration_until(at("agent_tool_result"));
    // 2 s are promised, on a machine that is not loaded.
    assert!(heard_after <= jiff::SignedDuration::from_secs(15), "{heard_after}");
    let last = events.last().unwrap();
    assert_eq!(last.event_type, "task_cancelled");
    if last.metadata["kept_on"].is_null() {
        // On a machine that is busy enough; then all of its time was waited for.
        let grace = jiff::SignedDuration::try_from(domain::limit::CANCEL_GRACE).unwrap();
        let waited = at("leave_requested").duration_until(at("task_cancelled"));
        assert!(waited >= grace, "nothing was kept after {waited}: {last:?}");
    } else {
        assert!(cancelled.err.contains("Work so far is on branch bgagent/"), "{cancelled:?}");
        assert_eq!(last.metadata["kept_on"], "forge");
        let branch = last.metadata["branch"].as_str().unwrap();
        assert_eq!(repo.head(branch).await.unwrap(), last.metadata["head_sha"].as_str().unwrap());
    }
    assert_eq!(types(&platform, &["cancel", &id]).await.out, cancelled.out, "again, the same");
    let record = types(&platform, &["ask", &id, "what came of it?"]).await;
    assert!(record.code == 0 && record.out.contains("CANCELLED"), "{record:?}");
    platform.end(Duration::from_secs(30)).await.unwrap();
}

#[tokio::test]
async fn a_paused_task_goes_on_in_a_fresh_box_from_its_saved_work() {
    let (dir, repo) = (tempfile::tempdir().unwrap(), sample().await);
    let script = transcript(
        dir.path(),
        "twice",
        &[
            bash("if [ -e one.txt ]; then echo two > two.txt; else echo one > one.txt; sleep 600; fi"),
            say("Count to two\n\nBoth are there."),
        ],
    );
    let mut platform = platform(&script, "twice");
    platform.start().await.unwrap();
    let task = platform.submit(repo.path(), "Count to two").await.unwrap();
    heard(&platform, task, "agent_tool_call", "one.txt").await;
    let id = task.to_string();

    let paused = types(&platform, &["pause", &id]).await;
    assert!(paused.code == 0 && paused.out.contains("is paused; work so far is saved at "), "{paused:?}");
    platform.boxes_gone(Duration::from_secs(30)).await.unwrap();
    let status = types(&platform, &["status", &id]).await;
    assert!(status.out.contains("QUEUED") && status.out.contains("paused (go on with"), "{status:?}");

    let resumed = types(&platform, &["resume", &id]).await;
    assert_eq!(resumed.code, 0, "{resumed:?}");
    let ended = platform.ended(task, END).await.unwrap();
    assert_eq!((ended.status.as_str(), ended.attempt), ("COMPLETED", 2), "{ended:?}");
    let branch = &ended.branch_name;
    let files = repo.git(&["ls-tree", "--name-only", branch]).await.unwrap();
    assert_eq!(files.split_whitespace().collect::<Vec<_>>(), ["README.md", "one.txt", "two.txt"]);
    platform.end(Duration::from_secs(30)).await.unwrap();
}

#[tokio::test]
async fn a_usage_limit_parks_the_task_and_a_retry_is_told_of_it() {
    let (dir, repo) = (tempfile::tempdir().unwrap(), sample().await);
    let limit = serde_json::json!({
        "content": [{ "type": "text", "text": "x" }],
        "error": { "status": 429, "type": "rate_limit_error", "message": "usage limit reached", "retry_after": 7200, "times": 1 },
    });
    let script = transcript(dir.path(), "limited", &[limit, say("Nothing to do\n\nIt is fine.")]);
    let mut platform = platform(&script, "limited");
    platform.start().await.unwrap();
    let task = platform.submit(repo.path(), "Wait").await.unwrap();
    heard(&platform, task, "task_parked", "usage_limit").await;
    let parked = platform.wait_for(task, &["QUEUED"], END).await.unwrap();
    assert_eq!(parked.queue_reason.as_deref(), Some("usage_limit"));
    assert!(parked.not_before.is_some());
    let id = task.to_string();
    assert_eq!(types(&platform, &["cancel", &id]).await.code, 0);
    let retried = types(&platform, &["retry", &id]).await;
    assert!(retried.code == 0 && retried.out.contains(&format!("tries {id} again")), "{retried:?}");
    platform.end(Duration::from_secs(30)).await.unwrap();
}
