//! The provider that plays a transcript file: the demo, tests and replays use it. No network, no key.
//!
//! Which turn is played follows from the request alone, so a repeated request gets the same turn and a restart forgets
//! nothing. The one exception is `error.times`: how often a task was given a turn's error is counted in memory.

pub mod transcript;

use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use domain::{Failure, FailureCode, TaskId, TokenCount};
use futures_util::StreamExt as _;
use http::StatusCode;
use serde_json::{Value, json};

use self::transcript::{AfterLast, Block, ErrorField, Transcript, Turn};
use super::Purpose;
use super::answer::Answer;
use super::frame::{Frame, Opened, frames_of, usage_json};
use super::meter::{Basis, tokens_of};
use super::upstream::{Request, Trouble};

/// Counts of errors given are forgotten beyond this many tasks and turns.
const ERRORS_REMEMBERED: usize = 10_000;

/// Plays the file, or the files of the folder, at `path`.
#[derive(Debug)]
pub(super) struct Script {
    path: PathBuf,
    cache: Mutex<HashMap<PathBuf, (Stamp, Arc<Transcript>)>>,
    given: Mutex<HashMap<(TaskId, u32), u32>>,
}

type Stamp = (Option<SystemTime>, u64);

impl Script {
    /// A file is read at once, so that a mistake in it is told when the server starts.
    pub fn new(path: PathBuf) -> Result<Self, Failure> {
        let script = Self { path, cache: Mutex::default(), given: Mutex::default() };
        if script.path.is_dir() {
            return Ok(script);
        }
        script.transcript("").map(|_| script)
    }

    /// The transcript of a model. Read again when the file has changed.
    pub fn transcript(&self, model: &str) -> Result<Arc<Transcript>, Failure> {
        let file = self.file(model)?;
        let stamp = |m: Metadata| (m.modified().ok(), m.len());
        let stamp = std::fs::metadata(&file).map(stamp).unwrap_or_default();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((seen, transcript)) = cache.get(&file).filter(|(seen, _)| *seen == stamp) {
            debug_assert_eq!(*seen, stamp);
            return Ok(Arc::clone(transcript));
        }
        let read = Transcript::read(&file)
            .map_err(|e| Failure::new(FailureCode::ModelNotConfigured, e.to_string()).resource(e.file))?;
        let transcript = Arc::new(read);
        cache.insert(file, (stamp, Arc::clone(&transcript)));
        Ok(transcript)
    }

    fn file(&self, model: &str) -> Result<PathBuf, Failure> {
        if !self.path.is_dir() {
            return Ok(self.path.clone());
        }
        let plain =
            !model.starts_with('.') && model.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        let file = self.path.join(format!("{model}.json"));
        if model.is_empty() || !plain || !file.is_file() {
            let detail = format!("no transcript {model}.json in {}", self.path.display());
            return Err(Failure::new(FailureCode::ModelUnknown, detail).resource(model));
        }
        Ok(file)
    }

    /// Answers one request.
    pub async fn open(&self, request: &Request<'_>) -> Result<Opened, Trouble> {
        let transcript =
            self.transcript(request.model).map_err(|f| Trouble::Refused(Answer::unresolved(&f)))?;
        let number = request.call.turn.unwrap_or_else(|| turns_so_far(&request.call.body) + 1).max(1);
        let turn = match request.call.purpose {
            Purpose::Compaction => compaction(&transcript),
            Purpose::Ask => said(&format!("I follow a transcript and am at turn {number} of it.")),
            Purpose::Main => turn(&transcript, number),
        };
        if let Some(error) = &turn.error
            && self.gives_error(request.call.task, number, error)
        {
            return Err(trouble(error));
        }
        tokio::time::sleep(Duration::from_millis(turn.delay_ms)).await;
        let (message, count) = message(&transcript, &turn, number, request);
        Ok(play(&turn, &message, count, request))
    }

    fn gives_error(&self, task: TaskId, number: u32, error: &ErrorField) -> bool {
        let Some(times) = error.times else { return true };
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if given.len() >= ERRORS_REMEMBERED {
            given.clear();
        }
        let count = given.entry((task, number)).or_default();
        *count += 1;
        *count <= times
    }
}

