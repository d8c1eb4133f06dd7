//! A request as metrics and spans tell it: by its route, never by its address.

use axum::extract::{MatchedPath, Request};
use axum::http::HeaderMap;
use axum::response::Response;
use domain::{RequestId, TaskId};
use jiff::Timestamp;
use telemetry::http;

use super::App;
use super::access::Object;

/// What has to be kept of a request until its answer begins.
pub(super) struct Observed {
    id: RequestId,
    method: &'static str,
    verb: String,
    route: Option<String>,
    traceparent: Option<String>,
    task: Option<TaskId>,
    start: Timestamp,
}

/// Requests that are asked all the time and say nothing.
const SILENT: [&str; 4] = ["/metrics", "/v1/health", "/v1/ready", "/v1/openapi.json"];

/// Routes whose answer is about a task that was made.
const MAKES_TASKS: [&str; 2] = ["/v1/tasks", "/v1/webhooks/tasks"];

impl Observed {
    /// Of a request that has come.
    pub fn begin(app: &App, id: RequestId, request: &Request) -> Observed {
        let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
        let about_task = route.as_deref().is_some_and(|route| route.starts_with("/v1/tasks/{task_id}"));
        let task = request.uri().path().split('/').nth(3).filter(|_| about_task);
        Observed {
            id,
            method: http::method(request.method().as_str()),
            verb: request.method().to_string(),
            route,
            traceparent: only(request.headers(), "traceparent"),
            task: task.and_then(|task| task.parse().ok()),
            start: app.orchestrator().now(),
        }
    }

    /// Its answer begins. A stream may go on long after.
    pub fn end(self, app: &App, response: &Response) {
        let end = app.orchestrator().now();
        let status = response.status().as_u16();
        let route = self.route.as_deref();
        if route.is_some_and(|route| SILENT.contains(&route)) {
            return;
        }
        let labels = [
            ("method", self.method.to_owned()),
            ("route", route.unwrap_or("none").to_owned()),
            ("status", status.to_string()),
        ];
        metrics::counter!("bgagent_http_requests_total", &labels).increment(1);
        let took = (end.as_microsecond() - self.start.as_microsecond()).max(0) as f64 / 1e6;
        metrics::histogram!("bgagent_http_request_seconds", "route" => route.unwrap_or("none").to_owned())
            .record(took);
        let makes_task = route.is_some_and(|route| MAKES_TASKS.contains(&route));
        let made = response.extensions().get::<Object>().filter(|_| makes_task);
        let made = made.and_then(|object| object.0.parse().ok());
        let told = http::Request {
            id: self.id,
            method: &self.verb,
            route,
            status,
            traceparent: self.traceparent.as_deref(),
            task: self.task.or(made),
            start: self.start,
            end,
        };
        if let Some(span) = http::span(app.traces(), &told) {
            app.traces().give(span);
        }
    }
}

/// A header that came once; one that came twice says nothing.
fn only(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let only = values.next().filter(|_| values.next().is_none())?;
    only.to_str().ok().map(str::to_owned)
}
