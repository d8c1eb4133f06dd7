//! What this platform tells of its work as spans, without saying to whom or how: the crate `otlp` sends them.
//!
//! A task is one trace. Its id is the task's id, and the ids of its spans follow from what they stand for, so that every
//! process, before and after any restart, says the same without having to remember anything ([`id`]).
//!
//! | module | holds |
//! |---|---|
//! | [`span`] | a span as plain data |
//! | [`id`] | ids of traces and spans, and W3C `traceparent` |
//! | [`traces`] | the way out: sampling, and a queue with a bound |
//! | [`task`] | the spans of a task, from its record |
//! | [`gen_ai`] | the span of a model call |
//! | [`http`] | the span of a request to the API |
//!
//! Telemetry never fails and never waits: what does not fit the queue is dropped and counted.

pub mod gen_ai;
pub mod http;
pub mod id;
pub mod span;
pub mod task;
pub mod traces;

pub use id::{SpanId, TraceId, TraceParent};
pub use span::{Kind, Link, Moment, Span, Value};
pub use traces::{Content, Queue, Settings, Traces};
