//! A whole trace, checked and put together again: every request has all its messages.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use crate::line::{Entry, Event, Header, Line, ModelRequest, ModelResponse, Outcome, SCHEMA, Work};
use crate::prefix::{chained, hash};

/// Bytes of a trace that are read, unpacked. A file that unpacks to more is none of ours.
const MAX_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// A trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Trajectory {
    /// What was asked.
    pub header: Header,
    /// The model calls, in the order they were made.
    pub calls: Vec<Call>,
    /// The events.
    pub events: Vec<Event>,
    /// What was made, when something was.
    pub work: Option<Work>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Whether lines are missing: the file was cut off, or had become too large.
    pub truncated: bool,
}

/// One model call. What calls have in common is shared.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Its name.
    pub call_id: String,
    /// The attempt that made it.
    pub attempt: u32,
    /// The turn, where it is known.
    pub turn: Option<u32>,
    /// `main` or `compaction`.
    pub purpose: String,
    /// The system prompt.
    pub system: Arc<Value>,
    /// The tools.
    pub tools: Arc<Value>,
    /// The other fields of the request.
    pub parameters: Value,
    /// The whole conversation.
    pub messages: Vec<Arc<Value>>,
    /// What came back.
    pub response: Option<ModelResponse>,
}

/// A text that is no trace, or one that was changed.
#[derive(Debug, thiserror::Error)]
pub enum BadTrace {
    /// It cannot be read or unpacked.
    #[error("the trace cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// A line is not what it should be.
    #[error("line {line} of the trace: {problem}")]
    Line {
        /// From 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// It has no lines.
    #[error("the trace is empty")]
    Empty,
}

impl Trajectory {
    /// Reads a trace, packed or not. Lines of a kind that this program does not know are passed over.
    pub fn read(input: impl Read) -> Result<Trajectory, BadTrace> {
        let mut input = BufReader::new(input);
        let packed = input.fill_buf()?.starts_with(&[0x1f, 0x8b]);
        let text: Box<dyn Read + '_> =
            if packed { Box::new(MultiGzDecoder::new(input)) } else { Box::new(input) };
        let mut reader = Reader::default();
        for line in BufReader::new(text.take(MAX_BYTES)).lines() {
            match line {
                Ok(line) => reader.line(&line)?,
                // A file that was cut off is good up to there.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && reader.number > 0 => break,
                Err(error) => return Err(error.into()),
            }
        }
        reader.finish()
    }
}

#[derive(Default)]
struct Reader {
    number: u64,
    header: Option<Header>,
    calls: Vec<Call>,
    places: HashMap<String, usize>,
    values: HashMap<String, Arc<Value>>,
    events: Vec<Event>,
    work: Option<Work>,
    outcome: Option<Outcome>,
    truncated: Option<bool>,
}

impl Reader {
    fn line(&mut self, text: &str) -> Result<(), BadTrace> {
        self.number += 1;
        let line = self.number;
        self.take(text).map_err(|problem| BadTrace::Line { line, problem })
    }

    fn take(&mut self, text: &str) -> Result<(), String> {
        let value: Value = serde_json::from_str(text).map_err(|e| format!("it is not JSON: {e}"))?;
        let known = ["header", "model_request", "model_response", "event", "work", "outcome", "end"];
        let kind = value["type"].as_str().ok_or("it has no type")?;
        if self.number == 1 && kind != "header" {
            return Err(format!("the first line must be a header, not {kind}"));
        }
        if !known.contains(&kind) {
            return Ok(());
        }
        let entry: Entry = serde_json::from_value(value).map_err(|e| e.to_string())?;
        match entry.line {
            Line::Header(header) => {
                if header.schema != SCHEMA {
                    return Err(format!(
                        "this program reads schema {SCHEMA}, the trace has {}",
                        header.schema
                    ));
                }
                self.header = Some(*header);
            }
            Line::ModelRequest(request) => self.request(*request)?,
            Line::ModelResponse(response) => {
                let place = self.places.get(&response.call_id);
                let place = place.ok_or_else(|| format!("there is no request {}", response.call_id))?;
                self.calls[*place].response = Some(*response);
            }
            Line::Event(event) => self.events.push(*event),
            Line::Work(work) => self.work = Some(*work),
            Line::Outcome(outcome) => self.outcome = Some(*outcome),
            Line::End(end) => self.truncated = Some(end.truncated),
        }
        Ok(())
    }

    fn request(&mut self, request: ModelRequest) -> Result<(), String> {
        let mut messages = match &request.continues {
            None => Vec::new(),
            Some(continues) => {
                let place = self.places.get(&continues.call_id);
                let place = place.ok_or_else(|| format!("there is no request {}", continues.call_id))?;
                let before = self.calls[*place].messages.get(..continues.messages);
                let before = before
                    .ok_or_else(|| format!("{} has no {} messages", continues.call_id, continues.messages))?;
                if chained(before.iter().map(Arc::as_ref)) != continues.sha256 {
                    return Err(format!(
                        "the messages of {} are not those that were sent",
                        continues.call_id
                    ));
                }
                before.to_vec()
            }
        };
        messages.extend(request.messages.into_iter().map(Arc::new));
        let system = self.value("system", request.system, &request.system_sha256)?;
        let tools = self.value("tools", request.tools, &request.tools_sha256)?;
        self.places.insert(request.call_id.clone(), self.calls.len());
        self.calls.push(Call {
            call_id: request.call_id,
            attempt: request.attempt,
            turn: request.turn,
            purpose: request.purpose,
            system,
            tools,
            parameters: request.parameters,
            messages,
            response: None,
        });
        Ok(())
    }

    fn value(&mut self, what: &str, given: Option<Value>, sha256: &str) -> Result<Arc<Value>, String> {
        if let Some(value) = given {
            if hash(&value) != sha256 {
                return Err(format!("{what} is not what was sent: it does not have the hash {sha256}"));
            }
            self.values.insert(sha256.to_owned(), Arc::new(value));
        } else if sha256 == hash(&Value::Null) {
            return Ok(Arc::new(Value::Null));
        }
        self.values.get(sha256).cloned().ok_or_else(|| format!("{what} {sha256} was not sent before"))
    }

    fn finish(self) -> Result<Trajectory, BadTrace> {
        Ok(Trajectory {
            header: self.header.ok_or(BadTrace::Empty)?,
            calls: self.calls,
            events: self.events,
            work: self.work,
            outcome: self.outcome,
            truncated: self.truncated.unwrap_or(true),
        })
    }
}