/// The models of a folder of transcripts, or the file's own name.
pub(super) fn models(path: &Path) -> Vec<String> {
    let stem = |p: &Path| p.file_stem().map(|s| s.to_string_lossy().into_owned());
    let Ok(entries) = std::fs::read_dir(path) else { return stem(path).into_iter().collect() };
    let files = entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "json"));
    let mut names: Vec<String> = files.filter_map(|p| stem(&p)).collect();
    names.sort();
    names
}

fn turns_so_far(body: &Value) -> u32 {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let turns = messages.iter().filter(|m| m["role"] == "assistant").count();
    u32::try_from(turns).unwrap_or(u32::MAX - 1)
}

fn turn(transcript: &Transcript, number: u32) -> Turn {
    let index = number as usize - 1;
    match (transcript.turns.get(index), transcript.after_last) {
        (Some(turn), _) => turn.clone(),
        (None, AfterLast::Repeat) => transcript.turns[index % transcript.turns.len()].clone(),
        (None, AfterLast::End) => said("The transcript has ended."),
    }
}

fn compaction(transcript: &Transcript) -> Turn {
    said(transcript.compaction.as_deref().unwrap_or("Summary: the work so far followed the transcript."))
}

fn said(text: &str) -> Turn {
    Turn {
        content: vec![Block::Text { text: text.to_owned() }],
        stop_reason: None,
        usage: None,
        delay_ms: 0,
        chunk: None,
        malformed_tool_json: None,
        error: None,
        cut_after: None,
        nudges: vec![],
    }
}

fn trouble(error: &ErrorField) -> Trouble {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let after = error.retry_after.map(Duration::from_secs);
    Trouble::of_status(status, after, &error.r#type, &error.message, "the script")
}

fn message(transcript: &Transcript, turn: &Turn, number: u32, request: &Request<'_>) -> (Value, TokenCount) {
    let last_call = turn.content.iter().rposition(|b| matches!(b, Block::ToolUse { .. }));
    let block = |(n, block): (usize, &Block)| match block {
        Block::Text { text } => json!({ "type": "text", "text": text }),
        Block::ToolUse { name, input } => {
            let malformed = turn.malformed_tool_json.as_ref().filter(|_| last_call == Some(n));
            let input = malformed.map_or_else(|| Value::Object(input.clone()), |text| text.clone().into());
            json!({ "type": "tool_use", "id": super::id(&format!("toolu_{number}_"), n), "name": name, "input": input })
        }
    };
    let content: Vec<Value> = turn.content.iter().enumerate().map(block).collect();
    let count = match turn.usage {
        Some(u) => TokenCount {
            input: u.input_tokens,
            output: u.output_tokens,
            cache_read: u.cache_read_input_tokens,
            cache_write: u.cache_creation_input_tokens,
        },
        None => TokenCount {
            input: tokens_of(request.bytes),
            output: tokens_of(Value::from(content.clone()).to_string().len()),
            ..TokenCount::default()
        },
    };
    let stop =
        turn.stop_reason.as_deref().unwrap_or(if last_call.is_some() { "tool_use" } else { "end_turn" });
    let message = json!({
        "id": super::id("msg_", number as usize),
        "type": "message",
        "role": "assistant",
        "model": transcript.model.as_deref().unwrap_or(request.model),
        "content": content,
        "stop_reason": stop,
        "stop_sequence": null,
        "usage": usage_json(count),
    });
    (message, count)
}

fn play(turn: &Turn, message: &Value, count: TokenCount, request: &Request<'_>) -> Opened {
    let cut = || io::Error::new(io::ErrorKind::ConnectionReset, "the transcript breaks the connection here");
    if !request.streaming() {
        return match turn.cut_after {
            Some(events) => {
                let frames = frames_of(message, turn.chunk);
                let bytes = frames.iter().take(events).map(|f| f.generated).sum();
                Opened::Torn { bytes, answer: Answer::bad_gateway(cut().to_string()) }
            }
            None => Opened::Message {
                body: Bytes::from(message.to_string()),
                counted: Some((count, Basis::Reported)),
            },
        };
    }
    let mut frames: Vec<Result<Frame, io::Error>> =
        frames_of(message, turn.chunk).into_iter().map(Ok).collect();
    if let Some(events) = turn.cut_after {
        frames.truncate(events);
        frames.push(Err(cut()));
    }
    Opened::Stream(futures_util::stream::iter(frames).boxed())
}
