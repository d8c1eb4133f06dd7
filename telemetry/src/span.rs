//! A span as plain data: what happened, from when to when, as part of what.

use jiff::Timestamp;

use crate::id::{SpanId, TraceId};

/// A span that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Its trace.
    pub trace: TraceId,
    /// Its id within the trace.
    pub id: SpanId,
    /// The span it is a part of; none for a root.
    pub parent: Option<SpanId>,
    /// What it is called.
    pub name: String,
    /// Which side of a call it is.
    pub kind: Kind,
    /// When it began.
    pub start: Timestamp,
    /// When it ended; not before it began.
    pub end: Timestamp,
    /// What else is known of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// What happened in it.
    pub moments: Vec<Moment>,
    /// Spans of other traces that it belongs with.
    pub links: Vec<Link>,
    /// The words of its failure, short and without anything of the work; also its attribute `error.type`.
    pub error: Option<String>,
}

/// Which side of a call a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Neither: work of this platform.
    Internal,
    /// Somebody was answered.
    Server,
    /// Somebody was asked.
    Client,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each is what its name says")]
pub enum Value {
    Text(String),
    Texts(Vec<String>),
    Int(i64),
    Float(f64),
    Bool(bool),
}

/// Something that happened within a span: an event, in the words of OpenTelemetry.
#[derive(Debug, Clone, PartialEq)]
pub struct Moment {
    /// What.
    pub name: String,
    /// When.
    pub at: Timestamp,
}

/// A span of another trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
}

impl Span {
    /// Adds an attribute.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        self.attributes.push((key, value.into()));
    }

    /// Adds an attribute that may not be known.
    pub fn set_some(&mut self, key: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }

    /// Says that it failed, and what kind of failure it is.
    pub fn fail(&mut self, kind: impl Into<String>) {
        let kind = kind.into();
        self.set("error.type", kind.clone());
        self.error = Some(kind);
    }

    /// About how many bytes it takes, for the bound of the queue.
    pub fn weight(&self) -> usize {
        let value = |value: &Value| match value {
            Value::Text(text) => text.len(),
            Value::Texts(texts) => texts.iter().map(|text| text.len() + 24).sum(),
            Value::Int(_) | Value::Float(_) | Value::Bool(_) => 0,
        };
        let attributes: usize = self.attributes.iter().map(|(_, v)| 48 + value(v)).sum();
        let moments: usize = self.moments.iter().map(|m| 48 + m.name.len()).sum();
        256 + self.name.len() + attributes + moments + self.links.len() * 32
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<Vec<String>> for Value {
    fn from(texts: Vec<String>) -> Value {
        Value::Texts(texts)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Value {
        Value::Int(number.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Value {
        Value::Int(number.into())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Value {
        Value::Float(number)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}
