//! A collector of spans whose messages nobody here wrote, as a process.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::peers;

/// How a collector behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    Take,
    /// It answers 500.
    Refuse,
    /// It answers 503: later.
    Busy,
    /// It takes the request and answers nothing.
    Hang,
}

/// A running collector; it ends with this.
#[derive(Debug)]
pub struct Collector {
    /// Its base address, as `telemetry.endpoint`.
    pub url: String,
    spans: Arc<Mutex<Vec<Received>>>,
    _process: Child,
}

/// A span as it was received.
#[derive(Debug, Clone, Deserialize)]
pub struct Received {
    /// Of its trace: 32 hexadecimal digits.
    pub trace_id: String,
    /// Its own: 16 of them.
    pub span_id: String,
    /// Its parent's; empty for a root.
    pub parent_span_id: String,
    /// What it is called.
    pub name: String,
    /// Everything, as protobuf's JSON has it.
    #[serde(flatten)]
    pub rest: Value,
}

#[derive(Deserialize)]
struct Started {
    port: u16,
}

impl Collector {
    /// Starts one; `None` where the peer is not installed.
    pub async fn start(mood: Mood) -> anyhow::Result<Option<Collector>> {
        let Some(python) = peers::program("otlp", "python") else { return Ok(None) };
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers/otlp-receiver.py");
        let mood = match mood {
            Mood::Take => "take",
            Mood::Refuse => "refuse",
            Mood::Busy => "busy",
            Mood::Hang => "hang",
        };
        let mut process = Command::new(python)
            .arg(script)
            .arg(mood)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting the collector")?;
        let out = process.stdout.take().context("the collector has no output")?;
        let mut lines = BufReader::new(out).lines();
        let line = lines.next_line().await?.context("the collector ended before it listened")?;
        let Started { port } = serde_json::from_str(&line)?;
        let spans = Arc::<Mutex<Vec<Received>>>::default();
        let kept = spans.clone();
        #[expect(clippy::disallowed_methods, reason = "ends with the collector's output")]
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Ok(span) = serde_json::from_str(&line) {
                    kept.lock().unwrap_or_else(PoisonError::into_inner).push(span);
                }
            }
        });
        Ok(Some(Collector { url: format!("http://127.0.0.1:{port}"), spans, _process: process }))
    }

    /// What it has so far.
    pub fn spans(&self) -> Vec<Received> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Received {
    /// The value of an attribute: a text, a number, a truth, or a list of texts. Null when it has none of that name.
    pub fn attribute(&self, key: &str) -> Value {
        let all = self.rest["attributes"].as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().find(|pair| pair["key"] == key).map_or(Value::Null, |pair| plain(&pair["value"]))
    }

    /// Nanoseconds since the epoch: its start and its end.
    pub fn times(&self) -> (u64, u64) {
        let time = |key: &str| self.rest[key].as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
        (time("startTimeUnixNano"), time("endTimeUnixNano"))
    }
}

fn plain(value: &Value) -> Value {
    match value.as_object().and_then(|fields| fields.iter().next()) {
        // Protobuf's JSON writes 64-bit numbers as texts.
        Some((kind, Value::String(text))) if kind == "intValue" => {
            text.parse::<i64>().map_or(Value::Null, Value::from)
        }
        Some((kind, list)) if kind == "arrayValue" => {
            list["values"].as_array().into_iter().flatten().map(plain).collect()
        }
        Some((_, value)) => value.clone(),
        None => Value::Null,
    }
}
