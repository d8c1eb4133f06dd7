//! Health, readiness, metrics and the API's description. Open to anyone who can reach the port: they hold nothing of a
//! task.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::Status;
use protocol::rest::{Data, Health};

use super::App;

/// The server runs.
#[utoipa::path(get, path = "/v1/health", responses((status = 200, body = Data<Health>)))]
pub async fn health(State(_app): State<App>) -> Json<Data<Health>> {
    Json(Data {
        data: Health {
            status: "ok".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            checks: BTreeMap::new(),
        },
    })
}

/// The server can do its work: its database answers and can be written.
#[utoipa::path(get, path = "/v1/ready", responses((status = 200, body = Data<Health>), (status = 503, body = Data<Health>)))]
pub async fn ready(State(app): State<App>) -> Response {
    let checked = app.orchestrator().store().check().await;
    let (code, status, words) = match checked {
        Ok(()) => (StatusCode::OK, "ok", "ok".to_owned()),
        Err(failure) => (StatusCode::SERVICE_UNAVAILABLE, "degraded", failure.to_string()),
    };
    let checks = BTreeMap::from([("store".to_owned(), words)]);
    let health = Health { status: status.into(), version: env!("CARGO_PKG_VERSION").into(), checks };
    (code, Json(Data { data: health })).into_response()
}

/// Prometheus text.
pub async fn metrics(State(app): State<App>) -> Response {
    let store = app.orchestrator().store();
    if let Ok(counts) = store.task_counts(None).await {
        for status in Status::ALL {
            let n = counts.iter().find(|(s, _)| *s == status).map_or(0, |(_, n)| *n);
            metrics::gauge!("bgagent_tasks", "status" => status.as_str()).set(n as f64);
        }
    }
    if let Ok(open) = store.obligation_list().await {
        metrics::gauge!("bgagent_obligations_open").set(open.len() as f64);
    }
    metrics::gauge!("bgagent_watched_tasks").set(app.feeds().len() as f64);
    metrics::counter!("bgagent_event_reads_total").absolute(store.event_reads());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.metrics().render())
        .into_response()
}

/// The description of `/v1`.
pub async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], super::openapi()).into_response()
}
