//! Wire values that the layout tests render.

use jiff::tz::TimeZone;
use protocol::rest::{
    ErrorClassification, EventRecord, PullRequestDetail, ResolvedWorkflow, TaskDetail, TaskSummary,
};
use serde_json::Value;

use super::{Paint, View};

pub const TASK: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

pub fn view() -> View {
    View {
        now: "2026-01-02T03:08:00Z".parse().unwrap(),
        zone: TimeZone::UTC,
        width: Some(80),
        paint: Paint::Plain,
    }
}

pub fn event(seq: u64, kind: &str, metadata: Value) -> EventRecord {
    EventRecord {
        event_id: format!("01ARZ3NDEKTSV4RRFFQ69G5E{seq:02}"),
        seq,
        event_type: kind.into(),
        timestamp: format!("2026-01-02T03:06:{:02}.123Z", seq % 60),
        metadata,
    }
}

pub fn running() -> TaskDetail {
    TaskDetail {
        task_id: TASK.into(),
        user_id: Some("ann".into()),
        status: "RUNNING".into(),
        repo: Some("octo/cat".into()),
        issue_number: None,
        resolved_workflow: Some(ResolvedWorkflow { id: "coding/new-task-v1".into(), version: "1".into() }),
        resolved_assets: None,
        pr_number: None,
        task_description: Some(
            "Make the parser accept trailing commas in lists and in calls, and say so in the documentation."
                .into(),
        ),
        branch_name: format!("bgagent/{TASK}/make-the-parser"),
        base_branch: Some("main".into()),
        session_id: Some("s1".into()),
        isolation: Some("process".into()),
        attempt: 1,
        pr_url: None,
        error_message: None,
        error_classification: None,
        warning: None,
        channel_source: "api".into(),
        created_at: "2026-01-02T03:04:00Z".into(),
        updated_at: "2026-01-02T03:06:00Z".into(),
        started_at: Some("2026-01-02T03:04:46Z".into()),
        completed_at: None,
        agent_heartbeat_at: Some("2026-01-02T03:05:59Z".into()),
        duration_s: None,
        cost_usd: Some(0.1234),
        unpriced_calls: 0,
        input_tokens: 10_000,
        output_tokens: 500,
        model: Some("anthropic/claude".into()),
        build_passed: None,
        lint_passed: None,
        otel_trace_id: None,
        max_turns: Some(100),
        max_budget_usd: Some(5.0),
        turns_attempted: Some(7),
        turns_completed: Some(6),
        prompt_version: None,
        head_sha: None,
        code_changed: None,
        answer_text: None,
        trace: false,
        trace_s3_uri: None,
        artifact_uri: None,
        attachments: None,
        approval_gate_count: None,
        approval_gate_cap: None,
        awaiting_approval_request_id: None,
        queued_at: None,
        queue_position: None,
        estimated_wait_s: None,
        queue_reason: None,
        queue_detail: None,
        not_before: None,
        leaving: None,
        retry_of: None,
        lost: None,
    }
}

pub fn queued() -> TaskDetail {
    TaskDetail {
        status: "QUEUED".into(),
        started_at: None,
        queue_position: Some(2),
        estimated_wait_s: Some(300),
        cost_usd: None,
        max_budget_usd: None,
        turns_attempted: None,
        attempt: 0,
        ..running()
    }
}

pub fn completed() -> TaskDetail {
    TaskDetail {
        status: "COMPLETED".into(),
        completed_at: Some("2026-01-02T03:07:46Z".into()),
        duration_s: Some(180.2),
        pr_url: Some("https://github.com/octo/cat/pull/12".into()),
        pr_number: Some(12),
        head_sha: Some("0123456789abcdef0123456789abcdef01234567".into()),
        build_passed: Some(true),
        lint_passed: None,
        code_changed: Some(true),
        ..running()
    }
}

pub fn failed() -> TaskDetail {
    TaskDetail {
        status: "FAILED".into(),
        completed_at: Some("2026-01-02T03:07:46Z".into()),
        duration_s: Some(180.2),
        error_message: Some("MAX_TURNS: the agent used its 100 turns\nand more".into()),
        error_classification: Some(ErrorClassification {
            code: "MAX_TURNS".into(),
            category: "timeout".into(),
            title: "Exceeded max turns".into(),
            description: "The agent used all its turns before it was done.".into(),
            remedy: "Give it more turns, or split the task into smaller ones, then submit again.".into(),
            retryable: false,
            error_class: "user".into(),
        }),
        head_sha: Some("0123456789abcdef0123456789abcdef01234567".into()),
        ..running()
    }
}

pub fn summary() -> TaskSummary {
    let task = running();
    TaskSummary {
        task_id: task.task_id,
        user_id: Some("ann".into()),
        status: task.status,
        repo: task.repo,
        issue_number: None,
        resolved_workflow: task.resolved_workflow,
        resolved_assets: None,
        pr_number: None,
        task_description: task.task_description,
        branch_name: task.branch_name,
        pr_url: None,
        created_at: task.created_at,
        updated_at: task.updated_at,
        agent_heartbeat_at: task.agent_heartbeat_at,
    }
}

pub fn pull_request() -> PullRequestDetail {
    PullRequestDetail {
        task_id: TASK.into(),
        repo: "/srv/cat".into(),
        url: "file:///srv/cat#bgagent/x".into(),
        number: None,
        state: "draft".into(),
        title: "Accept trailing commas".into(),
        body: "Lists and calls may end with a comma.\n\nThe grammar changed in one place.".into(),
        branch: "bgagent/x".into(),
        base_branch: "main".into(),
        head_sha: "0123456789abcdef0123456789abcdef01234567".into(),
        base_sha: "89abcdef0123456789abcdef0123456789abcdef".into(),
        created_at: "2026-01-02T03:07:46Z".into(),
        diff_stat: " src/parse.rs | 2 +-\n 1 file changed, 1 insertion(+), 1 deletion(-)".into(),
        diff: "diff --git a/src/parse.rs b/src/parse.rs\n--- a/src/parse.rs\n+++ b/src/parse.rs\n@@ -1 +1 @@\n-a\n+b\x1b[2J\n"
            .into(),
        diff_truncated: false,
    }
}
