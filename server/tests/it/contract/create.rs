//! `POST /v1/tasks`.

use serde_json::json;

use super::*;
use crate::support::*;

fn with(more: Value) -> Value {
    let mut body = json!({ "repo": "octo/cat", "task_description": "fix it" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn the_answer_is_the_task_and_a_refusal_the_envelope() {
    let world = World::new();
    let answer = world.post(with(json!({}))).await;
    has_headers(&answer);
    let task = answer.data(201);
    has_exactly(&task, DETAIL, DETAIL_OURS);
    assert_eq!(task["channel_source"], "api");
    let refused = world.post(json!({})).await;
    has_headers(&refused);
    refused.error(400, "VALIDATION_ERROR");
}

#[tokio::test]
async fn workflows_are_told_apart_by_what_is_wrong_with_them() {
    let world = World::new();
    for (body, words) in [
        (json!({ "workflow_ref": "New Task" }), "is no workflow"),
        (json!({ "workflow_ref": "coding/unheard-of-v1" }), "there is no workflow"),
        (json!({ "workflow_ref": "coding/new-task-v1@2.0.0" }), "has version 1.0.0"),
        (json!({ "workflow_ref": "coding/new-task-v1", "pr_number": 3 }), "pr_number is only for"),
        (json!({ "pr_number": 3 }), "pr_number is only for"),
        (json!({ "workflow_ref": "coding/pr-review-v1" }), "pr_number is required"),
        (json!({ "workflow_ref": "coding/pr-review-v1", "pr_number": 0 }), "pr_number must be at least 1"),
        (json!({ "workflow_ref": "coding/pr-review-v1", "pr_number": 1 }), "not available in this version"),
        (json!({ "workflow_ref": "coding/pr-iteration-v1", "pr_number": 1, "repo": "" }), "repo is required"),
        (json!({ "workflow_ref": "coding/restack-v1", "pr_number": 1 }), "only issued by the platform"),
        (json!({ "workflow_ref": "default/agent-v1" }), "not available in this version"),
        (
            json!({ "workflow_ref": "default/agent-v1", "task_description": " " }),
            "task_description is required",
        ),
        (
            json!({ "workflow_ref": "knowledge/web-research-v1@1.0.0", "repo": null }),
            "not available in this version",
        ),
        (json!({ "task_description": " ", "issue_number": 7 }), "does not read issues yet"),
    ] {
        let message = world.post(with(body.clone())).await.error(400, "VALIDATION_ERROR");
        assert!(message.contains(words), "{body}: {message}");
    }
    world
        .post(with(json!({ "workflow_ref": "coding/new-task-v1@1.0.0", "pr_number": null })))
        .await
        .data(201);
}

#[tokio::test]
async fn a_task_type_is_the_workflow_that_it_became() {
    let world = World::new();
    let task = world.post(with(json!({ "task_type": "new_task" }))).await.data(201);
    assert_eq!(task["resolved_workflow"]["id"], "coding/new-task-v1");
    let both = json!({ "task_type": "new_task", "workflow_ref": "coding/new-task-v1@1.0.0" });
    world.post(with(both)).await.data(201);
    for (body, words) in [
        (
            json!({ "task_type": "pr_iteration" }),
            "pr_number is required by workflow_ref coding/pr-iteration-v1",
        ),
        (json!({ "task_type": "pr_review", "pr_number": 3 }), "coding/pr-review-v1 is not available"),
        (json!({ "task_type": "NEW_TASK" }), "task_type: there is no \"NEW_TASK\""),
        (json!({ "task_type": "" }), "task_type: there is no"),
        (json!({ "task_type": "new_task", "workflow_ref": "coding/pr-review-v1" }), "leave task_type out"),
        (json!({ "task_type": "new_task", "workflow_ref": "what" }), "is no workflow"),
    ] {
        let message = world.post(with(body.clone())).await.error(400, "VALIDATION_ERROR");
        assert!(message.contains(words), "{body}: {message}");
    }
}

#[tokio::test]
async fn fields_of_the_contract_that_are_not_built_are_checked_and_then_refused_as_such() {
    let world = World::new();
    let scopes = |n: usize| json!({ "initial_approvals": vec!["this_call"; n] });
    for (body, words) in [
        (json!({ "approval_timeout_s": 29 }), "approval_timeout_s must be 30 to 3600"),
        (json!({ "approval_timeout_s": 3601 }), "approval_timeout_s must be 30 to 3600"),
        (json!({ "approval_timeout_s": 30 }), "approval_timeout_s is not available"),
        (json!({ "approval_timeout_s": 1.5 }), "approval_timeout_s"),
        (scopes(21), "at most 20"),
        (scopes(20), "initial_approvals are not available"),
        (json!({ "initial_approvals": ["this_call", "bash_pattern:*"] }), "initial_approvals[1]"),
        (json!({ "initial_approvals": [3] }), "initial_approvals"),
        (json!({ "attachments": [{ "type": "url" }] }), "attachments[0].url"),
        (json!({ "attachments": [1] }), "attachments[0]"),
        (
            json!({ "attachments": vec![json!({ "type": "url", "url": "https://x.example/a" }); 11] }),
            "at most 10",
        ),
        (json!({ "attachments": "x" }), "attachments"),
    ] {
        let message = world.post(with(body.clone())).await.error(400, "VALIDATION_ERROR");
        assert!(message.contains(words), "{body}: {message}");
        assert!(!message.contains("unknown field"), "{message}");
    }
    let nothing = json!({ "approval_timeout_s": null, "initial_approvals": [], "attachments": [] });
    world.post(with(nothing)).await.data(201);
}

/// D-007: issue numbers had no bounds.
#[tokio::test]
async fn bug_1_3_a_description_of_whitespace_is_none_and_an_issue_is_bounded() {
    let world = World::new();
    world.post(with(json!({ "task_description": " \t\n" }))).await.error(400, "VALIDATION_ERROR");
    for issue in [json!(0), json!(-1), json!(1.5), json!("7")] {
        let message = world.post(with(json!({ "issue_number": issue }))).await.error(400, "VALIDATION_ERROR");
        assert!(message.contains("issue_number"), "{message}");
    }
}

/// D-005: a key with another body gave the old task.
#[tokio::test]
async fn bug_1_4_idempotency_is_the_users_own_compares_the_body_and_replays_with_200() {
    let world = World::new();
    let send = async |body: Value| {
        let mut request = request(axum::http::Method::POST, "/v1/tasks", Some(body));
        request.headers_mut().insert("idempotency-key", "k".parse().unwrap());
        world.send(request).await
    };
    let first = send(with(json!({}))).await;
    assert!(!first.headers.contains_key("idempotent-replay"));
    let replay = send(with(json!({}))).await;
    has_headers(&replay);
    assert_eq!(replay.headers["idempotent-replay"], "true");
    assert_eq!(replay.data(200), first.data(201));
    send(with(json!({ "max_turns": 3 }))).await.error(409, "DUPLICATE_TASK");
}

/// D-010: markup in a description was refused before the service.
#[tokio::test]
async fn markup_in_a_description_is_text() {
    let world = World::new();
    let words = "<script>alert(1)</script> <img src=x onerror=y> ' OR 1=1; -- {{7*7}} Vec<u8> <T>";
    let task = world.post(with(json!({ "task_description": words }))).await.data(201);
    let id = task["task_id"].as_str().unwrap();
    assert_eq!(world.get(&format!("/v1/tasks/{id}")).await.data(200)["task_description"], words);
}
