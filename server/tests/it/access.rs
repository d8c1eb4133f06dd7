//! Who may call which route, and whose tasks they reach.

use axum::http::Method;
use domain::Role;
use serde_json::{Value, json};
use server::api::access::{Needs, ROUTES, needs};

use crate::support::*;

const TASK: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// Every operation of the description: method and path.
pub fn operations() -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(&server::api::openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap().clone();
    let all = paths.into_iter().flat_map(|(path, item)| {
        let methods: Vec<String> = item.as_object().unwrap().keys().cloned().collect();
        methods.into_iter().map(move |method| (method.to_uppercase(), path.clone()))
    });
    all.collect()
}

/// A path with ids in the place of its parameters.
pub fn filled(path: &str) -> String {
    let part = |part: &str| if part.starts_with('{') { TASK.to_owned() } else { part.to_owned() };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// D-092: scopes were names only.
#[test]
fn every_route_has_a_row() {
    let all = operations();
    assert!(all.len() >= 9, "{all:?}");
    for (method, path) in &all {
        assert!(needs(method, path).is_some(), "{method} {path} needs a row in api/access.rs");
    }
    let mut rows: Vec<_> = ROUTES.iter().map(|(method, path, _)| (method, path)).collect();
    rows.sort();
    rows.dedup();
    assert_eq!(rows.len(), ROUTES.len(), "one row for each route");
}

/// D-096: there were no teams and no roles.
#[tokio::test]
async fn each_role_gets_exactly_the_routes_of_its_scopes() {
    let world = World::new();
    let mut refused = 0;
    for (method, path) in operations() {
        let Some(Needs::Scope(scope)) = needs(&method, &path) else { continue };
        for role in [Role::Viewer, Role::Member, Role::Owner] {
            let answer = world
                .call_as(&format!("test/{role}/ann"), method.parse().unwrap(), &filled(&path), None)
                .await;
            let told = format!("{method} {path} {role}: {}", answer.text());
            match role.scopes().has(scope) {
                true => assert!(![401, 403].contains(&answer.status.as_u16()), "{told}"),
                false => {
                    refused += 1;
                    let message = answer.error(403, "FORBIDDEN");
                    assert!(message.contains(scope.as_str()) && message.contains(role.as_str()), "{told}");
                }
            }
        }
        world
            .call_as("nobody", method.parse().unwrap(), &filled(&path), None)
            .await
            .error(401, "UNAUTHORIZED");
    }
    assert!(refused >= 2, "a viewer may not submit and not cancel");
}

#[tokio::test]
async fn a_credential_that_is_no_good_is_told_apart_from_one_that_cannot_be_told() {
    let world = World::new();
    let refused = world.get_as("test/refused", "/v1/tasks").await;
    assert_eq!(refused.error(401, "UNAUTHORIZED"), "the token has expired; log in again");
    assert!(refused.headers.contains_key("www-authenticate"));
    let away = world.get_as("test/away", "/v1/tasks").await;
    assert_eq!(away.error(503, "SERVICE_UNAVAILABLE"), "the identity provider does not answer; try again");
    assert_eq!(world.get_as("test/away", "/v1/health").await.status, 200, "what is open asks nobody");
}

const TEAMS: &str = r#"
    red = { members = ["ann", "bob"] }
    blue = { members = ["ann", "cleo"], share = "steer" }
"#;

/// D-096: there were no teams and no roles.
#[tokio::test]
async fn a_team_shares_tasks_by_its_rule() {
    let world = World::of_teams(TEAMS);
    let task = world.submitted_by("ann", repo(), "fix it").await;
    let path = format!("/v1/tasks/{task}");
    for (who, sees) in [
        ("test/member/ann", true),
        ("test/member/bob", true),
        ("test/viewer/bob", true),
        ("test/member/cleo", true),
        ("test/member/dan", false),
        ("test/member/dan/red", true),
        ("test/member/dan/green", false),
        ("test/owner/zoe", true),
    ] {
        for rest in ["", "/events", "/pull-request"] {
            let answer = world.get_as(who, &format!("{path}{rest}")).await;
            let no_task = answer.text().contains("TASK_NOT_FOUND");
            assert_eq!(!no_task, sees, "{who} {rest}: {}", answer.text());
        }
    }
    for (who, status, code) in [
        ("test/member/dan", 404, "TASK_NOT_FOUND"),
        ("test/member/bob", 403, "FORBIDDEN"),
        ("test/member/dan/red", 403, "FORBIDDEN"),
        ("test/viewer/ann", 403, "FORBIDDEN"),
    ] {
        let message = world.call_as(who, Method::DELETE, &path, None).await.error(status, code);
        assert!(who != "test/member/bob" || message.contains("shared with you to look at"), "{message}");
    }
    assert_eq!(world.task(task).await.status().as_str(), "SUBMITTED", "nothing half done");
    world.call_as("test/member/cleo", Method::DELETE, &path, None).await.data(200);
    assert_eq!(world.task(task).await.status().as_str(), "CANCELLED");
}

#[tokio::test]
async fn a_list_is_of_ones_own_of_the_team_or_for_owners_of_all() {
    let world = World::of_teams(TEAMS);
    for who in ["ann", "bob", "cleo", "dan"] {
        world.submitted_by(who, repo(), who).await;
    }
    let list =
        async |who: &str, whose: &str| world.get_as(who, &format!("/v1/tasks?whose={whose}&limit=2")).await;
    for (who, whose, want) in [
        ("test/member/bob", "", vec!["bob"]),
        ("test/member/bob", "mine", vec!["bob"]),
        ("test/member/bob", "team", vec!["bob", "ann"]),
        ("test/viewer/ann", "team", vec!["cleo", "bob", "ann"]),
        ("test/member/dan", "team", vec!["dan"]),
        ("test/member/dan/blue", "team", vec!["dan", "cleo", "ann"]),
        ("test/owner/zoe", "all", vec!["dan", "cleo", "bob", "ann"]),
        ("test/owner/zoe", "mine", vec![]),
    ] {
        let mut page = list(who, whose).await;
        let mut seen = page.column("task_description");
        while let Some(token) = page.next_token() {
            page = world.get_as(who, &format!("/v1/tasks?whose={whose}&limit=2&next_token={token}")).await;
            seen.extend(page.column("task_description"));
        }
        assert_eq!(seen, want, "{who} {whose}");
    }
    list("test/member/ann", "all").await.error(403, "FORBIDDEN");
    assert!(list("test/member/ann", "his").await.error(400, "VALIDATION_ERROR").contains("whose"));
}

#[tokio::test]
async fn a_task_belongs_to_whoever_submits_it() {
    let world = World::of_teams(TEAMS);
    let body = json!({ "repo": "octo/cat", "task_description": "fix it" });
    let made =
        world.call_as("test/member/bob", Method::POST, "/v1/tasks", Some(body.clone())).await.data(201);
    let task = world.task(made["task_id"].as_str().unwrap().parse().unwrap()).await;
    assert_eq!(task.user.as_str(), "bob");
    assert_eq!(
        world.get_as("test/member/bob", "/v1/tasks").await.column("task_id"),
        [made["task_id"].clone()]
    );
    assert!(
        world.get_as("test/member/ann", "/v1/tasks").await.column("task_id").is_empty(),
        "a list is of one's own"
    );
    // One person's idempotency key is not another's.
    let keyed = |who: &str| {
        let mut request = request(Method::POST, "/v1/tasks", Some(body.clone()));
        request.headers_mut().insert("x-api-key", who.parse().unwrap());
        request.headers_mut().insert("idempotency-key", "k".parse().unwrap());
        request
    };
    world.send(keyed("test/member/bob")).await.data(201);
    world.send(keyed("test/member/ann")).await.data(201);
    world.send(keyed("test/member/ann")).await.data(200);
}
