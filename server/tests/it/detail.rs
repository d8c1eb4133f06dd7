//! `GET /v1/tasks/{id}`.

use crate::support::*;

#[tokio::test]
async fn an_id_is_read_in_either_case() {
    let world = World::new();
    let id = world.submitted("fix it").await.to_string();
    let lower = world.get(&format!("/v1/tasks/{}", id.to_lowercase())).await.data(200);
    assert_eq!(lower["task_id"], id);
}

/// D-018: 403 told that a task exists.
#[tokio::test]
async fn defect_10_what_is_not_the_callers_is_the_same_404_everywhere() {
    let world = World::new();
    let strange = world.submitted_by("somebody-else", repo(), "secret").await.to_string();
    let bad = [
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "x",
        "%00",
        "%FF",
        "%2e%2e",
        "01ARZ3NDEKTSV4RRFFQ69G5FAVX",
        "81ARZ3NDEKTSV4RRFFQ69G5FAV",
    ];
    for id in bad.into_iter().chain([strange.as_str()]) {
        for (method, rest) in
            [("GET", ""), ("DELETE", ""), ("GET", "/events"), ("GET", "/stream"), ("GET", "/pull-request")]
        {
            let path = format!("/v1/tasks/{id}{rest}");
            let answer = world.call_as("test/member/ann", method.parse().unwrap(), &path, None).await;
            let message = answer.error(404, "TASK_NOT_FOUND");
            assert!(message.starts_with("there is no task "), "{method} {id}{rest}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }
    let long = world.get(&format!("/v1/tasks/{}", "x".repeat(5_000))).await;
    assert!(long.error(404, "TASK_NOT_FOUND").len() < 100, "a long id is cut");
    assert_eq!(world.task(strange.parse().unwrap()).await.status().as_str(), "SUBMITTED");
}

/// D-021: the wait was estimated by a constant.
#[tokio::test]
async fn a_task_that_waits_tells_its_place() {
    let world = World::new();
    let source = source().await;
    world.running(&source, "one").await;
    world.running(&source, "two").await;
    let (third, fourth) = (world.submitted("three").await, world.submitted("four").await);
    world.drive(third).await;
    world.drive(fourth).await;
    for (id, place) in [(third, 1), (fourth, 2)] {
        let task = world.get(&format!("/v1/tasks/{id}")).await.data(200);
        assert_eq!((&task["status"], &task["queue_position"]), (&"QUEUED".into(), &place.into()), "{task}");
        assert!(task["estimated_wait_s"].as_u64().unwrap() > 0 && task["queued_at"].is_string(), "{task}");
    }
}

/// D-020: token counts were not on the record.
#[tokio::test]
async fn a_completed_task_tells_everything() {
    let world = World::new();
    let source = source().await;
    let id = world.running(&source, "fix it").await;
    world.completed(&source, id).await;
    insta::assert_json_snapshot!("completed", world.get(&format!("/v1/tasks/{id}")).await.data(200), {
        ".task_id" => "[task]", ".branch_name" => "bgagent/[task]/fix-it", ".head_sha" => "[commit]",
        ".session_id" => "[session]",
    });
}

/// D-083: failures were told apart by their text.
#[tokio::test]
async fn defect_18_a_failed_task_says_why_and_what_to_do() {
    let world = World::new();
    let id = world.submitted("fix it").await;
    // The fake forge has no such repository.
    world.drive(id).await;
    insta::assert_json_snapshot!("failed", world.get(&format!("/v1/tasks/{id}")).await.data(200), {
        ".task_id" => "[task]", ".branch_name" => "bgagent/[task]/fix-it",
    });
}
