//! Health, readiness, metrics, and the API's own description.

use std::collections::BTreeSet;
use std::path::PathBuf;

use axum::body::Body;
use axum::http::Request;
use domain::limit;
use serde_json::Value;

use crate::support::*;

fn open(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn what_holds_nothing_of_a_task_needs_no_key() {
    let world = World::new();
    for path in ["/v1/health", "/v1/ready"] {
        let data = world.send(open(path)).await.data(200);
        assert_eq!(data["status"], "ok", "{path}");
        assert_eq!(data["version"], env!("CARGO_PKG_VERSION"));
    }
    assert_eq!(world.send(open("/v1/ready")).await.data(200)["checks"]["store"], "ok");
    let metrics = world.send(open("/metrics")).await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
}

/// After a change of the API: `BGAGENT_WRITE_DOCS=1 cargo test -p server openapi`.
#[test]
fn the_checked_in_openapi_document_is_current() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let made = server::api::openapi() + "\n";
    if std::env::var_os("BGAGENT_WRITE_DOCS").is_some() {
        std::fs::write(&path, made).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == made, "docs/openapi.json is old; BGAGENT_WRITE_DOCS=1 cargo test -p server openapi");
}

#[tokio::test]
async fn the_openapi_document_is_served_and_describes_every_route() {
    let world = World::new();
    let document = world.send(open("/v1/openapi.json")).await.json();
    let paths = document["paths"].as_object().unwrap();
    let operations: BTreeSet<String> = paths
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |m| format!("{m} {path}")))
        .collect();
    assert_eq!(
        operations.iter().map(String::as_str).collect::<Vec<_>>(),
        [
            "delete /v1/api-keys/{key_id}",
            "delete /v1/tasks/{task_id}",
            "delete /v1/webhooks/{webhook_id}",
            "get /v1/admin/obligations",
            "get /v1/admin/sessions",
            "get /v1/api-keys",
            "get /v1/audit",
            "get /v1/health",
            "get /v1/identity",
            "get /v1/objects",
            "get /v1/ready",
            "get /v1/tasks",
            "get /v1/tasks/{task_id}",
            "get /v1/tasks/{task_id}/asks",
            "get /v1/tasks/{task_id}/asks/{ask_id}",
            "get /v1/tasks/{task_id}/events",
            "get /v1/tasks/{task_id}/pull-request",
            "get /v1/tasks/{task_id}/replay",
            "get /v1/tasks/{task_id}/stream",
            "get /v1/tasks/{task_id}/trace",
            "get /v1/usage",
            "get /v1/webhooks",
            "get /v1/whoami",
            "post /v1/admin/purge",
            "post /v1/api-keys",
            "post /v1/tasks",
            "post /v1/tasks/{task_id}/asks",
            "post /v1/tasks/{task_id}/confirm-uploads",
            "post /v1/tasks/{task_id}/nudge",
            "post /v1/tasks/{task_id}/pause",
            "post /v1/tasks/{task_id}/resume",
            "post /v1/tasks/{task_id}/retry",
            "post /v1/tasks/{task_id}/stream",
            "post /v1/uploads",
            "post /v1/webhooks",
            "post /v1/webhooks/tasks",
            "post /v1/webhooks/{webhook_id}/rotate",
        ]
    );
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let statuses: Vec<&String> = operation["responses"].as_object().unwrap().keys().collect();
            let store = !path.ends_with("health") && path != "/v1/identity";
            assert_eq!(statuses.iter().any(|s| *s == "503"), store, "{method} {path}: {statuses:?}");
            // The address of an object is its own key.
            let signed = path.ends_with("objects") || path == "/v1/uploads";
            let keyed = store && !path.ends_with("ready") && !signed;
            assert_eq!(statuses.iter().any(|s| *s == "401"), keyed, "{method} {path}: {statuses:?}");
        }
    }
    let request = &document["components"]["schemas"]["CreateTaskRequest"];
    assert_eq!(request["additionalProperties"], Value::Bool(false), "{request}");
}

/// D-013: one default stood in four places.
#[test]
fn the_openapi_document_tells_the_bounds_that_are_enforced() {
    let document: Value = serde_json::from_str(&server::api::openapi()).unwrap();
    let fields = &document["components"]["schemas"]["CreateTaskRequest"]["properties"];
    for (field, bound, value) in [
        ("max_turns", "minimum", f64::from(limit::TURNS_MIN)),
        ("max_turns", "maximum", f64::from(limit::TURNS_MAX)),
        ("max_budget_usd", "minimum", limit::BUDGET_MIN_USD),
        ("max_budget_usd", "maximum", limit::BUDGET_MAX_USD),
        ("issue_number", "maximum", limit::ISSUE_NUMBER_MAX as f64),
        ("task_description", "maxLength", limit::DESCRIPTION_MAX_CHARS as f64),
        ("model", "maxLength", limit::NAME_MAX_CHARS as f64),
        ("base_branch", "maxLength", limit::NAME_MAX_CHARS as f64),
        ("build_command", "maxLength", limit::COMMAND_MAX_CHARS as f64),
        ("lint_command", "maxLength", limit::COMMAND_MAX_CHARS as f64),
    ] {
        assert_eq!(fields[field][bound].as_f64(), Some(value), "{field} {bound}");
    }
}
