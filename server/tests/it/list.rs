//! `GET /v1/tasks`.

use domain::{RepoRef, TaskId};
use serde_json::json;

use crate::support::*;

/// `n` tasks, oldest first, every third one cancelled.
async fn many(world: &World, n: usize) -> Vec<TaskId> {
    let mut ids = Vec::new();
    for number in 0..n {
        let id = world.submitted(&format!("task {number}")).await;
        if number % 3 == 0 {
            world.cancel(id).await;
        }
        ids.push(id);
    }
    ids
}

fn texts(ids: impl IntoIterator<Item = TaskId>) -> Vec<serde_json::Value> {
    ids.into_iter().map(|id| json!(id.to_string())).collect()
}

/// D-014: the list was ordered by the name of the state.
#[tokio::test]
async fn defect_10_list_is_newest_first_whatever_the_states_are() {
    let world = World::new();
    let ids = many(&world, 7).await;
    let answer = world.get("/v1/tasks").await;
    assert_eq!(answer.column("task_id"), texts(ids.into_iter().rev()));
    assert_eq!(answer.json()["pagination"], json!({ "next_token": null, "has_more": false }));
}

#[tokio::test]
async fn a_row_has_every_field() {
    let world = World::new();
    world.submitted("fix it").await;
    insta::assert_json_snapshot!("summary", world.get("/v1/tasks").await.data(200), {
        "[].task_id" => "[task]", "[].branch_name" => "bgagent/[task]/fix-it"
    });
}

/// D-015: pages were short or empty with more to come.
#[tokio::test]
async fn defect_10_pages_are_full_under_filters_and_meet_every_task_once() {
    let world = World::new();
    let ids = many(&world, 31).await;
    let other: RepoRef = "octo/dog".parse().unwrap();
    world.submitted_by(server::identity::LOCAL_OWNER, other, "x").await;
    let cancelled: Vec<TaskId> = ids.iter().copied().step_by(3).rev().collect();
    let mut seen = Vec::new();
    let mut path = "/v1/tasks?status=CANCELLED,FAILED&repo=octo/cat&limit=4".to_owned();
    loop {
        let answer = world.get(&path).await;
        let page = answer.column("task_id");
        let more = answer.json()["pagination"]["has_more"].as_bool().unwrap();
        assert_eq!(more, answer.next_token().is_some());
        assert!(page.len() == 4 || !more, "a page that is not the last one is full");
        assert!(!page.is_empty(), "no page is empty");
        seen.extend(page);
        let Some(token) = answer.next_token() else { break };
        path = format!("/v1/tasks?status=CANCELLED,FAILED&repo=octo/cat&limit=4&next_token={token}");
    }
    assert_eq!(seen, texts(cancelled));
}

#[tokio::test]
async fn a_page_is_not_moved_by_what_is_submitted_meanwhile() {
    let world = World::new();
    let ids = many(&world, 6).await;
    let first = world.get("/v1/tasks?limit=3").await;
    many(&world, 5).await;
    let token = first.next_token().unwrap();
    let second = world.get(&format!("/v1/tasks?limit=3&next_token={token}")).await;
    let all: Vec<_> = first.column("task_id").into_iter().chain(second.column("task_id")).collect();
    assert_eq!(all, texts(ids.into_iter().rev()));
}

#[tokio::test]
async fn nonsense_limits_are_the_default_and_large_ones_the_most() {
    let world = World::new();
    for _ in 0..102 {
        world.submitted("x").await;
    }
    for (limit, rows) in [
        ("", 20),
        ("limit=", 20),
        ("limit=0", 20),
        ("limit=-5", 20),
        ("limit=abc", 20),
        ("limit=1.5", 20),
        ("limit=1", 1),
        ("limit=100", 100),
        ("limit=101", 100),
        ("limit=9999999999999", 100),
        ("limit=99999999999999999999999", 20),
    ] {
        let answer = world.get(&format!("/v1/tasks?{limit}")).await;
        assert_eq!(answer.data(200).as_array().unwrap().len(), rows, "{limit}");
    }
}

/// D-017: a bad page token began anew.
#[tokio::test]
async fn defect_10_tokens_are_signed_and_of_one_list() {
    let world = World::new();
    let ids = many(&world, 5).await;
    let token = world.get("/v1/tasks?limit=2").await.next_token().unwrap();
    let (place, tag) = token.rsplit_once('.').unwrap();
    let events = world.get(&format!("/v1/tasks/{}/events?limit=1", ids[0])).await.next_token().unwrap();
    for bad in [
        "x".to_owned(),
        place.to_owned(),
        format!("{}.{tag}", ids[0]),
        format!("{place}.{}", "0".repeat(tag.len())),
        format!("{token}0"),
        events,
    ] {
        let message =
            world.get(&format!("/v1/tasks?limit=2&next_token={bad}")).await.error(400, "VALIDATION_ERROR");
        assert!(message.contains("next_token"), "{message}");
    }
    for other in ["status=CANCELLED", "repo=octo/cat", "status=CANCELLED&repo=octo/cat"] {
        let path = format!("/v1/tasks?{other}&next_token={token}");
        world.get(&path).await.error(400, "VALIDATION_ERROR");
    }
    // Another page size is the same list.
    assert_eq!(world.get(&format!("/v1/tasks?limit=50&next_token={token}")).await.column("task_id").len(), 3);
    assert_eq!(world.get("/v1/tasks?next_token=").await.column("task_id").len(), 5);
}

#[tokio::test]
async fn bad_filters_are_told_by_name() {
    let world = World::new();
    for (query, names) in [
        ("status=RUNING", "status"),
        ("status=COMPLETED,x", "status"),
        ("repo=nope", "nope"),
        ("repo=../x", "../x"),
        ("user=x", "user"),
        ("limits=3", "limits"),
        ("limit=1&limit=2", "limit"),
        ("status=running", "status"),
    ] {
        let message = world.get(&format!("/v1/tasks?{query}")).await.error(400, "VALIDATION_ERROR");
        assert!(message.contains(names), "{query}: {message}");
    }
    for empty in ["status=", "status=,", "repo=", "status=RUNNING"] {
        world.get(&format!("/v1/tasks?{empty}")).await.data(200);
    }
}

#[tokio::test]
async fn other_peoples_tasks_are_not_listed() {
    let world = World::new();
    world.submitted_by("somebody-else", repo(), "secret").await;
    let mine = world.submitted("mine").await;
    assert_eq!(world.get("/v1/tasks").await.column("task_id"), texts([mine]));
}
