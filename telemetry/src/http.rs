//! The span of a request to the API, by the HTTP conventions. It belongs to its caller's trace when the caller says which
//! (`traceparent`), else to one of its own whose id is the request's id.

use domain::{RequestId, TaskId};
use jiff::Timestamp;

use crate::id::{SpanId, TraceId, TraceParent};
use crate::span::{Kind, Link, Span};
use crate::traces::Traces;

/// A request that was answered.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Its id, as in the answer's `x-request-id`.
    pub id: RequestId,
    /// Its method.
    pub method: &'a str,
    /// The route as it is declared, `/v1/tasks/{task_id}`; none for an address that is no route.
    pub route: Option<&'a str>,
    /// The status of its answer.
    pub status: u16,
    /// The header `traceparent`.
    pub traceparent: Option<&'a str>,
    /// The task it was about.
    pub task: Option<TaskId>,
    /// When it came.
    pub start: Timestamp,
    /// When its answer began.
    pub end: Timestamp,
}

/// The methods that are told by name; everything else is `_OTHER`.
const METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// The name of a method, one of a few.
pub fn method(given: &str) -> &'static str {
    METHODS.into_iter().find(|known| *known == given).unwrap_or("_OTHER")
}

/// The span, unless it is not wanted: a caller who does not record its own trace decides that for us too.
pub fn span(traces: &Traces, request: &Request<'_>) -> Option<Span> {
    let parent = request.traceparent.and_then(TraceParent::parse);
    let trace = parent.map_or_else(|| TraceId::of_request(request.id), |parent| parent.trace);
    let wanted = match parent {
        Some(parent) => parent.sampled && traces.on(),
        None => traces.wants(trace),
    };
    if !wanted {
        return None;
    }
    let method = method(request.method);
    let shown = if method == "_OTHER" { "HTTP" } else { method };
    let mut span = Span {
        trace,
        id: SpanId::of_request(request.id),
        parent: parent.map(|parent| parent.span),
        name: request.route.map_or_else(|| shown.to_owned(), |route| format!("{shown} {route}")),
        kind: Kind::Server,
        start: request.start,
        end: request.end.max(request.start),
        attributes: Vec::new(),
        moments: Vec::new(),
        links: Vec::new(),
        error: None,
    };
    span.set("http.request.method", method);
    span.set("url.scheme", "http");
    span.set_some("http.route", request.route);
    span.set("http.response.status_code", request.status);
    span.set("bgagent.request.id", request.id.to_string());
    if let Some(task) = request.task {
        span.set("bgagent.task.id", task.to_string());
        if let Some(trace) = traces.trace_of(task) {
            span.links.push(Link { trace, span: SpanId::root(task) });
        }
    }
    if request.status >= 500 {
        span.fail(request.status.to_string());
    }
    Some(span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traces::{Content, Settings};

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn request() -> Request<'static> {
        Request {
            id: RequestId::from_bits(9),
            method: "GET",
            route: Some("/v1/tasks/{task_id}"),
            status: 200,
            traceparent: None,
            task: None,
            start: Timestamp::UNIX_EPOCH,
            end: Timestamp::UNIX_EPOCH,
        }
    }

    fn traces(sample_ratio: f64) -> Traces {
        Traces::new(Settings { sample_ratio, content: Content::Withheld }).0
    }

    #[test]
    fn the_caller_decides_where_it_belongs_and_whether_it_is_told() {
        let (all, none, off) = (traces(1.0), traces(0.0), Traces::default());
        let own = span(&all, &request()).unwrap();
        assert_eq!((own.trace, own.parent), (TraceId::of_request(RequestId::from_bits(9)), None));
        assert_eq!(own.name, "GET /v1/tasks/{task_id}");
        assert_eq!(span(&none, &request()), None);

        let with = Request { traceparent: Some(PARENT), ..request() };
        for traces in [&all, &none] {
            let told = span(traces, &with).unwrap();
            assert_eq!(told.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
            assert_eq!(told.parent.unwrap().to_string(), "b7ad6b7169203331");
        }
        assert_eq!(span(&off, &with), None);
        let unrecorded = PARENT.replace("-01", "-00");
        assert_eq!(span(&all, &Request { traceparent: Some(&unrecorded), ..request() }), None);
        let damaged = span(&all, &Request { traceparent: Some("nonsense"), ..request() }).unwrap();
        assert_eq!(damaged.trace, own.trace);
    }

    #[test]
    fn a_name_is_one_of_a_few_and_a_server_error_is_an_error() {
        let odd = Request { method: "SECRET-VERB", route: None, status: 503, ..request() };
        let told = span(&traces(1.0), &odd).unwrap();
        assert_eq!((told.name.as_str(), told.error.as_deref()), ("HTTP", Some("503")));
        assert!(told.attributes.contains(&("http.request.method", "_OTHER".into())));
        let refused = span(&traces(1.0), &Request { status: 404, ..request() }).unwrap();
        assert_eq!(refused.error, None, "a client's error is none of the server");
    }

    #[test]
    fn what_is_about_a_task_leads_to_it() {
        let task = TaskId::from_bits(77);
        let told = span(&traces(1.0), &Request { task: Some(task), ..request() }).unwrap();
        assert_eq!(told.links, [Link { trace: TraceId::of_task(task), span: SpanId::root(task) }]);
    }
}
