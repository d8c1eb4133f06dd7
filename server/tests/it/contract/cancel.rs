//! `DELETE /v1/tasks/{id}`.

use axum::http::Method;

use super::*;
use crate::support::*;

#[tokio::test]
async fn the_answer_has_three_fields_and_refusals_their_codes() {
    let world = World::new();
    let id = world.submitted("x").await;
    let answer = world.call(Method::DELETE, &format!("/v1/tasks/{id}"), None).await;
    has_headers(&answer);
    let data = answer.data(200);
    has_exactly(&data, &["task_id", "status", "cancelled_at"], &[]);
    assert_eq!((&data["task_id"], &data["status"]), (&id.to_string().into(), &"CANCELLED".into()));
    is_time(&data["cancelled_at"]);

    let failed = world.submitted("x").await;
    world.drive(failed).await;
    let answer = world.call(Method::DELETE, &format!("/v1/tasks/{failed}"), None).await;
    has_headers(&answer);
    answer.error(409, "TASK_ALREADY_TERMINAL");
    let nobodys = world.call(Method::DELETE, "/v1/tasks/01ARZ3NDEKTSV4RRFFQ69G5FAV", None).await;
    nobodys.error(404, "TASK_NOT_FOUND");
}

#[tokio::test]
async fn what_is_not_ones_own_is_not_there() {
    let world = World::new();
    let id = world.submitted("x").await;
    is_hidden_from_strangers(&world, Method::DELETE, "/v1/tasks/{id}", None).await;
    wants_a_key(&world, Method::DELETE, &format!("/v1/tasks/{id}")).await;
    assert_eq!(world.get(&format!("/v1/tasks/{id}")).await.data(200)["status"], "SUBMITTED");
}
