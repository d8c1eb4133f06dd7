//! From the domain to the wire. Missing values are null, never omitted; numbers are numbers.

use domain::event::Event;
use domain::task::Workflow;
use domain::{Attachment, AttachmentId, Failure, Screened, State, Task};
use jiff::Timestamp;
use orchestrator::admission::QueueInfo;
use protocol::rest::{
    AttachmentSummary, ErrorClassification, EventRecord, LostBoxes, ResolvedWorkflow, TaskDetail, TaskSummary,
};

/// RFC 3339 with milliseconds, as ABCA writes it.
pub fn time(at: Timestamp) -> String {
    format!("{at:.3}")
}

fn workflow(task: &Task) -> Option<ResolvedWorkflow> {
    let id = task.spec.workflow.as_str().to_owned();
    Some(ResolvedWorkflow { id, version: Workflow::VERSION.to_owned() })
}

/// The whole task.
pub fn detail(task: &Task, queue: Option<QueueInfo>) -> TaskDetail {
    let spent = &task.spent;
    let r = &task.results;
    let seconds =
        |from: Timestamp, to: Timestamp| (to.as_millisecond() - from.as_millisecond()) as f64 / 1000.0;
    let waits = match &task.state {
        State::Queued { why, not_before, .. } => Some((why, *not_before)),
        _ => None,
    };
    TaskDetail {
        task_id: task.id.to_string(),
        user_id: Some(task.user.to_string()),
        status: task.status().to_string(),
        repo: Some(task.spec.repo.to_string()),
        issue_number: task.spec.issue_number,
        resolved_workflow: workflow(task),
        resolved_assets: None,
        pr_number: None,
        task_description: Some(task.spec.description.clone()),
        branch_name: task.branch.clone(),
        base_branch: r.base_branch.clone(),
        session_id: r.session_id.clone(),
        isolation: r.isolation.map(|t| t.as_str().to_owned()),
        attempt: task.attempt.0,
        pr_url: r.pr_url.clone(),
        error_message: task.state.failure().map(ToString::to_string),
        error_classification: task.state.failure().map(classification),
        warning: r.warning.clone(),
        channel_source: task.channel.clone(),
        created_at: time(task.created_at),
        updated_at: time(task.updated_at),
        started_at: task.started_at.map(time),
        completed_at: task.completed_at.map(time),
        agent_heartbeat_at: None,
        duration_s: task.completed_at.map(|end| seconds(task.started_at.unwrap_or(task.created_at), end)),
        cost_usd: (spent.calls > spent.unpriced_calls).then(|| spent.cost.usd()),
        unpriced_calls: spent.unpriced_calls,
        input_tokens: spent.tokens.context(),
        output_tokens: spent.tokens.output,
        model: r.model.clone().or_else(|| task.spec.model.clone()),
        build_passed: r.build.and_then(|b| b.passed()),
        lint_passed: r.lint.and_then(|l| l.passed()),
        otel_trace_id: None,
        max_turns: task.spec.max_turns,
        max_budget_usd: task.spec.max_budget.map(|b| b.usd()),
        turns_attempted: r.turns_attempted,
        turns_completed: r.turns_completed,
        prompt_version: r.prompt_version.as_ref().map(ToString::to_string),
        head_sha: r.head_sha.clone(),
        code_changed: r.code_changed,
        answer_text: r.answer.clone(),
        trace: task.spec.trace,
        trace_s3_uri: None,
        artifact_uri: None,
        attachments: (!task.spec.attachments.is_empty()).then(|| task.attached().map(attachment).collect()),
        approval_gate_count: None,
        approval_gate_cap: None,
        awaiting_approval_request_id: match &task.state {
            State::AwaitingApproval { request_id, .. } => Some(request_id.clone()),
            _ => None,
        },
        queued_at: task.queued_at.map(time),
        queue_position: queue.map(|q| q.position),
        estimated_wait_s: queue.map(|q| q.estimated_wait_s),
        queue_reason: waits.map(|(why, _)| why.as_str().to_owned()),
        queue_detail: waits.and_then(|(why, _)| why.detail()).map(str::to_owned),
        not_before: waits.and_then(|(_, at)| at).map(time),
        leaving: task.leaving.as_ref().map(|l| l.order.as_str().to_owned()),
        retry_of: task.retry_of.map(|id| id.to_string()),
        lost: None,
    }
}

/// The boxes that a task has lost, of so many attempts.
pub fn lost(task: &Task, attempts_max: u32) -> Option<LostBoxes> {
    let last = task.losses.last.as_ref()?;
    Some(LostBoxes {
        boxes: task.losses.boxes,
        attempts_max,
        turns: task.losses.turns,
        error_code: last.code.as_str().to_owned(),
        error_message: last.to_string(),
    })
}

fn attachment((id, asked, known): (AttachmentId, &Attachment, Option<&Screened>)) -> AttachmentSummary {
    let content = match known {
        Some(Screened::Passed(content)) => Some(content),
        Some(Screened::Blocked) | None => None,
    };
    AttachmentSummary {
        attachment_id: id.to_string(),
        kind: asked.kind.as_str().to_owned(),
        filename: asked.filename.clone(),
        content_type: content
            .map(|c| &c.content_type)
            .or(asked.content_type.as_ref())
            .cloned()
            .unwrap_or_default(),
        size_bytes: content.map_or(0, |c| c.size_bytes),
        screening_status: known.map_or("pending", Screened::as_str).to_owned(),
    }
}

/// A row of a list, of a task whose worker was last heard of at `beat`.
pub fn summary(task: &Task, beat: Option<Timestamp>) -> TaskSummary {
    TaskSummary {
        task_id: task.id.to_string(),
        user_id: Some(task.user.to_string()),
        status: task.status().to_string(),
        repo: Some(task.spec.repo.to_string()),
        issue_number: task.spec.issue_number,
        resolved_workflow: workflow(task),
        resolved_assets: None,
        pr_number: None,
        task_description: Some(task.spec.description.clone()),
        branch_name: task.branch.clone(),
        pr_url: task.results.pr_url.clone(),
        created_at: time(task.created_at),
        updated_at: time(task.updated_at),
        agent_heartbeat_at: beat.map(time),
    }
}

/// An event.
pub fn event(event: &Event) -> EventRecord {
    EventRecord {
        event_id: event.id.to_string(),
        seq: event.seq,
        event_type: event.kind.as_str(),
        timestamp: time(event.at),
        metadata: event.metadata.clone(),
    }
}

fn classification(failure: &Failure) -> ErrorClassification {
    let class = failure.classify();
    ErrorClassification {
        code: failure.code.as_str().to_owned(),
        category: class.category.as_str().to_owned(),
        title: class.title.to_owned(),
        description: class.description.to_owned(),
        remedy: class.remedy,
        retryable: class.retryable,
        error_class: class.error_class.as_str().to_owned(),
    }
}

/// When a cancelled task was cancelled.
pub fn ended_at(task: &Task) -> String {
    time(match &task.state {
        State::Cancelled { since, .. } => *since,
        other => other.since(),
    })
}
