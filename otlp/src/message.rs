//! From our spans to OTLP's messages.

use jiff::Timestamp;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as Message, Status};
use telemetry::{Kind, Span, Value};

use super::Settings;

/// The flag of a trace that is recorded.
const SAMPLED: u32 = 1;
/// The flag that says that the next one is known, and the one that says that a parent or a link is elsewhere.
const KNOWS_REMOTE: u32 = 1 << 8;
const REMOTE: u32 = 1 << 9;

/// One request with all of these.
pub fn request(settings: &Settings, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let resource = Resource {
        attributes: vec![
            pair("service.name", Value::from(settings.service_name.as_str())),
            pair("service.version", Value::from(settings.version)),
            pair("service.instance.id", Value::from(settings.instance.as_str())),
        ],
        ..Resource::default()
    };
    let scope = InstrumentationScope {
        name: "bgagent".into(),
        version: settings.version.into(),
        ..InstrumentationScope::default()
    };
    let scope_spans = ScopeSpans {
        scope: Some(scope),
        spans: spans.into_iter().map(message).collect(),
        schema_url: String::new(),
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![scope_spans],
            schema_url: String::new(),
        }],
    }
}

fn message(span: Span) -> Message {
    // A server's parent is in another process; every other one is ours.
    let remote = if span.kind == Kind::Server && span.parent.is_some() { REMOTE } else { 0 };
    Message {
        trace_id: span.trace.bytes().to_vec(),
        span_id: span.id.bytes().to_vec(),
        trace_state: String::new(),
        parent_span_id: span.parent.map(|id| id.bytes().to_vec()).unwrap_or_default(),
        flags: SAMPLED | KNOWS_REMOTE | remote,
        name: span.name,
        kind: match span.kind {
            Kind::Internal => SpanKind::Internal,
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
        }
        .into(),
        start_time_unix_nano: nanos(span.start),
        end_time_unix_nano: nanos(span.end),
        attributes: span.attributes.into_iter().map(|(key, value)| pair(key, value)).collect(),
        events: span
            .moments
            .into_iter()
            .map(|moment| Event { time_unix_nano: nanos(moment.at), name: moment.name, ..Event::default() })
            .collect(),
        links: span
            .links
            .into_iter()
            .map(|link| Link {
                trace_id: link.trace.bytes().to_vec(),
                span_id: link.span.bytes().to_vec(),
                flags: SAMPLED,
                ..Link::default()
            })
            .collect(),
        status: span.error.map(|message| Status { message, code: StatusCode::Error.into() }),
        ..Message::default()
    }
}

fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanosecond()).unwrap_or(0)
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(any(value)), ..KeyValue::default() }
}

fn any(value: Value) -> AnyValue {
    let value = match value {
        Value::Text(text) => Any::StringValue(text),
        Value::Int(number) => Any::IntValue(number),
        Value::Float(number) => Any::DoubleValue(number),
        Value::Bool(value) => Any::BoolValue(value),
        Value::Texts(texts) => Any::ArrayValue(ArrayValue {
            values: texts.into_iter().map(|text| any(Value::Text(text))).collect(),
        }),
    };
    AnyValue { value: Some(value) }
}
