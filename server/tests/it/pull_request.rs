//! `GET /v1/tasks/{id}/pull-request`.

use crate::support::*;

#[tokio::test]
async fn the_pull_request_is_told_with_its_diff() {
    let world = World::new();
    let source = source().await;
    let id = world.running(&source, "fix it").await;
    let path = format!("/v1/tasks/{id}/pull-request");
    let message = world.get(&path).await.error(404, "NOT_FOUND");
    assert!(message.contains("RUNNING"), "{message}");
    world.completed(&source, id).await;
    let made = world.get(&path).await.data(200);
    assert!(made["diff"].as_str().unwrap().contains("\n-one\n+two\n"), "{made}");
    insta::with_settings!({ filters => vec![
        (r"[0-9A-HJKMNP-TV-Z]{26}", "[id]"), (r"\b[0-9a-f]{40}\b", "[commit]"),
        (r"index [0-9a-f]+\.\.[0-9a-f]+", "index [blobs]"),
    ]}, {
        insta::assert_json_snapshot!("pull_request", made);
    });
    // A mirror is a cache; the record stays.
    std::fs::remove_dir_all(world.orchestrator.parts().mirrors.path(&repo())).unwrap();
    let without = world.get(&path).await.data(200);
    assert_eq!(without["title"], made["title"]);
    assert_eq!(without["diff_truncated"], true);
}
